"""Control maps: a stored map or pose as it is, or what a preprocessor makes of a picture.

Detectors are controlnet-aux's, loaded when first used. Importing that package takes seconds, so it happens
inside of functions; its own `Processor` writes into a table of its module and is left alone.
"""

from __future__ import annotations

import importlib.util
import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.controlnet import poses
from pipelines.controlnet.preprocessors import PREPROCESSORS, Preprocessor, Weights
from pipelines.request import InvalidRequest, Pose
from pipelines.resizing import is_drawn, resized

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from pipelines.request import ControlUnit

__all__ = ["PREPROCESSORS", "Detectors", "Preprocessor", "control_map"]

RESIDENT_DETECTORS = 2
"""How many detectors stay loaded; the least recently used one goes first."""
FOLDER = "annotators"
"""Where in a models folder their weights are looked for (controlnet-aux's word for detectors)."""
SEED = 0
"""Shuffle and segments draw places and colours at random: always the same, so that a run can be repeated."""


class HasDevice(Protocol):
    @property
    def device(self) -> str: ...


class HasPictures(Protocol):
    """What `control_map` needs of `pictures.PictureStore`."""

    def load(self, key: str) -> Any: ...


def control_map(
    unit: ControlUnit, store: HasPictures, width: int, height: int, detectors: Detectors
) -> Image:
    """What `unit` follows, RGB of exactly width x height.

    Its map brought to the size, else its pose drawn at the size, else its picture brought to the size and
    then preprocessed: users of the webui set thresholds for what they see. Raises `InvalidRequest` where the
    preprocessor cannot be had, and what `store` raises for a picture that is gone.
    """
    if unit.map_image:
        ready = store.load(unit.map_image).rgb()
        return resized(ready, width, height, unit.resize_mode, drawn=is_drawn(ready))
    if unit.pose:
        return _picture(poses.draw_poses(unit.pose, width, height))
    assert unit.image is not None  # a unit without any of the three is no unit
    shown = store.load(unit.image).rgb()
    if unit.preprocessor in ("none", "invert"):
        shown = resized(shown, width, height, unit.resize_mode, drawn=is_drawn(shown))
    else:
        shown = resized(shown, width, height, unit.resize_mode)
    return detectors.map(unit.preprocessor, shown, unit.low_threshold, unit.high_threshold)


