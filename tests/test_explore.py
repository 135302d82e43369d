"""What the server gives the Explore tab: runs, films in one piece, thumbnails, and sentences."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from pipelines.turn import Busy
from tests.support.films import Films, film
from ui import explore
from ui.explore.film import packed

RUN = "3a7bd5" + "0" * 10


@pytest.fixture
def films(tmp_path: Path) -> Films:
    return Films(tmp_path)


def ask(films: Films, verb: str, **asked: Any) -> dict[str, Any]:
    worker: Any = films
    return explore.asks(worker)[verb](asked)


@pytest.fixture
def client(films: Films) -> TestClient:
    from fastapi import FastAPI

    app, worker = FastAPI(), films
    app.add_route("/gradio_api/login_check", lambda request: _ok())  # Gradio lets everyone in
    explore.add_routes(app, worker)  # type: ignore[arg-type]
    return TestClient(app)


def _ok() -> Any:
    from starlette.responses import Response

    return Response()


def unpacked(body: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack_from("<I", body)
    return json.loads(body[4 : 4 + length]), body[4 + length :]


def test_a_packed_film_holds_each_picture_at_its_place() -> None:
    drawn = film(3)
    head, pictures = unpacked(packed(drawn))
    for step, told in zip(drawn["steps"], head["steps"], strict=True):
        places = told["lanes"]
        assert set(places) == {*step["lanes"], "channels"}
        for name, (start, length) in places.items():
            assert pictures[start : start + length] == (step["lanes"] | {"channels": step["channels"]})[name]
        assert told["sigma"] == step["sigma"]
    assert len(pictures) == sum(length for step in head["steps"] for _, length in step["lanes"].values())


def test_only_the_later_steps_of_a_run_that_goes_on_are_sent() -> None:
    head, _ = unpacked(packed(film(5), 3))
    assert [step["index"] for step in head["steps"]] == [3, 4]
    assert head["steps"][0]["lanes"]["x_t"][0] == 0
    assert unpacked(packed(film(2), 2)) == ({"run": {}, "steps": [], "still_from": None}, b"")


def test_the_newest_run_is_told_first_and_what_is_in_the_trash_too(films: Films) -> None:
    older, newer = films.add(RUN, 3, "a house", created=1.0), films.add("f" * 16, 3, "a boat", created=2.0)
    ask(films, "trash", run=newer)
    told = ask(films, "runs")["runs"]
    assert [(run["id"], run["trashed"], run["prompt"]) for run in told] == [
        (newer, True, "a boat"),
        (older, False, "a house"),
    ]
    assert json.loads(json.dumps(told)) == told


def test_a_run_is_named_pinned_and_brought_back(films: Films) -> None:
    run = films.add(RUN, 3, "a house")
    assert ask(films, "rename", run=run, name="  My \n house ")["run"]["name"] == "My house"
    assert ask(films, "pin", run=run, pinned=True)["run"]["pinned"]
    assert ask(films, "trash", run=run)["run"]["trashed"]
    assert not ask(films, "restore", run=run)["run"]["trashed"]


@pytest.mark.parametrize("verb", ["rename", "pin", "trash", "restore"])
@pytest.mark.parametrize("run", ["0" * 16 + "-0", "../../etc", "", None, 7, ["x"]])
def test_what_is_no_run_is_told_as_a_sentence(films: Films, verb: str, run: Any) -> None:
    assert ask(films, verb, run=run)["problem"].endswith(".")


def test_routes_give_films_decodes_and_thumbnails(films: Films, client: TestClient) -> None:
    run = films.add(RUN, 4, "a house")
    head, _ = unpacked(client.get(f"/darkroom/explore/film?run={run}").content)
    assert (head["run"]["prompt"], len(head["steps"])) == ("a house", 4)
    head, _ = unpacked(client.get(f"/darkroom/explore/film?run={run}&from=3").content)
    assert len(head["steps"]) == 1
    assert client.get(f"/darkroom/explore/decode?run={run}&step=2&what=x_t").content.startswith(b"\xff\xd8")
    assert films.decoded == [(run, 2, "x_t")]
    thumb = client.get(f"/darkroom/{ask(films, 'runs')['runs'][0]['thumb'].removeprefix('darkroom/')}")
    assert (thumb.status_code, thumb.headers["content-type"]) == (200, "image/jpeg")


@pytest.mark.parametrize(
    "address",
    ["film?run=nonsense", "film?run=../x&from=-1", "film", "decode?run=nonsense", "decode?what=everything"],
)
def test_a_bad_address_is_answered_with_a_sentence(client: TestClient, address: str) -> None:
    answer = client.get(f"/darkroom/explore/{address}")
    assert answer.status_code == 404
    assert answer.json()["problem"].endswith(".")


def test_no_picture_from_outside_of_the_outputs_is_shown(
    films: Films, client: TestClient, tmp_path: Path
) -> None:
    run = films.add(RUN, 3, "a house")
    outside = tmp_path / "secret.png"
    outside.write_bytes(Path(films.info(run).picture).read_bytes())
    films.trajectories.change(run, picture=str(outside))
    assert client.get(f"/darkroom/explore/thumb?run={run}").status_code == 404


@pytest.mark.parametrize("what", ["decode", "attention"])
def test_while_a_picture_is_painted_a_look_is_put_off(
    films: Films, client: TestClient, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def busy(*given: Any) -> Any:
        raise Busy("A picture is being painted.")

    monkeypatch.setattr(films, "call", busy)
    answer = client.get(f"/darkroom/explore/{what}?run={films.add(RUN, 3, 'a house')}&step=1")
    assert (answer.status_code, answer.json()) == (409, {"problem": "A picture is being painted."})
    assert "cache-control" not in answer.headers


def test_before_the_engine_is_up_the_film_is_promised(
    films: Films, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(films, "call", lambda *given: None)
    answer = client.get(f"/darkroom/explore/film?run={films.add(RUN, 3, 'a house')}")
    assert answer.status_code == 503
    assert "as soon as it is up" in answer.json()["problem"]
