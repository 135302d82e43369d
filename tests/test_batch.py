"""A batch through stops, kills and restarts: what was painted is not painted twice, what is missing is."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import pipelines
from pipelines.batch import Item
from pipelines.events import Finished
from pipelines.pictures import PictureStore
from pipelines.request import InvalidRequest
from pipelines.worker import Worker
from tests.support import tiny
from ui.image2image import follow_batch, run_batch
from ui.queue import QueueView

ROOT = Path(__file__).resolve().parent.parent
FORM = {
    "prompt": "a house",
    "model": "sd",
    "width": 64,
    "height": 64,
    "strength": 1.0,
    "num_inference_steps": 60,
    "seed": -1,
}
SHORT = {**FORM, "num_inference_steps": 2}

Open = Callable[..., Worker]
Told = list[dict[str, Any]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_all(tmp_path_factory.mktemp("models"), ("sd",))


@pytest.fixture
def begin(models: Path, tmp_path: Path) -> Open:
    return partial(pipelines.open, tmp_path / "data", models=[models], device="cpu", dtype="float32")


@pytest.fixture
def keys(tmp_path: Path) -> list[str]:
    store, kept = PictureStore(tmp_path / "data" / "inputs"), []
    for shade in (40, 120, 200):
        Image.new("RGB", (64, 64), (shade, 90, 90)).save(tmp_path / "shown.png")
        kept.append(store.put(tmp_path / "shown.png").key)
    return kept


def asked(worker: Worker, keys: list[str], form: dict[str, Any] = SHORT) -> Told:
    """All that the page is told of a batch."""

    async def told() -> Told:
        values = {**form, "tab": "image", "batch": {"keys": keys}}
        return [one async for one in run_batch(worker, values, "somebody")]

    return asyncio.run(told())


def counts(told: dict[str, Any]) -> tuple[int, int, int, int]:
    return told["done"], told["skipped"], told["failed"], told["total"]


def painted(worker: Worker) -> dict[str, int]:
    """How many pictures there are of each shown picture, as the journal and the folder of outputs agree."""
    found: dict[str, int] = {}
    entries = worker.journal.ended(100)
    for entry in entries:
        pictures = worker.journal.pictures(entry.id)
        assert all(Path(one.path).is_file() for one in pictures.values())
        found[entry.request["image"]] = found.get(entry.request["image"], 0) + len(pictures)
    assert sum(found.values()) == len(list((worker.store.root.parent / "outputs").glob("*/*/*.png")))
    return found


def items(worker: Worker, keys: list[str], **changes: Any) -> list[Item]:
    return worker.batches.items({**SHORT, **changes}, keys)


def test_each_picture_has_its_turn_once_and_in_order_and_is_skipped_the_next_time(
    begin: Open, keys: list[str]
) -> None:
    with begin() as worker:
        told = asked(worker, [*keys, keys[0]])
        jobs = told[0]["jobs"]
        assert [worker.job(job).request.image for job in jobs] == keys
        assert [worker.job(job).client for job in jobs] == ["somebody"] * 3
        assert counts(told[0]) == (0, 0, 0, 3) and counts(told[-1]) == (3, 0, 0, 3)
        assert [(one.job, one.done) for one in items(worker, keys)] == [(job, True) for job in jobs]
        assert not any(one.done for one in items(worker, keys, strength=0.5))
        [again] = asked(worker, keys)
        assert counts(again) == (0, 3, 0, 3) and again["jobs"] == []
        Path(worker.job(jobs[1]).pictures[0].path).unlink()
        assert [one.done for one in items(worker, keys)] == [True, False, True]
        assert counts(asked(worker, keys)[-1]) == (1, 2, 0, 3)
        assert [one.done for one in items(worker, keys)] == [True, True, True]


def test_bad_settings_are_told_before_anything_is_painted(begin: Open, keys: list[str]) -> None:
    with begin() as worker:
        with pytest.raises(InvalidRequest, match="Prompt must be text"):
            asked(worker, keys, {**SHORT, "prompt": 3})
        assert worker.running() == []


def test_what_the_queue_has_no_room_for_is_told_and_what_it_took_is_painted(
    begin: Open, keys: list[str]
) -> None:
    with begin(most_waiting=2) as worker:
        worker.queue.pause(True)

        async def told() -> Told:
            values = {**SHORT, "tab": "image", "batch": {"keys": keys}}
            batch = run_batch(worker, values, "somebody")
            first = await anext(batch)
            again = await anext(run_batch(worker, dict(values, batch={"keys": keys}), "somebody"))
            assert again["jobs"] == first["jobs"] and again["problem"] == first["problem"]
            with pytest.raises(InvalidRequest, match="as one visitor may have"):
                await anext(run_batch(worker, dict(values, batch={"keys": keys[2:]}), "somebody"))
            worker.queue.pause(False)
            return [first, *[one async for one in batch]]

        first, *rest = asyncio.run(told())
        assert first["problem"].startswith("1 picture was not taken in. As many of your jobs wait")
        assert [worker.job(job).request.image for job in first["jobs"]] == keys[:2]
        assert counts(rest[-1]) == (2, 0, 0, 2) and "problem" not in rest[-1]
        assert counts(asked(worker, keys)[-1]) == (1, 2, 0, 3)
        assert painted(worker) == dict.fromkeys(keys, 1)


def test_a_job_that_paints_something_else_by_now_is_no_turn_and_one_asked_for_anew_takes_it(
    begin: Open, keys: list[str]
) -> None:
    with begin() as worker:
        worker.queue.pause(True)
        jobs = [worker.submit(one.request, turn=one.turn) for one in items(worker, keys)]
        assert [one.job for one in items(worker, keys)] == jobs
        changed = worker.job(jobs[0]).request.model_copy(update={"prompt": "a boat"})
        worker.replace(jobs[0], changed)
        deed = QueueView(worker).answers()["queue_deed"]
        removed = deed({"do": "remove", "job": jobs[1]})
        assert [one.job for one in items(worker, keys)] == [None, None, jobs[2]]
        back = deed(removed["undo"])["asked"]
        assert [one.job for one in items(worker, keys)] == [None, back, jobs[2]]
        worker.queue.pause(False)
        assert counts(asked(worker, keys)[-1]) == (3, 0, 0, 3)
        assert painted(worker) == {keys[0]: 2, keys[1]: 1, keys[2]: 1}  # one of them the boat


def test_a_killed_program_leaves_a_batch_that_knows_what_is_done_and_goes_on(
    begin: Open, models: Path, keys: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.test_batch", str(tmp_path / "data"), str(models), *keys]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        told = [json.loads(line) for line in (program.stdout.readline(), program.stdout.readline())]
        os.kill(program.pid, signal.SIGKILL)  # one is painted, the next begun or about to be
    assert counts(told[1]) == (1, 0, 0, 3)
    jobs = told[0]["jobs"]
    with begin() as worker:
        before = items(worker, keys, num_inference_steps=60)
        assert [one.job for one in before] == jobs and [one.done for one in before] == [True, False, False]

        async def both() -> tuple[Told, Told]:
            """The page that comes back, and one in which the same folder is chosen once more."""

            async def returning() -> Told:
                return [one async for one in follow_batch(worker, [*jobs, "unknown"], 0)]

            async def anew() -> Told:
                values = {**FORM, "tab": "image", "batch": {"keys": keys}}
                return [one async for one in run_batch(worker, values)]

            return await asyncio.gather(returning(), anew())

        returned, again = asyncio.run(both())
        assert counts(returned[-1]) == (3, 0, 0, 3)
        assert again[0]["jobs"] == jobs[1:] and counts(again[-1]) == (2, 1, 0, 3)
        assert painted(worker) == dict.fromkeys(keys, 1)
        for job in jobs:
            (*_, ending) = worker.follow(job)
            assert isinstance(ending, Finished)
        assert all(one.done for one in items(worker, keys, num_inference_steps=60))


def program(data: str, models: str, *keys: str) -> None:
    """What is killed: a batch, and a line for each thing that its page is told."""

    async def tell(worker: Worker) -> None:
        values = {**FORM, "tab": "image", "batch": {"keys": list(keys)}}
        async for told in run_batch(worker, values):
            print(json.dumps(told), flush=True)

    with pipelines.open(data, models=[models], device="cpu", dtype="float32") as worker:
        asyncio.run(tell(worker))


if __name__ == "__main__":
    program(*sys.argv[1:])
