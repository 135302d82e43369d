"""The oracle for pictures is diffusers itself: what the program keeps equals a plain call, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import devices, schedulers
from pipelines.events import Event, Finished, Loading, PictureDone, StepEvent
from pipelines.latents import slerp
from pipelines.library.models import ModelLibrary
from pipelines.manager import PipelineManager
from pipelines.outputs import Outputs
from pipelines.painting import pipeline_for
from pipelines.pictures import PictureStore
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.run import Control, GenerationCancelled
from tests.support.plain import as_ours

PROMPT = "a red house, in the snow"


@pytest.fixture(scope="module")
def manager(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> PipelineManager:
    library = ModelLibrary([tiny_models])
    return PipelineManager(
        library,
        devices.choose("cpu", "float32"),
        Outputs(tmp_path_factory.mktemp("outputs")),
        PictureStore(tmp_path_factory.mktemp("inputs")),
    )


def request(**changes: Any) -> GenerationRequest:
    usual = {
        "prompt": PROMPT,
        "model": "sd-v",
        "width": 64,
        "height": 64,
        "num_inference_steps": 4,
        "seed": 11,
    }
    return GenerationRequest.parse(usual | changes)


def run(manager: PipelineManager, request: GenerationRequest, control: Control | None = None) -> list[Event]:
    events: list[Event] = []
    events.append(manager.run(request, events.append, control or Control()))
    return events


def pixels(events: list[Event], index: int = 0) -> np.ndarray:
    finished = events[-1]
    assert isinstance(finished, Finished)
    return np.asarray(Image.open(finished.pictures[index].path))


def steps(events: list[Event]) -> list[StepEvent]:
    return [event for event in events if isinstance(event, StepEvent)]


def plain_pipeline(tiny_models: Path, model: str, class_name: str, **overrides: Any) -> Any:
    import diffusers

    pipe = diffusers.DiffusionPipeline.from_pretrained(tiny_models / model)
    pipe.scheduler = getattr(diffusers, class_name).from_config(pipe.scheduler.config, **overrides)
    as_ours(pipe)
    pipe.set_progress_bar_config(disable=True)
    return pipe


PAIRS = [(name, schedule) for name, row in schedulers.SAMPLERS.items() for schedule in row.schedules[:2]]


@pytest.mark.parametrize(("sampler", "schedule"), PAIRS)
def test_picture_equals_a_plain_diffusers_call(
    manager: PipelineManager, tiny_models: Path, sampler: str, schedule: str
) -> None:
    row = schedulers.SAMPLERS[sampler]
    overrides = schedulers.settings(sampler, schedule)
    if row.seeded:
        overrides["noise_sampler_seed"] = 11
    pipe = plain_pipeline(tiny_models, "sd-v", row.diffusion, **overrides)
    expected = pipe(
        prompt=PROMPT,
        negative_prompt="trees",
        width=64,
        height=64,
        num_inference_steps=4,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(11),
    ).images[0]
    wanted = request(scheduler=sampler, schedule=schedule, negative_prompt="trees", guidance_scale=5.0)
    events = run(manager, wanted)
    assert np.array_equal(pixels(events), np.asarray(expected))
    told = steps(events)
    assert [event.step for event in told] == list(range(1, told[0].total + 1))


@pytest.mark.parametrize("guidance", [1.0, 6.5])
def test_picture_of_sdxl_equals_a_plain_diffusers_call(
    manager: PipelineManager, tiny_models: Path, guidance: float
) -> None:
    pipe = plain_pipeline(tiny_models, "sdxl", "EulerDiscreteScheduler")
    expected = pipe(
        prompt=PROMPT,
        width=64,
        height=72,
        num_inference_steps=3,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(11),
    ).images[0]
    wanted = request(
        model="sdxl", height=72, num_inference_steps=3, scheduler="Euler", guidance_scale=guidance
    )
    assert np.array_equal(pixels(run(manager, wanted)), np.asarray(expected))


def test_a_batchs_picture_is_the_single_one(manager: PipelineManager) -> None:
    batch = run(manager, request(scheduler="Euler a", num_images_per_prompt=2, batch_count=2))
    for index in range(4):
        single = run(manager, request(scheduler="Euler a", seed=11 + index))
        assert np.array_equal(pixels(batch, index), pixels(single))
    assert not np.array_equal(pixels(batch, 0), pixels(batch, 1))
    assert [event.index for event in batch if isinstance(event, PictureDone)] == [0, 1, 2, 3]


def test_the_same_request_gives_the_same_picture(manager: PipelineManager) -> None:
    for sampler in ("DPM++ SDE", "UniPC"):
        first, second = (run(manager, request(scheduler=sampler)) for _ in range(2))
        assert np.array_equal(pixels(first), pixels(second))


def test_variation_leads_from_one_seed_to_the_other(manager: PipelineManager) -> None:
    own, other = run(manager, request()), run(manager, request(seed=99))
    full = run(manager, request(subseed=99, subseed_strength=1.0))
    half = run(manager, request(subseed=99, subseed_strength=0.5))
    assert np.array_equal(pixels(full), pixels(other))
    assert not np.array_equal(pixels(half), pixels(own)) and not np.array_equal(pixels(half), pixels(other))


def test_slerp_keeps_the_noises_strength() -> None:
    a, b = torch.randn(2, 1, 4, 32, 32, generator=torch.Generator().manual_seed(0)).unbind(0)
    assert torch.equal(slerp(a, b, 0.0), a)
    assert abs(float(slerp(a, b, 0.5).std()) - 1) < 0.05
    assert torch.equal(slerp(a, a, 0.5), a)


def test_cancelling_leaves_after_the_step(manager: PipelineManager) -> None:
    control, seen = Control(), []

    def emit(event: Event) -> None:
        if isinstance(event, StepEvent):
            seen.append(event)
            if event.step == 2:
                control.stop(keep=False)

    with pytest.raises(GenerationCancelled):
        manager.run(request(num_inference_steps=10), emit, control)
    assert len(seen) == 2
    assert len(steps(run(manager, request()))) == 4  # and the next run is whole


def test_stop_and_keep_keeps_the_predicted_picture(manager: PipelineManager, tiny_models: Path) -> None:
    control, events = Control(), []

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepEvent) and event.step == 2:
            control.stop(keep=True)

    kept = manager.run(request(num_inference_steps=10, scheduler="DDIM", batch_count=3), emit, control)
    assert kept.stopped and len(kept.pictures) == 1
    assert "Stopped at step: 2" in kept.pictures[0].parameters

    pipe = plain_pipeline(tiny_models, "sd-v", "DDIMScheduler")
    predicted = []
    step = pipe.scheduler.step

    def watched(*args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
        output = step(*args, **kwargs)
        predicted.append(output.pred_original_sample)
        return output.to_tuple()

    pipe.scheduler.step = watched
    pipe(
        prompt=PROMPT, width=64, height=64, num_inference_steps=10, guidance_scale=7.0,
        generator=torch.Generator().manual_seed(11),
    )  # fmt: skip
    with torch.no_grad():
        decoded = pipe.vae.decode(predicted[1] / pipe.vae.config.scaling_factor).sample
    expected = pipe.image_processor.postprocess(decoded, output_type="pil")[0]
    assert np.array_equal(np.asarray(Image.open(kept.pictures[0].path)), np.asarray(expected))


def test_every_step_shows_a_preview_of_its_own(manager: PipelineManager) -> None:
    told = steps(run(manager, request(num_inference_steps=6, scheduler="Euler")))
    assert len({event.preview for event in told}) == 6
    assert all(event.preview.startswith(b"\xff\xd8") for event in told)
    sigmas = [event.sigma for event in told]
    assert sigmas == sorted(sigmas, reverse=True)


def test_a_model_is_loaded_once_and_told(manager: PipelineManager, tiny_models: Path, tmp_path: Path) -> None:
    fresh = PipelineManager(
        ModelLibrary([tiny_models]),
        devices.choose("cpu", "float32"),
        Outputs(tmp_path),
        PictureStore(tmp_path),
    )
    first, second = run(fresh, request()), run(fresh, request())
    assert [type(event) for event in first].count(Loading) == 1
    assert Loading not in [type(event) for event in second]
    base = fresh.load("sd-v").pipeline
    view = pipeline_for(request(), fresh.load("sd-v"), 0)
    assert view.unet is base.unet and view.vae is base.vae and view.scheduler is not base.scheduler
    for name in ("sd", "sdxl"):
        fresh.load(name)
    status = fresh.status()
    assert status.models == ("sd-v", "sd", "sdxl")
    unets = [fresh.load(name).pipeline.unet for name in ("sd-v", "sd")]
    assert unets[0] is unets[1], "the same weights are held once"
    assert fresh.load("sd-v").pipeline is base
    fresh.unload_all()
    assert fresh.status().models == () and fresh.status().components == ()


def test_what_the_model_cannot_do_is_refused(manager: PipelineManager) -> None:
    with pytest.raises(InvalidRequest, match=r"no model called 'nope'\. There are"):
        run(manager, request(model="nope"))
    with pytest.raises(InvalidRequest, match="cannot use the Karras schedule"):
        run(manager, request(scheduler="DDIM", schedule="Karras"))


def test_long_and_weighted_prompts_change_the_picture(manager: PipelineManager) -> None:
    base = pixels(run(manager, request()))
    weighted = pixels(run(manager, request(prompt="a (red:1.6) house, in the snow")))
    longer = pixels(run(manager, request(prompt=PROMPT + ", and a cat" * 40)))
    assert not np.array_equal(base, weighted) and not np.array_equal(base, longer)
