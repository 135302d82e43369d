"""What stands in a storybook scene besides people: one drawer for each thing, and the palette they share.

Every drawer takes the canvas, the middle of the thing's foot in pixels and its size, and draws upward.
"""

from __future__ import annotations

import math

import numpy as np

from .canvas import Canvas, Colour

COLOURS: dict[str, Colour] = {
    "red": (212, 42, 44), "blue": (44, 98, 216), "yellow": (250, 212, 48), "green": (38, 148, 76),
    "pink": (250, 150, 196), "purple": (130, 66, 180), "orange": (246, 138, 30),
    "white": (248, 246, 240), "black": (42, 42, 48),
}  # fmt: skip
FUR: dict[str, Colour] = {
    "black": (50, 48, 54), "white": (246, 242, 234), "orange": (238, 146, 58), "grey": (146, 148, 156),
}  # fmt: skip
_WHITE = (250, 250, 246)
_WOOD = (112, 76, 50)


def draw_house(
    canvas: Canvas, x: float, y: float, width: float, colour: str, night: bool, rng: np.random.Generator
) -> None:
    wall, side = canvas.lit(COLOURS[colour]), canvas.lit(COLOURS[colour], 0.87)
    height, peak = width * rng.uniform(0.62, 0.68), width * rng.uniform(0.40, 0.46)
    roof = (92, 80, 84) if colour in ("red", "orange", "pink") else (160, 74, 58)
    canvas.shade(x, y + 1, width * 0.66, width * 0.07)
    canvas.box(x - width / 2, y - height, x + width / 2, y, wall)
    canvas.box(x + width * 0.26, y - height, x + width / 2, y, side)
    cx = x + width * 0.27
    canvas.box(
        cx, y - height - peak * 0.92, cx + width * 0.12, y - height - peak * 0.1, canvas.lit(roof, 0.8)
    )
    eaves = y - height + width * 0.04
    canvas.polygon(
        [(x - width * 0.6, eaves), (x + width * 0.6, eaves), (x, y - height - peak)], canvas.lit(roof)
    )
    canvas.box(x - width * 0.5, eaves, x + width * 0.5, eaves + width * 0.035, side)
    canvas.box(x - width * 0.095, y - height * 0.58, x + width * 0.095, y, canvas.lit((112, 72, 46)))
    canvas.disc(x + width * 0.05, y - height * 0.28, width * 0.02, canvas.lit((240, 210, 110)))
    pane = (255, 224, 120) if night else canvas.lit((180, 220, 244))
    for offset in (-0.3, 0.3):
        half, wx, wy = width * 0.092, x + offset * width, y - height * 0.55
        frame = half + width * 0.024
        canvas.box(wx - frame, wy - frame, wx + frame, wy + frame, canvas.lit(_WHITE))
        canvas.box(wx - half, wy - half, wx + half, wy + half, pane)
        canvas.stroke([(wx, wy - half), (wx, wy + half)], 1.4, canvas.lit(_WHITE))
        canvas.stroke([(wx - half, wy), (wx + half, wy)], 1.4, canvas.lit(_WHITE))


def _draw_pine(
    canvas: Canvas, x: float, y: float, height: float, snowy: bool, rng: np.random.Generator
) -> None:
    canvas.box(x - height * 0.04, y - height * 0.3, x + height * 0.04, y, canvas.lit(_WOOD))
    for tier in range(3):
        half, base = height * (0.30 - 0.065 * tier), y - height * (0.15 + 0.23 * tier)
        green = (36 + tier * 8, 104 + tier * 12, 72 + tier * 4)
        tip = (x, base - height * 0.40)
        canvas.polygon([(x - half, base), (x + half, base), tip], canvas.lit(green))
        canvas.polygon([(x, base), (x + half, base), tip], canvas.lit(green, 0.88))
        if snowy:
            cap = [(x - half * 0.46, base - height * 0.21), (x + half * 0.46, base - height * 0.21), tip]
            canvas.polygon(cap, canvas.lit((248, 251, 255)))


