"""A job taken up again from its own films: after a pause, and after the engine or the whole program died.

Pictures that were finished are found, not made again; the one in the middle takes the steps that are recorded
and goes on, bit for bit as if nothing had happened. One that was denoised to its end asks no denoiser at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.film.replay import Replay
from pipelines.film.trajectory import RunInfo, TrajectoryStore, UnknownTrajectory

if TYPE_CHECKING:
    from pipelines.events import Picture
    from pipelines.outputs import Outputs
    from pipelines.request import GenerationRequest

PICTURE = "picture.png"
"""A finished picture in its run's folder, until it is in its place among the outputs."""


def begun(store: TrajectoryStore, id: str) -> RunInfo | None:
    """The run with that id where it has been begun before."""
    try:
        return store.get(id)
    except UnknownTrajectory:
        return None


def found(store: TrajectoryStore, outputs: Outputs, id: str, request: GenerationRequest) -> Picture | None:
    """The picture that a run has finished before; brought into its place where only that was left to do."""
    run = begun(store, id)
    if run is None:
        return None
    promised = Path(run.picture) if run.picture else None
    whole = store.folder(id) / PICTURE
    if whole.is_file():
        path = outputs.bring(
            whole, request, run.index, promised, lambda path: store.change(id, picture=str(path))
        )
    elif promised is not None and promised.is_file():
        path = promised
    else:
        return None
    if not run.ended:
        store.change(id, state="finished")
    return outputs.read(path, request.seed_of(run.index))


def own(store: TrajectoryStore, id: str, request: GenerationRequest) -> Replay | None:
    """The steps that a run has taken before; None where it has none of its own."""
    run, steps, branch = begun(store, id), _whole(store, id), request.branch
    if run is None or steps <= (branch.step if branch else 0):
        return None
    return Replay(
        store,
        id,
        steps,
        steps,
        tuple(run.about.get("output_shape") or ()),
        noise_seed=branch.noise_seed if branch else None,
        noise_at=branch.step if branch else None,
        own=True,
    )


def _whole(store: TrajectoryStore, id: str) -> int:
    """How many of a run's steps can be read: a power cut may leave the last ones in place and empty."""
    for index in range(steps := store.steps(id)):
        if not store.readable(id, index):
            return index
    return steps
