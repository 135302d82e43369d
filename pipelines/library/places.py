"""Where models lie: the folders people have, in the layouts that they bring along.

Darkroom's own, the webui's and ComfyUI's layouts are one table of folder names; anything else below a models
folder is looked into as well. Nothing is read here but the names, sizes and times of files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.library.headers import FORMATS
from pipelines.library.sidecars import Beside

Source = Literal["embedded", "folder", "hub cache"]
What = Literal["model", "component", "file"]

PLACES: Mapping[str, str] = {
    **dict.fromkeys(("checkpoints", "checkpoint", "stable-diffusion", "diffusers", "models"), "checkpoint"),
    **dict.fromkeys(("loras", "lora", "lycoris", "locon"), "lora"),
    **dict.fromkeys(("vae", "vaes"), "vae"),
    **dict.fromkeys(("embeddings", "embedding", "textual_inversion"), "embedding"),
    **dict.fromkeys(("controlnet", "controlnets", "t2i_adapter", "t2iadapter"), "controlnet"),
    **dict.fromkeys(("upscalers", "upscale_models", "esrgan", "realesrgan", "bsrgan"), "upscaler"),
    **dict.fromkeys(("swinir", "scunet", "dat", "hat"), "upscaler"),
    **dict.fromkeys(("text_encoders", "text_encoder", "clip"), "text encoder"),
    **dict.fromkeys(("diffusion_models", "unet", "unets"), "diffusion model"),
}
"""Name of a folder directly in a models folder, lower case -> what people put into it; no part of a key."""

_PASSED_OVER = frozenset(
    "annotators vae-approx vae_approx clip_vision hypernetworks codeformer gfpgan insightface karlo blip "
    "deepbooru torch_deepdanbooru interrogators photomaker style_models gligen facerestore_models ipadapter "
    "ultralytics sams onnx adetailer midas opencv venv node_modules __pycache__".split()
)
"""Folders with weights of other trades: detectors, face restorers, taggers."""

_DEEPEST = 8
_MOST_ENTRIES = 200_000
_GENERIC = frozenset(
    "pytorch_lora_weights adapter_model diffusion_pytorch_model model pytorch_model learned_embeds".split()
)
"""Names that every file of its kind has: it is called by its folder."""


@dataclass(frozen=True)
class Found:
    """One thing that may be a model or an add-on.

    what: "model" is a diffusers pipeline's folder, "component" one network's, "file" a weights file.
    real: where symlinks lead. key: the path below the root, without the layout's folder and without ending.
    hint: the sort that its place stands for, "" where it tells nothing. size: bytes, changed: nanoseconds (of
    a folder: of the file that describes it). beside: names of the files in the same folder that belong to it.
    """

    what: What
    path: Path
    real: str
    key: str
    hint: str
    source: Source
    size: int
    changed: int
    beside: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]


def roots(folder: Path) -> list[Path]:
    """The models folders that `folder` stands for: itself, or, where it is the folder of a whole webui or
    ComfyUI, the one inside of it; and the embeddings that the webui keeps beside its models."""
    inner = folder / "models"
    if _has_layout(inner) and not _has_layout(folder):
        beside = folder / "embeddings"
        return [inner, *([beside] if beside.is_dir() else [])]
    beside = folder.parent / "embeddings"
    if _named(folder, "stable-diffusion") and beside.is_dir():
        return [folder, beside]
    return [folder]


def hub_cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where huggingface_hub keeps what was fetched (its HF_HUB_CACHE), told without importing it."""
    told = os.environ if environment is None else environment
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if told.get(name):
            return Path(told[name]).expanduser()
    home = told.get("HF_HOME") or os.path.join(told.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(home).expanduser() / "hub"


def in_folder(root: Path, source: Source = "folder") -> Iterator[Found]:
    """Everything below a models folder, sorted by path; a folder that is not there holds nothing."""
    beside = PLACES.get(root.name.lower(), "") if root.name.lower() == "embeddings" else ""
    walk = _Walk(root, "", source, beside)
    yield from walk.run()


def in_hub_cache(cache: Path) -> Iterator[Found]:
    """What lies in the Hugging Face cache, each repository in the state that was fetched last. Its key is
    "owner/name", with the file's path where the repository holds single files."""
    for repository in _sorted(cache):
        owner_name = repository.name.removeprefix("models--").replace("--", "/")
        if repository.name.startswith("models--") and (snapshot := _snapshot(Path(repository.path))):
            yield from _Walk(snapshot, owner_name, "hub cache").run()


class _Walk:
    """One walk through a folder; `under` stands before its keys."""

    def __init__(self, root: Path, under: str, source: Source, hint: str = ""):
        self.root, self.under, self.source, self.hint = root, under, source, hint
        self.entries = 0
        self.walked: set[str] = set()

    def run(self) -> Iterator[Found]:
        yield from self._folder(self.root, os.path.realpath(self.root), (), self.hint, Beside())

    def _folder(
        self, path: Path, real: str, parts: tuple[str, ...], hint: str, above: Beside
    ) -> Iterator[Found]:
        if real in self.walked or len(parts) > _DEEPEST:  # a symlink that leads back up
            return
        self.walked.add(real)
        entries = _sorted(path)
        self.entries += len(entries)
        if self.entries > _MOST_ENTRIES:
            return
        names = {entry.name for entry in entries}
        beside = Beside.among(names)
        marks: tuple[tuple[str, What], ...] = (("model_index.json", "model"), ("config.json", "component"))
        for mark, what in marks:
            if mark in names and (what == "model" or _network(names)):
                found = self._described(path, real, parts, hint, mark, what, above)
                if found is not None:
                    yield found
                    return
        for entry in entries:
            inner = os.path.join(real, entry.name)
            try:
                if entry.is_symlink():
                    inner = os.path.realpath(entry.path)
                told = entry.stat()
            except OSError:  # a link to nothing, or gone since
                continue
            if stat.S_ISDIR(told.st_mode):
                if entry.name.startswith(".") or (not parts and entry.name.lower() in _PASSED_OVER):
                    continue
                placed = PLACES.get(entry.name.lower(), "") if not parts and not self.under else hint
                yield from self._folder(Path(entry.path), inner, (*parts, entry.name), placed, beside)
            elif stat.S_ISREG(told.st_mode) and os.path.splitext(entry.name)[1].lower() in FORMATS:
                key = self._key((*parts, os.path.splitext(entry.name)[0]), hint)
                yield Found(
                    "file",
                    Path(entry.path),
                    inner,
                    key,
                    hint,
                    self.source,
                    told.st_size,
                    told.st_mtime_ns,
                    beside.of(os.path.splitext(entry.name)[0]),
                )

    def _described(
        self,
        path: Path,
        real: str,
        parts: tuple[str, ...],
        hint: str,
        mark: str,
        what: What,
        above: Beside,
    ) -> Found | None:
        if not parts and not self.under:
            return None  # a models folder is never itself one model
        try:
            told = os.stat(path / mark)
        except OSError:
            return None
        key = self._key(parts, hint)
        beside = above.of(path.name) if parts else ()
        return Found(what, path, real, key, hint, self.source, told.st_size, told.st_mtime_ns, beside)

    def _key(self, parts: tuple[str, ...], hint: str) -> str:
        named = list(parts)
        if not self.under and len(named) > 1 and named[0].lower() in PLACES:
            named = named[1:]
        if named and named[-1].lower() in _GENERIC and (len(named) > 1 or self.under):
            named = named[:-1]
        return "/".join([*([self.under] if self.under else []), *named])


def hub_snapshot(cache: Path, name: str) -> Path | None:
    """The folder of a repository (`author/name`) in the hub's cache; None where it was not fetched."""
    return _snapshot(cache / f"models--{name.replace('/', '--')}")


def _snapshot(repository: Path) -> Path | None:
    try:
        fetched = repository / "snapshots" / (repository / "refs" / "main").read_text("ascii").strip()
        if fetched.is_dir() and fetched.parent.name == "snapshots":
            return fetched
    except (OSError, ValueError):
        pass  # fetched by a revision's name: then there is no "main"
    found = [entry for entry in _sorted(repository / "snapshots") if entry.is_dir()]
    return Path(max(found, key=lambda entry: entry.stat().st_mtime_ns).path) if found else None


def _sorted(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:  # not there, not ours to read, or gone since
        return []


def _network(names: set[str]) -> bool:
    """Whether a folder with a config.json also holds that network's weights, and not a person's files."""
    return any(
        name.split(".")[0].split("-0")[0].lower() in _GENERIC and os.path.splitext(name)[1].lower() in FORMATS
        for name in names
    )


def _has_layout(folder: Path) -> bool:
    named = {entry.name.lower() for entry in _sorted(folder)}
    return len(named & (PLACES.keys() - {"models"})) >= 2


def _named(folder: Path, name: str) -> bool:
    return any(entry.name.lower() == name for entry in _sorted(folder))
