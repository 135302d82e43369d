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
        coarse = torch.rand(8, 3, 4, 4, generator=draw)
        pictures = interpolate(coarse, size=16 * _scale(vae), mode="bicubic").clamp(0, 1)
        with torch.no_grad():
            place = next(vae.parameters())
            seen = encoded(vae, pictures.to(place.device, place.dtype)).float().cpu()
        latents = seen.permute(0, 2, 3, 1).flatten(0, 2)
        colours = interpolate(pictures, size=seen.shape[-2:], mode="area").permute(0, 2, 3, 1).flatten(0, 2)
        design = torch.cat([latents, torch.ones(len(latents), 1)], 1)
        solution = torch.linalg.lstsq(design, colours).solution
        return cls(solution[:-1], solution[-1])

    @classmethod
    def of(cls, pipeline: Any) -> LatentToRGB:
        """The map for a pipeline, whatever its family (families.FAMILIES) decodes by."""
        from pipelines.families import FAMILIES, PIPELINES

        family = FAMILIES[PIPELINES[type(pipeline).__name__].family]
        if not family.decoder:
            return cls.of_pixels(pipeline.unet.config.in_channels)
        return cls.fit(getattr(pipeline, family.decoder))

    @classmethod
    def of_pixels(cls, channels: int = 3) -> LatentToRGB:
        """The map for models that denoise the pixels themselves, in -1..1; one channel is grey."""
        import torch

        weight = torch.eye(3) if channels == 3 else torch.ones(channels, 3) / channels
        return cls(weight / 2, torch.full((3,), 0.5))


def encoded(vae: Any, pictures: Tensor) -> Tensor:
    """Pictures (n, 3, h, w) in 0..1 as the latents (n, channels, h', w') that a denoiser works on, without
    the chance that a VAE draws from."""
    import torch

    kind, config = type(vae).__name__, vae.config
    if kind == "AutoencoderKLQwenImage":
        mean = vae.encode((pictures * 2 - 1).unsqueeze(2)).latent_dist.mean.squeeze(2)
        middle, width = (
            torch.tensor(told, device=mean.device, dtype=mean.dtype).reshape(1, -1, 1, 1)
            for told in (config.latents_mean, config.latents_std)
        )
        return (mean - middle) / width
    seen = vae.encode(pictures * 2 - 1)
    if kind == "VQModel":
        return seen.latents
    if kind == "AutoencoderDC":
        return seen.latent * config.scaling_factor
    mean = seen.latent_dist.mean
    if kind == "AutoencoderKLFlux2":
        from torch.nn.functional import pixel_unshuffle

        patches, norm = pixel_unshuffle(mean, 2), vae.bn
        middle, width = norm.running_mean, torch.sqrt(norm.running_var + config.batch_norm_eps)
        return (patches - middle.reshape(1, -1, 1, 1)) / width.reshape(1, -1, 1, 1)
    return (mean - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor


def _scale(vae: Any) -> int:
    """Pixels a side for each pixel of the latents."""
    config = vae.config
    blocks = getattr(config, "block_out_channels", None) or getattr(
        config, "encoder_block_out_channels", None
    )
    halvings = len(blocks) - 1 if blocks else len(getattr(config, "temperal_downsample", (0, 0)))
    return 2**halvings


def jpeg(picture: Image.Image, quality: int = 90) -> bytes:
    """A picture as JPEG, small enough to send at every step; colour is not subsampled."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
