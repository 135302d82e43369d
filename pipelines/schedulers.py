"""The samplers and schedules by the names users know, as a table of diffusers classes.

A scheduler is stateful, so every run builds a fresh one from the model's own untouched configuration.
Nothing is imported from diffusers before `build` is called: the page reads these tables too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from pipelines.request import GenerationRequest, InvalidRequest

Kind = Literal["diffusion", "flow", "own"]
"""How a model was trained: by noise prediction on a beta schedule, by flow matching, or in a way that only
its own scheduler knows."""


def _frozen(**values: Any) -> Mapping[str, Any]:
    return MappingProxyType(values)


SCHEDULES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "Automatic": _frozen(),
        "Uniform": _frozen(timestep_spacing="linspace"),
        "Karras": _frozen(use_karras_sigmas=True),
        "Exponential": _frozen(use_exponential_sigmas=True),
        "SGM Uniform": _frozen(timestep_spacing="trailing"),
        "Beta": _frozen(use_beta_sigmas=True),
        "Simple": _frozen(timestep_spacing="trailing"),
    }
)
"""Schedule -> what it sets on a scheduler, after diffusers' own table (docs: api/schedulers/overview)."""

_BY_TIMESTEP = ("Automatic", "Uniform", "SGM Uniform", "Simple")
_BY_SIGMA = ("Automatic", "Karras", "Exponential", "Beta")
_ALL = tuple(SCHEDULES)
_ONLY_OWN = ("Automatic",)


@dataclass(frozen=True)
class Sampler:
    """One row: a name, the diffusers class behind it for each kind of model, and the schedules it takes.

    automatic: the schedule that "Automatic" stands for (the webui's choice); None for the sampler's own.
    seeded: the class draws noise by itself and wants the run's seed in its configuration.
    most_steps: where the class has a limit (the consistency samplers skip over 50 trained steps). eta: how
    much noise a step adds anew can be chosen.
    """

    name: str
    diffusion: str
    overrides: Mapping[str, Any] = field(default_factory=_frozen)
    schedules: tuple[str, ...] = _ALL
    automatic: str | None = None
    flow: str | None = None
    flow_overrides: Mapping[str, Any] = field(default_factory=_frozen)
    seeded: bool = False
    most_steps: int | None = None
    eta: bool = False

    def class_name(self, kind: Kind) -> str | None:
        """Name of the diffusers class for that kind of model; None where diffusers has none."""
        return {"diffusion": self.diffusion, "flow": self.flow, "own": None}[kind]


_FLOW_SIGMAS = _frozen(use_flow_sigmas=True, prediction_type="flow_prediction")

_ROWS = (
    Sampler("Euler", "EulerDiscreteScheduler", flow="FlowMatchEulerDiscreteScheduler"),
    Sampler("Euler a", "EulerAncestralDiscreteScheduler", schedules=_BY_TIMESTEP),
    Sampler("Heun", "HeunDiscreteScheduler", flow="FlowMatchHeunDiscreteScheduler"),
    Sampler("LMS", "LMSDiscreteScheduler"),
    Sampler("DPM2", "KDPM2DiscreteScheduler", automatic="Karras"),
    Sampler("DPM2 a", "KDPM2AncestralDiscreteScheduler", automatic="Karras"),
    Sampler(
        "DPM++ 2M",
        "DPMSolverMultistepScheduler",
        _frozen(algorithm_type="dpmsolver++", solver_order=2),
        automatic="Karras",
        flow="DPMSolverMultistepScheduler",
        flow_overrides=_FLOW_SIGMAS,
    ),
    Sampler(
        "DPM++ 2M SDE",
        "DPMSolverMultistepScheduler",
        _frozen(algorithm_type="sde-dpmsolver++", solver_order=2),
        automatic="Exponential",
    ),
    Sampler(
        "DPM++ 2S",
        "DPMSolverSinglestepScheduler",
        _frozen(algorithm_type="dpmsolver++", solver_order=2),
        schedules=_BY_SIGMA,
        automatic="Karras",
    ),
    Sampler("DPM++ SDE", "DPMSolverSDEScheduler", automatic="Karras", seeded=True),
    Sampler(
        "DPM++ 3M SDE",
        "DPMSolverMultistepScheduler",
        _frozen(algorithm_type="sde-dpmsolver++", solver_order=3),
        automatic="Exponential",
    ),
    Sampler("UniPC", "UniPCMultistepScheduler", flow="UniPCMultistepScheduler", flow_overrides=_FLOW_SIGMAS),
    Sampler("DDIM", "DDIMScheduler", schedules=_BY_TIMESTEP, eta=True),
    Sampler("DDPM", "DDPMScheduler", schedules=_BY_TIMESTEP),
    Sampler("PLMS", "PNDMScheduler", _frozen(skip_prk_steps=True), schedules=_BY_TIMESTEP),
    Sampler("DEIS", "DEISMultistepScheduler"),
    Sampler("LCM", "LCMScheduler", schedules=_ONLY_OWN, most_steps=50),
    Sampler("TCD", "TCDScheduler", schedules=_ONLY_OWN, most_steps=50, eta=True),
)

