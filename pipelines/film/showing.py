"""Pictures of a run's steps as something to send: a film (MP4), a GIF, or a sheet of all steps.

OpenCV's wheel brings no encoder for H.264 but one for VP9, which every browser of today plays in an MP4 file.
It is imported only in the process of its own that `film` starts: the page stays free of it.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
CODEC = "vp09"
SPEEDS = (2, 30)
"""Steps a second: the slowest and the fastest."""
REST = 1.5
"""Seconds that the last step stays in sight, where the film would begin anew."""
LEAST, MOST = 256, 1024
"""Pixels of a picture's longer side in a film; of a sheet's picture at most `TILE`."""
TILE = 192
GAP, LABEL = 8, 22
GROUND, WORDS = (20, 18, 16), (242, 236, 228)
MINUTES = 5 * 60


class NotShown(ValueError):
    """A film that could not be made; `str()` is a sentence."""


def film(pictures: Sequence[Image.Image], speed: int) -> bytes:
    """An MP4 file of the pictures at `speed` steps a second. Raises `NotShown`."""
    with tempfile.TemporaryDirectory() as folder:
        for index, picture in enumerate(_even(pictures)):
            picture.save(Path(folder, f"{index:05d}.png"), compress_level=1)
        command = [sys.executable, "-m", "pipelines.film.showing", folder, str(_speed(speed))]
        try:
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=MINUTES, check=False)
            made = Path(folder, "film.mp4").read_bytes() if ended.returncode == 0 else b""
        except (subprocess.TimeoutExpired, OSError):
            made = b""
    if not made:
        raise NotShown("The film could not be written by OpenCV on this machine: take the GIF instead.")
    return made


def gif(pictures: Sequence[Image.Image], speed: int) -> bytes:
    """A GIF that plays for ever, of the pictures at `speed` steps a second (browsers show at most 50)."""
    pause = round(1000 / _speed(speed))
    pauses = [pause] * (len(pictures) - 1) + [max(pause, round(1000 * REST))]
    first, *rest = [
        picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
        for picture in _even(pictures)
    ]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=pauses, loop=0, disposal=1)
    return buffer.getvalue()


def sheet(pictures: Sequence[Image.Image], labels: Sequence[str]) -> bytes:
    """A PNG of all pictures in rows, each with its label below; as wide as high, as far as that goes."""
    tiles = [_fitted(picture, TILE) for picture in pictures]
    wide, high = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    columns = max(1, min(len(tiles), round((len(tiles) * (high + LABEL) / wide) ** 0.5)))
    rows = -(-len(tiles) // columns)
    across, down = wide + GAP, high + LABEL + GAP
    whole = Image.new("RGB", (columns * across + GAP, rows * down + GAP), GROUND)
    pen, face = ImageDraw.Draw(whole), ImageFont.load_default(size=13)
    for index, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        left, top = GAP + index % columns * across, GAP + index // columns * down
        whole.paste(tile, (left, top))
        pen.text((left, top + tile.height + 4), label, WORDS, face)
    buffer = io.BytesIO()
    whole.save(buffer, "PNG")
    return buffer.getvalue()


def _speed(given: int) -> int:
    return max(SPEEDS[0], min(SPEEDS[1], given))


def _even(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """The pictures in one size of even sides, which encoders want."""
    first = _fitted(pictures[-1], MOST)
    size = (first.width // 2 * 2, first.height // 2 * 2)
    return [_sized(picture, size) for picture in pictures]


def _fitted(picture: Image.Image, most: int) -> Image.Image:
    """Brought to at most `most` pixels a side; what is tiny (latents) becomes visible, in whole blocks."""
    longer = max(picture.size)
    scale: float = max(1, LEAST // longer) if longer < LEAST else 1
    scale = scale if longer * scale <= most else most / longer
    return _sized(picture, (max(2, round(picture.width * scale)), max(2, round(picture.height * scale))))


def _sized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    picture = picture.convert("RGB")
    if picture.size == size:
        return picture
    blocks = size[0] > picture.width
    return picture.resize(size, Image.Resampling.NEAREST if blocks else Image.Resampling.LANCZOS)


def _write(folder: Path, speed: int) -> int:
    """The process of its own: the folder's PNG files as film.mp4. Returns the exit status."""
    import cv2

    frames: list[np.ndarray] = [cv2.imread(str(path)) for path in sorted(folder.glob("*.png"))]
    high, wide = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(folder / "film.mp4"), cv2.VideoWriter_fourcc(*CODEC), speed, (wide, high))
    if not writer.isOpened():
        return 1
    for frame in [*frames, *[frames[-1]] * round(REST * speed)]:
        writer.write(frame)
    writer.release()
    return 0


if __name__ == "__main__":
    raise SystemExit(_write(Path(sys.argv[1]), int(sys.argv[2])))
