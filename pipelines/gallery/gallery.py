"""The gallery of one data folder: what is asked of it, and the thread that keeps its index up to the files.

Everything that a person changes is in the files before it is in the index: moved into the trash, or written
beside the pictures.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.gallery import marks, scan
from pipelines.gallery.index import Index
from pipelines.gallery.marks import FILE, Mark, Marks, Verdict
from pipelines.gallery.places import Row, place_of
from pipelines.gallery.scan import FOLDERS, OUTPUTS, TRASH, Scanner
from pipelines.gallery.search import Question
from pipelines.gallery.thumbnails import Thumbnails
from pipelines.library.watching import LibraryWatcher

if TYPE_CHECKING:
    from pipelines.film.trajectory import TrajectoryStore
    from pipelines.pictures import PictureStore

INDEX = "gallery.sqlite"
THUMBNAILS = "thumbnails"
FEW = 8
"""So many new pictures at once get their small pictures before anybody asks for them."""
TOLD_EVERY = 1.0
"""Seconds between two tidings of a long scan."""
LEFT = 60.0
"""Seconds after which a temporary file is taken for left behind; the engine may be writing younger ones."""
FACETS = ("task", "model", "lora", "sampler", "board", "month")


@dataclass(frozen=True)
class Indexing:
    """How far a scan is: so many of so many new files are read."""

    done: int
    total: int


class Gallery:
    """Every picture of a data folder. Safe in several threads; `open` begins to watch, `close` ends it.

    changed: called, on any thread, after whatever a list may show differently.
    """

    def __init__(
        self,
        data: Path,
        store: PictureStore,
        trajectories: TrajectoryStore,
        changed: Callable[[], None] = lambda: None,
    ):
        self.data, self.store, self.trajectories, self._changed = data, store, trajectories, changed
        self.thumbnails = Thumbnails(data / THUMBNAILS)
        self.indexing: Indexing | None = None
        self.watcher = _Watcher(data, self._look)
        self.scanned = threading.Event()
        """Set once the folders have been gone through."""
        self._lock = threading.RLock()
        self._index: Index | None = None
        self._marks: Marks | None = None
        self._tasks: queue.SimpleQueue[Sequence[str] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ending = False
        self._count = 0
        self._facets: tuple[int, dict[str, Any]] = (-1, {})
        self._told = 0.0
        self._problem = ""
        self._boards: list[str] = []

    @property
    def index(self) -> Index:
        """The index, opened when it is first asked for."""
        with self._lock:
            if self._index is None:
                self._index = Index(self.data / INDEX)
            return self._index

    @property
    def marks(self) -> Marks:
        with self._lock:
            if self._marks is None:
                self._marks = Marks(self.data / OUTPUTS, self.index.marks)
                self._marks.load()
            return self._marks

    def open(self, ready: Callable[[], None] = lambda: None) -> None:
        """Goes through the folders, on a thread of its own, and notices from now on what changes in them.
        ready: called, on that thread, once they have been gone through."""
        if self._thread is None:
            self._ending = False
            for folder in FOLDERS:  # to be watched, they must be there
                with contextlib.suppress(OSError):
                    (self.data / folder).mkdir(parents=True, exist_ok=True)
            self._thread = threading.Thread(target=self._work, args=(ready,), name="gallery", daemon=True)
            self._thread.start()
            self.watcher.start()

    def close(self) -> None:
        """Ends what `open` began."""
        self._ending = True
        self._tasks.put(None)
        self.watcher.close()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._lock:
            if self._index is not None:
                self._index.close()
            self._index = self._marks = None

    # What there is

    def page(self, question: Question, offset: int, limit: int, at: str = "") -> dict[str, Any]:
        """{"total", "rows", "at"}: at is the place of that id among all that is asked for, or None."""
        if self.watcher.problem and self._tasks.empty():
            self._tasks.put(FOLDERS)  # the system does not tell of changes, so it is looked for them
        return {
            "total": self.index.count(question),
            "rows": self.index.page(question, offset, limit),
            "at": self.index.place(question, at) if at else None,
        }

    def facets(self) -> dict[str, Any]:
        """What can be filtered by, each value with how many pictures have it."""
        count = self._count
        if self._facets[0] != count:
            told: dict[str, Any] = {name: self.index.counts(name) for name in FACETS}
            boards = dict(told["board"])
            told["board"] = [(name, boards.get(name, 0)) for name in self.marks.boards]
            told["all"] = self.index.total("trashed = 0")
            told["stars"] = self.index.total("trashed = 0 AND star = 1")
            told["trash"] = self.index.total("trashed = 1")
            self._facets = (count, told)
        return self._facets[1]

    def notes(self) -> list[str]:
        """Sentences about what a person should know of the gallery's files."""
        unreadable = self.index.unreadable()
        told = [self._problem, self.index.problem, self.marks.problem, self.watcher.problem]
        if not self.index.fts:
            told.append("This Python's SQLite was built without FTS5: searching is slower.")
        if unreadable:
            some = "1 file" if unreadable == 1 else f"{unreadable:,} files"
            told.append(f"{some} in the outputs folder cannot be read as pictures and are not shown.")
        return [sentence for sentence in told if sentence]

    def file(self, id: str) -> Path | None:
        """A picture's file; None where there is none."""
        row = self.index.row(id)
        return None if row is None else self.data / row.path

    def thumbnail(self, id: str) -> bytes | None:
        """A picture's small picture as a WebP file; None where there is none."""
        path = self.file(id)
        return None if path is None else self.thumbnails.of(id, path)

    # What a person changes

    def mark(
        self,
        ids: Iterable[str],
        *,
        star: bool | None = None,
        board: str | None = None,
        note: str | None = None,
    ) -> int:
        """Stars, boards ("" for none) and notes for pictures that are there; returns how many changed."""
        there = [row.id for row in self.index.rows(ids)]
        return self._marked(self.marks.change(there, star=star, board=board, note=note), always=bool(board))

    def judge(self, id: str, verdict: Verdict | None) -> None:
        """Keeps what came of painting a picture again; None for nothing."""
        self._marked(self.marks.judge(id, verdict))

    def create_board(self, name: str) -> None:
        self.marks.create_board(name)
        self.tell()

    def rename_board(self, name: str, to: str) -> None:
        self._marked(self.marks.rename_board(name, to), always=True)

    def delete_board(self, name: str) -> None:
        self._marked(self.marks.delete_board(name), always=True)

    def _marked(self, marks: Mapping[str, Mark], always: bool = False) -> int:
        self.index.mark(marks)
        if marks or always:
            self.tell()
        return len(marks)

    def trash(self, ids: Iterable[str]) -> int:
        """Moves pictures, every file of theirs, into the trash; returns how many. Raises OSError."""
        return self._move(ids, OUTPUTS, TRASH)

    def restore(self, ids: Iterable[str]) -> int:
        """Moves pictures from the trash to where they were; returns how many. Raises OSError."""
        return self._move(ids, TRASH, OUTPUTS)

    def _move(self, ids: Iterable[str], source: str, target: str) -> int:
        moved: dict[str, Any] = {}
        done = set()
        with self._lock:
            try:
                for path, id in self.index.paths(ids):
                    if not path.startswith(f"{source}/"):
                        continue
                    place = free(self.data / target / path.removeprefix(f"{source}/"))
                    place.parent.mkdir(parents=True, exist_ok=True)
                    try:
                        shutil.move(self.data / path, place)
                    except FileNotFoundError:
                        continue  # deleted from outside this moment
                    done.add(id)
                    new = os.path.relpath(place, self.data).replace(os.sep, "/")
                    moved[path] = place_of(new, place.stat().st_mtime_ns)
            finally:  # what was moved before an error is told all the same
                if moved:
                    self.index.moved(moved)
                    self.tell()
        return len(done)

    def empty_trash(self) -> int:
        """Deletes what is in the trash for good; returns how many pictures."""
        with self._lock:
            files = self.index.files(TRASH)
            for path in files:
                (self.data / path).unlink(missing_ok=True)
            self.index.gone(files)
            for folder, _, _ in os.walk(self.data / TRASH, topdown=False):
                if folder != str(self.data / TRASH) and not os.listdir(folder):
                    os.rmdir(folder)
            ids = {id for *_, id in files.values() if id is not None}
            gone = ids - {row.id for row in self.index.rows(ids)}
            self.marks.forget(gone)
            for id in gone:
                self.thumbnails.forget(id)
            if files:
                self.tell()
        return len(gone)

    # How it is kept up to the files

    def tell(self) -> None:
        """Tells that something is different now."""
        with self._lock:
            self._count += 1
            self._told = time.monotonic()
        self._changed()

    def look(self, path: Path) -> None:
        """Takes in what has changed at a path below the data folder, before this returns."""
        name = os.path.relpath(path, self.data).replace(os.sep, "/")
        if Scanner(self.data, self.index, self.marks).scan([name]):
            self.tell()

    def _look(self, paths: Sequence[str]) -> None:
        self._tasks.put(paths or FOLDERS)

    def _work(self, ready: Callable[[], None]) -> None:
        scan.sweep(self.data, time.time() - LEFT)
        marks.sweep(self.data / OUTPUTS)
        self._keep_up(FOLDERS)
        if not self._ending:
            self.scanned.set()
            ready()
        while not self._ending and (paths := self._tasks.get()) is not None:
            self._keep_up(paths)

    def _keep_up(self, paths: Sequence[str]) -> None:
        """A scan that this thread survives: what hinders it is told and tried again with the next."""
        before, self._problem = self._problem, ""
        try:
            try:
                self._scan(paths)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # the index is damaged
                self._begin_anew()
                self._scan(FOLDERS)
        except (OSError, sqlite3.Error) as problem:
            self._problem = f"The gallery may not show all there is: {problem}."
        if self._problem != before:
            self.tell()

    def _begin_anew(self) -> None:
        """Lets the index go, to be built again from the files."""
        with self._lock:
            broken, self._index, self._marks = self._index, None, None
            if broken is not None:
                broken.close()
            for path in self.data.glob(f"{INDEX}*"):
                path.unlink(missing_ok=True)

    def _scan(self, paths: Sequence[str]) -> None:
        if paths is FOLDERS or any(Path(path).name == FILE for path in paths):
            self.marks.load()
            self._take_over_marks()
        before = self.index.unreadable()
        read = Scanner(self.data, self.index, self.marks).scan(self._below(paths), self._progress)
        if read and len(read) <= FEW:
            for id in read:
                self.thumbnail(id)
        if paths is FOLDERS and not self._ending:
            self.thumbnails.sweep({id for *_, id in self.index.files().values() if id})
        if self.indexing is not None or read or before != self.index.unreadable():
            self.indexing = None
            self.tell()

    def _take_over_marks(self) -> None:
        """Brings the index up to the file beside the pictures, which may have been changed from outside."""
        before, now = self.index.marks(), self.marks.all()
        changed = {id: now.get(id, Mark()) for id in before.keys() | now.keys()}
        changed = {id: mark for id, mark in changed.items() if before.get(id, Mark()) != mark}
        self._marked(changed, always=self._boards != self.marks.boards)
        self._boards = self.marks.boards

    def _below(self, paths: Sequence[str]) -> list[str]:
        """Paths relative to the data folder, each once, without those outside of the gallery's folders."""
        names = (os.path.relpath(path, self.data) if os.path.isabs(path) else path for path in paths)
        told = {name.replace(os.sep, "/") for name in names}
        return sorted(name for name in told if name.split("/")[0] in FOLDERS)

    def _progress(self, done: int, total: int) -> bool:
        self.indexing = Indexing(done, total)
        if time.monotonic() - self._told > TOLD_EVERY:
            self.tell()
        return not self._ending


class _Watcher(LibraryWatcher):
    """Tells which paths of a gallery's folders have changed."""

    called = "the folders of the gallery"

    def __init__(self, data: Path, changed: Callable[[Sequence[str]], None]):
        super().__init__([data / folder for folder in FOLDERS], lambda: changed(()), debounce=400)
        self._paths = changed

    def tell(self, paths: Sequence[str]) -> None:
        self._paths(paths)


def free(path: Path) -> Path:
    """The path, or where something lies there already the next that is free: "name (2).png"."""
    count, place = 1, path
    while place.exists():
        count += 1
        place = path.with_name(f"{path.stem} ({count}){path.suffix}")
    return place


def shown(row: Row) -> dict[str, Any]:
    """A row as a page lists it."""
    import datetime

    return {
        "id": row.id,
        "name": row.name,
        "width": row.width,
        "height": row.height,
        "task": row.task,
        "date": datetime.datetime.fromtimestamp(row.made).isoformat(timespec="seconds"),
        "seed": row.seed,
        "model": row.model,
        "sampler": row.sampler,
        "star": row.star,
        "board": row.board or None,
        "prompt": row.prompt,
        "ratio": round(row.width / row.height, 4),
        "trashed": row.trashed,
    }
