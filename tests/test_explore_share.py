"""What leaves by the share button and comes in by a drop: files that are what they claim, and sentences."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html.parser
import io
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from pipelines.controlnet.control import ControlLibrary
from pipelines.film import showing
from pipelines.film.unpacking import MOST_BYTES
from pipelines.library.models import ModelLibrary
from tests.support.films import Films
from tests.test_explore import _ok, unpacked
from tests.test_film_sharing import Copy, recorded
from ui import explore
from ui.doors.table import FILE_BYTES, LARGE
from ui.explore import replay, share

HOSTILE = "</script><script>alert(1)</script><!-- <b onclick='x'>\"&amp;\u2028"


@pytest.fixture
def films(tmp_path: Path) -> Films:
    films = Films(tmp_path)
    films.library = ModelLibrary()  # type: ignore[attr-defined]
    films.controls = ControlLibrary((), films.library.assets, films.library)  # type: ignore[attr-defined]
    films.store = Copy(tmp_path).pictures  # type: ignore[assignment]
    return films


@pytest.fixture
def client(films: Films) -> TestClient:
    from fastapi import FastAPI

    app, worker = FastAPI(), films
    app.add_route("/gradio_api/login_check", lambda request: _ok())  # Gradio lets everyone in
    explore.add_routes(app, worker)  # type: ignore[arg-type]
    return TestClient(app, base_url="http://testserver/darkroom/explore/")


class Parts(html.parser.HTMLParser):
    """The elements of a page with their attributes, and the text of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        if self.tags and data.strip():
            self.texts.append(data)


def test_a_replay_is_one_file_that_asks_for_nothing_and_holds_words_as_data(
    films: Films, client: TestClient
) -> None:
    run = films.add("a" * 16, 5, HOSTILE, name=HOSTILE)
    answer = client.get("share", params={"run": run, "as": "replay", "full": 1})
    assert re.fullmatch(
        r'attachment; filename="darkroom-[a-z0-9-]+\.html"', answer.headers["content-disposition"]
    )
    page = Parts(answer.text)
    names = [tag for tag, _ in page.tags]
    # What was typed opens no element: there are exactly those of the file itself.
    assert names == "html head meta meta meta meta meta title style body noscript script script".split()
    addressed = [
        value for _, given in page.tags for name, value in given.items() if name in ("src", "href", "action")
    ]
    assert addressed == []
    policy = next(given["content"] for tag, given in page.tags if given.get("http-equiv")) or ""
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "http" not in policy
    style, data, script = (
        next(text for text in page.texts if text.startswith(start))
        for start in ("@font-face", "{", "const in_")
    )
    for text in (style, script):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    assert "url(" not in style.replace("url(data:", "")
    told = json.loads(data)
    assert (told["prompt"], len(told["full"])) == (HOSTILE, 5)
    head, _ = unpacked(base64.b64decode(told["film"]))
    assert len(head["steps"]) == 5 and head["run"]["name"] == HOSTILE
    assert "picture" not in head["run"] and str(films.data) not in answer.text  # nothing of this machine


def test_every_script_of_a_replay_is_put_in_once_and_whole() -> None:
    text = replay.bundled("replay")
    assert text.count("const in_dom =") == 1
    assert not re.search(r"^(import|export) ", text, re.MULTILINE)


def test_settings_tell_what_the_run_was_made_with(films: Films) -> None:
    run = films.info(films.add("a" * 16, 5, "x"))
    request = {"prompt": "x", "seed": 7, "loras": [{"name": "ink", "weight": 0.5}], "soft_inpainting": True}
    told = dict(replay.settings(replace(run, request=request, parent="b" * 16 + "-0", parent_step=3)))
    assert (told["Model"], told["Seed"], told["LoRAs"], told["Soft inpainting"]) == (
        "Storybook",
        "7",
        "ink 0.5",
        "on",
    )
    assert told["Branched off"] == "at step 4 of another run"
    assert "Prompt" not in told and "Clip skip" not in told
    curved = {"prompt": "x", "seed": 7, "guidance_points": [[0, 9], [0.5, 2]]}
    assert (
        dict(replay.settings(replace(run, request=curved)))["Guidance over the steps"] == "9 at 0%, 2 at 50%"
    )


