"""A hostile client over raw HTTP against the running program with a real engine.

What there is to ask is read off the program itself: its routes, the page's functions and events, and the
names that the sources take out of a question. So what is added tomorrow is attacked by itself.
"""

from __future__ import annotations

import json
import random
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from gradio.utils import get_upload_folder

import pipelines
from pipelines.request import GenerationRequest
from pipelines.worker import Worker
from tests.support.served import serving
from ui.app import build

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"model": "sd", "width": 64, "height": 64, "num_inference_steps": 2}
CANARY = "canary-7f3a91c2"
"""Stands in a file that nobody may read, and is given as password and token, which nobody may tell."""

TRAVERSALS = [
    "../../../../../../etc/passwd",
    "..\\..\\..\\windows\\win.ini",
    "/etc/passwd",
    "file:///etc/passwd",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "....//....//etc/passwd",
    "http://127.0.0.1:1/a.png",
    "//evil.example/a",
    "a\0b",
    "..",
    ".",
    "~root",
    "C:\\secret",
    "a/../../secret",
]
ROUNDS = 2
"""Strange questions of each sort that each function is asked."""
STRANGE: list[Any] = [
    *TRAVERSALS,
    "",
    " " * 5000,
    "<script>alert(1)</script>",
    "{{7*7}}${7*7}%n%s",
    "'; DROP TABLE jobs; --",
    "ü\u202e\U0001f600\ud800",
    "-1",
    "9" * 400,
    None,
    True,
    0,
    -1,
    10**30,
    1.5,
    float("nan"),
    float("inf"),
    [],
    {},
    [[[[[[]]]]]],
    ["../a", 1, None],
    {"a": {"b": ["../c"]}},
    [0] * 5000,
]
"""One of each kind that breaks things."""


class Running:
    """The served program, and what is asked of it."""

    def __init__(self, app: FastAPI, worker: Worker, address: str):
        self.app, self.worker, self.address = app, worker, address
        (mount,) = [route for route in app.routes if getattr(route, "path", None) == ""]
        self.blocks = mount.app.get_blocks()  # type: ignore[attr-defined]
        self.http = httpx.Client(base_url=address, timeout=60)

    def functions(self) -> list[tuple[int, str]]:
        """Every function of the page's that can be asked: the component's id, and its name."""
        return [
            (number, name)
            for number, block in self.blocks.blocks.items()
            for name in dir(block)
            if not name.startswith("__") and getattr(getattr(block, name, None), "_is_server_fn", False)
        ]

    def ask(self, component: int, name: str, data: Any) -> httpx.Response:
        """The answer of one of them."""
        question = {"session_hash": "hostile", "component_id": component, "fn_name": name, "data": data}
        return self.post("/gradio_api/component_server", question)

    def post(self, path: str, question: Any) -> httpx.Response:
        """The answer to a question, which may hold what JSON proper does not."""
        body = json.dumps(question).encode()
        return self.http.post(path, content=body, headers={"Content-Type": "application/json"})

    def event(self, index: int, data: Any, event_data: Any = None) -> str:
        """All that is told of an event of the page's."""
        session = f"hostile{random.randrange(10**9)}"
        asked = {"session_hash": session, "fn_index": index, "data": data, "event_data": event_data}
        answer = self.post("/gradio_api/queue/join", asked)
        sound(answer)
        if answer.status_code != 200:
            return answer.text
        told = []
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                told.append(line)
                if "process_completed" in line:
                    break
        return "\n".join(told)

    def paints(self, seed: int) -> None:
        """The engine still makes a picture, and the page is still there."""
        done = self.worker.generate(prompt="a house", seed=seed, **SMALL)  # type: ignore[arg-type]
        assert Path(done.pictures[0].path).is_file()
        assert self.http.get("/").status_code == 200


