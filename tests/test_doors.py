"""Who comes in: names, origins, addresses, the password, and how much one client may ask for."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from gradio.utils import get_upload_folder

from pipelines.engine import Emit, Tell, without_folders
from pipelines.fetch import hub
from pipelines.fetch.problems import FetchProblem
from pipelines.library.models import ModelLibrary
from pipelines.pictures import PictureStore
from pipelines.request import GenerationRequest
from pipelines.worker import Worker
from tests.support.served import served
from ui import store
from ui.app import build
from ui.doors import asked as asked_doors
from ui.doors import connections, guard, limits, table
from ui.doors.guard import Names

HERE = "http://127.0.0.1:7860"
JOIN, SERVER = "/gradio_api/queue/join", "/gradio_api/component_server"


class StillEngine:
    """An engine that nobody asks anything."""

    apart = True

    def start(self, tell: Tell) -> None: ...

    def run(self, job_id: str, request: GenerationRequest, emit: Emit) -> None: ...

    def stop(self, job_id: str, keep: bool) -> None: ...

    def call(self, name: str, *arguments: Any) -> Any: ...

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("data")
    with Worker(StillEngine(), ModelLibrary([]), PictureStore(folder / "inputs")) as worker:
        yield worker


@pytest.fixture(scope="module")
def app(worker: Worker) -> FastAPI:
    return build(worker, worker.store.root.parent, proxies=["paint.example.org"])


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url=HERE)


def asked(client: TestClient, **headers: str) -> int:
    """The status of a harmless question to the page's functions."""
    question = {"session_hash": "a", "fn_index": 10**6, "data": []}
    return client.post(JOIN, json=question, headers=headers).status_code


# ------------------------------------------------------------------------------------------ names and origins


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost", "LOCALHOST:1", "[::1]:7860", "[::1]"])
def test_this_machines_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "127.0.0.1.evil.example", "", "localhost.", "[::2]", "a b", "[::1].evil.example"),
        *("localhost:80:evil", "localhost:evil.example", "[::1", "[::1]x", "::1", "localhost@evil.example"),
    ],
)
@pytest.mark.parametrize("path", ["/", "/gradio_api/upload", "/darkroom/js/page.js", "/darkroom/models/feed"])
def test_other_names_are_not(client: TestClient, host: str, path: str) -> None:
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code == 400
    assert "--allowed-host" in answer.json()["problem"]


def test_a_name_that_a_proxy_is_said_to_have_been_asked_by_counts_too(client: TestClient) -> None:
    assert client.get("/", headers={"X-Forwarded-Host": "evil.example"}).status_code == 400
    assert client.get("/", headers={"X-Forwarded-Host": "paint.example.org"}).status_code == 200


def test_names_below_a_star() -> None:
    names = Names(["*.example.org", "one"])
    assert "a.example.org:80" in names and "b.a.example.org" in names and "ONE" in names
    assert "example.org" not in names and "aexample.org" not in names and "two" not in names
    names.add("Two")
    assert "two" in names


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://evil.example:7860"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost:7860"},  # another name than the page was asked by
        {"Origin": "http://127.0.0.1:3000"},  # another program of this machine
        {"Origin": "http://127.0.0.1"},
        {"Origin": "ftp://127.0.0.1:7860"},
        {"Origin": "http://127.0.0.1:port"},
        {"Origin": "http://127.0.0.1:7860.evil.example"},
        {"Origin": HERE, "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_another_sites_page_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    assert asked(client, **headers) == 403
    upload = client.post("/gradio_api/upload", files={"files": ("a.png", b"x")}, headers=headers)
    assert upload.status_code == 403
    assert client.get("/darkroom/models/picture", headers=headers).status_code == 403
    assert "access-control-allow-origin" not in upload.headers
    assert "another site" in upload.json()["problem"].lower()


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": HERE}, {"Origin": HERE, "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}],
    ids=str,
)
def test_the_page_itself_and_scripts_are_not(client: TestClient, headers: dict[str, str]) -> None:
    assert asked(client, **headers) == 404  # there is no such event: it was let in


