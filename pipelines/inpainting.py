"""Steering of an inpainting run from outside: what a masked area begins as, and soft (differential) masks.

Works on a disposable view of any family whose inpainting pipeline encodes by `_encode_vae_image`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Generator, Tensor

    from pipelines.request import MaskedContent

_CONTENT_SEED, _SOFT_SEED = 0x5EED_C0DE, 0x50F7
"""Mixed into the run's seed, so that the noise used here is not the noise that the run begins with."""


def begin_with(pipe: Any, content: MaskedContent, mask: Image, seed: int) -> None:
    """Makes the masked area of a view's picture begin as noise or as nothing: as latents, like the webui.

    mask: L, white is painted; its size is the run's. What is to begin as itself or filled needs nothing here.
    """
    if content not in ("latent noise", "latent nothing"):
        return
    import torch

    encode, prepare = pipe._encode_vae_image, pipe.prepare_latents
    inside = False

    def prepared(*args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        inside = True  # the same encoder also serves 9-channel models' masked picture, which stays as it is
        try:
            return prepare(*args, **kwargs)
        finally:
            inside = False

    def encoded(*args: Any, **kwargs: Any) -> Tensor:
        latents: Tensor = encode(*args, **kwargs)
        if not inside:
            return latents
        painted = _on_grid(mask, latents) >= 0.5
        if content == "latent nothing":
            return torch.where(painted, torch.zeros_like(latents), latents)
        draw = torch.Generator("cpu").manual_seed(seed ^ _CONTENT_SEED)
        noise = torch.randn(latents.shape, generator=draw).to(latents)
        return torch.where(painted, noise, latents)

    pipe._encode_vae_image, pipe.prepare_latents = encoded, prepared


class SoftMask:
    """Differential diffusion (Levin & Fried, 2023): how strongly each pixel may change.

    A pixel of strength s (0-1) is held to the original, noised to the step's level, until the share 1 - s
    of the steps is done; then it is free.
    """

    def __init__(self, pipe: Any, image: Image, strengths: np.ndarray, seed: int):
        """image: RGB of the run's size. strengths: float32 (height, width) in 0-1."""
        import torch

        self.pipe = pipe
        draw: Generator = torch.Generator("cpu").manual_seed(seed ^ _SOFT_SEED)
        # Not the VAE's own device: offloaded, it waits elsewhere.
        pixels = pipe.image_processor.preprocess(image).to(pipe._execution_device, pipe.vae.dtype)
        with torch.no_grad():
            self.latents: Tensor = pipe._encode_vae_image(image=pixels, generator=draw)
        self.noise = torch.randn(self.latents.shape, generator=draw).to(self.latents)
        self.strengths = _pooled(strengths, self.latents).expand(1, self.latents.shape[1], -1, -1)

    def hold(self, index: int, latents: Tensor) -> Tensor:
        """The run's latents after its step `index` (0 for the first), with what may not change yet held."""
        import torch

        total = int(self.pipe.num_timesteps)
        if index + 1 >= total:
            return latents
        timestep = self.pipe.scheduler.timesteps[-total:][index + 1].reshape(1)
        scheduler = self.pipe.scheduler
        if hasattr(scheduler, "scale_noise"):  # flow matching has another name and order for it
            original = scheduler.scale_noise(self.latents, timestep, self.noise)
        else:
            original = scheduler.add_noise(self.latents, self.noise, timestep)
        free = self.strengths >= 1 - (index + 1) / total
        if latents.dim() == 3:  # Flux packs its latents into patches
            original, free = (self._packed(part) for part in (original, free.to(original)))
            free = free >= 0.5
        return torch.where(free, latents, original.to(latents))

    def _packed(self, grid: Tensor) -> Tensor:
        batch, channels, height, width = grid.shape
        packed: Tensor = self.pipe._pack_latents(grid, batch, channels, height, width)
        return packed


def _on_grid(mask: Image, latents: Tensor) -> Tensor:
    """A mask as shares in 0-1 on the latents' grid, (1, 1, h, w)."""
    import numpy as np

    return _pooled(np.asarray(mask.convert("L"), np.float32) / 255, latents)


def _pooled(values: np.ndarray, latents: Tensor) -> Tensor:
    """Values (height, width) averaged on the latents' grid, (1, 1, h, w)."""
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    return adaptive_avg_pool2d(torch.from_numpy(values)[None, None], latents.shape[-2:]).to(latents)
