"""Latents as pictures: cheaply by a linear map while they develop, fully by the VAE at the end.

A latent pixel's colour is nearly a linear function of its channels, so one small matrix fitted to the
model's own VAE shows the developing picture for less than a thousandth of a step.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor


class LatentToRGB:
    """Maps latents (channels, h, w) to an 8-bit RGB picture of w x h pixels.

    weight: (channels, 3) and bias: (3,), from latents as the denoiser sees them to RGB in 0..1.
    """

    def __init__(self, weight: Tensor, bias: Tensor):
        self.weight, self.bias = weight.float(), bias.float()

    def __call__(self, latents: Tensor) -> Image.Image:
        """latents: (channels, h, w), any dtype and device."""
        import torch

        flat = latents.detach().to("cpu", torch.float32).flatten(1)
        rgb = torch.addmm(self.bias, flat.T, self.weight).clamp_(0, 1).mul_(255).round_()
        pixels = rgb.to(torch.uint8).reshape(*latents.shape[-2:], 3)
        return Image.fromarray(pixels.numpy())

    @classmethod
    def load(cls, file: Path, key: str) -> LatentToRGB | None:
        """The map under `key` in a JSON file of {key: {"weight": ..., "bias": ...}}; None without one."""
        import torch

        kept = json.loads(file.read_text(encoding="utf8")) if file.is_file() else {}
        if key not in kept:
            return None
        return cls(torch.tensor(kept[key]["weight"]), torch.tensor(kept[key]["bias"]))

    @classmethod
    def from_lists(cls, weight: Any, bias: Any) -> LatentToRGB:
        """The map that `as_lists` wrote down."""
        import torch

        return cls(torch.tensor(weight), torch.tensor(bias))

    def as_lists(self) -> dict[str, Any]:
        """weight and bias as lists of numbers, for JSON."""
        return {"weight": self.weight.tolist(), "bias": self.bias.tolist()}

    @classmethod
    def fit(cls, vae: Any) -> LatentToRGB:
        """The least-squares map for a VAE, from smooth coloured pictures that it encodes itself."""
        import torch
        from torch.nn.functional import interpolate

        draw = torch.Generator().manual_seed(0)
        scale = 2 ** (len(vae.config.block_out_channels) - 1)
        coarse = torch.rand(8, 3, 4, 4, generator=draw)
        pictures = interpolate(coarse, size=16 * scale, mode="bicubic").clamp(0, 1)
        with torch.no_grad():
            place = next(vae.parameters())
            seen = vae.encode((pictures * 2 - 1).to(place.device, place.dtype)).latent_dist.mean
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        latents = ((seen.float().cpu() - shift) * vae.config.scaling_factor).permute(0, 2, 3, 1).flatten(0, 2)
        colours = interpolate(pictures, size=seen.shape[-2:], mode="area").permute(0, 2, 3, 1).flatten(0, 2)
        design = torch.cat([latents, torch.ones(len(latents), 1)], 1)
        solution = torch.linalg.lstsq(design, colours).solution
        return cls(solution[:-1], solution[-1])


def jpeg(picture: Image.Image, quality: int = 90) -> bytes:
    """A picture as JPEG, small enough to send at every step; colour is not subsampled."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
