"""The journal's file: held by one program at a time, opened whole or restored, copied now and then.

SQLite keeps it whole through every kill and power cut. What it cannot mend, a page that the disk damaged, is
found by its own check at the start; then the last good copy takes its place, and what can still be read of
newer jobs is taken over.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK, COPY = "darkroom.lock", "journal.copy.sqlite"
_ENDINGS = ("", "-wal", "-shm")
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, client TEXT NOT NULL,
    request TEXT NOT NULL, digest TEXT NOT NULL, state TEXT NOT NULL, place REAL NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, started REAL NOT NULL DEFAULT 0,
    ended REAL NOT NULL DEFAULT 0, picture INTEGER NOT NULL DEFAULT 0, step INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
    problems TEXT NOT NULL DEFAULT '{}', files TEXT NOT NULL DEFAULT '[]', stop TEXT NOT NULL DEFAULT '',
    seconds REAL NOT NULL DEFAULT 0, stopped INTEGER NOT NULL DEFAULT 0, notes TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX IF NOT EXISTS jobs_in_order ON jobs(state, priority DESC, place);
CREATE INDEX IF NOT EXISTS jobs_alike ON jobs(digest, state);
CREATE TABLE IF NOT EXISTS pictures (
    job TEXT NOT NULL, picture INTEGER NOT NULL, path TEXT NOT NULL, seed INTEGER NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, parameters TEXT NOT NULL, PRIMARY KEY (job, picture)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS turns (turn TEXT PRIMARY KEY, job TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS turns_taken ON turns(job);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class DataInUse(RuntimeError):
    """Another program works on the same data folder; `str()` is a sentence."""


class JournalUnusable(RuntimeError):
    """The journal can be neither read nor begun; `str()` is a sentence."""


def hold(data: Path) -> BaseFileLock:
    """Keeps a data folder for this program until the lock is released or the program ends, however it does.

    Raises `DataInUse` where another one has it: both would run the same jobs. Raises `JournalUnusable` where
    nothing can be written there.
    """
    import filelock

    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(data / LOCK, timeout=0, thread_local=False)
        lock.acquire()
    except filelock.Timeout:
        raise DataInUse(
            f"Darkroom is already open on {data}, and two at once would paint the same jobs twice. Use the "
            "one that is open, close it, or give this one a folder of its own with --data."
        ) from None
    except OSError as problem:
        raise _unusable(data, problem.strerror or str(problem)) from None
    return lock


def opened(path: Path) -> tuple[sqlite3.Connection, str]:
    """The journal at `path`, whole, and a sentence about what was lost where it had to be restored.

    Raises `JournalUnusable` where it can neither be read nor begun.
    """
    copy = path.with_name(COPY)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for part in path.parent.glob(".journal*.part*"):
            part.unlink(missing_ok=True)
        empty = not path.exists() or path.stat().st_size == 0
        if empty and copy.exists() and not Path(f"{path}-wal").exists():
            return _restored(path, "was gone")
        try:
            return connect(path), ""
        except sqlite3.DatabaseError as problem:
            if not _is_damage(problem):
                raise
        return _restored(path, "was damaged")
    except (sqlite3.Error, OSError) as problem:
        raise _unusable(path.parent, getattr(problem, "strerror", None) or str(problem)) from None


def connect(path: Path) -> sqlite3.Connection:
    """The journal at `path`, begun where there is none. Raises sqlite3's errors, also for one that is not
    whole."""
    database = sqlite3.connect(path, timeout=30, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        # FULL: what was accepted is on the disk before the page says so, through a power cut too.
        database.execute("PRAGMA synchronous=FULL")
        found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise _damage(found)
        database.executescript(TABLES)
        database.row_factory = sqlite3.Row
    except BaseException:
        database.close()
        raise
    return database


def copy(path: Path) -> None:
    """Puts a copy beside the journal at `path`, checked before it takes the last one's place. Raises
    sqlite3's errors and OSError; the last copy then stays."""
    part = path.with_name(f".{COPY}.part")
    part.unlink(missing_ok=True)
    try:
        # A connection of its own: it reads a state of one moment while jobs are still written down.
        with closing(sqlite3.connect(path, timeout=30)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it
            found = target.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise _damage(found)
            target.execute(
                "INSERT OR REPLACE INTO facts VALUES ('copied', ?)", (time.strftime("%H:%M on %d %B %Y"),)
            )
            target.commit()
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path.with_name(COPY))
    finally:
        part.unlink(missing_ok=True)


