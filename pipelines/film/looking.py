"""Looks into a recorded run by its own pipeline, with its own settings: the code that finishes a picture.

Nothing here knows how a family decodes. The run's pipeline is called once more, its denoiser passed over, and
what is to be seen goes on in the place of what its first step comes to.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines import families
from pipelines.film.replay import ALL, Replay
from pipelines.request import GenerationRequest

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipelines.film.trajectory import RunInfo, TrajectoryStore
    from pipelines.library.models import ModelLibrary
    from pipelines.lora.embeddings import Vocabulary
    from pipelines.run import PictureRun

OUT_OF_MEMORY = (
    "There was not enough memory to look into this step. Close other programs that use memory, and try it "
    "again."
)

TENSORS: Mapping[str, str] = {"x0": "pred_original_sample", "x_t": "sample"}
"""What of a step can be decoded -> its tensor."""

WITHOUT_PICTURE: Mapping[str, Any] = {
    "image": None,
    "mask_image": None,
    **{f"extend_{side}": 0 for side in ("left", "top", "right", "bottom")},
}
WITHOUT_HELP: Mapping[str, Any] = {"controls": (), "loras": (), "refiner": "", "compiled": False}
"""What decoding does not ask for: all that the denoiser listens to."""


@dataclass(frozen=True)
class Look:
    """A run that is ready to be painted.

    words, maps: what its call takes of prompt and control units. prompt: as its text encoders read it.
    vocabulary: the embeddings that it may name.
    """

    run: PictureRun
    words: Mapping[str, Any]
    maps: Mapping[str, Any]
    prompt: str
    vocabulary: Vocabulary

    def paint(self) -> Image:
        """The picture that the run comes to."""
        return self.run.paint(self.words, self.maps)


Looking = Callable[[GenerationRequest, int, Callable[[Look], None]], None]
"""See PipelineManager.look."""


def request_of(run: RunInfo) -> GenerationRequest:
    """What a recorded run was asked for; its steps stand for what it branched off."""
    return GenerationRequest.parse({name: value for name, value in run.request.items() if name != "branch"})


def decode(
    store: TrajectoryStore, library: ModelLibrary, look: Looking, id: str, step: int, what: str
) -> bytes:
    """A PNG file of "x0" or "x_t" of a step, or of the finished "picture". Raises as Films.decode."""
    run = store.get(id)
    finished = what == "picture"
    latents = store.read_latents(id) if finished else store.read_step(id, step)[0][TENSORS[what]]
    request = request_of(run).model_copy(update=WITHOUT_HELP)
    if not finished and "text2image" in families.tasks_of(library.find(request.model)):
        request = request.model_copy(update=WITHOUT_PICTURE)  # it may be gone, and would be encoded in vain
    file = io.BytesIO()

    def see(look: Look) -> None:
        painter = look.run
        painter.kept = latents.to(painter.pipe._execution_device)
        painter.replay = Replay(store, id, ALL, 0, tuple(run.about.get("output_shape") or ()))
        painted: Any = look.paint()
        if finished and painter.shown.canvas is not None:
            painted = painter.shown.canvas.with_painted(painted)
        _save(painted, file)

    look(request, run.index, see)
    return file.getvalue()


def _save(painted: Any, file: io.BytesIO) -> None:
    """Writes what painting gave: a picture, or an inpainted one's pixels at its own depth."""
    if hasattr(painted, "save"):
        painted.save(file, "PNG", compress_level=1)
        return
    from PIL import Image

    from pipelines.pictures import shallow

    Image.fromarray(shallow(painted)).save(file, "PNG", compress_level=1)
