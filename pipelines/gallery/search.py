"""What a person types into the search field, and what a page filters by, as parts of a question to SQLite.

Nothing that is typed can be an error: every word is quoted, so no sign of FTS5's own language gets through.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_WORDS = 32
MOST_LENGTH = 1000

SORTS: Mapping[str, tuple[str, str]] = {
    "newest": ("made", "DESC"),
    "oldest": ("made", "ASC"),
    "name": ("name", "ASC"),
    "seed": ("seed", "ASC"),
}
"""How a list may be sorted -> by which column and which way; the first is taken for what is none of these."""

_PARTS = re.compile(r'(-?)"([^"]*)"|(\S+)')
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_CJK = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af])")


@dataclass(frozen=True)
class Words:
    """What is searched for: FTS5 expressions that must match (one for all), and ones of which none may."""

    wanted: str = ""
    unwanted: tuple[str, ...] = ()
    plain: tuple[tuple[str, bool], ...] = ()
    """The same as (words, whether they must be there), for a search without FTS5."""


@dataclass(frozen=True)
class Question:
    """Which pictures are asked for. Texts are "" and switches False where nothing is filtered; first, last:
    days (YYYY-MM-DD), both included."""

    words: str = ""
    task: str = ""
    model: str = ""
    lora: str = ""
    sampler: str = ""
    board: str = ""
    star: bool = False
    trash: bool = False
    first: str = ""
    last: str = ""
    sort: str = "newest"

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Question:
        """The question in an address; what makes no sense there filters nothing."""
        names = ("task", "model", "lora", "sampler", "board")
        days = {name: asked.get(key, "") for name, key in (("first", "from"), ("last", "to"))}
        return cls(
            words=asked.get("q", "")[:MOST_LENGTH],
            **{name: clean(asked.get(name, ""))[:500] for name in names},
            star=asked.get("star") == "1",
            trash=asked.get("trash") == "1",
            **{name: day if _DAY.fullmatch(day) else "" for name, day in days.items()},
            sort=asked.get("sort", "") if asked.get("sort") in SORTS else "newest",
        )

    @property
    def order(self) -> str:
        """How it is sorted, as an ORDER BY over `pictures p`."""
        column, way = SORTS[self.sort]
        return f"p.{column} {way}, p.n {way}"

    def where(self, words: bool) -> tuple[str, list[Any]]:
        """The question as a WHERE over `pictures p`, and what belongs into its places. words: whether the
        words are looked for there, through every text; else that is left to FTS5."""
        parts, given = ["p.trashed = ?"], [int(self.trash)]
        values: list[Any] = given
        for column in ("task", "model", "sampler", "board"):
            if value := getattr(self, column):
                parts.append(f"p.{column} = ?")
                values.append(value)
        if self.star:
            parts.append("p.star = 1")
        if self.first:
            parts.append("p.day >= ?")
            values.append(self.first)
        if self.last:
            parts.append("p.day <= ?")
            values.append(self.last)
        if self.lora:
            parts.append("p.n IN (SELECT n FROM loras WHERE name = ?)")
            values.append(self.lora)
        for text, wanted in read(self.words).plain if words else ():
            like = "(t.text LIKE ? ESCAPE '\\' OR t.note LIKE ? ESCAPE '\\' OR p.name LIKE ? ESCAPE '\\')"
            found = f"EXISTS (SELECT 1 FROM texts t WHERE t.n = p.n AND {like})"
            parts.append(found if wanted else f"NOT {found}")
            values += [f"%{_escaped(text)}%"] * 3
        return " AND ".join(parts), values


def read(typed: str) -> Words:
    """Words (as beginnings of words), "words in quotation marks" as they stand, -what must not be there."""
    wanted: list[str] = []
    unwanted: list[str] = []
    plain: list[tuple[str, bool]] = []
    for not_this, phrase, word in list(_PARTS.findall(clean(typed)))[:MOST_WORDS]:
        away = bool(not_this) or (word.startswith("-") and len(word) > 1)
        text = phrase or word.removeprefix("-").replace('"', " ")
        if not _says_something(text):
            continue
        expression = f'"{apart(text).strip()}"{"" if phrase else "*"}'
        (unwanted if away else wanted).append(expression)
        plain.append((text, not away))
    return Words(" AND ".join(wanted), tuple(unwanted), tuple(plain))


def apart(text: str) -> str:
    """The text with the signs of Chinese, Japanese and Korean set apart: there a word has no ends to find."""
    return _CJK.sub(r" \1 ", text)


def clean(text: str) -> str:
    """What can be asked of a database: no zeros, no halves of UTF-16 pairs."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")


def _says_something(text: str) -> bool:
    """Whether FTS5's tokenizer finds a word in it."""
    return any(unicodedata.category(sign)[0] in "LN" for sign in text)


def _escaped(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)


def whole(value: Any, least: int, most: int) -> int:
    """A whole number of an address, at its nearest limit; `least` for anything else."""
    text = str(value or "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else least
    return min(max(number, least), most)
