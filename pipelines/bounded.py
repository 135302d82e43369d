"""Streams and zip files of strangers, read within limits: whatever they claim of their own length."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import BinaryIO

_MOST_DIRECTORY = 8_000_000
"""Bytes of a zip file's table of contents: 90,000 entries, of which real checkpoints have some thousands."""


class Bounded:
    """A stream that gives at most `left` bytes in all, and says so by a ValueError."""

    def __init__(self, stream: BinaryIO, left: int):
        self.stream, self.left, self.at = stream, left, 0

    def read(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError("it is longer than a header may be")
        return self._counted(self.stream.read(count))

    def readline(self) -> bytes:
        return self._counted(self.stream.readline(min(self.left, 100_000)))

    def tell(self) -> int:
        return self.at

    def _counted(self, found: bytes) -> bytes:
        self.left -= len(found)
        self.at += len(found)
        return found


def pickle_in_zip(stream: BinaryIO, size: int, most: int) -> Bounded:
    """The pickle inside of torch's zip file of `size` bytes, refused where it unpacks to more than `most`.

    Raises ValueError that says what is wrong with the file.
    """
    if _directory_size(stream, size) > _MOST_DIRECTORY:
        raise ValueError("its table of contents is too long")
    stream.seek(0)
    try:
        opened = zipfile.ZipFile(stream)
        entry = next(
            (one for one in opened.infolist() if one.filename.rpartition("/")[2] == "data.pkl"), None
        )
        if entry is None:
            raise ValueError("a zip file without weights")
        with opened.open(entry) as packed:
            found = packed.read(most + 1)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, zlib.error):
        raise ValueError("a zip file that is cut off or damaged") from None
    if len(found) > most:
        raise ValueError("it unpacks to more than a header may be")
    return Bounded(io.BytesIO(found), len(found))


def _directory_size(stream: BinaryIO, size: int) -> int:
    """Bytes of a zip file's table of contents, which zipfile would read whole; asked of its last record."""
    tail = min(size, 65_557)
    stream.seek(size - tail)
    end = stream.read(tail)
    at = end.rfind(b"PK\x05\x06")
    if at < 0 or len(end) - at < 22:
        raise ValueError("a zip file that is cut off")
    told: int = struct.unpack_from("<I", end, at + 12)[0]
    locator = end.rfind(b"PK\x06\x07", 0, at)
    if locator < 0:
        return told
    stream.seek(min(size, struct.unpack_from("<Q", end, locator + 8)[0]))
    record = stream.read(56)
    return int(struct.unpack_from("<Q", record, 40)[0]) if record[:4] == b"PK\x06\x06" else told
