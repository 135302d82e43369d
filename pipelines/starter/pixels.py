"""Storybook pixels: a tiny diffusion model of the scenes at 32x32 that works on pixels and knows no words.

Ho et al., Denoising Diffusion Probabilistic Models, 2020, at the size of that paper's first pictures, but
predicting velocity on a cosine schedule.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import Tensor

from .data import pictures
from .denoiser import velocity_lesson
from .learning import Budget, Course, Team, optimisers

SIDE = 32
CHANNELS = (32, 64, 96)
STEPS = 20
"""As near to drawn scenes as 50, by DDIM (evaluate_addons)."""
NOISE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "clip_sample": True,
}
EXAMPLES = {
    "title": "Storybook pixels",
    "prompts": [],
    "defaults": {"scheduler": "DDIM", "num_inference_steps": STEPS, "width": SIDE, "height": SIDE},
}
"""What examples.json tells the program: a name for people, and settings to begin with."""

_PEAK = 2e-3


def new_network(channels: tuple[int, ...] = CHANNELS) -> UNet2DModel:
    """An untrained denoiser of pictures (n, 3, 32, 32) in -1..1, attending at 8x8 alone."""
    plain = len(channels) - 1
    return UNet2DModel(
        sample_size=SIDE,
        block_out_channels=channels,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
        layers_per_block=1,
        attention_head_dim=32,
        norm_num_groups=16,
    )


def small_pictures(work: Path) -> Tensor:
    """Every drawn picture at 32x32, uint8 (n, 32, 32, 3). Raises FileNotFoundError where none is drawn."""
    shards = pictures(work)
    small = [cv2.resize(p, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for shard in shards for p in shard]
    return torch.from_numpy(np.stack(small))


def train_pixels(team: Team, work: Path, budget: Budget, channels: tuple[int, ...] = CHANNELS) -> None:
    """Trains the model on the drawn pictures, half of them mirrored; the course is called `pixels`."""
    network = new_network(channels).to(team.device, memory_format=torch.channels_last)
    optims = optimisers(
        network.named_parameters(),
        _PEAK,
        lambda name, weight: not any(part in name for part in ("conv_in", "conv_out")),
    )
    course = Course("pixels", work, team, network, optims, budget.minutes, budget.steps, longest=0.99)
    known = small_pictures(work).permute(0, 3, 1, 2).to(team.device)
    rng = np.random.default_rng([course.step, team.rank])
    call = torch.compile(network, dynamic=False) if budget.compiled else network
    kept = DDPMScheduler(**NOISE).alphas_cumprod.to(team.device)
    running = None
    while not course.over:
        rate = course.set_rate(_PEAK, hold=0.35)
        chosen = torch.from_numpy(rng.integers(0, len(known), budget.batch)).to(team.device)
        shown = known[chosen].float() / 127.5 - 1
        mirrored = torch.from_numpy(rng.random(budget.batch) < 0.5).view(-1, 1, 1, 1).to(team.device)
        shown = torch.where(mirrored, shown.flip(-1), shown)
        times = torch.randint(0, len(kept), (budget.batch,), device=team.device)
        noisy, velocity = velocity_lesson(shown, times, kept)
        with team.autocast():
            guess = call(noisy.contiguous(memory_format=torch.channels_last), times, return_dict=False)[0]
        loss = (guess.float() - velocity).pow(2).mean()
        course.descend(loss)
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if team.leads and course.step % 50 == 0:
            print(
                f"pixels step {course.step} {course.clock / 60:.1f} of {budget.minutes:g} min  "
                f"velocity error {running:.4f}  rate {rate:.1e}  "
                f"{course.step * budget.batch * team.size} pictures",
                flush=True,
            )


def finish_pixels(work: Path, folder: Path, channels: tuple[int, ...] = CHANNELS) -> int:
    """Writes the averaged weights in half precision to `folder` as a DDPM pipeline with an examples.json;
    returns the size of all in bytes. A README.md that lies there already is kept."""
    network = new_network(channels)
    saved = torch.load(work / "checkpoints" / "pixels-0.pt", map_location="cpu", weights_only=True)
    network.load_state_dict(saved["average"])
    beside = folder.with_name(folder.name + ".partial")
    pipeline = DDPMPipeline(network.half().eval(), DDPMScheduler(**NOISE))
    pipeline.save_pretrained(beside, safe_serialization=True)
    (beside / "examples.json").write_text(json.dumps(EXAMPLES, indent=2) + "\n", encoding="utf-8")
    if (folder / "README.md").exists():
        for kept in folder.glob("*.*"):
            if kept.suffix in (".md", ".png"):
                shutil.copy2(kept, beside / kept.name)
    for path in beside.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes for the owner alone
    if folder.exists():
        shutil.rmtree(folder)
    beside.rename(folder)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
