"""Stars, boards, notes and verdicts: what the pictures were given, in one file beside them (`gallery.json`).

They go by the pictures' ids, so they stay with a picture that is renamed or moved, and with the whole folder.
The file is written anew beside its place and renamed: a kill leaves the old one or the new one.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pipelines.film.trajectory import put_file
from pipelines.gallery.facts import is_id

FILE = "gallery.json"
MOST_NOTE = 10_000
MOST_NAME = 80
_ABOUT = (
    "Stars, boards, notes and verdicts of the pictures in this folder, by the first half of their files' "
    "SHA-256."
)

State = Literal["running", "identical", "differs", "cannot"]


@dataclass(frozen=True)
class Verdict:
    """What came of painting a picture again. step: the first that differs, counted from 1; None where none
    does or it is not known. job: the one that paints it. when: date and time, as ISO 8601 has them."""

    state: State
    sentence: str
    step: int | None = None
    job: str = ""
    when: str = ""


@dataclass(frozen=True)
class Mark:
    """What one picture was given. board: "" for none. verdict: None where it was never painted again."""

    star: bool = False
    board: str = ""
    note: str = ""
    verdict: Verdict | None = None


class Marks:
    """The marks of one outputs folder; safe in several threads of one process.

    problem: a sentence about a file that could not be read, else "".
    """

    def __init__(self, folder: Path, known: Callable[[], Mapping[str, Mark]] = dict):
        """known: what the index remembers of the marks, asked when the file is damaged or gone."""
        self.path = folder / FILE
        self.problem = ""
        self._known = known
        self._lock = threading.RLock()
        self._seen: tuple[int, int] | None = None
        self._boards: list[str] = []
        self._marks: dict[str, Mark] = {}
        self._locked = ""

    def load(self) -> bool:
        """Reads the file where it is new or has changed from outside; returns whether it was read."""
        with self._lock:
            seen = self._state()
            if seen is not None and seen == self._seen:
                return False
            if seen is None:
                if self._seen is None and not (known := dict(self._known())):
                    return False  # nothing was ever marked
                self._marks = self._marks or known
                self._write()
                return True
            try:
                told = json.loads(self.path.read_text("utf-8"))
                boards, marks = _read(told)
                self._locked = ""
            except OSError as problem:
                self._lock_up(problem)
                return False
            except (ValueError, TypeError, AttributeError) as problem:
                self._set_aside(problem)
                return True
            self._boards, self._marks, self._seen = boards, marks, seen
            self._add_boards(mark.board for mark in marks.values())
            return True

    @property
    def boards(self) -> list[str]:
        """The boards, in the order in which they were made."""
        with self._lock:
            return list(self._boards)

    def all(self) -> dict[str, Mark]:
        with self._lock:
            return dict(self._marks)

    def of(self, id: str) -> Mark:
        with self._lock:
            return self._marks.get(id, Mark())

    def change(
        self,
        ids: Iterable[str],
        *,
        star: bool | None = None,
        board: str | None = None,
        note: str | None = None,
    ) -> dict[str, Mark]:
        """Gives pictures what is not None; returns the marks that are different now. On the disk when this
        returns."""
        changed: dict[str, Mark] = {}
        with self._lock:
            for id in ids:
                old = self._marks.get(id, Mark())
                new = replace(
                    old,
                    star=old.star if star is None else star,
                    board=old.board if board is None else named(board),
                    note=old.note if note is None else note[:MOST_NOTE],
                )
                if new != old:
                    changed[id] = new
            if changed:
                self._put({**self._marks, **changed}, [*self._boards, *([named(board)] if board else [])])
        return changed

    def judge(self, id: str, verdict: Verdict | None) -> dict[str, Mark]:
        """Keeps what came of painting a picture again, as `change` does."""
        with self._lock:
            old = self._marks.get(id, Mark())
            new = replace(old, verdict=verdict)
            if new == old:
                return {}
            self._put({**self._marks, id: new}, self._boards)
            return {id: new}

    def forget(self, ids: Iterable[str]) -> None:
        """Drops the marks of pictures that were deleted for good."""
        with self._lock:
            gone = self._marks.keys() & set(ids)
            if gone:
                self._put({id: mark for id, mark in self._marks.items() if id not in gone}, self._boards)

    def create_board(self, name: str) -> None:
        """Makes a board; one that is there already is left as it is."""
        with self._lock:
            if named(name) not in self._boards:
                self._put(self._marks, [*self._boards, named(name)])

    def rename_board(self, name: str, to: str) -> dict[str, Mark]:
        """Renames a board, onto another one too, which then holds both; returns the marks that changed."""
        with self._lock:
            boards = [named(to) if one == name else one for one in self._boards]
            return self._moved(name, named(to), boards)

    def delete_board(self, name: str) -> dict[str, Mark]:
        """Takes a board away, its pictures stay; returns the marks that changed."""
        with self._lock:
            return self._moved(name, "", [one for one in self._boards if one != name])

    def _moved(self, name: str, to: str, boards: list[str]) -> dict[str, Mark]:
        changed = {id: replace(mark, board=to) for id, mark in self._marks.items() if mark.board == name}
        self._put({**self._marks, **changed}, boards)
        return changed

    def _put(self, marks: dict[str, Mark], boards: Iterable[str]) -> None:
        before = self._marks, self._boards
        self._marks = {id: mark for id, mark in marks.items() if mark != Mark()}
        self._boards = list(dict.fromkeys(boards))
        try:
            self._write()
        except OSError:  # what could not be kept is not shown as kept
            self._marks, self._boards = before
            raise

    def _add_boards(self, names: Iterable[str]) -> None:
        self._boards = list(dict.fromkeys([*self._boards, *(name for name in names if name)]))

    def _write(self) -> None:
        if self._locked:
            raise OSError(errno.EACCES, self._locked, str(self.path))
        self._add_boards(mark.board for mark in self._marks.values())
        pictures = {id: _told(mark) for id, mark in sorted(self._marks.items())}
        told = {"about": _ABOUT, "boards": self._boards, "pictures": pictures}
        data = json.dumps(told, ensure_ascii=False, indent=0).encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        put_file(self.path, lambda part: _flushed(part, data))
        self._seen = self._state()

    def _lock_up(self, problem: OSError) -> None:
        """Writes nothing over a file that is there and may not be read."""
        self._locked = problem.strerror or str(problem)
        self.problem = (
            f"Stars, boards and notes cannot be read ({self._locked}: {self.path}), so none are shown and "
            "none can be changed. Mend that, and start the program anew."
        )

    def _set_aside(self, problem: Exception) -> None:
        """Keeps a file that cannot be read under another name, and begins anew with what is known."""
        aside = self.path.with_name(f"gallery.damaged-{self.path.stat().st_mtime_ns}.json")
        os.replace(self.path, aside)
        self._marks = self._marks or dict(self._known())
        self._write()
        self.problem = (
            f"The file with stars, boards and notes could not be read ({problem}): it is kept as "
            f"{aside.name}, and what was given to {len(self._marks)} pictures was taken from the index."
        )

    def _state(self) -> tuple[int, int] | None:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size


def sweep(folder: Path) -> None:
    """Deletes what a killed program left half written; nobody else writes this file."""
    for part in folder.glob(f".{FILE}.*.part"):
        part.unlink(missing_ok=True)


def named(name: str) -> str:
    """A board's name as it is kept."""
    return " ".join(name.encode("utf-8", "replace").decode("utf-8").replace("\0", " ").split())[:MOST_NAME]


