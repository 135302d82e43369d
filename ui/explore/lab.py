"""The sampler lab: a run's request through several samplers and numbers of steps, measured by a long run.

Its pictures are painted by ordinary jobs; what was painted before is taken from the recorded runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines import checks, families, schedulers
from pipelines.film import perceptual
from pipelines.film.distance import distance
from pipelines.film.trajectory import RunInfo, UnknownTrajectory, run_id
from pipelines.film.tree import wanted
from pipelines.library.models import ModelSpec
from pipelines.request import GenerationRequest, InvalidRequest, Task
from pipelines.worker import UnknownJob, Worker
from ui.client import asker
from ui.components.base import Answer, Asked
from ui.explore.runs import row

MOST = 36
"""How many pictures a lab paints at most."""

REFERENCE = {"sampler": "Euler", "eta": 0.0, "steps": 100}
"""What distances are measured to unless another is chosen: many small steps the straight way."""

PRESETS: tuple[Answer, ...] = (
    {
        "title": "The usual ones",
        "rows": [(name, 0.0) for name in ("Euler", "Euler a", "DPM++ 2M", "UniPC", "DDIM")],
        "steps": [5, 10, 20, 40],
    },
    {
        "title": "DDPM against DDIM",
        "rows": [("DDIM", 0.0), ("DDIM", 0.5), ("DDIM", 1.0), ("DDPM", 0.0)],
        "steps": [10, 25, 50, 100],
    },
)


def lab(worker: Worker, asked: Asked) -> Answer:
    """{"run"} -> what can be chosen for it: "samplers" (name, eta, most steps), "presets" and "reference";
    or {"problem"}."""
    try:
        run = worker.trajectories.get(str(asked.get("run", "")))
        model = worker.library.find(str(wanted(run)["model"]))
    except UnknownTrajectory as problem:
        return {"problem": str(problem)}
    except InvalidRequest as problem:
        return {"problem": str(problem)}
    offered = checks.samplers_of(model, _task(run))
    with_eta = checks.samplers_with_eta(model, _task(run))
    most = {name: spec.most_steps for name, spec in schedulers.SAMPLERS.items()}
    presets = []
    for preset in PRESETS:
        rows = [{"sampler": name, "eta": eta} for name, eta in preset["rows"] if name in offered]
        if len(rows) > 1 and (len(rows) == len(preset["rows"]) or preset is PRESETS[0]):
            presets.append({**preset, "rows": rows})
    own = {**REFERENCE, "sampler": REFERENCE["sampler"] if REFERENCE["sampler"] in offered else offered[0]}
    return {
        "run": run.id,
        "base": json.dumps(_base(run), sort_keys=True),
        "samplers": [{"name": name, "eta": name in with_eta, "most": most.get(name)} for name in offered],
        "presets": presets,
        "reference": own,
    }


def begin(worker: Worker, asked: Asked) -> Answer:
    """{"run", "rows": [{"sampler", "eta"}], "steps", "reference": {"sampler", "eta", "steps"}, "only_known"}
    -> {"cells": for each of the grid, and last for the reference: "row", "steps", "run", "job", "problem";
    "jobs": in the order in which they run}, or {"problem"}. What is neither recorded nor under way is
    submitted, unless `only_known`."""
    try:
        run = worker.trajectories.get(str(asked.get("run", "")))
        places = list(_places(asked))
        model = worker.library.find(str(wanted(run)["model"]))
    except UnknownTrajectory as problem:
        return {"problem": str(problem)}
    except InvalidRequest as problem:
        return {"problem": str(problem)}
    known, going = _known(worker, model), _going(worker, model)
    cells: dict[int, Answer] = {}
    order = sorted(range(len(places)), key=lambda at: (at != len(places) - 1, places[at]["steps"]))
    for at in order:  # the reference first, since all others are measured by it, then what is soon done
        place = places[at]
        cell: Answer = {"row": place["row"], "steps": place["steps"], "run": None, "job": None, "problem": ""}
        try:
            request = _request(run, place)
            text = _text(request, model)
            if text in known:
                cell["run"] = known[text]
            else:
                job = going.get(text)
                if job is None and asked.get("only_known") is not True:
                    job = going[text] = worker.submit(request, asker(asked))
                if job is not None:
                    cell |= {"job": job, "run": run_id(job, 0)}
        except InvalidRequest as problem:
            cell["problem"] = str(problem)
        cells[at] = cell
    asked_for = {cell["job"] for cell in cells.values() if cell["job"]}
    jobs = [job for job in worker.running() if job in asked_for]
    return {
        "cells": [cells[at] for at in range(len(places))],
        "jobs": [*jobs, *sorted(asked_for - {*jobs})],
    }


def measured(worker: Worker, asked: Asked) -> Answer:
    """{"reference": run or "", "runs"} -> {"cells": by run: "thumb", "state", "total" (evaluations of the
    model), "seconds" (of its steps, None where not measured), "psnr" (dB to the reference, None where there
    is none yet), "same" (bit for bit) and "lpips"; "lpips": why there is none, or ""}."""
    runs = asked.get("runs")
    reference = _picture(worker, asked.get("reference"))
    cells = {}
    for id in runs[: MOST + 1] if isinstance(runs, list) else ():
        try:
            run = worker.trajectories.get(str(id))
        except UnknownTrajectory:
            continue  # not begun yet, or deleted meanwhile: the page goes on without it
        picture = _picture(worker, run.id)
        told: Answer = {"psnr": None, "same": False, "lpips": None}
        if reference is not None and picture is not None:
            told |= distance(reference, picture)
        seconds = run.about.get("seconds")
        shown = row(run)
        cells[run.id] = {
            **{name: shown[name] for name in ("thumb", "state", "total")},
            "seconds": seconds if isinstance(seconds, int | float) else None,
            **told,
        }
    return {"cells": cells, "lpips": _look_apart(worker, str(asked.get("reference")), cells)}


def _look_apart(worker: Worker, reference: str, cells: dict[str, Answer]) -> str:
    """Adds LPIPS to measured cells; returns why there is none."""
    files = perceptual.weights(worker.library.folders)
    if files is None:
        return (
            "LPIPS is not shown: its weights are not on this machine. Put AlexNet's (alexnet-*.pth) and "
            "LPIPS' own (alex.pth) into models/lpips to see it."
        )
    finished = [id for id, cell in cells.items() if cell["psnr"] is not None or cell["same"]]
    try:
        told = worker.engine.call("perceptual", files, reference, finished) if finished else {}
    except (UnknownTrajectory, ValueError) as problem:
        return str(problem)
    for id, value in (told or {}).items():
        cells[id]["lpips"] = value
    return ""


def stop(worker: Worker, asked: Asked) -> Answer:
    """{"jobs"}: ends those that have not ended. What is painted so far stays."""
    jobs = asked.get("jobs")
    for job in jobs if isinstance(jobs, list) else ():
        try:
            worker.stop(str(job))
        except UnknownJob:
            continue  # forgotten long ago, so it has ended
    return {}


def _places(asked: Asked) -> Iterator[Answer]:
    """The cells of the grid row by row, then the reference. Raises `InvalidRequest`."""
    rows, steps, reference = (asked.get(name) for name in ("rows", "steps", "reference"))
    if not (isinstance(rows, list) and rows and isinstance(steps, list) and steps):
        raise InvalidRequest({"rows": "Choose at least one sampler and one number of steps."})
    if len(rows) * len(steps) > MOST:
        raise InvalidRequest(
            {
                "rows": f"{len(rows)} samplers at {len(steps)} numbers of steps are {len(rows) * len(steps)} "
                f"pictures; a lab paints at most {MOST}. Leave some out."
            }
        )
    given = [*(({**_mapping(one), "row": at}, count) for at, one in enumerate(rows) for count in steps)]
    reference = _mapping(reference)
    for one, count in (*given, ({**reference, "row": -1}, reference.get("steps"))):
        if not isinstance(count, int) or isinstance(count, bool):
            raise InvalidRequest({"steps": "Numbers of steps must be whole numbers, such as 5, 10, 20."})
        yield {"row": one["row"], "sampler": one.get("sampler"), "eta": one.get("eta", 0.0), "steps": count}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _base(run: RunInfo) -> dict[str, Any]:
    """What all cells of a run's lab share: its request, for one picture, without what the lab varies."""
    given = {name: value for name, value in run.request.items() if name != "branch"}
    whole = GenerationRequest.parse(given)
    alone = {"num_images_per_prompt": 1, "batch_count": 1, "seed": whole.seed_of(run.index)}
    if whole.subseed_strength > 0:
        alone["subseed"] = whole.subseed_of(run.index)
    varied = ("scheduler", "schedule", "eta", "num_inference_steps")
    return {name: value for name, value in {**given, **alone}.items() if name not in varied}


