"""Runs that begin with pictures or follow maps: what is kept equals a plain diffusers call, bit for bit.

The oracle is written out by hand: diffusers' own class loaded from the folder, its scheduler, and pictures
brought to the size by Pillow.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import pipelines
from pipelines import devices, metadata
from pipelines.events import Event, Failed, Finished, StepEvent
from pipelines.library.models import ASSETS, ModelLibrary
from pipelines.manager import PipelineManager
from pipelines.outputs import Outputs
from pipelines.pictures import PictureStore
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.run import Control, GenerationCancelled
from pipelines.worker import Worker
from tests.support import tiny
from tests.support.led import picture
from tests.support.plain import as_ours

PROMPT = "a red house in the snow"
SEED = 11
KARRAS = {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True}
SAMPLERS: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "starter": ("DPM++ 2M", "DPMSolverMultistepScheduler", KARRAS),
    "sd": ("Euler a", "EulerAncestralDiscreteScheduler", {}),
    "sdxl": ("UniPC", "UniPCMultistepScheduler", {}),
    "sd-nine": ("DDIM", "DDIMScheduler", {}),
    "sd3": ("Euler", "FlowMatchEulerDiscreteScheduler", {}),
    "sd3-16": ("Euler", "FlowMatchEulerDiscreteScheduler", {}),
    "flux": ("Euler", "FlowMatchEulerDiscreteScheduler", {}),
}
"""Model -> sampler, and by hand the class and settings behind it."""

SD = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline")
SD_LED = (
    "StableDiffusionControlNetPipeline",
    "StableDiffusionControlNetImg2ImgPipeline",
    "StableDiffusionControlNetInpaintPipeline",
)
TASKS = ("text2image", "image2image", "inpaint")
PLAIN = {
    "starter": SD,
    "sd": SD,
    "sdxl": (
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
    ),
    "sd-nine": (None, None, "StableDiffusionInpaintPipeline"),
    "sd3": ("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline", None),
    # diffusers' pipeline takes transformers of 16 or 33 channels only; so the tiny one of 4 has a sister.
    "sd3-16": (None, None, "StableDiffusion3InpaintPipeline"),
    "flux": ("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline"),
}
LED = {
    "starter": SD_LED,
    "sd": SD_LED,
    "sdxl": (
        "StableDiffusionXLControlNetPipeline",
        "StableDiffusionXLControlNetImg2ImgPipeline",
        "StableDiffusionXLControlNetInpaintPipeline",
    ),
    "sd-nine": (None, None, "StableDiffusionControlNetInpaintPipeline"),
    "sd3": ("StableDiffusion3ControlNetPipeline", None, None),
    "flux": ("FluxControlNetPipeline", "FluxControlNetImg2ImgPipeline", "FluxControlNetInpaintPipeline"),
}
NETWORKS = {
    "starter": ("storybook-pose", "storybook-edge"),
    "sd": ("sd-canny", "sd-pose"),
    "sdxl": ("sdxl-canny", "sdxl-canny"),
    "sd-nine": ("sd-canny", "sd-pose"),
    "sd3": ("sd3-canny", "sd3-canny"),
    "flux": ("flux-canny", "flux-canny"),
}
CONTROLNETS = {"sd3": "SD3ControlNetModel", "flux": "FluxControlNetModel"}
HAS_CONTROLS = (ASSETS / "controlnets" / "storybook-pose" / "config.json").is_file()


def _cells() -> Iterator[Any]:
    for model, (index, task), count in itertools.product(PLAIN, enumerate(TASKS), (0, 1, 2)):
        names = LED.get(model) if count else PLAIN[model]
        if names is None or names[index] is None:
            continue
        if model == "starter" and (count == 2 or (count and not HAS_CONTROLS)):
            continue
        yield pytest.param(model, task, names[index], count, id=f"{model}-{task}-{count}")


@pytest.fixture(scope="module")
def models(tiny_controls: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The tiny models, an SD3 of 16 channels, which its inpainting pipeline wants, and an SD made for it."""
    more = tmp_path_factory.mktemp("more")
    tiny.sd_inpaint().save_pretrained(more / "sd-nine", safe_serialization=True)
    wide_sd3().save_pretrained(more / "sd3-16", safe_serialization=True)
    return tiny_controls, more