@pytest.mark.parametrize(
    ("host", "origin", "let_in"),
    [
        ("[::1]:7860", "http://[::1]:7860", True),
        ("[::1]", "http://[::1]", True),
        ("LOCALHOST:7860", "http://localhost:7860", True),
        ("localhost:7860", "HTTP://LOCALHOST:7860", True),
        ("127.0.0.1:80", "http://127.0.0.1", True),
        ("[::1]:7860", "http://[::1]", False),
        ("[::1]:7860", "http://[::2]:7860", False),
        ("127.0.0.1:7860", "http://[::1]:7860", False),
        ("localhost:7860", "http://localhost.:7860", False),
        ("localhost:7860", "https://localhost", False),
    ],
)
def test_a_page_is_this_ones_however_its_address_is_written(
    client: TestClient, host: str, origin: str, let_in: bool
) -> None:
    assert asked(client, Host=host, Origin=origin) == (404 if let_in else 403)


def test_behind_a_proxy_the_pages_own_name_is_its_origin(client: TestClient) -> None:
    assert asked(client, Origin="https://paint.example.org") == 404
    assert asked(client, Origin="https://paint.example.org", Host="paint.example.org") == 404
    assert asked(client, Origin="https://draw.example.org", Host="paint.example.org") == 403


def test_a_link_may_lead_to_the_page_and_nowhere_else(client: TestClient) -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=followed).status_code == 200
    assert client.get("/", headers={**followed, "Sec-Fetch-Dest": "iframe"}).status_code == 403
    assert client.get("/logout", headers=followed).status_code == 403


def test_a_preflight_is_answered_with_no_permission(client: TestClient) -> None:
    for origin in ("http://evil.example", "http://localhost:3000"):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        answer = client.options(JOIN, headers=headers)
        assert answer.status_code in (403, 405)
        assert not [name for name in answer.headers if name.startswith("access-control")]


# -------------------------------------------------------------------------------------------------- addresses


CLOSED = """/gradio_api/proxy=https://x.hf.space/a /gradio_api/file=http://127.0.0.1:1/a
    /gradio_api/file=https://example.org/a.png /gradio_api/process_recording /gradio_api/vibe-code
    /gradio_api/vibe-edit /gradio_api/deep_link?session_hash=a /gradio_api/run-history/buckets
    /gradio_api/runs
    /gradio_api/token /gradio_api/dev/reload /gradio_api/openapi.json /gradio_api/stream/a /monitoring
    /monitoring/summary /pwa_icon /gradio_api/custom_component/a/client/b/c /gradio_api/mcp/sse /docs
    /gradio_api/file=/data/../../etc/passwd /gradio_api/file=/etc/passwd%00.png /gradio_api//upload /%2e%2e/
    /assets/../../launch.py /gradio_api/queue/status /gradio_api/user /redoc /launch.py
    /openapi.json""".split()


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_what_the_page_does_not_use_is_closed(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code in (404, 405), answer.text
    assert answer.json()["problem"]


def test_every_address_of_gradios_is_open_by_a_row_or_not_at_all(app: FastAPI, client: TestClient) -> None:
    """A later Gradio's new address stays closed."""
    (mount,) = [route for route in app.routes if getattr(route, "path", None) == ""]
    for route in mount.routes:  # type: ignore[attr-defined]
        path = re.sub(r"\{[^}]*\}", "x", getattr(route, "path", ""))
        methods = getattr(route, "methods", None) or {"GET"}
        for method in methods:
            door = table.gradios(path)
            if door is None or method not in door.methods:
                assert client.request(method, path).status_code in (404, 405), path


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PATCH", "DELETE", "OPTIONS", "FOO"])
def test_other_methods_are_not_taken(client: TestClient, method: str) -> None:
    assert client.request(method, "/").status_code == 405
    assert client.request(method, JOIN).status_code == 405


# ---------------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize(
    "path", ["/", "/darkroom/js/page.js", "/theme.css", "/nothing", "/gradio_api/login_check", "/config"]
)
def test_every_answer_says_what_may_be_done_with_it(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ") and "unsafe-inline" not in re.sub(
        "style-src[^;]*", "", policy
    )
    assert "frame-ancestors 'none'" in policy
    assert "server" not in headers


