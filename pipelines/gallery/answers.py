"""What the gallery's index answers, in milliseconds at a hundred thousand pictures.

Where SQLite was built without FTS5, searching goes through every text and is slower.
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

from pipelines.gallery.marks import Mark, verdict_of
from pipelines.gallery.places import Row, row_of
from pipelines.gallery.search import Question, read
from pipelines.gallery.tables import connection, opened, searches_words

_REMEMBERED = 8
"""Questions whose answers are remembered."""
_NEAR = 2000
"""A page that begins within so many is read off the index; one further on from what is remembered."""
_FEW = 5000
_READERS = 3
"""Questions that are answered at the same time."""

_COLUMNS = (
    "p.id, p.path, p.name, p.task, p.made, p.day, p.width, p.height, p.bytes, p.seed, p.model, p.sampler"
)
_ROW = f"{_COLUMNS}, p.prompt, p.trashed, p.star, p.board"


class Answers:
    """The index in one file, or (None) in memory, as it is read; safe in several threads of one process.

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
        """How many pictures are asked for."""
        if self._worded(question):
            return len(self.numbers(question))
        where, values = question.where(words=not self.fts)
        with self._reading() as database:
            sql = f"SELECT count(*) FROM pictures p WHERE {where}"
            return int(database.execute(sql, values).fetchone()[0])

    def page(self, question: Question, offset: int, limit: int) -> list[Row]:
        """Some of the pictures that are asked for, in order."""
        if self._worded(question) or offset > _NEAR:
            return self._rows_of(list(self.numbers(question)[offset : offset + limit]))
        where, values = question.where(words=not self.fts)
        sql = f"SELECT {_ROW} FROM pictures p WHERE {where} ORDER BY {question.order} LIMIT ? OFFSET ?"
        with self._reading() as database:
            return [row_of(row) for row in database.execute(sql, [*values, limit, offset])]

    def _worded(self, question: Question) -> bool:
        """Whether words are looked for by FTS5."""
        words = read(question.words)
        return self.fts and bool(words.wanted or words.unwanted)

    def _rows_of(self, numbers: list[int]) -> list[Row]:
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
        if self._worded(question):
            numbers = self._with_words(question)
        else:
            numbers = self._ordered(question)
        with self._remembering:
            self._known[question] = (version, numbers)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return numbers

    def _ordered(self, question: Question, among: Sequence[int] | None = None) -> array[int]:
        """The rows of all that is asked for but words, in order; of `among` alone where that is given."""
        where, values = question.where(words=not self.fts)
        if among is not None:
            where, values = (
                f"{where} AND p.n IN (SELECT value FROM json_each(?))",
                [*values, json.dumps(among)],
            )
        sql = f"SELECT p.n FROM pictures p WHERE {where} ORDER BY {question.order}"
        with self._reading() as database:
            return array("q", [n for (n,) in database.execute(sql, values)])

    def _with_words(self, question: Question) -> array[int]:
        words, rest = read(question.words), replace(question, words="")
        sql = "SELECT rowid FROM words WHERE words MATCH ?"
        with self._reading() as database:
            away = {n for one in words.unwanted for (n,) in database.execute(sql, [one])}
            there = {n for (n,) in database.execute(sql, [words.wanted])} if words.wanted else None
        if there is None:
            return array("q", [n for n in self.numbers(rest) if n not in away])
        there -= away
        if len(there) <= _FEW:  # put in order by themselves; many are picked out of all, which are in order
            return self._ordered(rest, list(there))
        return array("q", [n for n in self.numbers(rest) if n in there])

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
        """The stars, boards, notes and verdicts that the index remembers."""
        sql = (
            "SELECT p.id, p.star, p.board, t.note, t.verdict FROM pictures p JOIN texts t ON t.n = p.n "
            "WHERE p.star OR p.board != '' OR t.note != '' OR t.verdict != ''"
        )
        with self._reading() as database:
            return {
                id: Mark(bool(star), board, note, verdict_of(json.loads(verdict or "null")))
                for id, star, board, note, verdict in database.execute(sql)
            }

    def unreadable(self) -> int:
        """How many files could not be read as pictures."""
        with self._reading() as database:
            return int(database.execute("SELECT count(*) FROM files WHERE id IS NULL").fetchone()[0])

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