@pytest.fixture(scope="module")
def running(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    data = tmp_path_factory.mktemp("data")
    (data / "secret.png").write_text(CANARY)
    with pipelines.open(data, models=[tiny_models]) as worker:
        app = build(worker, data)
        with serving(app) as address:
            yield Running(app, worker, address)


def sound(answer: httpx.Response) -> None:
    """No answer is a crash, and none that refuses something tells where things are or how they are made."""
    assert answer.status_code < 500 or answer.status_code in (503, 504), (
        answer.request.url,
        answer.text[:500],
    )
    discreet(
        answer.text if answer.headers.get("content-type", "").startswith(("text", "application/json")) else ""
    )
    if answer.status_code >= 400:
        assert not re.search(r"(/tmp/|/home/|/root/|/usr/|site-packages|[A-Z]:\\\\Users)", answer.text), (
            answer.text
        )


def discreet(text: str) -> None:
    """Nothing that is told is a secret, a file that nobody showed, or a look into the program."""
    for word in ("Traceback (most recent", 'File "', CANARY, "root:x:0:0", "[fonts]"):
        assert word not in text, text[:500]


def names() -> list[str]:
    """Every name that the sources of the page take out of a question."""
    found = set()
    for source in (ROOT / "ui").rglob("*.py"):
        text = source.read_text("utf-8")
        found |= set(
            re.findall(r"""(?:asked|question|query_params|body|given)(?:\.get\(|\[)["'](\w+)["']""", text)
        )
        found |= set(re.findall(r"""_(?:text|count|texts|whole)\(\w+, ["'](\w+)["']""", text))
    return sorted(found | set(GenerationRequest.model_fields))


def test_the_names_of_what_is_asked_are_found() -> None:
    assert {"run", "step", "what", "sort", "key", "job", "path", "token", "model"} <= set(names())


def test_every_function_of_the_page_bears_strange_questions(running: Running) -> None:
    functions = running.functions()
    assert len(functions) >= 20
    # A path is refused by the guard before a function hears of it; see test_doors.py.
    keys = [name for name in names() if name != "path"]
    dice = random.Random(1)
    broken = []
    for component, name in functions:
        asked: list[dict[str, Any]] = [{}, dict.fromkeys(keys, dice.choice(TRAVERSALS))]
        for _ in range(ROUNDS):
            asked.append({key: dice.choice(STRANGE) for key in keys})
            asked.append(dict.fromkeys(keys, dice.choice(STRANGE)))
        for data in asked:
            answer = running.ask(component, name, data)
            if answer.status_code == 500:
                broken.append((name, data))
            else:
                sound(answer)
    assert broken == []
    running.paints(1)


def test_every_route_of_the_programs_own_bears_strange_questions(running: Running) -> None:
    routes = [route for route in running.app.routes if getattr(route, "methods", None)]
    assert len(routes) >= 5
    dice = random.Random(2)
    strings = [value for value in STRANGE if isinstance(value, str) and "\ud800" not in value]
    for route, value in ((route, value) for route in routes for value in dice.sample(strings, 3 * ROUNDS)):
        path = re.sub(r"\{[^}]*\}", "x", route.path)  # type: ignore[attr-defined]
        if path.endswith("/feed"):
            continue  # a stream without end; see below
        given = dict.fromkeys(names(), value[:300])
        for query in (given, {key: dice.choice(strings)[:300] for key in dice.sample(names(), 5)}):
            sound(running.http.get(path, params=query))
        sound(running.post(path, dict.fromkeys(names(), dice.choice(STRANGE))))
        body = dice.choice(
            [b"", b"\xff\xd8\xff", b"[" * 5000, b"{}", b"null", b"[1,2]", b"PK\3\4" + bytes(99)]
        )
        sound(running.http.post(path, params=given, content=body))
    running.paints(2)


def test_every_event_of_the_page_bears_strange_values(running: Running) -> None:
    dice = random.Random(3)
    events = [one for one in running.blocks.fns.items() if one[1].queue is not False or not one[1].inputs]
    assert len(events) >= 5
    for index, function in events:
        if not function.inputs and getattr(function.fn, "__name__", "") == "watch":
            continue
        for _ in range(6):
            data = [dice.choice(STRANGE) for _ in function.inputs]
            discreet(running.event(index, data, {"job": dice.choice(STRANGE), "jobs": dice.choice(STRANGE)}))
    running.paints(3)


def test_forged_job_ids_and_sessions_reach_nothing(running: Running) -> None:
    job = running.worker.generate(prompt="mine", seed=9, **SMALL)  # type: ignore[arg-type]
    assert job.pictures
    index = next(i for i, one in running.blocks.fns.items() if getattr(one.fn, "__name__", "") == "stop")
    for forged in ("0" * 16, "../x", "", None, 7, ["a"]):
        asked = {"session_hash": "b", "fn_index": index, "data": [], "event_data": {"job": forged, "keep": 1}}
        sound(running.post("/gradio_api/run/stop", asked))
    for session in ("../a", "", "a" * 65, "a b", "a/b"):
        sound(running.http.get("/gradio_api/queue/data", params={"session_hash": session}))
        assert running.http.get(f"/gradio_api/heartbeat/{session}x/y").status_code == 404
    for stream in (
        "call/paint/nothing",
        "call/v2/paint/nothing",
        "queue/data",
        "queue/data?session_hash=other",
    ):
        assert running.http.get(f"/gradio_api/{stream}").status_code == 404


def test_uploads_with_forged_names_stay_in_their_folder(running: Running) -> None:
    around = Path(get_upload_folder()).parent
    before = set(around.glob("*"))
    for name in [*TRAVERSALS, "a" * 5000, "\n", '"; x="', "con", "a.html"]:
        head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode("utf-8", "replace") + b"x\r\n--b--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = running.http.post("/gradio_api/upload", content=body, headers=kind)
        sound(answer)
        if answer.status_code == 200:
            for path in answer.json():
                inside = Path(path).resolve().parts
                assert "gradio" in inside and not {"etc", ".."} & set(inside)
                fetched = running.http.get(f"/gradio_api/file={path}")
                assert "html" not in fetched.headers.get("content-type", "")
                assert "sandbox" in fetched.headers["content-security-policy"]
    for kind, body in (
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nno name\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\nA: " + b"h" * 100_000),
        ("text/plain", b"x"),
        ("application/json", b"{}"),
    ):
        answer = running.http.post("/gradio_api/upload", content=body, headers={"Content-Type": kind})
        sound(answer)
    assert not [path for path in set(around.glob("*")) - before if path.name in ("a", "secret", "passwd")]


def raw(running: Running, data: bytes, wait: float = 5) -> bytes:
    """What the server says to some bytes."""
    host, port = running.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        connection.sendall(data)
        said = b""
        try:
            while piece := connection.recv(65536):
                said += piece
                if b"\r\n\r\n" in said:
                    break
        except (TimeoutError, ConnectionError):
            pass
        return said


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /%ff%fe/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 200_000 + b"\r\n\r\n",
        b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /config HTTP/1.1\r\n\r\n",
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"\0" * 1000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    ],
    ids=lambda data: repr(data[:40]),
)
def test_what_is_no_request_is_answered_with_4xx_or_cut_off(running: Running, data: bytes) -> None:
    said = raw(running, data)
    assert said == b"" or re.match(rb"HTTP/1.1 4\d\d", said), said[:200]
    assert running.http.get("/gradio_api/login_check").status_code == 200


