"""What a branch may change of its parent, and how it begins: the parent's first steps, taken again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.film.replay import Replay
from pipelines.film.trajectory import TrajectoryStore, UnknownTrajectory
from pipelines.request import GenerationRequest, InvalidRequest

if TYPE_CHECKING:
    from torch import Tensor

LOCKED = (
    "model",
    "scheduler",
    "schedule",
    "num_inference_steps",
    "width",
    "height",
    "strength",
    "image",
    "vae",
    "refiner",
)
"""What defines the steps that a branch takes over."""


def check(request: GenerationRequest, store: TrajectoryStore) -> None:
    """Raises `InvalidRequest` with a sentence where the request is no branch of a run that is there."""
    branch = request.branch
    if branch is None:
        return
    try:
        run = store.get(branch.trajectory)
        there = store.steps(run.id)
    except UnknownTrajectory as problem:
        raise InvalidRequest({"branch": str(problem)}) from None
    if branch.step >= max(1, min(run.total or there, there + 1)):
        raise InvalidRequest(
            {
                "branch": f"The run has {there} recorded steps: a branch at step {branch.step + 1} has "
                "nothing to go on from. Choose an earlier step."
            }
        )
    given = {name: value for name, value in run.request.items() if name != "branch"}
    parent = GenerationRequest.parse(given)
    problems = {
        name: f"{GenerationRequest.model_fields[name].title} defines the steps before the branch and must "
        f"stay {getattr(parent, name)}."
        for name in LOCKED
        if getattr(parent, name) != getattr(request, name)
    }
    if request.pictures != 1:
        problems["num_images_per_prompt"] = (
            "A branch goes on with one picture: batch size and batches must be 1."
        )
    seed = parent.seed_of(run.index)
    if request.seed != seed:
        problems["seed"] = f"The seed drew the noise that the run began with and must stay {seed}."
    if problems:
        raise InvalidRequest(problems)


def replay_of(
    request: GenerationRequest, store: TrajectoryStore, start: Tensor | None = None
) -> Replay | None:
    """What a run of the request takes over; None where it is no branch. Raises `InvalidRequest`."""
    branch = request.branch
    if branch is None:
        return None
    check(request, store)
    run = store.get(branch.trajectory)
    shape = tuple(run.about.get("output_shape") or ())
    return Replay(store, run.id, branch.step, store.steps(run.id), shape, start, branch.noise_seed)


def renoised(store: TrajectoryStore, id: str, step: int, x0: Tensor) -> Tensor:
    """The sample that step `step` begins with where its predicted picture is `x0` instead: the same noise at
    the same level."""
    tensors, facts = store.read_step(id, step)
    sample, old = tensors["sample"].float(), tensors["pred_original_sample"].float()
    alpha = facts["alpha"]
    remains = sample - alpha * old
    return (alpha * x0.float().reshape(old.shape) + remains).to(tensors["sample"].dtype)
