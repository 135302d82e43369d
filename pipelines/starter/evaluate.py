"""Measures the embedded model: `python -m pipelines.starter.evaluate [--model DIR] [--json FILE]`.

Captions come from combinations of attributes that no training picture has; each picture is made alone, with
20 steps and guidance, and judged by the attribute reader, whose own accuracy on drawn scenes is said first.
A LoRA is measured on the same captions and noise: `--lora assets/loras/storybook-4-steps.safetensors
--steps 4 --scheduler LCM --guidance 1`. ControlNets are measured by `pipelines.starter.evaluate_control`, the
model of pixels and what the styles' filters leave to find by `pipelines.starter.evaluate_addons`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, LCMScheduler, StableDiffusionPipeline
from PIL import Image

from .data import held_out_scenes
from .reader import WEIGHTS, read_many
from .scenes import Scene, paint
from .styles import greyness, sharpness, tile_error
from .vae import psnr
from .words import Caption, attributes, describe

MODEL = Path(__file__).resolve().parents[2] / "assets" / "starter"
KINDS = ("time", "ground", "object", "colour", "shirt", "pose")
STEPS, GUIDANCE = 20, 5.0
SCHEDULERS = {"DPM++ 2M": DPMSolverMultistepScheduler, "LCM": LCMScheduler}
_ASKED = ("time", "ground", "person", "shirt", "pose", "house", "tree", "cat", "boat", "balloon", "flowers")


@dataclass(frozen=True)
class Settings:
    """How pictures are made: the pipeline's folder, a LoRA's file on top of it, and the way from noise."""

    model: Path = MODEL
    lora: Path | None = None
    scheduler: str = "DPM++ 2M"
    steps: int = STEPS
    guidance: float = GUIDANCE
    device: str = "cpu"

    def load(self) -> StableDiffusionPipeline:
        """As load_model. Raises OSError when a folder or file is missing."""
        pipe = load_model(self.model, self.device)
        pipe.scheduler = SCHEDULERS[self.scheduler].from_config(pipe.scheduler.config)
        if self.lora:
            pipe.load_lora_weights(self.lora.parent, weight_name=self.lora.name)
        return pipe

    def paint(self, pipe: StableDiffusionPipeline, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        """One picture for each prompt and seed."""
        return generate(pipe, prompts, seeds, self.guidance, steps=self.steps)


def reader_accuracy(count: int = 400, weights: Path = WEIGHTS, seed: int = 11) -> dict[str, float]:
    """Share of held-out drawn scenes on which the reader is right, for each attribute that captions are
    judged by; what is not in a scene counts too."""
    scenes = held_out_scenes(count, seed)
    right = dict.fromkeys(_ASKED, 0)
    for start in range(0, count, 50):
        part = scenes[start : start + 50]
        for scene, read in zip(part, read_many([paint(s).pixels for s in part], weights), strict=True):
            truth = attributes(scene)
            for name in _ASKED:
                right[name] += read[name] == truth[name]
    return {name: hits / count for name, hits in right.items()}


def held_out_captions(count: int, seed: int = 13) -> list[tuple[Scene, Caption]]:
    """`count` held-out scenes, each in one wording that asks for two attributes or more."""
    rng = np.random.default_rng([22, seed])
    pairs: list[tuple[Scene, Caption]] = []
    for scene in held_out_scenes(count, seed):
        caption = describe(scene, rng)
        while len(caption.asked) < 2:
            caption = describe(scene, rng)
        pairs.append((scene, caption))
    return pairs


def load_model(folder: Path, device: str = "cpu") -> StableDiffusionPipeline:
    """The pipeline with DPM++ 2M, in float32 on a CPU. Raises OSError when `folder` holds no model."""
    dtype = torch.float32 if device == "cpu" else torch.float16
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=dtype).to(device)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generate(
    pipe: StableDiffusionPipeline,
    prompts: list[str],
    seeds: list[int],
    guidance: float = GUIDANCE,
    batch: int = 8,
    steps: int = STEPS,
    maps: list[Image.Image] | None = None,
    weight: float = 1.0,
) -> list[Image.Image]:
    """One picture for each prompt and seed, in bfloat16 on a CPU; a batch does not change the noise.

    maps: one control map for each prompt, where `pipe` has a ControlNet, which then counts with `weight`.
    """
    images: list[Image.Image] = []
    for start in range(0, len(prompts), batch):
        part = slice(start, start + batch)
        led = {"image": maps[part], "controlnet_conditioning_scale": weight} if maps else {}
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
        with torch.autocast(pipe.device.type, torch.bfloat16, enabled=pipe.device.type == "cpu"):
            images += pipe(
                prompts[part],
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=generators,
                **led,
            ).images
    return images


def score(
    captions: list[Caption], images: list[Image.Image], weights: Path = WEIGHTS
) -> dict[str, tuple[int, int]]:
    """How many of what the captions ask for the pictures have: kind to (found, asked)."""
    tally: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for caption, read in zip(captions, read_many(list(images), weights), strict=True):
        for asked in caption.asked:
            for kind in (asked.kind, f"{asked.kind} {asked.attribute}"):
                tally[kind][0] += asked.found(read)
                tally[kind][1] += 1
    return {kind: (found, total) for kind, (found, total) in tally.items()}


def grid(images: list[Image.Image], columns: int) -> Image.Image:
    """The pictures side by side, `columns` in a row; a last row that is not full is left out."""
    width, height = images[0].size
    rows = len(images) // columns
    sheet = Image.new("RGB", (columns * width, rows * height))
    for number, image in enumerate(images[: rows * columns]):
        sheet.paste(image, (number % columns * width, number // columns * height))
    return sheet


def seconds_a_picture(settings: Settings, pipe: StableDiffusionPipeline) -> float:
    """Wall-clock seconds for one picture, the better of two."""
    times = []
    for seed in (1, 2):
        start = time.perf_counter()
        settings.paint(pipe, ["a red house in the snow at night"], [seed])
        times.append(time.perf_counter() - start)
    return min(times)


def looks(images: list[Image.Image]) -> dict[str, float]:
    """What is seen without reading: percent of pixels without colour, mean distance from the means of tiles,
    mean steepness from pixel to pixel (both in 0-255)."""
    pixels = np.stack([np.asarray(image.convert("RGB")) for image in images])
    return {
        "without colour": round(100 * greyness(pixels), 1),
        "off its tiles": round(tile_error(pixels), 2),
        "steepness": round(sharpness(pixels), 2),
    }


def shares(tally: dict[str, tuple[int, int]]) -> dict[str, dict[str, float]]:
    """The percent found and the number asked for, overall and by kind, of what score counted."""
    found, asked = (sum(tally[kind][i] for kind in KINDS if kind in tally) for i in (0, 1))
    result: dict[str, dict[str, float]] = {
        "found": {"overall": round(100 * found / asked, 1)},
        "asked": {"overall": asked},
    }
    for kind in (*KINDS, *sorted(kind for kind in tally if kind not in KINDS)):
        if kind in tally:
            result["found"][kind] = round(100 * tally[kind][0] / tally[kind][1], 1)
            result["asked"][kind] = tally[kind][1]
    return result


def evaluate(settings: Settings, pictures: int, weights: Path, sheet: Path | None = None) -> dict:
    """Everything that is measured, as plain data; says it as it goes."""
    result: dict = {"pictures": pictures, "steps": settings.steps, "guidance": settings.guidance}
    accuracy = reader_accuracy(weights=weights)
    result["reader"] = {name: round(100 * share, 1) for name, share in accuracy.items()}
    result["reader mean"] = round(100 * sum(accuracy.values()) / len(accuracy), 2)
    print(f"reader on 400 held-out drawn scenes: {result['reader mean']}%  {result['reader']}", flush=True)

    pipe = settings.load()
    if settings.lora is None:
        ratios = psnr(pipe.vae.float(), np.stack([paint(scene).pixels for scene in held_out_scenes(24)]))
        result["vae psnr"], result["vae psnr worst"] = (
            round(float(ratios.mean()), 2),
            round(float(ratios.min()), 2),
        )
        print(
            f"autoencoder on 24 held-out scenes: {result['vae psnr']} dB, worst {result['vae psnr worst']}",
            flush=True,
        )
        pipe.vae.to(pipe.unet.dtype)

    captions = [caption for _, caption in held_out_captions(pictures)]
    images = settings.paint(pipe, [c.text for c in captions], list(range(5000, 5000 + pictures)))
    result |= shares(score(captions, images, weights))
    for kind, share in result["found"].items():
        print(f"  {kind:<18} {share:5.1f}% of {result['asked'][kind]}", flush=True)
    result["looks"] = looks(images)
    print(f"looks: {result['looks']}", flush=True)
    result["seconds a picture"] = round(seconds_a_picture(settings, pipe), 2)
    result["threads"] = torch.get_num_threads()
    print(f"{result['seconds a picture']} s a picture on {result['threads']} threads", flush=True)
    if sheet:
        grid(images[:48], 8).save(sheet)
    return result


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m pipelines.starter.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--reader", type=Path, default=WEIGHTS)
    parser.add_argument("--pictures", type=int, default=120)
    parser.add_argument("--lora", type=Path, help="a LoRA's file to put on the model")
    parser.add_argument("--scheduler", choices=SCHEDULERS, default="DPM++ 2M")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--grid", type=Path, help="write the first 48 pictures here as one")
    options = parser.parse_args(arguments)
    settings = Settings(
        options.model, options.lora, options.scheduler, options.steps, options.guidance, options.device
    )
    result = evaluate(settings, options.pictures, options.reader, options.grid)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