class Detectors:
    """Makes maps; loads what it needs and keeps the last two. Safe from several threads, one at a time."""

    def __init__(self, folders: Iterable[Path], plan: HasDevice):
        self.folders = [Path(folder) for folder in folders]
        self.device = plan.device
        self._loaded: OrderedDict[tuple[str, tuple[Weights, ...]], Any] = OrderedDict()
        self._lock = threading.Lock()

    def map(self, key: str, image: Image, low_threshold: int = 100, high_threshold: int = 200) -> Image:
        """The map that the preprocessor `key` makes of `image` (RGB), RGB of the same size.

        The thresholds (1-255) are Canny's. Raises `InvalidRequest` for an unknown preprocessor, and where its
        weights or a package are missing.
        """
        import numpy as np

        row = self._row(key)
        if key == "none":
            return image
        pixels = np.asarray(image.convert("RGB"))
        if key == "invert":
            return _picture(255 - pixels)
        if key == "canny":
            return _picture(_canny(pixels, low_threshold, high_threshold))
        with self._lock:
            detector = self._detector(row)
            with _same_chance():
                made = _RUNS.get(row.detector, _run)(detector, pixels, row)
        found = _picture(made)
        return found if found.size == image.size else found.resize(image.size, _bilinear())

    def detect_pose(self, image: Image) -> tuple[Pose, ...]:
        """The people in `image` (RGB), those seen best first, as joints in shares of width and height.

        At most `poses.MOST_PEOPLE`; none is an empty tuple. Raises `InvalidRequest` where the weights are
        missing.
        """
        import numpy as np

        with self._lock:
            detector = self._detector(self._row("openpose"))
            found = _bodies(detector, np.asarray(image.convert("RGB")))
        return tuple(found[: poses.MOST_PEOPLE])

    def missing(self, key: str) -> tuple[Weights, ...]:
        """The weights of a preprocessor that are not on this computer; looks at the disk only."""
        return tuple(file for file in self._row(key).weights if self._here(file) is None)

    def _row(self, key: str) -> Preprocessor:
        if key not in PREPROCESSORS:
            raise _off(f"There is no preprocessor called {key[:60]!r}. There are {', '.join(PREPROCESSORS)}.")
        return PREPROCESSORS[key]

    def _detector(self, row: Preprocessor) -> Any:
        """The detector of a row, from memory if it is there: rows of the same weights share one."""
        key = (row.detector, row.weights)
        if key not in self._loaded:
            absent = [name for name in row.packages if importlib.util.find_spec(name) is None]
            if absent:
                raise _off(
                    f"The preprocessor {row.title} needs the package{'s'[: len(absent) > 1]} "
                    f"{', '.join(absent)}, not installed here. Install with: pip install {' '.join(absent)} "
                    "- or choose another preprocessor."
                )
            files = [self._file(file, row) for file in row.weights]
            while len(self._loaded) >= RESIDENT_DETECTORS:
                self._loaded.popitem(last=False)
            self._loaded[key] = self._load(row, files)
        self._loaded.move_to_end(key)
        return self._loaded[key]

    def _load(self, row: Preprocessor, files: Sequence[Path]) -> Any:
        import pickle

        cls = getattr(poses.controlnet_aux(), row.detector)
        try:
            detector = _LOADS.get(row.detector, _load)(cls, [str(file) for file in files], self.device)
        except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise _off(
                f"The weights of the preprocessor {row.title} cannot be read: "
                f"{', '.join(str(file) for file in files)} may be damaged or something else. Delete what is "
                f"there and download it again from {row.weights[0].source if row.weights else 'its source'}."
            ) from error
        return detector

    def _here(self, file: Weights) -> Path | None:
        """A file of weights in the models folders or the hub's cache."""
        from huggingface_hub import try_to_load_from_cache

        for folder in self.folders:
            if (path := folder / FOLDER / file.name).is_file():
                return path.resolve()
        if file.url:
            return None
        place = f"{file.subfolder}/{file.name}" if file.subfolder else file.name
        cached = try_to_load_from_cache(file.repo, place)
        return Path(cached) if isinstance(cached, str) else None

    def _file(self, file: Weights, row: Preprocessor) -> Path:
        """The same, fetched where it is not there; huggingface_hub honours HF_HUB_OFFLINE."""
        if (here := self._here(file)) is not None:
            return here
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HTTPError

        problem: Exception | None = None
        if not file.url:
            try:
                return Path(hf_hub_download(file.repo, file.name, subfolder=file.subfolder))
            except (EntryNotFoundError, HTTPError, OSError) as error:
                problem = error
        place = (self.folders[0] if self.folders else Path("<models folder>")) / FOLDER / file.name
        raise _off(
            f"The preprocessor {row.title} needs {file.name} (about {file.size} MB), which is not on this "
            f"computer and could not be fetched. Download it from {file.source} and put it at {place}, or "
            "choose a preprocessor that needs no weights (canny, lineart_standard)."
        ) from problem


def _canny(pixels: np.ndarray, low: int, high: int) -> np.ndarray:
    import cv2

    return cv2.Canny(pixels, low, high)


# ---------------------------------------------------------------------------- how each one is loaded and run


def _load(cls: Any, files: Sequence[str], device: str) -> Any:
    """from_pretrained joins folder and file name; a whole path as the name stays what it is."""
    detector = cls.from_pretrained("/", filename=files[0]) if files else cls()
    return detector.to(device) if hasattr(detector, "to") else detector


def _load_lineart(cls: Any, files: Sequence[str], device: str) -> Any:
    return cls.from_pretrained("/", filename=files[0], coarse_filename=files[1]).to(device)


def _load_openpose(cls: Any, files: Sequence[str], device: str) -> Any:
    """from_pretrained wants the weights for hands and faces even where only bodies are looked for."""
    from controlnet_aux.open_pose import Body, Face, Hand

    parts = [part(file).to(device) for part, file in zip((Body, Hand, Face), files)]
    return cls(*parts)


