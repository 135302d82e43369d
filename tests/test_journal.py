"""The journal: what is accepted is on disk, in order whatever the clock says, and survives a damaged file."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines
from pipelines import journal, journal_file
from pipelines.events import Picture
from pipelines.journal import JOURNAL, Journal, JournalTrouble
from pipelines.journal_file import COPY, DataInUse, JournalUnusable

ROOT = Path(__file__).resolve().parent.parent
REQUEST = {"prompt": "a boat", "seed": 7}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / JOURNAL


def filled(path: Path, *ids: str) -> Journal:
    book = Journal(path)
    for id in ids:
        book.accept(id, {**REQUEST, "prompt": id * 200})
    return book


def ids(book: Journal) -> list[str]:
    return [entry.id for entry in book.open()]


def damage(path: Path, start: int = 0) -> None:
    """Overwrites whole pages of the file, as a dying disk does."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(start)
        file.write(os.urandom(size - start))


def test_what_was_accepted_is_there_for_the_next_program(path: Path) -> None:
    book = filled(path, "a", "b")
    book.change("a", state="running", step=3, total=20, notes=["Said."])
    book.painted("a", 0, Picture("/p/1.png", 7, 64, 64, "text", b"jpeg"))
    # Nobody closes it: what a killed program leaves.
    again = Journal(path)
    first, second = again.open()
    assert (first.id, first.state, first.step, first.notes) == ("a", "running", 3, ["Said."])
    assert second.request["prompt"] == "b" * 200 and second.state == "waiting" and not again.note
    assert again.pictures("a") == {0: Picture("/p/1.png", 7, 64, 64, "text", b"")}


def test_order_is_that_of_acceptance_though_the_clock_is_set_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Journal(path)
    for hour, id in enumerate("abc"):
        monkeypatch.setattr(journal.time, "time", lambda hour=hour: 1e9 - 3600 * hour)
        book.accept(id, REQUEST)
    assert ids(book) == ["a", "b", "c"]
    assert [entry.created for entry in book.open()] == [1e9, 1e9 - 3600, 1e9 - 7200]
    book.change("c", priority=1)
    book.change("a", place=9.0)
    assert [entry.id for entry in book.waiting()] == book.waiting_ids() == ["c", "b", "a"]
    book.accept("d", REQUEST)  # behind one that was moved to the end
    assert book.waiting_ids() == ["c", "b", "a", "d"]


def test_the_same_request_is_found_again(path: Path) -> None:
    book = filled(path, "a")
    book.accept("b", REQUEST)
    book.change("b", state="finished")
    assert [entry.id for entry in book.alike(dict(reversed(REQUEST.items())))] == ["b"]
    book.change("b", stopped=True)
    assert book.alike(REQUEST) == [] and [entry.id for entry in book.ended(5)] == ["b"]


def test_a_damaged_journal_is_restored_from_its_copy_and_newer_jobs_are_read_out(path: Path) -> None:
    book = filled(path, *(f"old{number}" for number in range(40)))
    book.copy(now=True)
    book.accept("new", REQUEST)
    book._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    # A page in the middle of an index: the check finds it, and the rows can still be read.
    page = book._database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs_alike'").fetchone()[
        0
    ]
    size = book._database.execute("PRAGMA page_size").fetchone()[0]
    book._database.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(os.urandom(size))
    restored = Journal(path)
    assert ids(restored) == [*(f"old{number}" for number in range(40)), "new"]
    assert "was damaged and was set aside as journal.damaged-1.sqlite" in restored.note
    assert "1 newer job could still be read" in restored.note and "No job is lost" in restored.note
    assert (path.parent / "journal.damaged-1.sqlite").exists()
    assert Journal(path).note == ""  # told once; whole from now on


def test_what_cannot_be_read_any_more_is_told(path: Path) -> None:
    book = filled(path, "a", "b")
    book.copy(now=True)
    book.accept("c", REQUEST)
    book._database.close()
    damage(path)
    restored = Journal(path)
    assert ids(restored) == ["a", "b"]
    assert "restored from its copy of" in restored.note and "are lost: ask for them again" in restored.note
    assert "All finished pictures are where they were." in restored.note


