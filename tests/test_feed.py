"""The stream of what a page is told, and who may have it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.requests import Request
from starlette.responses import Response

from ui import feed


async def first(source: AsyncIterator[str], count: int) -> list[str]:
    found = []
    async for one in source:
        found.append(one)
        if len(found) == count:
            break
    return found


def test_each_change_is_a_new_edition_and_a_start_too() -> None:
    news = feed.Bulletin()
    editions = {news.edition}
    for _ in range(3):
        news.changed()
        editions.add(news.edition)
    assert len(editions | {feed.Bulletin().edition}) == 5


def test_changes_from_any_thread_are_heard_and_those_that_follow_at_once_are_one() -> None:
    news = feed.Bulletin()

    async def listen() -> list[str]:
        editions = news.editions()
        heard = [await anext(editions)]
        thread = threading.Thread(target=lambda: [news.changed() for _ in range(50)])
        thread.start()
        await asyncio.to_thread(thread.join)
        heard.append(await anext(editions))
        assert news.listening == 1
        await editions.aclose()
        return heard

    assert [one.partition(":")[2] for one in asyncio.run(listen())] == ["0", "50"]
    assert news.listening == 0


def test_a_closed_bulletin_lets_its_listeners_go() -> None:
    news = feed.Bulletin()

    async def listen() -> list[str]:
        async def until_closed() -> list[str]:
            return [one async for one in news.editions()]

        waiting = asyncio.create_task(until_closed())
        await asyncio.to_thread(lambda: None)
        news.close()
        return await asyncio.wait_for(waiting, 10)

    assert len(asyncio.run(listen())) <= 1
    assert news.listening == 0


def test_sources_are_merged_until_one_ends_or_fails() -> None:
    async def numbers(start: int, count: int) -> AsyncIterator[feed.Told]:
        for number in range(start, start + count):
            yield {"number": number}
        await asyncio.Event().wait()

    async def gather(*sources: AsyncIterator[feed.Told]) -> list[int]:
        return [told["number"] async for told in feed.merged(*sources)]

    async def ending() -> AsyncIterator[feed.Told]:
        for number in range(3):
            yield {"number": number}

    async def broken() -> AsyncIterator[feed.Told]:
        yield {"number": 1}
        raise ValueError("broken")

    async def whole() -> list[int]:
        merged = feed.merged(ending(), ending(), to_the_last=True)
        return sorted([told["number"] async for told in merged])

    assert {0, 1, 2} <= set(asyncio.run(gather(ending(), numbers(10, 2))))
    assert asyncio.run(whole()) == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="broken"):
        asyncio.run(gather(broken(), numbers(10, 2)))


def test_a_merged_stream_that_is_left_lets_go_of_its_sources() -> None:
    news, other = feed.Bulletin(), feed.Bulletin()

    async def told(one: feed.Bulletin) -> AsyncIterator[feed.Told]:
        async for edition in one.editions():
            yield {"edition": edition}

    async def leave() -> None:
        merged = feed.merged(told(news), told(other))
        await anext(merged)
        await anext(merged)
        assert (news.listening, other.listening) == (1, 1)
        await merged.aclose()

    asyncio.run(leave())
    assert (news.listening, other.listening) == (0, 0)


def application(auth: tuple[str, str] | None) -> FastAPI:
    app = FastAPI()

    async def answer(request: Request) -> Response:
        async def told() -> AsyncIterator[feed.Told]:
            yield {"words": "a\nb — ü"}

        return feed.stream(told())

    app.add_route("/darkroom/told", feed.guarded(app, answer))
    with gr.Blocks() as blocks:
        gr.Textbox()
    gr.mount_gradio_app(app, blocks, path="/", auth=auth)
    return app


def test_without_a_password_everyone_is_told() -> None:
    answer = TestClient(application(None)).get("/darkroom/told")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    (line,) = answer.text.split("\n\n")[:-1]
    assert json.loads(line.removeprefix("data: ")) == {"words": "a\nb — ü"}


def test_with_a_password_only_those_who_gave_it_are_told() -> None:
    client = TestClient(application(("ann", "secret")))
    assert client.get("/darkroom/told").status_code == 401
    assert client.post("/login", data={"username": "ann", "password": "wrong"}).status_code == 400
    assert client.get("/darkroom/told").status_code == 401
    assert client.post("/login", data={"username": "ann", "password": "secret"}).status_code == 200
    assert client.get("/darkroom/told").status_code == 200
