"""The embedded model as it is shipped: plain diffusers loads it, it is small, and its pictures follow their
prompts, as read by the attribute reader."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting, StableDiffusionPipeline
from PIL import Image

from pipelines.starter.data import held_out_scenes
from pipelines.starter.evaluate import generate, load_model, reader_accuracy
from pipelines.starter.reader import WEIGHTS, read_attributes, read_many
from pipelines.starter.scenes import paint
from pipelines.starter.vae import psnr

ASSETS = Path(__file__).resolve().parents[1] / "assets"
MODEL = ASSETS / "starter"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """So small a model gains little from more threads, and loses much where other programs run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    return load_model(MODEL)


def test_it_is_small():
    total = sum(path.stat().st_size for path in MODEL.rglob("*") if path.is_file())
    assert total <= 30e6
    assert WEIGHTS.stat().st_size <= 2e6


def test_its_files_name_no_path_of_another_machine():
    for path in MODEL.rglob("*.json"):
        assert "/root" not in path.read_text(encoding="utf-8"), path


def test_plain_diffusers_loads_every_kind_of_pipeline_and_paints():
    pipe = StableDiffusionPipeline.from_pretrained(MODEL)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert pipe.safety_checker is None and not pipe.config.requires_safety_checker
    image = pipe("a red house in the snow", num_inference_steps=2).images[0]
    assert image.size == (256, 256)
    again = AutoPipelineForImage2Image.from_pretrained(MODEL)
    again.set_progress_bar_config(disable=True)
    assert again("at night", image=image, num_inference_steps=4, strength=0.5).images[0].size == (256, 256)
    fill = AutoPipelineForInpainting.from_pretrained(MODEL)
    fill.set_progress_bar_config(disable=True)
    mask = Image.new("L", image.size, 255)
    made = fill("a cat", image=image, mask_image=mask, num_inference_steps=2, width=256, height=256)
    assert made.images[0].size == (256, 256)


def test_a_seed_gives_one_picture(pipe):
    first, again = generate(pipe, ["a cat on a meadow"] * 2, [5, 5], batch=1)
    assert np.array_equal(np.asarray(first), np.asarray(again))


def test_latents_reach_the_denoiser_with_mean_0_and_deviation_1(pipe):
    pixels = np.stack([paint(scene).pixels for scene in held_out_scenes(16, seed=3)])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        latents = pipe.vae.encode(x).latent_dist.mean * pipe.vae.config.scaling_factor
    assert latents.mean((0, 2, 3)).abs().max() < 0.4
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 0.4


def test_the_autoencoder_keeps_what_it_is_shown(pipe):
    pixels = np.stack([paint(scene).pixels for scene in held_out_scenes(8)])
    assert psnr(pipe.vae, pixels).mean() >= 31


def test_the_latents_colour_map_fits(pipe):
    fit = json.loads((ASSETS / "latent_rgb.json").read_text(encoding="utf-8"))["starter"]
    pixels = np.stack([paint(scene).pixels for scene in held_out_scenes(8, seed=4)])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        latents = pipe.vae.encode(x * 2 - 1).latent_dist.mean * pipe.vae.config.scaling_factor
    shown = torch.einsum("nchw,cr->nrhw", latents, torch.tensor(fit["weight"]))
    shown = shown + torch.tensor(fit["bias"]).view(1, 3, 1, 1)
    assert (shown - torch.nn.functional.avg_pool2d(x, 8)).abs().mean() < 0.08


def test_the_reader_reads_drawn_scenes():
    accuracy = reader_accuracy(100, seed=12)
    assert sum(accuracy.values()) / len(accuracy) >= 0.97, accuracy


def test_the_reader_reads_one_picture_of_any_size():
    scene = held_out_scenes(1)[0]
    large = Image.fromarray(paint(scene).pixels).resize((512, 512))
    assert read_attributes(large)["time"] == scene.time


def test_two_prompts_give_two_right_pictures(pipe):
    prompts = ["a red house in the snow at night", "a yellow boat on the sea at sunset"]
    first, second = read_many(generate(pipe, prompts, [1, 1]))
    assert (first["time"], first["ground"], first["house"]) == ("night", "snow", "red")
    assert (second["time"], second["ground"], second["boat"]) == ("sunset", "sea", "yellow")


def test_the_examples_use_words_that_the_model_knows(pipe):
    examples = json.loads((MODEL / "examples.json").read_text(encoding="utf-8"))
    assert 8 <= len(set(examples["prompts"])) == len(examples["prompts"]) <= 12
    assert examples["defaults"]["width"] == examples["defaults"]["height"] == 256
    for prompt in examples["prompts"]:
        for word in prompt.replace(",", " ").split():
            assert len(pipe.tokenizer.tokenize(word)) == 1, word
