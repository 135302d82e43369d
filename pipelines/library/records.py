"""What was once read off a file, remembered until the file changes: by its path, size and time of change.

Kept in a small SQLite file that several processes may use at once. It is a memory only: when it is lost or
damaged it is begun anew, and everything in it is read off the files again.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

_EDITION = 1
"""Counted up when what is remembered changes its meaning: older rows are then dropped."""

_TABLE = """
CREATE TABLE IF NOT EXISTS facts (
    file TEXT, what TEXT, size INTEGER, changed INTEGER, value TEXT, PRIMARY KEY (file, what)
) WITHOUT ROWID
"""


_INSERT = "INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?)"


class FileRecords:
    """Values (anything JSON can hold) by file and subject, in memory and, given a path, on the disk."""

    def __init__(self, path: Path | None = None):
        self.path = path
        self._known: dict[tuple[str, str], tuple[int, int, Any]] = {}
        self._unsaved: dict[tuple[str, str], tuple[int, int, Any]] = {}
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None

    def __reduce__(self) -> tuple[type, tuple[Path | None]]:
        return type(self), (self.path,)

    def get(self, file: str | Path, size: int, changed: int, what: str) -> Any:
        """What is remembered of a file of `size` bytes that was last changed at `changed` (nanoseconds);
        None where nothing is, or it was of another state of the file."""
        place = (str(file), what)
        with self._lock:
            self._open()
            found = self._known.get(place)
            if (found is None or found[:2] != (size, changed)) and self._database is not None:
                found = self._ask(place)
        return found[2] if found is not None and found[:2] == (size, changed) else None

    def put(self, file: str | Path, size: int, changed: int, what: str, value: Any) -> None:
        """Remembers a value; it reaches the disk with the next `save`."""
        with self._lock:
            self._open()
            place = (str(file), what)
            self._known[place] = self._unsaved[place] = (size, changed, value)

    def save(self) -> None:
        """Writes what is new to the disk."""
        with self._lock:
            if self._unsaved and self._database is not None:
                rows = [
                    (*place, size, changed, json.dumps(value))
                    for place, (size, changed, value) in self._unsaved.items()
                ]
                try:
                    with self._database:
                        self._database.executemany(
                            "INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?)", rows
                        )
                except sqlite3.OperationalError as problem:
                    _log.warning("%s cannot be written to: %s", self.path, problem)
            self._unsaved.clear()

    def close(self) -> None:
        self.save()
        with self._lock:
            if self._database is not None:
                self._database.close()
            self._database = None

    def _open(self) -> None:
        if self.path is None or self._database is not None:
            return
        try:
            self._database = self._connect_anew()
        except (sqlite3.OperationalError, OSError) as problem:  # a disk that is full, or not ours to write to
            _log.warning(
                "%s cannot be used, so files are read again at the next start: %s", self.path, problem
            )
            self.path = None
            return
        for file, what, size, changed, value in self._database.execute("SELECT * FROM facts"):
            self._known[file, what] = (size, changed, json.loads(value))

    def _connect_anew(self) -> sqlite3.Connection:
        assert self.path is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._connect()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:  # damaged: it is only a memory
            for ending in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.remove(f"{self.path}{ending}")
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        assert self.path is not None
        database = sqlite3.connect(self.path, timeout=30, check_same_thread=False)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=OFF")  # after a power cut it is read off the files again
        database.execute(_TABLE)
        if database.execute("PRAGMA user_version").fetchone()[0] != _EDITION:
            database.execute("DELETE FROM facts")
            database.execute(f"PRAGMA user_version={_EDITION}")
        database.execute("SELECT count(*) FROM facts").fetchone()
        database.commit()
        return database

    def _ask(self, place: tuple[str, str]) -> tuple[int, int, Any] | None:
        assert self._database is not None
        row = self._database.execute(
            "SELECT size, changed, value FROM facts WHERE file = ? AND what = ?", place
        ).fetchone()
        if row is None:
            return None
        self._known[place] = (row[0], row[1], json.loads(row[2]))
        return self._known[place]
