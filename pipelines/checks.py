"""Whether a request and its model go together; asked in the page before a job is accepted, and by the engine.

Looks at small files only. Whatever a run can be refused for without loading a model is refused here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines import control, schedulers
from pipelines.request import GenerationRequest, InvalidRequest

if TYPE_CHECKING:
    from pipelines.control import ControlLibrary
    from pipelines.models import ModelSpec


def check(request: GenerationRequest, model: ModelSpec, controls: ControlLibrary) -> None:
    """Raises `InvalidRequest` where sampler, task, control units and model do not go together."""
    schedulers.check_request(request, model.kind)
    if model.inpaints_only and request.task != "inpaint":
        raise InvalidRequest(
            {
                "model": f"{model.title} is made for inpainting only: it wants a picture and a mask. "
                "Use it in the Inpaint tab, or choose another model."
            }
        )
    if model.kind == "flow":
        _check_flow_sampler(request, model)
    if request.image is not None:
        _check_picture_run(request)
    control.check(request, model, controls)


def _check_flow_sampler(request: GenerationRequest, model: ModelSpec) -> None:
    """diffusers' samplers for flow matching do not all begin with a picture, nor take a schedule that the
    model shifts by the picture's size."""
    own = [name for name, row in schedulers.SAMPLERS.items() if row.flow]
    if model.family == "Flux" or _shifts_by_size(model):
        own = [name for name in own if schedulers.SAMPLERS[name].flow != "FlowMatchHeunDiscreteScheduler"]
    usable = [name for name in own if request.image is None or schedulers.starts_from_pictures(name)]
    if request.scheduler in usable:
        return
    why = (
        f"cannot begin with a picture on {model.title}, which was trained by flow matching."
        if request.scheduler in own
        else f"cannot follow the schedule of {model.title}: diffusers' {request.scheduler} for flow matching "
        "takes none."
    )
    raise InvalidRequest({"scheduler": f"{request.scheduler} {why} Choose one of {', '.join(usable)}."})


def _shifts_by_size(model: ModelSpec) -> bool:
    return bool(model.config("scheduler").get("use_dynamic_shifting"))


def _check_picture_run(request: GenerationRequest) -> None:
    if request.subseed_strength > 0:
        raise InvalidRequest(
            {
                "subseed_strength": "Variation strength works from text alone: diffusers draws the noise of "
                "a run that begins with a picture. Set it to 0; another seed varies the result."
            }
        )