def test_only_the_pages_own_scripts_run_and_no_other_machine_is_asked(client: TestClient) -> None:
    first, second = client.get("/"), client.get("/")
    policy = first.headers["content-security-policy"]
    script = re.search(r"script-src ([^;]*)", policy)
    assert script and "'unsafe-inline'" not in script[1]
    nonce = re.search(r"'nonce-([\w-]+)'", policy)
    assert nonce and nonce[1] not in second.headers["content-security-policy"]
    assert set(re.findall(r"<script( nonce=\"[^\"]*\")?", first.text)) == {f' nonce="{nonce[1]}"'}
    assert not re.search(r"https?:|\*", policy)


# ---------------------------------------------------------------------------------------------- what is asked


@pytest.mark.parametrize(
    ("path", "question"),
    [
        (JOIN, "text"),
        (JOIN, []),
        (JOIN, None),
        (JOIN, {}),
        (JOIN, {"session_hash": "a", "data": []}),
        (JOIN, {"session_hash": "../a", "fn_index": 0, "data": []}),
        (JOIN, {"session_hash": "a", "fn_index": -1, "data": []}),
        (JOIN, {"session_hash": "a", "fn_index": True, "data": []}),
        (JOIN, {"session_hash": "a", "fn_index": "0", "data": []}),
        (JOIN, {"session_hash": ["a"], "fn_index": 0, "data": []}),
        (JOIN, {"session_hash": "a", "fn_index": 0, "data": {}}),
        (JOIN, {"session_hash": "a", "fn_index": 0, "data": [1] * 999}),
        ("/gradio_api/run/predict", {"session_hash": "a", "fn_index": 10**30, "data": []}),
        (SERVER, {}),
        (SERVER, {"session_hash": "a", "component_id": 0, "fn_name": "__class__", "data": {}}),
        (SERVER, {"session_hash": "a", "component_id": {}, "fn_name": "keep", "data": {}}),
        ("/gradio_api/call/nothing", {"data": []}),
        ("/gradio_api/call/paint", {"data": "text"}),
        ("/gradio_api/call/v2/nothing", {}),
        ("/gradio_api/call/v2/paint", {"prompt": "a", "nothing": 1}),
        ("/gradio_api/cancel", {"session_hash": "a", "fn_index": 0}),
        ("/gradio_api/cancel", {"session_hash": "a", "fn_index": "a", "event_id": "b"}),
        ("/gradio_api/reset", {"event_id": 7}),
    ],
    ids=str,
)
def test_a_question_of_the_wrong_shape_gets_a_sentence(client: TestClient, path: str, question: Any) -> None:
    answer = client.post(path, json=question)
    assert 400 <= answer.status_code < 500
    assert answer.json()["problem"].endswith(".")


def test_what_a_client_calls_a_file_is_an_upload_or_nothing(client: TestClient) -> None:
    hashed = "0" * 64
    strange = ["/etc/passwd", "http://127.0.0.1:1/a.png", "", 7, None, f"{get_upload_folder()}/a.png", "a\0b"]
    strange += [f"{get_upload_folder()}/{hashed}/../../a", f"{get_upload_folder()}/{hashed}/a/b", ["a"], {}]
    for path in strange:
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        for told in (file, {"deep": [{"down": file}]}):
            question = {"session_hash": "a", "fn_index": 0, "data": [told]}
            assert client.post(JOIN, json=question).status_code == 400
            question = {"session_hash": "a", "component_id": 1, "fn_name": "keep", "data": told}
            assert client.post(SERVER, json=question).status_code == 400
    assert store.is_upload(f"{get_upload_folder()}/{hashed}/a.png")


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("path", [JOIN, SERVER, "/gradio_api/call/paint", "/gradio_api/run/predict"])
def test_a_question_nested_without_end_breaks_nothing(client: TestClient, path: str, opening: bytes) -> None:
    for body in (opening * 100_000, b'{"data":' + opening * 200 + b"1"):
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400 and "deep" in answer.json()["problem"]
    for body in (b"\xff\xfe", b'"', b"{", b"NaN", b"1" * 5000, b'{"data": "\\ud800"}', b'{"\\uDFFF": 1}'):
        assert client.post(path, content=body).status_code == 400


