"""People as OpenPose's eighteen joints: reading and writing its JSON, and drawing the map ControlNets follow.

A pose is a tuple of eighteen joints, each (x, y) as shares of the picture's width and height, or None where
it is not seen. Joints may lie outside of the picture, from `LEAST` to `MOST`.
"""

from __future__ import annotations

import importlib
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

Joint = tuple[float, float] | None
Pose = Sequence[Joint]

JOINTS = (
    "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow",
    "left wrist", "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle",
    "right eye", "left eye", "right ear", "left ear",
)  # fmt: skip

MOST_PEOPLE = 8
"""More than that are dots to a ControlNet, and a page full of handles to a hand."""

LEAST, MOST = -1.0, 2.0
"""How far outside of the picture a joint may lie, in shares: a whole picture to each side."""

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "poses"

_MOST_TEXT = 4_000_000  # characters; OpenPose writes about 3000 for a person with face and hands
_LARGEST_SHARE = 2.0
_WAY_OUT = "Take a file that OpenPose, its editors or this page's Export wrote."
_BODY_25 = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)  # leaves out mid-hip and feet
_OPPOSITE = tuple(
    JOINTS.index(name.replace("right", "left") if name.startswith("right") else name.replace("left", "right"))
    for name in JOINTS
)


class InvalidPose(ValueError):
    """A pose that cannot be used; its text is a sentence for the person who gave it."""


class Preset(NamedTuple):
    """A pose to begin with: its key, its title, and its people as shares of a square picture."""

    key: str
    title: str
    poses: tuple[Pose, ...]


class _Size(NamedTuple):
    width: float
    height: float


def controlnet_aux() -> Any:
    """The library, imported when first needed: that takes seconds, and warns of packages nobody asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("controlnet_aux")


def draw_poses(poses: Sequence[Pose], width: int, height: int) -> np.ndarray:
    """The skeletons of `poses` on black, uint8 (height, width, 3), drawn by controlnet-aux itself."""
    import numpy as np

    drawing = controlnet_aux().open_pose
    draw_bodypose, keypoint = drawing.util.draw_bodypose, drawing.body.Keypoint
    canvas = np.zeros((height, width, 3), np.uint8)
    for pose in poses:
        draw_bodypose(canvas, [None if joint is None else keypoint(*joint) for joint in pose])
    return canvas


def parse(text: str, width: int, height: int) -> tuple[Pose, ...]:
    """The people of OpenPose's JSON, for a picture of width x height pixels.

    Read are OpenPose's own form with 18 or 25 body joints, and a list of such (the webui's editor, ComfyUI's
    POSE_KEYPOINT), of which the first that shows anybody counts. Coordinates are pixels of the file's canvas,
    else of the picture; where none exceeds 2 they are shares, since some programs write those beside a canvas
    size. A canvas of another shape is fitted into the picture, so that nobody is squeezed. Hands and faces
    are left out. Raises InvalidPose.
    """
    if len(text) > _MOST_TEXT:
        raise InvalidPose(f"The text is too long for a pose: over {_MOST_TEXT:,} characters. {_WAY_OUT}")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidPose(f"This is no pose: the text stops being JSON{where}. {_WAY_OUT}") from error
    frame = _frame(told)
    rows = [(number, _numbers(person, number)) for number, person in enumerate(frame["people"], 1)]
    bodies = [_joints(numbers, number) for number, numbers in rows if numbers]
    if not bodies:
        raise InvalidPose(f"The file shows no people: no body has joints in it. {_WAY_OUT}")
    picture = _Size(width, height)
    canvas = _canvas(frame) or picture
    largest = max((abs(value) for body in bodies for joint in body if joint for value in joint), default=0.0)
    if largest <= _LARGEST_SHARE:
        if canvas.width * height == canvas.height * width:
            return check(bodies)
        bodies = [_scaled(body, canvas) for body in bodies]
    return check([_fitted(body, canvas, picture) for body in bodies])


def format(poses: Sequence[Pose], width: int, height: int) -> str:
    """`poses` as OpenPose's JSON in pixels of a canvas of width x height; a hidden joint is 0, 0, 0.

    `parse` gives the same poses back, unless everybody stands within two pixels of the upper left corner.
    """
    people = [
        {
            "pose_keypoints_2d": [
                value
                for joint in pose
                for value in ((0, 0, 0) if joint is None else (joint[0] * width, joint[1] * height, 1))
            ]
        }
        for pose in poses
    ]
    return json.dumps({"canvas_width": width, "canvas_height": height, "people": people})


def check(poses: Any) -> tuple[Pose, ...]:
    """`poses` as tuples, if they are one: up to `MOST_PEOPLE` of eighteen joints, two of them seen.

    Takes what JSON makes of them too: lists of [x, y] or null. Raises InvalidPose for anything else.
    """
    if not isinstance(poses, list | tuple) or not poses:
        raise InvalidPose("There are no people in this pose. Add a person, or choose one of the poses.")
    if len(poses) > MOST_PEOPLE:
        raise InvalidPose(
            f"There are {len(poses)} people in this pose, and {MOST_PEOPLE} are the most. "
            "Remove those who matter least."
        )
    return tuple(_checked(pose, number) for number, pose in enumerate(poses, 1))


def mirrored(pose: Pose) -> Pose:
    """The pose as a mirror shows it: x turned around, and right and left exchanged."""
    turned = [None if joint is None else (1.0 - joint[0], joint[1]) for joint in pose]
    return tuple(turned[other] for other in _OPPOSITE)


@lru_cache(maxsize=1)
def presets() -> tuple[Preset, ...]:
    """The poses of assets/poses, in the order of their file names, whose part after the dash is the key."""
    return tuple(_preset(path) for path in sorted(FOLDER.glob("*.json")))


def _preset(path: Path) -> Preset:
    text = path.read_text("utf-8")
    return Preset(path.stem.partition("-")[2], json.loads(text)["title"], parse(text, 256, 256))


def _frame(told: Any) -> dict[str, Any]:
    """The object that holds "people", also where it is one of a list."""
    frames = [one for one in (told if isinstance(told, list) else [told]) if isinstance(one, dict)]
    frames = [one for one in frames if isinstance(one.get("people"), list)]
    if not frames:
        raise InvalidPose(f'This is no OpenPose file: it has no list of "people". {_WAY_OUT}')
    return next((one for one in frames if one["people"]), frames[0])


def _numbers(person: Any, number: int) -> list[Any]:
    """A person's x, y and confidence, one after the other; none for one whose body was not found."""
    numbers = person.get("pose_keypoints_2d") if isinstance(person, dict) else None
    if numbers is None and isinstance(person, dict):
        return []
    if not isinstance(numbers, list):
        raise InvalidPose(f'Person {number} has no list of "pose_keypoints_2d". {_WAY_OUT}')
    return numbers


