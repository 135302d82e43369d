"""What a run is shown besides words: its pictures and its control units' maps, read and brought to size."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from pipelines import repaint
from pipelines.controlnet import control
from pipelines.controlnet.detectors import Detectors
from pipelines.metadata import UnreadablePicture
from pipelines.pictures import PictureStore
from pipelines.request import InvalidRequest
from pipelines.resizing import resized
from pipelines.run import Shown

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipelines.pictures import Original
    from pipelines.request import ControlUnit, GenerationRequest


class Showing:
    """Reads the pictures of `store` as requests want them; safe from any thread."""

    def __init__(self, store: PictureStore, detectors: Detectors):
        self.store, self.detectors = store, detectors

    def shown(self, request: GenerationRequest) -> Shown:
        """The pictures of a request, read and brought to its size. Raises `InvalidRequest` with a sentence
        for a picture that is gone or does not fit."""
        width, height = request.width, request.height
        if request.image is None:
            return Shown(maps=tuple(self.control_map(unit, width, height) for unit in request.controls))
        original = self.stored(request.image, "image")
        if request.task == "image2image":
            return Shown(
                image=resized(original.rgb(), width, height, request.resize_mode),
                maps=tuple(self.control_map(unit, width, height) for unit in request.controls),
            )
        mask = self.stored(request.mask_image, "mask_image") if request.mask_image else None
        canvas = repaint.canvas_for(request, original, mask)
        return Shown(
            image=canvas.shown(width, height, fill=request.masked_content == "fill"),
            mask=canvas.mask(width, height),
            maps=tuple(self._map_on(canvas, unit, width, height) for unit in request.controls),
            canvas=canvas,
        )

    def stored(self, key: str, field: str) -> Original:
        """The stored picture with that key; what is wrong with it is told of the request's `field`."""
        try:
            return self.store.load(key)
        except UnreadablePicture as problem:
            raise InvalidRequest({field: str(problem)}) from None

    def control_map(self, unit: ControlUnit, width: int, height: int) -> Image:
        """What a control unit follows, RGB of width x height. Raises `InvalidRequest` with a sentence."""
        try:
            return control.control_map(unit, self.store, width, height, self.detectors)
        except UnreadablePicture as problem:
            raise InvalidRequest({"controls": str(problem)}) from None

    def control_map_png(self, unit: ControlUnit, width: int, height: int) -> bytes:
        """`control_map` as a PNG file."""
        buffer = io.BytesIO()
        self.control_map(unit, width, height).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    def detect_pose(self, key: str) -> tuple[Any, ...]:
        """The people in a stored picture as poses. Raises `InvalidRequest` with a sentence."""
        return self.detectors.detect_pose(self.stored(key, "controls").rgb())

    def _map_on(self, canvas: repaint.Canvas, unit: ControlUnit, width: int, height: int) -> Image:
        """A unit's map of what the model is shown: it lies over the whole picture, and is cut like it."""
        import numpy as np
        from PIL import Image

        whole = (0, 0, *canvas.size)
        if canvas.box == whole:
            return self.control_map(unit, width, height)
        # Drawn at the scale at which the part is worked on, but never larger than 4096 pixels.
        scale = min(width / (canvas.box[2] - canvas.box[0]), 4096 / max(canvas.size))
        across, down = (max(8, round(side * scale)) for side in canvas.size)
        drawn = np.asarray(self.control_map(unit, across, down))
        left, top, right, bottom = (round(edge * scale) for edge in canvas.box)
        part = Image.fromarray(repaint.cut(drawn, (left, top, right, bottom), outside=0))
        return part if part.size == (width, height) else part.resize((width, height))