def colours(count: int, size: tuple[int, int] = (64, 48)) -> list[Image.Image]:
    return [Image.new("RGB", size, (255 * index // (count - 1), 60, 90)) for index in range(count)]


def red(pixels: np.ndarray) -> float:
    return float(pixels[..., 0].mean())


def test_a_film_can_be_read_back_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(showing.film(colours(6, (33, 51)), 10))
    video = cv2.VideoCapture(str(path))
    assert round(video.get(cv2.CAP_PROP_FPS)) == 10
    code = int(video.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode().lower()
    assert code in ("vp09", "vp90")
    frames = []
    while (read := video.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    assert len(frames) == 6 + 15 and all(side % 2 == 0 for side in frames[0].shape[:2])
    assert [red(frame) for frame in frames[:6]] == pytest.approx([0, 51, 102, 153, 204, 255], abs=6)


def test_a_gif_plays_for_ever_and_rests_at_its_end() -> None:
    picture = Image.open(io.BytesIO(showing.gif(colours(4), 8)))
    assert (picture.n_frames, picture.info["loop"]) == (4, 0)
    pauses = []
    for index in range(4):
        picture.seek(index)
        pauses.append(picture.info["duration"])
        assert red(np.asarray(picture.convert("RGB"))) == pytest.approx(85 * index, abs=6)
    assert pauses[:3] == pytest.approx([125] * 3, abs=10) and pauses[3] == 1500


def test_a_sheet_holds_every_step_with_its_number() -> None:
    picture = np.asarray(Image.open(io.BytesIO(showing.sheet(colours(5, (256, 256)), list("12345")))))
    tile = showing.TILE + showing.GAP
    rows, columns = picture.shape[0] // tile, picture.shape[1] // tile
    assert rows * columns >= 5
    for index in range(5):
        left, top = 8 + index % columns * tile, 8 + index // columns * (tile + showing.LABEL)
        assert red(picture[top : top + showing.TILE, left : left + showing.TILE]) == pytest.approx(
            63.75 * index, abs=1
        )
        label = picture[top + showing.TILE : top + showing.TILE + showing.LABEL, left : left + 12]
        assert label.max() > 200 and label.min() < 40


@pytest.mark.parametrize("lane", ["x0", "change", "channels"])
def test_a_look_is_decoded_in_full_only_where_it_can_be(films: Films, client: TestClient, lane: str) -> None:
    run = films.add("a" * 16, 3, "a boat")
    answer = client.get("share", params={"run": run, "as": "gif", "lane": lane, "full": 1})
    assert answer.headers["content-type"] == "image/gif" and answer.content.startswith(b"GIF89a")
    assert films.decoded == ([(run, index, "x0") for index in range(3)] if lane == "x0" else [])


@pytest.mark.parametrize(
    ("asked", "status", "sentence"),
    [
        ({"as": "gif", "run": "f" * 16 + "-0"}, 404, "not there any more"),
        ({"as": "latents", "run": "../../etc"}, 404, "no recorded run"),
        ({"as": "exe"}, 404, "cannot be shared as that"),
        ({"as": "gif", "lane": "secrets"}, 404, "no such look"),
        ({"as": "gif", "lane": "guidance"}, 422, "nothing of that kind"),
        ({"as": "latents"}, 422, "Nothing of this run"),
    ],
)
def test_what_cannot_be_shared_is_told(
    films: Films, client: TestClient, asked: dict[str, Any], status: int, sentence: str
) -> None:
    run = films.add("a" * 16, 3, "a boat", guided=False)
    answer = client.get("share", params={"run": run, **asked})
    assert answer.status_code == status and sentence in answer.json()["problem"]


def test_a_film_travels_by_the_routes(films: Films, client: TestClient, tmp_path: Path) -> None:
    run = recorded(Copy(films.data), model_title="Not here")
    asked = {**films.info(run).request, "model": "models/not-here"}
    films.trajectories.change(run, request=asked, model="models/not-here")
    films.films[run] = {"steps": []}
    packed = client.get("share", params={"run": run, "as": "latents"})
    assert packed.headers["content-type"] == "application/zip"
    answer = client.post("import", content=packed.content, headers={"content-type": "application/zip"}).json()
    assert answer["run"]["id"] != run and answer["run"]["prompt"] == "a house" and answer["run"]["thumb"]
    assert "Not here, is not on this computer" in " ".join(answer["told"])
    assert films.trajectories.steps(answer["run"]["id"]) == 3


def test_a_film_with_its_model_here_lacks_nothing(films: Films) -> None:
    worker: Any = films
    run = films.info(recorded(Copy(films.data)))
    assert list(share.missing(worker, run)) == []
    lacking = replace(run, request={**run.request, "loras": [{"name": "no-such"}], "vae": "none-such"})
    assert list(share.missing(worker, lacking)) == [
        "A branch would also need no-such and none-such, not on this computer."
    ]


def test_what_is_no_film_is_refused_by_the_route(films: Films, client: TestClient) -> None:
    zipped = {"content-type": "application/zip"}
    assert "no film" in client.post("import", content=b"PK nonsense", headers=zipped).json()["problem"]
    assert client.post("import", content=b"", headers=zipped).status_code == 422
    assert client.post("import", content=b"x").status_code == 415  # what a foreign page's form could send
    assert films.trajectories.list() == []


def test_only_so_many_films_come_in_at_a_time(
    films: Films, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share, "COMING", 1)
    zipped = {"content-type": "application/zip"}

    async def both() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(
            transport=transport, base_url=str(client.base_url), headers=zipped
        ) as http:
            others = []

            async def half() -> AsyncIterator[bytes]:
                yield b"PK"
                others.append(await http.post("import", content=b"PK"))
                yield b" nonsense"

            return await http.post("import", content=half()), others[0]

    first, second = asyncio.run(both())
    assert "no film" in first.json()["problem"]
    assert second.status_code == 429 and "try it again" in second.json()["problem"]
    assert client.post("import", content=b"PK", headers=zipped).status_code == 422


def test_a_film_may_be_larger_than_a_picture() -> None:
    """The guard knows the route by its whole path."""
    assert set(LARGE) == {f"/{explore.URL}/import"}
    assert LARGE[f"/{explore.URL}/import"] >= MOST_BYTES > FILE_BYTES
