"""The tables of families hold against diffusers, and what a model cannot do is refused by a sentence."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import diffusers
import pytest

from pipelines import checks, families, schedulers
from pipelines.controlnet.control import ControlLibrary
from pipelines.families import ALL_TAKE, FAMILIES, PIPELINES
from pipelines.library.models import ModelSpec
from pipelines.request import GenerationRequest, InvalidRequest


def call_of(name: str) -> set[str]:
    return set(inspect.signature(getattr(diffusers, name).__call__).parameters)


def model(pipeline: str, folder: Path = Path("/nowhere"), **changes: Any) -> ModelSpec:
    row = PIPELINES[pipeline]
    usual = {
        "key": "it", "title": "It", "summary": "", "path": folder, "family": row.family, "kind": row.kind,
        "pipeline": pipeline, "variant": row.variant, "defaults": {"width": 128, "height": 128},
    }  # fmt: skip
    return ModelSpec(**{**usual, **changes})


@pytest.mark.parametrize("name", PIPELINES)
def test_a_row_says_what_diffusers_calls_take(name: str) -> None:
    row = PIPELINES[name]
    calls = {task: call_of(view) for task, view in row.views.items()}
    taken = set.union(*calls.values())
    for field in ("prompt", "negative_prompt", "image_guidance_scale"):
        if field in row.takes or field != "negative_prompt":
            assert (field in row.takes) == (field in taken), field
    assert ("strength" in row.takes) == any(
        "strength" in call for task, call in calls.items() if task not in row.whole
    )
    assert ("image" in row.takes) == bool(row.tasks & {"image2image", "inpaint"})
    assert ("mask_image" in row.takes) == ("inpaint" in row.tasks)
    if "guidance_scale" in row.takes:
        assert all(set(FAMILIES[row.family].guidance) <= call for call in calls.values())
    for task in row.whole:
        assert "strength" not in calls[task]
    assert row.takes | ALL_TAKE <= set(GenerationRequest.model_fields)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_familys_advice_is_a_request_that_its_models_run(family: str) -> None:
    row = FAMILIES[family]
    name = next(name for name, one in PIPELINES.items() if one.family == family and not one.variant)
    spec = model(name)
    asked = {"prompt": "a", "width": row.native_size, "height": row.native_size, **row.defaults}
    if spec.kind == "own" or "scheduler" not in row.defaults:
        asked["scheduler"] = schedulers.OWN
    checks.check(GenerationRequest.parse(asked), spec, ControlLibrary([], Path("/nowhere")))
    assert set(row.views) <= {"text2image", "image2image", "inpaint"}
    assert all(hasattr(diffusers, view) for view in row.views.values())


def check(spec: ModelSpec, **asked: Any) -> None:
    checks.check(GenerationRequest.parse(asked), spec, ControlLibrary([], Path("/nowhere")))


def refused(spec: ModelSpec, field: str, **asked: Any) -> str:
    with pytest.raises(InvalidRequest) as problem:
        check(spec, **asked)
    assert list(problem.value.problems) == [field]
    return problem.value.problems[field]


def test_tasks_that_a_model_lacks_are_refused_with_the_way_out() -> None:
    edit = model("StableDiffusionInstructPix2PixPipeline")
    assert "a picture to begin with (the Image tab)" in refused(edit, "model", prompt="a")
    sana = model("SanaPipeline")
    said = refused(sana, "model", prompt="a", image="0" * 32, scheduler="Euler")
    assert "it wants words alone (the Text tab)" in said
    nine = model("StableDiffusionInpaintPipeline", variant="inpaint")
    assert families.tasks_of(nine) == {"inpaint"}
    assert families.tasks_of(model("StableDiffusionInpaintPipeline")) == set(FAMILIES["SD"].views)


def test_an_empty_prompt_is_refused_only_where_words_count() -> None:
    for prompt in ("", " \n "):
        said = refused(model("StableDiffusionPipeline"), "prompt", prompt=prompt)
        assert said == "Prompt is empty: write what the picture shows."
        check(model("DDPMPipeline"), prompt=prompt, scheduler="DDIM")


def test_samplers_and_sizes_that_do_not_fit_are_refused() -> None:
    said = refused(model("DDPMPipeline"), "scheduler", prompt="", scheduler="Euler")
    assert said == (
        "Euler cannot lead It. Choose one of DPM++ 2M, DPM++ 2M SDE, DPM++ 3M SDE, DDIM, DDPM, Model's own."
    )
    said = refused(model("SanaSprintPipeline"), "scheduler", prompt="a", scheduler="Euler")
    assert "which only its own scheduler can lead. Choose one of Model's own." in said
    said = refused(model("SanaPipeline"), "width", prompt="a", scheduler="Euler", width=72, height=64)
    assert said.endswith("Width must be a multiple of 32 for Sana models; 72 was given, 64 or 96 would do.")
    said = refused(model("StableDiffusionPipeline"), "width", prompt="a", scheduler="Euler", width=32)
    assert said == "Width must be 64 or more for SD models; 32 was given."
    check(model("DDPMPipeline"), prompt="", scheduler="DDIM", width=32, height=32)
    own = model("KandinskyV22InpaintCombinedPipeline")
    asked = {"prompt": "a", "image": "0" * 32, "mask_image": "0" * 32, "scheduler": "DDIM"}
    assert "takes pixels" in refused(own, "masked_content", **asked, masked_content="latent noise")


def test_what_means_nothing_to_a_model_is_put_back() -> None:
    asked = GenerationRequest(
        prompt="a", image="0" * 32, strength=0.2, width=512, clip_skip=3, image_guidance_scale=2
    )
    edit = families.settled(asked, model("StableDiffusionInstructPix2PixPipeline"))
    assert (edit.strength, edit.steps_run, edit.clip_skip, edit.image_guidance_scale) == (1.0, 20, 3, 2)
    bare = families.settled(asked, model("DDIMPipeline"))
    assert (bare.prompt, bare.width, bare.height, bare.clip_skip) == ("", 128, 128, 1)


def test_single_files_find_their_class() -> None:
    assert families.pipeline_of("SD") == "StableDiffusionPipeline"
    assert families.pipeline_of("SDXL", "inpaint") == "StableDiffusionXLInpaintPipeline"
    assert families.pipeline_of("Flux", "inpaint") == "FluxFillPipeline"
    assert families.pipeline_of("SD", "edit") == "StableDiffusionInstructPix2PixPipeline"
    assert families.pipeline_of("Nothing") == "" == families.pipeline_of("PixArt", "depth")
