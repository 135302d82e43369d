"""The guard: asks of every request whether it may come in, before anything behind it hears of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui import feed, store
from ui.doors import asked, limits
from ui.doors.asked import Refused
from ui.doors.limits import TooMuch
from ui.doors.table import API, JSON_BYTES, LARGE, OWN, OWN_STILL, READ, Door, gradios

if TYPE_CHECKING:
    from gradio import Blocks

SEND_PATIENCE = 120.0
"""Seconds that a client may leave a piece of an answer lying; then it is taken for gone."""
LONG = 1 << 16
"""Bytes of a question from which on it is looked through on a thread, one at a time."""
_PORTS = {"http": "80", "https": "443"}

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::\d{1,5})?")

STRANGE_HOST = (
    "Darkroom is not known by this name. If it is meant to be, start it with --allowed-host and the name."
)
STRANGE_ORIGIN = "Another site's page asked for this, and Darkroom answers its own page only."


class Names:
    """The names under which the page may be asked for; `*.name` stands for all below it."""

    def __init__(self, names: Iterable[str]):
        self._names = {name.lower() for name in names}

    def add(self, name: str) -> None:
        """One more, learnt while the program runs."""
        self._names.add(name.lower())

    def __contains__(self, host: object) -> bool:
        """Whether `host`, a name with or without port, is one."""
        name = _hostname(str(host))
        above = (f"*.{'.'.join(name.split('.')[start:])}" for start in range(1, name.count(".") + 1))
        return name in self._names or any(one in self._names for one in above)


class Guard:
    """Stands before `app`, whose routes are `routes` and whose page is `blocks`. foreign: further names,
    under which a page of this program may be seen (a proxy's) and so may ask."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[BaseRoute],
        blocks: Blocks,
        names: Names,
        proxies: Names,
        password: bool,
    ):
        self.app, self.routes, self.blocks = app, routes, blocks
        self.names, self.proxies, self.password = names, proxies, password
        self.rate = limits.Buckets(limits.BURST, limits.PER_SECOND)
        self.tries = limits.Buckets(limits.TRIES, 1 / limits.PER_TRY)
        self.crowd = limits.Crowd()
        self.looking = anyio.CapacityLimiter(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return  # nothing here speaks anything else
        callers = limits.callers(scope)
        answer, entered = _Answer(send), []
        try:
            for caller, many in callers:
                if not self.crowd.enter(caller, many):
                    raise Refused(429, "Too many connections of yours are open: close some.")
                entered.append(caller)
            receive = await self._let_in(scope, receive, callers)
            await self.app(scope, receive, answer)
        except TooMuch as problem:
            if not answer.begun:
                await _problem(problem.status, str(problem), getattr(problem, "wait", 0))(
                    scope, receive, send
                )
        except (ClientDisconnect, _Gone):
            return  # nobody is there to be answered
        finally:
            for caller in entered:
                self.crowd.leave(caller)
            if scope["path"].rstrip("/") == "/login" and answer.status == 200:
                self.tries.give_back(callers[0][0])

    async def _let_in(self, scope: Scope, receive: Receive, callers: list[tuple[str, int]]) -> Receive:
        """What the application may receive. Raises `TooMuch` where the request may not come in."""
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        if len(callers) > 1 and headers.get("x-forwarded-proto") in _PORTS:
            scope["scheme"] = headers["x-forwarded-proto"]
        hosts = [*(headers.getlist("host") or [""]), *headers.getlist("x-forwarded-host")]
        if not all(host in self.names for host in hosts):
            raise Refused(400, STRANGE_HOST)
        door, own = self._door(scope)
        if door is None:
            raise Refused(404, "There is nothing at this address.")
        if method not in door.methods:
            raise Refused(405, f"{method} is not taken at this address.")
        if not self._of_this_page(headers, method, path):
            raise Refused(403, STRANGE_ORIGIN)
        counted = [] if method in READ else [self.rate]  # a gallery asks for hundreds of thumbnails
        if path.rstrip("/") == "/login":
            counted.append(self.tries)
        wait = max((limit.take(*caller) for limit in counted for caller in callers), default=0.0)
        if wait:
            raise _Wait(wait)
        if not door.public and self.password and not await self._known(scope):
            raise Refused(401, "Sign in first.")
        if method in READ:
            if not own:
                asked.check_stream(path, Request(scope).query_params, self.blocks)
            return receive
        return await self._body(door, own, headers, path, receive)

    def _door(self, scope: Scope) -> tuple[Door | None, bool]:
        """The door for a request, and whether it is the program's own."""
        for route in self.routes:
            gradio = isinstance(route, Mount) and route.path == ""
            if not gradio and route.matches(scope)[0] != Match.NONE:
                if isinstance(route, Mount):
                    return OWN_STILL, True
                methods = tuple(getattr(route, "methods", None) or READ) if isinstance(route, Route) else READ
                return Door("", methods, most=LARGE.get(scope["path"], OWN.most)), True
        if ".." in scope["path"].split("/") or "\0" in scope["path"] or "\\" in scope["path"]:
            return None, False
        if scope["path"].startswith(f"{API}/file=") and "://" in scope["path"][:60]:
            return None, False  # Gradio would fetch it from there
        return gradios(scope["path"]), False

    def _of_this_page(self, headers: Headers, method: str, path: str) -> bool:
        """Whether no other site's page asks; scripts, which say nothing of the kind, are let in."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if origin is not None:
            if not self._same(origin, headers.get("host", "")):
                return False
        elif site not in ("same-origin", "none"):
            # A link on another page may lead to this one, and to nothing else.
            return method == "GET" and path == "/" and headers.get("sec-fetch-dest") == "document"
        return site in ("same-origin", "none")

    def _same(self, origin: str, host: str) -> bool:
        try:
            found = urlsplit(origin)
            port = str(found.port or _PORTS.get(found.scheme, ""))
        except ValueError:
            return False
        if found.scheme not in _PORTS or not found.hostname:
            return False
        if found.hostname in self.proxies:
            return True
        theirs = host.rpartition(":")[2] if not host.endswith("]") and ":" in host else _PORTS[found.scheme]
        return (found.hostname, port) == (_hostname(host).strip("[]"), theirs)

    async def _known(self, scope: Scope) -> bool:
        return await feed.login_status(self.app, Request(scope)) == 200

    async def _body(self, door: Door, own: bool, headers: Headers, path: str, receive: Receive) -> Receive:
        given = headers.get("content-length", "0")
        if not given.isdecimal():
            raise Refused(400, "The request does not say how long it is.")
        is_json = headers.get("content-type", "").partition(";")[0].strip().lower().endswith("json")
        asks = not own and door.most == JSON_BYTES
        most = JSON_BYTES if is_json else door.most
        if int(given) > most:
            raise Refused(413, limits.too_large(most))
        if not (asks or is_json):
            if path.startswith(f"{API}/upload"):
                await anyio.to_thread.run_sync(store.sweep_uploads)
            return limits.counted(receive, most)
        body = await limits.whole(receive, most)
        look = (asked.check, path, body, self.blocks) if asks else (asked.parsed, body)
        if len(body) > LONG:  # seconds, in which everybody would wait
            await anyio.to_thread.run_sync(*look, limiter=self.looking)
        else:
            look[0](*look[1:])
        return _again(body, receive)


class _Wait(TooMuch):
    """Too many requests in a short time."""

    def __init__(self, seconds: float):
        self.wait = max(1, round(seconds + 0.5))
        super().__init__(429, f"Too many requests in a short time: wait {self.wait} s and try again.")


class _Gone(Exception):
    """The client does not take its answer."""


class _Answer:
    """Sends an answer to a client that takes it; notes that it began, and with which status."""

    def __init__(self, send: Send):
        self.send = send
        self.begun = False
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
        try:
            async with asyncio.timeout(SEND_PATIENCE):
                await self.send(message)
        except TimeoutError:
            raise _Gone from None


def _again(body: bytes, receive: Receive) -> Receive:
    told = False

    async def message() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return message


def _problem(status: int, sentence: str, wait: int = 0) -> JSONResponse:
    """An answer in this program's way and in Gradio's, whose page and client read `detail` and `error`."""
    told: dict[str, Any] = {"problem": sentence, "detail": sentence, "error": sentence}
    headers = {"Retry-After": str(wait)} if wait else {}
    return JSONResponse(told, status_code=status, headers={**headers, "Cache-Control": "no-store"})


def _hostname(host: str) -> str:
    """The name in a Host header, in small letters: without port, an IPv6 address in its brackets; empty where
    the header is none."""
    found = _HOST.fullmatch(host.strip().lower())
    return found[1] if found else ""
