"""The lessons of the Explore tab: what they say and move is data (assets/lessons.json), over runs of the
embedded model that are painted by the ordinary way where they are not there yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.controlnet.poses import presets
from pipelines.library.models import STARTER
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.worker import Worker
from ui.client import asker
from ui.components.base import Answer, Asked

FILE = Path(__file__).resolve().parent.parent.parent / "assets" / "lessons.json"


@lru_cache(maxsize=1)
def told() -> Mapping[str, Any]:
    """The file: "runs", requests by name, and "lessons", in order."""
    return json.loads(FILE.read_text("utf-8"))  # type: ignore[no-any-return]


def request_of(name: str) -> GenerationRequest:
    """The request of a lesson's run. Raises KeyError for a name that no lesson has."""
    given = dict(told()["runs"][name])
    if "controls" in given:
        poses = {preset.key: preset.poses for preset in presets()}
        given["controls"] = [{**unit, "pose": poses[unit["pose"]]} for unit in given["controls"]]
    return GenerationRequest.parse({"model": STARTER, **given})


def lessons(worker: Worker, asked: Asked) -> Answer:
    """{} -> {"lessons"}: each with "key", "title", "about" and "steps"; see assets/js/explore-lessons.js."""
    return {"lessons": told()["lessons"]}


def lesson_run(worker: Worker, asked: Asked) -> Answer:
    """{"run": its name in the lesson} -> {"run": its id}, and "job" where it is being painted for this; or
    {"problem"}."""
    try:
        request = request_of(str(asked.get("run")))
    except KeyError:
        return {"problem": "There is no such run in a lesson."}
    wanted = request.model_dump(mode="json", exclude_defaults=True)
    for run in worker.trajectories.list():
        whole = run.state == "finished" and worker.trajectories.steps(run.id) >= run.total > 0
        if whole and not run.trashed and run.parent is None and dict(run.request) == wanted:
            return {"run": run.id}
    try:
        job = worker.submit(request, asker(asked))
    except InvalidRequest as problem:
        return {"problem": str(problem)}
    return {"run": f"{job}-0", "job": job}


ANSWERS = {"lessons": lessons, "lesson_run": lesson_run}
