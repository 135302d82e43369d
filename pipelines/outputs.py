"""Where finished pictures are kept: `outputs/<task>/<date>/<number>-<seed>.png` in the data folder.

A picture is written the moment it is finished, as a temporary file that is then renamed.
"""

from __future__ import annotations

import datetime
import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from pipelines import VERSION, metadata
from pipelines.events import Picture
from pipelines.film.trajectory import put_file
from pipelines.pictures import shallow
from pipelines.preview import jpeg

if TYPE_CHECKING:
    import numpy as np

    from pipelines.library.models import ModelSpec
    from pipelines.request import GenerationRequest


class Outputs:
    """The output folder of one engine."""

    def __init__(self, root: Path):
        self.root = root

    def keep(
        self,
        image: Image.Image | np.ndarray,
        request: GenerationRequest,
        *,
        index: int,
        model: ModelSpec,
        model_hash: str,
        extras: Mapping[str, Any],
        through: Path | None = None,
        promise: Callable[[Path], object] = lambda path: None,
    ) -> Picture:
        """Writes `image` with its generation text and tells where. index: of the picture in its job.

        image: a Pillow picture, or an array (h, w, 3 or 4) RGB or RGBA, uint8 or uint16, kept at its depth.
        through: a path at which it is whole first. `promise` is then told where it goes, before it is there:
        while `through` is there the picture is not in its place, and once it is gone the picture is, so one
        that is taken up again after a kill is neither lost nor kept twice.
        """
        text = metadata.write(
            request,
            picture=index,
            model_title=model.title,
            model_hash=model_hash,
            version=VERSION,
            extras=extras,
        )
        seed = request.seed_of(index)
        path = self._next(request.task, seed)
        if through is None:
            metadata.embed(image, path, text)
            promise(path)
        else:
            metadata.embed(image, through, text)
            promise(path)
            move(through, path)
        seen = Image.fromarray(shallow(image)) if not isinstance(image, Image.Image) else image
        return Picture(str(path), seed, seen.width, seen.height, text, jpeg(seen, quality=92))

    def bring(
        self,
        through: Path,
        request: GenerationRequest,
        index: int,
        promised: Path | None,
        promise: Callable[[Path], object],
    ) -> Path:
        """Brings a picture that is whole at `through`, and was `promised` a place, into place; see `keep`."""
        if promised is not None and promised.is_file() and promised.read_bytes() == through.read_bytes():
            through.unlink()  # it was copied to another disk, and the program ended before it tidied up
            return promised
        path = self._next(request.task, request.seed_of(index))
        promise(path)
        move(through, path)
        return path

    def read(self, path: Path, seed: int) -> Picture:
        """A kept picture as `keep` told of it. Raises OSError where it is gone."""
        text = metadata.read(path) or ""
        with Image.open(path) as picture:
            seen = picture.convert("RGB")
        return Picture(str(path), seed, seen.width, seen.height, text, jpeg(seen, quality=92))

    def clear(self) -> None:
        """Clears away what a killed program left half written."""
        for part in self.root.glob("*/*/.*.part"):
            part.unlink(missing_ok=True)

    def _next(self, task: str, seed: int) -> Path:
        folder = self.root / task / datetime.date.today().isoformat()
        folder.mkdir(parents=True, exist_ok=True)
        numbers = [int(file.name[:5]) for file in folder.glob("[0-9][0-9][0-9][0-9][0-9]-*.png")]
        return folder / f"{max(numbers, default=0) + 1:05d}-{seed}.png"


def move(source: Path, target: Path) -> None:
    """Moves a file, whole at every moment, to another disk too."""
    try:
        os.replace(source, target)
    except OSError as problem:
        if problem.errno != errno.EXDEV:
            raise
        data = source.read_bytes()
        put_file(target, lambda part: part.write_bytes(data))
        source.unlink()
