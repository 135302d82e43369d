"""The server's side of the Models tab: what a page is answered, and that nothing a client sends is a path."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from pipelines.engine import Emit, Tell
from pipelines.library.models import ModelLibrary
from pipelines.pictures import PictureStore
from pipelines.request import GenerationRequest
from pipelines.worker import Worker
from tests.support import weights
from tests.support.hub import Repo, TinyHub
from tests.support.hub_fixtures import hub, until  # noqa: F401
from ui.app import build
from ui.components.models import ASKS
from ui.models import Stock


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    weights.save(folder / "loras/people/ann.safetensors", weights.lora(768))
    weights.save(folder / "loras/wide.safetensors", weights.lora(2048))
    (folder / "loras/broken.safetensors").write_bytes(b"no weights at all")
    Image.new("RGB", (900, 600), (10, 200, 30)).save(folder / "loras/people/ann.preview.png")
    return folder


class StillEngine:
    """An engine that nobody asks anything."""

    apart = True

    def start(self, tell: Tell) -> None: ...

    def run(self, job_id: str, request: GenerationRequest, emit: Emit) -> None: ...

    def stop(self, job_id: str, keep: bool) -> None: ...

    def call(self, name: str, *arguments: Any) -> Any: ...

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def worker(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    store = PictureStore(tmp_path_factory.mktemp("data") / "inputs")
    with Worker(StillEngine(), ModelLibrary([folder]), store) as worker:
        yield worker


@pytest.fixture
def stock(worker: Worker) -> Iterator[Stock]:
    stock = Stock(worker)
    yield stock
    stock.close()


def shelf(stock: Stock, model: str = "starter") -> dict[str, dict[str, object]]:
    return {row["id"]: row for row in stock.answers()["shelf"]({"model": model})["cards"]}


def test_the_page_can_ask_all_that_it_knows(stock: Stock) -> None:
    assert set(stock.answers()) == set(ASKS)


def test_cards_say_what_a_file_is_and_why_it_does_not_fit(stock: Stock, folder: Path) -> None:
    rows = shelf(stock)
    assert rows["checkpoint/starter"]["own"] is False
    ann, wide = rows["lora/people/ann"], rows["lora/wide"]
    assert (ann["title"], ann["file"], ann["own"]) == ("ann", "ann.safetensors", True)
    assert ann["folder"] == str(folder / "loras/people")
    assert ann["format"] and ann["bytes"] and ann["modified"]
    assert wide["family"] == "SDXL" and "SDXL" in str(wide["unfit"])
    answer = stock.answers()["shelf"]({"model": "nonsense"})
    assert [one["file"] for one in answer["unusable"]] == ["broken.safetensors"]
    assert answer["where"]["folders"] == [str(folder)]


def test_a_change_that_nobody_told_of_is_found_when_the_shelf_is_looked_at(
    stock: Stock, folder: Path, tiny_models: Path
) -> None:
    assert [spec.key for spec in stock.models() if spec.source == "folder"] == []
    shelf(stock)
    before = stock.news.edition
    shutil.copytree(tiny_models / "sd", folder / "checkpoints" / "late")
    try:
        assert "checkpoint/late" in shelf(stock)
        assert stock.news.edition != before
        assert [spec.key for spec in stock.models() if spec.source == "folder"] == ["late"]
        told = stock.news.edition
        shelf(stock)
        assert stock.news.edition == told
    finally:
        shutil.rmtree(folder / "checkpoints")


def test_notes_stars_and_pictures_are_kept(stock: Stock, tmp_path: Path) -> None:
    ask = stock.answers()
    asked = {"sort": "lora", "key": "wide"}
    row = ask["edit"]({**asked, "notes": "Good at 0.7", "favourite": True, "title": ["no"]})["card"]
    assert (row["notes"], row["favourite"]) == ("Good at 0.7", True)
    assert shelf(stock)["lora/wide"]["notes"] == "Good at 0.7"
    assert ask["edit"]({**asked, "notes": 7, "favourite": "yes"})["card"]["notes"] == "Good at 0.7"
    assert "problem" in ask["edit"]({"sort": "lora", "key": "../secret", "notes": "x"})
    assert "problem" in ask["edit"]({"sort": "nothing", "key": "wide", "notes": "x"})
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    assert "problem" in ask["picture"]({**asked, "path": str(secret)})  # no upload of Gradio's
    assert "problem" in ask["picture"]({**asked, "job": "gone", "picture": 0})
    assert shelf(stock)["lora/wide"]["picture"] == ""


def test_thumbnails_are_small_jpegs_by_key_alone(stock: Stock, worker: Worker, tmp_path: Path) -> None:
    client = TestClient(build(worker, tmp_path, hosts=["testserver"], stock=stock))
    assert client.get("/darkroom/models/picture?sort=lora&key=people/ann").status_code == 404  # not shown yet
    address = shelf(stock)["lora/people/ann"]["picture"]
    answer = client.get(f"/{address}")
    assert answer.headers["content-type"] == "image/jpeg"
    assert "immutable" in answer.headers["cache-control"]
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.size == (384, 256)
    for key in ("people/../people/ann", "/etc/hostname", "../../etc/hostname", ""):
        assert client.get("/darkroom/models/picture", params={"sort": "lora", "key": key}).status_code == 404


def test_a_fetch_goes_from_the_hub_onto_the_shelf(worker: Worker, hub: TinyHub, tmp_path: Path) -> None:  # noqa: F811
    body = weights.save(tmp_path / "fresh.safetensors", weights.lora(768)).read_bytes()
    hub.repos["ann/fresh"] = Repo({"fresh.safetensors": body})
    stock = Stock(worker, endpoint=hub.address, cache=tmp_path / "cache", rows=())
    try:
        ask = stock.answers()
        before = stock.news.edition
        told = ask["estimate"]({"id": "ann/fresh/fresh.safetensors"})
        assert told["fits"] and told["sort"] in ("", "lora") and "free" in told["sentence"]
        key = ask["start"]({"id": "ann/fresh/fresh.safetensors", "sort": told["sort"]})["key"]
        until(stock.fetcher, key, "done")
        assert stock.news.edition != before
        assert "lora/fresh" in shelf(stock)
        assert ask["steer"]({"key": key, "deed": "cancel"}) == {}
        assert "problem" in ask["steer"]({"key": "nothing", "deed": "pause"})
        assert "problem" in ask["start"]({"id": "what is this"})
        assert "problem" in ask["estimate"]({"id": "ann/nothing"})
    finally:
        stock.close()


def test_a_gated_model_asks_for_a_token_that_no_answer_holds(
    worker: Worker,
    hub: TinyHub,  # noqa: F811
    tmp_path: Path,
) -> None:
    hub.repos["ann/gated"] = Repo({"a.safetensors": b"x" * 2000}, gated=True)
    stock = Stock(worker, endpoint=hub.address, cache=tmp_path / "cache", rows=())
    try:
        asked = {"id": "ann/gated/a.safetensors"}
        assert stock.answers()["estimate"](asked)["wants_token"]
        answer = stock.answers()["estimate"]({**asked, "token": "hf_wrong"})
        assert "problem" in answer and "hf_wrong" not in str(answer)
        answer = stock.answers()["estimate"]({**asked, "token": "hf_good"})
        assert not answer["wants_token"] and "hf_good" not in str(answer)
    finally:
        stock.close()
