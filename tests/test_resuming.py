"""A job that rested, or whose program ended, goes on to the very picture that it would have become."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pipelines
from pipelines.engine import LocalEngine
from pipelines.events import Cancelled, Event, Failed, Finished, Loading, Paused, PictureDone, StepEvent
from pipelines.film.resuming import PICTURE
from pipelines.film.trajectory import LATENTS, run_id
from pipelines.journal import JOURNAL, Journal
from pipelines.journal_file import COPY
from pipelines.request import Branch, GenerationRequest
from pipelines.worker import Worker
from tests.support import tiny
from tests.support.tiny import request
from ui.components.header import status_value
from ui.explore.runs import ANSWERS as RUNS

STEPS = 8


def files(worker: Worker) -> list[Path]:
    return sorted((worker.store.root.parent / "outputs").glob("*/*/*"))


def finished(events: list[Event]) -> list[bytes]:
    assert isinstance(events[-1], Finished), events[-1]
    return [Path(picture.path).read_bytes() for picture in events[-1].pictures]


def pixels(pictures: list[bytes]) -> list[bytes]:
    return [Image.open(io.BytesIO(picture)).tobytes() for picture in pictures]


@dataclass
class Counted:
    """How often the denoiser was asked."""

    calls: int = 0

    def watch(self, worker: Worker, model: str) -> None:
        assert isinstance(worker.engine, LocalEngine)
        unet = worker.engine._manager.load(model).pipeline.unet
        ask = unet.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return ask(*args, **kwargs)

        unet.__dict__["forward"] = forward


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Worker, Counted]]:
    with pipelines.open(tmp_path_factory.mktemp("data"), device="cpu", dtype="float32") as worker:
        list(worker.stream(GenerationRequest(prompt="a boat", width=64, height=64, num_inference_steps=1)))
        counted = Counted()
        counted.watch(worker, "starter")
        yield worker, counted


def storybook(worker: Worker, task: str, folder: Path) -> GenerationRequest:
    """A request of a task on the embedded model."""
    values: dict[str, Any] = {
        "prompt": "a red house in the snow at night",
        "num_inference_steps": STEPS,
        "seed": 11,
        "width": 128,
        "height": 128,
        "scheduler": "DPM++ 2M SDE",  # looks back, and draws noise in every step
    }
    if task in ("image2image", "inpaint"):
        Image.linear_gradient("L").convert("RGB").resize((128, 128)).save(folder / "image.png")
        values |= {"image": worker.store.put(folder / "image.png").key, "strength": 1.0}
    if task == "inpaint":
        mask = np.zeros((128, 128), np.uint8)
        mask[30:90, 30:90] = 255
        Image.fromarray(mask).save(folder / "mask.png")
        values["mask_image"] = worker.store.put(folder / "mask.png").key
    if task == "batch":
        values["num_images_per_prompt"] = 2
    return GenerationRequest(**values)


def paused_at(worker: Worker, job: str, picture: int, step: int) -> list[Event]:
    """A job's events until it rests."""
    seen = []
    for event in worker.follow(job):
        seen.append(event)
        if isinstance(event, StepEvent) and (event.picture, event.step) == (picture, step):
            worker.pause(job)
        if isinstance(event, Paused | Finished | Failed | Cancelled):
            break
    return seen


@pytest.mark.parametrize("task", ["text2image", "image2image", "inpaint", "batch"])
def test_a_paused_job_goes_on_to_the_same_picture(
    starter: tuple[Worker, Counted], tmp_path: Path, task: str
) -> None:
    worker, counted = starter
    wanted = storybook(worker, task, tmp_path)
    calm = finished(list(worker.stream(wanted)))
    before, counted.calls = len(files(worker)), 0
    job = worker.submit(wanted)
    seen = paused_at(worker, job, wanted.pictures - 1, 3)
    assert isinstance(seen[-1], Paused) and seen[-1].step in (3, 4) and seen[-1].total == STEPS
    assert worker.job(job).state == "paused" and worker.running() == [job] and worker.queue_length == 0
    assert len(files(worker)) == before + wanted.pictures - 1  # what was finished stays
    worker.resume(job)
    events = list(worker.follow(job))
    assert finished(events) == calm
    assert len(files(worker)) == before + wanted.pictures
    assert counted.calls == STEPS * wanted.pictures  # not one step was taken twice
    steps = [(event.picture, event.step) for event in events if isinstance(event, StepEvent)]
    assert steps == [(p, step) for p in range(wanted.pictures) for step in range(1, STEPS + 1)]


