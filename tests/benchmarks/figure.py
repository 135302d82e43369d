"""One measured figure with its goal, and the timing that the benchmarks share."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Figure:
    """value and goal in `unit`; the goal is an upper limit, infinite where there is none. detail: the times
    behind a ratio."""

    name: str
    value: float
    goal: float
    unit: str = "x"
    detail: str = ""

    def line(self) -> str:
        met = "met" if self.value <= self.goal else "SHORT"
        goal = f"goal at most {self.goal:g}{self.unit}: {met}" if math.isfinite(self.goal) else "no goal"
        shown = f"{self.value:.3g}{self.unit} ({goal})"
        return f"{self.name:<58} {shown:<44} {self.detail}"


def in_turns(rounds: int, *actions: Callable[[], object]) -> list[float]:
    """Median wall seconds of each action, taken in turns, after one round that does not count."""
    times: list[list[float]] = [[] for _ in actions]
    for count in range(rounds + 1):
        for action, taken in zip(actions, times, strict=True):
            began = time.perf_counter()
            action()
            if count:
                taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in times]
