"""What a masked area begins as, and soft masks: in every family, and without a touch on what is outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import devices
from pipelines.events import Event, StepEvent
from pipelines.inpainting import SoftMask, begin_with
from pipelines.library.models import ModelLibrary
from pipelines.manager import PipelineManager
from pipelines.outputs import Outputs
from pipelines.painting import pipeline_for
from pipelines.pictures import PictureStore
from pipelines.request import GenerationRequest
from pipelines.run import Control
from tests.test_manager_pictures import kept, models, photo, put, request, run, square

__all__ = ["models"]  # a fixture

MODELS = ("sd", "sdxl", "sd-nine", "sd3-16", "flux")
CONTENTS = ("original", "fill", "latent noise", "latent nothing")
OUTSIDE = np.asarray(square()) == 0


@pytest.fixture(scope="module")
def manager(models: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> PipelineManager:
    return PipelineManager(
        ModelLibrary(models),
        devices.choose("cpu", "float32"),
        Outputs(tmp_path_factory.mktemp("outputs")),
        PictureStore(tmp_path_factory.mktemp("inputs")),
    )


def repainting(manager: PipelineManager, model: str, mask: Image.Image, **changes: Any) -> GenerationRequest:
    side = 256 if model == "starter" else 128
    usual = {"image": put(manager, photo(side)), "mask_image": put(manager, mask)}
    return request(model, **(usual | changes))


def painted(manager: PipelineManager, model: str, mask: Image.Image, **changes: Any) -> np.ndarray:
    return kept(run(manager, repainting(manager, model, mask, **changes)))


# ------------------------------------------------------------------------------------- what an area begins as


@pytest.mark.parametrize("model", MODELS)
def test_what_the_area_begins_as_changes_it_and_nothing_else(manager: PipelineManager, model: str) -> None:
    results = [
        painted(manager, model, square(), masked_content=content, strength=0.6) for content in CONTENTS
    ]
    original = np.asarray(photo())
    for index, result in enumerate(results):
        assert np.array_equal(result[OUTSIDE], original[OUTSIDE])
        assert not any(np.array_equal(result, other) for other in results[:index]), CONTENTS[index]
    again = painted(manager, model, square(), masked_content="latent noise", strength=0.6)
    assert np.array_equal(again, results[2])


@pytest.mark.parametrize("model", ["sd", "sdxl", "sd3-16"])
@pytest.mark.parametrize("content", ["latent noise", "latent nothing"])
def test_at_full_strength_the_area_begins_as_noise_in_any_case(
    manager: PipelineManager, model: str, content: str
) -> None:
    own = painted(manager, model, square(), strength=1.0)
    assert np.array_equal(own, painted(manager, model, square(), strength=1.0, masked_content=content))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("content", ["latent noise", "latent nothing"])
def test_only_the_area_of_the_first_latents_changes(
    manager: PipelineManager, model: str, content: Any
) -> None:
    """The picture's latents as the pipeline prepares them, with and without."""
    loaded = manager.load(model)
    mask = square(64)
    wanted = repainting(manager, model, mask)
    found = []
    for begins in ("original", content):
        pipe = pipeline_for(wanted, loaded, 3)
        begin_with(pipe, begins, mask, 3)
        seen: list[Any] = []
        encode = pipe._encode_vae_image

        def watched(*args: Any, encode: Any = encode, seen: list[Any] = seen, **kwargs: Any) -> Any:
            seen.append(encode(*args, **kwargs))
            return seen[-1]

        pipe._encode_vae_image = watched
        pipe(
            prompt="a house", image=photo(64), mask_image=mask, width=64, height=64, strength=0.5,
            num_inference_steps=2, generator=torch.Generator().manual_seed(3),
        )  # fmt: skip
        found.append(seen)
    before, after = found[0][0], found[1][0]
    inside = torch.from_numpy(np.asarray(mask.resize((32, 32), Image.Resampling.BOX)) >= 128)
    assert torch.equal(before[..., ~inside], after[..., ~inside])
    area = after[..., inside]
    if content == "latent nothing":
        assert not area.any() and before[..., inside].any()
    else:
        assert abs(float(area.std()) - 1) < 0.1 and abs(float(area.mean())) < 0.1
    for old, new in zip(found[0][1:], found[1][1:], strict=True):
        assert torch.equal(old, new), "the masked picture that a 9-channel model is shown was changed"


