"""The header's words on engine, device and queue, with the theme switch and the key sheet."""

from __future__ import annotations

from typing import Any

from pipelines.events import EngineState
from ui.components.base import Scripted, script


def status() -> Scripted:
    """The component; its value is that of `status_value`. The queue's length it hears from the stage."""
    return Scripted(
        value={}, elem_id="status", apply_default_css=False, elem_classes=["plain"], **script("status.js")
    )


def status_value(state: EngineState, queue: int) -> dict[str, Any]:
    """What the header says of the engine."""
    return {
        "ready": state.ready,
        "fault": state.fault,
        "message": state.message,
        "badge": state.badge,
        "device": state.device,
        "queue": queue,
        "note": state.note,
    }
