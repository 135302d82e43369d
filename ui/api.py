"""The endpoints for scripts (gradio_client): `/paint` takes the request's fields by name, pictures by key.

`/keep_picture` takes a picture's file and gives its key. Signatures are made from the request's fields, so a
new field is an argument of the endpoint at once.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr

from pipelines.events import Cancelled, Failed, Finished
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.worker import Worker
from ui import store
from ui.client import client_of

VISITOR = "visitor"

Kept = tuple[list[str], str]
"""The kept files' paths, and the generation text of the first."""


def add(worker: Worker) -> None:
    """Adds the endpoints to the page that is being built."""
    gr.api(paint(worker), api_name="paint", concurrency_limit=None)
    gr.api(keep_picture(worker), api_name="keep_picture", concurrency_limit=None)


def keep_picture(worker: Worker) -> Callable[[gr.FileData], dict[str, Any]]:
    """The function behind `/keep_picture`."""

    def keep(picture: gr.FileData) -> dict[str, Any]:
        """Takes a picture in for `image`, `mask_image` or a control unit; returns its key and size."""
        path = picture["path"] if isinstance(picture, dict) else picture.path
        answer = store.keep(worker.store, {"path": path})
        if "problem" in answer:
            raise gr.Error(answer["problem"], print_exception=False)
        return {name: answer[name] for name in ("key", "width", "height")}

    return keep


def paint(worker: Worker) -> Callable[..., Awaitable[Kept]]:
    """The function behind `/paint`, with the request's fields as its parameters."""
    names = list(GenerationRequest.model_fields)

    async def run(visitor: gr.Request, *given: Any) -> Kept:
        """Makes pictures. Everything has a default but the prompt; returns paths and the generation text."""
        try:
            request = GenerationRequest.parse(dict(zip(names, given)))
            job_id = worker.recorded(request) or worker.submit(request, client_of(visitor))
        except InvalidRequest as problem:
            raise gr.Error(str(problem), print_exception=False) from None
        try:
            ending = [event async for events in worker.afollow(job_id) for event in events][-1]
        except (asyncio.CancelledError, GeneratorExit):
            worker.stop(job_id)
            raise
        return _kept(ending)

    run.__signature__ = _signature()  # type: ignore[attr-defined]
    fields = GenerationRequest.model_fields
    run.__annotations__ = {VISITOR: gr.Request, **{name: field.annotation for name, field in fields.items()}}
    return run


def _kept(ending: Any) -> Kept:
    match ending:
        case Finished(pictures):
            return [picture.path for picture in pictures], pictures[0].parameters if pictures else ""
        case Failed(message):
            raise gr.Error(message, print_exception=False)
        case Cancelled():
            raise gr.Error("The run was stopped before it was finished.", print_exception=False)
    raise TypeError(f"a job ended in {type(ending).__name__}")


def _signature() -> inspect.Signature:
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if field.is_required() else field.default,
            annotation=field.annotation,
        )
        for name, field in GenerationRequest.model_fields.items()
    ]
    visitor = inspect.Parameter(
        VISITOR, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request
    )  # Gradio fills it in; it is no argument of the endpoint
    return inspect.Signature([visitor, *parameters], return_annotation=Kept)
