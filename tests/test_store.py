"""The page's door to the picture store: only a fresh upload comes in, and nothing else is ever deleted."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.pictures import PictureStore
from ui import store

HASH = "5e" * 32
LOST = {"problem": "The picture did not arrive: try it once more."}


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


@pytest.fixture
def kept(tmp_path: Path) -> PictureStore:
    return PictureStore(tmp_path / "inputs")


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "teal").save(buffer, "PNG")
    return buffer.getvalue()


def file(path: Path, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png() if data is None else data)
    return path


def test_an_upload_is_taken_in_once(uploads: Path, kept: PictureStore) -> None:
    path = file(uploads / HASH / "a picture.png")
    answer = store.keep(kept, {"path": str(path)})
    key = answer["key"]
    assert answer == {
        "key": key,
        "width": 30,
        "height": 20,
        "url": f"gradio_api/file={(kept.root / key).as_posix()}.png",
        "notes": [],
    }
    assert not path.exists() and store.picture_of(kept, key) == answer
    assert store.keep(kept, {"path": str(path)}) == LOST
    assert kept.load(key).size == (30, 20)


def test_what_was_painted_on_a_picture_names_it_in_its_file(uploads: Path, kept: PictureStore) -> None:
    first = kept.put(png()).key
    path = file(uploads / HASH / "painted.png")
    painted = store.keep(kept, {"path": str(path), "on": first})["key"]
    assert painted != first and kept.origin(painted) == first and kept.origin(first) == ""
    assert (kept.load(painted).pixels == kept.load(first).pixels).all()
    again = store.keep(kept, {"path": str(file(path)), "on": painted})["key"]
    assert kept.origin(again) == first and again == painted  # through every painter
    (kept.root / f"{first}.png").unlink()
    assert kept.origin(painted) == first  # the file says so


@pytest.mark.parametrize("on", [None, 3, "", "elsewhere", "../own", "A" * 32, ["a" * 32]])
def test_an_origin_that_is_no_key_is_passed_over(uploads: Path, kept: PictureStore, on: Any) -> None:
    answer = store.keep(kept, {"path": str(file(uploads / HASH / "a.png")), "on": on})
    assert answer["key"] == kept.put(png()).key and kept.origin(answer["key"]) == ""


def test_only_a_png_names_its_origin(uploads: Path, kept: PictureStore) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "teal").save(buffer, "JPEG")
    path = file(uploads / HASH / "a.jpg", buffer.getvalue())
    assert kept.origin(store.keep(kept, {"path": str(path), "on": "a" * 32})["key"]) == ""


def test_an_upload_that_is_no_picture_is_refused_and_gone(uploads: Path, kept: PictureStore) -> None:
    path = file(uploads / HASH / "a.png", b"a text")
    assert store.keep(kept, {"path": str(path)}) == {
        "problem": "This file is no picture that can be read: use PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF."
    }
    assert not path.exists() and not kept.root.exists()


OUTSIDE = ["{out}/own.png", "{up}/../own.png", "{up}/{hash}/../../own.png", "{up}/{hash}/link.png"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_what_lies_outside_is_refused_and_not_deleted(uploads: Path, kept: PictureStore, path: str) -> None:
    own = file(uploads.parent / "own.png")
    file(uploads / HASH / "other.png")
    (uploads / HASH / "link.png").symlink_to(own)
    named = path.format(out=uploads.parent, up=uploads, hash=HASH)
    assert Path(named).is_file()
    assert store.keep(kept, {"path": named}) == LOST
    assert own.read_bytes() == png() and not kept.root.exists()


@pytest.mark.parametrize(
    "path",
    ["own.png", "inputs/own.png", "deep_links/x/own.png", f"{HASH}.png", f"{HASH[:-1]}/own.png"],
)
def test_what_is_no_upload_stays_even_beside_uploads(uploads: Path, kept: PictureStore, path: str) -> None:
    own = file(uploads / path)
    assert store.keep(kept, {"path": str(own)}) == LOST
    assert own.exists()


def test_a_prefix_of_the_folders_name_is_not_inside(uploads: Path, kept: PictureStore) -> None:
    own = file(uploads.with_name("uploads-not") / HASH / "own.png")
    assert store.keep(kept, {"path": str(own)}) == LOST
    assert own.exists()


@pytest.mark.parametrize(
    "asked",
    [
        *(None, 3, "text", [], {}, {"path": None}, {"path": 3}, {"path": ""}, {"path": ["a"]}),
        *({"path": path} for path in (".", "..", "~", "a\0b", "x" * 5000, "\ud800", "/dev/null", "/proc")),
    ],
)
def test_nonsense_is_refused(uploads: Path, kept: PictureStore, asked: Any) -> None:
    assert store.keep(kept, asked) == LOST


def test_folders_missing_files_and_circles_are_refused(uploads: Path, kept: PictureStore) -> None:
    (uploads / HASH / "folder").mkdir(parents=True)
    os.symlink(uploads / HASH / "b", uploads / HASH / "a")
    os.symlink(uploads / HASH / "a", uploads / HASH / "b")
    for path in (uploads, uploads / HASH, *(uploads / HASH / name for name in ("folder", "none", "a"))):
        assert store.keep(kept, {"path": str(path)}) == LOST


def test_a_store_that_cannot_be_written_is_told(uploads: Path, tmp_path: Path) -> None:
    path = file(uploads / HASH / "a.png")
    blocked = PictureStore(file(tmp_path / "a-file"))
    answer = store.keep(blocked, {"path": str(path)})
    assert list(answer) == ["problem"]
    assert answer["problem"].startswith("The picture could not be kept: ")
    assert not path.exists()


@pytest.mark.parametrize("key", [None, 3, "", "a" * 32, "../own", "/etc/passwd", "a\0", ["a"], {"key": "a"}])
def test_keys_that_name_nothing_show_nothing(kept: PictureStore, key: Any) -> None:
    assert store.picture_of(kept, key) is None


def test_odd_names_reach_the_page_whole(tmp_path: Path) -> None:
    folder = PictureStore(tmp_path / "my #1 pictures?")
    answer = store.shown(folder.put(png()))
    assert "my%20%231%20pictures%3F" in answer["url"]


def test_the_examples_are_pictures(kept: PictureStore) -> None:
    told = store.examples(kept)
    assert told and all(picture["title"] and kept.load(picture["key"]) for picture in told)
    assert store.examples(PictureStore(file(kept.root.parent / "a-file"))) == []
