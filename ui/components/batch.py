"""The batch's part of the page: a folder or some pictures chosen at once, and how far they have come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ui.components.base import Scripted, script


def batch(answer: Callable[[dict[str, Any]], dict[str, Any]], elem_id: str) -> Scripted:
    """The component. Events: `run`, with {"keys": pictures in the store} as its value, and `resume` of a page
    that comes back, with the {"jobs", "skipped"} of its batch. It shows {"done", "skipped", "failed",
    "total"}, first with the batch's "jobs", or a "problem".

    answer: turns {"path"} of an uploaded file into {"key", ...} or {"problem"}.
    """

    def keep(asked: dict[str, Any]) -> dict[str, Any]:  # Gradio marks the function, which no method bears
        return answer(asked)

    return Scripted(
        value={},
        elem_id=elem_id,
        elem_classes=["plain"],
        server_functions=[keep],
        apply_default_css=False,
        **script("batch.js", "run", "resume"),
    )
