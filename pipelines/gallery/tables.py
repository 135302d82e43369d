"""The tables of the gallery's index, and how its file is opened: whole, or begun anew."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

EDITION = 2
"""Counted up when the tables change: an older file is then begun anew."""

_TABLES = """
CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER, changed INTEGER, id TEXT) WITHOUT ROWID;
CREATE INDEX files_of ON files (id);
CREATE TABLE pictures (
    n INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, path TEXT NOT NULL,
    name TEXT, task TEXT, made REAL, day TEXT,
    width INTEGER, height INTEGER, bytes INTEGER, seed INTEGER, model TEXT, sampler TEXT, prompt TEXT,
    trashed INTEGER NOT NULL, star INTEGER NOT NULL, board TEXT NOT NULL
);
CREATE INDEX by_made ON pictures (trashed, made, n);
CREATE INDEX by_name ON pictures (trashed, name, n);
CREATE INDEX by_seed ON pictures (trashed, seed, n);
CREATE INDEX by_task ON pictures (trashed, task, made, n);
CREATE INDEX by_model ON pictures (trashed, model, made, n);
CREATE INDEX by_sampler ON pictures (trashed, sampler, made, n);
CREATE INDEX by_board ON pictures (trashed, board, made, n);
CREATE INDEX by_star ON pictures (trashed, star, made, n);
CREATE INDEX by_day ON pictures (trashed, day);
CREATE TABLE texts (n INTEGER PRIMARY KEY, text TEXT, prompt TEXT, negative TEXT, note TEXT, verdict TEXT);
CREATE TABLE loras (name TEXT, n INTEGER, PRIMARY KEY (name, n)) WITHOUT ROWID;
CREATE INDEX loras_of ON loras (n);
CREATE TABLE sources (
    key TEXT, n INTEGER, what TEXT, place INTEGER, PRIMARY KEY (key, n, what)
) WITHOUT ROWID;
CREATE INDEX sources_of ON sources (n);
"""
_WORDS = (
    "CREATE VIRTUAL TABLE words USING fts5 "
    "(text, note, name, content='', prefix='2 3', tokenize='unicode61 remove_diacritics 2')"
)


def opened(path: Path | None) -> tuple[sqlite3.Connection, str]:
    """A connection to the index in that file, and a sentence where it can only be held in memory, else "".

    A file that is damaged or of another make is deleted: all in it is read off the pictures again.
    """
    if path is not None:
        for anew in (False, True):
            try:
                return _usable(path, anew), ""
            except (sqlite3.DatabaseError, OSError) as error:
                problem = error
        told = f"The gallery's index cannot be kept on the disk ({problem}): it is built anew at every start."
        return _usable(None, anew=False), told
    return _usable(None, anew=False), ""


def connection(path: Path | None) -> sqlite3.Connection:
    """A connection that begins and ends its transactions itself."""
    database = sqlite3.connect(path or ":memory:", timeout=30, check_same_thread=False, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("PRAGMA cache_size=-32000")
    return database


def searches_words(database: sqlite3.Connection) -> bool:
    """Whether the index has a table of words; SQLite may be built without FTS5."""
    return bool(database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'words'").fetchone()[0])


def _usable(path: Path | None, anew: bool) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        for ending in ("", "-wal", "-shm") if anew else ():
            Path(f"{path}{ending}").unlink(missing_ok=True)
    database = connection(path)
    try:
        made = database.execute("PRAGMA user_version").fetchone()[0]
        if not made and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            database.executescript(_TABLES)
            with contextlib.suppress(sqlite3.OperationalError):  # no FTS5: `searches_words` tells
                database.execute(_WORDS)
            database.execute(f"PRAGMA user_version={EDITION}")
        elif made != EDITION:
            raise sqlite3.DatabaseError("an index of another make")
        database.execute("SELECT count(*) FROM pictures").fetchone()
    except BaseException:
        database.close()
        raise
    return database
