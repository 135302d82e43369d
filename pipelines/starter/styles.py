"""The style LoRAs, ink sketch and pixel mosaic: drawn scenes through a filter, and how a style is learned.

A filter is deterministic and of OpenCV alone; what is learned from its pictures is a LoRA on the denoiser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTokenizer

from .adapters import Adapter, Card
from .data import latent_path, picture_path
from .denoiser import NOISE, Lessons, velocity_lesson
from .learning import Budget, Course, Team
from .paths import load_network
from .vae import encode_shard

Filter = Callable[[np.ndarray], np.ndarray]

BLOCK = 16  # pixels of a mosaic's tile: two latents, as smaller tiles do not survive the autoencoder
CARDS = {
    "ink": Card(
        "ink",
        "Storybook in ink",
        "Storybook's scenes as ink lines with grey washes on white paper; no trigger word. LoRA on every "
        "linear layer and convolution.",
    ),
    "mosaic": Card(
        "mosaic",
        "Storybook in mosaic",
        "Storybook's scenes laid in square tiles of 16 by 16 pixels; no trigger word. LoRA on every linear "
        "layer and convolution.",
    ),
}

_PEAK = 2e-3


def ink(pixels: np.ndarray) -> np.ndarray:
    """`pixels`, uint8 (h, w, 3), as a sketch: ink lines where colours meet, three grey washes on white."""
    colours = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB), (0, 0), 1.0).astype(np.float32)
    tone = cv2.GaussianBlur(colours[..., 0], (0, 0), 1.1)
    across, down = (cv2.Sobel(colours, cv2.CV_32F, *axis, ksize=3) for axis in ((1, 0), (0, 1)))
    line = np.clip((np.sqrt((across**2 + down**2).sum(-1)) - 60) / 60, 0, 1)
    lit = colours[..., 0] - cv2.GaussianBlur(tone, (0, 0), 5)
    line *= np.clip(1 - (lit - 6) / 10, 0, 1)  # lines run on the darker side; stars stay paper
    wash = np.interp(tone, (45, 60, 95, 107, 165, 177), (95, 160, 160, 215, 215, 252))
    grey = wash * (1 - line) + 25 * line
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def mosaic(pixels: np.ndarray) -> np.ndarray:
    """`pixels`, uint8 (h, w, 3), in square tiles, each of the mean colour of what it covers."""
    height, width = pixels.shape[:2]
    small = cv2.resize(pixels, (width // BLOCK, height // BLOCK), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


FILTERS: Mapping[str, Filter] = {"ink": ink, "mosaic": mosaic}


def greyness(pixels: np.ndarray) -> float:
    """Share of `pixels`, uint8 (n, h, w, 3), without colour: channels at most 24 apart."""
    return float((np.ptp(pixels.astype(np.int16), axis=-1) <= 24).mean())


def tile_error(pixels: np.ndarray) -> float:
    """How far `pixels`, uint8 (n, h, w, 3), are from the means of their own tiles on average, 0-255."""
    return float(np.mean([np.abs(one.astype(np.float32) - mosaic(one)).mean() for one in pixels]))


def sharpness(pixels: np.ndarray) -> float:
    """The mean step from a pixel to the next, across and down, of `pixels` uint8 (n, h, w, 3), 0-255."""
    values = pixels.astype(np.float32)
    return float((np.abs(np.diff(values, axis=1)).mean() + np.abs(np.diff(values, axis=2)).mean()) / 2)


def encode_style(vae: AutoencoderKL, work: Path, style: str, number: int) -> None:
    """Puts drawn shard `number` through the filter `style` and writes its latents under `work`/styles, unless
    they are there. Raises FileNotFoundError where the shard has not been drawn."""
    place = work / "styles" / style
    if latent_path(place, number).exists():
        return
    drawn = np.load(picture_path(work, number), mmap_mode="r")
    encode_shard(vae, np.stack([FILTERS[style](picture) for picture in drawn]), place, number)


def train_style(team: Team, work: Path, model: Path, style: str, budget: Budget) -> None:
    """Trains the LoRA of `style` on what encode_style wrote, for the pipeline in `model`; the course is
    called `style-STYLE`. It predicts velocity as the denoiser did, with one caption in ten left out."""
    network = load_network(model)
    network.unet.set_attn_processor(AttnProcessor())  # on a CPU its backward pass outruns SDPA's
    adapter = Adapter(network.unet)
    network.to(team.device, memory_format=torch.channels_last)
    optims: list[torch.optim.Optimizer] = [torch.optim.AdamW(adapter.parameters(), _PEAK, (0.9, 0.98))]
    course = Course(f"style-{style}", work, team, adapter, optims, budget.minutes, budget.steps, longest=0.99)
    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
    lessons = Lessons(work / "styles" / style, tokenizer, seed=[course.step, team.rank])
    call = torch.compile(network, dynamic=False) if budget.compiled else network
    kept = DDIMScheduler(**NOISE).alphas_cumprod.to(team.device)
    running = None
    while not course.over:
        rate = course.set_rate(_PEAK, hold=0.3)
        latents, ids = (part.to(team.device) for part in lessons(budget.batch))
        times = torch.randint(0, len(kept), (budget.batch,), device=team.device)
        noisy, velocity = velocity_lesson(latents, times, kept)
        with team.autocast():
            guess = call(noisy.contiguous(memory_format=torch.channels_last), times, ids)
        loss = (guess.float() - velocity).pow(2).mean()
        course.descend(loss)
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if team.leads and course.step % 50 == 0:
            print(
                f"style {style} step {course.step} {course.clock / 60:.1f} of {budget.minutes:g} min  "
                f"velocity error {running:.4f}  rate {rate:.1e}",
                flush=True,
            )
