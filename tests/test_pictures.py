"""Pictures that people show the program: every kind of file, every way of being broken, and the store."""

from __future__ import annotations

import io
import os
import random
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipelines.metadata import UnreadablePicture
from pipelines.pictures import Original, PictureStore, Stored, read_original

GONE = "A picture that this run needs is no longer kept here: drop, paste or choose it once more."
NO_PICTURE = "This file is no picture that can be read: use PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF."
SEVERAL = "The file holds several pictures; the first one is used."
PRINTED = "The picture's printing colours (CMYK) were turned into screen colours."
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""PNG colour type -> channels."""


@pytest.fixture
def store(tmp_path: Path) -> PictureStore:
    return PictureStore(tmp_path / "inputs")


def noise(*shape: int, kind: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(7).integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)


def picture(mode: str = "RGB", width: int = 40, height: int = 24) -> Image.Image:
    """A picture in which every corner differs."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    smooth = np.stack([across, down, 255 - across, 128 + down / 2], 2).astype(np.uint8)
    image = Image.fromarray(smooth)
    return image if mode == "RGBA" else image.convert("LA" if mode == "LA" else "RGB").convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)


def deep_png(colour: int, before: bytes = b"", after: bytes = b"") -> tuple[np.ndarray, bytes]:
    """The pixels and the file of a PNG with 16 bits a channel; further chunks before or after the pixels."""
    pixels = noise(24, 40, CHANNELS[colour], kind=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    body = before + chunk(b"IDAT", zlib.compress(rows)) + after + chunk(b"IEND", b"")
    return pixels, png_header(40, 24, 16, colour) + body


def refused(take: Callable[[bytes], object], data: bytes) -> str:
    with pytest.raises(UnreadablePicture) as told:
        take(data)
    return str(told.value)


def on_page(stored: Stored) -> Image.Image:
    """The shown file, as a browser has it."""
    with Image.open(stored.shown) as shown:
        assert shown.format in ("PNG", "JPEG", "WEBP") and max(shown.size) <= 2048
        assert shown.getexif().get(0x0112, 1) == 1 and getattr(shown, "n_frames", 1) == 1
        return shown.convert("RGBA")


@pytest.mark.parametrize(
    ("kind", "mode", "options", "exact"),
    [
        ("PNG", "RGB", {}, True),
        ("PNG", "RGBA", {}, True),
        ("PNG", "L", {}, True),
        ("PNG", "LA", {}, True),
        ("PNG", "P", {}, True),
        ("PNG", "1", {}, True),
        ("PNG", "P", {"transparency": 3}, True),
        ("PNG", "RGB", {"transparency": (0, 0, 255)}, True),
        ("JPEG", "RGB", {"quality": 95}, False),
        ("JPEG", "L", {"quality": 95}, False),
        ("WEBP", "RGB", {"lossless": True}, True),
        ("WEBP", "RGBA", {"lossless": True, "exact": True}, True),
        ("GIF", "P", {}, True),
        ("GIF", "L", {}, True),
        ("BMP", "RGB", {}, True),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}, True),
        ("AVIF", "RGB", {"quality": 95}, False),
    ],
)
def test_every_kind_is_taken_in(
    store: PictureStore, kind: str, mode: str, options: dict[str, Any], exact: bool
) -> None:
    given = picture(mode)
    data = saved(given, kind, **options)
    stored = store.put(data)
    assert (stored.width, stored.height, stored.notes) == (40, 24, ())
    assert store.stored(stored.key) == stored
    loaded = store.load(stored.key)
    assert loaded.pixels.dtype == np.uint8 and loaded.size == (40, 24)
    with Image.open(io.BytesIO(data)) as asis:
        clear = mode in ("RGBA", "LA") or "transparency" in options
        want = np.asarray(asis.convert("RGBA" if clear else "RGB"))
    assert loaded.pixels.shape == want.shape and (loaded.pixels == want).all()
    if exact and "transparency" not in options:
        assert (loaded.pixels == np.asarray(given.convert("RGBA" if clear else "RGB"))).all()
    assert (np.asarray(on_page(stored))[..., : want.shape[2]] == want).all()


def test_sixteen_bits_are_rounded_to_eight() -> None:
    every = np.arange(65_536, dtype=np.uint16).reshape(256, 256, 1).repeat(3, 2)
    want = np.rint(every / 257)
    assert (np.asarray(Original(every).rgb()) == want).all()
    solid = np.dstack([every, np.full((256, 256), 65_535, np.uint16)])
    assert (abs(np.asarray(Original(solid).rgb()) - want) <= 1).all()


