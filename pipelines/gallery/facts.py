"""What a picture's file tells: its id, its size and how it was made, whichever program made it.

The id is the store's key of the same bytes (pipelines.pictures), so that a picture which was sent to a
painter is known again as what the next one was made from.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines import metadata, picture_fields
from pipelines.metadata import UnreadablePicture
from pipelines.pictures import key_of

ENDINGS = tuple(metadata.FORMATS)
"""File name endings of what the gallery shows."""
MOST_BYTES = 256 << 20

_ID = re.compile(r"[0-9a-f]{32}")
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Facts:
    """What one picture's file tells.

    text: the generation text, "" where there is none. seed: None where none is told, or none that a database
    can hold. sources: (what, key) of what it was made from: "picture", "mask" and "control" by the store's
    key, "painted" by that of a picture or map as it was painted on (then "picture" and "control" are what is
    under the paint), "branch" by the recorded run's id and "parent" by that of the picture it had become.
    """

    id: str
    width: int
    height: int
    bytes: int
    text: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    model: str = ""
    sampler: str = ""
    seed: int | None = None
    loras: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()


def is_id(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def read(path: Path) -> Facts:
    """What the file at `path` tells. Raises `UnreadablePicture` with a sentence, and OSError."""
    if path.stat().st_size > MOST_BYTES:
        raise UnreadablePicture(f"{path.name} is too large for a picture: more than {MOST_BYTES >> 20} MB.")
    return facts_of(path.read_bytes())


def facts_of(data: bytes) -> Facts:
    """What a file that holds `data` tells. Raises `UnreadablePicture` with a sentence."""
    text = _clean(metadata.read(io.BytesIO(data)) or "")
    try:
        with Image.open(io.BytesIO(data), formats=sorted(set(metadata.FORMATS.values()))) as picture:
            width, height = picture.size
            if picture.getexif().get(0x0112, 1) in (5, 6, 7, 8):  # lies on its side
                width, height = height, width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise UnreadablePicture(f"The picture cannot be read ({problem}).") from problem
    told = metadata.parse(text) if text else {}
    extras = told.get("extras", {})
    seed = told.get("seed")
    return Facts(
        id=key_of(data),
        width=width,
        height=height,
        bytes=len(data),
        text=text,
        prompt=told.get("prompt", ""),
        negative_prompt=told.get("negative_prompt", ""),
        model=extras.get("Model", ""),
        sampler=told.get("scheduler", ""),
        seed=seed if isinstance(seed, int) and abs(seed) <= _LARGEST else None,
        loras=tuple(dict.fromkeys(_loras(told.get("loras") or ()))),
        sources=tuple(_sources(extras)),
    )


def _loras(given: Iterable[Any]) -> Iterable[str]:
    for lora in given:
        name = lora.get("name") if isinstance(lora, Mapping) else getattr(lora, "name", None)
        if isinstance(name, str) and name:
            yield name.rsplit("/", 1)[-1]


def _sources(extras: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    for what, key, under in (
        ("picture", "Init image hash", "Init image origin"),
        ("mask", "Mask hash", ""),
        ("branch", "Branch of", ""),
        ("parent", "Branch picture", ""),
        ("painted", "Branch painted", ""),
    ):
        shown, origin = extras.get(key, "").strip(), extras.get(under, "").strip()
        yield from _shown(what, shown, origin)
    origins = picture_fields.numbered(extras.get("Control image origins", ""))
    for number, shown in picture_fields.numbered(extras.get("Control image hashes", "")).items():
        yield from _shown("control", shown, origins.get(number, ""))


def _shown(what: str, key: str, origin: str) -> Iterable[tuple[str, str]]:
    if key and origin:
        yield what, origin
        yield "painted", key
    elif key:
        yield what, key


def _clean(text: str) -> str:
    """Text that a database can hold: without halves of UTF-16 pairs and without zeros."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")
