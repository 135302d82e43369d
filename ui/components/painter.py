"""The painter: a picture and what is painted on it: a mask, colours or a control map.

Everything that a hand does happens in the browser; here only finished pictures and masks arrive, as keys
that `keep` gave out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from ui.components.base import Scripted, script

NO_BORDERS = {"left": 0, "top": 0, "right": 0, "bottom": 0}


def painter(
    keep: Callable[[dict[str, Any]], dict[str, Any]],
    elem_id: str,
    mode: Literal["mask", "sketch", "map"],
    extendable: bool = False,
    examples: Sequence[Mapping[str, Any]] = (),
) -> Scripted:
    """The component. Its events: `painted` (there are new keys or borders) and `shaped` (the picture has
    another size, or its borders were dragged).

    Listen with trigger_mode="always_last": by default Gradio drops what is told while a listener still runs.

    keep: turns {"path": a file that the page uploaded, "on": the key of the picture that it was painted on,
    where it was} into {"key", "width", "height", "url"} with perhaps
    "notes", or into {"problem": a sentence}. extendable: the borders of a mask's picture can be dragged.
    examples: pictures as `keep` answers them, each with a "title", offered while there is none.

    The value that a listener gets: {"image", "mask": keys or None, "extend": pixels by side, "width",
    "height"}, with "shown", what the painter needs to come back after a reload. The value to send: {"image":
    {"key", "width", "height", "url"} or None, "mask": {"key", "url"} or None, "extend"}, with perhaps
    "soft", the pixels by which the form blurs the mask.
    """
    return Scripted(
        value={"image": None, "mask": None, "extend": NO_BORDERS},
        elem_id=elem_id,
        elem_classes=["plain", "field"],
        server_functions=[_own(keep)],
        apply_default_css=False,
        mode=mode,
        extendable=extendable,
        examples=[dict(example) for example in examples],
        **script("painter.js", "painted", "shaped"),
    )


def _own(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that Gradio can mark, which no method bears, and that is called as it is named."""

    def keep(asked: dict[str, Any]) -> dict[str, Any]:
        return answer(asked)

    return keep
