"""A recorded run on its way out, as a replay, a film, a sheet or with its latents, and on its way in."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from PIL import Image
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from pipelines.film import showing
from pipelines.film.archive import NotShared, pack
from pipelines.film.showing import NotShown
from pipelines.film.trajectory import RunInfo, UnknownTrajectory
from pipelines.film.tree import wanted
from pipelines.film.unpacking import MOST_BYTES, unpack
from pipelines.library.headers import amount
from pipelines.preview import jpeg
from pipelines.request import InvalidRequest
from pipelines.turn import CannotLook
from pipelines.worker import Worker
from ui import feed
from ui.explore.film import BUSY, LOOKS, STARTING
from ui.explore.replay import replay
from ui.explore.runs import URL, row

if TYPE_CHECKING:
    from fastapi import FastAPI

LANES = ("x0", "x_t", "noise", "change", "guidance", "channels")
KINDS = {
    "replay": ("html", "text/html"),
    "film": ("mp4", "video/mp4"),
    "gif": ("gif", "image/gif"),
    "sheet": ("png", "image/png"),
    "latents": ("zip", "application/zip"),
}
"""What a run can be shared as: (ending, media type)."""

TYPE = "application/zip"
"""What an import is sent as. A foreign page cannot send it without being allowed to, which it is not."""

COMING = 2
"""Films that are taken in at a time: each may be gigabytes, and they lie beside each other until then."""
BUSY_TAKING = "Other films are being taken in just now: try it again when they are here."

QUALITY = 88


def add_routes(app: FastAPI, worker: Worker) -> None:
    """Adds the routes of sharing."""

    async def share(request: Request) -> Response:
        asked = request.query_params
        kind = asked.get("as", "")
        if kind not in KINDS:
            return _problem("A run cannot be shared as that.", 404)
        return await _answered(lambda: _shared(worker, asked.get("run", ""), kind, asked))

    coming = 0

    async def take(request: Request) -> Response:
        nonlocal coming
        if request.headers.get("content-type") != TYPE:
            return _problem("A film is taken in as a ZIP file.", 415)
        if coming >= COMING:
            return _problem(BUSY_TAKING, 429)
        coming += 1
        try:
            return await _take(worker, request)
        finally:
            coming -= 1

    app.add_route(f"/{URL}/share", feed.guarded(app, share))
    app.add_route(f"/{URL}/import", feed.guarded(app, take), methods=["POST"])


async def _take(worker: Worker, request: Request) -> Response:
    """Takes in the film that a request holds."""
    descriptor, name = tempfile.mkstemp(suffix=".zip")
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            async for chunk in request.stream():
                if file.tell() + len(chunk) > MOST_BYTES:
                    return _problem(f"The file is larger than {amount(MOST_BYTES)}.", 413)
                await anyio.to_thread.run_sync(file.write, chunk)
        return await _answered(lambda: JSONResponse(_taken(worker, path)))
    except OSError as problem:
        return _problem(f"The film could not be kept: {problem.strerror or problem}.", 507)
    finally:
        path.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------------- out


def _shared(worker: Worker, id: str, kind: str, asked: Any) -> Response:
    run = worker.trajectories.get(id)
    ending, media = KINDS[kind]
    headers = {"Content-Disposition": f'attachment; filename="{file_name(run)}.{ending}"'}
    if kind == "latents":
        descriptor, name = tempfile.mkstemp(suffix=".zip")
        path = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                pack(worker.trajectories, worker.store, id, file)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        done = BackgroundTask(path.unlink, missing_ok=True)
        return FileResponse(path, media_type=media, headers=headers, background=done)
    film = worker.engine.call("film", id)
    if film is None:
        return _problem(STARTING, 503)
    if not film["steps"]:
        raise NotShared("Nothing of this run was recorded: there is nothing to show.")
    full = asked.get("full") == "1"
    if kind == "replay":
        decoded = [_jpeg(one) for one in _frames(worker, id, film, "x0", True)] if full else []
        made = replay(run, row(run), film, decoded, _finished(worker, run))
        return Response(made, media_type=media, headers=headers)
    lane = asked.get("lane", "x0")
    if lane not in LANES:
        return _problem("There is no such look at a step.", 404)
    frames = [picture for picture in _frames(worker, id, film, lane, full) if picture is not None]
    if not frames:
        raise NotShared("This run has nothing of that kind: choose another look.")
    speed = int(asked["speed"]) if asked.get("speed", "").isdecimal() and len(asked["speed"]) < 4 else 8
    if kind == "sheet":
        made = showing.sheet(frames, [f"{index + 1}" for index in range(len(frames))])
    else:
        made = (showing.film if kind == "film" else showing.gif)(frames, speed)
    return Response(made, media_type=media, headers=headers)


def _frames(worker: Worker, id: str, film: Any, lane: str, full: bool) -> Iterator[Image.Image]:
    """A look at every step: decoded by the VAE where that is wanted and can be, else the small picture."""
    for index, step in enumerate(film["steps"]):
        small = step["channels"] if lane == "channels" else step["lanes"].get(lane)
        data = worker.engine.call("decode", id, index, lane) if full and lane in LOOKS else small
        if data:
            yield Image.open(io.BytesIO(data)).convert("RGB")


def _jpeg(picture: Image.Image) -> bytes:
    return jpeg(picture, QUALITY)


def _finished(worker: Worker, run: RunInfo) -> bytes | None:
    """The finished picture, where it is (still) one of the outputs."""
    outputs = (worker.store.root.parent / "outputs").resolve()
    try:
        path = Path(run.picture).resolve()
        if not path.is_relative_to(outputs):
            return None
        with Image.open(path) as picture:
            return jpeg(picture.convert("RGB"), QUALITY)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def file_name(run: RunInfo) -> str:
    """What a shared run's file is called, in letters that every disk takes."""
    words = re.findall(r"[a-z0-9]+", (run.name or str(run.request.get("prompt", ""))).lower())
    name = "-".join(words)[:48].strip("-")
    return f"darkroom-{name or 'run'}-{run.id[:6]}"


