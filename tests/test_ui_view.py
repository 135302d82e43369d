"""Events as messages for the stage: JSON, only what is new, and where it begins."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.events import (
    Cancelled,
    Event,
    Failed,
    Finished,
    Loading,
    Picture,
    PictureDone,
    Queued,
    StepEvent,
)
from pipelines.library.models import ModelLibrary, ModelSpec
from pipelines.pictures import PictureStore
from pipelines.request import GenerationRequest
from pipelines.worker import Job, Worker
from ui import view

PICTURE = Picture("/data/outputs/text2image/2026-01-01/00001-7.png", 7, 64, 64, "a\nSteps: 2", b"jpeg")
STORY: list[Event] = [
    Queued(0),
    Loading("The engine is starting."),
    StepEvent(1, 2, 0, 1, 999.0, 14.6, b"one", 0.0, 7),
    StepEvent(2, 2, 0, 1, 499.0, 1.6, b"", 0.1, 7),
    PictureDone(PICTURE, 0),
    Finished((PICTURE,), 0.2, notes=("A note.",)),
]


def job(events: list[Event]) -> Job:
    return Job("id", GenerationRequest(prompt="a", seed=7), events)


@pytest.mark.parametrize("event", [*STORY, Failed("Why.", {"width": "Too wide."}), Cancelled()])
def test_every_event_can_be_told(event: Event) -> None:
    told = view.told(event)
    assert json.loads(json.dumps(told)) == told
    assert told["kind"] in {"queued", "loading", "step", "picture", "finished", "failed", "cancelled"}


def test_a_message_says_where_it_begins() -> None:
    chapter = view.message(job(STORY), STORY[2:4], 2, queue=1)["jobs"][0]
    assert (chapter["id"], chapter["from"], len(chapter["events"])) == ("id", 2, 2)
    assert [event["image"] for event in chapter["events"]] == ["data:image/jpeg;base64,b25l", ""]


def test_a_summary_has_the_pictures_and_no_film() -> None:
    chapter = view.summary([job(STORY)], queue=0)["jobs"][0]
    assert chapter["abridged"]
    assert [event["kind"] for event in chapter["events"]] == ["picture", "finished"]


def test_a_picture_leads_to_its_file() -> None:
    told = view.told(PictureDone(PICTURE, 0))
    assert told["url"] == f"gradio_api/file={PICTURE.path}"
    assert told["name"] == "00001-7.png"
    odd = Picture("/data/a b#ü/1.png", 7, 64, 64, "", b"")
    assert view.told(PictureDone(odd, 0))["url"] == "gradio_api/file=/data/a%20b%23%C3%BC/1.png"


class ToldEngine:
    """An engine that tells a story, for the worker's side of the matter."""

    apart = True

    def start(self, tell: Any) -> None:
        pass

    def run(self, job_id: str, request: GenerationRequest, emit: Any) -> None:
        for event in STORY[2:]:
            emit(event)

    def stop(self, job_id: str, keep: bool) -> None:
        pass

    def call(self, name: str, *arguments: Any) -> Any:
        return None

    def close(self) -> None:
        pass


class OneModel(ModelLibrary):
    def list(self) -> list[ModelSpec]:
        return [ModelSpec("starter", "Storybook", "SD", Path(), "SD")]


def test_following_tells_each_event_once_and_ends(tmp_path: Path) -> None:
    with Worker(ToldEngine(), OneModel(), PictureStore(tmp_path / "inputs")) as worker:
        job_id = worker.submit(GenerationRequest(prompt="a"))

        async def all_messages() -> list[view.Message]:
            return [message async for message in view.follow(worker, job_id)]

        messages = asyncio.run(asyncio.wait_for(all_messages(), 20))
    seen = 0
    for message in messages:
        (chapter,) = message["jobs"]
        assert chapter["from"] == seen
        seen += len(chapter["events"])
    assert messages[-1]["jobs"][0]["events"][-1]["kind"] == "finished"


def test_a_job_that_is_not_known_ends_at_once(tmp_path: Path) -> None:
    async def nothing() -> list[view.Message]:
        return [message async for message in view.follow(worker, "unknown")]

    with Worker(ToldEngine(), OneModel(), PictureStore(tmp_path / "inputs")) as worker:
        assert asyncio.run(nothing()) == []
