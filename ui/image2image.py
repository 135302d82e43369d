"""The Image tab's own part: the picture to begin with, which can be sketched on, and the batch."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.events import Finished
from pipelines.request import InvalidRequest
from pipelines.worker import UnknownJob, Worker
from ui import store
from ui.components.batch import batch
from ui.components.fold import fold
from ui.components.painter import painter
from ui.tabs import requested

if TYPE_CHECKING:
    from ui.page import Page

AGAIN = "Choose all of the pictures once more then: what is painted by that time is skipped."


def build(page: Page) -> None:
    """Lays the picture and the batch out; strength and shape are in the form (ui.ask)."""
    with gr.Column(elem_classes=["pane", "in-image"]):
        page.shown["sketch"] = painter(
            lambda asked: store.keep(page.worker.store, asked),
            "image-image",
            "sketch",
            examples=page.examples,
        )
        with fold("Batch: a folder of pictures", "image-batch-fold"):
            page.batch = batch(lambda asked: store.keep(page.worker.store, asked), "image-batch")


async def run_batch(
    worker: Worker, values: dict[str, Any], client: str = ""
) -> AsyncIterator[dict[str, Any]]:
    """Submits the form's request for each picture of the batch that was not painted before and does not wait
    for it, and tells how far the batch is. values: those of the page, with "batch": {"keys"}; client: who
    asks. Where not all are taken, those that are go on, and the first message says so ("problem")."""
    given = values.pop("batch", None)
    keys = given.get("keys") if isinstance(given, Mapping) else None
    if not isinstance(keys, list) or not keys:
        return
    painted = values.get("sketch")
    asked = requested({**values, "tab": "image", "sketch": {**(painted or {}), "image": str(keys[0])}})
    asked.pop("image")
    items = worker.batches.items(asked, [str(key) for key in keys])
    missing = [item for item in items if not item.done]
    jobs: list[str] = []
    refused: InvalidRequest | None = None
    for item in missing:
        if item.job is not None:
            jobs.append(item.job)
        elif refused is None:
            try:
                jobs.append(worker.submit(item.request, client, item.turn))
            except InvalidRequest as found:
                if not jobs:
                    raise
                refused = found
    left = len(missing) - len(jobs)
    pictures = "1 picture was" if left == 1 else f"{left} pictures were"
    problem = f"{pictures} not taken in. {refused} {AGAIN}" if refused else ""
    async for told in follow_batch(worker, jobs, len(items) - len(missing)):
        yield {**told, "problem": problem} if problem and "jobs" in told else told


async def follow_batch(worker: Worker, jobs: list[str], skipped: int) -> AsyncIterator[dict[str, Any]]:
    """Tells how far a batch is until all of its jobs have ended. skipped: pictures that were painted before
    the batch was asked for. Jobs that nobody knows are of another data folder and count as none."""
    known = []
    for job_id in jobs:
        with contextlib.suppress(UnknownJob):
            known.append(worker.job(job_id).id)
    told: dict[str, Any] = {"done": 0, "skipped": skipped, "failed": 0, "total": len(known) + skipped}
    yield {**told, "jobs": known}
    for job_id in known:
        ending = [event async for events in worker.afollow(job_id) for event in events][-1]
        told["done" if isinstance(ending, Finished) else "failed"] += 1
        yield told