# ------------------------------------------------------------------------------------------------- soft masks


@pytest.mark.parametrize("model", MODELS)
def test_a_white_soft_mask_is_no_soft_mask(manager: PipelineManager, model: str) -> None:
    """All of it may change from the first step on, so nothing is ever held."""
    white = Image.new("L", (128, 128), 255)
    hard = painted(manager, model, white, strength=0.8)
    assert np.array_equal(painted(manager, model, white, strength=0.8, soft_inpainting=True), hard)


SOFT = [
    *[
        ("sd", sampler)
        for sampler in (
            "Euler a", "DPM++ 2M", "Heun", "UniPC", "LCM", "DDIM", "LMS", "PLMS", "DPM2", "DPM++ SDE", "TCD",
        )
    ],
    ("sdxl", "Euler"),
    ("sdxl", "DPM++ 2M"),
    ("sd-nine", "UniPC"),
    ("sd3-16", "Euler"),
    ("sd3-16", "Heun"),
    ("flux", "Euler"),
]  # fmt: skip


def ramp(side: int = 128) -> Image.Image:
    """Black, a third of grey, two thirds, white: four stripes."""
    levels = np.repeat(np.array([0, 85, 170, 255], np.uint8), side // 4)
    return Image.fromarray(np.repeat(levels[None], side, axis=0))


@pytest.mark.parametrize(("model", "sampler"), SOFT)
def test_soft_masks_work_with_every_sampler(manager: PipelineManager, model: str, sampler: str) -> None:
    changes: dict[str, Any] = {"strength": 0.9, "scheduler": sampler, "num_inference_steps": 6}
    soft = painted(manager, model, ramp(), soft_inpainting=True, **changes)
    hard = painted(manager, model, ramp(), **changes)
    original = np.asarray(photo())
    assert np.array_equal(soft[:, :32], original[:, :32])
    for stripe in range(1, 4):
        assert (soft[:, stripe * 32 : stripe * 32 + 32] != original[:, stripe * 32 : stripe * 32 + 32]).any()
    assert not np.array_equal(soft, hard)


@pytest.mark.parametrize(("model", "sampler"), SOFT)
def test_what_is_held_is_the_original_at_the_steps_noise(
    manager: PipelineManager, model: str, sampler: str
) -> None:
    """A hold that is at the wrong noise level, or in another scale, would show in x0 of the next step."""
    loaded = manager.load(model)
    wanted = repainting(manager, model, ramp(), scheduler=sampler, soft_inpainting=True)
    pipe = pipeline_for(wanted, loaded, 3)
    shown = photo(64)
    strengths = np.full((64, 64), 0.001, np.float32)  # held to the last step
    soft = SoftMask(pipe, shown, strengths, 3)
    inputs: list[tuple[Any, Any, Any]] = []
    step = pipe.scheduler.step

    def hold(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"latents": soft.hold(index, tensors["latents"])}

    def watched(output: Any, timestep: Any, sample: Any, *args: Any, **kwargs: Any) -> Any:
        result = step(output, timestep, sample, *args, **kwargs)
        inputs.append(
            (sample, timestep, pipe.scheduler.step_index if hasattr(pipe.scheduler, "sigmas") else None)
        )
        return result

    pipe.scheduler.step = watched
    pipe(
        prompt="a house", image=shown, mask_image=Image.new("L", (64, 64), 255), width=64, height=64,
        strength=0.9, num_inference_steps=6, generator=torch.Generator().manual_seed(3),
        callback_on_step_end=hold,
    )  # fmt: skip
    assert len(inputs) == pipe.num_timesteps >= 5
    clean, noise = soft.latents, soft.noise
    if model == "flux":
        clean, noise = soft._packed(clean), soft._packed(noise)
    for sample, timestep, index in inputs[1:]:
        signal, amount = parts(sample, clean, noise)
        assert float((signal * clean + amount * noise - sample).abs().max()) < 1e-3
        expected = level(pipe.scheduler, timestep, index)
        assert amount / signal == pytest.approx(expected, rel=0.01)


def parts(sample: Any, clean: Any, noise: Any) -> tuple[float, float]:
    """By least squares, how much of each is in `sample`."""
    design = torch.stack([clean.flatten(), noise.flatten()], 1).double()
    found = torch.linalg.lstsq(design, sample.double().flatten()[:, None]).solution.flatten()
    return float(found[0]), float(found[1])


def level(scheduler: Any, timestep: Any, index: int | None) -> float:
    """Noise over signal at that step. index: the scheduler's, after it."""
    if index is None:
        kept_share = float(scheduler.alphas_cumprod[int(timestep)])
        return float(((1 - kept_share) / kept_share) ** 0.5)
    sigma = float(scheduler.sigmas[index - 1])
    return sigma / (1 - sigma) if type(scheduler).__name__.startswith("FlowMatch") else sigma


def test_a_grey_half_of_the_starters_picture_changes_less_than_a_white_half(manager: PipelineManager) -> None:
    side = 256
    mask = Image.new("L", (side, side), 255)
    mask.paste(110, (0, 0, side // 2, side))
    result = painted(
        manager, "starter", mask, soft_inpainting=True, strength=1.0, num_inference_steps=8, guidance_scale=7
    )
    change = np.abs(result.astype(float) - np.asarray(photo(side))).mean(axis=2)
    grey, white = change[:, : side // 2 - 16].mean(), change[:, side // 2 + 16 :].mean()
    assert grey < 0.8 * white


def test_what_may_hardly_change_stays_near_the_original(manager: PipelineManager) -> None:
    faint = painted(manager, "starter", Image.new("L", (256, 256), 20), soft_inpainting=True, strength=1.0)
    half = painted(manager, "starter", Image.new("L", (256, 256), 128), soft_inpainting=True, strength=1.0)
    full = painted(manager, "starter", Image.new("L", (256, 256), 255), soft_inpainting=True, strength=1.0)
    original = np.asarray(photo(256), float)
    off = [float(np.abs(found - original).mean()) for found in (faint, half, full)]
    assert off[0] < off[1] < off[2]


def test_soft_repainting_is_stopped_and_kept(manager: PipelineManager) -> None:
    control = Control()

    def emit(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == 2:
            control.stop(keep=True)

    wanted = repainting(manager, "flux", ramp(), soft_inpainting=True, num_inference_steps=10)
    finished = manager.run(wanted, emit, control)
    assert finished.stopped and "Stopped at step: 2" in finished.pictures[0].parameters
    result = np.asarray(Image.open(finished.pictures[0].path))
    assert np.array_equal(result[:, :32], np.asarray(photo())[:, :32])


@pytest.mark.parametrize("model", MODELS)
def test_half_precision_paints_softly_too(
    models: tuple[Path, ...],
    tmp_path: Path,
    model: str,
) -> None:
    """The type that CPUs and GPUs are given where they are fast at it: noise and masks must follow it."""
    half = PipelineManager(
        ModelLibrary(models),
        devices.choose("cpu", "bfloat16"),
        Outputs(tmp_path / "outputs"),
        PictureStore(tmp_path / "inputs"),
    )
    white = Image.new("L", (128, 128), 255)
    for content in CONTENTS:
        changes: dict[str, Any] = {"masked_content": content, "strength": 0.7}
        soft = painted(half, model, ramp(), soft_inpainting=True, **changes)
        assert np.array_equal(soft[:, :32], np.asarray(photo())[:, :32])
        hard = painted(half, model, white, **changes)
        assert np.array_equal(painted(half, model, white, soft_inpainting=True, **changes), hard)
