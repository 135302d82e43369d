"""Tells when something in the models folders changes, so that a file dropped in appears without a restart.

The system's own notices are waited for (watchfiles); nothing is asked again and again.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.library.models import ModelLibrary

_log = logging.getLogger(__name__)

_PARTS = (".part", ".tmp", ".crdownload", ".incomplete", ".lock")
"""Endings of files that are still being written."""
_STEP = 200
"""Milliseconds without a change after which those before are told."""


class LibraryWatcher:
    """Calls `on_change` (from a thread of its own) after changes in `folders`, several at once told as one.

    A folder that is not there yet is waited for, and one that vanishes may come back. What `on_change` raises
    is logged. watched: the folders that are watched just now. problem: a sentence where the
    system does not let them be watched, else "".
    """

    called = "the models folders"

    def __init__(self, folders: Iterable[Path], on_change: Callable[[], None], debounce: int = 1600):
        """debounce: milliseconds of unbroken changes after which they are told nevertheless."""
        self.folders = list(dict.fromkeys(Path(os.path.abspath(folder)) for folder in folders))
        self.on_change = on_change
        self.debounce = debounce
        self.problem = ""
        self.watched: set[Path] = set()
        self.ready = threading.Event()
        self._end = threading.Event()
        self._turn = _Turn(self._end)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to watch; returns at once. `ready` is set while changes are noticed."""
        if self._thread is None:
            self._end.clear()
            self._thread = threading.Thread(target=self._run, name="library-watcher", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends the watching and waits until its thread has ended."""
        self._end.set()
        self._turn.over.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self.ready.clear()

    def _run(self) -> None:
        again = False
        while not self._end.is_set():
            there = [folder for folder in self.folders if folder.is_dir()]
            missing = [folder for folder in self.folders if folder not in there]
            self._turn = turn = _Turn(self._end)
            waiting = threading.Thread(target=self._wait_for, args=(missing, turn), daemon=True)
            waiting.start()
            self._watch(there, turn, again)
            again = True
            turn.over.set()
            waiting.join()
            self.ready.clear()
            self.watched = set()

    def _watch(self, folders: list[Path], turn: _Turn, again: bool) -> None:
        """Tells of changes in folders that are there, until one of them is gone. again: one has come or gone,
        which is told when the watching has begun, so that nothing falls between."""
        from watchfiles._rust_notify import RustNotify

        try:
            with RustNotify([str(folder) for folder in folders], False, False, 0, True, True) as notices:
                self.watched = set(folders)
                self.ready.set()
                if again:
                    self._tell(())
                while isinstance(found := notices.watch(self.debounce, _STEP, 0, turn), set):
                    if paths := [path for _, path in found if _matters(Path(path), folders)]:
                        self._tell(paths)
                    if not all(folder.is_dir() for folder in folders):
                        return
        except (OSError, RuntimeError) as problem:
            if all(folder.is_dir() for folder in folders):  # it is not that one has gone meanwhile
                self.problem = f"Changes in {self.called} go unnoticed ({problem}): reload the page."
                _log.warning("%s", self.problem)
                turn.wait()

    def _wait_for(self, missing: list[Path], turn: _Turn) -> None:
        """Ends the turn when one of the missing folders appears; only the nearest folders above them are
        watched, and not what is in those: they may be a whole home."""
        from watchfiles._rust_notify import RustNotify

        while (above := _above(missing)) and not turn.is_set():
            try:
                with RustNotify([str(place) for place in above], False, False, 0, False, True) as notices:
                    while not any(folder.is_dir() for folder in missing):
                        if _above(missing) != above:
                            break
                        if not isinstance(notices.watch(self.debounce, _STEP, 0, turn), set):
                            return
            except (OSError, RuntimeError) as problem:
                _log.warning("It cannot be noticed when a models folder appears: %s", problem)
                return
            if any(folder.is_dir() for folder in missing):
                turn.over.set()

    def _tell(self, paths: Sequence[str]) -> None:
        try:
            self.tell(paths)
        except Exception:
            _log.exception("A listener to changes in %s failed.", self.called)

    def tell(self, paths: Sequence[str]) -> None:
        """Tells of changes at `paths`, of unknown ones where that is empty; called on a thread of its own."""
        self.on_change()


class Watcher(LibraryWatcher):
    """Watches all the folders of a library, the Hugging Face cache among them."""

    def __init__(self, library: ModelLibrary, changed: Callable[[], None], debounce: int = 1600):
        super().__init__(library.watched(), changed, debounce)


class _Turn:
    """A stop sign for watchfiles: set when the turn is over, or all is."""

    def __init__(self, end: threading.Event):
        self.over, self.end = threading.Event(), end

    def is_set(self) -> bool:
        return self.over.is_set() or self.end.is_set()

    def wait(self) -> None:
        self.over.wait()


def _above(missing: Iterable[Path]) -> set[Path]:
    """The nearest folder above each that is there."""
    found = (next((place for place in folder.parents if place.is_dir()), None) for folder in missing)
    return {place for place in found if place is not None}


def _matters(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a changed path may be a model's: not one that is still written, nor in a hidden folder."""
    if path.name.lower().endswith(_PARTS):
        return False
    for folder in folders:
        if path.is_relative_to(folder):
            return not any(part.startswith(".") for part in path.relative_to(folder).parts)
    return False
