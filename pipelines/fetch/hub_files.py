"""Which files of a repository make a model run: one copy of each component's weights, and what describes
them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from pipelines.fetch.hub import Listing, RemoteFile
from pipelines.fetch.problems import FetchProblem

SIDE_FILES = frozenset({".json", ".txt", ".model", ".jinja"})
"""Suffixes of configurations, tokenizers and templates."""
UNUSED_COMPONENTS = frozenset({"safety_checker"})
"""Parts of pipelines that Darkroom does not run."""
VARIANTS = ("fp16", "bf16", "")
"""Which of several copies of the same weights is fetched, the best first: half precision is half the
bytes."""

_COPY = re.compile(
    r"(?P<base>.+?)(?:-\d{5}-of-\d{5})?(?:\.(?P<variant>[a-z]\w*))?(?:-\d{5}-of-\d{5})?"
    r"(?P<suffix>\.safetensors|\.bin)"
)


def needed(listing: Listing, index: Mapping[str, Any], pickles: bool = False) -> tuple[RemoteFile, ...]:
    """The files of a repository that make the model run, one copy of each component's weights.

    index: its model_index.json; {} takes every folder for a component. Raises `FetchProblem` where weights
    are there only as pickles and those were not asked for.
    """
    parts = components(index)
    folders = {str(PurePosixPath(file.name).parent) for file in listing.files}
    wanted = [name for name in parts if name in folders] if parts else sorted(folders - {"."})
    wanted = [name for name in wanted if name not in UNUSED_COMPONENTS]
    chosen = [file for file in listing.files if file.name == "model_index.json"]
    for name in wanted:
        chosen += _component(listing.files, name, listing.repo, pickles)
    if is_loose(listing, index) or not (parts or wanted):
        chosen += _component(listing.files, ".", listing.repo, pickles)
    return tuple(dict.fromkeys(chosen))


def components(index: Mapping[str, Any]) -> list[str]:
    """Names of the parts that a model_index.json lists."""
    return [name for name, told in index.items() if isinstance(told, list) and told and told[0] is not None]


def is_loose(listing: Listing, index: Mapping[str, Any]) -> bool:
    """Whether all parts lie in the repository's own folder, as those of the first diffusers models do."""
    parts = components(index)
    return bool(parts) and not any(
        file.name.startswith(tuple(f"{name}/" for name in parts)) for file in listing.files
    )


def place_in_folder(index: Mapping[str, Any], name: str) -> str:
    """Where a file of a loose model belongs in diffusers' layout."""
    if name == "model_index.json":
        return name
    schedulers = [part for part in components(index) if str(index[part][1]).endswith("Scheduler")]
    models = [part for part in components(index) if part not in schedulers]
    owners = schedulers if name == "scheduler_config.json" else models
    return f"{owners[0]}/{name}" if owners else name


def _component(files: Iterable[RemoteFile], folder: str, repo: str, pickles: bool) -> list[RemoteFile]:
    """The side files and one copy of the weights in one folder ("." for the repository's own)."""
    here = {
        PurePosixPath(file.name).name: file
        for file in files
        if str(PurePosixPath(file.name).parent) == folder
    }
    copies: dict[tuple[str, str, str], list[RemoteFile]] = {}
    for name, file in here.items():
        if (found := _COPY.fullmatch(name)) and _own_name(found["base"]):
            key = (found["suffix"], found["variant"] or "", found["base"])
            copies.setdefault(key, []).append(file)
    side = [
        file
        for name, file in here.items()
        if PurePosixPath(name).suffix in SIDE_FILES and ".index." not in name and name != "model_index.json"
    ]
    for suffix in (".safetensors", ".bin"):
        for variant in VARIANTS:
            same = [key for key in copies if key[:2] == (suffix, variant)]
            if not same:
                continue
            if suffix == ".bin" and not pickles:
                raise FetchProblem(
                    f"{repo} holds its weights as pickle files, which can execute what they like while they "
                    "are read. Ask for pickles expressly to fetch it all the same; they are read without "
                    "executing."
                )
            weights = copies[same[0]]
            if len(weights) > 1:
                weights = weights + _indexes(here, suffix, variant)
            return side + weights
    return side


def _own_name(base: str) -> bool:
    """Whether diffusers or transformers look for weights of that name."""
    return base in ("diffusion_pytorch_model", "model", "pytorch_model")


def _indexes(here: Mapping[str, RemoteFile], suffix: str, variant: str) -> list[RemoteFile]:
    """The file that tells in which shard each tensor is."""
    ends = (f"{suffix}.index.{variant}.json",) if variant else (f"{suffix}.index.json",)
    return [file for name, file in here.items() if name.endswith(ends)]
