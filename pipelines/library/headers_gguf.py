"""The header of a GGUF file (ggml's format for quantised weights), read by hand and within limits.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pipelines.library.headers import (
    MOST_HEADER,
    MOST_SIDES,
    Header,
    TensorInfo,
    UnreadableFile,
    amount,
    shown,
)

_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
"""ggml's number of a format -> its name, how many numbers a block holds, and the block's bytes."""

_SCALARS = ("<B", "<b", "<H", "<h", "<I", "<i", "<f", "<?", "", "", "<Q", "<q", "<d")
_STRING, _ARRAY = 8, 9
_MOST_ENTRIES = 1_000_000
_RESHAPED = "comfy.gguf.orig_shape."
"""ComfyUI's converter flattens tensors that a block does not divide, and keeps their shape under this key."""


class _Reader:
    """Reads on from a stream, never past `limit` bytes in all."""

    def __init__(self, stream: BinaryIO, limit: int):
        self.stream, self.left, self.at = stream, limit, 0

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError("longer than the file, or than a header may be")
        found = self.stream.read(count)
        if len(found) < count:
            raise ValueError("it ends too early")
        self.left -= count
        self.at += count
        return found

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def text(self) -> str:
        return self.take(self.number("<Q")).decode("utf8", "replace")

    def count(self) -> int:
        found: int = self.number("<Q")
        if found > _MOST_ENTRIES:
            raise ValueError(f"{found} entries")
        return found


def read(path: Path, stream: BinaryIO, size: int) -> Header:
    """The header of the GGUF file in `stream`, `size` bytes long. Raises `UnreadableFile`."""
    reader = _Reader(stream, min(size, MOST_HEADER))
    try:
        if reader.take(4) != b"GGUF":
            raise UnreadableFile(f"{shown(path)} is not a GGUF file.")
        if reader.number("<I") not in (2, 3):
            raise UnreadableFile(f"{shown(path)} is of a version of GGUF that is not known.")
        tensors, entries = reader.count(), reader.count()
        metadata = dict(_entry(reader) for _ in range(entries))
        found, end = {}, 0
        for _ in range(tensors):
            name, info, offset = _tensor(reader, metadata)
            if name in found:
                raise ValueError(f"{name[:60]!r} is there twice")
            found[name] = info
            end = max(end, offset + info.bytes)
    except (ValueError, struct.error, RecursionError) as problem:
        raise UnreadableFile(
            f"{shown(path)} has a header that cannot be read ({problem}): it is damaged or cut off."
        ) from None
    told = metadata.get("general.alignment", "")
    step = int(told) if told.isdigit() and 0 < int(told) <= 1 << 20 else 32
    whole = -(-reader.at // step) * step + end
    if whole > size:
        raise UnreadableFile(
            f"{shown(path)} is cut off: it should be {amount(whole)} and is {amount(size)}. Fetch it again."
        )
    plain = {name: value for name, value in metadata.items() if not name.startswith(_RESHAPED)}
    return Header(found, plain, "gguf")


def _entry(reader: _Reader) -> tuple[str, str]:
    return reader.text(), _value(reader, reader.number("<I"))


def _value(reader: _Reader, kind: int) -> str:
    if kind == _STRING:
        return reader.text()
    if kind != _ARRAY:
        return str(_scalar(reader, kind))
    inner, count = reader.number("<I"), reader.count()
    if inner == _STRING:
        for _ in range(count):
            reader.text()
        return ""
    if inner == _ARRAY:
        raise ValueError("a list of lists")
    if count <= 8:
        return " ".join(str(_scalar(reader, inner)) for _ in range(count))
    reader.take(count * struct.calcsize(_code(inner)))
    return ""


def _code(kind: int) -> str:
    code = _SCALARS[kind] if kind < len(_SCALARS) else ""
    if not code:
        raise ValueError(f"a value of unknown type {kind}")
    return code


def _scalar(reader: _Reader, kind: int) -> Any:
    return reader.number(_code(kind))


def _tensor(reader: _Reader, metadata: Mapping[str, str]) -> tuple[str, TensorInfo, int]:
    name, sides = reader.text(), reader.number("<I")
    if sides > MOST_SIDES:
        raise ValueError(f"a tensor of {sides} dimensions")
    shape = tuple(reversed([reader.number("<Q") for _ in range(sides)]))
    kind, offset = reader.number("<I"), reader.number("<Q")
    if kind not in _TYPES:
        raise ValueError(f"a number format that is not known, {kind}")
    dtype, block, size = _TYPES[kind]
    numbers = math.prod(shape)
    if numbers % block or numbers >= 2**63:
        raise ValueError(f"{name[:60]!r} has an impossible shape")
    was = metadata.get(_RESHAPED + name, "").split()
    if was and all(side.isdigit() for side in was) and math.prod(map(int, was)) == numbers:
        shape = tuple(map(int, was))
    return name, TensorInfo(dtype, shape, numbers // block * size), offset