def _request(run: RunInfo, place: Answer) -> GenerationRequest:
    """The request of one cell. Raises `InvalidRequest`."""
    varied = {"scheduler": place["sampler"], "eta": place["eta"], "num_inference_steps": place["steps"]}
    return GenerationRequest.parse({**_base(run), **varied})


def _text(request: GenerationRequest, model: ModelSpec) -> str:
    """A request as its film tells it, to be looked up by."""
    told = families.settled(request, model).model_dump(mode="json", exclude_defaults=True)
    return json.dumps(told, sort_keys=True)


def _known(worker: Worker, model: ModelSpec) -> dict[str, str]:
    """Finished films of single pictures that the model's present weights have painted: request -> run."""
    changed = max((path.stat().st_mtime for path in model.weights if path.exists()), default=0.0)
    return {
        json.dumps(dict(run.request), sort_keys=True): run.id
        for run in reversed(worker.trajectories.list())
        if run.state == "finished"
        and run.index == 0
        and run.created > changed
        and not run.trashed
        and Path(run.picture).is_file()
    }


def _going(worker: Worker, model: ModelSpec) -> dict[str, str]:
    """Requests that wait or run -> their jobs."""
    found = {}
    for job in worker.running():
        try:
            found[_text(worker.job(job).request, model)] = job
        except UnknownJob:
            continue  # it has just ended
    return found


def _picture(worker: Worker, id: Any) -> Path | None:
    try:
        picture = worker.trajectories.get(str(id)).picture if id else ""
    except UnknownTrajectory:
        return None
    return Path(picture) if picture and Path(picture).is_file() else None


def _task(run: RunInfo) -> Task:
    return GenerationRequest.parse({**run.request, "branch": None}).task


ANSWERS: dict[str, Any] = {"lab": lab, "lab_begin": begin, "lab_measured": measured, "lab_stop": stop}
