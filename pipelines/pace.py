"""How long jobs will take that have not begun: one question to the engine for all that differ in words and
seeds alone, asked in the background, since an engine that loads a model answers late."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pipelines.request import GenerationRequest, InvalidRequest

if TYPE_CHECKING:
    from pipelines.budget.forecast import Forecast

KEPT = 200
"""Sorts of requests whose seconds are remembered."""

ANY = {"prompt": "any", "negative_prompt": "", "seed": 0, "subseed": 0, "branch": None}


class Pace:
    """Seconds of requests, as they are known. forecast: asks the engine; told: called, from a thread of this,
    when more is known. Any thread may ask."""

    def __init__(self, forecast: Callable[[GenerationRequest], Forecast | None], told: Callable[[], None]):
        self._forecast, self._told = forecast, told
        self._lock = threading.Lock()
        self._known: OrderedDict[GenerationRequest, tuple[object, float | None]] = OrderedDict()
        self._wanted: list[GenerationRequest] = []
        self._asking = False

    def seconds(self, requests: Iterable[GenerationRequest], as_of: object) -> list[float | None]:
        """The seconds that each takes as far as that is known; None where it is not (yet).

        as_of: another value once there is something new to know, as after a run that was measured. What was
        known before is answered until the new is there.
        """
        sorts = [request.model_copy(update=ANY) for request in requests]
        with self._lock:
            for sort in dict.fromkeys(sorts):
                if self._known.get(sort, (None,))[0] != as_of and sort not in self._wanted:
                    self._wanted.append(sort)
            found = [self._known[sort][1] if sort in self._known else None for sort in sorts]
            begin = bool(self._wanted) and not self._asking
            self._asking = self._asking or begin
        if begin:
            threading.Thread(target=self._ask, args=(as_of,), name="pace", daemon=True).start()
        return found

    def _ask(self, as_of: object) -> None:
        changed = False
        while (sort := self._next_wanted()) is not None:
            seconds = None
            try:
                seconds = self._of(sort)
            finally:  # an error that nobody expects ends this thread, and the next question begins another
                changed = self._note(sort, as_of, seconds) or changed
        if changed:
            self._told()

    def _next_wanted(self) -> GenerationRequest | None:
        with self._lock:
            self._asking = bool(self._wanted)
            return self._wanted[0] if self._wanted else None

    def _note(self, sort: GenerationRequest, as_of: object, seconds: float | None) -> bool:
        """Remembers an answer; whether it is another than before."""
        with self._lock:
            self._wanted.remove(sort)
            self._asking = bool(self._wanted)
            before = self._known.pop(sort, (None, None))[1]
            self._known[sort] = as_of, seconds
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            return seconds != before

    def _of(self, sort: GenerationRequest) -> float | None:
        try:
            told = self._forecast(sort)
        except (InvalidRequest, OSError, TimeoutError):
            return None  # a model that is gone: its run says so
        return told.seconds if told else None
