"""What did this do? The request of a run with one word, LoRA or control unit left out.

It is a branch of the run from the last step at which nothing of it has counted yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PIECE = re.compile(r"<[^>]*>|:\s*[\d.]+|[^\s,;()\[\]<>:|]+")
_NO_WORDS = frozenset({"BREAK", "AND"})
_EMPTY = (
    (re.compile(r"[(\[]\s*(?::\s*[\d.]+)?\s*[)\]]"), ""),
    (re.compile(r"\s+([,:)\]])"), r"\1"),
    (re.compile(r"(^|,)\s*,"), r"\1"),
    (re.compile(r"([(\[])\s+"), r"\1"),
    (re.compile(r"\s{2,}"), " "),
    (re.compile(r"^[\s,]+|[\s,]+$"), ""),
)


def words(prompt: str) -> list[tuple[int, int]]:
    """(start, end) of each word of a prompt; weights, tags and BREAK are none."""
    return [
        (found.start(), found.end())
        for found in _PIECE.finditer(prompt)
        if found[0][0] not in "<:" and found[0] not in _NO_WORDS
    ]


def without_word(prompt: str, index: int) -> str:
    """The prompt without its word of that index, and without the brackets and commas that it leaves empty.
    Raises IndexError."""
    start, end = words(prompt)[index]
    left, before = prompt[:start] + prompt[end:], ""
    while left != before:
        before = left
        for pattern, instead in _EMPTY:
            left = pattern.sub(instead, left)
    return left


def left_out(request: Mapping[str, Any], what: str, index: int, total: int) -> tuple[dict[str, Any], int]:
    """(fields to change, step from which on it matters) where one thing of a run of `total` steps is left
    out.

    what: "word", "lora" or "control". A LoRA that counts in the text encoder too matters from the first step
    on. Raises IndexError or KeyError where there is no such thing.
    """
    if what == "word":
        return {"prompt": without_word(str(request["prompt"]), index)}, 0
    name, start = {"lora": ("loras", "start"), "control": ("controls", "control_guidance_start")}[what]
    parts = list(request.get(name) or ())
    gone = parts.pop(index)
    words_too = what == "lora" and gone.get("text_weight") != 0
    share = 0.0 if words_too else float(gone.get(start) or 0.0)
    return {name: parts}, max(0, min(total - 1, int(share * total)))
