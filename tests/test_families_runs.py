"""Every family and task of families.PIPELINES on tiny models: loaded from a folder, run, and equal bit for
bit to diffusers' own call, which is written out here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import checks, devices, metadata
from pipelines.events import Event, Finished, StepEvent
from pipelines.library.models import ModelLibrary
from pipelines.manager import PipelineManager
from pipelines.outputs import Outputs
from pipelines.pictures import PictureStore
from pipelines.request import GenerationRequest
from pipelines.run import Control, GenerationCancelled
from tests.support import tiny_families
from tests.support.plain import as_ours

WORDS = {"prompt": "a red house", "negative_prompt": "trees", "guidance_scale": 4.0}
SAID = {"prompt": "a red house", "guidance_scale": 4.0}
SIZE = {"width": 64, "height": 64}
STRENGTH = {"strength": 0.7}
TEXT = {**WORDS, **SIZE}
BINS = {"use_resolution_binning": False}
SPRINT = {"intermediate_timesteps": None}  # what it is by default is for two steps alone
SHIFTED = {**TEXT, "guidance_scale": 3.0}  # counts from 0
TRUE_CFG = {"prompt": "a red house", "negative_prompt": "trees", "true_cfg_scale": 4.0, **SIZE}
KONTEXT = {**SAID, **SIZE, "max_area": 64 * 64, "_auto_resize": False}

PLAIN: Mapping[tuple[str, str], tuple[str, Mapping[str, Any]]] = {
    ("sd2", "text2image"): ("StableDiffusionPipeline", TEXT),
    ("sd2", "image2image"): ("StableDiffusionImg2ImgPipeline", {**WORDS, **STRENGTH}),
    ("sd2", "inpaint"): ("StableDiffusionInpaintPipeline", {**TEXT, **STRENGTH}),
    ("lcm", "text2image"): ("LatentConsistencyModelPipeline", {**SAID, **SIZE}),
    ("lcm", "image2image"): ("LatentConsistencyModelImg2ImgPipeline", {**SAID, **STRENGTH}),
    ("ddpm", "text2image"): ("DDPMPipeline", {}),
    ("ddim", "text2image"): ("DDIMPipeline", {}),
    ("pix2pix", "image2image"): (
        "StableDiffusionInstructPix2PixPipeline",
        {**WORDS, "image_guidance_scale": 1.5},
    ),
    ("pix2pix-xl", "image2image"): (
        "StableDiffusionXLInstructPix2PixPipeline",
        {**TEXT, "image_guidance_scale": 1.5},
    ),
    ("depth", "image2image"): ("StableDiffusionDepth2ImgPipeline", {**WORDS, **STRENGTH}),
    ("flux-fill", "inpaint"): ("FluxFillPipeline", {**SAID, **SIZE, **STRENGTH}),
    ("flux-kontext", "text2image"): ("FluxKontextPipeline", KONTEXT),
    ("flux-kontext", "image2image"): ("FluxKontextPipeline", KONTEXT),
    ("flux-kontext", "inpaint"): ("FluxKontextInpaintPipeline", {**KONTEXT, **STRENGTH}),
    ("flux2-klein", "text2image"): ("Flux2KleinPipeline", {**SAID, **SIZE}),
    ("flux2-klein", "image2image"): ("Flux2KleinPipeline", {**SAID, **SIZE}),
    ("flux2-klein", "inpaint"): ("Flux2KleinInpaintPipeline", {**SAID, **SIZE, **STRENGTH}),
    ("chroma", "text2image"): ("ChromaPipeline", TEXT),
    ("chroma", "image2image"): ("ChromaImg2ImgPipeline", {**TEXT, **STRENGTH}),
    ("z-image", "text2image"): ("ZImagePipeline", SHIFTED),
    ("z-image", "image2image"): ("ZImageImg2ImgPipeline", {**SHIFTED, **STRENGTH}),
    ("z-image", "inpaint"): ("ZImageInpaintPipeline", {**SHIFTED, **STRENGTH}),
    ("qwen-image", "text2image"): ("QwenImagePipeline", TRUE_CFG),
    ("qwen-image", "image2image"): ("QwenImageImg2ImgPipeline", {**TRUE_CFG, **STRENGTH}),
    ("qwen-image", "inpaint"): ("QwenImageInpaintPipeline", {**TRUE_CFG, **STRENGTH}),
    ("qwen-edit", "image2image"): ("QwenImageEditPipeline", TRUE_CFG),
    ("pixart-alpha", "text2image"): ("PixArtAlphaPipeline", {**TEXT, **BINS}),
    ("pixart-sigma", "text2image"): ("PixArtSigmaPipeline", {**TEXT, **BINS}),
    ("sana", "text2image"): ("SanaPipeline", {**TEXT, **BINS}),
    ("sana-sprint", "text2image"): ("SanaSprintPipeline", {**SAID, **SIZE, **BINS, **SPRINT}),
    ("sana-sprint", "image2image"): (
        "SanaSprintImg2ImgPipeline",
        {**SAID, **SIZE, **BINS, **STRENGTH, **SPRINT},
    ),
    ("aura-flow", "text2image"): ("AuraFlowPipeline", TEXT),
    ("hunyuan", "text2image"): ("HunyuanDiTPipeline", {**TEXT, **BINS}),
    ("lumina", "text2image"): ("LuminaPipeline", TEXT),
    ("lumina2", "text2image"): ("Lumina2Pipeline", TEXT),
    ("cogview3", "text2image"): ("CogView3PlusPipeline", TEXT),
    ("cogview4", "text2image"): ("CogView4Pipeline", TEXT),
    ("kandinsky22", "text2image"): ("KandinskyV22CombinedPipeline", TEXT),
    ("kandinsky22", "image2image"): ("KandinskyV22Img2ImgCombinedPipeline", {**TEXT, **STRENGTH}),
    ("kandinsky22-inpaint", "inpaint"): ("KandinskyV22InpaintCombinedPipeline", TEXT),
    ("kandinsky3", "text2image"): ("Kandinsky3Pipeline", TEXT),
    ("kandinsky3", "image2image"): ("Kandinsky3Img2ImgPipeline", {**WORDS, **STRENGTH}),
    ("if", "text2image"): ("IFPipeline", TEXT),
    ("if", "image2image"): ("IFImg2ImgPipeline", {**WORDS, **STRENGTH}),
    ("if", "inpaint"): ("IFInpaintingPipeline", {**WORDS, **STRENGTH}),
}
"""(tiny model, task) -> diffusers' class and what it is called with. SD, SDXL, SD3 and Flux themselves are in
test_manager_pictures."""
STEPS = 3
NO_WORDS = ("ddpm", "ddim")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = dict.fromkeys(name for name, _ in PLAIN)
    return tiny_families.save(tmp_path_factory.mktemp("families"), names)


@pytest.fixture(scope="module")
def manager(models: Path, tmp_path_factory: pytest.TempPathFactory) -> PipelineManager:
    return PipelineManager(
        ModelLibrary([models], assets=models),
        devices.choose("cpu", "float32"),
        Outputs(tmp_path_factory.mktemp("outputs")),
        PictureStore(tmp_path_factory.mktemp("inputs")),
    )


def photograph() -> Image.Image:
    drawn = np.random.default_rng(5).integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(drawn).resize((64, 64), Image.Resampling.BICUBIC)


def mask() -> Image.Image:
    drawn = np.zeros((64, 64), np.uint8)
    drawn[16:48, 16:48] = 255
    return Image.fromarray(drawn)


def shown(manager: PipelineManager, task: str, tmp_path: Path) -> dict[str, Any]:
    """The request's fields for a task's pictures."""
    found: dict[str, Any] = {}
    for field, picture in (("image", photograph()), ("mask_image", mask())):
        if task == "inpaint" or (task == "image2image" and field == "image"):
            picture.save(tmp_path / f"{field}.png")
            found[field] = manager.store.put((tmp_path / f"{field}.png").read_bytes()).key
    return found


def request(model: str, **changes: Any) -> GenerationRequest:
    usual = {**WORDS, **SIZE, **STRENGTH, "num_inference_steps": STEPS, "seed": 11, "mask_blur": 0}
    usual |= {"model": model, "scheduler": "Model's own"}
    if model in NO_WORDS:
        usual["prompt"] = ""
    return GenerationRequest.parse(usual | changes)


def run(manager: PipelineManager, request: GenerationRequest) -> tuple[np.ndarray, list[StepEvent]]:
    events: list[Event] = []
    finished = manager.run(request, events.append, Control())
    assert isinstance(finished, Finished)
    told = [event for event in events if isinstance(event, StepEvent)]
    return np.asarray(Image.open(finished.pictures[0].path)), told


def plain_pipeline(models: Path, model: str, class_name: str) -> Any:
    import diffusers

    pipe = getattr(diffusers, class_name).from_pretrained(models / model)
    pipe.set_progress_bar_config(disable=True)
    return as_ours(pipe)


@pytest.mark.parametrize(("model", "task"), PLAIN, ids=lambda value: value)
def test_picture_equals_a_plain_diffusers_call(
    manager: PipelineManager, models: Path, model: str, task: str, tmp_path: Path
) -> None:
    class_name, call = PLAIN[model, task]
    pictures = {
        "image2image": {"image": photograph()},
        "inpaint": {"image": photograph(), "mask_image": mask()},
    }
    pipe = plain_pipeline(models, model, class_name)
    expected = np.asarray(
        pipe(
            **call,
            **pictures.get(task, {}),
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(11),
        ).images[0]
    )
    picture, told = run(manager, request(model, **shown(manager, task, tmp_path)))
    if task == "inpaint":
        painted = np.asarray(mask()) > 0
        assert np.array_equal(picture[~painted], np.asarray(photograph())[~painted])
        picture, expected = picture[painted], expected[painted]
    assert np.array_equal(picture, expected)
    assert expected.std() > 1, "a flat picture proves nothing"
    assert [event.step for event in told] == list(range(1, told[0].total + 1))
    assert len({event.preview for event in told}) == len(told)


def test_every_task_that_a_tiny_model_offers_is_proven(manager: PipelineManager) -> None:
    from pipelines.families import tasks_of

    left = {("qwen-edit", "inpaint")}  # diffusers works at a megapixel there: the tiny one took a minute
    offered = {(spec.key, task) for spec in manager.library.list() for task in tasks_of(spec)}
    assert offered - left == set(PLAIN)


def test_unconditional_samplers_equal_a_plain_call(manager: PipelineManager, models: Path) -> None:
    import diffusers

    from pipelines import schedulers

    spec = manager.library.find("ddpm")
    offered = checks.samplers_of(spec)
    assert set(offered) == {"DDPM", "DDIM", "DPM++ 2M", "DPM++ 2M SDE", "DPM++ 3M SDE", "Model's own"}
    for sampler in offered[:-1]:
        pipe = plain_pipeline(models, "ddpm", "DDPMPipeline")
        cls = getattr(diffusers, schedulers.SAMPLERS[sampler].diffusion)
        settings = schedulers.settings(sampler, "Automatic")
        pipe.scheduler = cls.from_config(pipe.scheduler.config, **settings)
        generator = torch.Generator().manual_seed(11)
        expected = pipe(num_inference_steps=STEPS, generator=generator).images[0]
        picture, told = run(manager, request("ddpm", scheduler=sampler))
        assert np.array_equal(picture, np.asarray(expected)), sampler
        assert [event.step for event in told] == list(range(1, STEPS + 1))


@pytest.mark.parametrize(("model", "side"), [("ddpm", 64), ("ddim", 32)])
def test_a_model_without_words_keeps_to_its_own_size(manager: PipelineManager, model: str, side: int) -> None:
    """Also to one that is smaller than what may be asked for, as the DDPM paper's first models paint."""
    usual, _ = run(manager, request(model))
    other = request(model, width=128, height=96, guidance_scale=9, prompt="ignored", subseed_strength=0.5)
    changed = manager.run(other.resolved(), lambda event: None, Control()).pictures[0]
    assert usual.shape == (side, side, 3) and np.array_equal(usual, np.asarray(Image.open(changed.path)))
    read = metadata.read_fields(changed.path)
    assert (read["width"], read["height"]) == (side, side)
    GenerationRequest.parse({"prompt": "", "width": side, "height": side})


