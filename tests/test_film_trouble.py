"""Films in trouble: a disk that fills up in mid-run, steps that were cut, a run that is gone when needed."""

from __future__ import annotations

import collections
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pipelines
from pipelines.events import Failed, Finished
from pipelines.film.archive import pack
from pipelines.film.compare import parts_at
from pipelines.film.trajectory import STEPS, UnknownTrajectory, step_name
from pipelines.request import GenerationRequest
from pipelines.worker import Worker
from ui.explore import branch

ASKED = {"prompt": "a red house at night", "width": 64, "height": 64, "num_inference_steps": 5, "seed": 3}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with pipelines.open(tmp_path_factory.mktemp("data")) as worker:
        yield worker


def ended(worker: Worker, job: str) -> Finished | Failed:
    [ending] = collections.deque(worker.follow(job), maxlen=1)
    assert isinstance(ending, Finished | Failed)
    return ending


def painted(worker: Worker) -> tuple[str, Finished]:
    job = worker.submit(GenerationRequest.parse(ASKED))
    ending = ended(worker, job)
    assert isinstance(ending, Finished), ending
    return f"{job}-0", ending


def pixels(ending: Finished) -> str:
    return hashlib.sha256(Path(ending.pictures[0].path).read_bytes()).hexdigest()


@pytest.mark.parametrize("full_at", [0, 2, 4])
def test_a_disk_that_fills_up_ends_the_film_and_not_the_picture(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, full_at: int
) -> None:
    _, undisturbed = painted(worker)
    write = Path.write_bytes

    def full(path: Path, data: Any) -> int:
        if path.parent.name == STEPS and path.name.startswith(f".{step_name(full_at)}"):
            write(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    run, ending = painted(worker)
    monkeypatch.undo()
    assert pixels(ending) == pixels(undisturbed)
    told = worker.trajectories.get(run)
    assert "not whole" in told.note and "No space left on device" in told.note and told.state == "finished"
    assert Path(told.picture).is_file()
    # What there is of it is whole, and can be gone on with.
    assert worker.trajectories.steps(run) == full_at
    assert not list(worker.trajectories.folder(run).rglob(".*"))
    if full_at:
        child = branch.branch(worker, {"run": run, "step": full_at - 1})
        assert isinstance(ended(worker, child["job"]), Finished)
        assert parts_at(worker.trajectories, run, child["run"]) is None
    beyond = branch.branch(worker, {"run": run, "step": full_at + 1})
    assert f"has {full_at} recorded steps" in beyond["problem"]


def test_a_step_that_was_cut_is_told_and_those_before_it_go_on(worker: Worker, tmp_path: Path) -> None:
    run, _ = painted(worker)
    step = worker.trajectories.folder(run) / STEPS / step_name(2)
    step.write_bytes(step.read_bytes()[:-100])
    with pytest.raises(UnknownTrajectory, match=r"Step 3 .* cut"):
        worker.engine.call("film", run)
    late = ended(worker, branch.branch(worker, {"run": run, "step": 4})["job"])
    assert isinstance(late, Failed) and "Step 3" in late.message and "earlier step" in late.message
    early = branch.branch(worker, {"run": run, "step": 1, "changes": {"prompt": "a boat"}})
    assert isinstance(ended(worker, early["job"]), Finished)
    assert worker.trajectories.steps(early["run"]) == 5
    with (tmp_path / "x.zip").open("wb") as file, pytest.raises(UnknownTrajectory, match="is cut"):
        pack(worker.trajectories, worker.store, run, file)


def test_a_run_that_is_deleted_while_its_branch_waits_is_told(worker: Worker) -> None:
    run, _ = painted(worker)
    request = branch.request_of(worker.trajectories.get(run), 2, {}, {})
    job = worker.submit(GenerationRequest.parse({**ASKED, "num_inference_steps": 40}))
    waiting = worker.submit(request)
    worker.trajectories.delete(run)
    assert isinstance(ended(worker, job), Finished)
    failed = ended(worker, waiting)
    assert isinstance(failed, Failed) and "not there any more" in failed.message
