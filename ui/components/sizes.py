"""Buttons of the usual proportions, each with about as many pixels as the model was trained on."""

from __future__ import annotations

import math

from pipelines.request import SMALLEST, GenerationRequest, limits
from ui.components.base import Scripted, script

MOST = limits(GenerationRequest.model_fields["width"])[1]
SHAPES = ((1, 1), (4, 3), (16, 9), (3, 4), (9, 16))


def presets(native: int, step: int = 8) -> list[dict[str, int]]:
    """The sizes for a model trained on `native` pixels a side: as many pixels, in steps of `step`."""
    sizes = []
    for across, down in SHAPES:
        width, height = (
            min(MOST, max(SMALLEST, round(native * math.sqrt(share) / step) * step))
            for share in (across / down, down / across)
        )
        sizes.append({"across": across, "down": down, "width": width, "height": height})
    return sizes


def size_buttons(native: int, tab: str) -> Scripted:
    """The component; its value is {"presets"}, with {"width", "height"} once one is `picked`."""
    return Scripted(
        value={"presets": presets(native)},
        elem_id=f"{tab}-sizes",
        elem_classes=["plain", "sizes"],
        apply_default_css=False,
        **script("sizes.js", "picked", "swapped"),
    )
