"""The picture half of the model: an autoencoder of eight pixels to a latent, and how it is trained.

After training each latent channel's mean and spread are folded into the 1x1 convolutions beside the latents,
so that they reach the denoiser with mean 0 and deviation 1 and the scaling factor is simply 1.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from .canvas import SIZE
from .data import held_out_scenes, latent_path, pictures, write_array
from .learning import Course, Team, optimisers
from .scenes import paint

CHANNELS = (16, 32, 64, 96)
_PEAK = 2.5e-3
_CHROMA = torch.tensor([[-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])  # RGB to Cb and Cr (ITU-R BT.601)


def new_vae(channels: tuple[int, ...] = CHANNELS) -> AutoencoderKL:
    """An untrained autoencoder: (n, 3, h, w) in -1..1 to (n, 4, h/8, w/8) and back."""
    levels = len(channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=min(8, channels[0]),
        mid_block_add_attention=False,
        sample_size=SIZE,
        scaling_factor=1.0,
    )


def to_tensor(pixels: np.ndarray, device: str = "cpu") -> Tensor:
    """uint8 (n, h, w, 3) to float (n, 3, h, w) in -1..1."""
    return torch.from_numpy(np.array(pixels)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(values: Tensor) -> np.ndarray:
    """float (n, 3, h, w) in -1..1 to uint8 (n, h, w, 3), clipped."""
    scaled = ((values.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def psnr(vae: AutoencoderKL, pixels: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of reconstruction in dB, one for each of `pixels` uint8 (n, h, w, 3)."""
    ratios = []
    for start in range(0, len(pixels), 8):
        part = pixels[start : start + 8]
        with torch.no_grad():
            back = vae.decode(vae.encode(to_tensor(part, vae.device)).latent_dist.mean).sample
        error = (to_pixels(back).astype(np.float64) - part) ** 2
        ratios.append(10 * np.log10(255**2 / error.mean((1, 2, 3))))
    return np.concatenate(ratios)


class Crops:
    """Random mirrored crops of the drawn pictures, busy places more often than plain sky."""

    def __init__(self, work: Path, seed: int) -> None:
        self.shards = pictures(work)
        self.rng = np.random.default_rng(seed)

    def __call__(self, count: int, side: int) -> np.ndarray:
        """uint8 (count, side, side, 3)."""
        rng, crops = self.rng, np.empty((count, side, side, 3), np.uint8)
        for i in range(count):
            shard = self.shards[rng.integers(len(self.shards))]
            picture = shard[rng.integers(len(shard))]
            corners = rng.integers(0, SIZE - side + 1, (3 if rng.random() < 0.6 else 1, 2))
            options = [picture[y : y + side, x : x + side] for y, x in corners]
            crop = max(
                options, key=lambda part: np.abs(np.diff(part[::2, ::2, 1].astype(np.int16), axis=1)).sum()
            )
            crops[i] = crop[:, ::-1] if rng.random() < 0.5 else crop
        return crops


def _slopes(values: Tensor) -> tuple[Tensor, Tensor]:
    return values[..., 1:] - values[..., :-1], values[..., 1:, :] - values[..., :-1, :]


def picture_loss(back: Tensor, wanted: Tensor) -> Tensor:
    """How far `back` is from `wanted`, both (n, 3, h, w): L1, L2, slopes at three scales, and chroma.

    Without the chroma term, red, pink and purple collapse toward orange and blue.
    """
    error = back - wanted
    chroma = torch.einsum("kc,nchw->nkhw", _CHROMA.to(error), error).abs().mean()
    loss = error.abs().mean() + error.pow(2).mean() + 6 * chroma
    for _ in range(3):
        for slope in _slopes(error):
            loss = loss + 0.5 * slope.abs().mean()
        error = F.avg_pool2d(error, 2)
    return loss


