"""Cards: what a person keeps on a model, what the webui keeps beside it, and changes that are noticed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pipelines.library.models import ModelLibrary
from pipelines.library.records import FileRecords
from pipelines.library.shelf import Shelf
from pipelines.library.watching import LibraryWatcher, Watcher
from pipelines.request import InvalidRequest
from tests.support import weights


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    for name, width in (("ann", 768), ("bob", 2048)):
        weights.save(tmp_path / f"models/Lora/{name}.safetensors", weights.lora(width))
    library = ModelLibrary([tmp_path / "models"], records=FileRecords(tmp_path / "data/library.db"))
    return Shelf(library, tmp_path / "data")


def beside(shelf: Shelf, name: str, text: str | bytes) -> Path:
    path = shelf.library.folders[0] / "Lora" / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def picture(path: Path, colour: str = "red", size: tuple[int, int] = (1200, 900)) -> Path:
    Image.new("RGB", size, colour).save(path)
    return path


def test_cards_tell_what_there_is_and_what_does_not_fit(shelf: Shelf) -> None:
    starter = shelf.library.find("starter")
    cards = {(card.sort, card.key): card for card in shelf.cards(starter)}
    assert cards["checkpoint", "starter"].title == "Storybook"
    assert cards["checkpoint", "starter"].source == "embedded" and cards["checkpoint", "starter"].picture
    ann = cards["lora", "ann"]
    assert (ann.family, ann.format, ann.dtype, ann.path.name) == ("SD", "kohya", "F16", "ann.safetensors")
    assert ann.bytes > 100 and ann.modified > 1e9 and ann.hash == ""
    assert ann.unfit == "ann is made for SD 1, but Storybook is SD with text 160 wide."
    assert {card.unfit for card in shelf.cards()} == {""}
    assert cards["controlnet", "storybook-edge"].unfit == ""


def test_what_a_person_keeps_is_there_again(shelf: Shelf, tmp_path: Path) -> None:
    shelf.edit(
        "lora", "ann", notes="soft light", favourite=True, words=("ann", " "), weight=0.7, title="Ann!"
    )
    again = Shelf(shelf.library, tmp_path / "data").card("lora", "ann")
    assert (again.notes, again.favourite, again.trigger_words) == ("soft light", True, ("ann",))
    assert (again.weight, again.title) == (0.7, "Ann!")
    assert shelf.favourites() == {("lora", "ann")}
    loras = [card.key for card in shelf.cards() if card.sort == "lora" and card.source == "folder"]
    assert loras[0] == "ann"
    shelf.edit("lora", "ann", notes="", favourite=False, words=(), title="")
    plain = shelf.card("lora", "ann")
    assert (plain.notes, plain.favourite, plain.trigger_words, plain.title) == ("", False, (), "ann")
    assert json.loads((tmp_path / "data/shelf.json").read_text())["cards"] == {"lora/ann": {"weight": 0.7}}
    assert not list((tmp_path / "data").glob("*.part"))


def test_what_is_not_there_cannot_be_kept(shelf: Shelf) -> None:
    for asked in (("lora", "../ann"), ("checkpoint", "ann"), ("nothing", "ann"), ("lora", "")):
        with pytest.raises(InvalidRequest, match="moved or deleted"):
            shelf.edit(*asked, notes="x")
    with pytest.raises(InvalidRequest, match="between -2 and 2"):
        shelf.edit("lora", "ann", weight=9)
    assert shelf.card("lora", "ann").notes == ""


def test_a_damaged_shelf_begins_anew(shelf: Shelf, tmp_path: Path) -> None:
    for text in ("{", "[]", '{"cards": 3}', '{"cards": {"lora/ann": 3, "x": {}}}', "[" * 100_000):
        (tmp_path / "data/shelf.json").parent.mkdir(exist_ok=True)
        (tmp_path / "data/shelf.json").write_text(text)
        assert shelf.card("lora", "ann").notes == ""
    odd = {"notes": 3, "words": [1, "a"], "weight": "x", "favourite": "yes", "title": []}
    (tmp_path / "data/shelf.json").write_text(json.dumps({"cards": {"lora/ann": odd}}))
    card = shelf.card("lora", "ann")
    assert (card.notes, card.trigger_words, card.weight, card.favourite) == ("", ("a",), 1.0, False)


def test_a_picture_set_by_hand_is_kept_small_and_comes_first(shelf: Shelf, tmp_path: Path) -> None:
    own = picture(beside(shelf, "ann.png", b""), "blue")
    assert (shelf.card("lora", "ann").picture, shelf.card("lora", "ann").picture_set) == (own, False)
    card = shelf.set_picture("lora", "ann", picture(tmp_path / "made.png"))
    assert card.picture_set and card.picture is not None and card.picture.parent == tmp_path / "data/shelf"
    (tmp_path / "made.png").unlink()
    with Image.open(card.picture) as kept:
        assert kept.size == (768, 576) and kept.getpixel((5, 5))[0] > 200
    with pytest.raises(InvalidRequest, match="not a picture"):
        shelf.set_picture("lora", "ann", beside(shelf, "x.txt", "no picture"))
    assert shelf.card("lora", "ann").picture_set
    back = shelf.set_picture("lora", "ann", None)
    assert (back.picture, back.picture_set) == (own, False) and not list((tmp_path / "data/shelf").iterdir())


def test_what_the_webui_keeps_beside_a_file_is_shown_and_never_written_to(shelf: Shelf) -> None:
    told = {
        "description": "A portrait LoRA.",
        "activation text": "ann, smile",
        "preferred weight": 0.6,
        "notes": "Mine.",
        "sd version": "SD1",
    }
    files = [beside(shelf, "ann.json", json.dumps(told)), picture(beside(shelf, "ann.preview.png", b""))]
    info = {
        "model": {"name": "Bob the builder"},
        "trainedWords": ["bob, hat", "blue coat"],
        "description": "<p>Made&nbsp;of <b>wood</b></p><script>x</script>",
    }
    files.append(beside(shelf, "bob.civitai.info", json.dumps(info)))
    before = [file.read_bytes() for file in files]
    ann, bob = shelf.card("lora", "ann"), shelf.card("lora", "bob")
    assert (ann.trigger_words, ann.weight) == (("ann", "smile"), 0.6)
    assert ann.notes == "A portrait LoRA.\n\nMine." and ann.picture == files[1]
    assert bob.trigger_words == ("bob", "hat", "blue coat") and "<" not in bob.notes
    assert bob.notes.startswith("Made\xa0of wood") or bob.notes.startswith("Made")
    assert shelf.library.addon("lora", "ann").default_weight == 0.6
    shelf.edit("lora", "ann", notes="own", words=("other",), weight=1.2)
    ann = shelf.card("lora", "ann")
    assert (ann.notes, ann.trigger_words, ann.weight) == ("own", ("other",), 1.2)
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        '{"preferred weight": 1e999, "activation text": 3, "notes": ["x"]}',
        '{"preferred weight": 0, "description": null}',
        '{"preferred weight": true}',
    ],
)
def test_odd_things_beside_a_file_say_nothing(shelf: Shelf, text: str) -> None:
    beside(shelf, "ann.json", text)
    beside(shelf, "ann.civitai.info", '{"trainedWords": "x", "model": 3}')
    card = shelf.card("lora", "ann")
    assert (card.weight, card.trigger_words, card.notes) == (1.0, (), "")


def test_a_hash_is_read_when_asked_for_and_then_known(shelf: Shelf) -> None:
    assert shelf.card("lora", "ann").hash == ""
    told = shelf.hash_of("lora", "ann")
    assert len(told) == 12 and shelf.card("lora", "ann").hash == told
    assert {card.hash for card in shelf.cards() if card.key == "ann"} == {told}


# ------------------------------------------------------------------------------------------- watching


class Told:
    """Counts calls, and waits for the next."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self) -> None:
        self.event.set()

    def after(self, deed: Callable[[], object]) -> bool:
        self.event.clear()
        deed()
        return self.event.wait(20)


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_file_dropped_in_appears(shelf: Shelf, told: Told) -> None:
    watcher = Watcher(shelf.library, told, debounce=200)
    watcher.start()
    try:
        assert watcher.ready.wait(20) and watcher.problem == ""
        path = shelf.library.folders[0] / "Lora/new.safetensors"
        assert told.after(lambda: weights.save(path, weights.lora()))
        assert "new" in [addon.key for addon in shelf.library.addons("lora")]
        deep = path.parent / "more/deeper/zoe.safetensors"
        assert told.after(lambda: weights.save(deep, weights.lora()))
        assert told.after(path.unlink)
    finally:
        watcher.close()
    assert not any(thread.name == "library-watcher" for thread in threading.enumerate())


