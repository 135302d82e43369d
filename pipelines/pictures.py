"""Pictures that a person shows the program: kept by the hash of their bytes, read without losing a bit.

The store is a folder, so a picture outlives the page and the program; what was not used for weeks is swept.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import secrets
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from pipelines.metadata import UnreadablePicture, with_text

if TYPE_CHECKING:
    import numpy as np

MOST_PIXELS = 120_000_000
"""A picture of more is refused: decoded it would not fit beside a model."""
LEAST_SIDE = 8
SHOWN_SIDE = 2048
"""Longest side of what the page is shown of a picture."""
KEPT_DAYS = 60

_ENDINGS = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "AVIF": ".avif",
}
FORMATS = tuple(name for name in _ENDINGS if name != "MPO")
"""What is read, as Pillow calls it; its reader of JPEG reads MPO too."""
_SHOWN_AS_THEY_ARE = ("PNG", "JPEG", "WEBP")
_ORIENTATION = 0x0112
_KEY = re.compile(r"[0-9a-f]{32}")
_ORIGIN = "Painted on"
"""The keyword under which a painted picture's file names the picture that it was painted on."""
_PNG = b"\x89PNG\r\n\x1a\n"
_BROKEN = (
    *(OSError, ValueError, TypeError, LookupError, SyntaxError, ArithmeticError, EOFError),
    *(struct.error, zlib.error, MemoryError, RuntimeError, AttributeError),
)
"""All that Pillow's readers raise on files that are cut short or were tampered with."""


@dataclass(frozen=True)
class Stored:
    """A picture in the store. width, height: as seen, turned as its EXIF says. shown: a file that every
    browser can show, at most 2048 pixels a side. notes: sentences on what was done to read it."""

    key: str
    width: int
    height: int
    shown: Path
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Original:
    """A picture as it was given, turned upright: `pixels` (h, w, 3 or 4) RGB or RGBA, uint8 or uint16."""

    pixels: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def rgb(self) -> Image.Image:
        """The picture in 8-bit RGB, what is transparent over white."""
        return Image.fromarray(shallow(self.pixels))


def key_of(data: bytes) -> str:
    """The store's key of a file that holds `data`."""
    return hashlib.sha256(data).hexdigest()[:32]


def shallow(pixels: np.ndarray) -> np.ndarray:
    """`pixels` (h, w, 3 or 4) uint8 or uint16 as uint8 (h, w, 3), what is transparent over white."""
    import numpy as np

    if pixels.shape[2] == 4:
        full = np.iinfo(pixels.dtype).max
        share = pixels[..., 3:].astype(np.float32) / full
        return np.rint(pixels[..., :3] * share * (255 / full) + 255 * (1 - share)).astype(np.uint8)
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return pixels


class PictureStore:
    """A folder of pictures; safe to use from several threads and processes."""

    def __init__(self, root: Path):
        self.root = root
        self._one_at_a_time = threading.Lock()  # the largest takes half a gigabyte while it is decoded

    def put(self, source: Path | bytes, on: str = "") -> Stored:
        """Takes a picture in; the same bytes are kept once.

        on: the key of the picture that this one was painted on, which its file, a PNG, then names (`origin`).
        Raises `metadata.UnreadablePicture` with a sentence for what is no picture, is broken or truncated, is
        smaller than 8 pixels a side or has more than 120 million pixels.
        """
        data = source if isinstance(source, bytes) else source.read_bytes()
        if _KEY.fullmatch(on) and data.startswith(_PNG):
            data = with_text(data, _ORIGIN, self.origin(on) or on)
        key = key_of(data)
        with self._one_at_a_time, _opened(data) as picture:
            path = self.root / f"{key}{_ENDINGS[str(picture.format)]}"
            if not path.exists():
                _write(path, data)
            os.utime(path)
            return self._told(path, picture, data)

    def _told(self, path: Path, picture: Image.Image, data: bytes) -> Stored:
        upright = _upright(picture)
        as_it_is = (
            picture.format in _SHOWN_AS_THEY_ARE
            and picture.mode in ("RGB", "RGBA", "L")
            and max(picture.size) <= SHOWN_SIDE
            and _orientation(picture) == 1
        )
        frames = _frames(picture)  # last: counting them may leave a broken file at another one
        shown = path if as_it_is and frames == 1 else self._shown(path, upright, data)
        return Stored(path.stem, upright.width, upright.height, shown, _notes(picture, frames))

    def _shown(self, path: Path, upright: Image.Image, data: bytes) -> Path:
        shown = path.with_name(f"{path.stem}.shown.png")
        if not shown.exists():
            if upright.mode.startswith("I;16"):
                upright = read_original(data).rgb()  # Pillow would make all but the darkest of it white
            small = upright.convert("RGBA" if _has_alpha(upright) else "RGB")
            small.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            small.save(buffer, "PNG", compress_level=1)
            _write(shown, buffer.getvalue())
        os.utime(shown)
        return shown

    def stored(self, key: str) -> Stored:
        """What is known of the picture with that key. Raises `UnreadablePicture` when it is not there."""
        path, data = self._found(key)
        with _opened(data) as picture:
            return self._told(path, picture, data)

    def load(self, key: str) -> Original:
        """The picture with that key, every bit of it. Raises `UnreadablePicture` when it is not there."""
        return read_original(self._found(key)[1])

    def file(self, key: str) -> tuple[str, bytes]:
        """(ending with its dot, bytes) of the picture with that key, as it was given. Raises as `load`."""
        path, data = self._found(key)
        return path.suffix, data

    def origin(self, key: str) -> str:
        """The key of the picture that a stored one was painted on, before any painter; "" where it was
        painted on none, or is not there."""
        for path in self.root.glob(f"{key}.png") if _KEY.fullmatch(key) else ():
            with contextlib.suppress(*_BROKEN), Image.open(path, formats=["PNG"]) as picture:
                told = str(picture.info.get(_ORIGIN, ""))
                return told if _KEY.fullmatch(told) else ""
        return ""

    def _found(self, key: str) -> tuple[Path, bytes]:
        """A picture's file, marked as used, and its bytes."""
        for path in self.root.glob(f"{key}.*") if _KEY.fullmatch(key) else ():
            if ".shown" in path.name:
                continue
            with contextlib.suppress(FileNotFoundError):  # swept this moment
                os.utime(path)
                return path, path.read_bytes()
        raise UnreadablePicture(
            "A picture that this run needs is no longer kept here: drop, paste or choose it once more."
        )

    def sweep(self, days: float = KEPT_DAYS) -> int:
        """Deletes what was not used for so many days; returns how many files."""
        before = time.time() - days * 86400
        count = 0
        for path in self.root.glob("*.*"):
            with contextlib.suppress(FileNotFoundError):  # another program sweeps here too
                if path.is_file() and path.stat().st_mtime < before:
                    path.unlink()
                    count += 1
        return count


