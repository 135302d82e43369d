"""Storybook scenes: `imagine` thinks one up, `paint` draws it with its skeleton and masks.

A scene is data, and paints to the same pixels each time: every choice is in it or drawn from its seed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .canvas import SIZE, Canvas, Colour, mix
from .figure import HAIR, POSES, SKIN, TROUSERS, draw_figure, stand_figure
from .things import (
    COLOURS,
    FUR,
    draw_balloon,
    draw_bird,
    draw_boat,
    draw_cat,
    draw_cloud,
    draw_flower,
    draw_house,
    draw_tree,
)

TIMES = ("day", "sunset", "night", "cloudy")
GROUNDS = ("meadow", "snow", "desert", "beach", "sea")
BACKDROPS = ("mountains", "hills", "forest")
PEOPLE = ("man", "woman", "boy", "girl")
TREES = ("pine", "leafy", "palm", "autumn", "cherry")
SHIRTS = tuple(COLOURS)
PAINTS = tuple(colour for colour in COLOURS if colour != "black")  # houses, sails and balloons
PETALS = ("red", "yellow", "pink", "white", "purple", "blue")
PLACES = ("left", "middle", "right")

_HELD_OUT_SHARE = 40  # one combination of attributes in so many is kept from training


@dataclass(frozen=True)
class Person:
    kind: str
    shirt: str
    hair: str
    pose: str
    place: str
    skin: int = 0
    trousers: int = 0


@dataclass(frozen=True)
class Thing:
    """A house, cat, boat or balloon."""

    colour: str
    place: str


@dataclass(frozen=True)
class Trees:
    kind: str
    count: int
    place: str


@dataclass(frozen=True)
class Scene:
    """All there is to know about a picture. `seed` settles what words do not: sizes, jitter, clouds."""

    time: str
    ground: str
    backdrop: str | None = None
    person: Person | None = None
    house: Thing | None = None
    trees: Trees | None = None
    cat: Thing | None = None
    boat: Thing | None = None
    balloon: Thing | None = None
    flowers: str | None = None
    clouds: bool = False
    orb: bool = False  # the sun or the moon
    stars: bool = False
    birds: bool = False
    seed: int = 0

    @property
    def held_out(self) -> bool:
        """Whether this combination of attributes is kept from training, to measure on."""
        attributes = asdict(self)
        attributes.pop("seed")
        return zlib.crc32(repr(attributes).encode()) % _HELD_OUT_SHARE == 0


@dataclass
class Picture:
    """`pixels` uint8 (256, 256, 3) RGB; `joints` float (18, 2) of x, y, or None without a person; `masks` of
    what can be seen of each thing, bool (256, 256), when they were asked for."""

    pixels: np.ndarray
    joints: np.ndarray | None = None
    masks: dict[str, np.ndarray] = field(default_factory=dict)


def _pick(rng: np.random.Generator, options: Sequence[Any], chances: Sequence[float] | None = None) -> Any:
    return options[int(rng.choice(len(options), p=chances))]


def imagine(rng: np.random.Generator, free_poses: float = 0.0) -> Scene:
    """A random scene. `free_poses` is the share of people in a pose that has no name."""
    time = _pick(rng, TIMES, (0.28, 0.24, 0.26, 0.22))
    ground = _pick(rng, GROUNDS, (0.32, 0.21, 0.14, 0.17, 0.16))
    places = [PLACES[i] for i in rng.permutation(3)]
    parts: dict = {"time": time, "ground": ground, "seed": int(rng.integers(1 << 31))}
    at_sea = ground == "sea"

    if not at_sea and rng.random() < 0.64:
        pose = "free" if rng.random() < free_poses else _pick(rng, POSES)
        parts["person"] = Person(
            kind=_pick(rng, PEOPLE), shirt=_pick(rng, SHIRTS), hair=_pick(rng, tuple(HAIR)), pose=pose,
            place=places.pop(), skin=int(rng.integers(len(SKIN))), trousers=int(rng.integers(len(TROUSERS))),
        )  # fmt: skip
    if ground not in ("sea", "beach") and rng.random() < 0.46:
        parts["house"] = Thing(_pick(rng, PAINTS), places.pop())
    if not at_sea and places and rng.random() < 0.24:
        parts["cat"] = Thing(_pick(rng, tuple(FUR)), places.pop())
    if not at_sea and places and rng.random() < 0.5:
        kinds = {"meadow": TREES, "snow": ("pine",), "desert": ("palm",), "beach": ("palm",)}[ground]
        parts["trees"] = Trees(_pick(rng, kinds), int(_pick(rng, (1, 1, 2))), places.pop())
    if (at_sea and rng.random() < 0.88) or (ground == "beach" and places and rng.random() < 0.6):
        parts["boat"] = Thing(_pick(rng, PAINTS), places.pop())
    if ground == "meadow" and rng.random() < 0.3:
        parts["flowers"] = _pick(rng, PETALS)
    if ground in ("meadow", "snow"):
        parts["backdrop"] = _pick(rng, (None, *BACKDROPS), (0.3, 0.28, 0.24, 0.18))
    elif ground == "desert":
        parts["backdrop"] = _pick(rng, (None, "mountains"), (0.65, 0.35))
    above = [place for place in PLACES if "person" not in parts or place != parts["person"].place]
    if rng.random() < 0.13:
        parts["balloon"] = Thing(_pick(rng, PAINTS), _pick(rng, above))
    parts["orb"] = time != "cloudy" and bool(rng.random() < 0.7)
    parts["stars"] = time == "night" and bool(rng.random() < 0.85)
    parts["clouds"] = time == "cloudy" or (time != "night" and bool(rng.random() < 0.5))
    parts["birds"] = time != "night" and bool(rng.random() < 0.1)
    return Scene(**parts)


# Light -------------------------------------------------------------------------------------------------

_SKY: dict[str, tuple[Colour, Colour]] = {
    "day": ((74, 158, 236), (200, 231, 252)),
    "sunset": ((98, 70, 144), (255, 164, 92)),
    "night": ((13, 20, 60), (58, 76, 140)),
    "cloudy": ((134, 145, 158), (204, 210, 216)),
}
# Mild enough that a red shirt stays red: colours have to be told apart at every hour.
_TINT: dict[str, Colour] = {
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.89, 0.84),
    "night": (0.68, 0.71, 0.88),
    "cloudy": (0.89, 0.90, 0.92),
}
_GROUND: dict[str, tuple[Colour, Colour]] = {
    "meadow": ((104, 184, 80), (62, 140, 60)),
    "snow": ((246, 250, 254), (216, 228, 242)),
    "desert": ((242, 204, 132), (220, 170, 98)),
    "beach": ((250, 228, 172), (236, 204, 142)),
    "sea": ((52, 146, 196), (24, 90, 154)),
}
_ORB: dict[str, Colour] = {"day": (255, 230, 92), "sunset": (255, 200, 88), "night": (246, 244, 222)}
_CLOUD: dict[str, tuple[Colour, Colour]] = {
    "day": ((255, 255, 255), (226, 239, 250)),
    "sunset": ((255, 202, 178), (236, 160, 150)),
    "night": ((74, 86, 138), (58, 70, 120)),
    "cloudy": ((236, 239, 242), (208, 213, 219)),
}


def _jitter(rng: np.random.Generator, colour: Colour, amount: float = 7.0) -> Colour:
    shift = rng.uniform(-amount, amount, 3) * 0.6 + rng.uniform(-amount, amount)
    return tuple(np.clip(np.asarray(colour) + shift, 0, 255))


def _wave(rng: np.random.Generator, height: float, swings: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A gentle line across the picture: x and its rise, both (40,)."""
    x = np.linspace(0, SIZE, 40)
    rise = np.zeros(40)
    for k in range(1, swings + 1):
        turns = x / SIZE * 2 * math.pi * k * rng.uniform(0.5, 1.2)
        rise += np.sin(turns + rng.uniform(0, 2 * math.pi)) * height / k
    return x, rise


