"""The denoiser: a small text-conditioned UNet on the autoencoder's latents, and how it is trained.

It starts from a text encoder that knows the scenes' words; what is left to learn is what they look like.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .canvas import SIZE
from .data import latent_paths, shard_scenes
from .learning import Course, Team, optimisers
from .scenes import Scene
from .text import WIDTH, new_text_encoder, tokens
from .words import describe

CHANNELS = (64, 128, 160)
NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.02,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "steps_offset": 1,
}
"""Stable Diffusion's noise schedule, predicting velocity."""

_PEAK = 2e-3
_UNPROMPTED = 0.1  # share of empty captions, for classifier-free guidance (Ho & Salimans, 2022)


def new_unet(channels: tuple[int, ...] = CHANNELS) -> UNet2DConditionModel:
    """An untrained denoiser of latents (n, 4, 32, 32) that attends to text (n, 77, 160)."""
    count = len(channels)
    return UNet2DConditionModel(
        sample_size=SIZE // 8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (count - 1),
        up_block_types=("CrossAttnUpBlock2D",) * (count - 1) + ("UpBlock2D",),
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=16,
        use_linear_projection=True,
    )


class Denoiser(nn.Module):
    """UNet and text encoder as one network."""

    def __init__(self, unet: UNet2DConditionModel, text: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text = unet, text

    def forward(self, noisy: Tensor, times: Tensor, ids: Tensor) -> Tensor:
        """Latents (n, 4, h, w), timesteps (n,), token ids (n, 77) to the predicted velocity (n, 4, h, w)."""
        return self.unet(noisy, times, self.text(ids).last_hidden_state, return_dict=False)[0]


class Lessons:
    """Latents with a fresh caption each time they are shown."""

    def __init__(self, work: Path, tokenizer: CLIPTokenizer, seed: list[int]) -> None:
        """Raises FileNotFoundError where no picture has been encoded yet."""
        self.work, self.tokenizer, self.rng = work, tokenizer, np.random.default_rng(seed)
        self.latents = torch.empty(0, 4, SIZE // 8, SIZE // 8, dtype=torch.float16)
        self.scenes: list[Scene] = []
        self._known: set[Path] = set()
        self.refresh()
        if not self.scenes:
            raise FileNotFoundError(f"no latents under {work}: run the stage 'encode' first")

    def refresh(self) -> None:
        """Takes in the shards that have been encoded since."""
        for path in latent_paths(self.work):
            if path not in self._known:
                shard = torch.from_numpy(np.load(path))
                self.latents = torch.cat([self.latents, shard])
                self.scenes += shard_scenes(int(path.stem), len(shard))
                self._known.add(path)

    def __call__(self, count: int) -> tuple[Tensor, Tensor]:
        """Latents float (count, 4, h, w) and token ids int64 (count, 77)."""
        rng = self.rng
        chosen = rng.integers(0, len(self.latents), count)
        texts = ["" if rng.random() < _UNPROMPTED else describe(self.scenes[i], rng).text for i in chosen]
        return self.latents[torch.from_numpy(chosen)].float(), tokens(self.tokenizer, texts)


def _is_matrix(name: str, weight: nn.Parameter) -> bool:
    return not any(part in name for part in ("embedding", "conv_in", "conv_out"))


def velocity_lesson(latents: Tensor, times: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """`latents` (n, c, h, w) with noise as at `times` (n,), and the velocity to predict there, of one shape.

    kept: the share of the signal's power that is left at each timestep, (1000,).
    """
    signal = kept[times].view(-1, 1, 1, 1)
    noise = torch.randn_like(latents)
    noisy = signal.sqrt() * latents + (1 - signal).sqrt() * noise
    return noisy, signal.sqrt() * noise - (1 - signal).sqrt() * latents


def train_unet(
    team: Team,
    work: Path,
    minutes: float,
    steps: int,
    batch: int,
    compiled: bool,
    channels: tuple[int, ...] = CHANNELS,
) -> None:
    """Trains UNet and text encoder together; the course is called `unet`.

    Predicts velocity (Salimans & Ho, Progressive Distillation, 2022), each timestep's loss weighted by
    min-SNR with gamma 5 (Hang et al., 2023). Weights in `work`/unet are where it starts, if there are any.
    """
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    text = CLIPTextModel.from_pretrained(work / "text_encoder", dtype=torch.float32)
    begun = work / "unet"  # a finished model's, where training starts from one
    unet = UNet2DConditionModel.from_pretrained(begun) if begun.exists() else new_unet(channels)
    network = Denoiser(unet, text)
    network.unet.set_attn_processor(AttnProcessor())  # on a CPU its backward pass outruns SDPA's
    network.to(team.device, memory_format=torch.channels_last)
    network.train()
    optims = optimisers(network.named_parameters(), _PEAK, _is_matrix)
    course = Course("unet", work, team, network, optims, minutes, steps, longest=0.99)
    lessons = Lessons(work, tokenizer, seed=[course.step, team.rank])
    call = torch.compile(network, dynamic=False) if compiled else network
    kept = DDIMScheduler(**NOISE).alphas_cumprod.to(team.device)
    running = None
    while not course.over:
        rate = course.set_rate(_PEAK, hold=0.35)
        if course.step % 100 == 0:
            lessons.refresh()
        latents, ids = (part.to(team.device) for part in lessons(batch))
        times = torch.randint(0, len(kept), (batch,), device=team.device)
        noisy, velocity = velocity_lesson(latents, times, kept)
        ratio = kept[times] / (1 - kept[times])
        weight = ratio.clamp(max=5) / (ratio + 1) / 0.35 + 0.15  # about 1 on average; none is forgotten
        with team.autocast():
            guess = call(noisy.contiguous(memory_format=torch.channels_last), times, ids)
        errors = (guess.float() - velocity).pow(2).mean((1, 2, 3))
        course.descend((errors * weight).mean())
        plain = errors.mean().item()
        running = plain if running is None else 0.98 * running + 0.02 * plain
        if team.leads and course.step % 50 == 0:
            print(
                f"unet step {course.step} {course.clock / 60:.1f} of {minutes:g} min  "
                f"velocity error {running:.4f}  rate {rate:.1e}  {course.step * batch * team.size} pictures",
                flush=True,
            )


def load_denoiser(work: Path, channels: tuple[int, ...] = CHANNELS) -> Denoiser:
    """The averaged weights of the latest checkpoint."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    network = Denoiser(new_unet(channels), new_text_encoder(tokenizer))
    saved = torch.load(work / "checkpoints" / "unet-0.pt", map_location="cpu", weights_only=True)
    network.load_state_dict(saved["average"])
    return network.eval()
