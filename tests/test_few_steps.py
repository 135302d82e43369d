"""Models and LoRAs for few steps are known by their names, and what they are told to run with can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines import schedulers
from pipelines.families import FAMILIES, PIPELINES
from pipelines.library import few_steps
from pipelines.library.addons import AddonSpec
from pipelines.request import GenerationRequest
from pipelines.schedulers import OWN

SEEN = [
    ("stabilityai/sd-turbo", "SD", ("Euler", "SGM Uniform", 1, 1.0)),
    ("sd_xl_turbo_1.0_fp16", "SDXL", ("Euler", "SGM Uniform", 1, 1.0)),
    ("lcm-lora-sdv1-5", "SD", ("LCM", "Automatic", 4, 1.5)),
    ("LCM_Dreamshaper_v7", "SD", ("LCM", "Automatic", 4, 1.5)),
    ("sdxl_lightning_8step_lora", "SDXL", ("Euler", "SGM Uniform", 8, 1.0)),
    ("dreamshaperXL_lightningDPMSDE", "SDXL", ("Euler", "SGM Uniform", 4, 1.0)),
    ("Hyper-SDXL-2steps-lora", "SDXL", ("DDIM", "SGM Uniform", 2, 1.0)),
    ("Hyper-SD15-8steps-lora", "SD", ("DDIM", "SGM Uniform", 8, 1.0)),
    ("Hyper-FLUX.1-dev-8steps-lora", "Flux", ("Euler", "Automatic", 8, 3.5)),
    ("dmd2_sdxl_4step_lora_fp16", "SDXL", ("LCM", "Automatic", 4, 1.0)),
    ("TCD-SDXL-LoRA", "SDXL", ("TCD", "Automatic", 4, 1.0)),
    ("flux1-schnell", "Flux", ("Euler", "Automatic", 4, 1.0)),
    ("FLUX.2-klein-4B", "Flux.2", ("Euler", "Automatic", 4, 1.0)),
    ("sd3.5_large_turbo", "SD3", ("Euler", "Automatic", 4, 1.0)),
    ("Z-Image-Turbo", "Z-Image", ("Euler", "Automatic", 9, 1.0)),
    ("Qwen-Image-Lightning-4steps-V1.0", "Qwen-Image", ("Euler", "Automatic", 4, 1.0)),
    ("Sana_Sprint_1.6B_1024px_diffusers", "Sana", (OWN, "Automatic", 2, 4.5)),
    ("PixArt-LCM-XL-2-1024-MS", "PixArt", ("LCM", "Automatic", 4, 1.0)),
    ("stable-diffusion-v1-5", "SD", ()),
    ("FLUX.1-dev", "Flux", ()),
    ("FLUX.2-klein-base-4B", "Flux.2", ()),
    ("hyperrealistic_v3", "SD", ()),
    ("turbo-cars-lora", "PixArt", ()),
]


@pytest.mark.parametrize(("name", "family", "expected"), SEEN, ids=lambda value: str(value))
def test_what_suits_is_told_by_the_name(name: str, family: str, expected: tuple[Any, ...]) -> None:
    assert dict(few_steps.named(name, family)) == dict(zip(few_steps.FIELDS, expected))


@pytest.mark.parametrize("way", few_steps.WAYS, ids=lambda way: way.name)
def test_what_suits_is_a_request_that_can_be_run(way: few_steps.FewSteps) -> None:
    request = GenerationRequest.parse({"prompt": "a", **way.settings})
    for family in way.families:
        kinds = {row.kind for row in PIPELINES.values() if row.family == family}
        assert family in FAMILIES and kinds
        for kind in kinds - {"own"}:
            schedulers.check_request(request, kind)


def test_the_metadata_of_an_addon_comes_before_its_name() -> None:
    told = {"scheduler": "LCM", "num_inference_steps": 6}
    addon = AddonSpec("lcm-mine", "Mine", "lora", Path("lcm-mine.safetensors"), "SD", defaults=told)
    assert dict(few_steps.suited(addon)) == {
        "scheduler": "LCM",
        "schedule": "Automatic",
        "num_inference_steps": 6,
        "guidance_scale": 1.5,
    }


def test_the_embedded_model_suits_no_few_steps() -> None:
    from pipelines.library.models import ModelLibrary

    assert not few_steps.suited(ModelLibrary().find("starter"))