def test_the_next_job_runs_while_one_rests_and_a_paused_one_can_be_branched_and_stopped(
    starter: tuple[Worker, Counted], tmp_path: Path
) -> None:
    worker, _ = starter
    wanted = storybook(worker, "text2image", tmp_path)
    job = worker.submit(wanted)
    paused_at(worker, job, 0, 3)
    run = worker.trajectories.get(run_id(job, 0))
    assert run.state == "paused" and worker.trajectories.steps(run.id) >= 3
    branch = wanted.model_copy(update={"branch": Branch(trajectory=run.id, step=2)})
    calm = finished(list(worker.stream(branch)))
    worker.stop(job, keep=True)  # goes on for as long as it takes to keep what was seen
    kept = list(worker.follow(job))[-1]
    assert isinstance(kept, Finished) and kept.stopped
    assert f"Stopped at step: {worker.trajectories.steps(run.id)}" in kept.pictures[0].parameters
    other = worker.submit(wanted)
    paused_at(worker, other, 0, 3)
    worker.stop(other)
    assert isinstance(list(worker.follow(other))[-1], Cancelled)
    assert worker.trajectories.get(run_id(other, 0)).state == "stopped"
    whole = finished(list(worker.stream(wanted)))
    assert pixels(whole) == pixels(calm)  # their texts differ: one names what it branched off


def test_a_waiting_job_rests_at_once_and_keeps_its_place(
    starter: tuple[Worker, Counted], tmp_path: Path
) -> None:
    worker, _ = starter
    wanted = storybook(worker, "text2image", tmp_path)
    first = worker.submit(wanted.model_copy(update={"num_inference_steps": 40}))
    second, third = worker.submit(wanted), worker.submit(wanted)
    worker.pause(second)
    assert worker.job(second).events[-1] == Paused(0, 0) and worker.running() == [first, second, third]
    worker.resume(second)
    assert worker.running() == [first, second, third]
    for job in (first, second, third):
        worker.stop(job)


# ------------------------------------------------------------------ after the program's end


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_all(tmp_path_factory.mktemp("models"), ("sd",))


Open = Callable[..., Worker]


@pytest.fixture
def begin(models: Path) -> Open:
    def begin(data: Path, **options: Any) -> Worker:
        return pipelines.open(data, **{"models": [models], "device": "cpu", "dtype": "float32", **options})

    return begin


@dataclass
class Left:
    """What a program left in `data` when it ended over `job`, which would have become `calm`."""

    data: Path
    job: str
    calm: list[bytes]
    film: Path


@pytest.fixture
def left(begin: Open, tmp_path: Path) -> Left:
    """A whole run, its job again in the state that it had while it ran."""
    with begin(tmp_path / "data") as worker:
        job = worker.submit(request(num_inference_steps=STEPS))
        calm = finished(list(worker.follow(job)))
    book = Journal(tmp_path / "data" / JOURNAL)
    book.change(job, state="running", seconds=0.0)
    with book._database:
        book._database.execute("DELETE FROM pictures")
    book.close()
    return Left(tmp_path / "data", job, calm, tmp_path / "data/trajectories" / run_id(job, 0))


def unpainted(left: Left, steps: int) -> None:
    """Takes away what came after so many steps."""
    for file in sorted((left.film / "steps").iterdir())[steps:]:
        file.unlink()
    if steps < STEPS:
        (left.film / LATENTS).unlink()
    description = (left.film / "run.json").read_text()
    (left.film / "run.json").write_text(description.replace('"state": "finished"', '"state": "running"'))
    for file in (left.data / "outputs").glob("*/*/*"):
        file.unlink()


