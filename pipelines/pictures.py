"""Pictures that a person shows the program: kept by the hash of their bytes, read without losing a bit.

The store is a folder, so a picture outlives the page and the program; what was not used for weeks is swept.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps, UnidentifiedImageError

from pipelines.metadata import UnreadablePicture

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
_SHOWN_AS_THEY_ARE = ("PNG", "JPEG", "WEBP")
_ORIENTATION = 0x0112


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


def shallow(pixels: np.ndarray) -> np.ndarray:
    """`pixels` (h, w, 3 or 4) uint8 or uint16 as uint8 (h, w, 3), what is transparent over white."""
    import numpy as np

    if pixels.dtype == np.uint16:
        pixels = (pixels // 257).astype(np.uint8)  # 65535 / 255
    if pixels.shape[2] == 3:
        return pixels
    share = pixels[..., 3:].astype(np.float32) / 255
    return np.rint(pixels[..., :3] * share + 255 * (1 - share)).astype(np.uint8)


class PictureStore:
    """A folder of pictures; safe to use from several threads and processes."""

    def __init__(self, root: Path):
        self.root = root

    def put(self, source: Path | bytes) -> Stored:
        """Takes a picture in; the same bytes are kept once.

        Raises `metadata.UnreadablePicture` with a sentence for what is no picture, is broken or truncated, is
        smaller than 8 pixels a side or has more than 120 million pixels.
        """
        data = source if isinstance(source, bytes) else source.read_bytes()
        key = hashlib.sha256(data).hexdigest()[:32]
        with _opened(data) as picture:
            notes = _notes(picture)
            path = self.root / f"{key}{_ENDINGS[str(picture.format)]}"
            if not path.exists():
                _write(path, data)
            upright = _upright(picture)
        os.utime(path)
        shown = self._shown(path, upright)
        return Stored(key, upright.width, upright.height, shown, notes)

    def _shown(self, path: Path, upright: Image.Image) -> Path:
        with Image.open(path) as asis:
            plain = (
                asis.format in _SHOWN_AS_THEY_ARE
                and asis.mode in ("RGB", "RGBA", "L")
                and asis.getexif().get(_ORIENTATION, 1) == 1
                and max(asis.size) <= SHOWN_SIDE
            )
        if plain:
            return path
        shown = path.with_name(f"{path.stem}.shown.png")
        if not shown.exists():
            small = upright.convert("RGBA" if _has_alpha(upright) else "RGB")
            small.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            small.save(buffer, "PNG", compress_level=1)
            _write(shown, buffer.getvalue())
        os.utime(shown)
        return shown

    def stored(self, key: str) -> Stored:
        """What is known of the picture with that key. Raises `UnreadablePicture` when it is not there."""
        path = self._path(key)
        with _opened(path.read_bytes()) as picture:
            upright = _upright(picture)
        return Stored(key, upright.width, upright.height, self._shown(path, upright))

    def load(self, key: str) -> Original:
        """The picture with that key, every bit of it. Raises `UnreadablePicture` when it is not there."""
        path = self._path(key)
        os.utime(path)
        return read_original(path.read_bytes())

    def _path(self, key: str) -> Path:
        found = [path for path in self.root.glob(f"{key}.*") if ".shown" not in path.name]
        if not found or not key.isalnum():
            raise UnreadablePicture(
                "A picture that this run needs is no longer kept here: drop, paste or choose it once more."
            )
        return found[0]

    def sweep(self, days: float = KEPT_DAYS) -> int:
        """Deletes what was not used for so many days; returns how many files."""
        old = [path for path in self.root.glob("*.*") if path.stat().st_mtime < time.time() - days * 86400]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)


def read_original(data: bytes) -> Original:
    """Decodes a picture at its full depth. Raises `UnreadablePicture` as `PictureStore.put`."""
    import numpy as np

    with _opened(data) as picture:
        if _is_deep(picture, data):
            return Original(_deep(data, picture.getexif().get(_ORIENTATION, 1)))
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
            picture = Image.open(io.BytesIO(data))
            _check_size(picture.width, picture.height)
            if picture.format not in _ENDINGS:
                raise UnreadablePicture(
                    f"{picture.format} pictures cannot be used: save it as PNG, JPEG or WebP."
                )
            picture.load()
        except UnreadablePicture:
            raise
        except Image.DecompressionBombError:
            raise UnreadablePicture(_too_large("")) from None
        except UnidentifiedImageError:
            raise UnreadablePicture(
                "This file is no picture that can be read: use PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF."
            ) from None
        except (OSError, SyntaxError, ValueError, EOFError) as error:
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
    turned: Image.Image = ImageOps.exif_transpose(picture)
    return turned


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info


def _is_deep(picture: Image.Image, data: bytes) -> bool:
    if picture.format == "PNG":
        return data[24] == 16 and data[25] in (0, 2, 4, 6)  # bit depth and colour type of the header
    return picture.format == "TIFF" and picture.mode in ("I;16", "I;16B", "I;16L")


def _notes(picture: Image.Image) -> tuple[str, ...]:
    notes = []
    if getattr(picture, "n_frames", 1) > 1 and picture.format in ("GIF", "WEBP", "PNG", "TIFF"):
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
