"""The queue view's answers: what runs, what waits, what ended in an error, and what a hand does with it.

Every page is told by the stream how things are (`QueueView.told`), and asks for rows while its view is open.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from pipelines.events import Loading, StepEvent
from pipelines.jobs import Job
from pipelines.journal import Entry
from pipelines.line import LATER, NEXT, NORMAL, NotWaiting
from pipelines.pace import Pace
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.worker import UnknownJob, Worker
from ui import feed
from ui.client import asker
from ui.components.base import ASSETS_URL, Answer, Asked
from ui.tabs import tab_for

if TYPE_CHECKING:
    from fastapi import FastAPI

URL = f"{ASSETS_URL}/queue"
"""Where the view's own route is, relative to the page."""

MOST = 100
"""Rows of waiting jobs that are sent unless more are asked for."""
TROUBLES = 20
"""Jobs that ended in an error and are still shown, the newest ones."""
MOMENT = 0.25
"""Seconds between two messages of the stream about the queue, at the least."""
PROMPT = 200
"""Characters of a prompt that a row shows."""

GONE = "This job is not in the queue any more: it has ended, or was taken out in another window."
BEGUN = "This job has begun meanwhile, so its place cannot be changed."


class QueueView:
    """What the view is answered and told, for all pages of a server."""

    def __init__(self, worker: Worker):
        self.worker = worker
        self.pace = Pace(worker.forecast, worker.book.rearranged)
        self._deeds: dict[str, Callable[[Asked], Answer]] = {
            "pause queue": self._pause_queue,
            "go on queue": self._go_on_queue,
            "pause": self._pause,
            "hold": self._hold,
            "go on": self._go_on,
            "stop": self._stop,
            "keep": self._keep,
            "remove": self._remove,
            "move": self._move,
            "next": lambda asked: self._prioritise(asked, NEXT, "Next."),
            "later": lambda asked: self._prioritise(asked, LATER, "It runs when nothing else waits."),
            "normal": lambda asked: self._prioritise(asked, NORMAL, "It runs in its turn."),
            "last": self._last,
            "duplicate": self._duplicate,
            "again": self._again,
            "retry": self._retry,
            "dismiss": self._dismiss,
            "clear": self._clear,
        }

    def answers(self) -> dict[str, Callable[[Asked], Answer]]:
        """A function for each of `ui.components.queue.ASKS`."""
        return {"queue": self.answer_queue, "queue_deed": self.answer_deed}

    async def told(self) -> AsyncIterator[feed.Told]:
        """What every page is told: {"queue": summary}, at once and whenever it is another."""
        loop, woken, rested = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(woken.set)

        with self.worker.watching_queue(wake):
            before: Answer = {}
            while True:
                woken.clear()
                now = await asyncio.to_thread(self.summary)
                if now != before:
                    before = now
                    yield {"queue": now}
                    rested.clear()
                    loop.call_later(MOMENT, rested.set)
                    await rested.wait()
                await woken.wait()

    def summary(self) -> Answer:
        """How the queue is, in a few numbers; edition: another text whenever the rows are others."""
        worker = self.worker
        now = worker.running_job
        return {
            "edition": worker.queue.edition,
            "length": worker.queue_length,
            "failed": len(worker.queue.troubles(TROUBLES)),
            "paused": worker.queue.paused,
            "running": _progress(now) if now is not None else None,
        }

    # What the page asks

    def answer_queue(self, asked: Asked) -> Answer:
        """The rows, of waiting jobs the first `most`."""
        most = asked.get("most")
        most = most if isinstance(most, int) and 0 < most <= 10_000 else MOST
        worker = self.worker
        edition, now = worker.queue.edition, self.summary()
        waiting = worker.queue.places()
        jobs = [job for place in waiting[:most] if (job := self._known(place.job)) is not None]
        held = sum(place.held for place in waiting)
        priorities = {place.job: place.priority for place in waiting}
        seconds = self.pace.seconds([job.request for job in jobs], worker.queue.ended)
        running = worker.running_job
        rows = [_row(running, "running", 0, None)] if running is not None else []
        rows += [
            _row(job, job.state, priorities[job.id], each)
            for job, each in zip(jobs, seconds)
            if job.state in ("waiting", "paused")
        ]
        rows += _troubles(worker.queue.troubles(TROUBLES))
        return {"edition": edition, "now": now, "waiting": len(waiting), "held": held, "rows": rows}

    def answer_deed(self, asked: Asked) -> Answer:
        """Does what `asked["do"]` names."""
        deed = self._deeds.get(str(asked.get("do")))
        try:
            done = deed(asked) if deed else {"problem": "There is nothing of that name to do."}
        except NotWaiting:
            done = {"problem": BEGUN}
        except UnknownJob:
            done = {"problem": GONE}
        except InvalidRequest as problem:
            done = {"problem": str(problem)}
        return {**self.answer_queue(asked), **done}

    def thumbnail(self, job_id: str) -> bytes | None:
        """The latest preview of a job that has come so far, a JPEG file."""
        job = self._known(job_id)
        last = job.latest if job is not None else None
        return last.preview if last is not None and last.preview else None

    # What a hand does

    def _pause_queue(self, asked: Asked) -> Answer:
        self.worker.queue.pause(True)
        return {"said": "The queue is paused."}

    def _go_on_queue(self, asked: Asked) -> Answer:
        self.worker.queue.pause(False)
        return {"said": "The queue goes on."}

    def _pause(self, asked: Asked) -> Answer:
        self.worker.pause(_job(asked))
        return {"said": "Paused: it rests within a step."}

    def _hold(self, asked: Asked) -> Answer:
        job = self.worker.job(_job(asked))
        if job.state not in ("waiting", "paused"):
            raise NotWaiting(job.id)
        self.worker.pause(job.id)
        return {} if asked.get("edit") else {"said": "Held back: others pass it."}

    def _go_on(self, asked: Asked) -> Answer:
        self.worker.resume(_job(asked))
        return {"said": "It goes on in its turn."}

    def _stop(self, asked: Asked) -> Answer:
        self.worker.stop(_job(asked))
        return {"said": "Stopped."}

    def _keep(self, asked: Asked) -> Answer:
        self.worker.stop(_job(asked), keep=True)
        return {"said": "Its picture is finished as far as it has come."}

    def _remove(self, asked: Asked) -> Answer:
        job = self.worker.job(_job(asked))
        behind = self.worker.queue.behind(job.id)
        self.worker.stop(job.id)
        return {"said": "Taken out.", "undo": {"do": "again", "job": job.id, "before": behind}}

    def _again(self, asked: Asked) -> Answer:
        """Takes `remove` back: the same is asked for anew, at its old place."""
        old = self.worker.job(_job(asked))
        new = self._anew(old, old.client)
        before = asked.get("before")
        if isinstance(before, str) and before in self.worker.queue:
            self.worker.queue.move(new, before=before)
        return {"said": "Back in the queue.", "asked": new}

    def _move(self, asked: Asked) -> Answer:
        before, after = (asked.get(name) for name in ("before", "after"))
        if isinstance(before, str):
            self.worker.queue.move(_job(asked), before=before)
        elif isinstance(after, str):
            self.worker.queue.move(_job(asked), after=after)
        return {"said": self._place(_job(asked))}

    def _last(self, asked: Asked) -> Answer:
        self.worker.queue.move(_job(asked))
        return {"said": self._place(_job(asked))}

    def _prioritise(self, asked: Asked, priority: int, said: str) -> Answer:
        self.worker.queue.prioritise(_job(asked), priority)
        return {"said": said}

    def _duplicate(self, asked: Asked) -> Answer:
        old = self.worker.job(_job(asked))
        new = self.worker.submit(old.request, asker(asked) or old.client)
        return {"said": "Asked for once more.", "asked": new}

    def _retry(self, asked: Asked) -> Answer:
        old = self.worker.job(_job(asked))
        new = self._anew(old, asker(asked) or old.client)
        self.worker.queue.dismiss([old.id])
        return {"said": "Back in the queue.", "asked": new}

    def _dismiss(self, asked: Asked) -> Answer:
        self.worker.queue.dismiss([_job(asked)])
        return {}

    def _clear(self, asked: Asked) -> Answer:
        self.worker.queue.dismiss([entry.id for entry in self.worker.queue.troubles(TROUBLES)])
        return {"said": "Cleared."}

    # How it is done

    def _anew(self, old: Job, client: str) -> str:
        """The same as a new job of `client`, which takes the old one's place in its batch."""
        return self.worker.submit(old.request, client, self.worker.journal.turn(old.id))

    def _place(self, job_id: str) -> str:
        order = self.worker.queue.order()
        return f"Place {order.index(job_id) + 1} of {len(order)}." if job_id in order else ""

    def _known(self, job_id: str) -> Job | None:
        try:
            return self.worker.job(job_id)
        except UnknownJob:
            return None


