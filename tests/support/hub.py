"""A Hugging Face hub in miniature on a free port of this machine, for the real huggingface_hub to talk to.

It lists repositories, leads large files to a second address (as the real one leads to its storage), honours
ranges, asks for tokens, and cuts or holds connections where a test says so.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1000
"""Bytes from which on a file is kept apart, with its SHA-256 known, as Git LFS does."""


@dataclass
class Repo:
    """One repository. gated: its files want a token of `TinyHub.tokens`. sha256: told instead of the true
    one."""

    files: Mapping[str, bytes]
    gated: bool = False
    licence: str = "openrail"
    commit: str = COMMIT
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a page outside of the repositories answers."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """One request that came. host: with its port; path: without the query."""

    method: str
    host: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]


class TinyHub:
    """repos: by id. pages: path -> its answer. tokens: those that open what is gated; others: those that are
    known and do not.

    cuts: name of a file -> after how many bytes of an answer each of its next requests is cut. hold: name of
    a file -> after how many bytes every request for it waits for `go`. storage: the other host.
    """

    def __init__(self, storage: str = "127.0.0.1") -> None:
        self.repos: dict[str, Repo] = {}
        self.pages: dict[str, Answer | Callable[[Asked], Answer]] = {}
        self.tokens = {"hf_good"}
        self.others = {"hf_other"}
        self.cuts: dict[str, list[int]] = defaultdict(list)
        self.hold: dict[str, int] = {}
        self.held = threading.Event()
        self.go = threading.Event()
        self.asked: list[Asked] = []
        self._servers = [_Server((host, 0), _Handler) for host in ("127.0.0.1", storage)]
        for server in self._servers:
            server.hub = self

    @property
    def address(self) -> str:
        """The hub's endpoint."""
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def storage(self) -> str:
        """The other host, where large files are."""
        host, port = self._servers[1].server_address[:2]
        return f"http://{host!s}:{port}"

    def requests(self, end: str) -> list[Asked]:
        """The requests whose path ends so."""
        return [asked for asked in self.asked if asked.path.endswith(end)]

    @contextmanager
    def running(self) -> Iterator[TinyHub]:
        """Serves inside the block."""
        threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in self._servers]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.go.set()
            for server in self._servers:
                server.shutdown()
                server.server_close()
            for thread in threads:
                thread.join()

    # What is answered

    def answer(self, asked: Asked) -> tuple[Answer, str]:
        """The answer and the name of the file that it holds."""
        page = self.pages.get(asked.path)
        if page is not None:
            return (page(asked) if callable(page) else page), asked.path.rpartition("/")[2]
        sent = asked.headers.get("authorization", "").removeprefix("Bearer ")
        parts = asked.path.strip("/").split("/")
        if sent and sent not in self.tokens | self.others:
            return _refused(401, "", "Invalid credentials in Authorization header"), ""
        if parts[0] == "storage":
            for repo in self.repos.values():
                for name, body in repo.files.items():
                    if digest(body) == parts[1]:
                        return Answer(200, body, {"ETag": f'"{parts[1]}"'}), name
        if parts[:2] == ["api", "whoami-v2"]:
            known = self._known(asked)
            told = {
                "name": "ann",
                "type": "user",
                "auth": {"accessToken": {"displayName": "t", "role": "read"}},
            }
            return (_json(told) if known else _refused(401, "", "Invalid username or password.")), ""
        if parts[:2] == ["api", "models"]:
            return self._listing(parts), ""
        if len(parts) > 4 and parts[2] == "resolve":
            return self._file(asked, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return _refused(404, "RepoNotFound", "Repository not found"), ""

    def _known(self, asked: Asked) -> bool:
        return asked.headers.get("authorization", "").removeprefix("Bearer ") in self.tokens

    def _listing(self, parts: list[str]) -> Answer:
        repo = self.repos.get("/".join(parts[2:4]))
        if repo is None:
            return _refused(401, "RepoNotFound", "Repository not found")
        if parts[4:5] == ["revision"] and parts[5] not in ("main", repo.commit):
            return _refused(404, "RevisionNotFound", "Invalid rev id")
        siblings = [
            {"rfilename": name, "size": len(body), "blobId": git_id(body), **_lfs(repo, name, body)}
            for name, body in repo.files.items()
        ]
        name = "/".join(parts[2:4])
        return _json(
            {
                "id": name,
                "modelId": name,
                "sha": repo.commit,
                "gated": "auto" if repo.gated else False,
                "private": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "cardData": {"license": repo.licence},
                "siblings": siblings,
            }
        )

    def _file(self, asked: Asked, name: str, revision: str, file: str) -> tuple[Answer, str]:
        repo = self.repos.get(name)
        if repo is None:
            return _refused(401, "RepoNotFound", "Repository not found"), ""
        if repo.gated and not self._known(asked):
            sent = "authorization" in asked.headers
            return _refused(403 if sent else 401, "GatedRepo", "Access to this model is restricted."), ""
        if file not in repo.files:
            return _refused(404, "EntryNotFound", "Entry not found"), ""
        body = repo.files[file]
        etag = repo.sha256.get(file) or (digest(body) if len(body) >= LARGE else git_id(body))
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{etag}"'}
        if len(body) < LARGE:
            return Answer(200, body, headers), file
        linked = {"X-Linked-Size": str(len(body)), "X-Linked-Etag": f'"{etag}"'}
        return Answer(
            302, b"", {**headers, **linked, "Location": f"{self.storage}/storage/{digest(body)}"}
        ), ""


def digest(body: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(body).hexdigest()


def git_id(body: bytes) -> str:
    """The id that git gives a file of these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def _lfs(repo: Repo, name: str, body: bytes) -> dict[str, Any]:
    told = repo.sha256.get(name) or digest(body)
    return {"lfs": {"sha256": told, "size": len(body), "pointerSize": 130}} if len(body) >= LARGE else {}


def _json(told: Any) -> Answer:
    return Answer(200, json.dumps(told).encode(), {"Content-Type": "application/json"})


def _refused(status: int, code: str, message: str) -> Answer:
    told = {"X-Error-Code": code, "X-Error-Message": message} if code else {"X-Error-Message": message}
    return Answer(status, json.dumps({"error": message}).encode(), told)


class _Server(ThreadingHTTPServer):
    hub: TinyHub
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub = self.server.hub
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        host = self.headers.get("Host", "")
        asked = Asked(self.command, host, unquote(parts.path), parse_qs(parts.query), headers)
        hub.asked.append(asked)
        answer, name = hub.answer(asked)
        body, status, more = answer.body, answer.status, dict(answer.headers)
        asks = headers.get("range", "")
        if status == 200 and asks and headers.get("if-range", more.get("ETag")) == more.get("ETag"):
            begin = int(asks.removeprefix("bytes=").split("-")[0])
            if begin >= len(body):
                status, more["Content-Range"], body = 416, f"bytes */{len(body)}", b""
            else:
                more["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
                status, body = 206, body[begin:]
        self.send_response(status)
        for header, value in {"Content-Length": str(len(body)), **more}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self._send(hub, name, body)

    do_HEAD = do_GET

    def _send(self, hub: TinyHub, name: str, body: bytes) -> None:
        try:
            if hub.cuts.get(name):
                self.wfile.write(body[: hub.cuts[name].pop(0)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
                return
            if name in hub.hold and not hub.go.is_set():
                first = hub.hold[name]
                self.wfile.write(body[:first])
                self.wfile.flush()
                hub.held.set()
                hub.go.wait(30)
                body = body[first:]
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the other side has hung up

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test looks at `asked`."""
