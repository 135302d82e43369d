"""The order of a worker's jobs, kept in its journal: the queue view changes it, a restart finds it again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from pipelines.journal import Entry, Journal
from pipelines.line import Line, Place
from pipelines.request import InvalidRequest

PAUSED, DISMISSED = "queue.paused", "queue.dismissed"
"""Names of the journal's facts: whether the queue rests, and which errors need not be shown any more."""

MOST = 500
"""How many jobs one client may have waiting, unless the start says otherwise."""
CLIENTS = 3
"""How many clients may have that many: the queue as a whole holds no more."""

TROUBLES = 200
"""How many of the last jobs that ended in an error are looked through for those not dismissed."""


class JobQueue:
    """The jobs that wait or are paused, in order; safe from any thread. It is in memory and every change is
    written down, so that it need not be read from the journal for each of a thousand jobs.

    changed: called after each change by hand. most: how many jobs one client may have waiting. edition:
    another number whenever others run or wait, or in another order. ended: how many jobs have ended since the
    start.
    """

    def __init__(self, journal: Journal, changed: Callable[[], None], most: int = MOST):
        self.journal, self.most = journal, most
        self._changed = changed
        self._lock = threading.RLock()
        self.edition = self.ended = 0
        left = journal.open()
        places = [
            Place(entry.id, entry.client, entry.priority, entry.place, entry.state == "paused")
            for entry in left
            if entry.state != "running"
        ]
        self._line = Line(_told_apart(places), paused=bool(journal.fact(PAUSED, False)))
        for entry in left:
            if entry.state == "running":
                self._line.add_first(entry.id, entry.client)
        self._dismissed = {str(job) for job in journal.fact(DISMISSED, [])}
        self._troubles: tuple[int, list[Entry]] = -1, []
        self._keep()

    # What there is

    def __contains__(self, job: object) -> bool:
        with self._lock:
            return job in self._line

    def __len__(self) -> int:
        """How many wait for their turn; those that are held back are none of them."""
        with self._lock:
            return sum(not place.held for place in self._line.places())

    @property
    def room(self) -> int:
        """How many jobs the queue holds at most, of all clients together."""
        return CLIENTS * self.most

    @property
    def paused(self) -> bool:
        """Whether nothing new begins."""
        return self._line.paused

    def places(self) -> list[Place]:
        """All that wait, in order, those that are held back among them."""
        with self._lock:
            return self._line.places()

    def order(self) -> list[str]:
        """As `places`, the jobs alone."""
        with self._lock:
            return self._line.order()

    def ahead(self, job: str) -> int:
        """How many waiting jobs run before it, as things are."""
        with self._lock:
            return self._line.ahead(job)

    def first(self, most: int) -> list[str]:
        """The jobs that run next, at most so many."""
        with self._lock:
            return [place.job for place in self._line.places() if not place.held][:most]

    def behind(self, job: str) -> str | None:
        """The job that stands right behind it."""
        with self._lock:
            order = self._line.order()
            return dict(pairwise(order)).get(job)

    def troubles(self, most: int) -> list[Entry]:
        """Jobs that ended in an error and were not dismissed, the newest first."""
        with self._lock:
            if self._troubles[0] != self.edition:
                found = self.journal.troubles(TROUBLES)
                self._troubles = self.edition, [one for one in found if one.id not in self._dismissed]
            return self._troubles[1][:most]

    # What the worker does

    def enter(self, job: str, client: str) -> Place:
        """A new job gets in line; its place is for whoever writes it down. Raises `InvalidRequest` where too
        many wait. One that was accepted is never too many: it comes back by `rest` or with the start."""
        with self._lock:
            self._check_room(client)
            place = self._line.add(job, client)
            self._keep(job)
            return place

    def take(self) -> str | None:
        """Takes the job out that runs now; None where none is to run."""
        with self._lock:
            return self._line.take()

    def leave(self, job: str) -> None:
        """A job has ended; it may have waited for its turn."""
        with self._lock:
            self.ended += 1
            if job in self._line:
                self._line.remove(job)

    def rest(self, job: str, client: str) -> None:
        """Holds a waiting job back, or one that ran and comes back to the front."""
        with self._lock:
            if job in self._line:
                self._line.hold(job)
            else:
                self._line.add_first(job, client, held=True)
            self._keep()

    def release(self, job: str) -> None:
        """A job that was held back waits for its turn again, where it stands."""
        with self._lock:
            self._line.hold(job, False)

    # By hand

    def move(self, job: str, *, before: str | None = None, after: str | None = None) -> None:
        """Puts a job right before or after another; without either, last. Raises `NotWaiting`."""
        with self._lock:
            self._line.move(job, before=before, after=after)
            self._keep()
        self._changed()

    def prioritise(self, job: str, priority: int) -> None:
        """Gives a waiting job a priority (see `line`). Raises `NotWaiting`."""
        with self._lock:
            self._line.prioritise(job, priority)
            self._keep()
        self._changed()

    def pause(self, paused: bool) -> None:
        """Lets nothing new begin, or goes on."""
        with self._lock:
            self._line.paused = paused
            self.journal.set_fact(PAUSED, paused)
        self._changed()

    def dismiss(self, jobs: list[str]) -> None:
        """Errors that need not be shown any more."""
        with self._lock:
            known = {entry.id for entry in self.journal.troubles(TROUBLES)}
            self._dismissed = (self._dismissed | set(jobs)) & known
            self.journal.set_fact(DISMISSED, sorted(self._dismissed))
        self._changed()

    def _check_room(self, client: str) -> None:
        places = self._line.places()
        own = sum(place.client == client for place in places)
        if own >= self.most:
            sentence = (
                f"As many of your jobs wait as one visitor may have ({self.most}): ask again when some are "
                "painted, or take some out of the queue. --queue-limit at the start sets how many."
            )
            raise InvalidRequest({"queue": sentence})
        if len(places) >= self.room:
            sentence = (
                f"The queue is full ({self.room} jobs of all visitors): ask again when some are painted."
            )
            raise InvalidRequest({"queue": sentence})

    def _keep(self, but: str = "") -> None:
        """Writes changed places down, but for the one of a job that is not in the journal yet."""
        for place in self._line.changes():
            if place.job != but:
                self.journal.change(place.job, priority=place.priority, place=place.rank)


def _told_apart(places: list[Place]) -> list[Place]:
    """The places in their order with a rank for each: jobs of an older journal may share one."""
    ordered = sorted(places, key=lambda place: (-place.priority, place.rank))
    ranks = [place.rank for place in ordered]
    if len(set(ranks)) == len(ranks):
        return ordered
    return [replace(one, rank=float(rank)) for rank, one in enumerate(ordered)]