def _column(place: str, rng: np.random.Generator, jitter: float = 9.0) -> float:
    return {"left": 50, "middle": 128, "right": 206}[place] + rng.uniform(-jitter, jitter)


# Painting ----------------------------------------------------------------------------------------------

_LABELS = ("person", "house", "trees", "cat", "boat", "balloon", "flowers", "orb")


class _Painter:
    """Paints one scene from back to front."""

    def __init__(self, scene: Scene, masks: bool) -> None:
        self.scene = scene
        self.rng = np.random.default_rng(scene.seed)
        self.canvas = Canvas(_TINT[scene.time], owners=masks)
        self.night = scene.time == "night"
        low, high = (112, 132) if scene.ground == "sea" else (126, 146)
        self.horizon = self.rng.uniform(low, high)
        self.sky = tuple(_jitter(self.rng, colour) for colour in _SKY[scene.time])
        self.joints: np.ndarray | None = None

    def own(self, name: str | None) -> None:
        """What is painted next belongs to `name`."""
        self.canvas.label = _LABELS.index(name) + 1 if name else 0

    def paint(self) -> Picture:
        self.paint_sky()
        self.paint_backdrop()
        if self.scene.ground in ("sea", "beach"):
            self.paint_sea()
        else:
            self.paint_land()
        self.paint_balloon()
        self.paint_things()
        masks = {}
        if self.canvas.owner is not None:
            shown = [(name, getattr(self.scene, name)) for name in _LABELS]
            masks = {name: self.canvas.mask(_LABELS.index(name) + 1) for name, there in shown if there}
        return Picture(self.canvas.finished(), self.joints, masks)

    def paint_sky(self) -> None:
        scene, rng, canvas = self.scene, self.rng, self.canvas
        canvas.gradient(0, self.horizon + 24, *self.sky)
        if scene.stars:
            for _ in range(rng.integers(22, 40)):
                x, y = rng.uniform(3, SIZE - 3), rng.uniform(3, self.horizon - 12)
                canvas.disc(x, y, _pick(rng, (0.9, 1.2, 1.6)), (244, 244, 255))
        avoid = [_column(thing.place, rng, 0) for thing in (scene.balloon,) if thing]
        if scene.orb:
            x = rng.uniform(30, 226)
            while any(abs(x - other) < 52 for other in avoid):
                x = rng.uniform(30, 226)
            low = scene.time == "sunset"
            y = self.horizon - rng.uniform(2, 22) if low else rng.uniform(26, 56)
            radius, light = rng.uniform(15, 20), _ORB[scene.time]
            canvas.glow(x, y, radius * 2.4, mix(light, (255, 255, 255), 0.25), 0.35 if self.night else 0.55)
            self.own("orb")
            canvas.disc(x, y, radius, light)
            if self.night:
                for dx, dy, size in ((-0.3, -0.25, 0.2), (0.3, 0.2, 0.26), (-0.15, 0.45, 0.14)):
                    canvas.disc(x + dx * radius, y + dy * radius, size * radius, (226, 222, 196))
            self.own(None)
            self.orb_at = (x, radius)
        if scene.clouds:
            for _ in range(rng.integers(2, 5)):
                x, y = rng.uniform(14, 242), rng.uniform(22, self.horizon * 0.5)
                draw_cloud(canvas, x, y, rng.uniform(40, 62), *_CLOUD[scene.time])
        if scene.birds:
            for _ in range(rng.integers(3, 5)):
                draw_bird(canvas, rng.uniform(20, 236), rng.uniform(22, 88), rng.uniform(6, 9))

    def haze(self, colour: Colour, share: float) -> Colour:
        """A far thing's colour, taking on the sky's."""
        return mix(self.canvas.lit(colour), self.sky[1], share)

    def paint_backdrop(self) -> None:
        rng, canvas, horizon = self.rng, self.canvas, self.horizon
        snowy = self.scene.ground == "snow"
        if self.scene.backdrop == "mountains":
            for stone, low, high, haze in (((132, 146, 178), 50, 78, 0.3), ((98, 114, 148), 26, 46, 0.15)):
                x = -20.0
                while x < SIZE + 20:
                    width, height = rng.uniform(70, 112), rng.uniform(low, high)
                    px, top, foot = x + width / 2, horizon + 8 - height, horizon + 24
                    rock = self.haze(stone, haze)
                    canvas.polygon([(x - 10, foot), (px, top), (x + width + 10, foot)], rock)
                    side = [(px, top), (x + width + 10, foot), (px + width * 0.1, foot)]
                    canvas.polygon(side, mix(rock, (0, 0, 0), 0.1))
                    if low == 50:
                        dx, dy = (width / 2 + 10) * 0.28, (height + 16) * 0.28
                        snow = [
                            (px - dx, top + dy),
                            (px, top),
                            (px + dx, top + dy),
                            (px + dx * 0.3, top + dy * 0.75),
                        ]
                        canvas.polygon(
                            [*snow, (px - dx * 0.25, top + dy * 1.1)], self.haze((248, 250, 254), 0.1)
                        )
                    x += width * rng.uniform(0.6, 0.8)
        elif self.scene.backdrop == "hills":
            red, green, blue = _GROUND[self.scene.ground][1]
            for layer, (gain, haze) in enumerate(((0.72, 0.34), (0.82, 0.18))):
                along, rise = _wave(rng, 12 - 3 * layer, 2)
                grassy = (red * gain, green * gain, blue * gain)
                tone = self.haze(grassy, haze * (0.5 if self.night else 1))
                canvas.land(zip(along, horizon - 15 + 12 * layer + rise, strict=True), tone, tone)
        elif self.scene.backdrop == "forest":
            for layer in range(2):
                tone = self.haze((78, 116, 112) if snowy else (44, 104, 74), 0.24 - 0.2 * layer)
                x = -6.0
                while x < SIZE + 6:
                    height = rng.uniform(32, 46) - 7 * layer
                    foot = horizon + 18
                    canvas.polygon(
                        [(x - height * 0.3, foot), (x + height * 0.3, foot), (x, foot - 2 - height)], tone
                    )
                    x += rng.uniform(9, 14)

    def paint_sea(self) -> None:
        scene, rng, canvas, horizon = self.scene, self.rng, self.canvas, self.horizon
        far, near = (canvas.lit(_jitter(rng, colour)) for colour in _GROUND["sea"])
        canvas.gradient(horizon, SIZE, mix(far, self.sky[1], 0.22), near)
        foam = mix(near, (255, 255, 255), 0.3)
        for _ in range(16):
            y = horizon + 6 + (SIZE - horizon) * rng.random() ** 1.4
            x, width = rng.uniform(0, SIZE), 6 + (y - horizon) * 0.1
            crest = [
                (x - width, y),
                (x - width / 2, y - width * 0.13),
                (x, y),
                (x + width / 2, y - width * 0.13),
            ]
            canvas.stroke([*crest, (x + width, y)], 1.2, foam)
        if scene.orb and scene.time != "day":
            x, radius = self.orb_at
            for k in range(5):
                y, width = horizon + 5 + k * 6, radius * (1 - k * 0.13) * rng.uniform(0.75, 1.1)
                canvas.stroke([(x - width, y), (x + width, y)], 2, mix(_ORB[scene.time], near, 0.25))
        if scene.boat:
            out = scene.ground == "sea"
            width = rng.uniform(78, 100) if out else rng.uniform(46, 54)
            y = horizon + (rng.uniform(38, 66) if out else rng.uniform(14, 18))
            x = _column(scene.boat.place, rng)
            self.own("boat")
            draw_boat(canvas, x, y, width, scene.boat.colour)
            self.own(None)
        if scene.ground == "beach":
            shore = horizon + rng.uniform(26, 34)
            along, rise = _wave(rng, 3.5, 2)
            first, last = (canvas.lit(_jitter(rng, colour, 5)) for colour in _GROUND["beach"])
            surf = canvas.lit((250, 252, 254))
            canvas.land(zip(along, shore - 4 + rise, strict=True), surf, surf)
            canvas.land(zip(along, shore + rise, strict=True), first, last)

    def paint_land(self) -> None:
        ground, rng, canvas, horizon = self.scene.ground, self.rng, self.canvas, self.horizon
        along, rise = _wave(rng, 4, 2)
        first, last = (canvas.lit(_jitter(rng, colour, 5)) for colour in _GROUND[ground])
        canvas.land(zip(along, horizon + 8 + rise, strict=True), first, last)
        if ground == "meadow":
            for _ in range(24):
                x, y = rng.uniform(0, SIZE), rng.uniform(horizon + 24, SIZE - 2)
                canvas.stroke([(x - 2, y - 5), (x, y), (x + 2, y - 5)], 1.2, mix(last, (0, 40, 0), 0.2))
        elif ground == "snow":
            for _ in range(5):
                x, y = rng.uniform(0, SIZE), rng.uniform(horizon + 24, SIZE - 6)
                canvas.ellipse(x, y, rng.uniform(18, 36), rng.uniform(2, 4), mix(last, (120, 150, 200), 0.14))
        else:
            for _ in range(5):
                x, y, width = rng.uniform(0, SIZE), rng.uniform(horizon + 24, SIZE - 6), rng.uniform(22, 44)
                ripple = [
                    (x - width, y + 2),
                    (x - width * 0.3, y - 2),
                    (x + width * 0.3, y - 1),
                    (x + width, y + 2),
                ]
                canvas.stroke(ripple, 1.6, mix(last, (140, 80, 20), 0.2))

    def paint_balloon(self) -> None:
        if not self.scene.balloon:
            return
        rng = self.rng
        radius = rng.uniform(22, 27)
        self.own("balloon")
        draw_balloon(self.canvas, _column(self.scene.balloon.place, rng), rng.uniform(36, 48), radius,
                     self.scene.balloon.colour)  # fmt: skip
        self.own(None)

    def paint_things(self) -> None:
        scene, rng, canvas, horizon = self.scene, self.rng, self.canvas, self.horizon
        base = horizon + 34 if scene.ground == "beach" else horizon
        if scene.house:
            self.own("house")
            y, width = horizon + rng.uniform(28, 40), rng.uniform(72, 84)
            draw_house(canvas, _column(scene.house.place, rng), y, width, scene.house.colour, self.night, rng)
        if scene.trees:
            self.own("trees")
            middle = _column(scene.trees.place, rng, 7)
            for k in range(scene.trees.count):
                x = middle + (k - (scene.trees.count - 1) / 2) * 30
                y, height = base + rng.uniform(26, 40) + 5 * k, rng.uniform(82, 104)
                draw_tree(canvas, x, y, height, scene.trees.kind, scene.ground == "snow", rng)
        if scene.flowers:
            self.own("flowers")
            for y in np.sort(rng.uniform(horizon + 44, SIZE - 5, rng.integers(22, 34))):
                draw_flower(canvas, rng.uniform(3, SIZE - 3), y, 1.9 + (y - horizon) * 0.018, scene.flowers)
        if scene.cat:
            self.own("cat")
            x, y, height = _column(scene.cat.place, rng), rng.uniform(222, 246), rng.uniform(62, 76)
            draw_cat(canvas, x, y, height, scene.cat.colour, rng)
        if scene.person:
            self.own("person")
            young = scene.person.kind in ("boy", "girl")
            height = rng.uniform(104, 120) if young else rng.uniform(126, 146)
            free = scene.person.pose == "free"  # poses that people drag together stand anywhere, at any size
            x, y = _column(scene.person.place, rng, 36 if free else 9), rng.uniform(208 if free else 228, 247)
            height *= rng.uniform(0.8, 1.15) if free else 1
            self.joints = stand_figure(x, y, height, scene.person.pose, young, rng)
            draw_figure(canvas, scene.person, self.joints, height)
        self.own(None)


def paint(scene: Scene, masks: bool = False) -> Picture:
    """Draws `scene`; with `masks`, also what can be seen of person, house, trees, cat, boat, balloon, flowers
    and sun or moon. Raises KeyError for an attribute that does not exist."""
    return _Painter(scene, masks).paint()
