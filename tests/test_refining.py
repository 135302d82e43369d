"""A refiner gives what two calls of diffusers give: the base up to a share of the steps, then the refiner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import devices, prompts, refining
from pipelines.events import StepEvent
from pipelines.library.models import ModelLibrary
from pipelines.manager import PipelineManager
from pipelines.outputs import Outputs
from pipelines.pictures import PictureStore
from pipelines.request import InvalidRequest
from pipelines.run import Control
from tests.support import tiny
from tests.support.plain import as_ours


def xl_refiner() -> Any:
    """SDXL's refiner in miniature: the second text encoder alone, and an aesthetic score."""
    from diffusers import StableDiffusionXLImg2ImgPipeline, UNet2DConditionModel

    base = tiny.sdxl()
    torch.manual_seed(5)
    config = {key: value for key, value in base.unet.config.items() if not key.startswith("_")}
    config |= {"cross_attention_dim": 32, "projection_class_embeddings_input_dim": 8 * 5 + 32}
    parts = {**base.components, "unet": UNet2DConditionModel.from_config(config).eval()}
    parts |= {"text_encoder": None, "tokenizer": None}
    parts.pop("image_encoder"), parts.pop("feature_extractor")
    return StableDiffusionXLImg2ImgPipeline(
        **parts, requires_aesthetics_score=True, force_zeros_for_empty_prompt=False
    )


def sd_other() -> Any:
    """Another model of the tiny SD's kind."""
    pipe = tiny.sd()
    draw = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for part in (pipe.unet, pipe.text_encoder):
            for weight in part.parameters():
                weight += torch.randn(weight.shape, generator=draw) * 0.05
    return pipe


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> PipelineManager:
    folder = tiny.save_all(tmp_path_factory.mktemp("models"), ("sd", "sd-v", "sdxl", "sd-inpaint", "flux"))
    xl_refiner().save_pretrained(folder / "xl-refiner")
    sd_other().save_pretrained(folder / "sd-other")
    data = tmp_path_factory.mktemp("data")
    plan = devices.choose("cpu", "float32")
    return PipelineManager(ModelLibrary([folder]), plan, Outputs(data / "out"), PictureStore(data / "in"))


def painted(manager: PipelineManager, **changes: Any) -> tuple[np.ndarray, list[Any], str]:
    events: list[Any] = []
    asked = tiny.request(scheduler="Euler", num_inference_steps=5, **changes)
    finished = manager.run(asked, events.append, Control())
    picture = finished.pictures[0]
    return np.asarray(Image.open(picture.path)), events, picture.parameters


@pytest.mark.parametrize("guidance", [7.0, 1.0])
def test_sdxl_is_the_two_calls(manager: PipelineManager, guidance: float) -> None:
    import diffusers

    share = 0.6
    seen, events, text = painted(
        manager, model="sdxl", refiner="xl-refiner", refiner_switch_at=share, guidance_scale=guidance
    )

    base, refiner = tiny.sdxl(), xl_refiner()
    config = {**base.scheduler.config}
    call = {"num_inference_steps": 5, "guidance_scale": guidance}
    for pipe in (base, refiner):
        pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(config)
        as_ours(pipe)
        pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(1)
    latents = base(
        "a house", width=64, height=64, denoising_end=share, output_type="latent", generator=generator, **call
    ).images
    want = refiner("a house", image=latents, denoising_start=share, generator=generator, **call).images[0]
    assert np.array_equal(seen, np.asarray(want))

    steps = [event for event in events if isinstance(event, StepEvent)]
    assert [(step.step, step.total) for step in steps] == [(number, 5) for number in range(1, 6)]
    assert "Refiner: xl-refiner, Refiner switch at: 0.6" in text
    alone, _, _ = painted(manager, model="sdxl", guidance_scale=guidance)
    assert not np.array_equal(seen, alone)


def test_sd_changes_the_model_at_the_step(manager: PipelineManager) -> None:
    """Against a plain call whose own callback puts the other model in."""
    import diffusers

    seen, _, _ = painted(manager, refiner="sd-other", refiner_switch_at=0.5, negative_prompt="fog")
    first = diffusers.DiffusionPipeline.from_pretrained(manager.library.find("sd").folder)
    second = sd_other()
    first.scheduler = diffusers.EulerDiscreteScheduler.from_config(first.scheduler.config)
    as_ours(first)
    first.set_progress_bar_config(disable=True)
    yes, no = second.encode_prompt("a house", "cpu", 1, True, "fog")
    changed = []

    def change(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        left = pipe.scheduler.timesteps[index + 1 :]
        if len(left) and float(left[0]) < 500 and not changed:
            changed.append(index)
            pipe.unet = second.unet
            tensors["prompt_embeds"] = torch.cat([no, yes])
        return tensors

    want = first(
        "a house",
        negative_prompt="fog",
        num_inference_steps=5,
        guidance_scale=7.0,
        width=64,
        height=64,
        generator=torch.Generator().manual_seed(1),
        callback_on_step_end=change,
    ).images[0]
    assert np.array_equal(seen, np.asarray(want))
    assert changed and changed[0] < 3


def test_a_model_refines_itself_to_the_same_picture(manager: PipelineManager) -> None:
    plain, _, _ = painted(manager)
    same, _, _ = painted(manager, refiner="sd", refiner_switch_at=0.3)
    never, _, _ = painted(manager, refiner="sd-other", refiner_switch_at=1.0)
    assert np.array_equal(plain, same)
    assert np.array_equal(plain, never)


def test_the_base_is_left_as_it_was(manager: PipelineManager) -> None:
    plain, _, _ = painted(manager)
    painted(manager, refiner="sd-other", refiner_switch_at=0.3)
    again, _, _ = painted(manager)
    assert np.array_equal(plain, again)
    assert "forward" not in manager.load("sd").pipeline.unet.__dict__


def test_what_cannot_refine_is_told(manager: PipelineManager) -> None:
    library = manager.library
    for model, refiner, words in (
        ("sd", "nobody", "nobody"),
        ("sd", "sdxl", "SDXL"),
        ("flux", "flux", "SD and SDXL"),
        ("sd", "sd-v", "predicts"),
        ("sd", "sd-inpaint", "inpaint"),
        ("sdxl", "sd", "latents"),
    ):
        with pytest.raises(InvalidRequest) as told:
            refining.check(tiny.request(model=model, refiner=refiner), library.find(model), library)
        assert words in told.value.problems["refiner"]
    asked = tiny.request(model="sdxl", refiner="xl-refiner")
    refining.check(asked, library.find("sdxl"), library)


def test_the_refiners_words_are_its_own(manager: PipelineManager) -> None:
    refiner = xl_refiner()
    encoded = prompts.encode(refiner, "a house", None, guidance=True)
    want = refiner.encode_prompt("a house", device="cpu", do_classifier_free_guidance=True)
    names = (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    )
    for name, tensor in zip(names, want):
        assert torch.equal(encoded.kwargs[name], tensor)
