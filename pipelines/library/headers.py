"""What a weights file holds, told from its header alone: names, shapes, number formats and metadata.

Nothing is loaded and nothing is executed. Every length that a file claims is held against the file's real
size and against a limit before anything of that length is read, so a hostile file costs no more than a
harmless one; what cannot be read is told in one sentence.
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

Format = Literal["safetensors", "pickle", "gguf"]

FORMATS: Mapping[str, Format] = {
    ".safetensors": "safetensors",
    ".sft": "safetensors",
    ".ckpt": "pickle",
    ".pt": "pickle",
    ".pth": "pickle",
    ".bin": "pickle",
    ".gguf": "gguf",
}
"""Ending of a weights file -> its format."""

MOST_HEADER = 16_000_000
"""Bytes of a header: safetensors allows 100 million, real models have some millions at most. A hostile one of
this length costs 3 CPU-seconds and 0.4 GB, once."""
MOST_SIDES = 32
"""Dimensions of a tensor; torch allows 64, models have at most 5."""

_BITS: Mapping[str, int] = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8"), 8),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""safetensors' number formats -> bits of one number."""


class UnreadableFile(ValueError):
    """A file that holds no weights that can be read; `str()` is a sentence that says why and what to do."""


@dataclass(frozen=True)
class TensorInfo:
    """dtype: as safetensors names it ("F16", "BF16"; of a GGUF file its own, "Q4_K"). bytes: in the file."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Header:
    """The tensors of a file by name, in its order, and its metadata, all of it text."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str] = field(default_factory=dict)
    format: Format = "safetensors"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: info.shape for name, info in self.tensors.items()}


def read_header(path: Path | str) -> Header:
    """The header of the weights file at `path`, told by its first bytes and else by its ending.

    Raises `UnreadableFile` for one that is no such file, that is cut off, or that contradicts itself.
    """
    path = Path(path)
    try:
        return _read(path)
    except OSError as problem:
        raise UnreadableFile(
            f"{shown(path)} cannot be read: {problem.strerror or 'the disk gave an error'}."
        ) from None
    except RecursionError:
        raise UnreadableFile(f"{shown(path)} has a header that is nested without end.") from None


def shown(path: Path) -> str:
    """A file's name for a sentence: printable, and not longer than a line bears."""
    name = "".join(sign if sign.isprintable() else "?" for sign in path.name)
    return name if len(name) <= 80 else f"{name[:50]}…{name[-25:]}"


def _read(path: Path) -> Header:
    if not stat.S_ISREG(path.stat().st_mode):  # asked before opening: a pipe would never answer
        raise UnreadableFile(f"{shown(path)} is a folder or a device, not a file with weights.")
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(9)
        stream.seek(0)
        if size == 0:
            raise UnreadableFile(f"{shown(path)} is empty: fetch it again.")
        return _reader(path, start)(path, stream, size)


def _reader(path: Path, start: bytes) -> Callable[[Path, BinaryIO, int], Header]:
    from pipelines.library import headers_gguf, headers_pickle

    kind = FORMATS.get(path.suffix.lower(), "safetensors")
    if start.startswith(b"GGUF"):
        kind = "gguf"
    elif start.startswith(b"PK\x03\x04"):
        kind = "pickle"
    elif len(start) == 9 and start[4:] == b"\0\0\0\0{":  # whatever it is called
        kind = "safetensors"
    readers = {"safetensors": _read_safetensors, "pickle": headers_pickle.read, "gguf": headers_gguf.read}
    return readers[kind]


def _read_safetensors(path: Path, stream: BinaryIO, size: int) -> Header:
    """Eight bytes little-endian length, JSON, then the tensors without gaps:
    https://github.com/huggingface/safetensors#format"""
    start = stream.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if start[:1] in (b"<", b"{", b"v") and not 2 <= length <= size - 8:
        raise UnreadableFile(
            f"{shown(path)} holds text where weights should be: a web page, or a pointer to a file that was "
            "never fetched. Fetch it again."
        )
    if length < 2 or len(start) < 8:
        raise UnreadableFile(f"{shown(path)} is not a safetensors file.")
    if length > MOST_HEADER:
        raise UnreadableFile(
            f"{shown(path)} claims a header of {amount(length)}: it is damaged, or not a safetensors file."
        )
    if length > size - 8:
        raise UnreadableFile(f"{shown(path)} is cut off in its header: fetch it again.")
    text = stream.read(length)
    try:
        told = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except ValueError:
        raise UnreadableFile(
            f"{shown(path)} has a header that is not what safetensors writes: it is damaged."
        ) from None
    if not isinstance(told, dict):
        raise UnreadableFile(f"{shown(path)} has a header without a table of tensors: it is damaged.")
    metadata = told.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UnreadableFile(f"{shown(path)} has metadata that is not text: it is damaged.")
    return Header(_tensors(path, told, size - 8 - length), metadata, "safetensors")


def _tensors(path: Path, table: Mapping[str, Any], room: int) -> dict[str, TensorInfo]:
    """The table's entries, each held against its own shape and against the `room` bytes after the header."""
    found: dict[str, TensorInfo] = {}
    places: list[tuple[int, int]] = []
    for name, entry in table.items():
        info, place = _tensor(path, name, entry)
        found[name] = info
        places.append(place)
    end = 0
    for begin, stop in sorted(places):
        if begin != end:
            raise UnreadableFile(f"{shown(path)} has tensors that overlap or leave gaps: it is damaged.")
        end = stop
    if end > room:
        raise UnreadableFile(
            f"{shown(path)} is cut off: it should hold {amount(end)} of weights and holds {amount(room)}. "
            "Fetch it again."
        )
    if end < room:
        raise UnreadableFile(
            f"{shown(path)} goes on for {amount(room - end)} after its last tensor: it is damaged."
        )
    return found


def _tensor(path: Path, name: str, entry: Any) -> tuple[TensorInfo, tuple[int, int]]:
    what = f"{shown(path)} is damaged: its tensor {name[:80]!r}"
    if not isinstance(entry, dict):
        raise UnreadableFile(f"{what} has no description.")
    dtype: Any = entry.get("dtype")
    shape: Any = entry.get("shape")
    place: Any = entry.get("data_offsets")
    bits = _BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        raise UnreadableFile(f"{what} is in a number format that is not known, {str(dtype)[:20]!r}.")
    if not _counts(shape, MOST_SIDES) or not _counts(place, 2) or len(place) != 2 or place[0] > place[1]:
        raise UnreadableFile(f"{what} has an impossible shape or place.")
    size = math.prod(shape) * bits
    if size % 8 or size // 8 != place[1] - place[0]:
        raise UnreadableFile(f"{what} has another size than its shape {listed(shape)} makes.")
    return TensorInfo(dtype, tuple(shape), size // 8), (place[0], place[1])


def _counts(values: Any, most: int) -> bool:
    """Whether this is a list of at most `most` counts, each below 2^63."""
    return (
        isinstance(values, list)
        and len(values) <= most
        and all(type(value) is int and 0 <= value < 2**63 for value in values)
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name twice")
    return table


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def amount(size: float) -> str:
    """Bytes for a sentence: "1.9 GB", "23 MB", "4 kB"."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.{1 if unit == 1e9 else 0}f} {name}"
    return f"{size / 1e3:.0f} kB" if size >= 1e3 else f"{size:.0f} bytes"


def listed(shape: tuple[int, ...] | list[int]) -> str:
    return " x ".join(str(side) for side in shape)[:60] or "of one number"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none, or it is half-written or damaged."""
    try:
        told = json.loads(path.read_bytes()) if path.stat().st_size <= 4_000_000 else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