# -------------------------------------------------------------------------------------------------------- in


def _taken(worker: Worker, path: Path) -> dict[str, Any]:
    """{"run": its row, "told": sentences} of a film that was taken in."""
    run = unpack(path, worker.trajectories, worker.store, worker.store.root.parent / "outputs")
    return {"run": row(run), "told": list(missing(worker, run))}


def missing(worker: Worker, run: RunInfo) -> Iterator[str]:
    """What a branch of the run would need and is not on this machine, a sentence each."""
    values = wanted(run)

    if _lacks(worker.library.find, run.model):
        yield (
            f"Its model, {run.model_title or run.model}, is not on this computer: the film can be looked at, "
            "but full decodes and branches need the model."
        )
    named = [("lora", one["name"]) for one in values.get("loras") or ()]
    named += [("vae", values.get("vae")), ("text encoder", values.get("text_encoder"))]
    gone = [name for sort, name in named if name and _lacks(worker.library.addon, sort, name)]
    units = [unit["model"] for unit in values.get("controls") or ()]
    gone += [name for name in units if _lacks(worker.controls.find, name)]
    if gone:
        yield f"A branch would also need {listed(gone)}, not on this computer."


def _lacks(find: Callable[..., Any], *named: str) -> bool:
    try:
        find(*named)
    except InvalidRequest:
        return True
    return False


def listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


async def _answered(answer: Callable[[], Response]) -> Response:
    """What `answer` gives, on a thread of its own; what it cannot do as a sentence."""
    try:
        return await anyio.to_thread.run_sync(answer)
    except (UnknownTrajectory, NotShared, NotShown, CannotLook) as problem:
        return _problem(str(problem), 404 if isinstance(problem, UnknownTrajectory) else 422)
    except InvalidRequest as problem:
        return _problem(f"{problem} Without it, share the run with quick previews.", 422)
    except TimeoutError:
        return _problem(BUSY, 504)


def _problem(sentence: str, status: int) -> Response:
    return JSONResponse({"problem": sentence}, status_code=status)
