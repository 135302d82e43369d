"""How fast this machine has painted: a small file of measured runs, and what it tells of those never made."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.devices import DevicePlan

MOST_KEPT = 400
"""Measured settings; the ones not used for longest go first."""
NEWEST = 0.5
"""How much a new run counts against what was measured before at the same setting."""


@dataclass(frozen=True)
class Speed:
    """Seconds. evaluation: one call of the denoiser, with its step and preview. around: all else of a picture
    (beginning, decoding, keeping). text: encoding the prompt, once a run."""

    evaluation: float
    around: float
    text: float


@dataclass(frozen=True)
class _Point:
    """One measured setting: its multiply-adds and its speed."""

    evaluation: float
    around: float
    speed: Speed


class Speeds:
    """Measured speeds by key, kept in `file` (None: in memory only). Any thread may ask and note.

    A file that cannot be read is begun anew: what it held is measured again.
    """

    def __init__(self, file: Path | None = None):
        self.file = file
        self._lock = threading.Lock()
        self._points: dict[str, list[_Point]] = {}
        self._rates: dict[str, float] = {}
        self.read_rate: float | None = None
        if file is not None:
            self._read(file)

    def of(self, key: Sequence[str], evaluation: float, around: float) -> Speed | None:
        """The speed of a run of that key and those multiply-adds; None where no run of the key was made.

        Between and beyond measured sizes the seconds follow a line through the two nearest, since a part of
        them does not depend on the size; from one size alone they are in proportion.
        """
        with self._lock:
            points = list(self._points.get(_name(key), ()))
        if not points:
            return None
        each = _carried([(one.evaluation, one.speed.evaluation) for one in points], evaluation)
        rest = _carried([(one.around, one.speed.around) for one in points], around)
        text = min(points, key=lambda one: abs(one.evaluation - evaluation)).speed.text
        return Speed(each, rest, text)

    def covers(self, key: Sequence[str], evaluation: float) -> bool:
        """Whether runs of that key were made at this size, or at smaller and larger ones: then their time can
        be trusted. A size beyond all measured ones is guessed."""
        with self._lock:
            sizes = [one.evaluation for one in self._points.get(_name(key), ())]
        return bool(sizes) and min(sizes) * 0.95 <= evaluation <= max(sizes) * 1.05

    def note(self, key: Sequence[str], evaluation: float, around: float, speed: Speed) -> None:
        """Keeps a run's speed; with one of the same setting already there, they are averaged."""
        with self._lock:
            name = _name(key)
            points = self._points.pop(name, [])
            for index, one in enumerate(points):
                if (one.evaluation, one.around) == (evaluation, around):
                    speed = _mean(one.speed, speed)
                    del points[index]
                    break
            self._points[name] = [*points, _Point(evaluation, around, speed)]  # the last used comes last
            while sum(map(len, self._points.values())) > MOST_KEPT:
                oldest = next(iter(self._points))
                self._points[oldest].pop(0)
                if not self._points[oldest]:
                    del self._points[oldest]
            self._write()

    def matrix_rate(self, plan: DevicePlan) -> float | None:
        """Multiply-adds a second of large matrices, where that was measured."""
        return self._rates.get(f"{plan.device} {plan.dtype}")

    def note_matrix_rate(self, plan: DevicePlan, rate: float) -> None:
        with self._lock:
            self._rates[f"{plan.device} {plan.dtype}"] = rate
            self._write()

    def note_load(self, size: int, seconds: float) -> None:
        """Keeps how fast components of `size` bytes came from disk; small ones tell nothing."""
        if size < 20_000_000 or seconds <= 0:
            return
        with self._lock:
            rate = size / seconds
            before = self.read_rate
            self.read_rate = rate if before is None else before * (1 - NEWEST) + rate * NEWEST
            self._write()

    def _read(self, file: Path) -> None:
        try:
            found = json.loads(file.read_text(encoding="utf8"))
            for name, rows in found["runs"].items():
                self._points[str(name)] = [_point(row) for row in rows]
            self._rates = {str(name): _number(rate) for name, rate in found["matrix_rates"].items()}
            self.read_rate = None if found["read_rate"] is None else _number(found["read_rate"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            self._points, self._rates, self.read_rate = {}, {}, None

    def _write(self) -> None:
        if self.file is None:
            return
        runs = {
            name: [
                [one.evaluation, one.around, one.speed.evaluation, one.speed.around, one.speed.text]
                for one in points
            ]
            for name, points in self._points.items()
        }
        told = {"runs": runs, "matrix_rates": self._rates, "read_rate": self.read_rate}
        part = self.file.with_suffix(f".{os.getpid()}.part")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(told, indent=1), encoding="utf8")
            os.replace(part, self.file)
        except OSError:  # a full disk must not end a run that has its picture; speeds stay in memory
            part.unlink(missing_ok=True)


def _name(key: Sequence[str]) -> str:
    return " | ".join(key)


def _carried(points: list[tuple[float, float]], size: float) -> float:
    """Seconds at `size` multiply-adds from (multiply-adds, seconds) that were measured."""
    by_size: dict[float, list[float]] = {}
    for macs, seconds in points:
        by_size.setdefault(macs, []).append(seconds)
    known = sorted((macs, sum(taken) / len(taken)) for macs, taken in by_size.items())
    if size <= 0 or known[-1][0] <= 0:
        return known[0][1]
    if len(known) == 1:
        return known[0][1] / known[0][0] * size
    place = next((index for index, (macs, _) in enumerate(known) if macs >= size), len(known) - 1)
    (small, least), (large, most) = known[max(0, place - 1) : max(0, place - 1) + 2]
    slope = max(0.0, (most - least) / (large - small))
    # A larger picture is never painted faster, and half of a small one's time may be there at any size.
    return max(least + slope * (size - small), min(least, least / max(small, 1.0) * size) / 2)


def _mean(before: Speed, new: Speed) -> Speed:
    parts = [
        getattr(before, name) * (1 - NEWEST) + getattr(new, name) * NEWEST
        for name in ("evaluation", "around", "text")
    ]
    return Speed(*parts)


def _point(row: Sequence[Any]) -> _Point:
    macs, macs_around, evaluation, around, text = map(_number, row)
    return _Point(macs, macs_around, Speed(evaluation, around, text))


def _number(value: Any) -> float:
    found = float(value)
    if not math.isfinite(found) or found < 0:
        raise ValueError(f"{value} is no measure")
    return found