def _load_leres(cls: Any, files: Sequence[str], device: str) -> Any:
    """from_pretrained parses the program's own command line on its way to a second network for "boost"."""
    import torch
    from controlnet_aux.leres import RelDepthModel, strip_prefix_if_present

    model = RelDepthModel(backbone="resnext101")
    state = torch.load(files[0], map_location="cpu")["depth_model"]
    model.load_state_dict(strip_prefix_if_present(state, "module."), strict=True)
    return cls(model.eval(), None).to(device)


def _load_sam(cls: Any, files: Sequence[str], device: str) -> Any:
    detector = cls.from_pretrained("/", model_type="vit_t", filename=files[0])
    detector.mask_generator.predictor.model.to(device).eval()
    return detector


def _load_dwpose(cls: Any, files: Sequence[str], device: str) -> Any:
    return cls(pose_ckpt=files[0], det_ckpt=files[1], device=device)


_LOADS: Mapping[str, Callable[[Any, Sequence[str], str], Any]] = {
    "LineartDetector": _load_lineart,
    "OpenposeDetector": _load_openpose,
    "LeresDetector": _load_leres,
    "SamDetector": _load_sam,
    "DWposeDetector": _load_dwpose,
}


def _run(detector: Any, pixels: np.ndarray, row: Preprocessor) -> np.ndarray:
    """A detector's map of `pixels` (h, w, 3), looked at and answered at about their size: detectors want
    sides that are multiples of 64."""
    import numpy as np

    side = min(pixels.shape[:2])
    asked = {
        "detect_resolution": min(side, row.largest),
        "image_resolution": side,
        "output_type": "np",
        **row.options,
    }
    taken = inspect.signature(type(detector).__call__).parameters
    made = detector(pixels, **{name: value for name, value in asked.items() if name in taken})
    return np.asarray(made)


def _run_openpose(detector: Any, pixels: np.ndarray, row: Preprocessor) -> np.ndarray:
    """Drawn at the size itself, since lines that were resized are not what ControlNets were shown."""
    from controlnet_aux.open_pose import draw_poses

    if not row.options:
        return poses.draw_poses(_bodies(detector, pixels), pixels.shape[1], pixels.shape[0])
    found = detector.detect_poses(_small(pixels, row.largest), **row.options)
    drawn: np.ndarray = draw_poses(found, *pixels.shape[:2])
    return drawn


def _bodies(detector: Any, pixels: np.ndarray) -> list[Pose]:
    """People of two joints or more in shares of the picture, the surest first."""
    seen = detector.detect_poses(_small(pixels, PREPROCESSORS["openpose"].largest))
    found = sorted(seen, key=lambda person: -person.body.total_score)
    people = [
        tuple(None if joint is None else (float(joint.x), float(joint.y)) for joint in person.body.keypoints)
        for person in found
    ]
    return [person for person in people if sum(joint is not None for joint in person) >= 2]


def _small(pixels: np.ndarray, largest: int) -> np.ndarray:
    """`pixels` with a short side of `largest` at most: OpenPose holds 57 heat maps of the picture's size."""
    import cv2

    scale = largest / min(pixels.shape[:2])
    if scale >= 1:
        return pixels
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _run_sam(detector: Any, pixels: np.ndarray, row: Preprocessor) -> np.ndarray:
    import numpy as np

    found = detector.mask_generator.generate(pixels)
    if not found:
        return np.zeros_like(pixels)
    return np.asarray(detector.show_anns(found))


_RUNS: Mapping[str, Callable[[Any, Any, Preprocessor], Any]] = {
    "OpenposeDetector": _run_openpose,
    "SamDetector": _run_sam,
}


@contextmanager
def _same_chance() -> Iterator[None]:
    """controlnet-aux draws from numpy's one global generator: seeded for the block, then put back."""
    import numpy as np

    state = np.random.get_state()
    np.random.seed(SEED)
    try:
        yield
    finally:
        np.random.set_state(state)


def _picture(pixels: np.ndarray) -> Image:
    import numpy as np
    from PIL import Image as images

    return images.fromarray(np.ascontiguousarray(pixels.astype(np.uint8))).convert("RGB")


def _bilinear() -> Any:
    from PIL.Image import Resampling

    return Resampling.BILINEAR


def _off(sentence: str) -> InvalidRequest:
    return InvalidRequest({"controls": sentence})
