"""The journal: every accepted job on disk before anybody is told that it was accepted, until after its end.

A row for each job with its request and what became of it, one for each of its pictures, and one for each
turn of a batch (pipelines.batch) that a job has taken. Order is kept by a counter, never by the clock, which
may be set back.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipelines import journal_file
from pipelines.events import Picture

JobState = Literal["waiting", "running", "paused", "finished", "failed", "cancelled", "set_aside"]
OPEN: tuple[JobState, ...] = ("running", "waiting", "paused")
"""States of a job that has not ended; set_aside: it ended because the engine died on it more than once."""

JOURNAL = "journal.sqlite"
COPY_EVERY = 60.0
"""Seconds between two copies of the journal, at the least; longer where a copy takes long."""

_IN_ORDER = "ORDER BY priority DESC, place, number"
_JSON = ("request", "problems", "files", "notes")


class JournalTrouble(OSError):
    """Something could not be written down; `str()` is a sentence."""


@dataclass(frozen=True)
class Entry:
    """One job as it is written down.

    number: the how-manyth accepted. place: its place in the order, its number unless somebody moved it;
    priority: higher goes first. created, started, ended: seconds since the epoch, for showing alone. picture,
    step, total: how far it has come. deaths: how often the engine died while it ran. stop: "keep" where its
    picture is to be kept as far as it comes. seconds, stopped, notes: of its ending, as in `Finished`.
    """

    id: str
    request: Mapping[str, Any]
    client: str = ""
    state: JobState = "waiting"
    number: int = 0
    place: float = 0.0
    priority: int = 0
    created: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    picture: int = 0
    step: int = 0
    total: int = 0
    deaths: int = 0
    error: str = ""
    problems: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[Any] = ()
    stop: str = ""
    seconds: float = 0.0
    stopped: bool = False
    notes: Sequence[str] = ()

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.state in OPEN


_FIELDS = tuple(Entry.__dataclass_fields__)


class Journal:
    """The journal of one data folder, which must be held (see journal_file.hold); safe from any thread.

    note: a sentence about what was lost, where the file had to be restored; "" else. trouble: a sentence
    while what happened cannot be written down; it is written as soon as that is possible again.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.RLock()
        self._database, self.note = journal_file.opened(path)
        self._late: list[tuple[str, Sequence[Any]]] = []
        self._changed, self._copied, self._copy_took = True, 0.0, 0.0
        self.trouble = ""

    # What is written down

    def accept(
        self,
        id: str,
        request: Mapping[str, Any],
        client: str = "",
        files: Sequence[Any] = (),
        place: float | None = None,
        turn: str = "",
    ) -> Entry:
        """Writes a new job down; it is on the disk when this returns. Raises `JournalTrouble`, and then
        the job is not accepted. place: None for the last. turn: of a batch, that the job takes."""
        values = (id, client, _text(request), digest(request), _text(list(files)), time.time(), place, *OPEN)
        try:
            with self._lock, self._database:
                self._write_late()
                self._database.execute(
                    "INSERT INTO jobs (id, client, request, digest, files, created, state, place) VALUES "
                    "(?, ?, ?, ?, ?, ?, 'waiting', coalesce(?, 1 + (SELECT max((SELECT coalesce(max(seq), 0) "
                    "FROM sqlite_sequence WHERE name = 'jobs'), (SELECT coalesce(max(place), 0) FROM jobs "
                    "WHERE state IN (?, ?, ?))))))",
                    values,
                )
                if turn:
                    self._database.execute("INSERT OR REPLACE INTO turns VALUES (?, ?)", (turn, id))
        except sqlite3.Error as problem:
            raise JournalTrouble(
                f"The job could not be written into the journal ({problem}), so it was not accepted. Free "
                f"some space on the disk of {self.path.parent} and ask again."
            ) from None
        self._changed = True
        found = self.entry(id)
        assert found is not None
        return found

    def change(self, id: str, **columns: Any) -> None:
        """Writes new values of a job's columns down: at once, or where the disk refuses, as soon as it takes
        them (see `trouble`)."""
        if "request" in columns:
            columns["digest"] = digest(columns["request"])
            self._note("DELETE FROM turns WHERE job = ?", (id,))  # it paints something else now
        names = ", ".join(f"{name} = ?" for name in columns)
        values = [_text(value) if name in _JSON else value for name, value in columns.items()]
        self._note(f"UPDATE jobs SET {names} WHERE id = ?", (*values, id))

    def painted(self, id: str, index: int, picture: Picture) -> None:
        """Writes a finished picture of a job down, as `change` does."""
        self._note(
            "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                id,
                index,
                picture.path,
                picture.seed,
                picture.width,
                picture.height,
                picture.parameters,
            ),
        )

    def set_fact(self, name: str, value: Any) -> None:
        """Writes down something of the whole queue, anything that JSON holds."""
        self._note("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    def _note(self, sql: str, values: Sequence[Any]) -> None:
        with self._lock:
            self._changed = True
            self._late.append((sql, values))
            try:
                with self._database:
                    self._write_late()
            except sqlite3.Error as problem:
                self.trouble = (
                    f"The journal cannot be written ({problem}). The run goes on; free some space on the "
                    f"disk of {self.path.parent}, or what happens now is not known after the next start."
                )

    def _write_late(self) -> None:
        """Writes what could not be written when it happened, in its order; inside a transaction."""
        for sql, values in self._late:
            self._database.execute(sql, values)
        self._database.commit()
        self._late.clear()
        self.trouble = ""

    # What is known

    def entry(self, id: str) -> Entry | None:
        """The job with that id, None where it was never accepted."""
        found = self._entries("WHERE id = ?", (id,))
        return found[0] if found else None

    def pictures(self, id: str) -> dict[int, Picture]:
        """The finished pictures of a job by their index, their previews left empty."""
        with self._lock:
            rows = self._database.execute(
                "SELECT picture, path, seed, width, height, parameters FROM pictures WHERE job = ? "
                "ORDER BY picture",
                (id,),
            ).fetchall()
        return {row[0]: Picture(row[1], row[2], row[3], row[4], row[5], b"") for row in rows}

    def painter(self, parameters: str) -> tuple[Entry, int] | None:
        """The last job that painted a picture with this generation text, and the picture's index; None where
        there is none. Pictures are moved and renamed, their text stays."""
        with self._lock:
            row = self._database.execute(
                "SELECT job, pictures.picture FROM pictures JOIN jobs ON jobs.id = job WHERE parameters = ? "
                "ORDER BY number DESC LIMIT 1",
                (parameters,),
            ).fetchone()
        entry = None if row is None else self.entry(row[0])
        return None if entry is None else (entry, row[1])

    def taker(self, turn: str) -> Entry | None:
        """The last job that took a turn of a batch; None where none has."""
        found = self._entries("WHERE id = (SELECT job FROM turns WHERE turn = ?)", (turn,))
        return found[0] if found else None

    def turn(self, id: str) -> str:
        """The turn of a batch that a job has taken, "" where it took none."""
        with self._lock:
            found = self._database.execute("SELECT turn FROM turns WHERE job = ?", (id,)).fetchone()
        return str(found[0]) if found else ""

    def open(self) -> list[Entry]:
        """Every job that has not ended, in order, the one that runs first."""
        order = "ORDER BY state != 'running', priority DESC, place, number"
        return self._entries(f"WHERE state IN (?, ?, ?) {order}", OPEN)

    def waiting(self) -> list[Entry]:
        """Every job that waits, by priority and place."""
        return self._entries(f"WHERE state = 'waiting' {_IN_ORDER}")

    def waiting_ids(self) -> list[str]:
        """`waiting`, the ids alone."""
        with self._lock:
            rows = self._database.execute(f"SELECT id FROM jobs WHERE state = 'waiting' {_IN_ORDER}")
            return [row[0] for row in rows]

    def ended(self, limit: int, offset: int = 0) -> list[Entry]:
        """Jobs that have ended, the last accepted first."""
        return self._entries(
            "WHERE state NOT IN (?, ?, ?) ORDER BY number DESC LIMIT ? OFFSET ?", (*OPEN, limit, offset)
        )

    def troubles(self, limit: int) -> list[Entry]:
        """Jobs that ended in an error, the last accepted first."""
        return self._entries("WHERE state IN ('failed', 'set_aside') ORDER BY number DESC LIMIT ?", (limit,))

    def alike(self, request: Mapping[str, Any]) -> list[Entry]:
        """The finished jobs of the very same request, the newest first; not those kept before their end."""
        return self._entries(
            "WHERE digest = ? AND state = 'finished' AND NOT stopped ORDER BY number DESC LIMIT 20",
            (digest(request),),
        )

    def fact(self, name: str, default: Any = None) -> Any:
        """What `set_fact` wrote down."""
        with self._lock:
            found = self._database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return json.loads(found[0]) if found else default

    def _entries(self, where: str, values: Sequence[Any] = ()) -> list[Entry]:
        with self._lock:
            rows = self._database.execute(f"SELECT {', '.join(_FIELDS)} FROM jobs {where}", values).fetchall()
        return [_entry(row) for row in rows]

    # Keeping it

    def copy(self, now: bool = False) -> None:
        """Copies the journal where the last copy is old enough and something changed since; always with
        `now`. Where that fails the last copy stays, and `trouble` says why."""
        due = time.monotonic() - self._copied >= max(COPY_EVERY, 50 * self._copy_took)
        if not self._changed or not (due or now):
            return
        began = time.monotonic()
        self._changed = False
        try:
            journal_file.copy(self.path)
        except (sqlite3.Error, OSError) as problem:
            self._changed = True
            self.trouble = f"No copy of the journal could be made ({problem}); the journal itself is whole."
        self._copied = time.monotonic()
        self._copy_took = self._copied - began

    def close(self) -> None:
        """Makes a last copy and lets go of the file."""
        self.copy(now=True)
        with self._lock:
            self._database.close()


def digest(request: Mapping[str, Any]) -> str:
    """Alike for requests with the same values."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).hexdigest()


def _entry(row: sqlite3.Row) -> Entry:
    values = dict(row)
    for name in _JSON:
        values[name] = json.loads(values[name])
    values["stopped"] = bool(values["stopped"])
    return Entry(**values)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
