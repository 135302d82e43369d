"""How often, how much, how deep and how slowly: what one client may ask for in a while."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from starlette.types import Message, Receive, Scope

BURST, PER_SECOND = 2000, 200.0
"""Questions, files and orders of one client: a page that is worked with sends a few a second, and fifty pages
of one machine stay far below."""
TRIES, PER_TRY = 10, 6.0
"""Passwords that may be tried at once, and seconds until one more may."""
OPEN = 500
"""Connections that one client may keep waiting; a browser has six."""
DEEPEST = 64
"""Brackets within brackets of a question: the page's have eight, and parsers break at a thousand."""
PATIENCE = 30.0
"""Seconds that a client may take to send a question, or the next piece of a file."""
BY_PROXY = 6
"""How many clients all who come by one proxy count as. For whom a proxy asks, they may have said themselves:
that alone would bound nobody."""
CLIENTS = 10_000
LOOPBACK = ("127.0.0.1", "::1")
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
"""Whole strings, and brackets outside of them; one pass, whatever is in the text."""


class TooMuch(Exception):
    """What was sent is too large, too deep or too slow. `status`: as it is to be answered."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class Buckets:
    """A bucket of tokens for each client, filled steadily up to `burst`: each request takes one."""

    def __init__(self, burst: float, per_second: float, clock: Callable[[], float] = time.monotonic):
        self.burst, self.per_second, self.clock = burst, per_second, clock
        self._filled: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, many: int = 1) -> float:
        """Takes a token, of one that stands for `many` a share of one; returns 0, or the seconds until there
        is one."""
        now, share = self.clock(), 1 / many
        tokens, at = self._filled.pop(client, (self.burst, now))
        tokens = min(self.burst, tokens + (now - at) * self.per_second)
        if tokens < share:
            self._filled[client] = (tokens, now)
            return (share - tokens) / self.per_second
        self._filled[client] = (tokens - share, now)
        while len(self._filled) > CLIENTS:  # the one that was silent longest is full again
            self._filled.popitem(last=False)
        return 0.0

    def give_back(self, client: str) -> None:
        """Fills a client's bucket again."""
        self._filled.pop(client, None)


class Crowd:
    """How many requests of each client are being answered."""

    def __init__(self, most: int = OPEN):
        self.most = most
        self._open: Counter[str] = Counter()

    def enter(self, client: str, many: int = 1) -> bool:
        """Whether one more may come, of one that stands for `many`; each that may must `leave`."""
        if self._open[client] >= self.most * many:
            return False
        self._open[client] += 1
        return True

    def leave(self, client: str) -> None:
        """One is answered."""
        self._open[client] -= 1
        if self._open[client] <= 0:
            del self._open[client]


def callers(scope: Scope) -> list[tuple[str, int]]:
    """Who asks, and for how many each stands: a client, and the proxy of this machine that it comes by."""
    peer = str((scope.get("client") or ("",))[0])
    told = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    if peer not in LOOPBACK or not told:
        return [(peer, 1)]
    client = told[-1].decode("latin-1").rpartition(",")[2].strip()
    return [(f"{client[:64]} by {peer}", 1), (peer, BY_PROXY)]


async def whole(receive: Receive, most: int) -> bytes:
    """A request's whole body. Raises `TooMuch` at the first byte too many, or where it does not come."""
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise TooMuch(400, "The request broke off before it was complete.")
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                if size > most:
                    raise TooMuch(413, too_large(most))
                if not message.get("more_body"):
                    return b"".join(pieces)
    except TimeoutError:
        raise TooMuch(408, f"The request did not arrive within {PATIENCE:.0f} seconds.") from None


def counted(receive: Receive, most: int) -> Receive:
    """`receive` that raises `TooMuch` at the first byte too many, or where the next piece does not come."""
    size = 0
    ended = False

    async def piece() -> Message:
        nonlocal size, ended
        if ended:
            return await receive()  # what follows a body is the news that the client went away
        try:
            async with asyncio.timeout(PATIENCE):
                message = await receive()
        except TimeoutError:
            raise TooMuch(408, f"Nothing more arrived for {PATIENCE:.0f} seconds.") from None
        size += len(message.get("body", b""))
        ended = not message.get("more_body")
        if size > most:
            raise TooMuch(413, too_large(most))
        return message

    return piece


def too_large(most: int) -> str:
    """The sentence for a body of more bytes."""
    return f"This is too large to be sent: at most {most / (1 << 20):.0f} MB are taken."


def depth(text: bytes) -> int:
    """How deep the brackets of a JSON text are nested, told without parsing it; counts no further than one
    more than is allowed."""
    level = deepest = 0
    for found in _TOKENS.finditer(text):
        sign = found[0]
        if sign in (b"[", b"{"):
            level += 1
            deepest = max(deepest, level)
            if deepest > DEEPEST:
                break
        elif sign in (b"]", b"}"):
            level -= 1
    return deepest
