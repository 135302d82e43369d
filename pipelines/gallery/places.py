"""A picture's row in the gallery, and what the place of its file tells: task, day and order."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """A picture as a list shows it. path: relative to the data folder. made: seconds since the epoch; day:
    the same as YYYY-MM-DD. prompt: its first 200 characters."""

    id: str
    path: str
    name: str
    task: str
    made: float
    day: str
    width: int
    height: int
    bytes: int
    seed: int | None
    model: str
    sampler: str
    prompt: str
    trashed: bool
    star: bool
    board: str


@dataclass(frozen=True)
class Place:
    """What the place of a picture's file tells of it. changed: its time of change in nanoseconds."""

    path: str
    name: str
    task: str
    made: float
    day: str
    trashed: bool
    changed: int


def place_of(path: str, changed: int) -> Place:
    """What a file's path, relative to the data folder, and its time of change (nanoseconds) tell.

    `outputs/<task>/<YYYY-MM-DD>/<name>`, and the same below `trash`. The day in the path counts where the
    file was changed on another one, as copies are.
    """
    top, *folders, name = path.split("/")
    made = changed / 1e9
    try:
        day = datetime.date.fromtimestamp(made)
    except (OverflowError, OSError, ValueError):  # a file system may hold any number
        made, day = 0.0, datetime.date.fromtimestamp(0)
    for folder in folders[1:2]:
        with contextlib.suppress(ValueError):
            told = datetime.date.fromisoformat(folder)
            if told != day:
                day = told
                number = int(name[:5]) if name[:5].isascii() and name[:5].isdigit() else 0
                made = datetime.datetime.combine(told, datetime.time()).timestamp() + number * 0.01
    return Place(path, name, folders[0] if folders else "", made, day.isoformat(), top == "trash", changed)


def row_of(row: Sequence[Any]) -> Row:
    """A row out of its columns."""
    values: Any = [*row[:-3], bool(row[-3]), bool(row[-2]), row[-1]]
    return Row(*values)