def _draw_palm(
    canvas: Canvas, x: float, y: float, height: float, snowy: bool, rng: np.random.Generator
) -> None:
    lean = rng.uniform(-0.13, 0.13) * height
    trunk = [(x + lean * t * t, y - height * 0.72 * t) for t in np.linspace(0, 1, 7)]
    canvas.limb(trunk, height * 0.09, canvas.lit((156, 112, 70)), height * 0.055)
    tx, ty = trunk[-1]
    along = np.linspace(0, 1, 8)
    for number, turn in enumerate(np.linspace(-0.2, math.pi + 0.2, 7)):
        dx, dy = math.cos(turn) * height * 0.37, -math.sin(turn) * height * 0.24
        under = [(tx + dx * t, ty + dy * t + height * 0.2 * t * t) for t in along]
        over = [
            (px, py - height * 0.075 * math.sin(math.pi * t))
            for (px, py), t in zip(under, along, strict=True)
        ]
        canvas.polygon(under + over[::-1], canvas.lit((46, 142, 70), 0.88 if number % 2 else 1.08))
    for offset in (-0.035, 0.035):
        canvas.disc(tx + height * offset, ty + height * 0.03, height * 0.036, canvas.lit((98, 66, 44)))


_CROWNS: dict[str, Colour] = {"leafy": (74, 156, 66), "autumn": (230, 116, 34), "cherry": (250, 170, 204)}
_PUFFS = (
    (0, -0.66, 0.24),
    (-0.19, -0.56, 0.19),
    (0.19, -0.56, 0.19),
    (-0.10, -0.78, 0.17),
    (0.11, -0.77, 0.17),
)


def _draw_crowned(
    canvas: Canvas, x: float, y: float, height: float, crown: Colour, rng: np.random.Generator
) -> None:
    trunk = [(x - height * 0.06, y), (x + height * 0.06, y), (x + height * 0.035, y - height * 0.5)]
    canvas.polygon([*trunk, (x - height * 0.035, y - height * 0.5)], canvas.lit(_WOOD))
    for dx, dy, size in _PUFFS:
        canvas.disc(x + dx * height, y + (dy + 0.03) * height, size * height, canvas.lit(crown, 0.84))
    for dx, dy, size in _PUFFS:
        canvas.disc(
            x + (dx - 0.015) * height, y + (dy - 0.01) * height, size * height * 0.93, canvas.lit(crown)
        )
    for _ in range(5):
        px, py = x + rng.uniform(-0.2, 0.2) * height, y - rng.uniform(0.52, 0.85) * height
        canvas.disc(px, py, height * 0.036, canvas.lit(crown, 1.13))


def draw_tree(
    canvas: Canvas, x: float, y: float, height: float, kind: str, snowy: bool, rng: np.random.Generator
) -> None:
    canvas.shade(x, y + 0.5, height * 0.26, height * 0.035)
    if kind == "pine":
        _draw_pine(canvas, x, y, height, snowy, rng)
    elif kind == "palm":
        _draw_palm(canvas, x, y, height, snowy, rng)
    else:
        _draw_crowned(canvas, x, y, height, _CROWNS[kind], rng)


def draw_cat(
    canvas: Canvas, x: float, y: float, height: float, colour: str, rng: np.random.Generator
) -> None:
    fur, shaded = canvas.lit(FUR[colour]), canvas.lit(FUR[colour], 0.84)
    face = 1 if rng.random() < 0.5 else -1
    canvas.shade(x, y, height * 0.40, height * 0.06)
    tail = [(x + face * height * (0.2 + 0.25 * math.sin(t * 1.6)), y - height * (0.07 + 0.42 * t))
            for t in np.linspace(0, 1, 9)]  # fmt: skip
    canvas.limb(tail, height * 0.1, shaded)
    canvas.ellipse(x, y - height * 0.28, height * 0.24, height * 0.29, fur)
    hx, hy = x - face * height * 0.03, y - height * 0.64
    for side in (-1, 1):
        ear = [
            (hx + side * height * 0.21, hy - height * 0.05),
            (hx + side * height * 0.04, hy - height * 0.15),
        ]
        canvas.polygon([*ear, (hx + side * height * 0.19, hy - height * 0.34)], fur)
        inner = [
            (hx + side * height * 0.175, hy - height * 0.1),
            (hx + side * height * 0.09, hy - height * 0.15),
        ]
        canvas.polygon([*inner, (hx + side * height * 0.17, hy - height * 0.26)], canvas.lit((236, 164, 164)))
    canvas.ellipse(hx, hy, height * 0.24, height * 0.2, fur)
    for side in (-1, 1):
        canvas.ellipse(x + side * height * 0.09, y - height * 0.05, height * 0.085, height * 0.055, shaded)
        ex, ey = hx + side * height * 0.095, hy - height * 0.02
        canvas.ellipse(ex, ey, height * 0.052, height * 0.056, (156, 206, 76))
        canvas.ellipse(ex, ey, height * 0.024, height * 0.048, (22, 22, 26))
    nose = [(hx - height * 0.03, hy + height * 0.06), (hx + height * 0.03, hy + height * 0.06)]
    canvas.polygon([*nose, (hx, hy + height * 0.095)], canvas.lit((232, 122, 134)))


