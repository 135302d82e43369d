"""A run's film on its way to the page: every small picture of every step in one answer, and full decodes.

One answer instead of hundreds: the length of a JSON head (4 bytes, little-endian), the head, then all JPEGs
one after the other; in the head each stands as [where it begins, how long it is].
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipelines.film.trajectory import UnknownTrajectory
from pipelines.request import InvalidRequest
from pipelines.turn import Busy, CannotLook
from pipelines.worker import Worker
from ui import feed
from ui.explore.runs import URL, row, thumbnail

if TYPE_CHECKING:
    from fastapi import FastAPI

FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
STARTING = "The engine is still starting: the run opens as soon as it is up."
BUSY = "The engine was busy with a picture for too long: look here again once that is finished."
FACTS = ("timestep", "sigma", "guidance_norm", "change", "alpha_bar", "snr")
"""What is told of a step besides its pictures, where it is known."""
LOOKS = ("x0", "x_t")
"""What of a step can be decoded in full."""


def packed(film: Mapping[str, Any], start: int = 0) -> bytes:
    """A film from step `start` on, as the page reads it."""
    pictures: list[bytes] = []
    filled = 0

    def put(jpeg: bytes) -> list[int]:
        nonlocal filled
        pictures.append(jpeg)
        filled += len(jpeg)
        return [filled - len(jpeg), len(jpeg)]

    steps = []
    for step in film["steps"]:
        if step["index"] < start:
            continue
        lanes = {name: put(jpeg) for name, jpeg in step["lanes"].items() if jpeg}
        if step.get("channels"):
            lanes["channels"] = put(step["channels"])
        told = {name: step.get(name) for name in ("index", *FACTS)}
        steps.append({**told, "lanes": lanes})
    head = json.dumps({"run": film["run"], "steps": steps, "still_from": film.get("still_from")}).encode()
    return b"".join([struct.pack("<I", len(head)), head, *pictures])


def add_routes(app: FastAPI, worker: Worker) -> None:
    """Adds the tab's own routes; before Gradio, which takes all the rest."""

    async def film(request: Request) -> Response:
        run, start = request.query_params.get("run", ""), count(request, "from")

        def answer() -> Response:
            found = worker.engine.call("film", run)
            if found is None:
                return problem(STARTING, 503)
            told = {**found, "run": row(worker.trajectories.get(run))}
            return Response(packed(told, start), media_type="application/octet-stream")

        return await answered(answer)

    async def decode(request: Request) -> Response:
        asked = request.query_params
        run, step, what = asked.get("run", ""), count(request, "step"), asked.get("what", "x0")

        def answer() -> Response:
            if what not in LOOKS:
                return problem("There is no such look at a step.", 404)
            picture = worker.engine.call("decode", run, step, what)
            if picture is None:
                return problem(STARTING, 503)
            return Response(picture, media_type="image/png", headers=FOREVER)

        return await answered(answer)

    async def thumb(request: Request) -> Response:
        small = await anyio.to_thread.run_sync(thumbnail, worker, request.query_params.get("run", ""))
        if small is None:
            return Response(status_code=404)
        return Response(small, media_type="image/jpeg", headers=FOREVER)

    for name, answer in (("film", film), ("decode", decode), ("thumb", thumb)):
        app.add_route(f"/{URL}/{name}", feed.guarded(app, answer))


async def answered(answer: Any) -> Response:
    """What `answer` gives, on a thread of its own; a run that cannot be looked into (now) as a sentence."""
    try:
        return await anyio.to_thread.run_sync(answer)  # type: ignore[no-any-return]
    except (UnknownTrajectory, InvalidRequest) as unknown:  # the latter: its model is not on this computer
        return problem(str(unknown), 404)
    except Busy as busy:
        return problem(str(busy), 409)
    except CannotLook as reason:
        return problem(str(reason), 422)
    except TimeoutError:
        return problem(BUSY, 504)


def problem(sentence: str, status: int) -> Response:
    """An answer that nothing came of."""
    return JSONResponse({"problem": sentence}, status_code=status)


def count(request: Request, name: str) -> int:
    """A whole number of the query, 0 for anything else."""
    given = request.query_params.get(name, "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 7 else 0
