"""A small anti-aliased paint box over OpenCV, in picture units.

Everything is painted at twice the picture's size and averaged down, and each stroke can also note whose it
is: that is where the exact mask of every object comes from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

cv2.setNumThreads(1)

SIZE = 256  # side of a finished picture, in pixels; all coordinates below are in these units
_SCALE = 2
_SHIFT = 4  # OpenCV's fixed-point fraction bits
_FIXED = _SCALE << _SHIFT
_SIDE = SIZE * _SCALE

Colour = tuple[float, float, float]
Point = tuple[float, float]

_ROWS, _COLUMNS = (np.mgrid[0:_SIDE, 0:_SIDE] / _SCALE).astype(np.float32)


def mix(first: Sequence[float], second: Sequence[float], share: float) -> Colour:
    """`first` and `second` (RGB, 0-255) mixed, `share` of the second in 0-1."""
    red, green, blue = (a * (1 - share) + b * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def _fixed(points: Iterable[Point]) -> np.ndarray:
    return np.round(np.asarray(list(points), np.float64) * _FIXED).astype(np.int32)


class Canvas:
    """A 256x256 picture being painted; colours are RGB in 0-255, lengths are pixels of the finished picture.

    `tint` multiplies every colour that light falls on. With `owners` set, `label` (a small integer, 0 for
    nobody) is noted wherever a stroke lands.
    """

    def __init__(self, tint: Colour, owners: bool = False) -> None:
        self.image = np.zeros((_SIDE, _SIDE, 3), np.uint8)
        self.owner = np.zeros((_SIDE, _SIDE), np.uint8) if owners else None
        self.tint = np.asarray(tint)
        self.label = 0

    def lit(self, colour: Sequence[float], gain: float = 1.0) -> Colour:
        """`colour` under this scene's light, brightened by `gain`."""
        red, green, blue = (float(v) for v in np.clip(np.asarray(colour) * gain * self.tint, 0, 255))
        return red, green, blue

    def polygon(self, points: Iterable[Point], colour: Colour) -> None:
        corners = [_fixed(points)]
        cv2.fillPoly(self.image, corners, colour, cv2.LINE_AA, _SHIFT)
        if self.owner is not None:
            cv2.fillPoly(self.owner, corners, self.label, cv2.LINE_8, _SHIFT)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        centre = (round(x * _FIXED), round(y * _FIXED))
        reach = round(max(radius, 0.2) * _FIXED)
        cv2.circle(self.image, centre, reach, colour, -1, cv2.LINE_AA, _SHIFT)
        if self.owner is not None:
            cv2.circle(self.owner, centre, reach, self.label, -1, cv2.LINE_8, _SHIFT)

    def ellipse(self, x: float, y: float, across: float, down: float, colour: Colour) -> None:
        """A filled ellipse of half-widths `across` and `down`."""
        turn = np.linspace(0, 2 * math.pi, 32)
        self.polygon(zip(x + across * np.cos(turn), y + down * np.sin(turn), strict=True), colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def stroke(self, points: Iterable[Point], width: float, colour: Colour) -> None:
        """A thin open line through `points`."""
        path, thick = [_fixed(points)], max(1, round(width * _SCALE))
        cv2.polylines(self.image, path, False, colour, thick, cv2.LINE_AA, _SHIFT)
        if self.owner is not None:
            cv2.polylines(self.owner, path, False, self.label, thick, cv2.LINE_8, _SHIFT)

    def limb(self, points: Sequence[Point], width: float, colour: Colour, end: float | None = None) -> None:
        """A thick round-ended line through `points`, tapering from `width` to `end`."""
        widths = np.linspace(width, width if end is None else end, len(points))
        for (x0, y0), (x1, y1), w0, w1 in zip(points[:-1], points[1:], widths[:-1], widths[1:], strict=True):
            length = math.hypot(x1 - x0, y1 - y0) or 1.0
            nx, ny = -(y1 - y0) / length / 2, (x1 - x0) / length / 2
            self.polygon(
                [
                    (x0 + nx * w0, y0 + ny * w0),
                    (x1 + nx * w1, y1 + ny * w1),
                    (x1 - nx * w1, y1 - ny * w1),
                    (x0 - nx * w0, y0 - ny * w0),
                ],
                colour,
            )
        for (x, y), w in zip(points, widths, strict=True):
            self.disc(x, y, w / 2, colour)

    def shade(self, x: float, y: float, across: float, down: float, strength: float = 0.22) -> None:
        """A soft-edged shadow on the ground: an ellipse that darkens what lies beneath."""
        reach = ((_COLUMNS - x) / across) ** 2 + ((_ROWS - y) / down) ** 2
        top, bottom = (int(np.clip((y + s * down) * _SCALE, 0, _SIDE)) for s in (-1, 1))
        weight = np.clip((1 - reach[top:bottom]) * 2.5, 0, 1)[..., None] * strength
        self.image[top:bottom] = (self.image[top:bottom] * (1 - weight)).astype(np.uint8)

    def glow(self, x: float, y: float, radius: float, colour: Colour, strength: float) -> None:
        """A round light that fades outward over `radius`."""
        weight = np.exp(-((_COLUMNS - x) ** 2 + (_ROWS - y) ** 2) / radius**2)[..., None] * strength
        self.image[:] = (self.image * (1 - weight) + np.asarray(colour, np.float32) * weight).astype(np.uint8)

    def gradient(self, top: float, bottom: float, first: Colour, last: Colour) -> None:
        """Full-width bands running from `first` at `top` to `last` at `bottom`."""
        start, stop = round(top * _SCALE), min(_SIDE, round(bottom * _SCALE))
        share = np.linspace(0, 1, stop - start)[:, None, None]
        self.image[start:stop] = np.asarray(first) * (1 - share) + np.asarray(last) * share
        if self.owner is not None:
            self.owner[start:stop] = self.label

    def land(self, edge: Iterable[Point], first: Colour, last: Colour) -> None:
        """Everything below the line `edge` (left to right), shaded from `first` down to `last`."""
        line = list(edge)
        cover = np.zeros((_SIDE, _SIDE), np.uint8)
        outline = [(-2.0, SIZE + 2.0), *line, (SIZE + 2.0, SIZE + 2.0)]
        cv2.fillPoly(cover, [_fixed(outline)], 255, cv2.LINE_AA, _SHIFT)
        top = min(y for _, y in line)
        start = max(0, int(top * _SCALE) - 2)
        share = np.clip((_ROWS[start:] - top) / (SIZE - top), 0, 1)[..., None]
        soil = np.asarray(first, np.float32) * (1 - share) + np.asarray(last, np.float32) * share
        weight = (cover[start:] / np.float32(255))[..., None]
        self.image[start:] = (self.image[start:] * (1 - weight) + soil * weight).astype(np.uint8)
        if self.owner is not None:
            self.owner[cover > 127] = self.label

    def finished(self) -> np.ndarray:
        """The picture, uint8 (256, 256, 3) RGB."""
        return cv2.resize(self.image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)

    def mask(self, label: int) -> np.ndarray:
        """Where `label` can be seen, bool (256, 256). Raises ValueError without `owners`."""
        if self.owner is None:
            raise ValueError("this canvas does not note owners")
        seen = (self.owner == label).astype(np.float32)
        return cv2.resize(seen, (SIZE, SIZE), interpolation=cv2.INTER_AREA) >= 0.5
