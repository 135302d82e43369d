"""The queue view: what runs, waits and ended in an error, in a panel that the header opens.

What a hand does there and what the server tells meet in assets/js/queue.js; the functions here are asked for
the rows and for deeds.
"""

from __future__ import annotations

from collections.abc import Mapping

from ui.components.base import Ask, Scripted, asked_by, script

ASKS = ("queue", "queue_deed")
"""What the view asks. Each takes and gives a JSON object; {"problem": sentence} where nothing came of it.

queue: {"most": rows} -> {"edition", "now": as the stream tells it, "waiting", "held": how many, "rows"}.
queue_deed: {"do", "job", ..., "most"} -> the same, and {"said", "asked": a new job, "undo": a deed}. What is
asked for once more is the asking page's; what was taken out and is put back is whose it was.
"""


def queue_view(asks: Mapping[str, Ask], elem_id: str = "queue") -> Scripted:
    """The component; its value is {"editing": the waiting job whose settings are in the form} or empty."""
    return Scripted(
        value={},
        elem_id=elem_id,
        elem_classes=["plain"],
        server_functions=[asked_by(name, asks[name]) for name in ASKS],
        apply_default_css=False,
        render=False,
        **script("queue.js"),
    )
