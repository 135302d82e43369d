"""The webui's prompt syntax: what weighs more or less, where a chunk begins, and what is not carried out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

HEAVIEST = 10_000.0
"""Weights are held within plus and minus this, so that a page of brackets stays a finite number."""

_STRONGER = 1.1
_TOKEN = re.compile(
    r"""
      \\[()\[\]\\]?                        # a literal bracket or backslash; a lone backslash is dropped
    | [(\[]
    | :\s*+([+-]?[.\d]++)\s*+\)            # a weight and the bracket it closes
    | [)\]]
    | [^\\()\[\]:]+
    | :
    """,
    re.VERBOSE,
)
_BREAK = re.compile(r"\bBREAK\b")
_NETWORK = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>", re.IGNORECASE)
_HYPERNET = re.compile(r"<hypernet:[^<>]*>", re.IGNORECASE)
_SQUARE = re.compile(r"(?<!\\)\[([^\[\]]*)\]")
_WHEN = re.compile(r":\s*[\d.]+\s*\Z")
_CURLY = re.compile(r"\{([^{}]*)\}")
_AND = re.compile(r"\bAND\b")
_WILDCARD = re.compile(r"__[\w\-/]+?__")


class Span(NamedTuple):
    """A stretch of prompt text with one attention weight; `new_chunk` when a BREAK stands before it."""

    text: str
    weight: float = 1.0
    new_chunk: bool = False


def parse_weights(text: str) -> list[Span]:
    """The prompt's spans in order, at least one, neighbours of equal weight joined; never raises.

    `(x)` is 1.1, `[x]` is 1/1.1, `(x:1.3)` is 1.3, nesting multiplies, a backslash makes a bracket literal,
    a bracket never closed reaches to the end, one never opened is text. Takes linear time.
    Grammar: https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#attentionemphasis
    """
    pieces: list[tuple[str, bool]] = []
    round_open: list[int] = []
    square_open: list[int] = []
    # (first piece, piece after the last, factor), inner ones before outer ones
    round_ranges: list[tuple[int, int, float]] = []
    square_ranges: list[tuple[int, int, float]] = []

    def close_round(factor: float) -> None:
        round_ranges.append((round_open.pop(), len(pieces), factor))

    for found in _TOKEN.finditer(text):
        token, number = found[0], found[1]
        if token[0] == "\\":
            pieces.append((token[1:], False))
        elif token == "(":
            round_open.append(len(pieces))
        elif token == "[":
            square_open.append(len(pieces))
        elif number is not None and round_open:
            weight = _number(number)
            if weight is None:  # "(x:1.2.3)" is no weight, so it is text in a bracket
                pieces.append((token[:-1], False))
            close_round(_STRONGER if weight is None else weight)
        elif token == ")" and round_open:
            close_round(_STRONGER)
        elif token == "]" and square_open:
            square_ranges.append((square_open.pop(), len(pieces), 1 / _STRONGER))
        else:
            pieces.extend(_at_breaks(token))
    while round_open:
        close_round(_STRONGER)
    while square_open:
        square_ranges.append((square_open.pop(), len(pieces), 1 / _STRONGER))
    factors = zip(_factors(round_ranges, len(pieces)), _factors(square_ranges, len(pieces)))
    return _joined((text, _held(a * b), new) for (text, new), (a, b) in zip(pieces, factors))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _held(weight: float) -> float:
    return max(-HEAVIEST, min(HEAVIEST, weight))


def _at_breaks(text: str) -> Iterable[tuple[str, bool]]:
    """The text between BREAKs, without the white space around them."""
    parts = _BREAK.split(text)  # a pattern that takes the white space too would need quadratic time
    for index, part in enumerate(parts):
        part = part.lstrip() if index > 0 else part
        yield (part.rstrip() if index < len(parts) - 1 else part), index > 0


def _factors(ranges: Sequence[tuple[int, int, float]], count: int) -> list[float]:
    """For each of `count` pieces the product over the ranges around it; they nest, inner ones come first."""
    begins: list[list[float]] = [[] for _ in range(count)]
    ends = [0] * (count + 1)
    for start, end, factor in reversed(ranges):
        if start < end:
            begins[start].append(factor)
            ends[end] += 1
    products, result = [1.0], []
    for piece in range(count):
        del products[len(products) - ends[piece] :]
        for factor in begins[piece]:
            products.append(_held(products[-1] * factor))
        result.append(products[-1])
    return result


def _joined(pieces: Iterable[tuple[str, float, bool]]) -> list[Span]:
    groups: list[tuple[list[str], float, bool]] = []
    for text, weight, new_chunk in pieces:
        if not new_chunk and groups and groups[-1][1] == weight:
            groups[-1][0].append(text)
        elif text or new_chunk:
            groups.append(([text], weight, new_chunk))
    return [Span("".join(texts), weight, new) for texts, weight, new in groups] or [Span("")]


def plain(text: str) -> str:
    """The prompt's words alone: without weights, brackets, BREAK and `<lora:...>`."""
    return "".join((" " if span.new_chunk else "") + span.text for span in parse_weights(own_words(text)))


def own_words(text: str) -> str:
    """The prompt without `<lora:...>` and its like."""
    return _NETWORK.sub("", text)


def has_weights(text: str) -> bool:
    """Whether the prompt asks for anything that plain words do not."""
    return any(span.weight != 1.0 or span.new_chunk for span in parse_weights(own_words(text)))


def notes_on(*texts: str) -> list[str]:
    """Sentences on the syntax in these prompts that is not carried out."""
    notes = []
    if any(_HYPERNET.search(text) for text in texts):
        notes.append("<hypernet:...> in the prompt was left out: hypernetworks are not carried out.")
    unknown: dict[str, None] = {}
    for text in texts:
        for inner in _SQUARE.findall(text):
            if "|" in inner:
                unknown["[a|b]"] = None
            elif _WHEN.search(inner):
                unknown["[a:b:0.5]"] = None
        if any("|" in inner for inner in _CURLY.findall(text)):
            unknown["{a|b}"] = None
        if _AND.search(text):
            unknown["AND"] = None
        if _WILDCARD.search(text):
            unknown["__name__"] = None
    if unknown:
        notes.append(f"Read as plain words, since they are not carried out: {', '.join(unknown)}.")
    return notes
