"""Who is next: the order of the jobs that wait, as a value of its own without clocks, files or threads.

Within a client it is first come, first served; between clients it goes round and round, so that one who asks
for a thousand pictures keeps nobody waiting for more than one of them at a time.

A job's turn is told from the order alone: it is the n-th of its client's, and a new job goes behind all that
are at most the n-th of theirs. So whatever a hand has moved stays where it was put.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

NEXT, NORMAL, LATER = 1, 0, -1
"""Priorities: before all others, in turn, and when nothing else waits."""
PRIORITIES = (NEXT, NORMAL, LATER)


@dataclass(frozen=True)
class Place:
    """A waiting job's place. `rank` orders those of one priority; held: it waits until it is released."""

    job: str
    client: str = ""
    priority: int = NORMAL
    rank: float = 0.0
    held: bool = False


class NotWaiting(KeyError):
    """There is no waiting job with that id: it has begun, has ended, or never was."""


class Line:
    """The waiting jobs in the order in which they will run, unless something is changed. Not for two threads
    at once."""

    def __init__(self, places: Iterable[Place] = (), paused: bool = False):
        self.paused = paused
        self.turn_of: str | None = None
        """The client whose job was taken last: this turn was theirs."""
        self._places = sorted(places, key=lambda one: (-one.priority, one.rank))
        self._changed: set[str] = set()
        if len({one.job for one in self._places}) < len(self._places):
            raise ValueError("a job waits twice")

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, job: object) -> bool:
        return any(one.job == job for one in self._places)

    def places(self) -> list[Place]:
        """All that wait, in order, held ones among them."""
        return list(self._places)

    def order(self) -> list[str]:
        """The jobs that wait, in order."""
        return [one.job for one in self._places]

    def place(self, job: str) -> Place:
        """The place of a waiting job; raises `NotWaiting`."""
        return self._places[self._index(job)]

    def ahead(self, job: str) -> int:
        """How many jobs run before it, as things are."""
        return sum(not one.held for one in self._places[: self._index(job)])

    def changes(self) -> list[Place]:
        """The places that are new or different since this was asked last, for whoever keeps them."""
        changed, self._changed = self._changed, set()
        return [one for one in self._places if one.job in changed]

    # Coming and going

    def add(self, job: str, client: str = "", priority: int = NORMAL, *, held: bool = False) -> Place:
        """A new job gets in line where its client's turn is."""
        if job in self:
            raise ValueError(f"{job} waits already")
        place = Place(job, client, _priority(priority), held=held)
        return self._insert(self._turn(place), place)

    def add_first(self, job: str, client: str = "", *, held: bool = False) -> Place:
        """A job that was interrupted comes back to the front."""
        if job in self:
            raise ValueError(f"{job} waits already")
        first = max(NORMAL, self._places[0].priority) if self._places else NORMAL
        return self._insert(0, Place(job, client, first, held=held))

    def peek(self) -> str | None:
        """The job that would run next; None while the line is paused, is empty or holds only held ones."""
        if self.paused:
            return None
        return next((one.job for one in self._places if not one.held), None)

    def take(self) -> str | None:
        """Takes the next job out of the line."""
        job = self.peek()
        if job is not None:
            self.turn_of = self.remove(job).client
        return job

    def remove(self, job: str) -> Place:
        """Takes a job out, wherever it stands."""
        self._changed.discard(job)
        return self._places.pop(self._index(job))

    # By hand

    def move(self, job: str, *, before: str | None = None, after: str | None = None) -> None:
        """Puts a job right before or after another, whose priority it takes on; without either, last."""
        if before is not None and after is not None:
            raise ValueError("before or after, not both")
        beside = before if before is not None else after
        if beside == job:
            return
        if beside is not None:
            self._index(beside)
        place = self.remove(job)
        if beside is None:
            priority = min(place.priority, self._places[-1].priority) if self._places else place.priority
            self._insert(len(self._places), replace(place, priority=priority))
            return
        index = self._index(beside)
        priority = self._places[index].priority
        self._insert(index if before is not None else index + 1, replace(place, priority=priority))

    def prioritise(self, job: str, priority: int) -> None:
        """Gives a job a priority; among those of the same it goes where its client's turn is. `NEXT` puts it
        before all others of that priority too: whoever asks for it means now."""
        place = replace(self.place(job), priority=_priority(priority))
        self.remove(job)
        self._insert(0 if priority == NEXT else self._turn(place), place)

    def hold(self, job: str, held: bool = True) -> None:
        """A held job keeps its place and lets others pass until it is released."""
        index = self._index(job)
        if self._places[index].held != held:
            self._places[index] = replace(self._places[index], held=held)
            self._changed.add(job)

    # How it is done

    def _index(self, job: str) -> int:
        for index, one in enumerate(self._places):
            if one.job == job:
                return index
        raise NotWaiting(job)

    def _turn(self, new: Place) -> int:
        """Where a new job goes: behind its client's own, and behind every job that is at most the n-th of its
        client's, where it is the n-th of its own. Held ones take part in nobody's turn."""
        begin = next((i for i, one in enumerate(self._places) if one.priority <= new.priority), len(self))
        end = next((i for i, one in enumerate(self._places) if one.priority < new.priority), len(self))
        own = [i for i in range(begin, end) if self._places[i].client == new.client]
        turns = Counter([] if self.turn_of is None else [self.turn_of])
        mine = turns[new.client] + sum(not self._places[i].held for i in own) + 1
        behind = own[-1] + 1 if own else begin
        for index in range(begin, end):
            one = self._places[index]
            if one.held:
                continue
            turns[one.client] += 1
            if index >= behind and turns[one.client] > mine:
                return index
        return end

    def _insert(self, index: int, place: Place) -> Place:
        """Gives the place a rank between its neighbours' of the same priority."""
        before, after = self._places[:index][-1:], self._places[index:][:1]
        low = before[0].rank if before and before[0].priority == place.priority else None
        high = after[0].rank if after and after[0].priority == place.priority else None
        rank = _between(low, high)
        if rank is None:  # halved too often: the ranks are dealt anew
            for spot, one in enumerate(self._places):
                self._places[spot] = replace(one, rank=float(spot if spot < index else spot + 1))
                self._changed.add(one.job)
            rank = float(index)
        placed = replace(place, rank=rank)
        self._places.insert(index, placed)
        self._changed.add(place.job)
        return placed


def _between(low: float | None, high: float | None) -> float | None:
    """A number strictly between the two; None where floating point has none."""
    if low is None and high is None:
        return 0.0
    if low is None or high is None:
        open_end = low + 1 if low is not None else (high or 0.0) - 1
        return open_end if math.isfinite(open_end) and open_end not in (low, high) else None
    middle = low + (high - low) / 2
    return middle if low < middle < high else None


def _priority(level: int) -> int:
    if level not in PRIORITIES:
        raise ValueError(f"there is no priority {level!r}")
    return level
