"""Measures what lies beside the embedded model: `python -m pipelines.starter.evaluate_addons [--json FILE]`.

For each style: what its filter and the autoencoder leave to find in drawn scenes, which is the most that its
LoRA can be asked for. For the model of pixels: whether the attribute reader knows its pictures for scenes,
against drawn scenes of the same size and against noise. LoRAs themselves are measured by
`python -m pipelines.starter.evaluate --lora FILE`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMPipeline, DDIMScheduler, DDPMPipeline
from PIL import Image

from . import pixels
from .data import held_out_scenes
from .evaluate import MODEL, grid, held_out_captions, looks, score, shares
from .reader import WEIGHTS, as_read, load_reader
from .scenes import paint
from .styles import FILTERS, Filter
from .vae import to_pixels, to_tensor

SURE = 0.9  # the probability from which the reader is taken to be sure


@torch.no_grad()
def through(vae: AutoencoderKL, drawn: np.ndarray) -> np.ndarray:
    """`drawn`, uint8 (n, h, w, 3), as the autoencoder gives them back."""
    parts = [
        to_pixels(vae.decode(vae.encode(to_tensor(drawn[i : i + 8])).latent_dist.mean).sample)
        for i in range(0, len(drawn), 8)
    ]
    return np.concatenate(parts)


def measure_filters(model: Path, count: int, weights: Path) -> dict[str, Any]:
    """What is found of held-out captions in their own drawn scenes, plain and through each style's filter."""
    vae = AutoencoderKL.from_pretrained(model / "vae", torch_dtype=torch.float32).eval()
    pairs = held_out_captions(count)
    drawn = np.stack([paint(scene).pixels for scene, _ in pairs])
    result: dict[str, Any] = {}
    changes: dict[str, Filter] = {"plain": lambda pixels: pixels, **FILTERS}
    for name, change in changes.items():
        back = [Image.fromarray(one) for one in through(vae, np.stack([change(one) for one in drawn]))]
        result[name] = shares(score([caption for _, caption in pairs], back, weights))
        result[name]["looks"] = looks(back)
        print(f"drawn, {name}: {result[name]['found']} {result[name]['looks']}", flush=True)
    return result


@torch.no_grad()
def sure_share(images: list[np.ndarray], attribute: str, weights: Path = WEIGHTS) -> float:
    """Percent of pictures, uint8 (h, w, 3), of whose `attribute` the reader is sure."""
    chances = load_reader(weights)(as_read(images))[attribute].softmax(1).amax(1)
    return round(100 * float((chances >= SURE).float().mean()), 1)


@torch.no_grad()
def distance(made: list[np.ndarray], drawn: list[np.ndarray], weights: Path = WEIGHTS) -> float:
    """How far two sets of pictures are apart in what the reader thinks of them: Fréchet's distance of each of
    its 256 features as a bell curve, in the spread that it has on `drawn`, averaged. 0 is the same."""
    reader = load_reader(weights)
    (mean, spread), (truth, width) = (
        (features.mean(0), features.std(0))
        for features in (reader.thoughts(as_read(images)) for images in (made, drawn))
    )
    apart = ((mean - truth).square() + (spread - width).square()) / width.square().clamp(min=1e-6)
    return round(float(apart.mean()), 3)


def sample(folder: Path, count: int, steps: int, seed: int = 6000) -> list[np.ndarray]:
    """`count` pictures of the pipeline in `folder`, uint8 (side, side, 3), by DDIM, eight at a time."""
    saved = DDPMPipeline.from_pretrained(folder)
    pipe = DDIMPipeline(saved.unet.float(), DDIMScheduler.from_config(saved.scheduler.config))
    pipe.set_progress_bar_config(disable=True)
    made: list[np.ndarray] = []
    for start in range(0, count, 8):
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(min(8, count - start))]
        with torch.autocast("cpu", torch.bfloat16):
            images = pipe(len(generators), generators, num_inference_steps=steps).images
        made += [np.asarray(image) for image in images]
    return made


def measure_pixels(made: list[np.ndarray], weights: Path) -> dict[str, Any]:
    """The pictures `made`, drawn scenes of the same size, and noise with the drawn scenes' colours, side by
    side: of how many the reader is sure, and how far they are from other drawn scenes."""
    side, count = len(made[0]), len(made)
    drawn, other = (
        [
            cv2.resize(paint(scene).pixels, (side, side), interpolation=cv2.INTER_AREA)
            for scene in held_out_scenes(count, seed)
        ]
        for seed in (31, 32)
    )
    rng = np.random.default_rng(33)
    noise = [rng.permutation(one.reshape(-1, 3)).reshape(one.shape) for one in drawn]
    result: dict[str, Any] = {"pictures": count}
    for name, images in (("made", made), ("drawn", drawn), ("noise", noise)):
        result[name] = {
            f"sure of the {attribute}": sure_share(images, attribute, weights)
            for attribute in ("time", "ground")
        }
        result[name]["distance"] = distance(images, other, weights)
        print(f"pixels, {name}: {result[name]}", flush=True)
    return result


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.starter.evaluate_addons",
        description="Measures the styles' filters on drawn scenes, and the model of pixels.",
    )
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--pixels", type=Path, default=MODEL.parent / "models" / "storybook-pixels")
    parser.add_argument("--reader", type=Path, default=WEIGHTS, help="the attribute reader's weights")
    parser.add_argument("--what", nargs="+", choices=("filters", "pixels"), default=["filters", "pixels"])
    parser.add_argument("--pictures", type=int, default=120)
    parser.add_argument("--steps", type=int, default=pixels.STEPS, help="of the model of pixels")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--grid", type=Path, help="write the first 64 pictures of the model of pixels here")
    options = parser.parse_args(arguments)
    result: dict[str, Any] = {}
    if "filters" in options.what:
        result["filters"] = measure_filters(options.model, options.pictures, options.reader)
    if "pixels" in options.what:
        made = sample(options.pixels, options.pictures, options.steps)
        result["pixels"] = measure_pixels(made, options.reader)
        if options.grid:
            grid([Image.fromarray(one) for one in made[:64]], 16).save(options.grid)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
