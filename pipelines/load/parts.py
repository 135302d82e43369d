"""What a model is put together from, before any of it is loaded: its components, their configs and files.

A diffusers folder says it in small JSON files; for single files it comes from pipelines.load.single_file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.controlnet.control_files import read_json
from pipelines.library.headers import UnreadableFile, shown

if TYPE_CHECKING:
    from torch import Tensor

Convert = Callable[[Mapping[str, "Tensor"], Any], dict[str, "Tensor"]]
"""(tensors as the file names them, an empty module) -> tensors as the module names them."""

_WEIGHTS = re.compile(
    r"^(?P<stem>diffusion_pytorch_model|pytorch_model|model)(?P<variant>\.\w+)?"
    r"(?P<shard>-(?P<number>\d{5})-of-(?P<count>\d{5}))?(?P<late>\.\w+)?\.(?P<kind>safetensors|bin)$"
)
"""Names of weights in a component's folder: stem, variant ("fp16", before or after the shard's number),
shard."""


class MissingPart(ValueError):
    """A component of a model, or a part of its files, is not there; `str()` is a sentence."""


@dataclass(frozen=True)
class Part:
    """One component.

    library: "diffusers", "transformers" or a package of diffusers.pipelines. config: of a module, as its
    config.json has it. files: its weights; none for tokenizers, schedulers and the like, which are read from
    `folder`. convert: for weights under other names than the module's. layout: names `convert` in the stamp.
    """

    name: str
    library: str
    class_name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    folder: Path | None = None
    variant: str = ""
    convert: Convert | None = None
    layout: str = ""

    @property
    def where(self) -> str:
        """Its file for a sentence."""
        if len(self.files) == 1:
            same = self.files[0].parent.name == self.name
            return f"{self.name}/{shown(self.files[0])}" if same else shown(self.files[0])
        return self.name

    def stamp(self, *more: str) -> str:
        """What changes when its files, its config or `more` change; 32 hex digits. Looks at names, sizes and
        times only."""
        places = self.files or tuple(
            sorted(one for one in (self.folder or Path()).glob("*") if one.is_file())
        )
        told: list[Any] = [self.library, self.class_name, self.layout, dict(self.config), *more]
        for path in places:
            seen = path.stat()
            told.append([str(path.resolve()), seen.st_size, seen.st_mtime_ns])
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Blueprint:
    """A pipeline before it is loaded: diffusers' class, its plain settings, and its components (None for one
    that it goes without)."""

    pipeline: str
    settings: Mapping[str, Any]
    parts: Mapping[str, Part | None]


def of_folder(folder: Path) -> Blueprint:
    """What a diffusers folder holds. Raises `MissingPart` and `UnreadableFile` with a sentence."""
    index = read_json(folder / "model_index.json")
    name = index.get("_class_name")
    if not isinstance(name, str):
        raise UnreadableFile(f"{shown(folder)} has no model_index.json that names a pipeline.")
    settings: dict[str, Any] = {}
    parts: dict[str, Part | None] = {}
    for key, value in index.items():
        if key.startswith("_"):
            continue
        if not isinstance(value, list):
            settings[key] = value
        elif len(value) == 2 and value[0] is None:
            parts[key] = None
        elif len(value) == 2 and all(isinstance(one, str) for one in value):
            parts[key] = _of_component(folder / key, key, value[0], value[1])
    if parts.get("safety_checker") is None and "safety_checker" in parts:
        settings["requires_safety_checker"] = False
    return Blueprint(name, settings, parts)


def _of_component(folder: Path, name: str, library: str, class_name: str) -> Part | None:
    if not folder.is_dir():
        if name in ("safety_checker", "feature_extractor", "image_encoder"):
            return None  # fetched without: they paint nothing
        raise MissingPart(
            f"The folder {folder.parent.name} has no {name}: it was fetched in part. Fetch it again."
        )
    config = read_json(folder / "config.json")
    files, variant = weights_in(folder)
    if not files and config and name not in ("feature_extractor",) and _wants_weights(class_name):
        if name == "safety_checker":
            return None
        raise MissingPart(
            f"{folder.parent.name}/{name} has no weights that are read here (.safetensors or .bin). Fetch "
            "the model again."
        )
    return Part(name, library, class_name, config if files else {}, files, folder, variant)


def _wants_weights(class_name: str) -> bool:
    return not re.search(r"Tokenizer|Processor|Scheduler|FeatureExtractor", class_name)


def weights_in(folder: Path) -> tuple[tuple[Path, ...], str]:
    """The weight files of a component's folder and their variant: safetensors before pickles, plain before
    variants. Raises `MissingPart` where a shard is missing."""
    sets: dict[tuple[bool, bool, str], dict[str, list[Path]]] = {}
    counts: dict[Path, int] = {}
    for file in sorted(folder.iterdir()):
        told = _WEIGHTS.match(file.name)
        if told is None or not file.is_file():
            continue
        variant = (told["variant"] or told["late"] or "").lstrip(".")
        if "ema" in variant:
            continue
        order = (told["kind"] != "safetensors", bool(variant), variant)
        sharded = "sharded" if told["shard"] else "whole"
        sets.setdefault(order, {}).setdefault(sharded, []).append(file)
        counts[file] = int(told["count"] or 1)
    for (_, _, variant), kinds in sorted(sets.items()):
        if "whole" in kinds:
            return (kinds["whole"][0],), variant
        files = kinds["sharded"]
        if len(files) < counts[files[0]]:
            raise MissingPart(
                f"{folder.parent.name}/{folder.name} has {len(files)} of the {counts[files[0]]} files of its "
                "weights: the others were not fetched. Fetch the model again."
            )
        return tuple(files), variant
    return (), ""
