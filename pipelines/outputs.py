"""Where finished pictures are kept: `outputs/<task>/<date>/<number>-<seed>.png` in the data folder.

A picture is written the moment it is finished, as a temporary file that is then renamed.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from pipelines import VERSION, metadata
from pipelines.events import Picture
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
    ) -> Picture:
        """Writes `image` with its generation text and tells where. index: of the picture in its job.

        image: a Pillow picture, or an array (h, w, 3 or 4) RGB or RGBA, uint8 or uint16, kept at its depth.
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
        metadata.embed(image, path, text)
        seen = Image.fromarray(shallow(image)) if not isinstance(image, Image.Image) else image
        return Picture(str(path), seed, seen.width, seen.height, text, jpeg(seen, quality=92))

    def _next(self, task: str, seed: int) -> Path:
        folder = self.root / task / datetime.date.today().isoformat()
        folder.mkdir(parents=True, exist_ok=True)
        numbers = [int(file.name[:5]) for file in folder.glob("[0-9][0-9][0-9][0-9][0-9]-*.png")]
        return folder / f"{max(numbers, default=0) + 1:05d}-{seed}.png"
