"""One file's bytes over the network: into a `.part` file, resumed where they were cut, checked at the end.

`huggingface_hub` (2.4) throws away what it has of a file when a connection is cut, so the bytes are fetched
here, over its own HTTP session (`reaching`): proxies and offline mode are as it has them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.fetch import reaching
from pipelines.fetch.problems import FetchProblem

BLOCK = 1 << 20
"""Bytes that are read from the disk at a time."""
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0)
"""Seconds before each new try; the count begins anew whenever bytes have come."""
RETRIED = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP statuses that may be better the next time."""


class Refused(FetchProblem):
    """A server's answer that no further try makes better. status: HTTP's number; code: the hub's word for
    it."""

    def __init__(self, sentence: str, status: int, code: str = ""):
        super().__init__(sentence)
        self.status, self.code = status, code


class Damaged(FetchProblem):
    """The bytes that came are not those that were announced; they have been thrown away."""


class Stopped(Exception):
    """The person has paused or cancelled; what has come stays in the `.part` file."""


class Brake:
    """Stops a transfer from another thread at once, even while it waits for bytes."""

    def __init__(self) -> None:
        self._pulled = threading.Event()
        self._lock = threading.Lock()
        self._socket: Any = None

    def pull(self) -> None:
        """The transfer that holds this brake raises `Stopped` as soon as it can."""
        self._pulled.set()
        with self._lock:
            _hang_up(self._socket)

    def check(self) -> None:
        """Raises `Stopped` once the brake is pulled."""
        if self._pulled.is_set():
            raise Stopped

    def rest(self, seconds: float) -> None:
        """Waits that long; raises `Stopped` the moment the brake is pulled."""
        if self._pulled.wait(seconds):
            raise Stopped

    @contextlib.contextmanager
    def over(self, response: Any) -> Iterator[None]:
        """While inside, a pull hangs up this response's connection."""
        stream = response.extensions.get("network_stream")
        with self._lock:
            self._socket = stream.get_extra_info("socket") if stream else None
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._socket = None


def _hang_up(connection: Any) -> None:
    """Wakes whoever reads from the socket. An encrypted one keeps its state, which belongs to the reader."""
    if isinstance(connection, socket.socket):
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


@dataclass(frozen=True)
class Source:
    """A file to fetch. size: bytes, 0 where it is not known. checksum: "sha256:<hex>", "git:<hex>" (the id
    that git gives a file of these bytes) or "" where nobody has told one. home: as for `reaching.opened`."""

    url: str
    size: int = 0
    checksum: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    home: str = ""

    def digest(self) -> Any:
        """A fresh hash object for `checksum`; SHA-256 where there is none."""
        if self.checksum.startswith("git:"):
            return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        return hashlib.sha256()


