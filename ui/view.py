"""Events as the page's stage wants them: small JSON messages, one for each time that something gathered.

A message carries only what is new, and where in the job's story it begins, so that the page notices a gap
(Gradio may drop a value that is followed by another at once) and asks for what it missed.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipelines.events import (
    Cancelled,
    Event,
    Failed,
    Finished,
    Loading,
    Paused,
    Picture,
    PictureDone,
    Queued,
    StepEvent,
)
from pipelines.request import GenerationRequest
from pipelines.worker import Job, UnknownJob, Worker
from ui.tabs import tab_for

Message = dict[str, Any]

MOMENT = 0.05
"""Seconds between two messages of a job, at the least."""

SHOWN_OF_REQUEST = (
    "prompt",
    "num_images_per_prompt",
    "batch_count",
    "steps_run",
    "width",
    "height",
)
"""What of a request the stage needs: for alternative texts, empty frames and the picture's shape."""


def told(event: Event) -> Message:
    """One event as JSON."""
    match event:
        case Queued(ahead):
            return {"kind": "queued", "ahead": ahead}
        case Loading(message):
            return {"kind": "loading", "message": message}
        case StepEvent():
            return {
                "kind": "step",
                "step": event.step,
                "total": event.total,
                "picture": event.picture,
                "seconds": round(event.seconds, 3),
                "seed": event.seed,
                "image": _data_url(event.preview),
            }
        case Paused(step, total, picture):
            return {"kind": "paused", "step": step, "total": total, "picture": picture}
        case PictureDone(picture, index):
            return {"kind": "picture", "picture": index, **_kept(picture)}
        case Finished():
            return {
                "kind": "finished",
                "seconds": round(event.seconds, 3),
                "stopped": event.stopped,
                "notes": list(event.notes),
            }
        case Failed():
            return {"kind": "failed", "message": event.message, "problems": event.problems}
        case Cancelled():
            return {"kind": "cancelled"}


def message(job: Job, events: Sequence[Event], start: int, queue: int) -> Message:
    """What of a job's story begins at its event `start`; `queue`: jobs that have not ended."""
    return {"jobs": [_chapter(job, events, start)], "queue": queue}


def summary(jobs: Iterable[Job], queue: int, forgotten: Iterable[str] = ()) -> Message:
    """Ended jobs without their films, for a page that comes back; it asks for a film when it shows one."""
    chapters = []
    for job in jobs:
        kept = [event for event in job.events if not isinstance(event, StepEvent | Queued | Loading)]
        chapters.append({**_chapter(job, kept, 0), "abridged": True})
    return {"jobs": chapters, "queue": queue, "forgotten": list(forgotten)}


async def follow(worker: Worker, job_id: str) -> AsyncIterator[Message]:
    """A job's story from its beginning to its end; ends at once for a job that is not known (any more).

    What happens within a moment is told together: a page that is asked for more than it can draw falls
    behind, and no eye sees more.
    """
    try:
        job, start = worker.job(job_id), 0
    except UnknownJob:
        return
    loop, rested = asyncio.get_running_loop(), asyncio.Event()
    async for events in worker.afollow(job_id):
        yield message(job, events, start, worker.queue_length)
        start += len(events)
        rested.clear()
        loop.call_later(MOMENT, rested.set)
        await rested.wait()


def _chapter(job: Job, events: Sequence[Event], start: int) -> Message:
    request: GenerationRequest = job.request
    return {
        "id": job.id,
        "from": start,
        "events": [told(event) for event in events],
        "request": {name: getattr(request, name) for name in SHOWN_OF_REQUEST},
        "tab": tab_for(request).key,
    }


def _kept(picture: Picture) -> Message:
    """A picture on disk; its address leads to the PNG itself, with the generation text that it carries."""
    path = Path(picture.path)
    return {
        "seed": picture.seed,
        "width": picture.width,
        "height": picture.height,
        "text": picture.parameters,
        "name": path.name,
        "url": f"gradio_api/file={quote(path.as_posix())}",
        "image": _data_url(picture.preview),
    }


def _data_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() if jpeg else ""
