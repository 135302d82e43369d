"""The page put together: header, tabs, the form and the stage that all tabs share.

A tab is a row of ui.tabs and, where it has a part of its own, a module with a `build(page)`. The stage stands
outside of the tabs, so a picture goes on developing in sight while another tab is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from pipelines import checks, families
from pipelines.events import PictureDone
from pipelines.library.models import ModelSpec
from pipelines.metadata import UnreadablePicture
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.worker import Job, UnknownJob, Worker
from ui import api, ask, control, explore, feed, gallery, image2image, inpaint, models, store, view
from ui.client import client_of
from ui.components.base import Scripted, sent
from ui.components.header import status, status_value
from ui.components.queue import queue_view
from ui.components.stage import stage
from ui.components.tabs import tab_bar
from ui.form import Choice
from ui.models import Stock
from ui.queue import QueueView
from ui.tabs import TABS, requested

JOBS_REMEMBERED = 40
"""How many jobs of its session a page that comes back is shown."""

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""For every event of the page: no overlay over what it changes, and no endpoint for scripts."""


PARTS = (image2image, inpaint, control, explore, gallery, models)
"""The tabs' own parts, between the form and the stage."""


class Page:
    """What the tabs share: the worker, the chosen model and the stage."""

    def __init__(self, worker: Worker, blocks: gr.Blocks, stock: Stock, line: QueueView, desk: gallery.Desk):
        self.worker, self.blocks, self.stock, self.desk = worker, blocks, stock, desk
        self.stage: Scripted = stage(self.story, self.send, self.invitation(self.spec()))
        self.model: Component = gr.State()
        self.tabs: Scripted = tab_bar(TABS)
        self.shown: dict[str, Component] = {"tab": self.tabs}
        """The tab bar and the painters: what a run is asked with besides the form's fields."""
        self.units: Component = gr.State()
        self.loras: Component = gr.State()
        self.guidance: Component = gr.State()
        self.shelf: Component = gr.State()
        self.gallery: Component = gr.State()
        self.batch: Component = gr.State()
        self.queue: Scripted = queue_view(line.answers())
        self.examples = store.examples(worker.store)

    @property
    def models(self) -> list[ModelSpec]:
        """The models there are now, in the order in which they are listed."""
        return self.stock.models()

    def choices(self) -> list[tuple[str, str]]:
        """What the header offers."""
        return [(f"{spec.title}  ·  {spec.summary}", spec.key) for spec in self.models]

    def spec(self, key: Any = None) -> ModelSpec | None:
        """The model with that key, else the first there is."""
        there = self.models
        return next((spec for spec in there if spec.key == key), there[0] if there else None)

    def invitation(self, spec: ModelSpec | None) -> dict[str, Any]:
        """What the stage shows for a model while there is no picture: prompts that it is known to paint, and
        whether it takes any."""
        if spec is None:
            return {"title": "", "examples": [], "words": True}
        words = "prompt" in families.fields_of(spec)
        return {"title": spec.title, "examples": list(spec.examples), "words": words}

    async def generate(self, visitor: gr.Request, **values: Any) -> AsyncIterator[str]:
        """Submits what the form holds and tells the stage its story; bad values are told by field.

        "editing" of the values: the waiting job in whose place it goes.
        """
        edited, client = _edited(values.pop("editing", None)), client_of(visitor)
        told: dict[str, Any] = {}
        try:
            request = self.request(values)
            if edited:
                job_id, told = self.worker.replace(edited, request), {"replaced": edited}
            elif (again := self.worker.recorded(request)) is not None:
                job_id = again
                yield sent({"again": again, **view.message(self.worker.job(again), [], 0, 0)})
            else:
                job_id = self.worker.submit(request, client)
        except InvalidRequest as problem:
            yield sent({"problems": problem.problems})
            return
        async for message in view.follow(self.worker, job_id):
            yield sent({**told, **message})

    def request(self, values: Mapping[str, Any]) -> GenerationRequest:
        """The request in the page's values. Raises `InvalidRequest` with all that is wrong with them, a
        prompt without words among it, which only the model can tell."""
        prompt, model = values.get("prompt"), self.spec(values.get("model"))
        empty = checks.wordless(prompt, model) if model and isinstance(prompt, str) else {}
        try:
            return GenerationRequest.parse(requested(values))
        except InvalidRequest as problem:
            raise InvalidRequest({**empty, **problem.problems}) from None

    async def run_batch(self, visitor: gr.Request, **values: Any) -> AsyncIterator[str]:
        """Paints the batch's pictures one after the other and tells the batch how far it is; the stage asks
        for the jobs' stories itself."""
        try:
            async for told in image2image.run_batch(self.worker, values, client_of(visitor)):
                yield sent(told)
        except InvalidRequest as problem:
            yield sent({"problem": str(problem)})

    async def resume_batch(self, event: gr.EventData) -> AsyncIterator[str]:
        """Goes on telling a returning page of the batch that it remembers."""
        jobs, skipped = _texts(getattr(event, "jobs", None)), getattr(event, "skipped", 0)
        skipped = skipped if isinstance(skipped, int) else 0
        async for told in image2image.follow_batch(self.worker, jobs, skipped):
            yield sent(told)

    async def resume(self, event: gr.EventData) -> AsyncIterator[str]:
        """What the jobs that a returning page remembers have come to; those that run are gone on with."""
        asked = _texts(getattr(event, "jobs", None))[-JOBS_REMEMBERED:]
        jobs, forgotten = await asyncio.to_thread(self._remembered, asked)
        ended = [job for job in jobs if job.done]
        running = [job.id for job in jobs if not job.done]
        yield sent(view.summary(ended, self.worker.queue_length, forgotten))
        async for message in _merged(self.worker, running):
            yield sent(message)

    def _remembered(self, asked: list[str]) -> tuple[list[Job], list[str]]:
        """(jobs, ids that nobody knows) of a page's ids; those of an earlier start are read off the disk."""
        jobs, forgotten = [], []
        for job_id in asked:
            try:
                jobs.append(self.worker.job(job_id))
            except UnknownJob:
                forgotten.append(job_id)
        return jobs, forgotten

    def story(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """A job's story from one of its events on, for a page that lacks a part of it."""
        start = asked.get("from")
        start = start if isinstance(start, int) and start >= 0 else 0
        try:
            job = self.worker.job(str(asked.get("job")))
        except UnknownJob:
            return {"jobs": [], "forgotten": [str(asked.get("job"))], "queue": self.worker.queue_length}
        return view.message(job, list(job.events[start:]), start, self.worker.queue_length)

    def send(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """A finished picture of a job, put into the store for the painters: {"job", "picture"} -> the picture
        as the page's scripts want it, or {"problem"}."""
        try:
            events = self.worker.job(str(asked.get("job"))).events
        except UnknownJob:
            return {"problem": "This picture's run is forgotten: drop the picture's file instead."}
        index = asked.get("picture")
        found = next((e for e in events if isinstance(e, PictureDone) and e.index == index), None)
        if found is None:
            return {"problem": "This picture is not finished yet."}
        try:
            return store.shown(self.worker.store.put(Path(found.picture.path)))
        except UnreadablePicture as problem:
            return {"problem": f"The picture's file could not be read: {problem}"}
        except OSError as problem:  # its own words tell where the file is
            return {"problem": f"The picture's file could not be read: {problem.strerror or 'it is gone'}."}

    def stop(self, event: gr.EventData) -> None:
        """Stops the job that the page names; one that has ended meanwhile is left alone."""
        self._steer(event, lambda job: self.worker.stop(job, keep=bool(getattr(event, "keep", False))))

    def pause(self, event: gr.EventData) -> None:
        """Lets the job that the page names rest."""
        self._steer(event, self.worker.pause)

    def go_on(self, event: gr.EventData) -> None:
        """Goes on with a job that rests; who follows it has never ceased to."""
        self._steer(event, self.worker.resume)

    def _steer(self, event: gr.EventData, deed: Callable[[str], None]) -> None:
        with contextlib.suppress(UnknownJob):  # one that a page remembers from another data folder
            deed(str(getattr(event, "job", "")))


def build(worker: Worker, stock: Stock, line: QueueView, desk: gallery.Desk) -> gr.Blocks:
    """The whole page over a worker, its stock of models, the view of its queue and its gallery."""
    with gr.Blocks(title="Darkroom", analytics_enabled=False, fill_width=True) as blocks:
        page = Page(worker, blocks, stock, line, desk)
        shown = _header(page)
        with gr.Row(elem_id="bench"):
            with gr.Column(elem_id="ask", scale=0):
                asked = gr.Column(elem_id="form")
            with gr.Column(elem_id="work"):
                for part in PARTS:
                    part.build(page)
            with asked:
                form, parts = ask.lay_out(page)
            page.stage.render()
        page.queue.render()
        ask.wire(page, form, parts)
        page.stage.resume(
            page.resume, outputs=page.stage, concurrency_limit=None, trigger_mode="multiple", **QUIET
        )
        page.stage.stop(page.stop, queue=False, **QUIET)
        page.stage.pause(page.pause, queue=False, **QUIET)
        page.stage.go_on(page.go_on, queue=False, **QUIET)
        blocks.load(_watcher(worker), outputs=shown, concurrency_limit=None, **QUIET)
        api.add(worker)
    blocks.queue(api_open=False, default_concurrency_limit=None)
    return blocks


def _header(page: Page) -> Scripted:
    with gr.Row(elem_id="header"):
        gr.HTML("<h1>Darkroom</h1>", elem_id="name", apply_default_css=False, js_on_load=None)
        first = page.spec()
        page.model = Choice(
            choices=page.choices(),
            value=first.key if first else None,
            label="Model",
            elem_id="model",
            elem_classes=["field"],
            container=False,
            scale=0,
            interactive=True,
        )
        page.tabs.render()
        return status()


def _watcher(worker: Worker) -> Callable[[], AsyncIterator[str]]:
    async def watch() -> AsyncIterator[str]:
        """How the engine is until it is up. Later changes a page hears of with its jobs: an event that
        never ended would hold one of the six connections that a browser opens to a server."""
        async for state in worker.watch():
            yield sent(status_value(state, worker.queue_length))
            if state.ready or state.fault:
                return

    return watch


async def _merged(worker: Worker, job_ids: list[str]) -> AsyncIterator[dict[str, Any]]:
    # All at once: one that rests has nothing to tell, and which one runs next may change.
    stories = (view.follow(worker, job_id) for job_id in job_ids)
    async for message in feed.merged(*stories, to_the_last=True):
        yield dict(message)


def _edited(value: Any) -> str:
    """The waiting job that the queue view's value names."""
    return str(value.get("editing") or "") if isinstance(value, Mapping) else ""


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