def draw_boat(canvas: Canvas, x: float, y: float, width: float, colour: str) -> None:
    """A sailboat whose waterline is at `y`."""
    sail, shaded = canvas.lit(COLOURS[colour]), canvas.lit(COLOURS[colour], 0.86)
    canvas.shade(x, y + width * 0.1, width * 0.5, width * 0.07, 0.3)
    canvas.limb(
        [(x, y - width * 0.1), (x, y - width * 0.97)], max(2.0, width * 0.04), canvas.lit((100, 70, 50))
    )
    main = [(x + width * 0.04, y - width * 0.92), (x + width * 0.04, y - width * 0.2)]
    canvas.polygon([*main, (x + width * 0.46, y - width * 0.2)], sail)
    jib = [(x - width * 0.04, y - width * 0.8), (x - width * 0.04, y - width * 0.2)]
    canvas.polygon([*jib, (x - width * 0.34, y - width * 0.2)], shaded)
    rail, keel = y - width * 0.14, y + width * 0.08
    canvas.polygon(
        [
            (x - width * 0.5, rail),
            (x + width * 0.52, rail),
            (x + width * 0.36, keel),
            (x - width * 0.36, keel),
        ],
        canvas.lit((136, 84, 54)),
    )
    canvas.limb(
        [(x - width * 0.5, rail), (x + width * 0.52, rail)],
        max(1.6, width * 0.04),
        canvas.lit((240, 230, 214)),
    )


def draw_balloon(canvas: Canvas, x: float, y: float, radius: float, colour: str) -> None:
    """A hot-air balloon whose envelope is centred at (x, y)."""
    cloth, light = canvas.lit(COLOURS[colour]), canvas.lit(COLOURS[colour], 0.84)
    for side in (-0.25, 0.25):
        rope = [(x + radius * side, y + radius * 1.3), (x + radius * side * 0.7, y + radius * 1.8)]
        canvas.stroke(rope, 1.2, canvas.lit((96, 74, 54)))
    canvas.disc(x, y, radius, cloth)
    shoulder, mouth = y + radius * 0.5, y + radius * 1.42
    canvas.polygon([(x - radius * 0.87, shoulder), (x + radius * 0.87, shoulder), (x + radius * 0.26, mouth),
                    (x - radius * 0.26, mouth)], cloth)  # fmt: skip
    canvas.ellipse(x, y, radius * 0.38, radius, light)
    canvas.polygon([(x - radius * 0.32, shoulder), (x + radius * 0.32, shoulder), (x + radius * 0.12, mouth),
                    (x - radius * 0.12, mouth)], light)  # fmt: skip
    canvas.box(
        x - radius * 0.24, y + radius * 1.75, x + radius * 0.24, y + radius * 2.15, canvas.lit((142, 98, 60))
    )


def draw_flower(canvas: Canvas, x: float, y: float, size: float, colour: str) -> None:
    """A five-petalled flower whose heart is at (x, y)."""
    canvas.stroke([(x, y), (x, y + size * 2.4)], 1.2, canvas.lit((54, 128, 56)))
    petal = canvas.lit(COLOURS[colour])
    for turn in np.arange(5) * (2 * math.pi / 5):
        canvas.disc(x + size * math.cos(turn), y + size * math.sin(turn), size * 0.75, petal)
    canvas.disc(x, y, size * 0.6, canvas.lit((252, 228, 92) if colour != "yellow" else (200, 120, 44)))


def draw_cloud(canvas: Canvas, x: float, y: float, width: float, colour: Colour, shade: Colour) -> None:
    puffs = ((0, 0, 0.26), (-0.28, 0.06, 0.19), (0.28, 0.05, 0.2), (-0.12, -0.1, 0.2), (0.14, -0.09, 0.19))
    for paint, drop in ((shade, 0.05), (colour, 0.0)):
        for dx, dy, size in puffs:
            canvas.disc(x + dx * width, y + (dy + drop) * width, size * width, paint)


def draw_bird(canvas: Canvas, x: float, y: float, span: float) -> None:
    wing = [(x - span, y - span * 0.4), (x - span * 0.4, y - span * 0.6), (x, y)]
    canvas.stroke([*wing, (x + span * 0.4, y - span * 0.6), (x + span, y - span * 0.4)], 1.5, (56, 56, 66))
