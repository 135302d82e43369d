"""Pictures of elsewhere into the gallery: kept in `outputs/imported/<date>/`, byte for byte as they came.

A file's name is a label that comes along, never a path; what a file is, is told from its bytes.
"""

from __future__ import annotations

import datetime
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from pipelines.film.trajectory import put_file
from pipelines.gallery.gallery import Gallery
from pipelines.gallery.scan import OUTPUTS
from pipelines.metadata import UnreadablePicture
from pipelines.pictures import format_of, key_of

IMPORTED = "imported"
MOST_BYTES = 100 << 20

_ENDINGS = {"PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp", "AVIF": ".avif"}
_UNSAFE = re.compile(r"[^\w .()+,=@\[\]-]")
_LONGEST = 80


@dataclass(frozen=True)
class Imported:
    """What became of a file. id: of its picture. known: it was in the gallery before. restored: it lay in the
    trash and was taken out."""

    id: str
    known: bool
    restored: bool = False


class Importer:
    """Takes files into a gallery, one at a time: the largest takes half a gigabyte while it is decoded."""

    def __init__(self, gallery: Gallery):
        self.gallery = gallery
        self._lock = threading.Lock()

    def take(self, data: bytes, name: str, board: str = "", modified: float | None = None) -> Imported:
        """Takes in the file that holds `data`. modified: when it was last changed, seconds since the epoch.

        Raises `UnreadablePicture` with a sentence for what is no picture that the gallery can show, and
        OSError where it cannot be written.
        """
        with self._lock:
            id = key_of(data)
            row = self.gallery.index.row(id)
            if row is not None:
                restored = row.trashed and self.gallery.restore([id]) > 0
                imported = Imported(id, known=True, restored=restored)
            else:
                self._keep(data, name, modified)
                imported = Imported(id, known=False)
            if board:
                self.gallery.mark([id], board=board)
            return imported

    def _keep(self, data: bytes, name: str, modified: float | None) -> None:
        kind = format_of(data)
        if kind not in _ENDINGS:
            raise UnreadablePicture(
                f"The gallery shows PNG, JPEG, WebP and AVIF; this is {kind}. Save it as one of those."
            )
        made = datetime.datetime.now() if modified is None else datetime.datetime.fromtimestamp(modified)
        folder = self.gallery.data / OUTPUTS / IMPORTED / made.date().isoformat()
        folder.mkdir(parents=True, exist_ok=True)
        numbers = [int(file.name[:5]) for file in folder.glob("[0-9][0-9][0-9][0-9][0-9]-*")]
        path = folder / f"{max(numbers, default=0) + 1:05d}-{label(name)}{_ENDINGS[kind]}"
        put_file(path, lambda part: _write(part, data, made.timestamp()))
        self.gallery.look(path)


def label(name: str) -> str:
    """What is kept of a file's name: its last part, without its ending and what a file system may mind."""
    last = re.split(r"[\\/]", name)[-1]
    stem = last.rpartition(".")[0] or last
    return _UNSAFE.sub("_", stem).strip(" .")[:_LONGEST].rstrip(" .") or "picture"


def _write(part: Path, data: bytes, made: float) -> None:
    with part.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.utime(part, (made, made))
