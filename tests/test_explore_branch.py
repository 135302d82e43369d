"""Branches over the embedded model, asked for as the page asks: exact where nothing changed."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pipelines
from pipelines.events import Failed, Finished
from pipelines.request import GenerationRequest
from pipelines.worker import Worker
from ui.explore import branch
from ui.explore.compare import compare

STEPS = 5
WHOLE = {"prompt": "a red house at night", "width": 64, "height": 64, "num_inference_steps": STEPS, "seed": 3}
INK = {"name": "storybook-ink", "weight": 0.8}
IDLE = {"name": "storybook-mosaic", "weight": 0.0}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with pipelines.open(tmp_path_factory.mktemp("data")) as worker:
        yield worker


def painted(worker: Worker, job: str) -> Finished:
    [ending] = collections.deque(worker.follow(job), maxlen=1)
    assert isinstance(ending, Finished), ending.message if isinstance(ending, Failed) else ending
    return ending


@pytest.fixture(scope="module")
def parent(worker: Worker) -> str:
    """A run with a LoRA that counts and one that does not."""
    job = worker.submit(GenerationRequest.parse({**WHOLE, "loras": [INK, IDLE]}))
    painted(worker, job)
    return f"{job}-0"


def branched(worker: Worker, asked: dict[str, Any], deed: Any = branch.branch) -> str:
    """The id of the branch that is asked for, once it is finished."""
    answer = deed(worker, {**asked, "client": "ann"})
    assert "problem" not in answer, answer
    assert worker.job(answer["job"]).client == "ann"
    painted(worker, answer["job"])
    return str(answer["run"])


def told(worker: Worker, first: str, second: str) -> dict[str, Any]:
    answer = compare(worker, {"first": first, "second": second})
    assert "problem" not in answer, answer
    return answer


@pytest.mark.parametrize("step", range(STEPS))
def test_a_branch_with_nothing_changed_differs_by_exactly_nothing(
    worker: Worker, parent: str, step: int
) -> None:
    child = branched(worker, {"run": parent, "step": step})
    whole = told(worker, parent, child)
    assert (worker.trajectories.get(child).parent, worker.trajectories.get(child).parent_step) == (
        parent,
        step,
    )
    assert (whole["parts"], whole["common"]) == (None, STEPS)
    assert [one["difference"] for one in whole["steps"]] == [0.0] * STEPS
    assert whole["picture"]["same"] and whole["picture"]["share"] == 0


def test_another_prompt_parts_at_the_step_it_was_given_at(worker: Worker, parent: str) -> None:
    changes = {"prompt": "a red house by day", "guidance_scale": 9}
    child = branched(worker, {"run": parent, "step": 3, "changes": changes})
    whole = told(worker, parent, child)
    assert whole["parts"] == 3 and [one["same"] for one in whole["steps"]] == [True] * 3 + [False] * 2
    info = worker.trajectories.get(child)
    assert (info.parent, info.parent_step, info.request["prompt"]) == (parent, 3, "a red house by day")
    again = told(worker, child, branched(worker, {"run": child, "step": 4}))
    assert again["parts"] is None


def test_leaving_out_what_does_nothing_changes_exactly_nothing(worker: Worker, parent: str) -> None:
    without = branched(worker, {"run": parent, "what": "lora", "index": 1}, branch.leave_out)
    whole = told(worker, parent, without)
    assert whole["parts"] is None and whole["picture"]["same"]
    assert len(branch.wanted(worker.trajectories.get(without))["loras"]) == 1


@pytest.mark.parametrize(("what", "index"), [("word", 1), ("lora", 0)])
def test_leaving_out_what_counts_parts_at_the_first_step(
    worker: Worker, parent: str, what: str, index: int
) -> None:
    without = branched(worker, {"run": parent, "what": what, "index": index}, branch.leave_out)
    whole = told(worker, parent, without)
    assert whole["parts"] == 0 and not whole["picture"]["same"]


def test_what_is_painted_on_the_predicted_picture_counts_from_that_step_on(
    worker: Worker, parent: str
) -> None:
    picture = branch.canvas(worker, {"run": parent, "step": 2})
    assert (picture["width"], picture["height"]) == (64, 64)
    painting = Path(worker.store.stored(picture["key"]).shown)
    assert painting.is_file()
    child = branched(worker, {"run": parent, "step": 2, "painted": picture["key"]})
    assert told(worker, parent, child)["parts"] == 2


def test_only_that_picture_of_a_batch_is_branched(worker: Worker) -> None:
    job = worker.submit(GenerationRequest.parse({**WHOLE, "num_images_per_prompt": 2}))
    painted(worker, job)
    child = branched(worker, {"run": f"{job}-1", "step": 2})
    assert branch.wanted(worker.trajectories.get(child))["seed"] == WHOLE["seed"] + 1  # type: ignore[operator]
    assert told(worker, f"{job}-1", child)["parts"] is None


def test_the_noise_that_is_left_can_be_drawn_anew(worker: Worker) -> None:
    job = worker.submit(GenerationRequest.parse({**WHOLE, "scheduler": "Euler a"}))
    painted(worker, job)
    same = branched(worker, {"run": f"{job}-0", "step": 2})
    assert told(worker, f"{job}-0", same)["parts"] is None
    other = branched(worker, {"run": f"{job}-0", "step": 2, "noise_seed": 9})
    assert told(worker, f"{job}-0", other)["parts"] == 3  # what step 3 drew enters the next one


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"run": f"{'f' * 16}-0", "step": 1}, "not there any more"),
        ({"run": "../../etc", "step": 1}, "no recorded run"),
        ({"step": 99}, "step"),
        ({"step": "x"}, "step"),
        ({"step": 1, "changes": {"prompt": ""}}, "Prompt is empty"),
        ({"step": 1, "changes": {"guidance_scale": 99}}, "between 1 and 30"),
        ({"step": 1, "changes": {"loras": [{"name": "no such"}]}}, "no such"),
    ],
)
def test_what_makes_no_branch_is_told_in_a_sentence(
    worker: Worker, parent: str, asked: dict[str, Any], sentence: str
) -> None:
    answer = branch.branch(worker, {"run": parent, **asked})
    assert sentence.lower() in answer["problem"].lower() and "job" not in answer


def test_a_run_that_is_deleted_cannot_be_branched_though_its_branches_stay(worker: Worker) -> None:
    job = worker.submit(GenerationRequest.parse(WHOLE))
    painted(worker, job)
    child = branched(worker, {"run": f"{job}-0", "step": 2})
    worker.trajectories.delete(f"{job}-0")
    assert "not there any more" in branch.branch(worker, {"run": f"{job}-0", "step": 2})["problem"]
    again = branched(worker, {"run": child, "step": 2})
    assert told(worker, child, again)["parts"] is None
    assert dataclasses.asdict(worker.trajectories.get(again))["parent"] == child
