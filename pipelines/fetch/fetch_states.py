"""What a fetch tells of itself: its state, what it would bring, and what of it is kept over a restart."""

from __future__ import annotations

import collections
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipelines.fetch.fetch_places import Places
from pipelines.fetch.fetch_plan import Plan

Phase = Literal["waiting", "running", "paused", "done", "failed"]

MARGIN = 1 << 30
"""Bytes that a fetch leaves free on the disk."""
SPEED_OVER = 5.0
"""Seconds over which the speed is measured."""


@dataclass(frozen=True)
class FetchState:
    """How one fetch is. done_bytes, total_bytes: 0 = not known yet. speed: bytes a second. message: a
    sentence.

    wants_token: it failed for want of an access token; `Fetcher.resume(key, token)` goes on.
    """

    key: str
    id: str
    title: str
    sort: str
    phase: Phase
    done_bytes: int = 0
    total_bytes: int = 0
    speed: float = 0.0
    seconds_left: float | None = None
    message: str = ""
    wants_token: bool = False


@dataclass(frozen=True)
class Estimate:
    """What a fetch would bring. bytes: still to come; total_bytes: of all files, 0 = the server does not say.

    files: (name, bytes) each. goes_to: the folder or file it becomes. sentence: "6.9 GB; 38 GB free."
    """

    id: str
    title: str
    sort: str
    bytes: int
    total_bytes: int
    free_bytes: int
    fits: bool
    files: tuple[tuple[str, int], ...]
    licence: str
    licence_url: str
    gated: bool
    wants_token: bool
    goes_to: str
    sentence: str


def estimate(plan: Plan, places: Places, *, wants_token: bool) -> Estimate:
    """What carrying out `plan` would bring to this disk."""
    there = sum(places.here(plan, item) for item in plan.items)
    left, free = max(0, plan.bytes - there), places.free(plan)
    fits = left + MARGIN <= free
    amount = size_text(plan.bytes) if plan.bytes else "Of unknown size"
    if plan.bytes and there:
        amount += f", {size_text(left)} of it still to come"
    sentence = f"{amount}; {size_text(free)} free." if fits else no_room(left, free)
    if wants_token:
        sentence += " It is given only to those who agree to its terms, and wants an access token."
    return Estimate(
        id=plan.id,
        title=plan.title,
        sort=plan.sort,
        bytes=left,
        total_bytes=plan.bytes,
        free_bytes=free,
        fits=fits,
        files=tuple((item.name, item.size) for item in plan.items),
        licence=plan.licence,
        licence_url=plan.licence_url,
        gated=plan.gated,
        wants_token=wants_token,
        goes_to=str(places.goal(plan)),
        sentence=sentence,
    )


def no_room(left: int, free: int) -> str:
    """The sentence for a disk that is too full. left: bytes to fetch; free: of the disk."""
    return (
        f"It needs {size_text(left)} and a rest of {size_text(MARGIN)}, but only {size_text(free)} are free: "
        "make room on the disk, then resume."
    )


def size_text(amount: int) -> str:
    """An amount of bytes as people read it: "6.9 GB", "320 MB"."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if amount >= unit:
            return f"{amount / unit:.1f} {name}" if amount < 10 * unit else f"{amount / unit:.0f} {name}"
    return f"{amount} bytes"


class Speed:
    """Bytes a second over the last seconds, from how many there were at which time."""

    def __init__(self) -> None:
        self._came: collections.deque[tuple[float, int]] = collections.deque()

    def at(self, now: float, done: int) -> float:
        """Notes that `done` bytes are there at `now` (seconds of any clock); returns the speed."""
        self._came.append((now, done))
        while len(self._came) > 2 and now - self._came[0][0] > SPEED_OVER:
            self._came.popleft()
        since, before = self._came[0]
        return max(0.0, (done - before) / (now - since)) if now > since else 0.0


@dataclass(frozen=True)
class Entry:
    """What is kept of a fetch that is not done; never a token."""

    state: FetchState
    pickles: bool
    plan: Plan | None


def write_book(path: Path, entries: Iterable[Entry]) -> None:
    """Writes the entries to `path`, as a whole or not at all."""
    told = [
        {
            "id": entry.state.id,
            "title": entry.state.title,
            "sort": entry.state.sort,
            "phase": entry.state.phase,
            "message": entry.state.message,
            "wants_token": entry.state.wants_token,
            "pickles": entry.pickles,
            "plan": entry.plan.to_json() if entry.plan else None,
        }
        for entry in entries
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".part")
    fresh.write_text(json.dumps({"fetches": told}, indent=1), encoding="utf8")
    os.replace(fresh, path)


def read_book(path: Path, places: Places) -> list[Entry]:
    """The entries that `write_book` wrote. What was under way is paused now: a start touches no network by
    itself.

    A file that is no such book (damaged, or of another version) is put aside as `.damaged`; only the list is
    lost.
    """
    if not path.is_file():
        return []
    try:
        return [_entry(told, places) for told in json.loads(path.read_text(encoding="utf8"))["fetches"]]
    except (ValueError, KeyError, TypeError):
        os.replace(path, path.with_suffix(".damaged"))
        return []


def _entry(told: dict[str, Any], places: Places) -> Entry:
    plan = Plan.from_json(told["plan"]) if told["plan"] else None
    stopped = told["phase"] in ("waiting", "running")
    state = FetchState(
        key=told["id"],
        id=told["id"],
        title=told["title"],
        sort=told["sort"],
        phase="paused" if stopped else told["phase"],
        done_bytes=sum(places.here(plan, item) for item in plan.items) if plan else 0,
        total_bytes=plan.bytes if plan else 0,
        message="Interrupted when Darkroom ended; resume to go on." if stopped else told["message"],
        wants_token=told["wants_token"],
    )
    return Entry(state, told["pickles"], plan)
