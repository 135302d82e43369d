"""The pose editor: people as skeletons that are dragged, turned, mirrored, imported and exported.

What a hand does happens in the browser; only a file that is imported is read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.controlnet import poses
from pipelines.controlnet.poses import InvalidPose, Pose
from ui.components.base import Scripted, script


def pose_editor(elem_id: str, width: int = 256, height: int = 256, people: Sequence[Pose] = ()) -> Scripted:
    """The component, for a picture of width x height pixels, with `people` to begin with.

    Its value is {"people", "width", "height", "presets"}; `posed` says that a hand changed the people, who
    are lists of eighteen [x, y] or null and have to pass `pipelines.controlnet.poses.check` before use.
    Listen with trigger_mode="always_last": else Gradio drops what comes while it handles the one before.
    """

    def read(
        asked: dict[str, Any],
    ) -> dict[str, Any]:  # Gradio marks the function, so each editor has its own
        return read_pose(asked)

    return Scripted(
        value={"people": people_of(people), "width": width, "height": height, "presets": preset_values()},
        elem_id=elem_id,
        elem_classes=["plain"],
        server_functions=[read],
        apply_default_css=False,
        **script("pose.js", "posed"),
    )


def read_pose(asked: dict[str, Any]) -> dict[str, Any]:
    """What the editor is answered on {"text", "width", "height"}: {"people"}, or {"problem": a sentence}."""
    text, width, height = (asked.get(name) for name in ("text", "width", "height"))
    sides = [side for side in (width, height) if isinstance(side, int) and 1 <= side <= 65536]
    if not isinstance(text, str) or len(sides) != 2:
        return {"problem": "The page sent no pose. Reload it, then import the file again."}
    try:
        return {"people": people_of(poses.parse(text, *sides))}
    except InvalidPose as problem:
        return {"problem": str(problem)}


def people_of(found: Sequence[Pose]) -> list[list[list[float] | None]]:
    """Poses as the page has them: lists of eighteen [x, y] or None."""
    return [[None if joint is None else list(joint) for joint in pose] for pose in found]


def preset_values() -> list[dict[str, Any]]:
    """The presets as the page has them: key, title and people in shares of a square picture."""
    return [
        {"key": preset.key, "title": preset.title, "people": people_of(preset.poses)}
        for preset in poses.presets()
    ]