def add_routes(app: FastAPI, view: QueueView) -> None:
    """Adds the small pictures of the rows; before Gradio, which takes all the rest."""

    async def seen(request: Request) -> Response:
        picture = view.thumbnail(request.query_params.get("job", ""))
        if picture is None:
            return Response(status_code=404)
        # The address changes with the picture (v), so that a browser need never ask twice.
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(picture, media_type="image/jpeg", headers=headers)

    app.add_route(f"/{URL}/seen", feed.guarded(app, seen))


def _progress(job: Job) -> Answer:
    """How far the running job is; left: seconds, None while they cannot be told. seen: another text with each
    preview of a new second."""
    last: StepEvent | None = job.latest
    pictures = job.request.pictures
    if last is None:
        return {"job": job.id, "step": 0, "total": 0, "picture": 0, "pictures": pictures, "left": None}
    done = last.picture * last.total + last.step
    whole = last.total * pictures
    left = last.seconds * (whole - done) / (done - 1) if done > 1 else None
    return {
        "job": job.id,
        "step": last.step,
        "total": last.total,
        "picture": last.picture,
        "pictures": pictures,
        "left": None if left is None else round(left, 1),
        "seen": f"{last.picture}.{int(last.seconds)}",
    }


def _row(job: Job, state: str, priority: int, seconds: float | None) -> Answer:
    last = job.latest
    loading = job.events[-1] if job.events else None
    return {
        **_asked(job.id, job.client, job.request),
        "state": state,
        "priority": priority,
        "seconds": None if seconds is None else round(seconds, 2),
        "step": last.step if last else 0,
        "total": last.total if last else 0,
        "share": _share(job),
        "seen": f"{last.picture}.{last.step}" if last and last.preview else "",
        "message": loading.message if isinstance(loading, Loading) else "",
    }


