"""Compares the folders with the index and reads what is new.

A file that is known by size and time of change is not opened. Folders are `outputs` and `trash` in the data
folder; paths are relative to that, with "/" on every system.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pipelines.gallery import facts
from pipelines.gallery.facts import Facts
from pipelines.gallery.index import Index
from pipelines.gallery.marks import Marks
from pipelines.gallery.places import Place, place_of
from pipelines.metadata import UnreadablePicture

OUTPUTS, TRASH = "outputs", "trash"
FOLDERS = (OUTPUTS, TRASH)
BATCH = 250
"""Files that are read between two writes to the index."""

File = tuple[str, int, int]
"""A picture's file: path, size, time of change in nanoseconds."""


class Scanner:
    """Brings an index up to what lies in the folders of `data`. One thread at a time."""

    def __init__(self, data: Path, index: Index, marks: Marks):
        self.data, self.index, self.marks = data, index, marks

    def scan(
        self,
        paths: Iterable[str] = FOLDERS,
        progress: Callable[[int, int], bool] = lambda done, total: True,
    ) -> list[str]:
        """Looks at folders (and all below them) and files; returns the ids of the pictures that were read.

        progress: told after each batch how many of how many files were read; the scan ends early where it
        returns False.
        """
        new: list[File] = []
        gone: list[str] = []
        for path in paths:
            known = self.index.files(path)
            if (one := self.index.file(path)) is not None:
                known[path] = one
            seen = set()
            for file in self._walk(path):
                seen.add(file[0])
                if known.get(file[0], (None, None))[:2] != file[1:]:
                    new.append(file)
            gone += known.keys() - seen
        new = sorted(set(new), key=lambda file: file[2], reverse=True)  # what is new is looked for first
        read: list[str] = []
        for start in range(0, len(new), BATCH):
            batch = [
                (place_of(path, changed), size, changed, self._facts(path))
                for path, size, changed in new[start : start + BATCH]
            ]
            self._put(batch)
            read += [facts.id for *_, facts in batch if facts is not None]
            if not progress(min(start + BATCH, len(new)), len(new)):
                return read
        if gone:
            self.index.gone(gone)
            progress(len(new), len(new))
        return read

    def _put(self, batch: list[tuple[Place, int, int, Facts | None]]) -> None:
        self.index.put(batch, self.marks.all())

    def _facts(self, path: str) -> Facts | None:
        try:
            return facts.read(self.data / path)
        except (UnreadablePicture, OSError):
            return None  # counted by Index.unreadable, and read again when it changes

    def _walk(self, path: str) -> Iterator[File]:
        """The pictures at and below a path; hidden files and folders are passed over, and a folder that is
        linked to from within itself is gone through once."""
        waiting, seen = [path], set()
        if not (self.data / path).is_dir():
            yield from self._file(self.data / path, path)
            return
        while waiting:
            folder = waiting.pop()
            try:
                stat = os.stat(self.data / folder)
                if (stat.st_dev, stat.st_ino) in seen:
                    continue
                seen.add((stat.st_dev, stat.st_ino))
                entries = list(os.scandir(self.data / folder))
            except OSError:
                continue  # gone meanwhile, or not ours to look into
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                try:
                    if name.lower().endswith(facts.ENDINGS):
                        stat = entry.stat()
                        name.encode()
                        yield f"{folder}/{name}", stat.st_size, stat.st_mtime_ns
                    elif entry.is_dir():
                        waiting.append(f"{folder}/{name}")
                except (OSError, UnicodeEncodeError):
                    continue  # gone meanwhile, or called by what no database can hold

    def _file(self, place: Path, path: str) -> Iterator[File]:
        if not place.name.startswith(".") and place.name.lower().endswith(facts.ENDINGS):
            try:
                stat = place.stat()
            except OSError:
                return
            yield path, stat.st_size, stat.st_mtime_ns


def sweep(data: Path, before: float) -> int:
    """Deletes what a killed program left half written in the folders: temporary files from before that time
    (seconds since the epoch). Returns how many."""
    count = 0
    for folder in FOLDERS:
        for place, _, names in os.walk(data / folder):
            for name in names:
                if name.startswith(".") and name.endswith(".part"):
                    part = Path(place) / name
                    try:
                        if part.stat().st_mtime < before:
                            part.unlink()
                            count += 1
                    except OSError:
                        continue  # gone meanwhile, or not ours to delete
    return count
