"""The finished model's own ways from noise to picture, kept on disk: what the few-step LoRA learns from.

A path's captions and noise follow from its shard's number alone, so only the latents along it are stored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from .data import shard_scenes, write_array
from .denoiser import NOISE, Denoiser
from .text import tokens
from .words import describe

SHARD = 64  # paths in a shard
TIMES = (999, 919, 839, 759, 672, 586, 499, 419, 339, 259, 173, 86)
"""Timesteps that a path passes; every third is one at which LCM's four steps stand."""
GUIDANCE = 5.0
_FIRST = 1000  # paths' scenes come after those of the drawn shards
_UNPROMPTED = 0.04


def load_network(model: Path) -> Denoiser:
    """UNet and text encoder of the pipeline in `model`, frozen, in float32."""
    unet = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32)
    text = CLIPTextModel.from_pretrained(model / "text_encoder", dtype=torch.float32)
    return Denoiser(unet, text).requires_grad_(False).eval()


def path_captions(number: int, count: int) -> list[str]:
    """The captions of the first `count` paths of shard `number`; a few are empty."""
    rng = np.random.default_rng([26, number])
    scenes = shard_scenes(_FIRST + number, count)
    return ["" if rng.random() < _UNPROMPTED else describe(scene, rng).text for scene in scenes]


def path_files(work: Path) -> list[Path]:
    """Every shard of paths, in the order of their numbers."""
    return sorted((work / "paths").glob("*.npy"))


@torch.no_grad()
def walk(network: Denoiser, ids: Tensor, empty: Tensor, noise: Tensor, guidance: float = GUIDANCE) -> Tensor:
    """The latents at each of TIMES and at the end, float (n, 13, 4, h, w): DPM++ 2M with guidance.

    ids: token ids int64 (n, 77) of the captions, `empty` (1, 77) those of no caption; noise (n, 4, h, w).
    """
    scheduler = DPMSolverMultistepScheduler.from_config(DDIMScheduler(**NOISE).config)
    scheduler.set_timesteps(timesteps=list(TIMES))
    both = torch.cat([empty.expand_as(ids), ids])
    states = [noise]
    for time in scheduler.timesteps:
        pair = states[-1].repeat(2, 1, 1, 1)
        with torch.autocast(noise.device.type, torch.bfloat16):
            without, led = network(pair, time.to(noise.device).expand(len(pair)), both).float().chunk(2)
        velocity = without + guidance * (led - without)
        states.append(scheduler.step(velocity, time, states[-1]).prev_sample)
    return torch.stack(states, 1)


def walk_shard(network: Denoiser, tokenizer: CLIPTokenizer, work: Path, number: int, count: int) -> None:
    """Writes `count` paths of shard `number`, float16 (count, 13, 4, h, w), unless they are there."""
    file = work / "paths" / f"{number:04d}.npy"
    if file.exists():
        return
    device = next(network.parameters()).device
    side = int(network.unet.config.sample_size)
    noise = torch.randn(count, 4, side, side, generator=torch.Generator().manual_seed(10_000 + number))
    ids, empty = tokens(tokenizer, path_captions(number, count)), tokens(tokenizer, [""])
    states = walk(network, ids.to(device), empty.to(device), noise.to(device))
    write_array(states.half().cpu().numpy(), file)
