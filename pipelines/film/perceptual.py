"""LPIPS: how far two pictures look apart to a network (Zhang et al., 2018), where its weights are there.

The weights are not part of the program: AlexNet's (torchvision's `alexnet-*.pth`, 233 MB) and the five small
layers learnt from people's judgements (`alex.pth` of the LPIPS package). Both are looked for in a folder
`lpips` of the models folders.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SLICES = (1, 4, 7, 9, 11)
"""AlexNet's layers (the five ReLUs) at which the two pictures are compared."""
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""The published normalisation of pixels in -1..1."""


def weights(folders: Iterable[Path]) -> tuple[Path, Path] | None:
    """(AlexNet's file, the learnt layers' file), None where one is missing. Imports no torch."""
    for folder in folders:
        found = sorted((folder / "lpips").glob("alexnet-*.pth"))
        layers = folder / "lpips" / "alex.pth"
        if found and layers.is_file():
            return found[0], layers
    return None


class Perceptual:
    """The network, loaded once. Raises ValueError with a sentence for files that are not these weights."""

    def __init__(self, files: tuple[Path, Path]):
        import torch
        from torchvision.models import alexnet

        network = alexnet(weights=None)
        try:
            state, learnt = (torch.load(path, map_location="cpu", weights_only=True) for path in files)
            network.load_state_dict(state)
            self.layers = [learnt[f"lin{at}.model.1.weight"].float() for at in range(len(SLICES))]
        except Exception as broken:  # whatever torch's readers raise on such files
            raise ValueError(f"The LPIPS weights in {files[0].parent} cannot be used: {broken}") from broken
        self.features = network.features.eval().requires_grad_(False)

    def __call__(self, one: Image, other: Image) -> float:
        """0 for equal pictures; both RGB and of one size."""
        import torch

        with torch.no_grad():
            pairs = zip(self._seen(one), self._seen(other), self.layers)
            return float(sum(((a - b) ** 2 * layer).sum(1).mean() for a, b, layer in pairs))

    def _seen(self, picture: Image) -> list[Tensor]:
        """What each slice sees, every place's channels of length 1."""
        import numpy as np
        import torch

        pixels = torch.from_numpy(np.asarray(picture.convert("RGB"), np.float32) / 127.5 - 1)
        x: Any = (pixels - torch.tensor(_SHIFT)) / torch.tensor(_SCALE)
        x, found = x.permute(2, 0, 1)[None], []
        for at, layer in enumerate(self.features):
            x = layer(x)
            if at in SLICES:
                found.append(x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10))
        return found
