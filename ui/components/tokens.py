"""The live count of a prompt's tokens; it waits for a pause in the typing before it asks."""

from __future__ import annotations

from typing import Any

from pipelines.request import InvalidRequest
from pipelines.worker import Worker
from ui.components.base import Scripted, script


def token_count(worker: Worker, tab: str) -> Scripted:
    """The component; its value is {"prompt", "model"}. It shows nothing while the engine is not up."""

    def count(asked: dict[str, Any]) -> dict[str, int] | None:
        prompt, model = asked.get("prompt"), asked.get("model")
        if not isinstance(prompt, str) or not isinstance(model, str) or len(prompt) > 20_000:
            return None
        try:
            counted = worker.count_tokens(model, prompt)
        except InvalidRequest:
            return None
        return {"used": counted.used, "limit": counted.limit} if counted else None

    return Scripted(
        value={},
        elem_id=f"{tab}-tokens",
        elem_classes=["plain", "tokens"],
        apply_default_css=False,
        server_functions=[count],
        **script("tokens.js"),
    )
