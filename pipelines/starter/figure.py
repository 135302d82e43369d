"""The storybook person: eighteen joints first, then a body drawn around them.

Joints come in OpenPose's order of eighteen; the figure faces us, so its right side is on the picture's left.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .canvas import SIZE, Canvas

if TYPE_CHECKING:
    from .scenes import Person

JOINTS = (
    "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow",
    "left wrist", "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle",
    "right eye", "left eye", "right ear", "left ear",
)  # fmt: skip
LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10),
    (1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip

SKIN = ((250, 214, 184), (234, 186, 148), (198, 142, 104), (150, 100, 70), (116, 76, 54))
TROUSERS = ((50, 64, 112), (98, 72, 52), (98, 98, 106), (66, 66, 76))
HAIR = {"black": (44, 38, 42), "brown": (118, 74, 44), "blonde": (240, 206, 104), "red": (196, 80, 36)}

# Angles in degrees, each drawn from (low, high): 0 hangs down, 90 points away from the body, 180 up.
# Upper arm and forearm of the right and left side, then thigh and shin of the right and left side.
_POSES: dict[str, tuple[tuple[int, int], ...]] = {
    "standing": ((10, 18), (2, 12), (10, 18), (2, 12), (3, 7), (0, 4), (3, 7), (0, 4)),
    "waving": ((100, 118), (160, 185), (10, 18), (2, 12), (3, 7), (0, 4), (3, 7), (0, 4)),
    "arms up": ((138, 152), (160, 178), (138, 152), (160, 178), (5, 10), (2, 6), (5, 10), (2, 6)),
    "arms out": ((84, 94), (84, 94), (84, 94), (84, 94), (3, 7), (0, 4), (3, 7), (0, 4)),
    "walking": ((26, 34), (0, 10), (24, 32), (34, 46), (20, 25), (26, 34), (20, 25), (12, 18)),
    "running": ((46, 56), (-20, -6), (44, 54), (124, 142), (26, 34), (82, 96), (48, 58), (8, 16)),
    "sitting": ((24, 30), (-14, -6), (24, 30), (-14, -6), (70, 76), (-80, -74), (70, 76), (-80, -74)),
    "free": ((-15, 175), (-40, 190), (-15, 175), (-40, 190), (0, 60), (-40, 60), (0, 60), (-40, 60)),
}
POSES = tuple(name for name in _POSES if name != "free")
_SIDED = ("waving", "walking", "running")  # poses that also come mirrored


def stand_figure(
    x: float, ground: float, height: float, pose: str, young: bool, rng: np.random.Generator
) -> np.ndarray:
    """Joints of a figure in `pose` with its lowest point at `ground`, as float (18, 2) of x, y in pixels.

    `height` is that of the figure upright. The figure is moved sideways where it would leave the picture.
    Raises KeyError for a pose that is not known.
    """
    angles = [rng.uniform(low, high) for low, high in _POSES[pose]]
    arms, legs = (angles[0:2], angles[2:4]), (angles[4:6], angles[6:8])
    if pose in _SIDED and rng.random() < 0.5:
        arms, legs = arms[::-1], legs[::-1]
    unit = height / 100
    head = 15.5 if young else 13.5  # neck to nose
    thigh, shin = (17, 15) if pose == "sitting" else (22, 21)
    joints = np.zeros((18, 2))
    joints[1] = (0, -30)
    joints[0] = (0, -30 - head)
    joints[14:18] = joints[0] + np.array([(-3.4, -2.2), (3.4, -2.2), (-9, 0), (9, 0)])
    for side, shoulder, hip, arm, leg in ((-1, 2, 8, arms[0], legs[0]), (1, 5, 11, arms[1], legs[1])):
        joints[shoulder] = (side * 9.5, -27)
        joints[hip] = (side * 5.5, 0)
        for start, lengths, bend in ((shoulder, (16, 15), arm), (hip, (thigh, shin), leg)):
            for step, (length, angle) in enumerate(zip(lengths, bend, strict=True)):
                turn = math.radians(angle)
                reach = np.array([side * math.sin(turn), math.cos(turn)]) * length
                joints[start + step + 1] = joints[start + step] + reach
    joints *= unit
    lowest = max(joints[:, 1].max(), 4 * unit if pose == "sitting" else -math.inf)
    joints += (x, ground - lowest - 3 * unit)
    margin = 5 * unit
    joints[:, 0] += max(0.0, margin - joints[:, 0].min()) - max(0.0, joints[:, 0].max() - (SIZE - margin))
    return joints


def draw_figure(canvas: Canvas, person: Person, joints: np.ndarray, height: float) -> None:
    """Paint `person` (a scenes.Person) around `joints`, float (18, 2), for a figure `height` pixels tall."""
    unit = height / 100
    at = [joint + 0.0 for joint in joints]
    skin, hair = canvas.lit(SKIN[person.skin]), canvas.lit(HAIR[person.hair])
    from .things import COLOURS  # the palette is shared with houses and sails

    cloth, sleeve = canvas.lit(COLOURS[person.shirt]), canvas.lit(COLOURS[person.shirt], 0.86)
    trousers = TROUSERS[person.trousers]
    dressed = person.kind in ("woman", "girl")
    young = person.kind in ("boy", "girl")
    radius = (11.5 if young else 9.8) * unit
    hx, hy = at[0][0], at[0][1] - 1.2 * unit

    feet = joints[[10, 13, 9, 12]]
    canvas.shade(feet[:2, 0].mean(), feet[:, 1].max() + 2.5 * unit, 20 * unit, 3.6 * unit)
    if dressed:  # long hair falls behind the body
        canvas.ellipse(hx, hy + 5 * unit, radius * 1.22, radius * 1.45, canvas.lit(HAIR[person.hair], 0.86))
    for hip, gain in ((8, 0.9), (11, 1.0)):
        leg = [at[hip], at[hip + 1], at[hip + 2]]
        canvas.limb(leg, 8.6 * unit, skin if dressed else canvas.lit(trousers, gain), 6.6 * unit)
        toe = -1.8 if hip == 8 else 1.8
        x, y = at[hip + 2]
        shoe = [(x, y + 1.2 * unit), (x + toe * unit, y + 1.4 * unit)]
        canvas.limb(shoe, 6.6 * unit, canvas.lit((92, 56, 44)))
    canvas.limb([at[1] + (0, -5 * unit), at[1] + (0, 2 * unit)], 6 * unit, canvas.lit(SKIN[person.skin], 0.9))
    for shoulder in (2, 5):
        canvas.limb([at[shoulder + 1], at[shoulder + 2]], 5.6 * unit, skin, 4.8 * unit)
        canvas.disc(at[shoulder + 2][0], at[shoulder + 2][1], 3.4 * unit, skin)
        canvas.limb([at[shoulder], at[shoulder + 1]], 8 * unit, sleeve, 7 * unit)
    right, left = at[2] + (-1.5 * unit, -3.5 * unit), at[5] + (1.5 * unit, -3.5 * unit)
    hem = 4 * unit
    canvas.polygon([right, left, at[11] + (hem, 3 * unit), at[8] + (-hem, 3 * unit)], cloth)
    for shoulder in (2, 5):
        canvas.disc(at[shoulder][0], at[shoulder][1], 4 * unit, cloth)
    if dressed:
        flare = 7.5 * unit
        skirt = [at[8] + (-2 * unit, -7 * unit), at[11] + (2 * unit, -7 * unit)]
        canvas.polygon([*skirt, at[11] + (flare, 10 * unit), at[8] + (-flare, 10 * unit)], cloth)
        canvas.stroke([at[8] + (-3 * unit, -6 * unit), at[11] + (3 * unit, -6 * unit)], 1.6 * unit, sleeve)
    canvas.disc(hx, hy, radius, skin)
    brow = [
        (hx + radius * 0.95, hy - radius * 0.1),
        (hx, hy - radius * 0.5),
        (hx - radius * 0.95, hy - radius * 0.1),
    ]
    crown = np.linspace(math.pi, 2 * math.pi, 16)
    canvas.polygon(
        [(hx + radius * 1.1 * math.cos(t), hy + radius * 1.14 * math.sin(t)) for t in crown] + brow, hair
    )
    dark = (44, 34, 36)
    for eye in (14, 15):
        canvas.disc(at[eye][0], at[eye][1] + 2.4 * unit, 1.55 * unit, dark)
    mouth = [(hx - 3 * unit, hy + 4.8 * unit), (hx, hy + 6.2 * unit), (hx + 3 * unit, hy + 4.8 * unit)]
    canvas.stroke(mouth, 1.2 * unit, canvas.lit((176, 60, 64)))
