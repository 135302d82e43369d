"""The models that can be chosen: the embedded one, and diffusers folders in the models folders.

What a model is, is told from its small JSON files; no weights are read and torch is not imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.request import InvalidRequest
from pipelines.schedulers import Kind

ASSETS = Path(__file__).resolve().parent.parent / "assets"
STARTER = "starter"


@dataclass(frozen=True)
class ModelSpec:
    """One model that can be asked for by its `key`.

    title and summary: for people ("Storybook", "SD, 20 MB"). folder: in diffusers' layout.
    family: diffusers' pipeline class, shortened ("SD", "SDXL", ...). kind: see schedulers.Kind.
    defaults: request fields that suit the model. examples: prompts known to work with it.
    inpaints_only: its denoiser also takes a mask and the masked picture (9 channels), and wants them.
    """

    key: str
    title: str
    summary: str
    folder: Path
    family: str
    kind: Kind = "diffusion"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    inpaints_only: bool = False

    @property
    def weights(self) -> list[Path]:
        """The weight files, sorted by path."""
        return sorted(self.folder.glob("*/*.safetensors"))

    def short_hash(self) -> str:
        """First 10 hex digits of the SHA-256 over the denoiser's weight files (CONVENTIONS: "Model hash")."""
        digest = hashlib.sha256()
        for file in self.weights:
            if file.parent.name in ("unet", "transformer"):
                with file.open("rb") as stream:
                    for block in iter(lambda: stream.read(1 << 20), b""):
                        digest.update(block)
        return digest.hexdigest()[:10]


_FAMILIES: Mapping[str, tuple[str, Kind]] = {
    "StableDiffusionPipeline": ("SD", "diffusion"),
    "StableDiffusionInpaintPipeline": ("SD", "diffusion"),
    "StableDiffusionXLPipeline": ("SDXL", "diffusion"),
    "StableDiffusionXLInpaintPipeline": ("SDXL", "diffusion"),
    "StableDiffusion3Pipeline": ("SD3", "flow"),
    "FluxPipeline": ("Flux", "flow"),
}
"""Pipeline class in model_index.json -> (family, kind). A model family is added with a line here."""


class ModelLibrary:
    """Finds models in the assets and in `folders`; `find` and `list` look at the disk each time."""

    def __init__(self, folders: Iterable[Path] = (), assets: Path = ASSETS):
        self.folders = [Path(folder) for folder in folders]
        self.assets = assets

    def list(self) -> list[ModelSpec]:
        """Every usable model, the embedded one first, then by title."""
        found = [
            describe(path.parent, STARTER) for path in (self.assets / "starter").glob("model_index.json")
        ]
        rest: dict[str, ModelSpec] = {}
        for folder in self.folders:
            for index in sorted([*folder.glob("*/model_index.json"), *folder.glob("*/*/model_index.json")]):
                key = index.parent.relative_to(folder).as_posix()
                spec = describe(index.parent, key)
                if spec is not None:
                    rest.setdefault(key, spec)
        return [spec for spec in found if spec] + sorted(rest.values(), key=lambda spec: spec.title.lower())

    def find(self, key: str) -> ModelSpec:
        """The model with that key; raises `InvalidRequest` naming those that there are."""
        models = {spec.key: spec for spec in self.list()}
        if key not in models:
            there = ", ".join(models) or "none: put one into the models folder"
            raise InvalidRequest({"model": f"There is no model called {key[:60]!r}. There are {there}."})
        return models[key]


def describe(folder: Path, key: str) -> ModelSpec | None:
    """The model in a diffusers folder; None when its pipeline is of no family that is supported."""
    index = _read(folder / "model_index.json")
    family = _FAMILIES.get(index.get("_class_name", ""))
    if family is None:
        return None
    told = _read(folder / "examples.json")
    size = sum(file.stat().st_size for file in folder.glob("*/*.safetensors"))
    amount = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
    pixels = _native_size(folder)
    return ModelSpec(
        key=key,
        title=told.get("title") or folder.name,
        summary=f"{family[0]}, {amount}",
        folder=folder,
        family=family[0],
        kind=family[1],
        defaults={"width": pixels, "height": pixels, **told.get("defaults", {})},
        examples=tuple(told.get("prompts", ())),
        inpaints_only=_read(folder / "unet/config.json").get("in_channels") == 9,
    )


def _native_size(folder: Path) -> int:
    """Pixels a side that the model was trained on: latent size times the VAE's scale."""
    denoiser = _read(folder / "unet/config.json") or _read(folder / "transformer/config.json")
    blocks = _read(folder / "vae/config.json").get("block_out_channels", [0, 0, 0, 0])
    pixels = int(denoiser.get("sample_size") or 64) * 2 ** (len(blocks) - 1)
    return min(2048, max(64, pixels // 8 * 8))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf8"))
    return found if isinstance(found, dict) else {}