def wide_sd3() -> Any:
    from diffusers import AutoencoderKL, SD3Transformer2DModel

    pipe = tiny.sd3()
    torch.manual_seed(0)
    wide = {"in_channels": 16, "out_channels": 16}
    pipe.register_modules(
        transformer=SD3Transformer2DModel.from_config({**pipe.transformer.config, **wide}).eval(),
        vae=AutoencoderKL.from_config({**pipe.vae.config, "latent_channels": 16}).eval(),
    )
    return pipe


@pytest.fixture(scope="module")
def manager(models: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> PipelineManager:
    return PipelineManager(
        ModelLibrary(models),
        devices.choose("cpu", "float32"),
        Outputs(tmp_path_factory.mktemp("outputs")),
        PictureStore(tmp_path_factory.mktemp("inputs")),
    )


@pytest.fixture(scope="module")
def plain(models: tuple[Path, ...]) -> Callable[..., Any]:
    """Loads diffusers' own pipeline of a class name, as its documentation says."""

    def folder(model: str) -> Path:
        if model == "starter":
            return ASSETS / "starter"
        return next(place / model for place in models if (place / model).is_dir())

    def network(model: str, key: str) -> Any:
        import diffusers

        place = ASSETS / "controlnets" if model == "starter" else models[0] / "ControlNet"
        return getattr(diffusers, CONTROLNETS.get(model, "ControlNetModel")).from_pretrained(place / key)

    def load(model: str, class_name: str, count: int = 0) -> Any:
        import diffusers

        networks = [network(model, key) for key in NETWORKS.get(model, ())[:count]]
        more = {"controlnet": networks if count > 1 else networks[0]} if count else {}
        pipe = getattr(diffusers, class_name).from_pretrained(folder(model), **more)
        _, scheduler, settings = SAMPLERS[model]
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config, **settings)
        as_ours(pipe)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return load


def put(manager: PipelineManager | Worker, image: Image.Image) -> str:
    from io import BytesIO

    buffer = BytesIO()
    image.save(buffer, "PNG")
    return manager.store.put(buffer.getvalue()).key


