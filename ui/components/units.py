"""The control units: up to four cards, each with a picture, a map or a pose that a run follows.

A unit is a ControlUnit's fields and what only the page knows of it: whether it is on and open, how its
pictures look. Everything that a hand does is done in the browser (assets/js/units.js); the functions here
are asked for what only the server has: pictures kept, maps drawn, poses read and found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pydantic.fields import FieldInfo

from pipelines.controlnet import poses
from pipelines.controlnet.preprocessors import PREPROCESSORS
from pipelines.request import MOST_CONTROLS, ControlUnit, limits
from ui.components.base import Ask, Scripted, WithoutStub, listed, named, script

PictureUrl = Callable[[str], dict[str, Any] | None]
"""A picture's key -> {"key", "width", "height", "url"}, None for one that is no longer kept."""

WORDS: dict[str, dict[str, str]] = {
    "resize_mode": {
        "just resize": "Stretch to fit",
        "crop and resize": "Crop to fit",
        "resize and fill": "Fill the borders",
    },
    "control_mode": {
        "balanced": "Balanced",
        "prompt": "The prompt matters more",
        "control": "The map matters more",
    },
}
"""What the choices of a field say to a person."""


EXAMPLES = ("waving", "dancing", "high-five")
"""Ready poses that the empty panel offers."""


class Units(Scripted, metaclass=WithoutStub):
    """The panel; `preprocess` gives what the request's field `controls` takes.

    Its value: {"units", "networks", "preprocessors", "presets", "examples", "fields", "most", "width",
    "height"}, each of them or only some. The page keeps what a value does not name, so
    {"networks": [...]} alone follows a change of the model, and {"width", "height"} one of the size.
    """

    picture_url: PictureUrl
    still: Mapping[str, Any] = MappingProxyType({})
    """What never changes of the value. It goes along with every part that is sent, since the panel may be
    drawn first when such a part has already taken the place of the whole."""

    def preprocess(self, payload: Any) -> list[dict[str, Any]]:
        """Fields of the units that are on, as the page holds them: what is off is the request's to say."""
        return [_fields(unit) for unit in listed(payload, "units") if unit.get("on", True)]

    def postprocess(self, value: Any) -> Any:
        """Control units (or their fields) as the page shows them, the first one open; the rest as it is."""
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, Mapping):
            return {**self.still, **value}
        shown = [shown_unit(unit, self.picture_url, is_open=not at) for at, unit in enumerate(value)]
        return {**self.still, "units": shown}


def shown_unit(
    unit: ControlUnit | Mapping[str, Any], picture_url: PictureUrl, *, is_open: bool = False
) -> dict[str, Any]:
    """A unit of the panel's value. A mapping may be one that the page told of with `changed`."""
    given = unit.model_dump(mode="json") if isinstance(unit, ControlUnit) else dict(unit)
    keys = {"image": given.get("image"), "map": given.get("map_image")}
    return {
        "on": bool(given.get("on", True)),
        "open": bool(given.get("open", is_open)),
        **{name: given[name] for name in ("kind", "by") if isinstance(given.get(name), str)},
        **_fields(given),
        "shown": {name: picture_url(key) if isinstance(key, str) else None for name, key in keys.items()},
    }


def fields() -> dict[str, dict[str, Any]]:
    """What the page draws a unit's controls from: each field's title, hint, limits, default and choices."""
    return {name: described(name, field) for name, field in ControlUnit.model_fields.items()}


def preprocessors() -> list[dict[str, str]]:
    """What makes a map of a picture: key, title, hint and the group it is listed in."""
    return [
        {"key": key, "title": row.title, "hint": row.hint, "group": row.group}
        for key, row in PREPROCESSORS.items()
    ]


def examples() -> list[dict[str, Any]]:
    """What the empty panel offers: units to begin with. Poses are in shares of a square."""
    found = {preset["key"]: preset for preset in presets()}
    return [
        {
            "title": found[key]["title"],
            "unit": {"kind": "pose", "preprocessor": "openpose", "pose": found[key]["people"]},
        }
        for key in EXAMPLES
    ]


def presets() -> list[dict[str, Any]]:
    """The poses that come with the program: key, title and people."""
    return [
        {"key": preset.key, "title": preset.title, "people": [list(pose) for pose in preset.poses]}
        for preset in poses.presets()
    ]


def control_units(
    keep: Ask,
    draw_map: Ask,
    read_pose: Ask,
    detect_pose: Ask | None,
    elem_id: str,
    *,
    picture_url: PictureUrl = lambda key: None,
    value: Mapping[str, Any] | None = None,
    **options: Any,
) -> Units:
    """The component. Events: `changed`, after each change; its data holds `units` with those that are off.

    keep: {"path"} of an uploaded file -> {"key", "width", "height", "url"}.
    draw_map: {"unit", "width", "height"} -> {"url"}, a PNG as a data URL, and its "key" if it was kept.
    read_pose: {"text", "width", "height"} -> {"people"}.
    detect_pose: {"key", "width", "height"} -> {"people"}; None where no detector can be had.
    Each may answer {"problem": sentence} instead. value: what the panel has beside the fields and presets.
    """
    asked: dict[str, Ask] = {"keep": keep, "draw_map": draw_map, "read_pose": read_pose}
    if detect_pose is not None:
        asked["detect_pose"] = detect_pose
    whole: dict[str, Any] = {
        "units": [],
        "networks": [],
        "preprocessors": preprocessors(),
        "presets": presets(),
        "examples": examples(),
        "fields": fields(),
        "most": MOST_CONTROLS,
        "width": 256,
        "height": 256,
        **(value or {}),
    }
    panel = Units(
        value=whole,
        elem_id=elem_id,
        elem_classes=["plain", "units", "field"],  # a field, so that the page finds it for its problems
        server_functions=[named(name, function) for name, function in asked.items()],
        apply_default_css=False,
        **script("units.js", "changed"),
        **options,
    )
    panel.picture_url = picture_url
    panel.still = {name: whole[name] for name in ("preprocessors", "presets", "examples", "fields", "most")}
    return panel


def _fields(unit: Mapping[str, Any]) -> dict[str, Any]:
    return {name: unit[name] for name in ControlUnit.model_fields if name in unit}


def described(name: str, field: FieldInfo) -> dict[str, Any]:
    """What the page draws a field's control from."""
    low, high, step = limits(field)
    words = WORDS.get(name, {})
    return {
        "title": field.title,
        "hint": field.description,
        "low": low,
        "high": high,
        "step": step,
        "default": None if field.is_required() else field.get_default(),
        "choices": [{"value": value, "title": title} for value, title in words.items()],
    }
