"""Whose turn it is: a job's, or that of one look at a recorded run.

Runs share the components of loaded models, and a job changes them while it runs (adapters, offload, tiles).
Whoever wants to look into a recorded run by them waits for a gap between two jobs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 10.0
"""Seconds that a look waits for a gap between jobs."""


class CannotLook(Exception):
    """Looking into a recorded run comes to nothing now; `str()` is a sentence."""


class Busy(CannotLook):
    """A job runs; the same works once it has ended."""


class Turn:
    """One at a time, in the order in which they came; a look gives up after `patience` seconds."""

    def __init__(self, patience: float = PATIENCE):
        self.patience = patience
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def job(self) -> Iterator[None]:
        """A job's turn is inside; waits for looks that came before."""
        with self._taken(None):
            yield

    @contextmanager
    def look(self) -> Iterator[None]:
        """A look's turn is inside. Raises `Busy` where there is no gap in time."""
        with self._taken(self.patience):
            yield

    @contextmanager
    def _taken(self, patience: float | None) -> Iterator[None]:
        me = object()
        with self._changed:
            self._waiting.append(me)
            came = self._changed.wait_for(lambda: self._waiting[0] is me, patience)
            if not came:
                self._waiting.remove(me)
        if not came:
            raise Busy("A picture is being painted: look into this step again once it is finished.")
        try:
            yield
        finally:
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()