def photo(side: int = 128, seed: int = 0) -> Image.Image:
    """Smooth colours with a shape in them."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    image = Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC)
    ImageDraw.Draw(image).ellipse((side // 3, side // 4, side // 2, side // 2), fill=(200, 40, 30))
    return image


def square(side: int = 128, grey: int = 255) -> Image.Image:
    mask = Image.new("L", (side, side))
    mask.paste(grey, (side // 4, side // 4, side * 3 // 4, side * 5 // 8))
    return mask


def request(model: str = "sd", **changes: Any) -> GenerationRequest:
    side = 256 if model == "starter" else 64
    usual = {
        "prompt": PROMPT,
        "model": model,
        "width": side,
        "height": side,
        "num_inference_steps": 4,
        "guidance_scale": 4.0,
        "scheduler": SAMPLERS[model][0],
        "seed": SEED,
        "mask_blur": 0,
    }
    return GenerationRequest.parse(usual | changes)


def repainting(manager: PipelineManager, model: str = "sd", **changes: Any) -> GenerationRequest:
    side = 256 if model == "starter" else 128
    usual = {"image": put(manager, photo(side)), "mask_image": put(manager, square(side))}
    return request(model, **(usual | changes))


def run(manager: PipelineManager, request: GenerationRequest) -> list[Event]:
    events: list[Event] = []
    events.append(manager.run(request, events.append, Control()))
    return events


def kept(events: list[Event], index: int = 0) -> np.ndarray:
    assert isinstance(events[-1], Finished)
    return np.asarray(Image.open(events[-1].pictures[index].path))


def steps(events: list[Event]) -> list[StepEvent]:
    return [event for event in events if isinstance(event, StepEvent)]


# -------------------------------------------------------------------------------------- the same as diffusers


@pytest.mark.parametrize(("model", "task", "class_name", "count"), list(_cells()))
def test_the_kept_picture_is_diffusers_own(
    manager: PipelineManager, plain: Callable[..., Any], model: str, task: str, class_name: str, count: int
) -> None:
    side, given = (256, 256) if model == "starter" else (64, 128)
    maps = [picture(40 + index, (side, side)) for index in range(count)]
    units = [
        {
            "model": key,
            "map_image": put(manager, drawn),
            "controlnet_conditioning_scale": 0.8,
            "control_guidance_end": end,
        }
        for key, drawn, end in zip(NETWORKS.get(model, ()), maps, (1.0, 0.7))
    ]
    wanted: dict[str, Any] = {"controls": units}
    call: dict[str, Any] = {
        "prompt": PROMPT,
        "num_inference_steps": 4,
        "guidance_scale": 4.0,
        "generator": torch.Generator().manual_seed(SEED),
    }
    shown, mask = photo(given), square(given)
    if task == "image2image":
        # One and a half times as wide as high; the middle is cut out, then scaled.
        shown = photo(given).resize((given * 3 // 2, given))
        left = given // 4
        sized = shown.resize((side, side), Image.Resampling.LANCZOS, box=(left, 0, left + given, given))
        wanted |= {"image": put(manager, shown), "strength": 0.6}
        call |= {"image": sized, "strength": 0.6}
    elif task == "inpaint":
        wanted |= {"image": put(manager, shown), "mask_image": put(manager, mask), "strength": 0.8}
        call |= {
            "image": shown.resize((side, side), Image.Resampling.LANCZOS),
            "mask_image": mask.resize((side, side), Image.Resampling.LANCZOS),
            "strength": 0.8,
        }
    if task != "image2image" or "flux" in model or model == "sd3":
        call |= {"width": side, "height": side}
    if count:
        many = count > 1
        name = "image" if task == "text2image" and model in ("starter", "sd", "sdxl") else "control_image"
        call |= {
            name: maps if many else maps[0],
            "controlnet_conditioning_scale": [0.8] * count if many else 0.8,
            "control_guidance_end": [1.0, 0.7] if many else 1.0,
        }
        if many:
            call["control_guidance_start"] = [0.0, 0.0]
        if many and model == "flux":
            call["control_mode"] = [None, None]

    ours = kept(run(manager, request(model, **wanted)))
    torch.manual_seed(0)  # where diffusers draws the latents of SD3's maps from
    painted = plain(model, class_name, count)(**call).images[0]
    if task == "inpaint":
        back = painted.resize(shown.size, Image.Resampling.LANCZOS)
        expected = np.where(np.asarray(mask)[..., None] > 0, np.asarray(back), np.asarray(shown))
        assert not np.array_equal(expected, np.asarray(shown))
    else:
        expected = np.asarray(painted)
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize("model", ["sd", "flux"])
def test_the_masked_part_alone_and_its_part_of_the_map_are_shown(
    manager: PipelineManager, plain: Callable[..., Any], model: str
) -> None:
    """The mask's 64 x 48 pixels without padding, made square: the run's size, so nothing is scaled."""
    box = (32, 24, 96, 88)
    shown, mask, drawn = photo(), square(), picture(7, (128, 128))
    unit = {"model": NETWORKS[model][0], "map_image": put(manager, drawn)}
    wanted = repainting(
        manager, model, inpaint_area="only masked", mask_padding=0, strength=0.8, controls=[unit]
    )
    ours = kept(run(manager, wanted))
    painted = plain(model, str(LED[model][2]), 1)(
        prompt=PROMPT,
        image=shown.crop(box),
        mask_image=mask.crop(box),
        control_image=drawn.crop(box),
        controlnet_conditioning_scale=1.0,  # diffusers' own default differs by pipeline
        width=64,
        height=64,
        strength=0.8,
        num_inference_steps=4,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(SEED),
    ).images[0]
    expected = shown.copy()
    expected.paste(painted, box[:2], mask.crop(box))
    assert np.array_equal(ours, np.asarray(expected))


# ------------------------------------------------------------------------------- steps, previews and stopping


@pytest.mark.parametrize(
    ("model", "sampler", "runs"),
    [
        ("sd", "Euler a", 10),
        ("sd", "PLMS", 10),
        ("sd", "UniPC", 10),
        ("sd", "Heun", 20),
        ("sd3-16", "Heun", 20),
        ("sdxl", "DPM++ 2M", 10),
        ("sd3-16", "Euler", 10),
        ("flux", "Euler", 10),
    ],
)
def test_half_the_strength_runs_half_of_the_steps_and_shows_each(
    manager: PipelineManager, model: str, sampler: str, runs: int
) -> None:
    wanted = repainting(manager, model, strength=0.5, num_inference_steps=20, scheduler=sampler)
    counted = []
    denoiser = manager.load(model).pipeline
    module = getattr(denoiser, "unet", None) or denoiser.transformer
    hook = module.register_forward_hook(lambda *_: counted.append(1))
    try:
        told = steps(run(manager, wanted))
    finally:
        hook.remove()
    assert [event.step for event in told] == list(range(1, told[0].total + 1))
    assert len(told) == len(counted)
    assert abs(len(told) - runs) <= (sampler in ("PLMS", "Heun"))
    assert len({event.preview for event in told}) >= len(told) - 1
    sizes = {Image.open(_file(event.preview)).size for event in told}
    assert sizes == {(32, 32)}


def _file(data: bytes) -> Any:
    from io import BytesIO

    return BytesIO(data)


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "UniPC"])
def test_flux_without_a_shift_by_size_runs_with_every_sampler_offered(
    manager: PipelineManager, sampler: str
) -> None:
    told = steps(run(manager, request("flux", scheduler=sampler)))
    assert [round(event.sigma or 0, 1) for event in told[1:]] == [
        3.0,
        1.0,
        0.3,
    ]  # shares 3/4, 1/2, 1/4 of noise


@pytest.mark.parametrize("model", ["sd", "sd3", "flux"])
def test_previews_come_near_the_picture(manager: PipelineManager, model: str) -> None:
    image = photo(64, seed=5)
    wanted = request(model, image=put(manager, image), strength=0.05, num_inference_steps=20)
    told = steps(run(manager, wanted))
    seen = np.asarray(Image.open(_file(told[-1].preview)).resize((64, 64)), float)
    flat = np.full_like(seen, np.asarray(image, float).mean((0, 1)))
    off, dull = np.abs(seen - np.asarray(image)).mean(), np.abs(flat - np.asarray(image)).mean()
    assert seen.shape == (64, 64, 3) and off < 3 * dull


@pytest.mark.parametrize("model", ["sd", "sdxl", "sd-nine", "sd3-16", "flux"])
def test_a_repainting_is_stopped_within_a_step(manager: PipelineManager, model: str) -> None:
    wanted = repainting(manager, model, num_inference_steps=20, batch_count=2)
    for keep in (False, True):
        control, seen = Control(), []

        def emit(event: Event, control: Control = control, keep: bool = keep, seen: list = seen) -> None:
            if isinstance(event, StepEvent):
                seen.append(event)
                if event.step == 2:
                    control.stop(keep=keep)

        if not keep:
            with pytest.raises(GenerationCancelled):
                manager.run(wanted, emit, control)
        else:
            finished = manager.run(wanted, emit, control)
            assert finished.stopped and len(finished.pictures) == 1
            assert "Stopped at step: 2" in finished.pictures[0].parameters
            result = np.asarray(Image.open(finished.pictures[0].path))
            outside = np.asarray(square()) == 0
            assert np.array_equal(result[outside], np.asarray(photo())[outside])
            assert not np.array_equal(result, np.asarray(photo()))
        assert len(seen) == 2


def test_image_to_image_is_stopped_and_kept(manager: PipelineManager) -> None:
    control = Control()
    wanted = request(image=put(manager, photo(64)), num_inference_steps=20)
    finished = manager.run(wanted, lambda event: control.stop(keep=True), control)
    assert finished.stopped and "Stopped at step: 1" in finished.pictures[0].parameters


@pytest.mark.parametrize("changes", [{}, {"masked_content": "latent noise"}, {"soft_inpainting": True}])
def test_a_batchs_repaintings_are_the_single_ones(manager: PipelineManager, changes: dict[str, Any]) -> None:
    grey = put(manager, square(grey=128 if "soft_inpainting" in changes else 255))
    batch = run(manager, repainting(manager, batch_count=3, mask_image=grey, **changes))
    pictures = [kept(batch, index) for index in range(3)]
    for index, found in enumerate(pictures):
        alone = kept(run(manager, repainting(manager, seed=SEED + index, mask_image=grey, **changes)))
        assert np.array_equal(found, alone)
    assert not np.array_equal(pictures[0], pictures[1])


# --------------------------------------------------------------------------------------------- large and deep


def test_a_part_of_a_large_photo_is_painted_and_the_rest_kept(manager: PipelineManager) -> None:
    original = np.asarray(photo(4000).resize((4000, 3000)))
    mask = Image.new("L", (4000, 3000))
    mask.paste(255, (1200, 900, 1500, 1160))
    events = run(
        manager,
        request(
            "starter",
            num_inference_steps=2,
            image=put(manager, Image.fromarray(original)),
            mask_image=put(manager, mask),
            mask_blur=4,
            inpaint_area="only masked",
        ),
    )
    result = kept(events)
    assert result.shape == (3000, 4000, 3)
    reach = 10  # of the blur: 2.5 sigma
    far = np.ones((3000, 4000), bool)
    far[900 - reach : 1160 + reach, 1200 - reach : 1500 + reach] = False
    assert np.array_equal(result[far], original[far])
    assert (result[950:1100, 1250:1450] != original[950:1100, 1250:1450]).any(axis=2).mean() > 0.9
    finished = events[-1]
    assert isinstance(finished, Finished)
    note = next(note for note in finished.notes if "bit for bit" in note)
    told = int(note.split()[0].replace(",", ""))
    assert far.sum() <= told <= (np.asarray(mask) == 0).sum()
    assert told <= (result == original).all(axis=2).sum()


def test_sixteen_bits_stay_sixteen_and_carry_their_text(manager: PipelineManager, tmp_path: Path) -> None:
    deep = np.random.default_rng(3).integers(0, 65536, (128, 128, 3), np.uint16)
    assert cv2.imwrite(str(tmp_path / "deep.png"), deep)
    key = manager.store.put(tmp_path / "deep.png").key
    events = run(manager, repainting(manager, "starter", image=key, mask_image=put(manager, square())))
    finished = events[-1]
    assert isinstance(finished, Finished)
    path = Path(finished.pictures[0].path)
    result = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert result.dtype == np.uint16 and result.shape == deep.shape
    outside = np.asarray(square()) == 0
    assert np.array_equal(result[outside], deep[outside])
    assert not np.array_equal(result[~outside], deep[~outside])
    assert metadata.read(path) == finished.pictures[0].parameters


# --------------------------------------------------------------------------- what cannot be is told, in words


@pytest.fixture(scope="module")
def worker(models: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    data = tmp_path_factory.mktemp("data")
    with pipelines.open(data, models=models, device="cpu", dtype="float32") as worker:
        yield worker


def unit(**changes: Any) -> dict[str, Any]:
    return {"model": "sd-canny", "map_image": "0" * 32} | changes


def test_what_no_pipeline_or_model_can_do_is_refused_before_the_run(worker: Worker) -> None:
    shown, mask = put(worker, photo(64)), put(worker, square(64))
    both: dict[str, Any] = {"image": shown, "mask_image": mask}
    sd3 = [unit(model="sd3-canny", map_image=shown)]
    refused: list[tuple[GenerationRequest, str, str]] = [
        (request("sd3", image=shown, controls=sd3), "controls", "no pipeline for image to image on SD3"),
        (request("sd3", **both, controls=sd3), "controls", "no pipeline for inpainting on SD3"),
        (request("sd", controls=[unit(model="sdxl-canny")]), "controls", "is made for"),
        (request("flux", controls=[unit()]), "controls", "is made for"),
        (request("sd", controls=[unit(model="nope")]), "controls", "no ControlNet called"),
        (request("sd-nine"), "model", "wants a picture and a mask"),
        (request("sd-nine", image=shown), "model", "wants a picture and a mask"),
        (request("sd3", image=shown, scheduler="DPM++ 2M"), "scheduler", "cannot begin with a picture"),
        (request("flux", **both, scheduler="UniPC"), "scheduler", "cannot begin with a picture"),
        (request("flux", image=shown, scheduler="Heun"), "scheduler", r"Choose one of Euler, Model's own\.$"),
        (request("flux", scheduler="Heun"), "scheduler", "cannot follow the schedule"),
        (request("flux", image=shown, scheduler="LCM"), "scheduler", "flow matching"),
        (request("sd", image=shown, subseed_strength=0.5), "subseed_strength", "from text alone"),
        (request("sd", **both, subseed_strength=0.5), "subseed_strength", "from text alone"),
    ]
    for wanted, field, sentence in refused:
        with pytest.raises(InvalidRequest, match=sentence) as problem:
            worker.submit(wanted)
        assert list(problem.value.problems) == [field]
    assert worker.running() == []


def test_bad_pictures_end_in_a_sentence_and_the_next_job_runs(worker: Worker) -> None:
    shown, mask = put(worker, photo(64)), put(worker, square(64))
    gone = "f" * 32
    bad: list[tuple[dict[str, Any], str, str]] = [
        ({"image": gone}, "image", "no longer kept"),
        ({"image": gone, "mask_image": mask}, "image", "no longer kept"),
        ({"image": shown, "mask_image": gone}, "mask_image", "no longer kept"),
        ({"controls": [unit(map_image=gone)]}, "controls", "no longer kept"),
        ({"image": shown, "controls": [unit(map_image=gone)]}, "controls", "no longer kept"),
        (
            {"image": shown, "mask_image": put(worker, square(128).resize((128, 64)))},
            "mask_image",
            "another shape",
        ),
        ({"image": shown, "mask_image": put(worker, Image.new("L", (64, 64)))}, "mask_image", "is empty"),
        (
            {"image": shown, "mask_image": put(worker, Image.new("L", (64, 64), 255)), "mask_inverted": True},
            "mask_image",
            "is empty",
        ),
    ]  # fmt: skip
    for changes, field, sentence in bad:
        *_, ending = worker.stream(request(**changes))
        assert isinstance(ending, Failed) and not ending.detail, ending
        assert list(ending.problems) == [field]
        assert sentence in ending.message
    assert isinstance(list(worker.stream(request(image=shown, mask_image=mask)))[-1], Finished)


def test_a_picture_that_was_lost_between_two_runs_is_told(worker: Worker) -> None:
    shown = put(worker, photo(64, seed=77))
    assert isinstance(list(worker.stream(request(image=shown)))[-1], Finished)
    for path in worker.store.root.glob(f"{shown}.*"):
        path.write_bytes(path.read_bytes()[:300])
    *_, ending = worker.stream(request(image=shown))
    assert isinstance(ending, Failed) and list(ending.problems) == ["image"] and "cut off" in ending.message
