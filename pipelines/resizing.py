"""Bringing a picture of any shape to a run's size, in the webui's three ways.

Photographs are resampled by Lanczos. Maps of few colours (edges, skeletons, segments) are enlarged by nearest
neighbour, because blended borders would be new colours, that is, other labels; they are shrunk by averaging,
because nearest neighbour drops whole lines one pixel wide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = ("just resize", "crop and resize", "resize and fill")

FEW_COLOURS = 200
"""A map of fewer colours than this is drawn, not shaded: a depth map has more."""


def resized(image: Image, width: int, height: int, mode: str, *, drawn: bool = False) -> Image:
    """`image` at exactly width x height pixels; the same pixels where it has that size already.

    mode: "just resize" stretches. "crop and resize" scales until the size is covered and cuts equally from
    both ends. "resize and fill" scales until all of it fits and repeats its outermost pixels up to the
    border. drawn: a map of few colours (see `is_drawn`). Raises ValueError for another mode.
    """
    if mode not in MODES:
        raise ValueError(f"There is no way of resizing called {mode!r}; there are {', '.join(MODES)}.")
    if image.size == (width, height):
        return image
    if mode == "resize and fill":
        return _filled(image, width, height, drawn)
    box = _whole(image) if mode == "just resize" else _middle(image, width, height)
    return _scaled(image, width, height, drawn, box)


def is_drawn(image: Image) -> bool:
    """Whether `image` has so few colours that each means something: edges, skeletons, segments."""
    return image.getcolors(maxcolors=FEW_COLOURS) is not None


def _scaled(
    image: Image, width: int, height: int, drawn: bool, box: tuple[float, float, float, float]
) -> Image:
    from PIL.Image import Resampling

    if not drawn:
        return image.resize((width, height), Resampling.LANCZOS, box=box)
    larger = width >= box[2] - box[0] and height >= box[3] - box[1]
    return image.resize((width, height), Resampling.NEAREST if larger else Resampling.BOX, box=box)


def _middle(image: Image, width: int, height: int) -> tuple[float, float, float, float]:
    """The largest box of the target's shape in the middle of `image`, in its pixels."""
    scale = min(image.width / width, image.height / height)
    across, down = min(width * scale, image.width), min(height * scale, image.height)
    left, top = (image.width - across) / 2, (image.height - down) / 2
    return left, top, left + across, top + down


def _whole(image: Image) -> tuple[float, float, float, float]:
    return 0.0, 0.0, float(image.width), float(image.height)


def _filled(image: Image, width: int, height: int, drawn: bool) -> Image:
    import numpy as np
    from PIL import Image as images

    scale = min(width / image.width, height / image.height)
    across = min(width, max(1, round(image.width * scale)))
    down = min(height, max(1, round(image.height * scale)))
    pixels = np.asarray(_scaled(image, across, down, drawn, _whole(image)))
    left, top = (width - across) // 2, (height - down) // 2
    border = [(top, height - down - top), (left, width - across - left)] + [(0, 0)] * (pixels.ndim - 2)
    return images.fromarray(np.pad(pixels, border, mode="edge"))
