"""What tests of control runs share: a unit, pictures of noise, and the arguments of a short call."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from pipelines.request import ControlUnit

SIZE = 64


def unit(**changes: Any) -> ControlUnit:
    usual = {"model": "sd-canny", "preprocessor": "canny", "image": "0" * 32}
    return ControlUnit(**(usual | changes))


def picture(seed: int = 0, size: tuple[int, int] = (SIZE, SIZE)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def mask() -> Image.Image:
    pixels = np.zeros((SIZE, SIZE), np.uint8)
    pixels[16:48, 16:48] = 255
    return Image.fromarray(pixels)


def call(task: str, family: str) -> dict[str, Any]:
    import torch

    usual: dict[str, Any] = {
        "prompt": "a house",
        "num_inference_steps": 3,
        "generator": torch.Generator().manual_seed(3),
        "output_type": "np",
    }
    if family in ("sd3", "flux"):
        usual |= {"max_sequence_length": 32}
    if family == "flux" or task == "text2image" or family == "sd3":
        usual |= {"height": SIZE, "width": SIZE}
    if task != "text2image":
        usual |= {"image": picture(9), "strength": 0.8}
    if task == "inpaint":
        usual |= {"mask_image": mask(), "height": SIZE, "width": SIZE}
    return usual
