"""The batch's book: what was painted is not painted twice, what is missing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.batch import BatchBook
from pipelines.events import Picture
from pipelines.request import InvalidRequest

KEYS = ["a" * 32, "b" * 32]
VALUES = {"prompt": "a house", "strength": 0.5}


def kept(path: Path) -> Picture:
    path.write_bytes(b"png")
    return Picture(str(path), 1, 8, 8, "", b"")


def test_each_picture_has_its_turn_once_and_in_order(tmp_path: Path) -> None:
    items = BatchBook(tmp_path).items(VALUES, [*KEYS, KEYS[0]])
    assert [item.key for item in items] == KEYS
    assert [item.request.image for item in items] == KEYS
    assert not any(item.done for item in items)


def test_what_was_painted_is_known_to_the_next_book(tmp_path: Path) -> None:
    book = BatchBook(tmp_path / "book")
    first, _ = book.items(VALUES, KEYS)
    picture = kept(tmp_path / "1.png")
    book.note(first, [picture])
    again = BatchBook(tmp_path / "book").items(VALUES, KEYS)
    assert [item.done for item in again] == [(picture.path,), ()]


def test_other_settings_or_a_deleted_file_are_painted_anew(tmp_path: Path) -> None:
    book = BatchBook(tmp_path / "book")
    first, _ = book.items(VALUES, KEYS)
    picture = kept(tmp_path / "1.png")
    book.note(first, [picture])
    assert not book.items({**VALUES, "strength": 0.6}, KEYS)[0].done
    Path(picture.path).unlink()
    assert not book.items(VALUES, KEYS)[0].done


def test_bad_settings_are_told_before_anything_is_painted(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="Prompt must be text"):
        BatchBook(tmp_path).items({**VALUES, "prompt": 3}, KEYS)
