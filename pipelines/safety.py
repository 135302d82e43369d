"""The safety checker of diffusers, where whoever runs the program asked for it: it looks at every finished
picture before that is kept or shown, and one that it flags is kept black.

While it is on, what develops is shown as a blur and no run can be looked into: else all but the last picture
would get past it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.library.places import hub_cache_folder, hub_snapshot, roots
from pipelines.pictures import shallow

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

HUB = "CompVis/stable-diffusion-safety-checker"
FOLDER = "safety_checker"
"""Where it is looked for in a models folder."""

BADGE = "safety checker"
SENTENCE = "The safety checker looks at every finished picture and keeps back what it flags."
HELD_BACK = (
    "The safety checker flagged this picture, so it is kept black. Another seed or prompt may pass; who runs "
    "the program can start it without --safety-checker."
)
CLOSED = "While the safety checker is on, runs cannot be looked into: only finished pictures are checked."
_BLUR = 8
"""Pixels of a developing picture's longer side."""


ToRGB = Callable[["Tensor"], "Image.Image"]


class NoChecker(Exception):
    """There is no safety checker where one was asked for; says where it may come from."""


def find(asked: str, models: Iterable[Path]) -> Path:
    """The checker's folder: `asked`, or with "on" what the models folders and the hub's cache have of it."""
    if asked != "on":
        folder = Path(asked).expanduser().resolve()
        if is_checker(folder):
            return folder
        raise NoChecker(
            f"{folder} holds no safety checker: name the folder with its config.json and its weights "
            f"(model.safetensors), or fetch {HUB} and give --safety-checker on."
        )
    inside = [root / FOLDER for folder in models for root in roots(folder)]
    fetched = hub_snapshot(hub_cache_folder(), HUB)
    found = next((one for one in [*inside, fetched] if one is not None and is_checker(one)), None)
    if found is None:
        raise NoChecker(
            f"There is no safety checker on this computer: put the folder of {HUB} into a models folder as "
            f"{FOLDER}/, or name it with --safety-checker, or start without."
        )
    return found


def is_checker(folder: Path) -> bool:
    """Whether a folder has the parts of one."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


class Safety:
    """Looks at finished pictures; without a folder it lets everything through."""

    def __init__(self, folder: Path | None = None):
        self.on = folder is not None
        self._checker: Any
        self._eyes: Any
        self._checker, self._eyes = _loaded(folder) if folder is not None else (None, None)

    def passed(self, picture: Any) -> tuple[Any, list[str]]:
        """The picture (of Pillow, or an array as `Outputs.keep` takes) as it may be kept, and sentences."""
        if self._checker is None or self._eyes is None:
            return picture, []
        import numpy as np
        import torch
        from PIL import Image

        whole = picture if isinstance(picture, Image.Image) else Image.fromarray(shallow(picture))
        rgb = whole.convert("RGB")
        with torch.inference_mode():
            seen = self._eyes(images=rgb, return_tensors="pt").pixel_values
            _, flagged = self._checker(images=[np.array(rgb)], clip_input=seen)
        return (Image.new("RGB", rgb.size), [HELD_BACK]) if flagged[0] else (picture, [])

    def veiled(self, to_rgb: ToRGB) -> ToRGB:
        """What shows a developing picture, as a blur while pictures are looked at."""
        if not self.on:
            return to_rgb

        def blurred(latents: Tensor) -> Image.Image:
            picture = to_rgb(latents)
            small = picture.copy()
            small.thumbnail((_BLUR, _BLUR))
            return small.resize(picture.size)

        return blurred


def _loaded(folder: Path) -> tuple[Any, Any]:
    """The checker and what prepares a picture for it. Raises `NoChecker`: without it nothing is painted."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from safetensors import SafetensorError
    from transformers import CLIPImageProcessor

    try:
        checker = StableDiffusionSafetyChecker.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
        side = checker.config.vision_config.image_size
        eyes = (
            CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
            if (folder / "preprocessor_config.json").is_file()
            else CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        )
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, SafetensorError) as error:
        raise NoChecker(f"The safety checker in {folder} cannot be read ({error}).") from error
    return checker.eval(), eyes
