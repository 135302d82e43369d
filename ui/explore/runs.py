"""The recorded runs as the Explore tab lists them, and what a hand may do to one: name, pin, throw away."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from pipelines.film.trajectory import RunInfo, UnknownTrajectory
from pipelines.library.models import STARTER
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.worker import Worker
from ui.client import asker
from ui.components.base import ASSETS_URL, Answer, Asked

URL = f"{ASSETS_URL}/explore"
"""Where the tab's own routes are, relative to the page."""

LISTED = 500
"""How many runs a page is told of, the newest first."""

SIDE = 144
"""Pixels of a thumbnail's longer side."""

FIRST = "a red house in the snow at night"
"""What the empty tab offers to paint where the embedded model names nothing of its own."""


def row(run: RunInfo) -> dict[str, Any]:
    """A run as the page takes it; its picture's address changes with the picture."""
    picture = Path(run.picture) if run.picture else None
    seen = picture.stat().st_mtime_ns if picture and picture.is_file() else 0
    return {
        "id": run.id,
        "job": run.job,
        "index": run.index,
        "prompt": run.request.get("prompt", ""),
        "request": dict(run.request),
        "task": run.task,
        "model": run.model_title,
        "created": run.created,
        "total": run.total,
        "state": run.state,
        "name": run.name,
        "pinned": run.pinned,
        "trashed": run.trashed,
        "parent": run.parent,
        "parent_step": run.parent_step,
        "note": run.note,
        "thumb": f"{URL}/thumb?run={quote(run.id)}&v={seen}" if seen else "",
    }


def finished(worker: Worker, run: RunInfo) -> Path | None:
    """A run's finished picture; None where there is none, or what it names is not one of the outputs."""
    if not run.picture:
        return None
    path = Path(run.picture).resolve()
    return path if path.is_relative_to((worker.store.root.parent / "outputs").resolve()) else None


def thumbnail(worker: Worker, id: str) -> bytes | None:
    """A run's finished picture as a small JPEG; None where there is none, or it is not one of the outputs."""
    try:
        path = finished(worker, worker.trajectories.get(id))
        if path is None:
            return None
        with Image.open(path) as picture:
            small = picture.convert("RGB")
        small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    except (UnknownTrajectory, OSError, ValueError, Image.DecompressionBombError):
        return None
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _runs(worker: Worker, asked: Asked) -> Answer:
    return {"runs": [row(run) for run in worker.trajectories.list()[:LISTED]], "films": worker.keeps_films}


def _rename(worker: Worker, asked: Asked) -> Answer:
    return _changed(asked, lambda id: worker.trajectories.rename(id, str(asked.get("name", ""))))


def _pin(worker: Worker, asked: Asked) -> Answer:
    return _changed(asked, lambda id: worker.trajectories.pin(id, asked.get("pinned") is True))


def _trash(worker: Worker, asked: Asked) -> Answer:
    return _changed(asked, worker.trajectories.trash)


def _restore(worker: Worker, asked: Asked) -> Answer:
    return _changed(asked, worker.trajectories.restore)


def _changed(asked: Asked, change: Callable[[str], RunInfo]) -> Answer:
    """{"run": the row} after a change."""
    try:
        return {"run": row(change(str(asked.get("run"))))}
    except UnknownTrajectory as problem:
        return {"problem": str(problem)}
    except OSError as problem:
        return {"problem": f"The run's description could not be written: {problem.strerror or problem}."}


def _begin(worker: Worker, asked: Asked) -> Answer:
    """Paints a first run on the embedded model: {"job"}."""
    examples = next((spec.examples for spec in worker.models() if spec.key == STARTER), ())
    prompt = next(iter(examples), FIRST)
    request = GenerationRequest.parse({"prompt": prompt, "model": STARTER})
    try:
        return {"job": worker.submit(request, asker(asked))}
    except InvalidRequest as problem:
        return {"problem": str(problem)}


ANSWERS = {
    "runs": _runs,
    "rename": _rename,
    "pin": _pin,
    "trash": _trash,
    "restore": _restore,
    "begin": _begin,
}
"""runs: {} -> {"runs"}, newest first, those in the trash too, "films": whether more are kept.
rename: {"run", "name"}, pin: {"run", "pinned"}, trash, restore: {"run"} -> {"run": its row}.
begin: {} -> {"job"}."""
