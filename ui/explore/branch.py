"""A branch: a recorded run gone on with differently from one of its steps on."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from pipelines import checks, families
from pipelines.film.trajectory import RunInfo, UnknownTrajectory, run_id
from pipelines.film.tree import wanted
from pipelines.film.without import left_out, words
from pipelines.library.addons import misfit
from pipelines.request import SEED_LIMIT, ControlUnit, GenerationRequest, InvalidRequest, LoraWeight
from pipelines.turn import CannotLook
from pipelines.worker import Worker
from ui import store
from ui.client import asker
from ui.components.base import Answer, Asked
from ui.components.units import described

CHANGED = (
    "prompt",
    "negative_prompt",
    "guidance_scale",
    "guidance_points",
    "loras",
    "controls",
    "mask_image",
)
"""Fields of a request that a branch may change."""

MORE = ("noise_seed", "painted", "painted_on")
"""Fields of the branch itself that may be given."""

NOT_UP = "The engine is still starting: try it again as soon as it is up."

FIRST_STEPS = "The steps before were taken with it."
LOCKED = (
    ("model", "Model", "The steps before were taken by it, in its own latents."),
    ("scheduler", "Sampler", FIRST_STEPS),
    ("schedule", "Schedule", "It spaced the noise levels of the steps before."),
    ("num_inference_steps", "Steps", "They space the noise levels of the steps before."),
    ("size", "Size", "The latents have it."),
    ("strength", "Strength", "It says at which noise level the run began."),
    ("eta", "Eta", "The steps before drew their noise by it."),
    (
        "seed",
        "Seed",
        "It drew the noise that the run began with. What a sampler still draws can be drawn anew.",
    ),
)
"""What stays as it is in a branch, and why."""


def branching(worker: Worker, asked: Asked) -> Answer:
    """{"run"} -> what a branch of it begins with: "values" of `CHANGED`, "fields" (how they are drawn),
    "words" of the prompt, "locked", "loras" that could be added, what is called what; or {"problem"}."""
    try:
        run = worker.trajectories.get(str(asked.get("run", "")))
    except UnknownTrajectory as problem:
        return {"problem": str(problem)}
    values = wanted(run)
    image, mask = (store.picture_of(worker.store, values.get(name)) for name in ("image", "mask_image"))
    titles = _titles(worker, run)
    return {
        "run": run.id,
        "values": {name: values.get(name) for name in CHANGED},
        "words": [list(place) for place in words(str(values.get("prompt", "")))],
        "fields": {
            "guidance_scale": described("guidance_scale", GenerationRequest.model_fields["guidance_scale"]),
            "guidance_points": _takes_curve(worker, run),
            "lora": described("weight", LoraWeight.model_fields["weight"]),
            "control": described(
                "controlnet_conditioning_scale", ControlUnit.model_fields["controlnet_conditioning_scale"]
            ),
        },
        "titles": titles,
        "loras": _loras(worker, run),
        "locked": [
            {"title": name, "value": told, "why": why}
            for key, name, why in LOCKED
            if (told := _value(run, values, key))
        ],
        "image": image if mask else None,
        "mask": mask,
        "seed": secrets.randbelow(SEED_LIMIT + 1),
    }


def branch(worker: Worker, asked: Asked) -> Answer:
    """Goes on from a step of a run: {"run", "step", "changes": fields of `CHANGED`, and those of `MORE`} ->
    {"job", "run": the branch's id}, or {"problem"} and {"problems"} by field."""
    try:
        run = worker.trajectories.get(str(asked.get("run", "")))
        given = asked.get("changes")
        changes = {name: given[name] for name in CHANGED if isinstance(given, Mapping) and name in given}
        more = {name: asked[name] for name in MORE if asked.get(name) is not None}
        return _submitted(worker, asked, run, asked.get("step"), changes, more)
    except UnknownTrajectory as problem:
        return {"problem": str(problem)}


def leave_out(worker: Worker, asked: Asked) -> Answer:
    """Goes on with a run without one thing: {"run", "what": "word", "lora" or "control", "index"} -> as
    `branch`."""
    try:
        run = worker.trajectories.get(str(asked.get("run", "")))
        changes, step = left_out(wanted(run), str(asked.get("what")), int(asked.get("index", -1)), run.total)
        return {"step": step, **_submitted(worker, asked, run, step, changes, {})}
    except UnknownTrajectory as problem:
        return {"problem": str(problem)}
    except (IndexError, KeyError, TypeError, ValueError):
        return {"problem": "There is no such thing in this run's request to leave out."}


def request_of(
    run: RunInfo, step: Any, changes: Mapping[str, Any], more: Mapping[str, Any]
) -> GenerationRequest:
    """The request of a branch: the run's own picture alone, with what changes. Raises `InvalidRequest`."""
    given = {name: value for name, value in run.request.items() if name != "branch"}
    whole = GenerationRequest.parse(given)
    alone = {"num_images_per_prompt": 1, "batch_count": 1, "seed": whole.seed_of(run.index)}
    if whole.subseed_strength > 0:
        alone["subseed"] = whole.subseed_of(run.index)
    return GenerationRequest.parse(
        {**given, **alone, **changes, "branch": {"trajectory": run.id, "step": step, **more}}
    )


def _submitted(
    worker: Worker, asked: Asked, run: RunInfo, step: Any, changes: Mapping[str, Any], more: Mapping[str, Any]
) -> Answer:
    try:
        request = request_of(run, step, changes, more)
        empty = checks.wordless(request.prompt, worker.library.find(request.model))
        if empty:
            raise InvalidRequest(empty)
        job = worker.submit(request, asker(asked))
    except InvalidRequest as problem:
        return {"problem": str(problem), "problems": problem.problems}
    return {"job": job, "run": run_id(job, 0)}


def canvas(worker: Worker, asked: Asked) -> Answer:
    """The picture that a step predicts, to be painted on: {"run", "step"} -> the stored picture or
    {"problem"}."""
    try:
        decoded = worker.engine.call("decode", str(asked.get("run", "")), asked.get("step"), "x0")
    except (UnknownTrajectory, CannotLook, InvalidRequest) as problem:
        return {"problem": str(problem)}
    if decoded is None:
        return {"problem": NOT_UP}
    return store.shown(worker.store.put(decoded))


def keep(worker: Worker, asked: Asked) -> Answer:
    """What was painted, taken into the store: {"path"} of an upload -> the picture or {"problem"}."""
    return store.keep(worker.store, asked)


def _titles(worker: Worker, run: RunInfo) -> dict[str, str]:
    """What the run's LoRAs and ControlNets are called, by their keys."""
    values = wanted(run)
    found = {}
    for spec in worker.library.addons("lora"):
        found[spec.key] = spec.title
    for one in values.get("controls") or ():
        try:
            found[one["model"]] = worker.controls.find(one["model"]).title
        except InvalidRequest:
            found[one["model"]] = one["model"]  # no longer there: submitting says so
    return found


def _loras(worker: Worker, run: RunInfo) -> list[Answer]:
    try:
        model = worker.library.find(run.model or str(wanted(run).get("model")))
    except InvalidRequest:
        return []
    fit = [spec for spec in worker.library.addons("lora") if not misfit(spec, model)]
    rows = [{"key": spec.key, "title": spec.title, "weight": spec.default_weight} for spec in fit]
    return sorted(rows, key=lambda row: str(row["title"]).lower())


def _takes_curve(worker: Worker, run: RunInfo) -> bool:
    """Whether guidance may change over the steps with the run's model."""
    try:
        model = worker.library.find(run.model or str(wanted(run).get("model")))
    except InvalidRequest:
        return False
    return "guidance_points" in families.fields_of(model)


def _value(run: RunInfo, values: Mapping[str, Any], key: str) -> str:
    """A locked setting in words; empty where the run has none."""
    if key == "model":
        return run.model_title or str(values.get("model", ""))
    if key == "size":
        return f"{values['width']} × {values['height']}"
    if key == "strength":
        return f"{values['strength']:g}" if values.get("image") else ""
    if key == "schedule" and values[key] == "Automatic":
        return ""
    if key == "eta":
        return f"{values['eta']:g}" if values["eta"] else ""
    return str(values.get(key, ""))


ANSWERS: dict[str, Any] = {
    "branching": branching,
    "branch": branch,
    "leave_out": leave_out,
    "canvas": canvas,
    "keep_painted": keep,
}
