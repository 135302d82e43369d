"""The queue of a real worker and what the view answers of it: order, changes by hand, errors, a restart."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI
from starlette.responses import Response
from starlette.testclient import TestClient

import pipelines
from pipelines.budget.forecast import Forecast
from pipelines.events import Cancelled, Failed, Finished
from pipelines.line import LATER, NEXT
from pipelines.pace import Pace
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.worker import Worker
from tests.support.served import asked_of_page
from tests.support.tiny import request
from ui import queue as view_routes
from ui.app import build
from ui.client import client_of
from ui.explore import lessons
from ui.queue import QueueView

LONG = 60


@contextmanager
def opened(data: Path, models: Path, **options: Any) -> Iterator[Worker]:
    with pipelines.open(data, models=[models], device="cpu", dtype="float32", **options) as worker:
        yield worker


@pytest.fixture
def worker(tmp_path: Path, tiny_models: Path) -> Iterator[Worker]:
    """A worker whose queue is paused: what is asked for waits until the test lets it go on."""
    with opened(tmp_path / "data", tiny_models) as worker:
        worker.queue.pause(True)
        yield worker


def asked(worker: Worker, *names: str) -> list[str]:
    """Jobs that wait, by their prompts; the first letter is the client."""
    return [worker.submit(request(prompt=name, seed=3), name[0]) for name in names]


def prompts(worker: Worker) -> list[str]:
    return [worker.job(job).request.prompt for job in worker.queue.order()]


def run_all(worker: Worker, jobs: list[str]) -> list[str]:
    """Lets the queue go on to its end; the prompts in the order in which they were begun."""
    worker.queue.pause(False)
    for job in jobs:
        assert isinstance(list(worker.follow(job))[-1], Finished | Cancelled)
    entries = [worker.journal.entry(job) for job in jobs]
    begun = sorted((entry for entry in entries if entry and entry.started), key=lambda entry: entry.started)
    return [entry.request["prompt"] for entry in begun]


def row(answer: dict[str, Any], job: str) -> dict[str, Any]:
    return next(one for one in answer["rows"] if one["job"] == job)


def test_order_priority_pauses_and_the_paused_queue_itself_survive_a_restart(
    tmp_path: Path, tiny_models: Path
) -> None:
    data = tmp_path / "data"
    with opened(data, tiny_models) as worker:
        worker.queue.pause(True)
        jobs = asked(worker, "a1", "a2", "a3", "b1", "b2", "a4")
        assert prompts(worker) == ["a1", "b1", "a2", "b2", "a3", "a4"]
        worker.queue.move(jobs[5], before=jobs[0])
        worker.queue.prioritise(jobs[2], NEXT)
        worker.queue.prioritise(jobs[0], LATER)
        worker.pause(jobs[1])
        order = ["a3", "a4", "b1", "a2", "b2", "a1"]
        assert prompts(worker) == order
    with opened(data, tiny_models) as worker:
        assert worker.queue.paused and prompts(worker) == order
        assert [place.held for place in worker.queue.places()] == [one == "a2" for one in order]
        assert worker.running() == worker.queue.order() and worker.queue_length == 5
        (late,) = asked(worker, "b3")
        assert prompts(worker) == ["a3", "a4", "b1", "a2", "b2", "b3", "a1"]
        worker.resume(jobs[1])
        assert run_all(worker, [*jobs, late]) == ["a3", "a4", "b1", "a2", "b2", "b3", "a1"]


def test_a_waiting_job_is_changed_in_its_place_and_one_that_has_begun_is_not(worker: Worker) -> None:
    jobs = asked(worker, "a1", "a2", "a3")
    worker.pause(jobs[1])
    assert worker.replace(jobs[1], request(prompt="a2 with snow", seed=-1)) == jobs[1]
    assert prompts(worker) == ["a1", "a2 with snow", "a3"] and worker.job(jobs[1]).request.seed >= 0
    assert worker.job(jobs[1]).state == "waiting"
    with pytest.raises(InvalidRequest):
        worker.replace(jobs[0], request(model="nope"))
    assert run_all(worker, jobs) == ["a1", "a2 with snow", "a3"]
    with pytest.raises(InvalidRequest, match="has begun or was taken out"):
        worker.replace(jobs[0], request())
    with pytest.raises(InvalidRequest, match="has begun or was taken out"):
        worker.replace("nope", request())
    entry = worker.journal.entry(jobs[1])
    assert entry is not None and entry.request["prompt"] == "a2 with snow"


def test_places_are_told_to_those_that_run_soon_and_not_to_all(worker: Worker) -> None:
    jobs = asked(worker, *(f"a{number:02}" for number in range(40)))
    for job in jobs[1:]:
        worker.stop(job)
    events = sum(len(worker.job(job).events) for job in jobs[1:])
    assert events <= 2 * len(jobs)  # accepted, stopped: not one for each that went before
    assert run_all(worker, jobs[:1]) == ["a00"]


def test_the_view_tells_who_runs_waits_and_rests_and_a_hand_changes_it(worker: Worker) -> None:
    view = QueueView(worker)
    first, second, third = asked(worker, "a1", "b1", "a2")

    def does(deed: str, job: str = "", **more: Any) -> dict[str, Any]:
        return view.answer_deed({"do": deed, "job": job, **more})

    answer = view.answer_queue({})
    assert [one["prompt"] for one in answer["rows"]] == ["a1", "b1", "a2"]
    assert answer["now"]["paused"] and answer["now"]["length"] == 3 and answer["now"]["running"] is None
    assert row(answer, first)["tab"] == "text" and row(answer, first)["client"] == "a"
    moved = does("move", third, before=first)
    assert moved["said"] == "Place 1 of 3." and [one["job"] for one in moved["rows"]] == [
        third,
        first,
        second,
    ]
    assert moved["edition"] != answer["edition"]
    assert does("last", third)["said"] == "Place 3 of 3."
    assert row(does("next", second), second)["priority"] == NEXT
    assert row(does("later", second), second)["priority"] == LATER
    assert row(does("hold", first), first)["state"] == "paused"
    assert view.answer_queue({})["held"] == 1
    assert row(does("go on", first), first)["state"] == "waiting"
    gone = does("remove", third)
    assert third not in [one["job"] for one in gone["rows"]] and gone["undo"]["before"] == second
    back = view.answer_deed(gone["undo"])
    assert prompts(worker) == ["a1", "a2", "b1"] and back["asked"] != third
    twice = does("duplicate", first)["asked"]
    assert worker.job(twice).request == worker.job(first).request
    assert len(view.answer_queue({"most": 2})["rows"]) == 2 and view.answer_queue({"most": 2})["waiting"] == 4
    assert does("go on queue")["now"]["paused"] is False
    assert isinstance(list(worker.follow(second))[-1], Finished)  # the last: it runs when nothing else waits
    assert view.answer_queue({})["rows"] == []
    assert view.thumbnail(first) and view.thumbnail("nope") is None
    assert does("pause queue")["now"]["paused"] is True


def test_one_client_may_have_so_many_waiting_and_what_was_accepted_stays(
    tmp_path: Path, tiny_models: Path
) -> None:
    data = tmp_path / "data"
    with opened(data, tiny_models, most_waiting=2) as worker:
        worker.queue.pause(True)
        jobs = asked(worker, "a1", "a2")
        worker.pause(jobs[0])  # one that rests waits too
        own = r"as one visitor may have \(2\): ask again when some are painted"
        with pytest.raises(InvalidRequest, match=own):
            asked(worker, "a3")
        told = QueueView(worker).answer_deed({"do": "duplicate", "job": jobs[0], "client": "a"})
        assert re.search(own, told["problem"]) and len(told["rows"]) == 2
        worker.replace(jobs[1], request(prompt="a2 with snow"))  # in its place, so not one more
        jobs += asked(worker, "b1", "b2", "c1", "c2")
        with pytest.raises(InvalidRequest, match=r"The queue is full \(6 jobs of all visitors\)"):
            asked(worker, "d1")
        worker.stop(jobs[2])
        jobs[2:3] = asked(worker, "b3")
        assert len(worker.running()) == 6
    with opened(data, tiny_models, most_waiting=1) as worker:
        assert len(worker.running()) == 6
        with pytest.raises(InvalidRequest):
            asked(worker, "d1")
        worker.resume(jobs[0])
        order = ["a2 with snow", "b2", "c1", "b3", "c2"]
        assert sorted(run_all(worker, jobs)) == sorted(["a1", *order])
        assert [worker.job(job).state for job in jobs] == ["finished"] * 6


def test_who_asks_once_more_is_whose_turn_it_takes(worker: Worker) -> None:
    view = QueueView(worker)
    (job,) = asked(worker, "a1")
    once_more = {"do": "duplicate", "job": job, "client": "b"}
    assert worker.job(view.answer_deed(once_more)["asked"]).client == "b"
    undo = view.answer_deed({"do": "remove", "job": job, "client": "b"})["undo"]
    assert worker.job(view.answer_deed({**undo, "client": "b"})["asked"]).client == "a"


def test_what_the_explore_tab_asks_for_is_the_asking_pages_as_what_the_form_asks_for(worker: Worker) -> None:
    client = TestClient(build(worker, worker.store.root.parent), base_url="http://127.0.0.1")
    page = client_of(gr.Request(session_hash="one"))
    for verb, more in (("begin", {}), ("lesson_run", {"run": next(iter(lessons.told()["runs"]))})):
        answer = asked_of_page(client, verb, {"client": "x", **more})
        assert worker.job(answer["job"]).client == page


def test_what_cannot_be_done_is_told_in_a_sentence(worker: Worker) -> None:
    view = QueueView(worker)
    (job,) = asked(worker, "a1")
    for asked_for in (
        {},
        {"do": "nonsense", "job": job},
        {"do": ["move"], "job": job},
        {"do": "move", "job": "nope", "before": job},
        {"do": "move", "job": job, "before": "nope"},
        {"do": "hold", "job": {"a": 1}},
        {"do": "retry", "job": "../../etc"},
        {"do": "next", "job": None},
    ):
        answer = view.answer_deed(asked_for)
        assert answer["problem"].endswith(".") and prompts(worker) == ["a1"], asked_for
    assert view.answer_queue({"most": "all"})["waiting"] == 1
    run_all(worker, [job])
    assert "problem" in view.answer_deed({"do": "next", "job": job})


def test_an_error_is_kept_with_its_job_over_a_restart_until_it_is_tried_again_or_dismissed(
    tmp_path: Path, tiny_models: Path
) -> None:
    data, models = tmp_path / "data", tmp_path / "models"
    shutil.copytree(tiny_models / "sd", models / "sd")
    weights = next((models / "sd" / "unet").glob("*.safetensors"))
    whole = weights.read_bytes()
    with opened(data, models) as worker:
        weights.write_bytes(whole[:2000])
        jobs = [worker.submit(request(prompt=f"a{number}", model="sd"), "a") for number in range(2)]
        for job in jobs:
            assert isinstance(list(worker.follow(job))[-1], Failed)
        assert QueueView(worker).summary()["failed"] == 2
    weights.write_bytes(whole)
    with opened(data, models) as worker:
        view = QueueView(worker)
        shown = view.answer_queue({})["rows"]
        assert [one["job"] for one in shown] == jobs[::-1]
        assert all(one["problem"].endswith(".") and one["ended"].startswith("at ") for one in shown)
        new = view.answer_deed({"do": "retry", "job": jobs[0]})["asked"]
        assert isinstance(list(worker.follow(new))[-1], Finished)
        assert [one["job"] for one in view.answer_queue({})["rows"]] == [jobs[1]]
        assert view.answer_deed({"do": "dismiss", "job": jobs[1]})["rows"] == []
    with opened(data, models) as worker:
        assert QueueView(worker).answer_queue({})["rows"] == []


def test_every_page_is_told_when_something_changes(worker: Worker) -> None:
    view = QueueView(worker)

    async def listen() -> list[dict[str, Any]]:
        source = view.told()
        told = [(await anext(source))["queue"]]
        await asyncio.to_thread(asked, worker, "a1")
        told.append((await anext(source))["queue"])
        worker.queue.pause(False)
        while told[-1]["length"]:
            told.append((await asyncio.wait_for(anext(source), LONG))["queue"])
        await source.aclose()
        return told

    told = asyncio.run(listen())
    assert [one["length"] for one in told[:2]] == [0, 1]
    assert told[0]["edition"] != told[1]["edition"] != told[-1]["edition"]
    assert len(told) < 20  # moments are told together


def test_small_pictures_are_sent_of_jobs_that_are_known(worker: Worker) -> None:
    app = FastAPI()
    app.add_route("/gradio_api/login_check", lambda request: Response())
    view_routes.add_routes(app, QueueView(worker))
    jobs = asked(worker, "a1")
    run_all(worker, jobs)
    client = TestClient(app)
    answer = client.get(f"/{view_routes.URL}/seen", params={"job": jobs[0], "v": "1"})
    assert answer.status_code == 200 and answer.content[:2] == b"\xff\xd8"
    assert client.get(f"/{view_routes.URL}/seen", params={"job": "../a"}).status_code == 404


def test_the_engine_is_asked_once_for_runs_that_differ_in_words_and_seeds_alone() -> None:
    sorts: list[GenerationRequest] = []
    known = asyncio.Event()

    def forecast(sort: GenerationRequest) -> Forecast | None:
        sorts.append(sort)
        return Forecast(1, 2, sort.num_inference_steps / 10, "")

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        pace = Pace(forecast, lambda: loop.call_soon_threadsafe(known.set) and None)
        wanted = [request(prompt=str(number), seed=number, num_inference_steps=5) for number in range(50)]
        wanted.append(request(num_inference_steps=20))
        assert pace.seconds(wanted, 0) == [None] * 51
        await asyncio.wait_for(known.wait(), LONG)
        assert pace.seconds(wanted, 0) == [0.5] * 50 + [2.0]
        assert len(sorts) == 2
        assert pace.seconds(wanted, 1)[0] == 0.5  # what was known is answered while it is asked anew

    asyncio.run(ask())
