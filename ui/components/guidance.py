"""Guidance over the steps: a curve drawn by hand in the place of one value for the whole run.

What a hand does is done in the browser (assets/js/guidance.js).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pipelines.request import GenerationRequest, limits
from ui.components.base import Scripted, WithoutStub, script


class GuidanceCurve(Scripted, metaclass=WithoutStub):
    """The sheet; `preprocess` gives what the request's field `guidance_points` takes.

    Its value: {"points", "low", "high", "step"}, each of them or only some; what a value does not name stays
    as it was. What the slider says is told to the sheet by the event `darkroom:level`.
    """

    still: Mapping[str, Any] = MappingProxyType({})

    def preprocess(self, payload: Any) -> Any:
        """The points, as the page holds them: what is off is the request's to say."""
        value = json.loads(payload or "{}") if isinstance(payload, str) else payload
        return value.get("points") or () if isinstance(value, Mapping) else ()

    def postprocess(self, value: Any) -> Any:
        """Points as the page shows them; the rest as it is."""
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, Mapping):
            return {**self.still, **value}
        return {**self.still, "points": [list(point) for point in value]}


def guidance_curve(elem_id: str) -> GuidanceCurve:
    """The component. Event: `changed`, after a hand has changed the curve."""
    field = GenerationRequest.model_fields["guidance_scale"]
    low, high, step = limits(field)
    still = {"low": low, "high": high, "step": step}
    curve = GuidanceCurve(
        value={"points": [], **still},
        label=GenerationRequest.model_fields["guidance_points"].title,
        elem_id=elem_id,
        elem_classes=["plain", "field"],
        apply_default_css=False,
        **script("guidance.js", "changed"),
    )
    curve.still = still
    return curve