SAMPLERS: Mapping[str, Sampler] = MappingProxyType({row.name: row for row in _ROWS})
"""Every sampler of CONVENTIONS that diffusers has. (It has "DPM++ 2S" but not the ancestral "2S a".)"""


OWN = "Model's own"
"""The scheduler that a model names itself, with its own settings: it fits every model."""
_OWN = Sampler(OWN, "", schedules=_ONLY_OWN)


def names(kind: Kind | None = None) -> tuple[str, ...]:
    """Every sampler that can be asked for, the model's own last; with `kind` those for such models."""
    return (*(name for name, row in SAMPLERS.items() if kind is None or row.class_name(kind)), OWN)


def takes_eta(sampler: str, own: str = "") -> bool:
    """Whether a sampler takes eta. own: diffusers' class that "Model's own" stands for."""
    return any(
        row.eta and (row.name == sampler or (sampler == OWN and row.diffusion == own)) for row in _ROWS
    )


def check(sampler: str, schedule: str, kind: Kind = "diffusion") -> Sampler:
    """The row of `sampler`; raises `InvalidRequest` with a sentence when it or the schedule does not fit."""
    row = _OWN if sampler == OWN else SAMPLERS.get(sampler)
    if row is None:
        near = ' Nearest to it is "DPM++ 2S".' if sampler == "DPM++ 2S a" else ""
        there = ", ".join(names())
        raise InvalidRequest(
            {"scheduler": f"There is no sampler called {sampler[:60]!r}.{near} Choose one of {there}."}
        )
    if schedule not in SCHEDULES:
        there = ", ".join(SCHEDULES)
        raise InvalidRequest(
            {"schedule": f"There is no schedule called {schedule[:60]!r}. Choose one of {there}."}
        )
    if row is not _OWN and row.class_name(kind) is None:
        raise InvalidRequest(
            {
                "scheduler": f"{sampler} does not work with this model, which {_TRAINED[kind]}. "
                f"Choose one of {', '.join(names(kind))}."
            }
        )
    takes = row.schedules if kind == "diffusion" else _ONLY_OWN
    if schedule not in takes:
        there = ", ".join(takes)
        raise InvalidRequest({"schedule": f"{sampler} cannot use the {schedule} schedule. It takes {there}."})
    return row


_TRAINED: Mapping[Kind, str] = {
    "diffusion": "was trained to predict noise",
    "flow": "was trained by flow matching",
    "own": "only its own scheduler can lead",
}


def settings(sampler: str, schedule: str, kind: Kind = "diffusion") -> dict[str, Any]:
    """What is set on the scheduler class for this pair, over the model's own configuration."""
    row = check(sampler, schedule, kind)
    if row is _OWN:
        return {}
    if kind == "flow":
        return dict(row.flow_overrides)
    spacing = SCHEDULES[row.automatic if schedule == "Automatic" and row.automatic else schedule]
    return {**row.overrides, **spacing}


def build(sampler: str, schedule: str, config: Mapping[str, Any], *, kind: Kind, seed: int) -> Any:
    """A fresh diffusers scheduler. config: the model's own, as loaded, with its class as `_class_name`.
    Raises `InvalidRequest` as `check`."""
    import diffusers

    row = check(sampler, schedule, kind)
    overrides = settings(sampler, schedule, kind)
    if row.seeded:
        overrides["noise_sampler_seed"] = seed
    if kind == "flow" and "shift" in config and row.flow_overrides:
        overrides["flow_shift"] = config["shift"]  # the multistep classes have another word for it
    name = config["_class_name"] if row is _OWN else row.class_name(kind)
    return getattr(diffusers, str(name)).from_config(dict(config), **overrides)


def starts_from_pictures(sampler: str) -> bool:
    """Whether a flow model's sampler can begin with a noised picture: diffusers asks for `scale_noise`, which
    only its flow matching classes have."""
    return sampler != OWN and str(SAMPLERS[sampler].flow).startswith("FlowMatch")


def check_request(request: GenerationRequest, kind: Kind) -> None:
    """Raises `InvalidRequest` where the request's sampler, schedule and steps do not go together."""
    row = check(request.scheduler, request.schedule, kind)
    if row.most_steps is not None and request.num_inference_steps > row.most_steps:
        raise InvalidRequest(
            {
                "num_inference_steps": f"{row.name} takes at most {row.most_steps} steps; "
                f"{request.num_inference_steps} were asked for. It is made for 2 to 8."
            }
        )