def gone_on(worker: Worker, left: Left) -> tuple[list[bytes], int]:
    """The pictures that the job becomes, and of how many steps its film is."""
    pictures = finished(list(worker.follow(left.job)))
    assert worker.book.entry(worker.job(left.job)).deaths == 1 and len(files(worker)) == 1
    assert not list(left.film.rglob("*.part"))
    return pictures, worker.trajectories.steps(run_id(left.job, 0))


@pytest.mark.parametrize("steps", [0, 1, 5, STEPS])
def test_a_run_goes_on_from_wherever_its_program_ended(begin: Open, left: Left, steps: int) -> None:
    unpainted(left, steps)
    (left.film / "steps" / ".00001.safetensors.0a.part").write_bytes(b"half")
    with begin(left.data) as worker:
        assert gone_on(worker, left) == (left.calm, STEPS)
        assert worker.trajectories.get(run_id(left.job, 0)).state == "finished"


def test_steps_that_a_power_cut_left_empty_are_taken_again(begin: Open, left: Left) -> None:
    unpainted(left, 5)
    for step, size in ((2, 500), (3, 0), (4, 0)):
        os.truncate(left.film / "steps" / f"{step:05d}.safetensors", size)
    with begin(left.data) as worker:
        assert gone_on(worker, left) == (left.calm, STEPS)


def test_a_picture_that_only_had_to_be_moved_is_not_made_again(begin: Open, left: Left) -> None:
    [picture] = (left.data / "outputs").glob("*/*/*")
    shutil.move(picture, left.film / PICTURE)
    for file in (left.film / "steps").iterdir():
        file.unlink()  # nothing to paint it from
    with begin(left.data) as worker:
        assert gone_on(worker, left)[0] == left.calm
    assert not (left.film / PICTURE).exists()


def test_a_picture_that_was_in_place_before_it_was_told_is_found(begin: Open, left: Left) -> None:
    [picture] = (left.data / "outputs").glob("*/*/*")
    written = picture.stat().st_mtime_ns
    with begin(left.data) as worker:
        assert gone_on(worker, left)[0] == left.calm
        told = [event for event in worker.job(left.job).events if isinstance(event, PictureDone)]
        assert [event.picture.path for event in told] == [str(picture)]
    assert picture.stat().st_mtime_ns == written


def test_who_comes_back_finds_ended_jobs_and_is_answered_from_the_record(begin: Open, tmp_path: Path) -> None:
    with begin(tmp_path) as worker:
        job = worker.submit(request(), "somebody")
        told = list(worker.follow(job))
        stopped = worker.submit(request(num_inference_steps=150))
        worker.stop(stopped)
        list(worker.follow(stopped))
    with begin(tmp_path) as worker:
        again = worker.job(job)
        assert again.done and again.client == "somebody" and again.request == request()
        first, last = again.pictures[0], told[-1]
        assert isinstance(last, Finished) and isinstance(again.events[-1], Finished)
        assert (first.path, first.parameters) == (last.pictures[0].path, last.pictures[0].parameters)
        assert first.preview.startswith(b"\xff\xd8") and worker.running() == []
        assert isinstance(worker.job(stopped).events[-1], Cancelled)
        assert worker.recorded(request()) == job


def test_a_closed_program_leaves_its_queue_to_the_next(begin: Open, tmp_path: Path) -> None:
    with begin(tmp_path) as worker:
        jobs = [worker.submit(request(num_inference_steps=40, seed=seed)) for seed in (1, 2)]
        for event in worker.follow(jobs[0]):
            if isinstance(event, StepEvent) and event.step == 2:
                break
    with begin(tmp_path) as worker:
        assert worker.running() == jobs
        pictures = [finished(list(worker.follow(job))) for job in jobs]
        assert [worker.book.entry(worker.job(job)).deaths for job in jobs] == [0, 0]
        calm = [finished(list(worker.stream(request(num_inference_steps=40, seed=seed)))) for seed in (1, 2)]
    assert pictures == calm


