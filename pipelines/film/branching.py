"""What a branch may change of its parent, and how it begins: the parent's first steps, taken again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.film.replay import Replay
from pipelines.film.trajectory import TrajectoryStore, UnknownTrajectory
from pipelines.latents import from_grid
from pipelines.request import GenerationRequest, InvalidRequest

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

PAINTED = 2
"""Levels of 255 beyond which a pixel counts as painted on; a brush's edge fades out below."""

NOISE_ALONE = (
    "This step begins with noise alone, in which there is nothing of a picture: what is painted can count "
    "from the next step on. Go one step further and paint there."
)

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
    "eta",
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


def renoised(store: TrajectoryStore, id: str, step: int, x0: Tensor, where: Tensor | None = None) -> Tensor:
    """The sample that step `step` begins with where its predicted picture is `x0` instead: the same noise at
    the same level.

    x0: (1, channels, h, w), as a VAE gives it. where: (1, 1, h, w), which of it counts; the recorded sample
    stays elsewhere, bit for bit. None: all of it. Raises `InvalidRequest` where the step is noise alone.
    """
    import torch

    run = store.get(id)
    tensors, facts = store.read_step(id, step)
    if not facts["alpha"]:
        raise InvalidRequest({"branch": NOISE_ALONE})
    sample, old = tensors["sample"], tensors["pred_original_sample"]
    layout, scale = run.about.get("layout", "grid"), run.about.get("scale", 1.0)
    changed = from_grid(x0.float(), old, layout, scale) - old.float()
    new = (sample.float() + facts["alpha"] * changed).to(sample.dtype)
    if where is None:
        return new
    return torch.where(from_grid(where.expand_as(x0).float(), old, layout) > 0.5, new, sample)


def where_painted(painted: np.ndarray, plain: np.ndarray, x0: Tensor) -> Tensor:
    """Which latents lie under pixels (h, w, 3) that differ, or beside one that does: (1, 1, h', w') bool."""
    import numpy as np
    import torch
    from torch.nn.functional import adaptive_max_pool2d, max_pool2d

    apart = np.abs(painted.astype(np.int16) - plain.astype(np.int16)).max(axis=2) > PAINTED
    cells = adaptive_max_pool2d(torch.from_numpy(apart)[None, None].float(), x0.shape[-2:])
    return max_pool2d(cells, 3, 1, 1) > 0  # a pixel's colour counts in the latents beside its own, too
