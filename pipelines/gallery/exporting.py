"""Pictures out of the gallery: a ZIP file of their files and an `index.json`, made while it is sent.

Pictures are compressed already, so they are only stored; no more than one is held in memory at a time.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.gallery.gallery import Gallery, shown

INDEX = "index.json"
_PIECE = 1 << 20


def zipped(gallery: Gallery, ids: Iterable[str]) -> Iterator[bytes]:
    """The pieces of the ZIP file; a picture that is gone meanwhile is left out, and named in the index."""
    out = _Pieces()
    told: list[dict[str, Any]] = []
    names: set[str] = set()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for id in dict.fromkeys(ids):
            row = gallery.index.row(id)
            if row is None:
                continue
            name = _free(row.path.partition("/")[2], names)
            entry = {"file": name, **shown(row), **gallery.index.text(id)}
            try:
                file = (gallery.data / row.path).open("rb")
            except FileNotFoundError:
                told.append({**entry, "file": None})
                continue
            with file, archive.open(name, "w", force_zip64=True) as entered:
                while piece := file.read(_PIECE):
                    entered.write(piece)
                    yield from out.taken()
            told.append(entry)
        index = json.dumps({"program": "Darkroom", "pictures": told}, ensure_ascii=False, indent=1)
        archive.writestr(INDEX, index, zipfile.ZIP_DEFLATED)
    yield from out.taken()


def _free(name: str, names: set[str]) -> str:
    """The name, or with a number where one is called so already; they are noted."""
    stem, dot, ending = name.rpartition(".")
    count, found = 1, name
    while found.casefold() in names:
        count += 1
        found = f"{stem} ({count}){dot}{ending}"
    names.add(found.casefold())
    return found


class _Pieces(io.RawIOBase):
    """A file that can only be written on; what was written is taken out again."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._waiting.append(bytes(data))
        return len(data)

    def taken(self) -> Iterator[bytes]:
        waiting, self._waiting = self._waiting, []
        yield from waiting