def _read(told: Any) -> tuple[list[str], dict[str, Mark]]:
    boards = [named(name) for name in told.get("boards", []) if isinstance(name, str) and named(name)]
    marks = {}
    for id, mark in told["pictures"].items():
        if is_id(id):
            board, note = (mark.get(name) for name in ("board", "note"))
            marks[id] = Mark(
                mark.get("star") is True,
                named(board) if isinstance(board, str) else "",
                note[:MOST_NOTE] if isinstance(note, str) else "",
                verdict_of(mark.get("verdict")),
            )
    return list(dict.fromkeys(boards)), marks


def verdict_of(told: Any) -> Verdict | None:
    """The verdict in what a file tells of one; None where that is none."""
    if not isinstance(told, Mapping) or told.get("state") not in get_args(State):
        return None
    step, job, when = (told.get(name) for name in ("step", "job", "when"))
    return Verdict(
        told["state"],
        str(told.get("sentence", ""))[:MOST_NOTE],
        step if isinstance(step, int) else None,
        job if isinstance(job, str) else "",
        when if isinstance(when, str) else "",
    )


def _told(mark: Mark) -> dict[str, Any]:
    return {name: value for name, value in asdict(mark).items() if value}


def _flushed(part: Path, data: bytes) -> None:
    with part.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