def test_who_opens_a_stream_and_never_reads_holds_nobody_up(running: Running) -> None:
    host, port = running.address.removeprefix("http://").split(":")
    index = next(i for i, one in running.blocks.fns.items() if one.api_name == "paint")
    values = {"prompt": "slow", **SMALL, "num_inference_steps": 150, "seed": 77}
    given = [values.get(name) for name in _parameters(running)]
    silent = []
    for number in range(8):
        asked = {"session_hash": f"silent{number}", "fn_index": index, "data": given}
        assert running.post("/gradio_api/queue/join", asked).status_code == 200
        connection = socket.create_connection((host, int(port)))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        path = f"/gradio_api/queue/data?session_hash=silent{number}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        silent.append(connection)
    half = socket.create_connection((host, int(port)))
    half.sendall(b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    try:
        running.paints(4)
    finally:
        for connection in [*silent, half]:
            connection.close()
    running.paints(5)


def _parameters(running: Running) -> list[str]:
    return list(GenerationRequest.model_fields)


def test_a_crowd_of_connections_leaves_room_for_others(running: Running) -> None:
    found: list[int] = []

    def ask() -> None:
        found.append(httpx.get(f"{running.address}/gradio_api/login_check", timeout=30).status_code)

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 40


def test_secrets_are_told_nowhere(
    running: Running, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A token that is given for a fetch which fails, also in an address: not in answers, logs or files."""
    (shelf,) = {component for component, name in running.functions() if name == "estimate"}
    for id in (
        f"https://huggingface.co/a/b?token={CANARY}",
        f"https://ann:{CANARY}@example.org/a.safetensors",
        f"https://127.0.0.1/a.safetensors?api_key={CANARY}",
        "ann/nothing",
    ):
        for name in ("estimate", "start"):
            answer = running.ask(shelf, name, {"id": id, "token": CANARY})
            sound(answer)
            assert "problem" in answer.json() or "key" in answer.json()
    running.paints(8)
    told = capfd.readouterr()
    assert CANARY not in told.out + told.err + caplog.text
    data = running.worker.store.root.parent
    with_it = [path for path in data.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert [path.name for path in with_it] == ["secret.png"]  # put there by this test
