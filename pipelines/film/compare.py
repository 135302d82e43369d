"""Two recorded runs side by side: what differs at each step, and the step at which they part.

They part at the first step of which any bit differs: of what entered it, of what the model said, or of the
picture that was predicted. What is shown are previews; what is measured are the recorded tensors.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.film.trajectory import STEPS, RunInfo, TrajectoryStore, UnknownTrajectory, step_name

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Develop = Callable[[RunInfo, "Tensor"], "Image"]
"""Shows a run's latents as a small RGB picture."""

GAIN = 4.0
"""How much a difference map is brightened; what differs by a quarter of the whole range is white."""


def compare(store: TrajectoryStore, first: str, second: str, develop: Develop) -> dict[str, Any]:
    """What sets two runs apart. Raises `UnknownTrajectory` where one is not there or was cut.

    parts: index of the first step that differs, None where none does; common: how many steps both have.
    steps: for each of those "same", "difference" (L2 of x0 relative to the first run's; None for latents of
    different shapes), "psnr" (dB of the previews, None where they are equal), "first", "second" and "map"
    (JPEG; the last two are None where they would be the first's again, and black). picture: the same of the
    finished pictures, None where one is missing; "share" of the pixels that differ.
    """
    one, other = store.get(first), store.get(second)
    common = min(store.steps(first), store.steps(second))
    steps = [_step(store, one, other, index, develop) for index in range(common)]
    parts = next((index for index, step in enumerate(steps) if not step["same"]), None)
    return {"parts": parts, "common": common, "steps": steps, "picture": _pictures(one, other)}


def parts_at(store: TrajectoryStore, first: str, second: str) -> int | None:
    """The first step that differs in any bit, None where none does of those that both have."""
    for index in range(min(store.steps(first), store.steps(second))):
        if not _one_file(store, first, second, index):
            one, other = (store.read_step(id, index)[0] for id in (first, second))
            if not _same(one, other):
                return index
    return None


def _step(
    store: TrajectoryStore, one: RunInfo, other: RunInfo, index: int, develop: Develop
) -> dict[str, Any]:
    from pipelines.preview import jpeg

    tensors, _ = store.read_step(one.id, index)
    x0 = tensors["pred_original_sample"]
    shown = develop(one, x0)
    told: dict[str, Any] = {"index": index, "first": jpeg(shown), "second": None, "map": None}
    if _one_file(store, one.id, other.id, index):
        return {**told, "same": True, "difference": 0.0, "psnr": None}
    others, _ = store.read_step(other.id, index)
    if _same(tensors, others):
        return {**told, "same": True, "difference": 0.0, "psnr": None}
    beside = develop(other, others["pred_original_sample"])
    decibels, _, heat = _apart(shown, beside)
    told |= {"second": jpeg(beside), "map": jpeg(heat), "psnr": decibels}
    return {**told, "same": False, "difference": _relative(x0, others["pred_original_sample"])}


def _pictures(one: RunInfo, other: RunInfo) -> dict[str, Any] | None:
    from PIL import Image

    from pipelines.preview import jpeg

    paths = [Path(run.picture) for run in (one, other) if run.picture]
    try:
        shown, beside = (Image.open(path).convert("RGB") for path in paths)
    except (OSError, ValueError):  # fewer than two, or not to be read
        return None
    decibels, share, heat = _apart(shown, beside)
    return {"same": share == 0, "share": share, "psnr": decibels, "map": jpeg(heat)}


def _apart(one: Image, other: Image) -> tuple[float | None, float, Image]:
    """(PSNR in dB or None where they are equal, share of pixels that differ, heat map) of two RGB pictures;
    the second is brought to the first's size."""
    import numpy as np
    from PIL import Image

    if other.size != one.size:
        other = other.resize(one.size, Image.Resampling.BICUBIC)
    apart = np.asarray(one, np.float32) - np.asarray(other, np.float32)
    error = float(np.mean(apart**2))
    share = float(np.mean(np.any(apart != 0, axis=2)))
    heat = np.clip(np.abs(apart).mean(axis=2) * (GAIN / 255), 0, 1)[..., None]
    # Black over amber to white, as everything that glows on the page.
    colours = np.concatenate([np.clip(heat * 1.6, 0, 1), np.clip(heat * 1.2 - 0.1, 0, 1), heat**2], axis=2)
    decibels = 10 * math.log10(255**2 / error) if error else None
    return decibels, share, Image.fromarray((colours * 255).astype(np.uint8))


def _one_file(store: TrajectoryStore, first: str, second: str, index: int) -> bool:
    """Whether both runs' step is the very same file: a branch shares what it took over."""
    one, other = (store.folder(id) / STEPS / step_name(index) for id in (first, second))
    try:
        return os.path.samefile(one, other)
    except OSError:
        raise UnknownTrajectory(f"Step {index + 1} of a recorded run is not there any more.") from None


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether all tensors of a step are equal bit for bit, NaN and the sign of zero included."""
    import torch

    if one.keys() != other.keys():
        return False
    for name, tensor in one.items():
        beside = other[name]
        if tensor.shape != beside.shape or tensor.dtype != beside.dtype:
            return False
        if not torch.equal(tensor.contiguous().view(torch.uint8), beside.contiguous().view(torch.uint8)):
            return False
    return True


def _relative(one: Tensor, other: Tensor) -> float | None:
    if one.shape != other.shape:
        return None
    whole = float(one.float().norm())
    apart = float((one.float() - other.float()).norm())
    return apart / whole if whole else apart