class _RoundTrip(nn.Module):
    """Pictures through the latents and back, with what the loss needs, so that it compiles as one."""

    def __init__(self, vae: AutoencoderKL, half: bool) -> None:
        super().__init__()
        self.vae, self.half = vae, half

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        posterior = self.vae.encode(x, return_dict=False)[0]
        mean, spread = posterior.mean, torch.exp(0.5 * posterior.logvar)
        latents = mean + spread * torch.randn_like(mean)
        if self.half:
            latents = F.avg_pool2d(latents, 2)
        return self.vae.decode(latents, return_dict=False)[0], mean, posterior.logvar


def train_vae(
    team: Team,
    work: Path,
    minutes: float,
    steps: int,
    batch: int,
    compiled: bool,
    channels: tuple[int, ...] = CHANNELS,
) -> None:
    """Trains the autoencoder on crops of 64 pixels, later 128; writes checkpoints and the average's weights.

    Every fifth step decodes the halved latents to the halved crop (Kouzelis et al., EQ-VAE, 2025): latents
    that shrink as pictures do are easier to denoise.
    """
    vae = new_vae(channels).to(team.device, memory_format=torch.channels_last)
    crops = Crops(work, seed=team.rank)
    optims = optimisers(vae.named_parameters(), _PEAK, lambda _, w: w.shape[0] > 8 and w.shape[1] > 8)
    course = Course("vae", work, team, vae, optims, minutes, steps, sync_every=10)
    crops.rng = np.random.default_rng([course.step, team.rank])
    trips = [_RoundTrip(vae, half) for half in (False, True)]
    if compiled:
        trips = [torch.compile(trip, dynamic=False) for trip in trips]
    while not course.over:
        rate = course.set_rate(_PEAK, hold=0.35)
        count, side = (batch, 64) if course.share < 0.6 else (max(1, batch // 4), 128)
        half = course.step % 5 == 4
        x = to_tensor(crops(count, side), team.device).contiguous(memory_format=torch.channels_last)
        with team.autocast():
            back, mean, logvar = trips[half](x)
        mean, logvar = mean.float(), logvar.float()
        divergence = 0.5 * (mean.pow(2) + logvar.exp() - 1 - logvar).mean()
        loss = picture_loss(back.float(), F.avg_pool2d(x, 2) if half else x) + 1e-4 * divergence
        course.descend(loss)
        if team.leads and course.step % 200 == 1:
            print(
                f"vae step {course.step} {course.clock / 60:.1f} of {minutes:g} min  loss {loss.item():.4f}  "
                f"rate {rate:.1e}  latent deviation {mean.std().item():.2f}",
                flush=True,
            )


def polish_decoder(team: Team, work: Path, minutes: float, steps: int, batch: int, compiled: bool) -> None:
    """Goes on training the finished autoencoder's decoder alone, so that no latent changes; the course is
    called `decoder`. A little noise on the latents prepares it for those that a denoiser makes."""
    vae = AutoencoderKL.from_pretrained(work / "vae").to(team.device, memory_format=torch.channels_last)
    for part in (vae.encoder, vae.quant_conv):
        part.requires_grad_(False)
    crops = Crops(work, seed=100 + team.rank)
    optims = optimisers(vae.named_parameters(), 1e-3, lambda _, w: w.shape[0] > 8 and w.shape[1] > 8)
    course = Course("decoder", work, team, vae, optims, minutes, steps, sync_every=10)
    crops.rng = np.random.default_rng([course.step, 100 + team.rank])

    def decode(x: Tensor) -> Tensor:
        with torch.no_grad():
            latents = vae.encode(x, return_dict=False)[0].mean
        return vae.decode(latents + 0.03 * torch.randn_like(latents), return_dict=False)[0]

    call = torch.compile(decode, dynamic=False) if compiled else decode
    while not course.over:
        course.set_rate(1e-3, hold=0.2)
        x = to_tensor(crops(max(1, batch // 4), 128), team.device)
        with team.autocast():
            back = call(x.contiguous(memory_format=torch.channels_last))
        loss = picture_loss(back.float(), x)
        course.descend(loss)
        if team.leads and course.step % 200 == 0:
            print(f"decoder step {course.step} {course.share:.0%} loss {loss.item():.4f}", flush=True)


def finish_decoder(work: Path) -> None:
    """Puts the polished decoder into `work`/vae and says the PSNR on held-out scenes."""
    vae = AutoencoderKL.from_pretrained(work / "vae").eval()
    saved = torch.load(work / "checkpoints" / "decoder-0.pt", map_location="cpu", weights_only=True)
    vae.load_state_dict(saved["average"])
    vae.save_pretrained(work / "vae")
    say_psnr(vae)


def say_psnr(vae: AutoencoderKL) -> None:
    ratios = psnr(vae, np.stack([paint(scene).pixels for scene in held_out_scenes(24)]))
    print(f"vae: {ratios.mean():.2f} dB on 24 held-out pictures, worst {ratios.min():.2f}", flush=True)


def load_average(work: Path, channels: tuple[int, ...] = CHANNELS) -> AutoencoderKL:
    """The autoencoder with its checkpoint's averaged weights, latents as they were learned."""
    vae = new_vae(channels)
    saved = torch.load(work / "checkpoints" / "vae-0.pt", map_location="cpu", weights_only=True)
    vae.load_state_dict(saved["average"])
    return vae.eval()


@torch.no_grad()
def fold_scale(vae: AutoencoderKL, pixels: np.ndarray) -> None:
    """Gives `vae`'s latents of `pixels`, uint8 (n, h, w, 3), mean 0 and deviation 1 a channel, in place.

    The reconstruction stays what it was.
    """
    parts = [vae.encode(to_tensor(pixels[i : i + 16])).latent_dist.mean for i in range(0, len(pixels), 16)]
    latents = torch.cat(parts)
    mean, spread = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    inward, outward = vae.quant_conv, vae.post_quant_conv
    outward.bias += outward.weight[:, :, 0, 0] @ mean
    outward.weight *= spread[None, :, None, None]
    inward.weight[:4] /= spread[:, None, None, None]
    inward.bias[:4] = (inward.bias[:4] - mean) / spread
    inward.bias[4:] -= 2 * spread.log()


def finish_vae(work: Path, channels: tuple[int, ...] = CHANNELS) -> None:
    """Folds the scale into the averaged weights, writes `work`/vae and says its PSNR on held-out scenes."""
    vae = load_average(work, channels)
    shards = pictures(work)
    fold_scale(vae, np.concatenate([shard[:: max(1, len(shard) * len(shards) // 256)] for shard in shards]))
    partial = work / "vae.partial"
    vae.save_pretrained(partial)
    if (work / "vae").exists():
        shutil.rmtree(work / "vae")
    partial.rename(work / "vae")
    say_psnr(vae)


@torch.no_grad()
def encode_shard(vae: AutoencoderKL, shard: np.ndarray, work: Path, number: int) -> None:
    """Writes the latents of shard `number`, float16 (n, 4, 32, 32), unless they are there."""
    path = latent_path(work, number)
    if path.exists():
        return
    parts = []
    for start in range(0, len(shard), 20):
        x = to_tensor(shard[start : start + 20], vae.device)
        with torch.autocast(vae.device.type, torch.bfloat16):
            parts.append(vae.encode(x).latent_dist.mean.half().cpu())
    write_array(torch.cat(parts).numpy(), path)


@torch.no_grad()
def fit_colours(vae: AutoencoderKL, pixels: np.ndarray) -> dict[str, list]:
    """The linear map from latents to colour that suits `pixels` best (least squares): weight 4x3, bias 3, RGB
    in 0-1 as the average of each latent's eight by eight pixels."""
    latents = torch.cat(
        [vae.encode(to_tensor(pixels[i : i + 16])).latent_dist.mean for i in range(0, len(pixels), 16)]
    )
    colours = F.avg_pool2d(to_tensor(pixels) / 2 + 0.5, 8)
    rows = (latents * vae.config.scaling_factor).permute(0, 2, 3, 1).reshape(-1, 4)
    rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    fit = torch.linalg.lstsq(rows.double(), colours.permute(0, 2, 3, 1).reshape(-1, 3).double()).solution
    rounded = [[round(float(value), 6) for value in row] for row in fit]
    return {"weight": rounded[:4], "bias": rounded[4]}
