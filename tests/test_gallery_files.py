"""Files that come into the gallery and go out of it: imports, hostile ones among them, and ZIP files."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from pipelines.film.trajectory import TrajectoryStore
from pipelines.gallery.exporting import zipped
from pipelines.gallery.gallery import Gallery
from pipelines.gallery.importing import Importer
from pipelines.gallery.lineage import Lineage
from pipelines.metadata import UnreadablePicture
from pipelines.pictures import PictureStore, key_of
from tests.support.pictures import paint


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    data = tmp_path / "data"
    gallery = Gallery(data, PictureStore(data / "inputs"), TrajectoryStore(data / "trajectories"))
    yield gallery
    gallery.close()


@pytest.fixture
def importer(gallery: Gallery) -> Importer:
    return Importer(gallery)


def png(size: tuple[int, int] = (16, 16), **texts: str) -> bytes:
    picture = Image.new("RGB", size, (20, 90, 160))
    ImageDraw.Draw(picture).ellipse((2, 2, 12, 12), fill=(250, 220, 40))
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


COMFY = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 42,
            "steps": 20,
            "cfg": 8,
            "sampler_name": "euler",
            "scheduler": "normal",
            "positive": ["6", 0],
            "negative": ["7", 0],
        },
    },
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a lighthouse"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "fog"}},
}
ELSEWHERE = {
    "webui": {"parameters": "a lighthouse\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 16x16"},
    "civitai": {
        "parameters": "a lighthouse\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 16x16, "
        'Civitai resources: [{"type":"checkpoint","modelVersionId":1}]'
    },
    "comfyui": {"prompt": json.dumps(COMFY)},
    "invokeai": {
        "invokeai_metadata": json.dumps({"positive_prompt": "a lighthouse", "seed": 42, "scheduler": "euler"})
    },
    "fooocus": {"parameters": json.dumps({"prompt": "a lighthouse", "seed": "42", "sampler": "euler"})},
}


@pytest.mark.parametrize("program", ELSEWHERE)
def test_pictures_of_other_programs_are_read_and_kept_as_they_are(
    importer: Importer, gallery: Gallery, program: str
) -> None:
    data = png(**ELSEWHERE[program])
    found = importer.take(data, f"C:\\pictures\\old\\{program} (1).PNG", "Old", modified=1_600_000_000)
    row = gallery.index.row(found.id)
    assert row is not None and (row.task, row.seed, row.prompt, row.board) == (
        "imported",
        42,
        "a lighthouse",
        "Old",
    )
    assert row.path == f"outputs/imported/2020-09-13/00001-{program} (1).png"
    path = gallery.file(found.id)
    assert path is not None and path.read_bytes() == data
    assert importer.take(data, "again.png") == type(found)(found.id, known=True)
    gallery.trash([found.id])
    assert importer.take(data, "again.png").restored and path.exists()


def bomb() -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 5000))


def tiff() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "TIFF")
    return buffer.getvalue()


HOSTILE = {
    "nothing": b"",
    "a page": b"<html><script>alert(1)</script>",
    "an svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a bomb": bomb(),
    "cut off": png((64, 64))[:-60],
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n",
    "another format": tiff(),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_sound_picture_is_refused_and_nothing_is_left(
    importer: Importer, gallery: Gallery, what: str
) -> None:
    data = HOSTILE[what]
    with pytest.raises(UnreadablePicture) as problem:
        importer.take(data, "picture.png")
    assert str(problem.value).endswith(".")
    assert gallery.index.row(key_of(data)) is None
    assert not list((gallery.data / "outputs").rglob("*.*"))


@pytest.mark.parametrize(
    "name",
    [
        "../../../etc/cron.d/job.png",
        "..\\..\\x.png",
        "/etc/passwd",
        ".hidden.png",
        "a\0b.png",
        "",
        "x" * 3000,
        "CON.png",
        "a:b|c?.png",
        "\u202egnp.exe.png",
        "東京.png",
    ],
)
def test_a_name_is_never_a_path(importer: Importer, gallery: Gallery, name: str) -> None:
    found = importer.take(png(), name)
    path = gallery.file(found.id)
    assert path is not None
    assert path.parent.parent == gallery.data / "outputs/imported"
    assert path.name.startswith("00001-") and path.suffix == ".png" and len(path.name) < 100
    if name == "東京.png":
        assert path.name == "00001-東京.png"


def test_a_text_that_names_paths_is_only_text(importer: Importer, gallery: Gallery, tmp_path: Path) -> None:
    text = (
        "../../x\nSteps: 4, Sampler: ../../../etc/passwd, Seed: 99999999999999999999999, Model: /etc/shadow, "
        "Init image hash: ../../secret, Branch of: ../../run, Size: 16x16"
    )
    found = importer.take(png(parameters=text), "a.png")
    row = gallery.index.row(found.id)
    assert row is not None and row.model == "/etc/shadow" and row.seed is None
    lineage = Lineage(gallery.data, gallery.index, gallery.trajectories)
    assert [source.id for source in lineage.made_from(row, None)] == [None, None]


def test_a_zip_holds_the_files_and_what_is_known_of_them(gallery: Gallery) -> None:
    places = ["text2image/2026-01-02/00001-1.png", "text2image/2026-01-03/00001-1.png"]
    ids = [paint(gallery.data / "outputs" / place, f"picture {place}") for place in places]
    gallery.look(gallery.data / "outputs")
    gallery.mark(ids[:1], star=True, board="Best", note="crooked")
    pieces = list(zipped(gallery, [*ids, ids[0], "0" * 32]))
    archive = zipfile.ZipFile(io.BytesIO(b"".join(pieces)))
    assert archive.testzip() is None
    assert archive.namelist() == [*places, "index.json"]
    assert archive.read(places[0]) == (gallery.data / "outputs" / places[0]).read_bytes()
    told: Any = json.loads(archive.read("index.json"))["pictures"]
    assert [one["file"] for one in told] == places
    assert (told[0]["star"], told[0]["board"], told[0]["note"]) == (True, "Best", "crooked")
    assert told[0]["text"].startswith("picture ")
