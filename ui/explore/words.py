"""Where the words of a prompt act: what the page asks of a step, and a map's way into the Inpaint tab."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from pipelines.film import reading
from pipelines.film.trajectory import RunInfo, UnknownTrajectory
from pipelines.film.tree import wanted
from pipelines.film.without import words as words_of
from pipelines.metadata import UnreadablePicture
from pipelines.request import InvalidRequest
from pipelines.turn import CannotLook
from pipelines.worker import Worker
from ui import feed, store
from ui.components.base import Answer, Asked
from ui.explore.film import FOREVER, STARTING, answered, count, problem
from ui.explore.runs import URL, finished

if TYPE_CHECKING:
    from fastapi import FastAPI

NO_WORDS = "This run had no words to listen to."
NOT_UP = "The engine is still starting: try it again as soon as it is up."


def words(worker: Worker, asked: Asked) -> Answer:
    """{"run"} -> {"prompt", "words": [start, end] of each}, or {"problem"} where nothing is seen of them."""
    try:
        run = worker.trajectories.get(str(asked.get("run", "")))
        prompt = str(wanted(run).get("prompt") or "")
        model = worker.library.find(run.model or str(wanted(run).get("model")))
    except (UnknownTrajectory, InvalidRequest) as unknown:
        return {"problem": str(unknown)}
    if unread := reading.unread(model.family):
        return {"problem": unread}
    spans = [list(place) for place in words_of(prompt)]
    return {"run": run.id, "prompt": prompt, "words": spans} if spans else {"problem": NO_WORDS}


def attended(worker: Worker, asked: Asked) -> Answer:
    """The picture that a step's map lies over, in the store: {"run", "step"} -> the picture or {"problem"}.
    It is the finished one where that has the run's size, else what the step predicts."""
    try:
        run = worker.trajectories.get(str(asked.get("run", "")))
        kept = _finished(worker, run)
        if kept is not None:
            return kept
        decoded = worker.engine.call("decode", run.id, asked.get("step"), "x0")
        return {"problem": NOT_UP} if decoded is None else store.shown(worker.store.put(decoded))
    except (UnknownTrajectory, CannotLook, InvalidRequest, UnreadablePicture) as trouble:
        return {"problem": str(trouble)}


def _finished(worker: Worker, run: RunInfo) -> Answer | None:
    """The finished picture where the model painted all of it: of a part of one, the map is the part's."""
    asked = wanted(run)
    part = asked.get("inpaint_area") == "only masked" and run.task == "inpaint"
    path = finished(worker, run)
    if path is None or part:
        return None
    try:
        kept = worker.store.put(path)
    except (OSError, UnreadablePicture):
        return None
    return store.shown(kept) if (kept.width, kept.height) == run.size else None


def packed(told: Mapping[str, Any]) -> bytes:
    """What was heard in a step, as the page reads it: the length of a JSON head (4 bytes, little-endian), the
    head, then the maps."""
    head = json.dumps({name: value for name, value in told.items() if name != "maps"}).encode()
    return b"".join([struct.pack("<I", len(head)), head, told["maps"]])


def add_routes(app: FastAPI, worker: Worker) -> None:
    """Adds the region's own route; before Gradio, which takes all the rest."""

    async def attention(request: Request) -> Response:
        run, step = request.query_params.get("run", ""), count(request, "step")

        def answer() -> Response:
            told = worker.engine.call("attention", run, step)
            if told is None:
                return problem(STARTING, 503)
            return Response(packed(told), media_type="application/octet-stream", headers=FOREVER)

        return await answered(answer)

    app.add_route(f"/{URL}/attention", feed.guarded(app, attention))


ANSWERS: dict[str, Any] = {"words": words, "attended": attended}
