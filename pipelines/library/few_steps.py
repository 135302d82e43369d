"""Models and LoRAs made for few steps, and the settings that suit them: told by their metadata or their name.

Sources of the settings: the model cards of stabilityai/sd-turbo and sdxl-turbo, latent-consistency's LoRAs,
ByteDance/SDXL-Lightning and Hyper-SD, tianweiy/DMD2, h1t/TCD-*, black-forest-labs/FLUX.1-schnell,
FLUX.2-klein, stable-diffusion-3.5-large-turbo, Z-Image-Turbo, Sana Sprint and Qwen-Image-Lightning.
diffusers' guidance of 0 is 1 here: off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipelines.schedulers import OWN

if TYPE_CHECKING:
    from pipelines.library.addons import AddonSpec
    from pipelines.library.models import ModelSpec

FIELDS = ("scheduler", "schedule", "num_inference_steps", "guidance_scale")
"""The request fields that are set by choosing a model or LoRA for few steps."""


@dataclass(frozen=True)
class FewSteps:
    """One way of distilling: how its files are called, and what suits them.

    pattern: found in the name, lower case, with "-" for all that is no letter or digit. families: those it is
    made for; none is any. told: whether the name tells the number of steps ("4step"), which then counts.
    """

    name: str
    pattern: str
    settings: Mapping[str, Any]
    families: frozenset[str] = frozenset()
    told: bool = False


def _suits(scheduler: str, schedule: str, steps: int, guidance: float) -> Mapping[str, Any]:
    return MappingProxyType(dict(zip(FIELDS, (scheduler, schedule, steps, guidance))))


_UNET = frozenset({"SD", "SDXL"})
_FLOW = frozenset({"SD3", "Flux", "Flux.2", "Qwen-Image", "Z-Image"})

WAYS: tuple[FewSteps, ...] = (
    FewSteps("TCD", r"\btcd\b", _suits("TCD", "Automatic", 4, 1.0), _UNET),
    FewSteps("LCM", r"\blcm\b|latent-consistency", _suits("LCM", "Automatic", 4, 1.5), _UNET),
    FewSteps("Hyper-SD", r"\bhyper-?(sd|sdxl|sd15)?\b", _suits("DDIM", "SGM Uniform", 4, 1.0), _UNET, True),
    FewSteps("Hyper-SD", r"\bhyper-?(sd3|flux)?\b", _suits("Euler", "Automatic", 8, 3.5), _FLOW, True),
    FewSteps("Lightning", r"lightning", _suits("Euler", "SGM Uniform", 4, 1.0), _UNET, True),
    FewSteps("Lightning", r"lightning", _suits("Euler", "Automatic", 8, 1.0), _FLOW, True),
    FewSteps("DMD2", r"\bdmd2?\b", _suits("LCM", "Automatic", 4, 1.0), _UNET, True),
    FewSteps("DMD", r"\bdmd2?\b", _suits(OWN, "Automatic", 1, 1.0), frozenset({"PixArt"})),
    FewSteps("PixArt LCM", r"\blcm\b", _suits("LCM", "Automatic", 4, 1.0), frozenset({"PixArt"})),
    FewSteps("Schnell", r"schnell", _suits("Euler", "Automatic", 4, 1.0), frozenset({"Flux"})),
    FewSteps("Klein", r"klein(?!.*base)", _suits("Euler", "Automatic", 4, 1.0), frozenset({"Flux.2"})),
    FewSteps("Sprint", r"sprint", _suits(OWN, "Automatic", 2, 4.5), frozenset({"Sana"}), True),
    FewSteps("Turbo", r"turbo", _suits("Euler", "SGM Uniform", 1, 1.0), _UNET),
    FewSteps("SD3 Turbo", r"turbo", _suits("Euler", "Automatic", 4, 1.0), frozenset({"SD3"})),
    FewSteps("Flux Turbo", r"turbo", _suits("Euler", "Automatic", 8, 3.5), frozenset({"Flux"})),
    FewSteps("Z-Image Turbo", r"turbo", _suits("Euler", "Automatic", 9, 1.0), frozenset({"Z-Image"})),
)
"""Ways of few steps, looked through in this order."""

_STEPS = re.compile(r"(?<![a-z0-9])(\d{1,2})-?steps?(?![a-z])")


def suited(spec_or_addon: ModelSpec | AddonSpec) -> Mapping[str, Any]:
    """Request fields that suit a model or LoRA made for few steps; empty for every other.

    What its own metadata says (its `defaults`) comes before what its name tells.
    """
    one = spec_or_addon
    by_name = named(f"{one.key} {one.title}", one.family)
    if hasattr(one, "pipeline"):  # a model has defaults in any case; those of few steps are among them
        return by_name and MappingProxyType(
            {name: one.defaults[name] for name in FIELDS if name in one.defaults}
        )
    return MappingProxyType({**by_name, **one.defaults})


def named(name: str, family: str) -> Mapping[str, Any]:
    """The settings that suit what is called so; empty where the name tells of no few steps."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower())
    for way in WAYS:
        if re.search(way.pattern, plain) and (not way.families or family in way.families):
            found = _STEPS.search(plain)
            steps = {"num_inference_steps": int(found[1])} if way.told and found else {}
            return MappingProxyType({**way.settings, **steps})
    return MappingProxyType({})