def format_of(data: bytes) -> str:
    """The format of a picture's file by Pillow's name, all of it decoded. Raises as `PictureStore.put`."""
    with _opened(data) as picture:
        return str(picture.format)


def read_original(data: bytes) -> Original:
    """Decodes a picture at its full depth. Raises `UnreadablePicture` as `PictureStore.put`."""
    import numpy as np

    with _opened(data) as picture:
        if _is_deep(picture, data):
            return Original(_deep(data, _orientation(picture)))
        upright = _upright(picture)
        mode = "RGBA" if _has_alpha(upright) else "RGB"
        return Original(np.asarray(upright.convert(mode)))


def _deep(data: bytes, orientation: int) -> np.ndarray:
    """A picture of 16 bits a channel, which Pillow would cut to 8, as uint16 RGB(A)."""
    import cv2
    import numpy as np

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise UnreadablePicture("The picture is broken: its 16-bit pixels could not be read. Save it anew.")
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    swap = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[pixels.shape[2]]
    pixels = cv2.cvtColor(pixels, swap)
    # EXIF's orientations (CIPA DC-008, 4.6.4): mirrored ones are even, 5 to 8 lie on their side.
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(pixels, turns))


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Pillow's picture, checked and decoded; whatever Pillow says of a bad file becomes a sentence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
        try:
            # Named, so that no other of Pillow's forty readers is ever handed what a stranger sent.
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_size(picture.width, picture.height)
            picture.load()
            if picture.mode in ("F", "I") and not _is_deep(picture, data):
                raise UnreadablePicture(
                    "The picture has 32 bits a channel, which cannot be used: save it with 8 or 16."
                )
        except UnreadablePicture:
            raise
        except Image.DecompressionBombError:
            raise UnreadablePicture(_too_large("")) from None
        except UnidentifiedImageError:
            raise UnreadablePicture(
                "This file is no picture that can be read: use PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF."
            ) from None
        except _BROKEN as error:
            raise UnreadablePicture(
                f"The picture is broken or cut off ({error}): save or download it anew."
            ) from None
    with picture:
        yield picture


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise UnreadablePicture(_too_large(f"{width} x {height} pixels are "))
    if min(width, height) < LEAST_SIDE:
        raise UnreadablePicture(
            f"The picture is too small: {width} x {height} pixels; {LEAST_SIDE} x {LEAST_SIDE} are the least."
        )


def _too_large(given: str) -> str:
    return (
        f"The picture is too large: {given or 'it has '}more than {MOST_PIXELS // 1_000_000} million pixels. "
        "Make it smaller in an editor first."
    )


def _upright(picture: Image.Image) -> Image.Image:
    try:
        turned: Image.Image = ImageOps.exif_transpose(picture)
        return turned
    except _BROKEN:  # the pixels are sound, what is said about them is not
        return picture.copy()


def _orientation(picture: Image.Image) -> int:
    """How the picture lies, as its EXIF says: 1 to 8; 1, upright, where it says nothing sound."""
    try:
        found = picture.getexif().get(_ORIENTATION, 1)
    except _BROKEN:
        return 1
    return found if found in range(1, 9) else 1


def _frames(picture: Image.Image) -> int:
    try:
        return int(getattr(picture, "n_frames", 1))
    except _BROKEN:
        return 1


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info


def _is_deep(picture: Image.Image, data: bytes) -> bool:
    if picture.format == "PNG":
        return data[24] == 16 and data[25] in (0, 2, 4, 6)  # bit depth and colour type of the header
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return False
    bits = picture.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE)
    return picture.mode in ("I;16", "I;16B", "I;16L") or (picture.mode == "RGB" and bits == (16, 16, 16))


def _notes(picture: Image.Image, frames: int) -> tuple[str, ...]:
    notes = []
    if frames > 1 and picture.format in ("GIF", "WEBP", "PNG", "TIFF"):
        notes.append("The file holds several pictures; the first one is used.")
    if picture.mode == "CMYK":
        notes.append("The picture's printing colours (CMYK) were turned into screen colours.")
    return tuple(notes)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
