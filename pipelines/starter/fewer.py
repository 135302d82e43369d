"""The few-step LoRA: taught to jump from anywhere on the model's own paths to their ends, guidance included.

A consistency function (Song et al., Consistency Models, 2023; Luo et al., LCM-LoRA, 2023) learned by
regression onto whole paths that are walked beforehand: the world is small enough, and no target moves.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTokenizer

from .adapters import Adapter, Card
from .denoiser import NOISE
from .learning import Budget, Course, Team
from .paths import TIMES, load_network, path_captions, path_files
from .text import tokens

CARD = Card(
    "4-steps",
    "Storybook in 4 steps",
    "Storybook's pictures in 4 steps of LCM without guidance. LoRA on every linear layer and convolution.",
    {"scheduler": "LCM", "num_inference_steps": 4, "guidance_scale": 1.0},
)

_PEAK = 2e-3
_STANDS = (0, 3, 6, 9)  # places of LCM's four steps on a path
_STANDING = 0.7  # share of the lessons that stand there; the rest is for other numbers of steps


class PathLessons:
    """Places on paths: the latents there, the timestep, the caption, and where the path ends."""

    def __init__(self, work: Path, tokenizer: CLIPTokenizer, seed: list[int]) -> None:
        """Raises FileNotFoundError where no path has been walked yet."""
        files = path_files(work)
        if not files:
            raise FileNotFoundError(f"no paths under {work}: run the stage 'paths' first")
        shards = [torch.from_numpy(np.load(file)) for file in files]
        captions: list[str] = []
        for file, shard in zip(files, shards, strict=True):
            captions += path_captions(int(file.stem), len(shard))
        self.states, self.ids = torch.cat(shards), tokens(tokenizer, captions)
        self.rng = np.random.default_rng(seed)

    def __call__(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents float (count, 4, h, w), timesteps (count,), token ids (count, 77), ends as the latents."""
        rng = self.rng
        path = torch.from_numpy(rng.integers(0, len(self.states), count))
        standing = rng.random(count) < _STANDING
        place = torch.from_numpy(
            np.where(standing, rng.choice(_STANDS, count), rng.integers(0, len(TIMES), count))
        )
        states = self.states[path, place].float()
        return states, torch.tensor(TIMES)[place], self.ids[path], self.states[path, -1].float()


def train_fewer(team: Team, work: Path, model: Path, budget: Budget) -> None:
    """Trains the LoRA on the paths under `work` for the pipeline in `model`; the course is called `fewer`."""
    network = load_network(model)
    network.unet.set_attn_processor(AttnProcessor())  # on a CPU its backward pass outruns SDPA's
    adapter = Adapter(network.unet)
    network.to(team.device, memory_format=torch.channels_last)
    optims: list[torch.optim.Optimizer] = [torch.optim.AdamW(adapter.parameters(), _PEAK, (0.9, 0.98))]
    course = Course("fewer", work, team, adapter, optims, budget.minutes, budget.steps, longest=0.99)
    lessons = PathLessons(work, CLIPTokenizer.from_pretrained(model / "tokenizer"), [course.step, team.rank])
    call = torch.compile(network, dynamic=False) if budget.compiled else network
    kept = DDIMScheduler(**NOISE).alphas_cumprod.to(team.device)
    running = None
    while not course.over:
        rate = course.set_rate(_PEAK, hold=0.3)
        states, times, ids, ends = (part.to(team.device) for part in lessons(budget.batch))
        with team.autocast():
            velocity = call(states.contiguous(memory_format=torch.channels_last), times, ids).float()
        signal = kept[times].view(-1, 1, 1, 1)
        landed = signal.sqrt() * states - (1 - signal).sqrt() * velocity
        error = landed - ends
        course.descend((error.pow(2) + 1e-4).sqrt().mean())  # the median's loss, for the mean's is blurred
        plain = error.detach().abs().mean().item()
        running = plain if running is None else 0.98 * running + 0.02 * plain
        if team.leads and course.step % 50 == 0:
            print(
                f"fewer step {course.step} {course.clock / 60:.1f} of {budget.minutes:g} min  "
                f"off {running:.4f}  rate {rate:.1e}  {course.step * budget.batch * team.size} places",
                flush=True,
            )