@pytest.mark.parametrize("model", ["ddpm", "pixart-sigma", "kandinsky22"])
def test_runs_without_callbacks_are_cancelled_after_a_step(manager: PipelineManager, model: str) -> None:
    control, seen = Control(), []

    def emit(event: Event) -> None:
        if isinstance(event, StepEvent):
            seen.append(event)
            if event.step == 2:
                control.stop(keep=False)

    with pytest.raises(GenerationCancelled):
        manager.run(request(model, num_inference_steps=6), emit, control)
    assert len(seen) == 2


def test_a_priors_steps_can_be_cancelled_too(manager: PipelineManager) -> None:
    from diffusers import UnCLIPScheduler

    control, asked = Control(), []
    step = UnCLIPScheduler.step

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(1)
        control.stop(keep=False)
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UnCLIPScheduler, "step", counted)
        with pytest.raises(GenerationCancelled):
            manager.run(request("kandinsky22"), lambda event: None, control)
    assert len(asked) == 1


@pytest.mark.parametrize("model", ["ddpm", "pixart-sigma", "if", "lcm", "sana"])
def test_stop_and_keep_keeps_the_predicted_picture(
    manager: PipelineManager, models: Path, model: str
) -> None:
    control = Control()
    previews: list[bytes] = []

    def emit(event: Event) -> None:
        if isinstance(event, StepEvent):
            previews.append(event.preview)
            if event.step == 2:
                control.stop(keep=True)

    kept = manager.run(request(model, num_inference_steps=8), emit, control)
    assert kept.stopped and len(previews) == 2
    assert "Stopped at step: 2" in kept.pictures[0].parameters

    class_name, call = PLAIN[model, "text2image"]
    pipe = plain_pipeline(models, model, class_name)
    predicted: list[torch.Tensor] = []
    step = pipe.scheduler.step

    def watched(output: torch.Tensor, timestep: Any, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        told = step(output, timestep, sample, *args, **{**kwargs, "return_dict": True})
        x0 = getattr(told, "denoised", None)
        x0 = getattr(told, "pred_original_sample", None) if x0 is None else x0
        if x0 is None:  # flow matching, and DPM-Solver of a variance preserving model
            s = pipe.scheduler.sigmas[pipe.scheduler.step_index - 1]
            flow = "Flow" in type(pipe.scheduler).__name__
            alpha = 1 / (s**2 + 1) ** 0.5
            x0 = sample - s * output if flow else (sample - s * alpha * output) / alpha
        predicted.append(x0)
        return told if kwargs.get("return_dict", True) else told.to_tuple()

    import functools

    pipe.scheduler.step = functools.wraps(step)(watched)
    pipe(**call, num_inference_steps=8, generator=torch.Generator().manual_seed(11))
    x0 = predicted[1]
    if "vae" in pipe.components:
        with torch.no_grad():
            x0 = pipe.vae.decode(x0 / pipe.vae.config.scaling_factor, return_dict=False)[0]
    pixels = ((x0 / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    picture = np.asarray(Image.open(kept.pictures[0].path))
    assert np.abs(picture.astype(int) - pixels).max() <= 1
    if "vae" not in pipe.components:  # pixel space: what was shown is what is kept
        import io

        seen = np.asarray(Image.open(io.BytesIO(previews[1]))).astype(int)
        assert np.abs(seen - picture).mean() < 6  # JPEG


WITHOUT_CURVE = {"ddpm", "ddim", "sana-sprint"}
"""Models without guidance, or with one that is told otherwise."""
UNGUIDED = {"flux-fill", "flux-kontext"}
"""Tiny ones whose transformer has no input for it, as FLUX.1 [schnell]: no guidance counts."""
SLOW = {"qwen-edit"}
"""diffusers works at a megapixel there, and as in qwen-image."""


@pytest.mark.parametrize("model", [*dict.fromkeys(name for name, _ in PLAIN if name not in SLOW)])
def test_guidance_follows_a_curve(manager: PipelineManager, model: str, tmp_path: Path) -> None:
    from pipelines.families import fields_of, tasks_of

    spec = manager.library.find(model)
    assert ("guidance_points" in fields_of(spec)) == (model not in WITHOUT_CURVE)
    if model in WITHOUT_CURVE:
        return
    task = "text2image" if "text2image" in tasks_of(spec) else next(iter(tasks_of(spec)))
    given = {**shown(manager, task, tmp_path), "num_inference_steps": 2}
    level, _ = run(manager, request(model, **given))
    # The peak lies where no step begins.
    same, _ = run(manager, request(model, **given, guidance_points=[[0, 4], [0.97, 4], [1, 9]]))
    assert np.array_equal(level, same)
    fading, _ = run(manager, request(model, **given, guidance_points=[[0, 30], [1, 1]]))
    assert np.array_equal(level, fading) == (model in UNGUIDED)


@pytest.mark.parametrize("model", ["if", "kandinsky22", "qwen-image", "flux2-klein", "sana"])
def test_variation_leads_from_one_seed_to_the_other(manager: PipelineManager, model: str) -> None:
    own, _ = run(manager, request(model))
    full, _ = run(manager, request(model, subseed=99, subseed_strength=1.0))
    half, _ = run(manager, request(model, subseed=99, subseed_strength=0.5))
    assert not np.array_equal(own, half) and not np.array_equal(half, full)
    assert not np.array_equal(own, full)