def _restored(path: Path, why: str) -> tuple[sqlite3.Connection, str]:
    aside = _set_aside(path)
    saying = f"The journal of jobs {why}" + (f" and was set aside as {aside.name}" if aside else "")
    kept = path.with_name(COPY)
    if kept.exists():
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(kept.read_bytes())
        os.replace(part, path)
        try:
            database = connect(path)
        except sqlite3.DatabaseError as problem:
            if not _is_damage(problem):
                raise
            _set_aside(path)
        else:
            found = database.execute("SELECT value FROM facts WHERE name = 'copied'").fetchone()
            since = found[0] if found else "an earlier time"
            saved, lost = _salvaged(aside, database) if aside else (0, None)
            told = f"{saying}; it has been restored from its copy of {since}."
            if saved:
                told += f" {saved} newer {'job' if saved == 1 else 'jobs'} could still be read and were kept."
            if lost is None:
                told += " Jobs accepted after that and not yet painted are lost: ask for them again."
            elif lost:
                told += f" {lost} {'job' if lost == 1 else 'jobs'} accepted after that are lost: ask again."
            else:
                told += " No job is lost."
            return database, f"{told} All finished pictures are where they were."
    return connect(path), (
        f"{saying}, and there was no good copy of it. Jobs that still waited are lost: ask for them again. "
        "All finished pictures are where they were."
    )


def _set_aside(path: Path) -> Path | None:
    """Moves a journal and what belongs to it out of the way; returns where it lies now."""
    if not path.exists():
        for ending in _ENDINGS[1:]:
            with suppress(FileNotFoundError):
                os.remove(f"{path}{ending}")
        return None
    number = 1
    while (aside := path.with_name(f"journal.damaged-{number}.sqlite")).exists():
        number += 1
    for ending in _ENDINGS:
        with suppress(FileNotFoundError):
            os.replace(f"{path}{ending}", f"{aside}{ending}")
    return aside


def _salvaged(damaged: Path, database: sqlite3.Connection) -> tuple[int, int | None]:
    """Takes over what can still be read of jobs that are newer than the copy: how many, and how many are
    lost (None where that cannot be told)."""
    newest = database.execute("SELECT coalesce(max(number), 0) FROM jobs").fetchone()[0]
    saved, last = 0, None
    try:
        with closing(sqlite3.connect(damaged)) as source:
            source.row_factory = sqlite3.Row
            for row in source.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'"):
                last = row[0]
            for row in source.execute("SELECT * FROM jobs WHERE number > ? ORDER BY number", (newest,)):
                names = [name for name in row.keys() if name in _columns(database)]  # noqa: SIM118 (a Row)
                marks = ", ".join("?" * len(names))
                with database:
                    database.execute(
                        f"INSERT OR IGNORE INTO jobs ({', '.join(names)}) VALUES ({marks})",
                        [row[name] for name in names],
                    )
                saved += 1
    except sqlite3.DatabaseError as problem:
        if not _is_damage(problem) and not isinstance(problem, sqlite3.OperationalError):
            raise
    return saved, None if last is None else max(0, last - newest - saved)


def _columns(database: sqlite3.Connection) -> set[str]:
    return {row[1] for row in database.execute("PRAGMA table_info(jobs)")}


def _damage(found: str) -> sqlite3.DatabaseError:
    problem = sqlite3.DatabaseError(found)
    problem.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return problem


def _is_damage(problem: sqlite3.DatabaseError) -> bool:
    return getattr(problem, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def _unusable(folder: Path, why: str) -> JournalUnusable:
    return JournalUnusable(
        f"The journal of jobs in {folder} cannot be written ({why}), so no job could be kept. Free some "
        "space there, let this account write to the folder, or give another one with --data."
    )
