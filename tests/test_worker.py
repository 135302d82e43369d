"""A job ends exactly once, can be found again, stopped and followed by many; on a real engine, in process."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipelines
from pipelines.events import Cancelled, EngineState, Event, Failed, Finished, Loading, Queued, StepEvent
from pipelines.request import InvalidRequest
from pipelines.worker import GenerationFailed, UnknownJob, Worker
from tests.support.tiny import request

Terminal = Finished | Failed | Cancelled


@pytest.fixture(scope="module")
def worker(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    data = tmp_path_factory.mktemp("data")
    with pipelines.open(data, models=[tiny_models], device="cpu", dtype="float32") as worker:
        yield worker


def endings(events: list[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, Terminal)]


def test_a_job_tells_its_steps_and_ends_once(worker: Worker) -> None:
    events = list(worker.stream(request()))
    assert isinstance(events[0], Queued)
    assert len([event for event in events if isinstance(event, StepEvent)]) == 3
    assert len(endings(events)) == 1 and events[-1] is endings(events)[0]
    assert isinstance(events[-1], Finished)
    path = Path(events[-1].pictures[0].path)
    assert path.is_file() and path.name == "00001-1.png" and path.parent.parent.name == "text2image"
    assert "Steps: 3, Sampler: DPM++ 2M" in events[-1].pictures[0].parameters


def test_a_random_seed_is_chosen_before_the_run(worker: Worker) -> None:
    job = worker.submit(request(seed=-1))
    assert worker.job(job).request.seed >= 0
    ending = list(worker.follow(job))[-1]
    assert isinstance(ending, Finished) and ending.pictures[0].seed == worker.job(job).request.seed


def test_a_finished_job_is_followed_from_its_first_event(worker: Worker) -> None:
    job = worker.submit(request())
    assert list(worker.follow(job)) == list(worker.follow(job))

    async def batches() -> list[Event]:
        return [event async for batch in worker.afollow(job) for event in batch]

    assert asyncio.run(batches()) == list(worker.follow(job))


def test_two_followers_of_a_running_job_see_the_same(worker: Worker) -> None:
    job = worker.submit(request(num_inference_steps=12))

    async def watch() -> list[Event]:
        return [event async for batch in worker.afollow(job) for event in batch]

    async def both() -> list[list[Event]]:
        return await asyncio.gather(watch(), watch())

    first, second = asyncio.run(both())
    assert first == second and isinstance(first[-1], Finished)


def test_stopping_a_running_job_cancels_it_within_a_step(worker: Worker) -> None:
    job = worker.submit(request(num_inference_steps=100))
    seen = 0
    for event in worker.follow(job):
        if isinstance(event, StepEvent):
            seen += 1
            if event.step == 3:
                worker.stop(job)
    assert isinstance(event, Cancelled)
    assert seen <= 5


def test_stopping_with_keep_finishes_the_picture(worker: Worker) -> None:
    job = worker.submit(request(num_inference_steps=100))
    for event in worker.follow(job):
        if isinstance(event, StepEvent) and event.step == 2:
            worker.stop(job, keep=True)
            worker.stop(job, keep=True)  # an impatient second press takes nothing away
    assert isinstance(event, Finished) and event.stopped and Path(event.pictures[0].path).is_file()


def test_a_waiting_job_is_told_its_place_and_can_be_stopped(worker: Worker) -> None:
    first = worker.submit(request(num_inference_steps=60))
    second, third = worker.submit(request()), worker.submit(request())
    assert worker.queue_length == 3 and worker.running() == [first, second, third]
    worker.stop(second)
    worker.stop(first)
    assert isinstance(list(worker.follow(second))[-1], Cancelled)
    waited = list(worker.follow(third))
    assert waited[0] == Queued(2) and isinstance(waited[-1], Finished)
    worker.stop(third)  # long done: nothing happens
    assert worker.queue_length == 0


def test_a_stop_before_the_run_begins_is_not_lost(worker: Worker) -> None:
    job = worker.submit(request(num_inference_steps=120))
    worker.stop(job)
    assert isinstance(list(worker.follow(job))[-1], Cancelled)


def test_bad_requests_are_refused_before_they_are_accepted(worker: Worker) -> None:
    before = worker.running()
    with pytest.raises(InvalidRequest, match="no model called"):
        worker.submit(request(model="nope"))
    with pytest.raises(InvalidRequest, match="no sampler called"):
        worker.submit(request(scheduler="nope"))
    with pytest.raises(InvalidRequest, match="at most 50 steps"):
        worker.submit(request(scheduler="LCM", num_inference_steps=90))
    assert worker.running() == before
    with pytest.raises(UnknownJob):
        worker.job("nope")


def test_a_script_needs_three_lines(worker: Worker) -> None:
    finished = worker.generate(prompt="a cat", model="sd", width=64, height=64, num_inference_steps=2)
    assert Path(finished.pictures[0].path).is_file()
    with pytest.raises(InvalidRequest, match="Width must be"):
        worker.generate(prompt="a cat", width=3)


def test_an_error_in_a_run_is_told_and_the_next_run_works(
    worker: Worker, tiny_models: Path, tmp_path: Path
) -> None:
    (tmp_path / "outputs").write_text("a file where a folder should be")
    with pipelines.open(tmp_path, models=[tiny_models], device="cpu", dtype="float32") as other:
        ending = list(other.stream(request()))[-1]
        assert isinstance(ending, Failed) and "could not be" in ending.message and ending.detail
        with pytest.raises(GenerationFailed, match="could not be"):
            other.generate(prompt="a", model="sd", width=64, height=64, num_inference_steps=1)
        (tmp_path / "outputs").unlink()
        assert isinstance(list(other.stream(request()))[-1], Finished)


def test_a_device_that_is_not_there_is_told(tiny_models: Path, tmp_path: Path) -> None:
    with pipelines.open(tmp_path, models=[tiny_models], device="warp") as worker:
        ending = list(worker.stream(request()))[-1]
        assert isinstance(ending, Failed) and "There is no device 'warp'" in ending.message
        assert worker.state.fault and not worker.state.ready


def test_the_engines_state_is_watched(tiny_models: Path, tmp_path: Path) -> None:
    async def until_ready(worker: Worker) -> list[EngineState]:
        seen = []
        async for state in worker.watch():
            seen.append(state)
            if state.ready:
                break
        return seen

    with pipelines.open(tmp_path, models=[tiny_models], device="cpu") as worker:
        events = list(worker.stream(request()))
        states = asyncio.run(until_ready(worker))
    assert isinstance(events[-1], Finished) and any(isinstance(event, Loading) for event in events)
    assert states[-1].badge.startswith("CPU") and "Runs on the processor" in states[-1].device


def test_tokens_are_counted(worker: Worker) -> None:
    list(worker.stream(request()))
    count = worker.count_tokens("sd", "cat")
    assert (count.used, count.limit) == (3, 75)


def test_closing_ends_every_job(tiny_models: Path, tmp_path: Path) -> None:
    worker = pipelines.open(tmp_path, models=[tiny_models], device="cpu", dtype="float32")
    jobs = [worker.submit(request(num_inference_steps=150)) for _ in range(3)]
    worker.close()
    assert all(isinstance(list(worker.follow(job))[-1], Cancelled) for job in jobs)


def test_the_same_request_is_answered_from_the_record(worker: Worker) -> None:
    asked = request(seed=41, num_inference_steps=4)
    assert worker.recorded(asked) is None
    job = worker.submit(asked)
    assert worker.recorded(asked) is None  # not finished yet
    (*_, ending) = worker.follow(job)
    assert isinstance(ending, Finished)
    assert worker.recorded(asked) == job
    assert worker.recorded(request(seed=42, num_inference_steps=4)) is None
    Path(ending.pictures[0].path).unlink()
    assert worker.recorded(asked) is None


def test_a_random_seed_is_never_answered_from_the_record(worker: Worker) -> None:
    list(worker.stream(request(seed=-1)))
    assert worker.recorded(request(seed=-1)) is None


def test_other_weights_are_not_answered_from_the_record(tiny_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models / "sd", tmp_path / "models" / "sd")
    with pipelines.open(
        tmp_path / "data", models=[tmp_path / "models"], device="cpu", dtype="float32"
    ) as worker:
        asked = request(seed=7)
        job = worker.submit(asked)
        list(worker.follow(job))
        assert worker.recorded(asked) == job
        os.utime(next((tmp_path / "models" / "sd" / "unet").glob("*.safetensors")), (1, 1))
        assert worker.recorded(asked) is None


def test_a_kept_stop_is_not_answered_from_the_record(worker: Worker) -> None:
    asked = request(seed=43, num_inference_steps=100)
    job = worker.submit(asked)
    for event in worker.follow(job):
        if isinstance(event, StepEvent) and event.step == 2:
            worker.stop(job, keep=True)
    assert isinstance(event, Finished) and event.stopped
    assert worker.recorded(asked) is None
