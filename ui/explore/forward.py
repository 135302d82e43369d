"""The forward process on its way to the page: a picture at every step of a schedule, and all schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from pipelines.film.trajectory import UnknownTrajectory
from pipelines.request import InvalidRequest
from pipelines.turn import CannotLook
from pipelines.worker import Worker
from ui import feed
from ui.components.base import Answer, Asked
from ui.explore.film import answered, packed, problem
from ui.explore.runs import URL, row

if TYPE_CHECKING:
    from fastapi import FastAPI

NOT_UP = "The engine is still starting: look here again as soon as it is up."
BUSY = "The engine was busy with a picture for too long: look here again once that is finished."


def schedules(worker: Worker, asked: Asked) -> Answer:
    """{"run", "steps"} -> {"lines"}, as pipelines.film.forward.schedules tells them, or {"problem"}."""
    steps = asked.get("steps")
    if not isinstance(steps, int) or isinstance(steps, bool) or not 2 <= steps <= 150:
        return {"problem": "Choose between 2 and 150 steps."}
    try:
        lines = worker.engine.call("schedules", str(asked.get("run", "")), steps)
    except (UnknownTrajectory, InvalidRequest, CannotLook) as reason:
        return {"problem": str(reason)}
    except TimeoutError:
        return {"problem": BUSY}
    return {"problem": NOT_UP} if lines is None else {"lines": lines}


def add_routes(app: FastAPI, worker: Worker) -> None:
    """Adds the route that gives a noised picture, packed as a film is."""

    async def noised(request: Request) -> Response:
        asked = request.query_params
        run, steps = asked.get("run", ""), asked.get("steps", "")

        def answer() -> Response:
            if not (steps.isascii() and steps.isdecimal() and 2 <= int(steps[:9]) <= 150):
                return problem("Choose between 2 and 150 steps.", 400)
            given = [asked.get(name, "") for name in ("picture", "sampler", "schedule")]
            try:
                told = worker.engine.call("noised", run, *given, int(steps))
            except InvalidRequest as refused:
                return problem(str(refused), 400)
            if told is None:
                return problem(NOT_UP, 503)
            film = {"run": row(worker.trajectories.get(run)), "steps": told}
            return Response(packed(film), media_type="application/octet-stream")

        return await answered(answer)

    app.add_route(f"/{URL}/noised", feed.guarded(app, noised))


ANSWERS: dict[str, Any] = {"schedules": schedules}
