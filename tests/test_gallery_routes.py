"""The gallery's routes as a page asks them, and what somebody asks who is no page."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from pipelines.library.models import ModelLibrary
from pipelines.pictures import PictureStore
from pipelines.worker import Worker
from tests.support.pictures import paint
from tests.support.served import asked_of_page
from tests.test_models_tab import StillEngine
from ui.app import build
from ui.doors import limits
from ui.gallery import URL, Desk


class Page:
    """Asks as a page does."""

    def __init__(self, client: TestClient, data: Path, desk: Desk):
        self.client, self.data, self.desk = client, data, desk

    def get(self, what: str, status: int = 200, **asked: Any) -> Any:
        answer = self.client.get(f"/{URL}/{what}", params={name.rstrip("_"): asked[name] for name in asked})
        assert answer.status_code == status, answer.text
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.content

    def post(self, what: str, status: int = 200, **told: Any) -> Any:
        answer = self.client.post(f"/{URL}/{what}", json=told)
        assert answer.status_code == status, answer.text
        return answer.json()

    def paint(self, place: str, *told: Any, **more: str) -> str:
        path = self.data / "outputs" / place
        id = paint(path, *told, **more)
        self.desk.gallery.look(path)
        return id


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    data = tmp_path / "data"
    with Worker(StillEngine(), ModelLibrary([]), PictureStore(data / "inputs")) as worker:
        desk = Desk(worker)
        with TestClient(build(worker, data, desk=desk), base_url="http://127.0.0.1") as client:
            assert desk.gallery.scanned.wait(20)
            yield Page(client, data, desk)


def test_a_page_lists_what_there_is(page: Page) -> None:
    first = page.paint("text2image/2026-01-02/00001-1.png", "a red house", 1)
    second = page.paint("inpaint/2026-02-02/00001-2.png", "a boat", 2)
    told = page.get("list", q="", limit=1, at=first)
    assert (told["total"], told["at"], told["indexing"], told["notes"]) == (2, 1, None, [])
    assert told["entries"] == [
        {
            "id": second,
            "name": "00001-2.png",
            "width": 24,
            "height": 16,
            "task": "inpaint",
            "date": "2026-02-02T00:00:00",
            "seed": 2,
            "model": "Storybook",
            "sampler": "Euler",
            "star": False,
            "board": None,
            "prompt": "a boat",
            "ratio": 1.5,
            "trashed": False,
        }
    ]
    assert page.get("list", offset=1)["entries"][0]["id"] == first
    assert page.get("ids", sort="oldest")["ids"] == [first, second]
    assert page.get("ids", from_="2026-02-01")["ids"] == page.get("ids", task="inpaint")["ids"] == [second]
    assert page.get("facets") == {
        "tasks": [["inpaint", 1], ["text2image", 1]],
        "models": [["Storybook", 2]],
        "loras": [],
        "samplers": [["Euler", 2]],
        "boards": [],
        "months": [["2026-02", 1], ["2026-01", 1]],
        "all": 2,
        "stars": 0,
        "trash": 0,
    }
    entry = page.get("entry", id=first)
    assert entry["negative_prompt"] == "fog" and entry["parameters"].startswith("a red house\nNegative")
    answer = page.client.get("/" + entry["url"])
    assert len(answer.content) == entry["bytes"] and answer.headers["content-type"] == "image/png"
    small = page.client.get(f"/{URL}/thumb?id={first}")
    assert small.headers["content-type"] == "image/webp" and "immutable" in small.headers["cache-control"]


def test_a_page_changes_stars_boards_and_notes_and_every_page_is_told(page: Page) -> None:
    id = page.paint("text2image/2026-01-02/00001-1.png")
    before = page.get("list")["edition"]
    assert page.post("change", ids=[id, "0" * 32], star=True, board="Best", note="crooked")["changed"] == 1
    assert page.get("list")["edition"] != before
    assert page.get("ids", star=1)["ids"] == page.get("ids", board="Best")["ids"] == [id]
    assert page.post("boards", op="rename", name="Best", to=" The  best ")["boards"] == ["The best"]
    assert page.get("entry", id=id)["board"] == "The best" and page.get("entry", id=id)["note"] == "crooked"
    assert page.post("boards", op="create", name="Other")["boards"] == ["The best", "Other"]
    assert page.post("boards", op="delete", name="The best")["boards"] == ["Other"]
    assert page.post("change", ids=[id], board=None, star=False)["changed"] == 1
    assert page.post("change", ids=[id], trash=True)["changed"] == 1
    assert page.get("list")["total"] == 0 and page.get("ids", trash=1)["ids"] == [id]
    assert page.post("change", ids=[id], trash=False)["changed"] == 1
    page.post("change", ids=[id], trash=True)
    assert page.post("empty_trash")["deleted"] == 1
    assert "not in the gallery" in page.get("entry", 404, id=id)["problem"]


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("change", {"ids": "all"}),
        ("change", {"ids": [1]}),
        ("change", {"ids": [], "star": "yes"}),
        ("change", {"ids": [], "board": ["a"]}),
        ("boards", {"op": "create", "name": "  "}),
        ("boards", {"op": "explode", "name": "a"}),
        ("boards", {"op": "rename", "name": "a"}),
    ],
)
def test_what_cannot_be_done_is_said(page: Page, what: str, told: dict[str, Any]) -> None:
    assert page.post(what, 400, **told)["problem"]


def test_no_path_comes_in(page: Page) -> None:
    (page.data / "secret.png").write_bytes(b"secret")
    for id in ("../secret.png", "../../etc/passwd", str(page.data / "secret.png"), "", "0" * 32, "\ud800"):
        for what in ("file", "thumb"):
            assert (
                page.client.get(f"/{URL}/{what}", params={"id": id.encode("utf8", "replace")}).status_code
                == 404
            )
    nothing = page.client.post(f"/{URL}/change", content=b"[" * 5000)
    assert nothing.status_code == 400 and "JSON" in nothing.json()["problem"]
    large = page.client.post(f"/{URL}/change", content=b"x" * (9 << 20))
    assert large.status_code == 413


def test_who_is_not_signed_in_gets_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    paint(data / "outputs/text2image/2026-01-02/00001-1.png")
    with Worker(StillEngine(), ModelLibrary([]), PictureStore(data / "inputs")) as worker:
        client = TestClient(build(worker, data, auth=("ann", "secret")), base_url="http://127.0.0.1")
        for what in ("list", "ids", "facets", "entry", "thumb", "file", "verified"):
            assert client.get(f"/{URL}/{what}").status_code == 401
        for what in ("change", "boards", "empty_trash", "send", "export", "import"):
            assert client.post(f"/{URL}/{what}", json={"ids": []}).status_code == 401


def test_a_file_comes_in_and_a_selection_goes_out(page: Page) -> None:
    id = page.paint("text2image/2026-01-02/00001-1.png")
    data = page.client.get("/" + page.get("entry", id=id)["url"]).content
    page.post("change", ids=[id], trash=True)
    page.post("empty_trash")
    asked = {"name": "../../old.png", "board": "Old", "modified": "1600000000000"}
    told = page.client.post(f"/{URL}/import", params=asked, content=data).json()
    assert told == {"id": id, "known": False, "restored": False}
    entry = page.get("entry", id=id)
    assert (entry["task"], entry["board"], entry["name"]) == ("imported", "Old", "00001-old.png")
    assert entry["date"].startswith("2020-09-1")
    assert (entry["run"], entry["from"], entry["into"]) == (None, [], [])
    assert page.client.post(f"/{URL}/import", content=b"none").json()["problem"]
    assert page.client.post(f"/{URL}/import", content=b"x" * (101 << 20)).status_code == 413
    for given in ({"json": {"ids": [id]}}, {"data": {"ids": f"{id},{'0' * 32}"}}):
        answer = page.client.post(f"/{URL}/export", **given)  # type: ignore[arg-type]
        assert answer.headers["content-type"] == "application/zip"
        assert ".zip" in answer.headers["content-disposition"]
        archive = zipfile.ZipFile(io.BytesIO(answer.content))
        assert archive.namelist() == [f"imported/{entry['date'][:10]}/00001-old.png", "index.json"]
    assert page.client.post(f"/{URL}/export", json={"ids": {}}).status_code == 400


def test_a_picture_is_sent_to_the_painters_by_its_own_key(page: Page) -> None:
    id = page.paint("text2image/2026-01-02/00001-1.png")
    sent = page.post("send", id=id)
    assert (sent["key"], sent["width"], sent["height"]) == (id, 24, 16)
    assert page.post("send", 404, id="0" * 32)["problem"]


def test_what_cannot_be_verified_is_said_at_once(page: Page) -> None:
    id = page.paint("text2image/2026-01-02/00001-1.png")
    assert "another program" in asked_of_page(page.client, "verify", {"id": id})["problem"]
    assert "not in the gallery" in asked_of_page(page.client, "verify", {"id": "x"})["problem"]
    assert page.get("verified", job="nonsense")["state"] == "cannot"


def test_who_scrolls_fast_is_not_held_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BURST", 5)
    monkeypatch.setattr(limits, "PER_SECOND", 0.001)
    data = tmp_path / "data"
    with Worker(StillEngine(), ModelLibrary([]), PictureStore(data / "inputs")) as worker:
        client = TestClient(build(worker, data), base_url="http://127.0.0.1")
        assert {client.get(f"/{URL}/thumb?id={number}").status_code for number in range(20)} == {404}
        changes = [client.post(f"/{URL}/change", json={"ids": [], "star": True}) for _ in range(20)]
        assert 429 in {answer.status_code for answer in changes}
