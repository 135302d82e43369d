"""The gallery's index: a SQLite file that answers in milliseconds and holds nothing that the files do not.

It may be deleted at any time; one that is damaged, or of an older make, is begun anew. Where SQLite was built
without FTS5, searching goes through every text and is slower.
"""

from __future__ import annotations

import collections
import contextlib
import json
import queue
import sqlite3
import threading
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.gallery.facts import Facts
from pipelines.gallery.marks import Mark
from pipelines.gallery.places import Place, Row, place_of, row_of
from pipelines.gallery.search import Question, Words, apart, read
from pipelines.gallery.tables import connection, opened, searches_words

_REMEMBERED = 8
"""Questions whose answers are remembered."""
_READERS = 3
"""Questions that are answered at the same time."""

_COLUMNS = (
    "p.id, p.path, p.name, p.task, p.made, p.day, p.width, p.height, p.bytes, p.seed, p.model, p.sampler"
)
_ROW = f"{_COLUMNS}, p.prompt, p.trashed, p.star, p.board"


class Index:
    """The index in one file, or (None) in memory; safe in several threads of one process.

    problem: a sentence where it could not be kept on the disk, else "". fts: whether it searches by FTS5.
    """

    def __init__(self, path: Path | None):
        self._lock = threading.RLock()
        self._writer, self.problem = opened(path)
        self.path = None if self.problem else path
        self.fts = searches_words(self._writer)
        self._version = 0
        self._remembering = threading.Lock()
        self._known: collections.OrderedDict[Question, tuple[int, array[int]]] = collections.OrderedDict()
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        for _ in range(_READERS if self.path is not None else 0):
            self._readers.put(connection(self.path))

    def close(self) -> None:
        with self._lock:
            readers = [self._readers.get() for _ in range(_READERS if self.path is not None else 0)]
            for database in (*readers, self._writer):
                database.close()
            for database in readers:  # who comes late is told so by SQLite, and does not wait
                self._readers.put(database)

    # What there is

    def files(self, below: str = "") -> dict[str, tuple[int, int, str | None]]:
        """(size, time of change in nanoseconds, id) of the files in and below a folder, by path."""
        with self._reading() as database:
            if not below:
                rows = database.execute("SELECT path, size, changed, id FROM files")
            else:
                rows = database.execute(
                    "SELECT path, size, changed, id FROM files WHERE path >= ? AND path < ?",
                    (f"{below}/", f"{below}0"),  # "0" is the sign after "/"
                )
            return {path: (size, changed, id) for path, size, changed, id in rows}

    def file(self, path: str) -> tuple[int, int, str | None] | None:
        """The same of one file; None where it is not known."""
        with self._reading() as database:
            row = database.execute("SELECT size, changed, id FROM files WHERE path = ?", [path]).fetchone()
        return None if row is None else (row[0], row[1], row[2])

    def count(self, question: Question) -> int:
        return len(self.numbers(question))

    def page(self, question: Question, offset: int, limit: int) -> list[Row]:
        """Some of the pictures that are asked for, in order."""
        numbers = list(self.numbers(question)[offset : offset + limit])
        sql = f"SELECT p.n, {_ROW} FROM pictures p WHERE p.n IN (SELECT value FROM json_each(?))"
        with self._reading() as database:
            found = {n: row_of(row) for n, *row in database.execute(sql, [json.dumps(numbers)])}
        return [found[n] for n in numbers if n in found]

    def ids(self, question: Question) -> list[str]:
        """The ids of all that is asked for, in order."""
        numbers = list(self.numbers(question))
        sql = "SELECT n, id FROM pictures WHERE n IN (SELECT value FROM json_each(?))"
        with self._reading() as database:
            found = dict(database.execute(sql, [json.dumps(numbers)]))
        return [found[n] for n in numbers if n in found]

    def place(self, question: Question, id: str) -> int | None:
        """How many stand before a picture among all that is asked for; None where it is not among them."""
        with self._reading() as database:
            found = database.execute("SELECT n FROM pictures WHERE id = ?", [id]).fetchone()
        try:
            return None if found is None else self.numbers(question).index(found[0])
        except ValueError:
            return None

    def numbers(self, question: Question) -> array[int]:
        """The rows of all that is asked for, in order. Remembered until something changes: who scrolls asks
        the same again, and who types on asks for less of the same."""
        version = self._version
        with self._remembering:
            if (known := self._known.get(question)) is not None and known[0] == version:
                self._known.move_to_end(question)
                return known[1]
        words = read(question.words)
        if self.fts and (words.wanted or words.unwanted):
            numbers = self._with_words(self.numbers(replace(question, words="")), words)
        else:
            where, values = question.where(words=not self.fts)
            sql = f"SELECT p.n FROM pictures p WHERE {where} ORDER BY {question.order}"
            with self._reading() as database:
                numbers = array("q", [n for (n,) in database.execute(sql, values)])
        with self._remembering:
            self._known[question] = (version, numbers)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return numbers

    def _with_words(self, numbers: array[int], words: Words) -> array[int]:
        """Those of the rows that have the words and none of the unwanted ones."""
        sql = "SELECT rowid FROM words WHERE words MATCH ?"
        with self._reading() as database:
            away = {n for one in words.unwanted for (n,) in database.execute(sql, [one])}
            if not words.wanted:
                return array("q", [n for n in numbers if n not in away])
            there = {n for (n,) in database.execute(sql, [words.wanted])} - away
        return array("q", [n for n in numbers if n in there])

    def rows(self, ids: Iterable[str]) -> list[Row]:
        """Those that are there, the newest first."""
        sql = (
            f"SELECT {_ROW} FROM pictures p WHERE p.id IN (SELECT value FROM json_each(?)) "
            "ORDER BY p.made DESC, p.n DESC"
        )
        with self._reading() as database:
            return [row_of(row) for row in database.execute(sql, [json.dumps(list(ids))])]

    def row(self, id: str) -> Row | None:
        return next(iter(self.rows([id])), None)

    def text(self, id: str) -> dict[str, str]:
        """The "text", "prompt", "negative" and "note" of a picture; empty where it is not there."""
        sql = (
            "SELECT t.text, t.prompt, t.negative, t.note FROM texts t JOIN pictures p ON p.n = t.n "
            "WHERE p.id = ?"
        )
        with self._reading() as database:
            found = database.execute(sql, [id]).fetchone()
        return dict(zip(("text", "prompt", "negative", "note"), found)) if found else {}

    def sources(self, id: str) -> list[tuple[str, str]]:
        """(what, key) of what a picture was made from."""
        sql = (
            "SELECT s.what, s.key FROM sources s JOIN pictures p ON p.n = s.n WHERE p.id = ? ORDER BY s.place"
        )
        with self._reading() as database:
            return list(database.execute(sql, [id]))

    def made_of(self, keys: Iterable[str]) -> list[tuple[str, str]]:
        """(id, what) of the pictures that were made from any of these."""
        sql = (
            "SELECT DISTINCT p.id, s.what FROM sources s JOIN pictures p ON p.n = s.n "
            "WHERE s.key IN (SELECT value FROM json_each(?)) ORDER BY p.made LIMIT 200"
        )
        with self._reading() as database:
            return list(database.execute(sql, [json.dumps(list(keys))]))

    def paths(self, ids: Iterable[str]) -> list[tuple[str, str]]:
        """(path, id) of all files of these pictures."""
        sql = "SELECT path, id FROM files WHERE id IN (SELECT value FROM json_each(?)) ORDER BY path"
        with self._reading() as database:
            return list(database.execute(sql, [json.dumps(list(ids))]))

    def counts(self, column: str) -> list[tuple[str, int]]:
        """(value, how many) of "task", "model", "sampler", "board", "month" or "lora", the most frequent
        first; months the latest first."""
        if column == "month":
            return self._months()
        if column == "lora":
            return self._loras()
        sql = f"SELECT {column}, count(*) FROM pictures WHERE trashed = 0 AND {column} > '' GROUP BY 1"
        with self._reading() as database:
            return sorted(database.execute(sql), key=lambda one: (-one[1], one[0]))

    def total(self, condition: str) -> int:
        """How many pictures there are with "trashed = 1" or the like, which the program writes."""
        with self._reading() as database:
            return int(database.execute(f"SELECT count(*) FROM pictures WHERE {condition}").fetchone()[0])

    def _months(self) -> list[tuple[str, int]]:
        months: collections.Counter[str] = collections.Counter()
        sql = (
            "SELECT day, count(*) FROM pictures WHERE trashed = 0 GROUP BY 1"  # by days the index is in order
        )
        with self._reading() as database:
            for day, count in database.execute(sql):
                months[day[:7]] += count
        return sorted(months.items(), reverse=True)

    def _loras(self) -> list[tuple[str, int]]:
        # All, less those in the trash: that table is read in order, and few pictures are looked up.
        trashed = (
            "SELECT l.name, count(*) FROM pictures p JOIN loras l ON l.n = p.n WHERE p.trashed = 1 GROUP BY 1"
        )
        with self._reading() as database:
            counts = dict(database.execute("SELECT name, count(*) FROM loras GROUP BY 1"))
            for name, count in database.execute(trashed):
                counts[name] -= count
        found = ((name, count) for name, count in counts.items() if count)
        return sorted(found, key=lambda one: (-one[1], one[0]))

    def marks(self) -> Mapping[str, Mark]:
        """The stars, boards and notes that the index remembers."""
        sql = (
            "SELECT p.id, p.star, p.board, t.note FROM pictures p JOIN texts t ON t.n = p.n "
            "WHERE p.star OR p.board != '' OR t.note != ''"
        )
        with self._reading() as database:
            return {id: Mark(bool(star), board, note) for id, star, board, note in database.execute(sql)}

    def unreadable(self) -> int:
        """How many files could not be read as pictures."""
        with self._reading() as database:
            return int(database.execute("SELECT count(*) FROM files WHERE id IS NULL").fetchone()[0])

    # What changes

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
        """Takes over stars, boards and notes."""
        with self._changing() as database:
            for id, mark in marks.items():
                found = database.execute("SELECT n, name FROM pictures WHERE id = ?", [id]).fetchone()
                if found is None:
                    continue
                n, name = found
                database.execute(
                    "UPDATE pictures SET star = ?, board = ? WHERE n = ?", (mark.star, mark.board, n)
                )
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
            "INSERT INTO texts VALUES (?, ?, ?, ?, ?)",
            (n, facts.text, facts.prompt, facts.negative_prompt, mark.note),
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

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if self.path is None:
            with self._lock:
                yield self._writer
            return
        database = self._readers.get()
        try:
            yield database
        finally:
            self._readers.put(database)


def _rank(place: Place) -> tuple[bool, int, str]:
    """Of several files with the same bytes, the one that sorts first stands for the picture."""
    return place.trashed, place.changed, place.path
