"""What lies beside a model's file as the webui and its extensions keep it: a picture, notes, words, a weight.

`ann.safetensors` may have `ann.png` or `ann.preview.png`, `ann.json` (the webui's own), `ann.civitai.info`
(of download helpers) and `ann.txt`. All of it is only read, as a stranger's words.
"""

from __future__ import annotations

import html
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipelines.library.headers import read_json
from pipelines.library.identify_metadata import line
from pipelines.library.records import FileRecords

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
_INFOS = (".json", ".civitai.info", ".txt")
_MOST_NOTES = 20_000


@dataclass(frozen=True)
class Sidecar:
    """notes: plain text. words: trigger words. weight: what suits a LoRA, None where nothing says so."""

    notes: str = ""
    words: tuple[str, ...] = ()
    weight: float | None = None


@dataclass
class Beside:
    """The names of the files in one folder that may belong to a model's, by the model's name."""

    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def among(cls, names: Iterable[str]) -> Beside:
        """Those among a folder's names."""
        found: dict[str, list[str]] = {}
        for name in names:
            stem = _stem(name)
            if stem:
                found.setdefault(stem, []).append(name)
        return cls({stem: tuple(sorted(of)) for stem, of in found.items()})

    def of(self, stem: str) -> tuple[str, ...]:
        """Names of what belongs to the file called `stem`, without its ending."""
        return self.names.get(stem, ())


def picture(folder: Path, beside: Iterable[str]) -> Path | None:
    """The preview among these files: `ann.png` before `ann.preview.png`, as the webui looks."""
    found = [name for name in beside if os.path.splitext(name)[1].lower() in PICTURES]
    order = sorted(found, key=lambda name: (PICTURES.index(os.path.splitext(name)[1].lower()), len(name)))
    return folder / order[0] if order else None


def read(folder: Path, beside: Iterable[str], records: FileRecords | None = None) -> Sidecar:
    """What the files beside a model say; what the webui's own says counts first."""
    parts: list[Sidecar] = []
    for name in sorted((one for one in beside if one.endswith(_INFOS)), key=_order):
        parts.append(_part(folder / name, records))
    return Sidecar(
        next((part.notes for part in parts if part.notes), ""),
        next((part.words for part in parts if part.words), ()),
        next((part.weight for part in parts if part.weight is not None), None),
    )


def _order(name: str) -> int:
    return next(index for index, ending in enumerate(_INFOS) if name.endswith(ending))


def _stem(name: str) -> str:
    lower = name.lower()
    for ending in (*(f".preview{one}" for one in PICTURES), *PICTURES, ".civitai.info", ".json", ".txt"):
        if lower.endswith(ending):
            return name[: -len(ending)]
    return ""


def _part(path: Path, records: FileRecords | None) -> Sidecar:
    try:
        told = path.stat()
    except OSError:
        return Sidecar()
    known = records.get(path, told.st_size, told.st_mtime_ns, "sidecar") if records else None
    if known is None:
        known = asdict(_read(path))
        if records is not None:
            records.put(path, told.st_size, told.st_mtime_ns, "sidecar", known)
    return Sidecar(**{**known, "words": tuple(known["words"])})


def _read(path: Path) -> Sidecar:
    if path.suffix == ".txt":
        try:
            with path.open("rb") as stream:
                return Sidecar(notes=_plain(stream.read(4 * _MOST_NOTES).decode("utf8", "replace")))
        except OSError:
            return Sidecar()
    told = read_json(path)
    if path.name.endswith(".civitai.info"):
        said = told.get("trainedWords")
        listed = said if isinstance(said, list) else []
        words = [part for one in listed[:20] if isinstance(one, str) for part in one[:4000].split(",")]
        return Sidecar(_plain(_raw(told.get("description"))), _words(words))
    notes = "\n\n".join(filter(None, (_plain(_raw(told.get(name))) for name in ("description", "notes"))))
    words = _raw(told.get("activation text"))[:4000].split(",")
    return Sidecar(notes, _words(words), _weight(told.get("preferred weight")))


def _weight(value: Any) -> float | None:
    """The webui writes 0 where nothing is preferred."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not value:
        return None
    return max(-2.0, min(2.0, float(value)))


def _words(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, map(line, words))))[:24]


def _raw(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _plain(text: str) -> str:
    """HTML (Civitai's descriptions are) as lines of plain text."""
    told = text[: 4 * _MOST_NOTES]
    if re.search(r"</?(p|br|a|div|span|h\d|li|strong|em)\b", told, re.IGNORECASE):
        told = re.sub(r"(?i)<(br|/p|/li|/h\d|/div)[^<>]*>", "\n", told)
        told = html.unescape(re.sub(r"<[^<>]*>", "", told))
    kept = "".join(sign for sign in told if sign.isprintable() or sign in "\n\t")
    return re.sub(r"\n{3,}", "\n\n", kept).strip()[:_MOST_NOTES]
