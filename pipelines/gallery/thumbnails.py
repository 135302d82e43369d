"""Small pictures for the gallery: WebP, 256 pixels on the longer side, made once and kept by picture.

They lie in `thumbnails` of the data folder, which may be deleted at any time.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps

from pipelines.film.trajectory import put_file
from pipelines.metadata import FORMATS
from pipelines.pictures import MOST_PIXELS

SIDE = 256


class Thumbnails:
    """The small pictures in a folder; safe in several threads."""

    def __init__(self, folder: Path):
        self.folder = folder

    def of(self, id: str, picture: Path) -> bytes | None:
        """The small picture of the picture with that id, which lies at `picture`; None where that cannot be
        read."""
        path = self.path(id)
        try:
            return path.read_bytes()
        except OSError:
            pass  # not made yet
        small = made(picture)
        if small is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                put_file(path, lambda part: part.write_bytes(small))
            except OSError:
                return small  # a full or read-only disk: made again each time
        return small

    def path(self, id: str) -> Path:
        """Where it lies; folders of some hundred files, since file systems are slow with more."""
        return self.folder / id[:2] / f"{id}.webp"

    def forget(self, id: str) -> None:
        self.path(id).unlink(missing_ok=True)

    def sweep(self, ids: set[str]) -> int:
        """Deletes what belongs to no picture of `ids`, or is half written; returns how many."""
        gone = [path for path in self.folder.glob("??/*") if path.name.partition(".")[0] not in ids]
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)


def made(picture: Path) -> bytes | None:
    """A picture's file as a small WebP; None where it cannot be read."""
    try:
        with Image.open(picture, formats=sorted(set(FORMATS.values()))) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                return None
            opened.draft("RGB", (SIDE, SIDE))
            upright: Image.Image = ImageOps.exif_transpose(opened)
            small = _eight_bits(upright)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    small.thumbnail(
        (SIDE, SIDE), Image.Resampling.BOX if max(small.size) > 8 * SIDE else Image.Resampling.LANCZOS
    )
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80, method=2)
    return buffer.getvalue()


def _eight_bits(picture: Image.Image) -> Image.Image:
    """RGB or RGBA; Pillow itself would make all but the darkest of 16 bits white."""
    if picture.mode.startswith("I"):
        picture = picture.point(lambda value: value / 257).convert("L")
    transparent = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
    return picture.convert("RGBA" if transparent else "RGB")
