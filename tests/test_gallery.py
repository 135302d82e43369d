"""The gallery's index over real files: searched, kept up to what happens in the folder, and rebuilt."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.film.trajectory import TrajectoryStore
from pipelines.gallery.gallery import INDEX, Gallery
from pipelines.gallery.marks import FILE
from pipelines.gallery.scan import Scanner
from pipelines.gallery.search import Question
from pipelines.pictures import PictureStore
from tests.support import many_pictures
from tests.support.pictures import paint


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def gallery(data: Path) -> Iterator[Gallery]:
    gallery = opened(data)
    yield gallery
    gallery.close()


def opened(data: Path) -> Gallery:
    gallery = Gallery(data, PictureStore(data / "inputs"), TrajectoryStore(data / "trajectories"))
    gallery.open()
    assert gallery.scanned.wait(20)
    return gallery


def names(gallery: Gallery, **question: object) -> list[str]:
    return [row.name for row in gallery.index.page(Question(**question), 0, 100)]  # type: ignore[arg-type]


class Changes:
    """Waits until the gallery shows what it should."""

    def __init__(self, gallery: Gallery):
        self.gallery, self.told = gallery, threading.Event()
        gallery._changed = self.told.set

    def until(self, *expected: str, **question: object) -> None:
        while sorted(names(self.gallery, **question)) != sorted(expected):
            assert self.told.wait(20), f"{names(self.gallery, **question)} instead of {expected}"
            self.told.clear()


def test_pictures_are_found_by_what_made_them(data: Path) -> None:
    day = data / "outputs/text2image/2026-01-02"
    paint(day / "00001-1.png", "a red house <lora:snow:0.7>", 1)
    paint(day / "00002-9.png", 'a blue boat, "at sea"', 9, sampler="Heun", model="Other")
    paint(data / "outputs/inpaint/2026-02-03/00001-5.png", "東京の家 über", 5)
    gallery = opened(data)
    try:
        assert names(gallery) == ["00001-5.png", "00002-9.png", "00001-1.png"]
        assert names(gallery, sort="oldest")[0] == "00001-1.png"
        for sort in ("newest", "oldest", "name", "seed"):
            ids = gallery.index.ids(Question(sort=sort))
            assert [gallery.index.place(Question(sort=sort), id) for id in ids] == [0, 1, 2]
        assert gallery.index.place(Question(words="house"), ids[2]) is None
        assert names(gallery, sort="seed") == ["00001-1.png", "00001-5.png", "00002-9.png"]
        assert names(gallery, words="hou") == names(gallery, lora="snow") == ["00001-1.png"]
        assert names(gallery, words="sea boat") == names(gallery, sampler="Heun") == ["00002-9.png"]
        assert names(gallery, words='"blue boat"') == ["00002-9.png"]
        assert names(gallery, words='"boat blue"') == []
        assert names(gallery, words="-house -boat") == names(gallery, words="京") == ["00001-5.png"]
        assert names(gallery, words="UBER") == names(gallery, task="inpaint") == ["00001-5.png"]
        assert names(gallery, words="seed 9") == names(gallery, model="Other") == ["00002-9.png"]
        assert names(gallery, first="2026-02-01", last="2026-02-03") == ["00001-5.png"]
        facets = gallery.facets()
        assert facets["task"] == [("text2image", 2), ("inpaint", 1)]
        assert facets["month"] == [("2026-02", 1), ("2026-01", 2)]
        assert facets["lora"] == [("snow", 1)] and facets["all"] == 3
    finally:
        gallery.close()


@given(typed=st.text(max_size=60) | st.text('"-*()^:{}+~ab NEAROT\0\ud800', max_size=30))
def test_nothing_that_is_typed_is_an_error(typed: str, searched: Gallery) -> None:
    for fts in (True, False):
        searched.index.fts = fts
        searched.index._known.clear()
        assert searched.index.count(Question.of({"q": typed, "star": "0"})) in (0, 1)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    data = tmp_path_factory.mktemp("searched")
    paint(data / "outputs/text2image/2026-01-02/00001-1.png", 'NEAR (a) "b" OR c*')
    gallery = opened(data)
    yield gallery
    gallery.index.fts = True
    gallery.close()


def test_a_search_without_fts_finds_the_same_words(searched: Gallery) -> None:
    for fts in (True, False):
        searched.index.fts = fts
        searched.index._known.clear()
        assert names(searched, words="near") == ["00001-1.png"]
        assert names(searched, words="near -or") == []


def test_what_happens_in_the_folder_is_noticed(gallery: Gallery, data: Path) -> None:
    changes, day = Changes(gallery), data / "outputs/text2image/2026-01-02"
    assert gallery.watcher.ready.wait(20)
    first = paint(day / "00001-1.png", "one")
    paint(day / "00002-2.png", "two")
    changes.until("00001-1.png", "00002-2.png")
    (day / "00001-1.png").rename(day / "renamed.png")
    changes.until("renamed.png", "00002-2.png")
    row = gallery.index.row(first)
    assert row is not None and row.name == "renamed.png"
    shutil.copy(day / "renamed.png", day / "copy.png")
    (day / "00002-2.png").unlink()
    changes.until("renamed.png")
    (day / "renamed.png").unlink()
    changes.until("copy.png")
    day.rename(day.with_name("2026-01-03"))
    changes.until("copy.png", first="2026-01-03")
    shutil.rmtree(data / "outputs/text2image")
    changes.until()
    paint(day / "00009-9.png", "nine")
    changes.until("00009-9.png")
    paint(day / "00009-9.png", "ten", 10)
    changes.until("00009-9.png", words="ten")
    assert names(gallery, words="nine") == []


def test_what_happened_while_nobody_looked_is_found_at_the_next_start(data: Path) -> None:
    day = data / "outputs/text2image/2026-01-02"
    kept = paint(day / "00001-1.png", "one")
    paint(day / "00002-2.png", "two")
    gallery = opened(data)
    gallery.mark([kept], star=True)
    gallery.close()
    (day / "00002-2.png").unlink()
    (day / "00001-1.png").rename(data / "outputs/elsewhere.png")
    paint(day / "00003-3.png", "three")
    file = data / "outputs" / FILE
    file.write_text(file.read_text("utf-8").replace('"star": true', '"star": true, "board": "Old"'), "utf-8")
    (day / "00004-4.png").write_bytes(b"no picture")
    again = opened(data)
    try:
        assert sorted(names(again)) == ["00003-3.png", "elsewhere.png"]
        assert names(again, star=True) == names(again, board="Old") == ["elsewhere.png"]
        assert "1 file" in again.notes()[0]
    finally:
        again.close()


@pytest.mark.parametrize("harm", ["deleted", "damaged", "damaged inside", "another make"])
def test_the_index_is_rebuilt_from_the_folder_with_stars_and_boards(data: Path, harm: str) -> None:
    day = data / "outputs/text2image/2026-01-02"
    one, two = (paint(day / f"0000{n}-{n}.png", f"picture {n}", n) for n in (1, 2))
    gallery = opened(data)
    gallery.mark([one, two], board="Best")
    gallery.mark([one], star=True, note="the chimney is crooked")
    gallery.create_board("Empty")
    gallery.trash([two])
    before = gallery.index.rows([one, two])
    gallery.close()
    for file in data.glob(f"{INDEX}*"):
        if harm == "deleted":
            file.unlink()
        elif harm == "damaged":
            file.write_bytes(b"\0" * 4096)
        elif harm == "damaged inside":
            whole = file.read_bytes()
            file.write_bytes(whole[:8192] + b"\xee" * (len(whole) - 8192))
    if harm == "another make":
        import sqlite3

        with sqlite3.connect(data / INDEX) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    again = opened(data)
    try:
        assert again.index.rows([one, two]) == before
        assert names(again, words="crooked") == names(again, star=True) == ["00001-1.png"]
        assert again.marks.boards == ["Best", "Empty"]
        assert names(again, trash=True) == ["00002-2.png"]
        assert not again.index.problem
    finally:
        again.close()


def test_marks_survive_a_damaged_or_deleted_file_and_a_change_from_outside(
    gallery: Gallery, data: Path
) -> None:
    id = paint(data / "outputs/text2image/2026-01-02/00001-1.png")
    changes = Changes(gallery)
    changes.until("00001-1.png")
    gallery.mark([id], star=True, board="Best")
    file = data / "outputs" / FILE
    file.write_text(file.read_text("utf-8").replace("Best", "Better"), "utf-8")
    changes.until("00001-1.png", board="Better")
    gallery.close()
    file.write_text("{ cut o", "utf-8")
    again = opened(data)
    assert names(again, star=True, board="Better") == ["00001-1.png"]
    assert "kept as gallery.damaged-" in again.notes()[0]
    assert [one.read_text("utf-8") for one in file.parent.glob("gallery.damaged-*")] == ["{ cut o"]
    again.close()
    file.unlink()
    gallery._thread = None
    gallery.open()
    assert gallery.scanned.wait(20)
    changes.until("00001-1.png", board="Better")


def test_marks_that_cannot_be_read_are_not_written_over(data: Path) -> None:
    id = paint(data / "outputs/text2image/2026-01-02/00001-1.png")
    (data / "outputs" / FILE).mkdir()  # what nobody, root included, can read as a file
    gallery = opened(data)
    try:
        assert names(gallery) == ["00001-1.png"]
        assert "cannot be read" in gallery.notes()[0]
        with pytest.raises(OSError):
            gallery.mark([id], star=True)
        assert names(gallery, star=True) == [] and not gallery.marks.of(id).star
        assert [path.name for path in (data / "outputs").iterdir() if path.name.startswith(".")] == []
    finally:
        gallery.close()


def test_the_trash_gives_back_to_the_same_place_and_is_emptied_only_on_request(
    gallery: Gallery, data: Path
) -> None:
    path = data / "outputs/text2image/2026-01-02/00001-1.png"
    id, other = paint(path), paint(path.with_name("00002-2.png"), "two", 2)
    Changes(gallery).until("00001-1.png", "00002-2.png")
    gallery.mark([id], star=True, board="Best")
    assert gallery.trash([id, "no such id"]) == 1
    assert not path.exists() and (data / "trash/text2image/2026-01-02/00001-1.png").exists()
    assert names(gallery) == ["00002-2.png"] and names(gallery, trash=True) == ["00001-1.png"]
    assert gallery.facets()["board"] == [("Best", 0)]
    paint(path, "in its place", 3)
    assert gallery.restore([id]) == 1
    row = gallery.index.row(id)
    assert row is not None and (row.name, row.star, row.board) == ("00001-1 (2).png", True, "Best")
    gallery.trash([id])
    assert gallery.thumbnail(other) and gallery.thumbnail(id)
    assert gallery.empty_trash() == 1
    assert gallery.index.row(id) is None and not list((data / "trash").iterdir())
    assert id not in (data / "outputs" / FILE).read_text("utf-8")
    assert not gallery.thumbnails.path(id).exists() and gallery.thumbnails.path(other).exists()


def test_a_killed_programs_halves_are_swept(data: Path) -> None:
    day = data / "outputs/text2image/2026-01-02"
    paint(day / "00001-1.png")
    old = [day / ".00002-2.png.abcd.part", data / "thumbnails/ab/.abc.webp.12.part"]
    for part in old:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"half")
        os.utime(part, (1, 1))
    gallery = opened(data)
    try:
        assert names(gallery) == ["00001-1.png"]
        assert not any(part.exists() for part in old)
    finally:
        gallery.close()


def test_a_small_picture_is_made_once_and_before_anybody_asks(gallery: Gallery, data: Path) -> None:
    id = paint(data / "outputs/text2image/2026-01-02/00001-1.png")
    changes = Changes(gallery)
    changes.until("00001-1.png")
    while not gallery.thumbnails.path(id).exists():
        assert changes.told.wait(20)
        changes.told.clear()
    first = gallery.thumbnail(id)
    assert first is not None and first[8:12] == b"WEBP"
    gallery.thumbnails.path(id).write_bytes(b"as it was kept")
    assert gallery.thumbnail(id) == b"as it was kept"
    assert gallery.thumbnail("../../../etc/passwd") is None


def test_many_pictures_are_paged_through_without_a_gap(data: Path) -> None:
    many_pictures.fill(data / "outputs", 600, days=5)
    gallery = opened(data)
    try:
        for sort in ("newest", "name"):
            question = Question(sort=sort, words="highly detailed")
            pages = [gallery.index.page(question, offset, 200) for offset in range(0, 800, 200)]
            assert [len(page) for page in pages] == [200, 200, 200, 0]
            assert [row.id for page in pages for row in page] == gallery.index.ids(question)
        assert len(set(gallery.index.ids(Question()))) == gallery.index.count(Question()) == 600
        assert names(gallery, words="take321") == ["00322-321.png"]
        told = gallery.facets()
        assert sum(count for _, count in told["task"]) == sum(count for _, count in told["month"]) == 600
        opened_anew = Scanner(data, gallery.index, gallery.marks).scan()
        assert opened_anew == [], "a file that has not changed is not read again"
    finally:
        gallery.close()


MARKING = """
import sys
from pathlib import Path
from pipelines.gallery.marks import Marks
marks = Marks(Path(sys.argv[1]))
marks.load()
ids = [f"{number:032x}" for number in range(300)]
count = 0
while True:
    marks.change(ids, star=count % 2 == 0, board="Best", note=f"round {count}")
    print(count, flush=True)
    count += 1
"""


def test_a_kill_in_the_middle_of_writing_loses_nothing_that_was_told(data: Path) -> None:
    for kill in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", MARKING, str(data / "outputs")], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(5 + kill * 7):
                told = int(process.stdout.readline())
            process.kill()
            told = max([told, *(int(line) for line in process.stdout.read().split("\n")[:-1] if line)])
        gallery = opened(data)
        try:
            kept = gallery.marks.all()
            assert len(kept) == 300 and len(set(kept.values())) == 1
            assert int(kept[f"{0:032x}"].note.removeprefix("round ")) >= told
            assert not list((data / "outputs").glob(".*.part")) and not gallery.notes()
        finally:
            gallery.close()
