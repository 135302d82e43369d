"""What the page is told without asking, as a stream of server-sent events, and the files beside it.

These routes stand outside of Gradio, so each asks Gradio first whether the visitor may come in.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message

Told = Mapping[str, Any]

LOGIN_CHECK = "/gradio_api/login_check"
"""Where Gradio tells whether a visitor is signed in."""


class Bulletin:
    """Says that something changed, to however many listen; its methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._start, self._count = secrets.token_hex(4), 0
        self._watchers: list[Callable[[], None]] = []

    @property
    def edition(self) -> str:
        """Another text after each change, and after each start of the program."""
        return f"{self._start}:{self._count}"

    @property
    def listening(self) -> int:
        """How many listen now."""
        with self._lock:
            return len(self._watchers)

    def changed(self) -> None:
        """Tells all who listen."""
        with self._lock:
            self._count += 1
        self._wake()

    def close(self) -> None:
        """Lets all who listen go: a server that ends waits for them."""
        with self._lock:
            self._closed = True
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            watchers = list(self._watchers)
        for wake in watchers:
            wake()

    async def editions(self) -> AsyncIterator[str]:
        """The present edition, then each later one; those that follow each other at once are told as one.
        Ends with `close`."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():  # a server that shuts down leaves its listeners behind
                loop.call_soon_threadsafe(woken.set)

        with self._lock:
            self._watchers.append(wake)
        try:
            while not self._closed:
                woken.clear()
                yield self.edition
                await woken.wait()
        finally:
            with self._lock:
                self._watchers.remove(wake)


async def merged(*sources: AsyncIterator[Told], to_the_last: bool = False) -> AsyncIterator[Told]:
    """What any of the sources tells, as it comes; ends with the first that ends, or with the last."""
    waiting = {asyncio.ensure_future(anext(source)): source for source in sources}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                source = waiting.pop(task)
                try:
                    told = task.result()
                except StopAsyncIteration:
                    if to_the_last:
                        continue
                    return
                yield told
                waiting[asyncio.ensure_future(anext(source))] = source
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)  # a source lets go of what it holds


def stream(told: AsyncIterator[Told]) -> StreamingResponse:
    """A stream of server-sent events; it ends when the page goes away."""

    async def lines() -> AsyncIterator[str]:
        async for message in told:
            yield f"data: {json.dumps(message)}\n\n"

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)


def guarded(
    app: ASGIApp, answer: Callable[[Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """`answer` for those whom Gradio, mounted in `app`, lets in: the password is Gradio's to ask for."""

    async def guard(request: Request) -> Response:
        status = await login_status(app, request)
        return await answer(request) if status == 200 else Response(status_code=status)

    return guard


async def login_status(app: ASGIApp, request: Request) -> int:
    """What Gradio answers this visitor when it is asked for the login alone."""
    kept = ("type", "asgi", "http_version", "scheme", "headers", "server", "client", "state", "extensions")
    scope = {name: request.scope[name] for name in kept if name in request.scope}
    scope |= {"method": "GET", "path": LOGIN_CHECK, "raw_path": LOGIN_CHECK.encode()}
    scope |= {"query_string": b"", "root_path": ""}
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    return statuses[0] if statuses else 500