def test_folders_may_come_and_go(tmp_path: Path, told: Told) -> None:
    first, second = tmp_path / "first", tmp_path / "a/b/second"
    watcher = LibraryWatcher([first, second], told, debounce=200)
    watcher.start()
    try:
        for folder in (first, second):
            assert watcher.ready.wait(20)
            assert told.after(lambda folder=folder: folder.mkdir(parents=True))
        settled(watcher)
        assert told.after(lambda: (second / "x.safetensors").write_bytes(b"x"))
        assert told.after(lambda: first.rename(tmp_path / "elsewhere"))
        settled(watcher)
        assert told.after(first.mkdir)
        settled(watcher)
        assert told.after(lambda: (first / "y.safetensors").write_bytes(b"y"))
    finally:
        watcher.close()


def settled(watcher: LibraryWatcher) -> None:
    """Waits until the watcher, having told of a folder that came or went, watches anew."""
    for _ in range(400):
        if watcher.watched == {folder for folder in watcher.folders if folder.is_dir()}:
            return
        threading.Event().wait(0.05)
    pytest.fail("the watcher does not watch anew")


def test_a_listener_that_fails_does_not_end_the_watching(tmp_path: Path, told: Told) -> None:
    calls: list[int] = []

    def listen() -> None:
        calls.append(1)
        told()
        raise RuntimeError("the page is gone")

    watcher = LibraryWatcher([tmp_path], listen, debounce=200)
    watcher.start()
    try:
        assert watcher.ready.wait(20)
        assert told.after(lambda: (tmp_path / "a.pt").write_bytes(b"a"))
        assert told.after(lambda: (tmp_path / "b.pt").write_bytes(b"b"))
    finally:
        watcher.close()
    assert len(calls) >= 2
