"""The tabs as a table: what each adds to a request, and what lays its part of the page out.

All tabs share one form. What a tab does not name of the fields below stays out of the request, so a picture
in the Image tab never slips into a run of the Text tab.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.request import GenerationRequest, InvalidRequest

SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class Tab:
    """One tab: its key in the page's address, its title, the fields that only such tabs have, and the name
    of the painter whose picture it begins with."""

    key: str
    title: str
    fields: tuple[str, ...] = ()
    painter: str | None = None


_MASK = (
    "mask_blur",
    "masked_content",
    "inpaint_area",
    "mask_padding",
    "mask_inverted",
    "soft_inpainting",
)

TABS = (
    Tab("text", "Text"),
    Tab("image", "Image", ("strength", "resize_mode"), "sketch"),
    Tab("inpaint", "Inpaint", ("strength", "resize_mode", *_MASK), "mask"),
    Tab("control", "Control"),
    Tab("explore", "Explore"),
    Tab("gallery", "Gallery"),
    Tab("models", "Models"),
)

PAINTERS = tuple(tab.painter for tab in TABS if tab.painter)
_OWN = {name for tab in TABS for name in tab.fields}
_PAINTED = ("image", "mask_image", *(f"extend_{side}" for side in SIDES))
"""What only a painter tells of a request."""

NO_PICTURE = "There is no picture yet: drop, paste or choose one, or send one here from the stage."
NO_MASK = "Nothing is painted yet: paint over what is to change, or drag a border outwards."


def tab_of(value: Any) -> Tab:
    """The tab that the tab bar's value names, else the first."""
    key = value.get("tab") if isinstance(value, Mapping) else value
    return next((tab for tab in TABS if tab.key == key), TABS[0])


def tab_for(request: GenerationRequest) -> Tab:
    """The tab in which a run like this is asked for."""
    key = {"text2image": "text", "image2image": "image", "inpaint": "inpaint"}[request.task]
    return tab_of("control" if request.controls and key == "text" else key)


def requested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The request's values out of those of the page: "tab", the painters' values, and the form's fields.

    Raises `InvalidRequest` where the tab's picture or mask is missing.
    """
    tab = tab_of(values.get("tab"))
    kept = {
        name: value
        for name, value in values.items()
        if name not in ("tab", "batch", *PAINTERS, *_PAINTED) and (name not in _OWN or name in tab.fields)
    }
    if tab.painter is None:
        return kept
    painted = values.get(tab.painter)
    painted = painted if isinstance(painted, Mapping) else {}
    if not painted.get("image"):
        raise InvalidRequest({"image": NO_PICTURE})
    kept["image"] = painted["image"]
    if tab.painter == "mask":
        kept |= _masked(painted, inverted=kept.get("mask_inverted") is True)
    return kept


def _masked(painted: Mapping[str, Any], inverted: bool) -> dict[str, Any]:
    given = painted.get("extend")
    extend = given if isinstance(given, Mapping) else {}
    values = {f"extend_{side}": extend.get(side) or 0 for side in SIDES}
    if painted.get("mask"):
        values["mask_image"] = painted["mask"]
    elif not any(values.values()) and not inverted:
        raise InvalidRequest({"image": NO_MASK})
    return values


def fitted(width: int, height: int, native: int, step: int = 8) -> tuple[int, int]:
    """The size to work on a picture of width x height: its own, where that has half to 1.6 times as many
    pixels as native x native, else its shape with about so many; in steps of `step`, 64 to 2048 a side."""
    across, down = (round(side / step) * step for side in (width, height))
    fits = min(across, down) >= 64 and max(across, down) <= 2048
    if fits and native**2 / 2 <= across * down <= native**2 * 1.6:
        return across, down
    scale = (native**2 / (width * height)) ** 0.5
    scale = min(max(scale, 64 / min(width, height)), 2048 / max(width, height))
    across, down = (min(2048, max(64, round(side * scale / step) * step)) for side in (width, height))
    return across, down
