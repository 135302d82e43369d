"""The gallery's index: a SQLite file that answers quickly and holds nothing that the files do not.

It may be deleted at any time; one that is damaged, or of an older make, is begun anew.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipelines.gallery.answers import Answers
from pipelines.gallery.facts import Facts
from pipelines.gallery.marks import Mark
from pipelines.gallery.places import Place, place_of
from pipelines.gallery.search import apart


class Index(Answers):
    """The index as it is read and changed."""

    def put(self, files: Sequence[tuple[Place, int, int, Facts | None]], marks: Mapping[str, Mark]) -> None:
        """Takes in files that were read: (place, size, time of change, what it tells or None), and the marks
        of their pictures."""
        with self._changing() as database:
            before = self._ids_of(database, [place.path for place, *_ in files])
            for place, size, changed, facts in files:
                database.execute(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                    (place.path, size, changed, facts.id if facts else None),
                )
                if facts is not None:
                    self._put_picture(database, place, facts, marks.get(facts.id, Mark()))
            self._settle(database, before)

    def moved(self, places: Mapping[str, Place]) -> None:
        """Files that lie elsewhere now, unchanged: old path -> new place."""
        with self._changing() as database:
            ids = self._ids_of(database, places)
            for old, place in places.items():
                database.execute("DELETE FROM files WHERE path = ?", [place.path])
                database.execute("UPDATE files SET path = ? WHERE path = ?", (place.path, old))
                for id in self._ids_of(database, [place.path]):
                    self._place(database, id, place)
            self._settle(database, ids)

    def gone(self, paths: Iterable[str]) -> None:
        """Files that are no longer there."""
        with self._changing() as database:
            paths = list(paths)
            ids = self._ids_of(database, paths)
            database.executemany("DELETE FROM files WHERE path = ?", [(path,) for path in paths])
            self._settle(database, ids)

    def mark(self, marks: Mapping[str, Mark]) -> None:
        """Takes over stars, boards, notes and verdicts."""
        with self._changing() as database:
            for id, mark in marks.items():
                found = database.execute("SELECT n, name FROM pictures WHERE id = ?", [id]).fetchone()
                if found is None:
                    continue
                n, name = found
                database.execute(
                    "UPDATE pictures SET star = ?, board = ? WHERE n = ?", (mark.star, mark.board, n)
                )
                database.execute("UPDATE texts SET verdict = ? WHERE n = ?", (_verdict(mark), n))
                text, note = database.execute("SELECT text, note FROM texts WHERE n = ?", [n]).fetchone()
                if note != mark.note:
                    self._unword(database, n, text, note, name)
                    database.execute("UPDATE texts SET note = ? WHERE n = ?", (mark.note, n))
                    self._word(database, n, text, mark.note, name)

    # How it is done

    def _put_picture(self, database: sqlite3.Connection, place: Place, facts: Facts, mark: Mark) -> None:
        if database.execute("SELECT 1 FROM pictures WHERE id = ?", [facts.id]).fetchone():
            return self._place(database, facts.id, place)
        told = (place.path, place.name, place.task, place.made, place.day)
        known = (facts.width, facts.height, facts.bytes, facts.seed, facts.model, facts.sampler)
        n = database.execute(
            "INSERT INTO pictures VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (facts.id, *told, *known, facts.prompt[:200], place.trashed, mark.star, mark.board),
        ).lastrowid
        database.execute(
            "INSERT INTO texts VALUES (?, ?, ?, ?, ?, ?)",
            (n, facts.text, facts.prompt, facts.negative_prompt, mark.note, _verdict(mark)),
        )
        database.executemany("INSERT INTO loras VALUES (?, ?)", [(name, n) for name in facts.loras])
        database.executemany(
            "INSERT OR IGNORE INTO sources VALUES (?, ?, ?, ?)",
            [(key, n, what, at) for at, (what, key) in enumerate(facts.sources)],
        )
        self._word(database, n, facts.text, mark.note, place.name)

    def _place(self, database: sqlite3.Connection, id: str, place: Place) -> None:
        """A picture's place; of several files one that is not in the trash counts, then the oldest."""
        n, path, trashed, name = database.execute(
            "SELECT n, path, trashed, name FROM pictures WHERE id = ?", [id]
        ).fetchone()
        there = database.execute("SELECT changed FROM files WHERE path = ? AND id = ?", (path, id)).fetchone()
        if there and path != place.path and (trashed, *there, path) < _rank(place):
            return
        database.execute(
            "UPDATE pictures SET path = ?, name = ?, task = ?, made = ?, day = ?, trashed = ? WHERE n = ?",
            (place.path, place.name, place.task, place.made, place.day, place.trashed, n),
        )
        if name != place.name:
            text, note = database.execute("SELECT text, note FROM texts WHERE n = ?", [n]).fetchone()
            self._unword(database, n, text, note, name)
            self._word(database, n, text, note, place.name)

    def _settle(self, database: sqlite3.Connection, ids: Iterable[str]) -> None:
        """Lets go of pictures without a file; one whose file is gone while another has it moves there."""
        for id in ids:
            found = database.execute(
                "SELECT p.n, p.path, p.name, t.text, t.note FROM pictures p JOIN texts t ON t.n = p.n "
                "WHERE p.id = ?",
                [id],
            ).fetchone()
            if found is None:
                continue
            n, path, name, text, note = found
            files = database.execute("SELECT path, changed FROM files WHERE id = ?", [id])
            left = {path: place_of(path, changed) for path, changed in files}
            if not left:
                self._unword(database, n, text, note, name)
                for table in ("pictures", "texts", "loras", "sources"):
                    database.execute(f"DELETE FROM {table} WHERE n = ?", [n])
            elif path not in left:
                self._place(database, id, min(left.values(), key=_rank))

    def _ids_of(self, database: sqlite3.Connection, paths: Iterable[str]) -> list[str]:
        sql = (
            "SELECT DISTINCT id FROM files WHERE id IS NOT NULL AND path IN (SELECT value FROM json_each(?))"
        )
        return [id for (id,) in database.execute(sql, [json.dumps(list(paths))])]

    def _word(self, database: sqlite3.Connection, n: Any, text: str, note: str, name: str) -> None:
        if self.fts:
            database.execute(
                "INSERT INTO words (rowid, text, note, name) VALUES (?, ?, ?, ?)",
                (n, apart(text), apart(note), apart(name)),
            )

    def _unword(self, database: sqlite3.Connection, n: Any, text: str, note: str, name: str) -> None:
        # A table without contents must be told again what was said for a row, exactly.
        if self.fts:
            database.execute(
                "INSERT INTO words (words, rowid, text, note, name) VALUES ('delete', ?, ?, ?, ?)",
                (n, apart(text), apart(note), apart(name)),
            )

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                with self._writer:
                    self._writer.execute("BEGIN IMMEDIATE")
                    yield self._writer
            finally:
                self._version += 1


def _verdict(mark: Mark) -> str:
    return "" if mark.verdict is None else json.dumps(asdict(mark.verdict))


def _rank(place: Place) -> tuple[bool, int, str]:
    """Of several files with the same bytes, the one that sorts first stands for the picture."""
    return place.trashed, place.changed, place.path
