"""The models' part of the page: what is on this computer, and what can be fetched.

Searching and sorting are done in the browser (assets/js/models.js); the functions here are asked for what
only the server has. What happens without a hand (files that come, downloads that go on) it is told by a
stream at the address `feed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ui.components.base import Ask, Scripted, named, script

ASKS = ("shelf", "edit", "picture", "hash", "catalogue", "estimate", "start", "steer")
"""What the page asks. Each takes and gives a JSON object; {"problem": sentence} where nothing came of it.

shelf: {"model"} -> {"cards", "unusable", "where", "note", "edition": of the stream, that they are of}.
edit: {"sort", "key", "notes" | "favourite"} -> {"card"}. hash: {"sort", "key"} -> {"hash"}.
picture: {"sort", "key", and one of "path" of an upload, "job" with "picture", "remove"} -> {"card"}.
catalogue: {} -> {"rows"}. estimate: {"id", "token"} -> an Estimate's fields.
start: {"id", "token", "remember", "sort"} -> {"key"}. steer: {"key", "deed", "token", "remember"} -> {}.
"""


def model_shelf(
    asks: Mapping[str, Ask], elem_id: str, feed: str, edition: str, model: str = "", **options: Any
) -> Scripted:
    """The component; its value is {"model": key of the chosen one}.

    asks: a function for each of `ASKS`. feed: address of the stream, relative to the page. edition: the
    stream's present one, of which the page's lists are. Events: `chosen` (data: key of a model that is to
    paint) and `listed` (what there is, or its order, has changed).
    """
    return Scripted(
        value={"model": model},
        feed=feed,
        listed=edition,
        elem_id=elem_id,
        elem_classes=["plain"],
        server_functions=[named(name, asks[name]) for name in ASKS],
        apply_default_css=False,
        **script("models.js", "chosen", "listed"),
        **options,
    )
