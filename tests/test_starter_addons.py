"""The storybook's LoRAs and model of pixels: every stage runs and goes on, what measures them is sound."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, LCMScheduler, StableDiffusionPipeline
from safetensors import safe_open
from transformers import CLIPTokenizer

from pipelines.starter import denoiser, evaluate, evaluate_addons, paths, pixels, styles, text, train, vae
from pipelines.starter.adapters import Adapter, Card, load_adapter
from pipelines.starter.data import draw_shard, held_out_scenes
from pipelines.starter.scenes import paint
from pipelines.starter.tokenizer import train_tokenizer

STAGES = ("paths", "few-steps", "styles", "pixels")
LORAS = {
    "fewer": "storybook-4-steps.safetensors",
    "style-ink": "storybook-ink.safetensors",
    "style-mosaic": "storybook-mosaic.safetensors",
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks as small as these gain nothing from more threads, and lose much where other programs run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# The stages, at tiny size ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with an untrained model and a few drawings, before any stage of the add-ons."""
    folder = tmp_path_factory.mktemp("addons")
    torch.manual_seed(0)
    train_tokenizer(folder / "tokenizer", captions=200)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    unet = denoiser.new_unet((16, 32))
    unet.register_to_config(sample_size=8)
    StableDiffusionPipeline(
        vae=vae.new_vae((8, 8, 16, 16)),
        text_encoder=text.new_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(**denoiser.NOISE, clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "model")
    draw_shard(folder, 0, count=6)
    return folder


def run(folder: Path, *stages: str, steps: int) -> None:
    places = {"work": ".", "out": "model", "loras": "loras", "pixels": "pixels"}
    options = [part for name, place in places.items() for part in (f"--{name}", str(folder / place))]
    settings = f"--device cpu --workers 1 --no-compile --paths 1 --path-shard 3 --batch 2 --steps {steps}"
    train.main([*stages, *options, *settings.split()])


def run_apart(folder: Path, model: Path, stage: str) -> None:
    """One stage in an empty `folder`."""
    settings = "--device cpu --workers 1 --no-compile --steps 8"
    train.main([stage, "--work", str(folder), "--out", str(model), *settings.split()])


@pytest.fixture(scope="module")
def trained(work) -> Path:
    """`work` after every stage was interrupted once and went on."""
    for steps in (8, 16):
        run(work, *STAGES, steps=steps)
        for name in (*LORAS, "pixels"):
            saved = torch.load(work / "checkpoints" / f"{name}-0.pt", weights_only=True)
            assert saved["step"] == steps, name
    run(work, "export-addons", steps=16)
    return work


def guess(unet: torch.nn.Module) -> torch.Tensor:
    """What `unet` predicts for latents and words of one seed."""
    draw = torch.Generator().manual_seed(3)
    latents, words = torch.randn(1, 4, 8, 8, generator=draw), torch.randn(1, 77, 160, generator=draw)
    with torch.no_grad():
        return unet(latents, 500, words).sample


@pytest.mark.parametrize("course", LORAS)
def test_a_lora_read_by_diffusers_paints_what_was_learned(trained, course):
    learned, plain = load_adapter(trained, trained / "model", course), text_to_image(trained)
    before = guess(plain.unet)
    plain.load_lora_weights(trained / "loras", weight_name=LORAS[course])
    after = guess(plain.unet)
    unet = text_to_image(trained).unet
    twin = Adapter(unet)
    twin.load_state_dict(learned.state_dict())
    assert (guess(unet) - after).abs().max() < 2e-3 * after.abs().max()  # the file is in half precision
    assert (before - after).abs().max() > 1e-3 * after.abs().max()
    plain.unload_lora_weights()
    assert torch.equal(guess(plain.unet), before)


def text_to_image(folder: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(folder / "model")


def test_a_lora_says_what_it_is(trained):
    with safe_open(trained / "loras" / LORAS["fewer"], "pt") as file:
        told = file.metadata()
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    assert told["title"] == "Storybook in 4 steps" and told["trigger_words"] == ""
    suited = {"scheduler": "LCM", "num_inference_steps": 4, "guidance_scale": 1.0}
    assert json.loads(told["darkroom"]) == suited


def test_a_new_adapter_changes_nothing(work):
    unet = text_to_image(work).unet
    before = guess(unet)
    Adapter(unet)
    assert torch.equal(guess(unet), before)


def test_the_model_of_pixels_is_a_pipeline_with_settings_to_begin_with(trained):
    pipe = DDPMPipeline.from_pretrained(trained / "pixels")
    pipe.set_progress_bar_config(disable=True)
    painted = pipe(num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="np").images
    assert painted.shape == (1, pixels.SIDE, pixels.SIDE, 3) and np.isfinite(painted).all()
    told = json.loads((trained / "pixels" / "examples.json").read_text(encoding="utf-8"))
    assert told["title"] == "Storybook pixels" and told["defaults"]["width"] == pixels.SIDE


def test_a_readme_beside_the_model_of_pixels_outlives_its_export(trained):
    readme = trained / "pixels" / "README.md"
    readme.write_text("A card.", encoding="utf-8")
    run(trained, "export-addons", steps=16)
    assert readme.read_text(encoding="utf-8") == "A card."


def test_stages_without_what_they_need_say_which_stage_comes_first(work, tmp_path):
    for stage, wanted in (("few-steps", "'paths'"), ("pixels", "'draw'"), ("styles", "'draw'")):
        with pytest.raises(FileNotFoundError, match=wanted):
            run_apart(tmp_path, work / "model", stage)


# Paths -------------------------------------------------------------------------------------------------


def test_a_path_is_what_the_pipeline_paints(work):
    pipe = text_to_image(work)
    pipe.scheduler = paths.DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    captions = ["a red house", "a cat at night"]
    with torch.autocast("cpu", torch.bfloat16):
        wanted = pipe(
            captions, timesteps=list(paths.TIMES), guidance_scale=5.0, latents=noise, output_type="latent"
        ).images
    network, empty = paths.load_network(work / "model"), text.tokens(pipe.tokenizer, [""])
    states = paths.walk(network, text.tokens(pipe.tokenizer, captions), empty, noise)
    assert states.shape == (2, 13, 4, 8, 8) and torch.equal(states[:, 0], noise)
    assert (states[:, -1] - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_lcm_steps_stand_on_the_paths(work):
    scheduler = LCMScheduler.from_config(text_to_image(work).scheduler.config)
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [paths.TIMES[place] for place in (0, 3, 6, 9)]


# Styles ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    return np.stack([paint(scene).pixels for scene in held_out_scenes(6)])


def test_the_filters_make_what_the_measures_look_for(drawn):
    before = drawn.copy()
    sketched, tiled = (np.stack([styles.FILTERS[name](one) for one in drawn]) for name in ("ink", "mosaic"))
    assert np.array_equal(drawn, before) and sketched.shape == tiled.shape == drawn.shape
    assert styles.greyness(sketched) == 1 and styles.greyness(drawn) < 0.5
    assert styles.tile_error(tiled) == 0 and styles.tile_error(drawn) > 4
    assert (sketched > 200).mean() > 0.1 and (sketched < 60).mean() > 0.01  # there are paper and lines


def test_filters_are_deterministic(drawn):
    for change in styles.FILTERS.values():
        assert np.array_equal(change(drawn[0]), change(drawn[0]))


# Measuring ---------------------------------------------------------------------------------------------


def test_settings_load_the_lora_and_the_scheduler_they_name(trained):
    settings = evaluate.Settings(trained / "model", trained / "loras" / LORAS["fewer"], "LCM", 4, 1.0)
    pipe = settings.load()
    assert isinstance(pipe.scheduler, LCMScheduler) and pipe.get_active_adapters()
    assert settings.paint(pipe, ["a house"], [1])[0].size == (64, 64)


def test_a_card_names_its_file():
    assert Card("ink", "Ink", "").file == "storybook-ink.safetensors"


def test_drawn_scenes_are_nearer_to_drawn_scenes_than_noise_is():
    drawn = [paint(scene).pixels for scene in held_out_scenes(24, seed=40)]
    told = evaluate_addons.measure_pixels(
        [cv2.resize(one, (64, 64), interpolation=cv2.INTER_AREA) for one in drawn], evaluate.WEIGHTS
    )
    assert told["drawn"]["sure of the time"] > told["noise"]["sure of the time"]
    assert told["made"]["distance"] < 0.3 * told["noise"]["distance"]


def test_pictures_of_the_model_of_pixels_follow_from_their_seeds(trained):
    first, again = (evaluate_addons.sample(trained / "pixels", 2, steps=2) for _ in range(2))
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert first[0].shape == (pixels.SIDE, pixels.SIDE, 3) and not np.array_equal(*first)


def test_what_a_style_leaves_to_find_is_measured_through_the_autoencoder(trained):
    told = evaluate_addons.measure_filters(trained / "model", 4, evaluate.WEIGHTS)
    assert list(told) == ["plain", "ink", "mosaic"]
    assert told["plain"]["asked"] == told["ink"]["asked"]