def _asked(job_id: str, client: str, request: GenerationRequest) -> Answer:
    """What a row says of a request."""
    return {
        "job": job_id,
        "client": client,
        "prompt": request.prompt.strip()[:PROMPT],
        "tab": tab_for(request).key,
        "steps": request.steps_run,
        "width": request.width,
        "height": request.height,
        "pictures": request.pictures,
    }


def _share(job: Job) -> float:
    last = job.latest
    if last is None:
        return 0.0
    return (last.picture * last.total + last.step) / (last.total * job.request.pictures)


def _troubles(entries: Iterable[Entry]) -> Iterator[Answer]:
    """Jobs that ended in an error, as the journal has them. One that this version of the program does not
    take any more could neither be shown nor be tried again."""
    for entry in entries:
        try:
            request = GenerationRequest.parse(entry.request)
        except InvalidRequest:
            continue
        yield {
            **_asked(entry.id, entry.client, request),
            "state": entry.state,
            "priority": 0,
            "seconds": None,
            "step": entry.step,
            "total": entry.total,
            "problem": entry.error,
            "ended": _when(entry.ended),
        }


def _when(moment: float) -> str:
    """ "at 14:05", of another day "on 27 November"."""
    then, now = time.localtime(moment), time.localtime()
    if then[:3] == now[:3]:
        return time.strftime("at %H:%M", then)
    return f"on {then.tm_mday} {time.strftime('%B', then)}"


def _job(asked: Mapping[str, Any]) -> str:
    return str(asked.get("job", ""))
