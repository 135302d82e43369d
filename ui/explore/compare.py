"""Any two runs side by side: at each step, and finished."""

from __future__ import annotations

import base64
from typing import Any

from pipelines.film.trajectory import RunInfo, UnknownTrajectory
from pipelines.worker import Worker
from ui.components.base import Answer, Asked
from ui.explore.tree import finished_url, title

NOT_UP = "The engine is still starting: compare again as soon as it is up."


def compare(worker: Worker, asked: Asked) -> Answer:
    """{"first", "second"} -> what pipelines.film.compare tells, its JPEGs as data URLs, and "runs": what the
    two are called and where their pictures are; or {"problem"}."""
    ids = [str(asked.get(name, "")) for name in ("first", "second")]
    try:
        runs = [worker.trajectories.get(id) for id in ids]
        told = worker.engine.call("compare", *ids)
        return (
            {"problem": NOT_UP}
            if told is None
            else {**_urls(told), "runs": [_row(worker, one) for one in runs]}
        )
    except UnknownTrajectory as problem:
        return {"problem": str(problem)}


def _row(worker: Worker, run: RunInfo) -> Answer:
    parent = None
    if run.parent is not None:
        try:
            parent = worker.trajectories.get(run.parent)
        except UnknownTrajectory:
            parent = None  # deleted meanwhile: the run is called by its seed
    return {
        "id": run.id,
        "title": title(run, parent),
        "total": run.total,
        "picture": finished_url(run),
    }


def _urls(told: Any) -> Any:
    if isinstance(told, bytes):
        return "data:image/jpeg;base64," + base64.b64encode(told).decode()
    if isinstance(told, dict):
        return {name: _urls(one) for name, one in told.items()}
    return [_urls(one) for one in told] if isinstance(told, list) else told


ANSWERS = {"compare": compare}