def fetch(
    source: Source,
    part: Path,
    tell: Callable[[int], None],
    brake: Brake,
    again: Callable[[str], None] = lambda sentence: None,
) -> str:
    """Brings `source` into the file `part`, going on from what it holds; returns the SHA-256 or git id, hex.

    tell: given the bytes of the file that are here, after each block. again: given a sentence before each
    wait for another try. Raises `Stopped`, and `FetchProblem` where the server refuses, the network does not
    come back, the disk is full or the checksum is wrong (then the bytes are thrown away).
    """
    import httpx2

    part.parent.mkdir(parents=True, exist_ok=True)
    name = part.name.removesuffix(".part")
    failures = 0
    while True:
        before = _length(part)
        try:
            with _alone(part):
                return _attempt(source, part, tell, brake)
        except (httpx2.TransportError, _Cut) as error:
            brake.check()
            failures = 1 if _length(part) > before else failures + 1
            if failures > len(WAITS):
                raise FetchProblem(
                    f"{name} could not be fetched: {_why(error)}. What has come is kept: resume when the "
                    "connection is back."
                ) from None
            rest = max(WAITS[failures - 1], getattr(error, "wait", 0.0))
            again(f"{_why(error)[0].upper()}{_why(error)[1:]}; trying again in {rest:.0f} s.")
            brake.rest(rest)
        except OSError as error:
            brake.check()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise FetchProblem(
                    f"The disk of {part.parent} is full. Make room there, then resume: what has come is kept."
                ) from None
            raise


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Nobody else writes into `part` meanwhile. Raises `FetchProblem` where another program does."""
    import filelock

    lock = filelock.FileLock(part.with_name(part.name + ".lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        name = part.name.removesuffix(".part")
        raise FetchProblem(
            f"{name} is being fetched by another Darkroom just now. Resume when that one is done."
        ) from None
    try:
        yield
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


class _Cut(Exception):
    """The transfer ended too early; another try may go on from there. wait: seconds the server asked for."""

    def __init__(self, why: str, wait: float = 0.0):
        super().__init__(why)
        self.wait = wait


def _attempt(source: Source, part: Path, tell: Callable[[int], None], brake: Brake) -> str:
    have = _length(part)
    tag = part.with_name(part.name + ".tag")
    headers = {"Accept-Encoding": "identity", **source.headers}
    if source.size and have > source.size:
        part.unlink()
        have = 0
    if have and not source.checksum:
        # Nothing would show that the rest belongs to another version of the file: the server has to say so.
        known = tag.read_text(encoding="utf8") if tag.is_file() else ""
        have = have if known else 0
        headers |= {"If-Range": known} if known else {}
    if have:
        headers["Range"] = f"bytes={have}-"
    digest = source.digest()
    if have:
        _hash_file(part, digest, brake)
        tell(have)
    if not source.size or have < source.size or not part.exists():
        with reaching.opened(source.url, headers, source.home) as response, brake.over(response):
            if response.status_code == 416:  # there is no more of it, or what is here is not of it
                part.unlink(missing_ok=True)
                raise _Cut("the server does not know the rest of it")
            _judge(response)
            if response.status_code != 206 or _begins_at(response) != have:
                have, digest = 0, source.digest()
            tag_now = _strong_tag(response)
            if tag_now and not source.checksum:
                tag.write_text(tag_now, encoding="utf8")
            have = _receive(response, source, part, have, digest, tell, brake)
            total = source.size or _announced(response)
            if total and have < total:
                raise _Cut("the connection was cut")
    found = str(digest.hexdigest())
    expected = source.checksum.partition(":")[2]
    tag.unlink(missing_ok=True)
    if expected and found != expected.lower():
        part.unlink(missing_ok=True)
        raise Damaged(
            f"{part.name.removesuffix('.part')} arrived damaged: its checksum is not the one that was "
            "announced. It has been thrown away; resume to fetch it anew."
        )
    return found


def _receive(
    response: Any,
    source: Source,
    part: Path,
    have: int,
    digest: Any,
    tell: Callable[[int], None],
    brake: Brake,
) -> int:
    with part.open("r+b" if have else "wb", buffering=0) as file:
        file.seek(have)
        file.truncate()
        for block in response.iter_bytes():  # as they come: a cut loses nothing that has arrived
            brake.check()
            file.write(block)
            digest.update(block)
            have += len(block)
            if source.size and have > source.size:
                file.truncate(0)
                raise Damaged(
                    f"{part.name.removesuffix('.part')} is larger than announced and has been thrown away."
                )
            tell(have)
        os.fsync(file.fileno())
    return have


def _judge(response: Any) -> None:
    """Raises for an answer that is not the file."""
    status = response.status_code
    if status in RETRIED:
        told = response.headers.get("Retry-After", "")
        raise _Cut(f"the server answered {status}", wait=min(float(told), 120.0) if told.isdigit() else 0.0)
    if status >= 400:
        raise Refused(
            f"The server refuses the file (HTTP status {status}).",
            status,
            response.headers.get("X-Error-Code") or response.headers.get("X-Error-Message", ""),
        )
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise FetchProblem(
            "This address gives a web page, not a file: copy the address behind the download button. "
            "Some sites give a page where a token is wanted.",
            wants_token=True,
        )


def _begins_at(response: Any) -> int:
    told = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(told) if told.isdigit() else -1


def _announced(response: Any) -> int:
    """The whole file's bytes as the response tells them; 0 where it does not."""
    ranged = response.headers.get("Content-Range", "").rpartition("/")[2]
    if ranged.isdigit():
        return int(ranged)
    plain = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    return int(plain) if plain.isdigit() and response.status_code == 200 and not encoded else 0


def _strong_tag(response: Any) -> str:
    tag = response.headers.get("ETag", "")
    return "" if tag.startswith("W/") else tag


def _hash_file(path: Path, digest: Any, brake: Brake) -> None:
    with path.open("rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            brake.check()
            digest.update(block)


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _why(error: Exception) -> str:
    import httpx2

    if isinstance(error, httpx2.ProxyError):
        return "the proxy refuses the connection"
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return "the server cannot be reached"
    if isinstance(error, httpx2.TimeoutException):
        return "the server does not answer any more"
    return str(error) if isinstance(error, _Cut) else "the connection was cut"


@dataclass(frozen=True)
class Announced:
    """What a server says about a file before it is fetched. disposition: its Content-Disposition header."""

    size: int
    disposition: str


def ask(url: str, headers: Mapping[str, str], home: str) -> Announced:
    """Asks for a file and reads only the answer's head. home: as for `reaching.opened`. Raises `FetchProblem`
    and httpx2's transport errors."""
    wanted = {"Accept-Encoding": "identity", **headers}
    with reaching.opened(url, wanted, home) as response:
        try:
            _judge(response)
        except _Cut as error:
            raise FetchProblem(f"The file cannot be had just now: {error}. Try again later.") from None
        return Announced(_announced(response), response.headers.get("Content-Disposition", ""))