def test_a_long_question_is_looked_through_where_nobody_waits_for_it(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    served_meanwhile, look = [], asked_doors.check

    def check(*given: Any) -> None:
        served_meanwhile.append(asyncio._get_running_loop() is None)  # type: ignore[attr-defined]
        look(*given)

    monkeypatch.setattr(asked_doors, "check", check)
    for body in (b"{}", b'{"data": "%s"}' % (b"a" * guard.LONG)):
        assert client.post(JOIN, content=body).status_code == 422
    assert served_meanwhile == [False, True]


def test_depth_is_told_without_parsing() -> None:
    assert limits.depth(b"") == limits.depth(b'"[[[["') == limits.depth(b'"[\\"[["') == 0
    assert limits.depth(b'{"a":[1,{"[":2}],"b":[]}') == 3
    assert limits.depth(json.dumps([["\\", '"[[[', "\n["]]).encode()) == 2
    assert limits.depth(b"[" * 10**6) == limits.DEEPEST + 1
    assert limits.depth(b'"' + b'\\"' * 10**6) == 0  # and at once


def test_too_much_is_refused_before_it_is_read(client: TestClient) -> None:
    for path, most in ((JOIN, table.JSON_BYTES), ("/login", table.ENVELOPE)):
        told = client.post(path, content=b"", headers={"Content-Length": str(most + 1)})
        assert told.status_code == 413
    for length in ("-1", "a", "1e3", "+1"):
        assert client.post(JOIN, content=b"", headers={"Content-Length": length}).status_code == 400


@pytest.mark.parametrize("read", [limits.whole, limits.counted])
def test_what_does_not_say_how_long_it_is_is_cut_off_while_it_comes(read: Any) -> None:
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1 << 16
        return {"type": "http.request", "body": bytes(1 << 16), "more_body": True}

    async def take() -> None:
        if read is limits.whole:
            await limits.whole(receive, 1 << 20)
        piece = limits.counted(receive, 1 << 20)
        while True:
            await piece()

    with pytest.raises(limits.TooMuch, match="at most 1 MB"):
        asyncio.run(take())
    assert taken == (1 << 20) + (1 << 16)


# ---------------------------------------------------------------------------------------- how often, how slow


def test_a_bucket_fills_steadily() -> None:
    now = 0.0
    bucket = limits.Buckets(3, 0.5, clock=lambda: now)
    assert [bucket.take("a") for _ in range(4)] == [0, 0, 0, 2.0]
    assert bucket.take("b") == 0
    now = 2.0
    assert [bucket.take("a") for _ in range(2)] == [0, 2.0]
    bucket.give_back("a")
    assert bucket.take("a") == 0
    now = 1e9
    assert [bucket.take("a") for _ in range(4)] == [0, 0, 0, 2.0]


def test_passwords_cannot_be_tried_without_end(worker: Worker) -> None:
    app = build(worker, worker.store.root.parent, auth=("ann", "secret words"))
    client = TestClient(app, base_url=HERE)
    answers = [
        client.post("/login", data={"username": "ann", "password": str(number)}).status_code
        for number in range(limits.TRIES + 1)
    ]
    assert answers == [400] * limits.TRIES + [429]
    late = client.post("/login", data={"username": "ann", "password": "secret words"})
    assert late.status_code == 429 and int(late.headers["retry-after"]) > 0
    assert "wait" in late.json()["problem"]


def test_who_comes_by_a_proxy_cannot_call_themselves_another_at_each_try(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TRIES", 2)

    def tried(client: httpx.Client, name: str) -> int:
        form = {"username": "ann", "password": "a guess"}
        return client.post("/login", data=form, headers={"X-Forwarded-For": f"10.0.0.1, {name}"}).status_code

    with (
        served(worker, worker.store.root.parent, auth=("ann", "secret words")) as address,
        httpx.Client(base_url=address) as client,
    ):
        assert [tried(client, "1.1.1.1") for _ in range(3)] == [400, 400, 429]
        others = [tried(client, f"1.1.1.{number}") for number in range(2, 40)]
    assert others[:6] == [400] * 6  # who comes by the same proxy is not kept out by the first
    assert others[-1] == 429
    app = build(worker, worker.store.root.parent, auth=("ann", "secret words"))
    far = TestClient(app, base_url=HERE, client=("10.0.0.9", 1))  # no proxy of this machine
    assert [tried(far, f"1.1.1.{number}") for number in range(3)] == [400, 400, 429]


def test_for_whom_a_proxy_of_this_machine_asks() -> None:
    headers = [(b"x-forwarded-for", b"1.1.1.1"), (b"x-forwarded-for", b"2.2.2.2, 3.3.3.3")]
    here = {"client": ("127.0.0.1", 1), "headers": headers}
    assert limits.callers(here) == [("3.3.3.3 by 127.0.0.1", 1), ("127.0.0.1", limits.BY_PROXY)]
    assert limits.callers({**here, "headers": []}) == [("127.0.0.1", 1)]
    assert limits.callers({**here, "client": ("10.0.0.9", 1)}) == [("10.0.0.9", 1)]


def test_without_the_password_nothing_but_the_login_is_open(worker: Worker) -> None:
    app = build(worker, worker.store.root.parent, auth=("ann", "secret words"))
    client = TestClient(app, base_url=HERE)
    own = [route.path for route in app.routes if "GET" in (getattr(route, "methods", None) or ())]  # type: ignore[attr-defined]
    assert len(own) >= 5
    for path in [
        *own,
        "/config",
        "/gradio_api/info",
        "/gradio_api/heartbeat/a",
        "/gradio_api/file=/etc/passwd",
    ]:
        assert client.get(path).status_code == 401, path
    for path in (JOIN, SERVER, "/gradio_api/upload", "/gradio_api/cancel", "/gradio_api/run/predict"):
        assert client.post(path, json={}).status_code == 401, path
    page = client.get("/")
    assert page.status_code == 200 and "auth_required" in page.text and "Sampler" not in page.text
    assert client.post("/login", data={"username": "ann", "password": "secret words"}).status_code == 200
    assert client.get("/config").status_code == 200
    assert client.post(JOIN, json={}).status_code == 422


def test_a_flood_is_told_to_wait(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BURST", 5)
    app = build(worker, worker.store.root.parent)
    client = TestClient(app, base_url=HERE, client=("10.0.0.9", 1))
    statuses = [client.post(JOIN, json={}).status_code for _ in range(100)]
    assert statuses[:5] == [422] * 5 and 429 in statuses
    assert client.get("/darkroom/js/page.js").status_code == 200  # looking at things is not counted
    small = client.get("/darkroom/gallery/thumb", params={"id": "0" * 32})
    assert small.status_code == 404  # there is none, but it was looked for
    other = TestClient(app, base_url=HERE, client=("10.0.0.10", 1))
    assert other.post(JOIN, json={}).status_code == 422


def test_one_client_holds_only_so_many_connections() -> None:
    crowd = limits.Crowd(2)
    assert [crowd.enter("a") for _ in range(3)] == [True, True, False]
    assert crowd.enter("b")
    crowd.leave("a")
    assert crowd.enter("a")


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nA: "])
def test_who_asks_for_nothing_is_not_waited_for(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    """Neither where a letter comes now and then."""
    monkeypatch.setattr(limits, "PATIENCE", 0.5)
    with (
        served(worker, worker.store.root.parent) as address,
        connected(address) as slow,
        httpx.Client(base_url=address) as other,
    ):
        slow.settimeout(0.1)
        slow.sendall(head)
        assert other.get("/gradio_api/login_check").status_code == 200
        begun = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - begun < 30:
                with contextlib.suppress(TimeoutError):
                    if slow.recv(100) == b"":
                        raise ConnectionError
                if head:
                    slow.sendall(b"a")
        assert other.get("/gradio_api/login_check").status_code == 200


def test_one_address_has_only_so_many_connections(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS", 3)
    with served(worker, worker.store.root.parent) as address, contextlib.ExitStack() as open_ones:
        held = [open_ones.enter_context(connected(address)) for _ in range(3)]
        with connected(address) as more, contextlib.suppress(ConnectionError):
            assert more.recv(100) == b""
        held[0].sendall(b"GET /gradio_api/login_check HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert held[0].recv(100).startswith(b"HTTP/1.1 200")


def connected(address: str) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def test_who_sends_too_slowly_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PATIENCE", 0.05)

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    for reading in (lambda: limits.whole(never, 10), lambda: limits.counted(never, 10)()):
        with pytest.raises(limits.TooMuch) as problem:
            asyncio.run(reading())  # type: ignore[arg-type]
        assert problem.value.status == 408


def test_who_does_not_take_an_answer_is_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SEND_PATIENCE", 0.05)

    async def never(message: Any) -> None:
        await asyncio.Event().wait()

    async def answer() -> None:
        await guard._Answer(never)({"type": "http.response.body", "body": b"x"})

    with pytest.raises(guard._Gone):
        asyncio.run(answer())


# ---------------------------------------------------------------------------------------------------- uploads


def test_uploads_that_nobody_kept_are_swept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))

    def file(name: str, age: float) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(10))
        os.utime(path, (time.time() - age,) * 2)
        return path

    fresh, old = file("a/new.png", 60), file("b/old.png", 90_000)
    coming, left = file("tmpfresh", 60), file("tmpleft", 1000)
    store.sweep_uploads()
    assert [path.exists() for path in (fresh, old, coming, left)] == [True, False, True, False]
    monkeypatch.setattr(store, "UPLOADS_BYTES", 25)
    oldest = file("c/older.png", 100)
    store.sweep_uploads()
    assert [path.exists() for path in (fresh, coming, oldest)] == [True, True, False]


def test_an_upload_is_fetched_by_none_who_does_not_know_its_hash(client: TestClient) -> None:
    (path,) = client.post("/gradio_api/upload", files={"files": ("a.png", b"one picture")}).json()
    # Gradio's hash is seeded at each installation: not even who has the picture can tell the address.
    assert re.fullmatch("[0-9a-f]{64}", Path(path).parent.name)
    assert Path(path).parent.name != hashlib.sha256(b"one picture").hexdigest()
    assert client.get(f"/gradio_api/file={path}").content == b"one picture"
    for other in (Path(path).parent, Path(path).parents[1], get_upload_folder() + "/", "/etc/passwd"):
        answer = client.get(f"/gradio_api/file={other}")
        assert answer.status_code in (403, 404) and str(path) not in answer.text


# ----------------------------------------------------------------------------- what is fetched from elsewhere


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "127.8.8.8",
            "localhost",
            "a.localhost",
            "[::1]",
            "0.0.0.0",
            "10.0.0.1",
            "192.168.1.1",
        ),
        *("169.254.169.254", "172.16.0.1", "[fe80::1]", "[::ffff:127.0.0.1]", "nas.local", "db.internal"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nothing_is_fetched_from_inside_this_computer_or_its_network(host: str, scheme: str) -> None:
    for name in (host, f"ann:token@{host}:8000"):
        with pytest.raises(FetchProblem):
            hub.parse(f"{scheme}://{name}/a.safetensors")


def test_a_hub_of_ones_own_may_be_there() -> None:
    endpoint = "http://127.0.0.1:9000"
    assert hub.parse(f"{endpoint}/ann/house/blob/main/a.safetensors", endpoint).repo == "ann/house"
    assert hub.parse("https://example.org/a.safetensors", endpoint).url


def test_what_may_be_larger_is_a_route_that_there_is(app: FastAPI) -> None:
    own = {route.path for route in app.routes if getattr(route, "methods", None)}  # type: ignore[attr-defined]
    assert set(table.LARGE) <= own


def test_a_librarys_words_tell_no_folder() -> None:
    told = "[Errno 2] No file: '/home/ann/models/x.safetensors', see https://example.org/a/b and C:\\u\\m.bin"
    cut = without_folders(told)
    assert "/home" not in cut and "ann" not in cut and "C:\\u" not in cut
    assert "https://example.org/a/b" in cut and "m.bin" in cut and "1/2" in without_folders("1/2 of a/b")