def test_a_model_that_is_gone_is_told_and_the_queue_goes_on(begin: Open, left: Left, tmp_path: Path) -> None:
    unpainted(left, 3)
    with begin(left.data, models=[tmp_path / "none"]) as worker:
        ending = list(worker.follow(left.job))[-1]
        assert isinstance(ending, Failed) and "no model called" in ending.message
        assert worker.job(left.job).state == "failed"
        assert isinstance(list(worker.stream(request(model="starter", num_inference_steps=1)))[-1], Finished)


def test_an_engine_that_cannot_work_leaves_the_queue_for_the_next_start(begin: Open, left: Left) -> None:
    unpainted(left, 3)
    with begin(left.data, device="warp") as worker:
        for event in worker.follow(left.job):
            if isinstance(event, Loading) and "kept for the next start" in event.message:
                break
        assert "There is no device 'warp'" in event.message
        assert isinstance(list(worker.stream(request()))[-1], Failed)  # what is asked for now is told at once
    with begin(left.data) as worker:
        assert gone_on(worker, left)[0] == left.calm


def test_other_weights_begin_the_run_anew(begin: Open, left: Left, models: Path, tmp_path: Path) -> None:
    unpainted(left, 5)
    for file in (left.film / "steps").iterdir():
        file.write_bytes(b"what another model painted")
    shutil.copytree(models / "sd", tmp_path / "changed" / "sd")
    os.utime(next((tmp_path / "changed/sd/unet").glob("*.safetensors")), (1, 1))
    with begin(left.data, models=[tmp_path / "changed"]) as worker:
        assert gone_on(worker, left)[0] == left.calm


def test_a_job_over_which_the_whole_program_ended_twice_is_set_aside(begin: Open, left: Left) -> None:
    unpainted(left, 3)
    book = Journal(left.data / JOURNAL)
    book.change(left.job, deaths=1)
    book.close()
    with begin(left.data) as worker:
        [ending] = [event for event in worker.follow(left.job) if isinstance(event, Failed)]
        assert "set aside" in ending.message and worker.job(left.job).state == "set_aside"
        assert worker.trajectories.get(run_id(left.job, 0)).state == "failed"
    with begin(left.data) as worker:
        assert worker.running() == [] and worker.job(left.job).done


def test_a_page_is_told_what_was_lost_with_a_damaged_journal(begin: Open, left: Left) -> None:
    for damaged in (left.data / JOURNAL, left.data / COPY):
        damaged.write_bytes(os.urandom(5000))
    with begin(left.data) as worker:
        assert "there was no good copy" in worker.state.note
        assert status_value(worker.state, 0)["note"] == worker.state.note
        assert isinstance(list(worker.stream(request()))[-1], Finished)


def test_films_are_kept_within_their_budget_while_the_program_is_open(begin: Open, tmp_path: Path) -> None:
    with begin(tmp_path) as worker:
        first = worker.submit(request())
        list(worker.follow(first))
        size = worker.trajectories.bytes(run_id(first, 0))
    with begin(tmp_path, film_bytes=int(2.5 * size)) as worker:
        jobs = [worker.submit(request(seed=seed)) for seed in (2, 3, 4)]
        list(worker.follow(jobs[-1]))
    assert [run.job for run in worker.trajectories.list()] == [jobs[2], jobs[1]]


def test_without_films_the_film_goes_with_its_job(begin: Open, left: Left) -> None:
    unpainted(left, 3)
    with begin(left.data, films=False) as worker:
        assert finished(list(worker.follow(left.job))) == left.calm
        job = worker.submit(request(num_inference_steps=40))
        for event in worker.follow(job):
            if isinstance(event, StepEvent) and event.step == 2:
                assert worker.trajectories.exists(run_id(job, 0))
                worker.pause(job)
            if isinstance(event, Paused):
                break
        assert worker.trajectories.steps(run_id(job, 0)) >= 2
        worker.stop(job)
        assert worker.trajectories.list() == []
        assert RUNS["runs"](worker, {}) == {"runs": [], "films": False}
