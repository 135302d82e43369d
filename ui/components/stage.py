"""The stage: the developing picture, its film strip and the session's pictures; one for all tabs.

Everything that a hand does on it (scrubbing, choosing, copying) happens in the browser without asking here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ui.components.base import Scripted, script

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def stage(answer: Answer, give: Answer, invitation: dict[str, Any]) -> Scripted:
    """The component; its value is a message of ui.view, or an `invitation`: the empty stage's examples.

    answer: turns {"job": id, "from": n} into the message that begins there. give: turns {"job", "picture"}
    into a picture that painters and control units take. Events: `resume` (the page is
    back; data: jobs, the ids it remembers), `example` (prompt), `reuse` (job, picture), `stop` (job, keep),
    `pause` and `go_on` (job).
    """

    def story(asked: dict[str, Any]) -> dict[str, Any]:  # Gradio marks the function, which no method bears
        return answer(asked)

    def send(asked: dict[str, Any]) -> dict[str, Any]:
        return give(asked)

    return Scripted(
        value=invitation,
        elem_id="stage",
        server_functions=[story, send],
        apply_default_css=False,
        render=False,
        **script("stage.js", "resume", "example", "reuse", "stop", "pause", "go_on"),
    )