def test_what_is_transparent_is_seen_over_white() -> None:
    pixels = np.zeros((8, 10, 4), np.uint8)
    pixels[:, 5:, 3], pixels[:, 9:, 3] = 128, 255
    seen = np.asarray(read_original(saved(Image.fromarray(pixels), "PNG")).rgb())
    assert (seen[:, :5] == 255).all() and (seen[:, 5:9] == 127).all() and (seen[:, 9:] == 0).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_several_pictures_the_first_is_used_and_shown(store: PictureStore, kind: str) -> None:
    frames = [Image.new("RGB", (32, 16), colour) for colour in ("red", "green", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    stored = store.put(saved(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert stored.notes == (SEVERAL,) and store.stored(stored.key) == stored
    assert (store.load(stored.key).pixels == (255, 0, 0)).all()
    assert (np.asarray(on_page(stored)) == (255, 0, 0, 255)).all()


def test_printing_colours_become_screen_colours(store: PictureStore) -> None:
    stored = store.put(saved(Image.new("CMYK", (32, 16), (0, 255, 255, 0)), "JPEG"))
    assert stored.notes == (PRINTED,)
    for seen in (store.load(stored.key).pixels, np.asarray(on_page(stored))[..., :3]):
        assert seen.shape == (16, 32, 3) and (abs(seen.astype(int) - (255, 0, 0)) <= 3).all()


@pytest.mark.parametrize("colour", sorted(CHANNELS))
def test_sixteen_bits_are_kept_and_shown_alike(store: PictureStore, colour: int) -> None:
    pixels, data = deep_png(colour)
    stored = store.put(data)
    loaded = store.load(stored.key).pixels
    grey, clear = colour in (0, 4), colour in (4, 6)
    want = np.repeat(pixels[..., :1], 3, 2) if grey else pixels[..., :3]
    assert loaded.dtype == np.uint16 and loaded.shape == (24, 40, 4 if clear else 3)
    assert (loaded[..., :3] == want).all()
    if clear:
        assert (loaded[..., 3] == pixels[..., -1]).all()
    shown = np.asarray(on_page(stored)).astype(int)
    assert (abs(shown[..., :3] - want // 257) <= 1).all()


@pytest.mark.parametrize("name", [b"gAMA", b"sRGB", b"sBIT", b"cICP"])
def test_sixteen_bits_are_not_shifted_by_what_a_file_says_of_colours(name: bytes) -> None:
    data = {
        b"gAMA": struct.pack(">I", 100_000),
        b"sRGB": b"\0",
        b"sBIT": b"\x0a\x0a\x0a",
        b"cICP": b"\x09\x10\0\1",
    }
    pixels, file = deep_png(2, before=chunk(name, data[name]))
    assert (read_original(file).pixels == pixels).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_of_sixteen_bits_is_kept(store: PictureStore, channels: int) -> None:
    import cv2

    pixels = noise(24, 40, channels, kind=np.uint16)
    stored = store.put(cv2.imencode(".tif", pixels[..., ::-1])[1].tobytes())
    loaded = store.load(stored.key).pixels
    assert loaded.dtype == np.uint16 and (loaded == pixels).all()
    assert (abs(np.asarray(on_page(stored))[..., :3].astype(int) - pixels // 257) <= 1).all()


@pytest.mark.parametrize("mode", ["F", "I"])
def test_thirty_two_bits_are_refused(store: PictureStore, mode: str) -> None:
    sentence = "The picture has 32 bits a channel, which cannot be used: save it with 8 or 16."
    assert refused(store.put, saved(Image.new(mode, (16, 16)), "TIFF")) == sentence


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_are_upright(store: PictureStore, kind: str, orientation: int) -> None:
    data = saved(picture(), kind, exif=turned(orientation))
    with Image.open(io.BytesIO(data)) as asis:
        want = np.asarray(ImageOps.exif_transpose(asis).convert("RGB"))
    stored = store.put(data)
    assert (stored.width, stored.height) == ((24, 40) if orientation > 4 else (40, 24))
    assert (store.load(stored.key).pixels == want).all()
    assert (np.asarray(on_page(stored))[..., :3] == want).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind them"])
@pytest.mark.parametrize("colour", sorted(CHANNELS))
def test_sixteen_bits_are_upright(store: PictureStore, colour: int, behind: bool, orientation: int) -> None:
    said = chunk(b"eXIf", turned(orientation).tobytes().removeprefix(b"Exif\0\0"))
    pixels, data = deep_png(colour, **{"after" if behind else "before": said})
    stored = store.put(data)
    loaded = store.load(stored.key)
    assert loaded.size == (stored.width, stored.height)
    for channel, own in ((0, 0), (loaded.pixels.shape[2] - 1, -1)):
        for low in (False, True):  # Pillow turns 8 bits: once the upper ones, once the lower
            half = (pixels[..., own] & 255 if low else pixels[..., own] >> 8).astype(np.uint8)
            file = saved(Image.fromarray(half), "PNG", exif=turned(orientation))
            with Image.open(io.BytesIO(file)) as asis:
                want = np.asarray(ImageOps.exif_transpose(asis))
            got = loaded.pixels[..., channel]
            assert ((got & 255 if low else got >> 8) == want).all()
    assert on_page(stored).size == loaded.size


def test_a_plain_picture_is_shown_as_it_is(store: PictureStore) -> None:
    data = saved(picture(), "PNG")
    stored = store.put(data)
    assert stored.shown == store.root / f"{stored.key}.png" and stored.shown.read_bytes() == data


def test_a_large_picture_is_shown_smaller(store: PictureStore) -> None:
    stored = store.put(saved(Image.new("RGB", (4000, 1000), "teal"), "PNG"))
    assert (stored.width, stored.height) == (4000, 1000)
    assert on_page(stored).size == (2048, 512)
    assert store.load(stored.key).size == (4000, 1000)


def test_a_file_is_taken_in_like_its_bytes(store: PictureStore, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"  # the ending may lie
    path.write_bytes(saved(picture(), "PNG"))
    assert store.put(path) == store.put(path.read_bytes())
    assert len(list(store.root.iterdir())) == 1
    assert store.put(saved(picture("L"), "PNG")).key != store.put(path).key


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20"><rect width="9" height="9"/></svg>'


@pytest.mark.parametrize(
    "data", [b"", b"a text, called x.png", SVG, b"<!doctype html><p>Hello", b"\x89PNG\r\n\x1a\n", b"GIF89a"]
)
def test_what_is_no_picture_is_refused(store: PictureStore, data: bytes, tmp_path: Path) -> None:
    assert refused(store.put, data) == NO_PICTURE
    assert refused(read_original, data) == NO_PICTURE
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(UnreadablePicture) as told:
        store.put(tmp_path / "x.png")
    assert str(told.value) == NO_PICTURE
    assert not store.root.exists()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_a_picture_that_is_cut_off_is_refused(store: PictureStore, kind: str) -> None:
    data = saved(Image.fromarray(noise(64, 64, 3)), kind)
    sentence = refused(store.put, data[: len(data) // 2])
    assert sentence.startswith(("The picture is broken or cut off (", NO_PICTURE)), sentence
    assert sentence == NO_PICTURE or sentence.endswith("): save or download it anew.")
    assert not store.root.exists()


def test_sixteen_bits_cut_off_are_refused(store: PictureStore) -> None:
    data = deep_png(2)[1]
    assert refused(store.put, data[: len(data) // 2]).startswith("The picture is broken or cut off (")


@pytest.mark.parametrize(
    ("width", "height", "sentence"),
    [
        (1, 1, "The picture is too small: 1 x 1 pixels; 8 x 8 are the least."),
        (7, 400, "The picture is too small: 7 x 400 pixels; 8 x 8 are the least."),
        (
            20_000,
            20_000,
            "The picture is too large: it has more than 120 million pixels. "
            "Make it smaller in an editor first.",
        ),
        (
            12_000,
            10_001,
            "The picture is too large: 12000 x 10001 pixels are more than 120 million pixels. "
            "Make it smaller in an editor first.",
        ),
    ],
)
def test_sizes_are_refused_before_anything_is_decoded(
    store: PictureStore, width: int, height: int, sentence: str
) -> None:
    data = png_header(width, height) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    began = time.perf_counter()
    assert refused(store.put, data) == sentence
    assert time.perf_counter() - began < 1
    assert not store.root.exists()


@pytest.mark.parametrize("name", ["ICO", "EPS", "PPM", "TGA", "PDF", "ICNS"])
def test_other_programs_pictures_are_refused_and_their_readers_not_even_asked(
    store: PictureStore, name: str
) -> None:
    assert refused(store.put, saved(picture(), name)) == NO_PICTURE


def test_a_large_picture_is_no_cause_for_warnings(store: PictureStore) -> None:
    data = saved(Image.new("L", (10_000, 9_000)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.stored(store.put(data).key).width == 10_000


def test_broken_words_about_a_picture_do_not_spoil_it(store: PictureStore) -> None:
    data = saved(picture(), "JPEG", exif=turned(6))
    spoilt = data.replace(b"MM\0*", b"MM\xff*")
    assert spoilt != data
    stored = store.put(spoilt)
    assert (stored.width, stored.height) == (40, 24) == store.load(stored.key).size


def _damaged(draw: random.Random, data: bytes) -> bytes:
    broken = bytearray(data)
    for _ in range(draw.randint(1, 5)):
        place = draw.randrange(min(len(broken), 400) if draw.random() < 0.7 else len(broken))
        if draw.random() < 0.8:
            broken[place] = draw.choice([0, 1, 255, draw.randrange(256)])
        else:
            del broken[place : place + draw.randint(1, 9)]
    return bytes(broken)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_are_pictures_or_sentences(store: PictureStore) -> None:
    draw = random.Random(5)
    frames = [Image.fromarray(noise(20, 30, 3)), picture("RGB", 30, 20)]
    several = {"save_all": True, "append_images": frames[1:]}
    whole = [saved(frames[0], kind, exif=turned(6)) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")]
    whole += [saved(frames[0], kind, exif=turned(6), **several) for kind in ("PNG", "WEBP", "TIFF")]
    whole += [saved(frames[0], "GIF", **several), saved(frames[0], "BMP")]
    whole += [deep_png(colour, before=chunk(b"eXIf", turned(5).tobytes()[6:]))[1] for colour in CHANNELS]
    read = 0
    for number in range(3000):
        data = _damaged(draw, whole[number % len(whole)])
        try:
            stored = store.put(data)
            assert store.load(stored.key).size == (stored.width, stored.height)
            read += 1
        except UnreadablePicture as problem:
            assert str(problem).endswith(".")
    assert 100 < read < 2900


@pytest.mark.parametrize(
    "key",
    ["0" * 32, "", "..", "../..", "../../etc/passwd", "/etc/passwd", "*", "**", "[", "a\0b", "A" * 32, "é"],
)
def test_keys_that_name_nothing_get_a_sentence(store: PictureStore, key: str) -> None:
    store.put(saved(picture(), "PNG"))
    for ask in (store.load, store.stored):
        with pytest.raises(UnreadablePicture) as told:
            ask(key)
        assert str(told.value) == GONE


def test_a_key_finds_no_shown_file_and_nothing_outside(store: PictureStore) -> None:
    (store.root.parent / f"{'a' * 32}.png").write_bytes(saved(picture(), "PNG"))
    stored = store.put(saved(picture("P"), "GIF"))
    assert ".shown" in stored.shown.name
    (store.root / f"{stored.key}.gif").unlink()
    for key in (stored.key, "../" + "a" * 32, "a" * 32):
        with pytest.raises(UnreadablePicture):
            store.load(key)


def test_sweeping_deletes_what_was_not_used_for_long(store: PictureStore) -> None:
    day = 86_400
    old = store.put(saved(picture("P"), "GIF"))
    loaded, looked_at = (store.put(saved(picture("L", side), "PNG")) for side in (40, 41))
    fresh = store.put(saved(picture("RGB"), "PNG"))
    folder = store.root / "a.folder"
    folder.mkdir()
    for path in store.root.iterdir():
        if not path.name.startswith(fresh.key):
            os.utime(path, (time.time() - 61 * day,) * 2)
    store.load(loaded.key)
    store.stored(looked_at.key)
    assert store.sweep() == 2  # the old picture, and what the page was shown of it
    assert store.sweep() == 0
    kept = {path.name.split(".")[0] for path in store.root.iterdir()}
    assert kept == {loaded.key, looked_at.key, fresh.key, "a"}
    with pytest.raises(UnreadablePicture):
        store.stored(old.key)
    assert store.sweep(-1) == 3
    assert PictureStore(store.root / "nowhere").sweep() == 0


def test_what_is_shown_is_made_anew_when_it_was_swept(store: PictureStore) -> None:
    stored = store.put(saved(picture("P"), "GIF"))
    stored.shown.unlink()
    assert store.stored(stored.key) == stored and stored.shown.exists()


def test_threads_may_put_the_same_picture_at_once(store: PictureStore) -> None:
    data = saved(Image.fromarray(noise(600, 900, 3)).convert("P"), "GIF")
    start = threading.Barrier(8)
    found: list[Stored] = []
    failed: list[BaseException] = []

    def put() -> None:
        start.wait()
        try:
            found.append(store.put(data))
            on_page(found[-1])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and set(found) == {found[0]} and len(found) == 8
    assert {path.suffix for path in store.root.iterdir()} == {".gif", ".png"}
    assert (store.root / f"{found[0].key}.gif").read_bytes() == data
