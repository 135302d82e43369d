"""A job as a worker keeps it: the request, and what has happened so far; made anew from the journal."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from pipelines.events import (
    Cancelled,
    Event,
    Failed,
    Finished,
    Paused,
    Picture,
    PictureDone,
    Queued,
    StepEvent,
)
from pipelines.following import Watchers
from pipelines.journal import OPEN, Entry, JobState
from pipelines.request import GenerationRequest

SIDE = 512
"""Pixels of the longer side of a kept picture's preview, where it is made anew."""

Files = tuple[tuple[str, int, int], ...]
"""Weight files by path, time of change and size: whether a run would still use the same."""


@dataclass
class Job:
    """One accepted request, with its random choices made, and what has happened to it so far.

    client: who asked. state: as in the journal. stop, pausing: what its owner wants of it. deaths: how often
    the engine died while it ran. spent: seconds that it ran before it was taken up the last time.
    """

    id: str
    request: GenerationRequest
    events: list[Event] = field(default_factory=list)
    watchers: Watchers = field(default_factory=Watchers)
    files: Files = ()
    client: str = ""
    state: JobState = "waiting"
    stop: Literal["keep", "cancel"] | None = None
    pausing: bool = False
    deaths: int = 0
    spent: float = 0.0
    reached: dict[int, StepEvent] = field(default_factory=dict)
    """By picture: the last of its steps that has been told."""

    @property
    def done(self) -> bool:
        """Whether the terminal event has been told."""
        return bool(self.events) and isinstance(self.events[-1], Finished | Failed | Cancelled)

    @property
    def pictures(self) -> dict[int, Picture]:
        """Its finished pictures by their index."""
        return {event.index: event.picture for event in self.events if isinstance(event, PictureDone)}

    @property
    def latest(self) -> StepEvent | None:
        """The last step that was told."""
        return self.reached[max(self.reached)] if self.reached else None

    def news(self, event: Event) -> Event | None:
        """The event as its watchers are told of it; None for what they have heard already, which a run that
        is taken up again comes by once more."""
        match event:
            case StepEvent():
                last = self.reached.get(event.picture)
                if last is not None and event.step <= last.step:
                    return None
                told = replace(event, seconds=event.seconds + self.spent)
                self.reached[event.picture] = told
                return told
            case PictureDone(_, index):
                return None if index in self.pictures else event
            case Finished():
                return replace(event, seconds=event.seconds + self.spent)
        return event

    def rest(self) -> None:
        """Remembers how long it ran, before it is taken up again."""
        self.spent = max((step.seconds for step in self.reached.values()), default=self.spent)

    def begin_anew(self) -> None:
        """Forgets which steps were told: they come again, and may come out differently."""
        self.reached, self.spent = {}, 0.0


def written(request: GenerationRequest) -> dict[str, Any]:
    """A request as the journal keeps it: later versions of the program add fields, with defaults."""
    return request.model_dump(mode="json", exclude_defaults=True)


def restored(entry: Entry, pictures: Mapping[int, Picture]) -> Job:
    """The job of an entry of the journal, its story without its steps. Raises `InvalidRequest` for a request
    that this version of the program does not take."""
    job = Job(
        entry.id,
        GenerationRequest.parse(entry.request),
        files=tuple((str(path), int(changed), int(size)) for path, changed, size in entry.files),
        client=entry.client,
        state=entry.state,
        stop="keep" if entry.stop == "keep" else None,
        deaths=entry.deaths,
    )
    shown = {index: replace(one, preview=preview(Path(one.path))) for index, one in pictures.items()}
    job.events += [Queued(0), *(PictureDone(one, index) for index, one in shown.items())]
    ending = _ending(entry, tuple(shown.values()))
    if ending is not None:
        job.events.append(ending)
    return job


def _ending(entry: Entry, pictures: tuple[Picture, ...]) -> Event | None:
    match entry.state:
        case "finished":
            return Finished(pictures, entry.seconds, entry.stopped, tuple(entry.notes))
        case "failed" | "set_aside":
            return Failed(entry.error, dict(entry.problems))
        case "cancelled":
            return Cancelled(pictures)
        case "paused":
            return Paused(entry.step, entry.total, entry.picture)
    assert entry.state in OPEN
    return None


def preview(path: Path) -> bytes:
    """A kept picture as a small JPEG; empty where it is gone or cannot be read."""
    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return b""
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
