"""Whether a request and its model go together; asked in the page before a job is accepted, and by the engine.

Looks at small files only. Whatever a run can be refused for without loading a model is refused here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines import families, schedulers
from pipelines.controlnet import control
from pipelines.lora import adapters
from pipelines.request import SMALLEST, GenerationRequest, InvalidRequest

if TYPE_CHECKING:
    from pipelines.controlnet.control import ControlLibrary
    from pipelines.library.models import ModelSpec
    from pipelines.request import Task

_TABS = {"text2image": "Text", "image2image": "Image", "inpaint": "Inpaint"}
_WANTS = {
    "text2image": "words alone",
    "image2image": "a picture to begin with",
    "inpaint": "a picture and a mask",
}


def check(request: GenerationRequest, model: ModelSpec, controls: ControlLibrary) -> None:
    """Raises `InvalidRequest` where prompt, task, sampler, size, control units and model do not go
    together."""
    taken = families.fields_of(model)
    if problems := wordless(request.prompt, model):
        raise InvalidRequest(problems)
    _check_task(request, model)
    schedulers.check_request(request, model.kind)
    _check_sampler(request, model)
    _check_eta(request, model)
    if "width" in taken:
        _check_size(request, model)
    if request.image is not None:
        _check_picture_run(request, model)
    control.check(request, model, controls)
    adapters.check(request, model, controls.models)


def wordless(prompt: str, model: ModelSpec) -> dict[str, str]:
    """The problem of a prompt without words, for a model that wants some; empty where there is none."""
    if prompt.strip() or "prompt" not in families.fields_of(model):
        return {}
    return {"prompt": "Prompt is empty: write what the picture shows."}


def samplers_of(model: ModelSpec, task: Task = "text2image") -> tuple[str, ...]:
    """The samplers that can lead a model's runs of a task, in the order of the table."""
    row = families.PIPELINES[model.pipeline]
    offered = list(schedulers.names(model.kind))
    if row.samplers:
        offered = [name for name in offered if name in (*row.samplers, schedulers.OWN)]
    if model.kind == "flow" and _shifts(model):
        offered = [name for name in offered if _flow_class(name) != "FlowMatchHeunDiscreteScheduler"]
    if model.kind == "flow" and task not in ("text2image", *row.whole):
        offered = [
            name for name in offered if name == schedulers.OWN or schedulers.starts_from_pictures(name)
        ]
    return tuple(offered)


def samplers_with_eta(model: ModelSpec, task: Task = "text2image") -> tuple[str, ...]:
    """Those of `samplers_of` that take eta."""
    own = str(model.config("scheduler").get("_class_name", ""))
    return tuple(name for name in samplers_of(model, task) if schedulers.takes_eta(name, own))


def _starts_from_pictures(sampler: str, model: ModelSpec) -> bool:
    if sampler == schedulers.OWN:
        return str(model.config("scheduler").get("_class_name", "FlowMatch")).startswith("FlowMatch")
    return schedulers.starts_from_pictures(sampler)


def _flow_class(sampler: str) -> str | None:
    return None if sampler == schedulers.OWN else schedulers.SAMPLERS[sampler].flow


def _shifts(model: ModelSpec) -> bool:
    """Whether the pipeline hands its scheduler a shift or levels of its own: Heun's class takes none."""
    own = bool(model.config("scheduler").get("use_dynamic_shifting"))
    return own or families.FAMILIES[model.family].hands_levels


def _check_task(request: GenerationRequest, model: ModelSpec) -> None:
    tasks = families.tasks_of(model)
    if request.task in tasks:
        return
    ways = [f"{_WANTS[task]} (the {_TABS[task]} tab)" for task in _TABS if task in tasks]
    raise InvalidRequest(
        {
            "model": f"{model.title} does not run from {_WANTS[request.task]}: it wants "
            f"{' or '.join(ways)}. Use it there, or choose another model."
        }
    )


def _check_sampler(request: GenerationRequest, model: ModelSpec) -> None:
    """diffusers' samplers for flow matching do not all begin with a picture, nor take a schedule that the
    model shifts by the picture's size; some pipelines want a sampler of a certain sort."""
    usable = samplers_of(model, request.task)
    if request.scheduler in usable:
        return
    why = f"cannot lead {model.title}."
    if model.kind == "flow":
        why = (
            f"cannot begin with a picture on {model.title}, which was trained by flow matching."
            if request.scheduler in samplers_of(model)
            else f"cannot follow the schedule of {model.title}: diffusers' {request.scheduler} for flow "
            "matching takes none."
        )
    raise InvalidRequest({"scheduler": f"{request.scheduler} {why} Choose one of {', '.join(usable)}."})


def _check_eta(request: GenerationRequest, model: ModelSpec) -> None:
    takers = samplers_with_eta(model, request.task)
    if request.eta and "eta" in families.fields_of(model) and request.scheduler not in takers:
        raise InvalidRequest(
            {
                "eta": f"{request.scheduler} takes no eta, it adds noise as it always does. Set eta to 0, or "
                f"choose {' or '.join(takers) or 'another model'}."
            }
        )


def _check_size(request: GenerationRequest, model: ModelSpec) -> None:
    step = families.FAMILIES[model.family].multiple
    problems = {}
    for name in ("width", "height"):
        value: int = getattr(request, name)
        if value < SMALLEST:
            problems[name] = (
                f"{name.title()} must be {SMALLEST} or more for {model.family} models; {value} was given."
            )
        elif value % step:
            below = max(step, value // step * step)
            near = f"{below} or {below + step}" if below < value else f"{below}"
            problems[name] = (
                f"{name.title()} must be a multiple of {step} for {model.family} models; {value} was given, "
                f"{near} would do."
            )
    if problems:
        raise InvalidRequest(problems)


def _check_picture_run(request: GenerationRequest, model: ModelSpec) -> None:
    if request.subseed_strength > 0:
        raise InvalidRequest(
            {
                "subseed_strength": "Variation strength works from text alone: diffusers draws the noise of "
                "a run that begins with a picture. Set it to 0; another seed varies the result."
            }
        )
    latent = request.masked_content in ("latent noise", "latent nothing")
    if request.task == "inpaint" and latent and "soft_inpainting" not in families.fields_of(model):
        raise InvalidRequest(
            {
                "masked_content": f"{model.title} cannot begin with {request.masked_content}: diffusers' "
                f"pipeline for {model.family} takes pixels. Choose original or fill."
            }
        )