def _joints(numbers: list[Any], person: int) -> Pose:
    if len(numbers) not in (3 * 18, 3 * 25):
        raise InvalidPose(
            f"Person {person} has {len(numbers)} numbers, which fits neither OpenPose's 18 joints (54: x, y "
            f"and confidence of each) nor its 25 (75). {_WAY_OUT}"
        )
    joints: list[Joint] = []
    for index in _BODY_25 if len(numbers) == 3 * 25 else range(18):
        x, y, confidence = (_number(value, person) for value in numbers[3 * index : 3 * index + 3])
        joints.append((x, y) if confidence > 0 else None)
    return tuple(joints)


def _number(value: Any, person: int) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise InvalidPose(
        f"A joint of person {person} is {str(value)[:20]!r} where a number should be, so its place is "
        "not known. Set it to 0, 0, 0 (not seen), or take another file."
    )


def _canvas(frame: dict[str, Any]) -> _Size | None:
    sides = [frame.get("canvas_width"), frame.get("canvas_height")]
    if all(isinstance(side, int | float) and 1 <= side <= 1e6 for side in sides):
        return _Size(*sides)  # type: ignore[arg-type]
    return None


def _scaled(pose: Pose, canvas: _Size) -> Pose:
    """A pose in shares of `canvas`, in its pixels."""
    return tuple(joint and (joint[0] * canvas.width, joint[1] * canvas.height) for joint in pose)


def _fitted(pose: Pose, canvas: _Size, picture: _Size) -> Pose:
    """A pose in pixels of `canvas`, as shares of the `picture` into whose middle that canvas is fitted."""
    if canvas.width * picture.height == canvas.height * picture.width:
        across, down, left, top = canvas.width, canvas.height, 0.0, 0.0
    else:
        scale = min(picture.width / canvas.width, picture.height / canvas.height)
        across, down = picture.width / scale, picture.height / scale
        left, top = (across - canvas.width) / 2, (down - canvas.height) / 2
    return tuple(joint and ((joint[0] + left) / across, (joint[1] + top) / down) for joint in pose)


def _checked(pose: Any, person: int) -> Pose:
    if not isinstance(pose, list | tuple) or len(pose) != len(JOINTS):
        raise InvalidPose(
            f"Person {person} does not have {len(JOINTS)} joints. Choose one of the poses and go on from it."
        )
    joints = tuple(_placed(pose, person))
    seen = sum(joint is not None for joint in joints)
    if seen < 2:
        raise InvalidPose(
            f"Person {person} is a pose of {'one joint' if seen else 'no joints'}, which shows no limb. "
            "Show at least two joints, or remove the person."
        )
    return joints


def _placed(pose: Sequence[Any], person: int) -> Iterator[Joint]:
    for name, joint in zip(JOINTS, pose):
        if joint is None:
            yield None
            continue
        if not isinstance(joint, list | tuple) or len(joint) != 2:
            raise InvalidPose(
                f"The {name} of person {person} is not a place. Give x and y, or hide the joint."
            )
        x, y = (_number(value, person) for value in joint)
        if not (LEAST <= x <= MOST and LEAST <= y <= MOST):
            raise InvalidPose(
                f"The {name} of person {person} lies far outside of the picture. If the pose was made for a "
                'larger one, give its file "canvas_width" and "canvas_height"; else move the joint nearer.'
            )
        yield (x, y)
