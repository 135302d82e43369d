"""The Image tab's own part: the picture to begin with, which can be sketched on, and the batch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.events import Finished
from ui import store
from ui.components.batch import batch
from ui.components.fold import fold
from ui.components.painter import painter
from ui.tabs import requested

if TYPE_CHECKING:
    from ui.page import Page


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


async def run_batch(page: Page, values: dict[str, Any], client: str = "") -> AsyncIterator[dict[str, Any]]:
    """Submits the form's request for each picture of the batch that was not done before, and tells how far
    it is. values: those of the page, with "batch": {"keys"}; client: who asks."""
    given = values.pop("batch", None)
    keys = given.get("keys") if isinstance(given, Mapping) else None
    told = {"done": 0, "skipped": 0, "failed": 0, "total": len(keys) if isinstance(keys, list) else 0}
    if not isinstance(keys, list) or not keys:
        return
    painted = values.get("sketch")
    asked = requested({**values, "tab": "image", "sketch": {**(painted or {}), "image": str(keys[0])}})
    asked.pop("image")
    items = page.worker.batches.items(asked, [str(key) for key in keys])
    told["total"] = len(items)
    told["skipped"] = sum(bool(item.done) for item in items)
    waiting = [(item, page.worker.submit(item.request, client)) for item in items if not item.done]
    yield {**told, "jobs": [job_id for _, job_id in waiting]}
    for item, job_id in waiting:
        ending = [event async for events in page.worker.afollow(job_id) for event in events][-1]
        if isinstance(ending, Finished):
            page.worker.batches.note(item, ending.pictures)
            told["done"] += 1
        else:
            told["failed"] += 1
        yield told
