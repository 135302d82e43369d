"""What a run will need, told beside Generate before it is asked for; it waits for a pause in the setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ui.components.base import Scripted, script

Foresee = Callable[[Mapping[str, Any]], dict[str, Any]]


def forecast_line(foresee: Foresee, elem_id: str) -> Scripted:
    """The component; its value is {"values"}, the page's values. foresee: those -> {"sentence"}, empty where
    nothing can be told."""

    def forecast(asked: dict[str, Any]) -> dict[str, Any]:
        return foresee(asked)

    return Scripted(
        value={},
        elem_id=elem_id,
        elem_classes=["plain", "forecast"],
        apply_default_css=False,
        server_functions=[forecast],
        **script("forecast.js"),
    )