def test_without_a_good_copy_it_is_begun_anew_with_a_sentence(path: Path) -> None:
    filled(path, "a").close()
    damage(path)
    damage(path.with_name(COPY))
    book = Journal(path)
    assert ids(book) == [] and "there was no good copy" in book.note
    book.accept("b", REQUEST)
    assert ids(book) == ["b"]


def test_a_copy_never_takes_the_place_of_a_good_one_where_the_journal_is_bad(path: Path) -> None:
    book = filled(path, *(f"job{number}" for number in range(40)))
    book.copy(now=True)
    good = path.with_name(COPY).read_bytes()
    book._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(path, 8192)
    book._changed = True
    book.copy(now=True)
    assert path.with_name(COPY).read_bytes() == good and "No copy" in book.trouble
    assert not list(path.parent.glob(".*.part"))


def test_a_journal_that_is_gone_is_restored(path: Path) -> None:
    filled(path, "a").close()
    path.unlink()
    book = Journal(path)
    assert ids(book) == ["a"] and "was gone" in book.note


def test_a_torn_last_write_takes_nothing_else_with_it(path: Path) -> None:
    book = filled(path, "a", "b")
    wal = Path(f"{path}-wal")
    whole = wal.read_bytes()
    book.accept("c", REQUEST)
    torn = wal.read_bytes()[: len(whole) + 100]
    copy = path.parent / "torn" / JOURNAL  # what the disk holds when the power goes in the middle
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    Path(f"{copy}-wal").write_bytes(torn)
    assert ids(Journal(copy)) == ["a", "b"] and Journal(copy).note == ""


def test_a_full_disk_refuses_jobs_and_keeps_what_happens_until_there_is_room(path: Path) -> None:
    book = filled(path, "a")
    pages = book._database.execute("PRAGMA page_count").fetchone()[0]
    book._database.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way of being full
    with pytest.raises(JournalTrouble, match="so it was not accepted"):
        book.accept("b", {"prompt": "x" * 50_000})
    book.change("a", state="failed", error="y" * 50_000)
    assert "cannot be written" in book.trouble and ids(book) == ["a"]
    book._database.execute("PRAGMA max_page_count = 100000")
    book.accept("c", REQUEST)
    failed = book.entry("a")
    assert failed is not None and failed.error == "y" * 50_000 and ids(book) == ["c"] and not book.trouble


def test_a_data_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for use in (lambda folder: Journal(folder / JOURNAL), journal_file.hold, pipelines.open):
        with pytest.raises(JournalUnusable, match=r"The journal of jobs in .* cannot be written"):
            use(tmp_path / "file" / "data")


def test_a_data_folder_is_held_by_one_program_until_it_ends(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, pathlib\n"
        "from pipelines import journal_file\n"
        f"lock = journal_file.hold(pathlib.Path({str(tmp_path)!r}))\n"
        "print('held', flush=True)\n"
        "sys.stdin.readline()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(DataInUse, match=r"already open on .* --data"):
            journal_file.hold(tmp_path)
        other.communicate("\n")
    journal_file.hold(tmp_path).release()


def test_a_second_program_on_the_same_folder_says_so_and_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ui.app import main

    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    lock = journal_file.hold(tmp_path)
    try:
        assert main(["--data", str(tmp_path), "--port", str(port), "--no-browser"]) == 1
    finally:
        lock.release()
    assert "already open" in capsys.readouterr().err


def test_the_copy_is_a_database_of_its_own(path: Path) -> None:
    filled(path, "a").close()
    copy = path.with_name(COPY)
    assert sqlite3.connect(copy).execute("SELECT id FROM jobs").fetchall() == [("a",)]
    assert {file.name for file in path.parent.iterdir()} <= {
        JOURNAL,
        f"{JOURNAL}-shm",
        f"{JOURNAL}-wal",
        COPY,
    }
