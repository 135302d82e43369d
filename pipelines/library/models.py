"""The models and add-ons that can be chosen: the embedded ones, what lies in the models folders, and what the
Hugging Face cache holds.

Keys are the only names that leave here and come back: no path that a client sends is ever looked up.
"""

from __future__ import annotations

import builtins
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pipelines.controlnet.control_files import sizes_of_config
from pipelines.library import addons, few_steps, places, sidecars
from pipelines.library.addons import AddonSpec
from pipelines.library.headers import UnreadableFile, read_json, shown
from pipelines.library.identify import SORTS, Identity, Sort, identify
from pipelines.library.places import Found
from pipelines.library.records import FileRecords
from pipelines.library.specs import (
    ModelSpec,
    component_weights,
    describe,
    describe_file,
    incomplete,
)
from pipelines.request import InvalidRequest

__all__ = ["ASSETS", "STARTER", "ModelLibrary", "ModelSpec", "Unusable", "describe"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
"""A model's name on huggingface.co, "owner/name"."""

ASSETS = Path(__file__).resolve().parents[2] / "assets"
STARTER = "starter"

_NONSENSE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What a stranger's file may raise where it is not what it says: the others are listed all the same."""


@dataclass(frozen=True)
class Unusable:
    """A file or folder among the models that cannot be used, and the sentence that says why."""

    key: str
    path: Path
    sentence: str
    family: str = ""
    bytes: int = 0


@dataclass
class Listing:
    """What one look at the disk found, each by its key, in the order of looking."""

    models: dict[str, ModelSpec] = field(default_factory=dict)
    addons: dict[str, dict[str, AddonSpec]] = field(default_factory=lambda: {sort: {} for sort in SORTS})
    unusable: list[Unusable] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


class ModelLibrary:
    """Finds models and add-ons in the assets, in `folders` and in `hub_cache`; each look is at the disk.

    records: where what was read off files is remembered, so that a second look reads only what changed.
    Safe in several threads.
    """

    def __init__(
        self,
        folders: Iterable[Path] = (),
        assets: Path = ASSETS,
        hub_cache: Path | None = None,
        records: FileRecords | None = None,
    ):
        self.folders = [Path(folder) for folder in folders]
        self.assets = assets
        self.hub_cache = hub_cache
        self.records = records or FileRecords()
        self._latest: Listing | None = None
        self._identities: dict[str, tuple[tuple[int, int], Identity | None]] = {}
        self._lock = threading.Lock()

    def list(self) -> list[ModelSpec]:
        """Every usable model, the embedded ones first, then by title."""
        models = self.look().models.values()
        own = [spec for spec in models if spec.source == "embedded"]
        rest = [spec for spec in models if spec.source != "embedded"]
        return own + sorted(rest, key=lambda spec: (spec.title.lower(), spec.key))

    def find(self, key: str) -> ModelSpec:
        """The model with that key; raises `InvalidRequest` naming those that there are."""
        latest = self._latest
        spec = latest.models.get(key) if latest else None
        if spec is None or not _unchanged(spec):
            spec = self.look().models.get(key)
        if spec is None:
            models = [one.key for one in self.list()]
            more = f" and {len(models) - 20} more" if len(models) > 20 else ""
            there = ", ".join(models[:20]) + more or "none: put one into the models folder"
            if _HUB_ID.fullmatch(key) and key.split("/")[0] not in {one.split("/")[0] for one in models}:
                sentence = (
                    f"The model {key} is not on this computer. Open the Models tab and fetch it by this name "
                    f"(it is looked for on huggingface.co). There are {there}."
                )
                raise InvalidRequest({"model": sentence})
            raise InvalidRequest({"model": f"There is no model called {key[:60]!r}. There are {there}."})
        return spec

    def addons(self, sort: str) -> builtins.list[AddonSpec]:
        """Every add-on of a sort (see identify.Sort), the embedded ones first, then by key."""
        found = self.look().addons[sort].values()
        return sorted(found, key=lambda one: (one.source != "embedded", one.key.lower()))

    def addon(self, sort: str, key: str) -> AddonSpec:
        """The add-on called `key`, see addons.pick. Raises `InvalidRequest` naming near ones."""
        latest = self._latest
        if latest is not None:
            try:
                found = addons.pick(latest.addons.get(sort, {}), sort, key)
            except InvalidRequest:
                pass  # it may be new: the look below says
            else:
                if _unchanged(found):
                    return found
        return addons.pick(self.look().addons.get(sort, {}), sort, key)

    def unusable(self) -> builtins.list[Unusable]:
        """What lies among the models and cannot be used, with the reason."""
        return sorted(self.look().unusable, key=lambda one: one.key.lower())

    def watched(self) -> builtins.list[Path]:
        """The folders in which what is found may change."""
        roots = [root for folder in self.folders for root in places.roots(folder)]
        return [*roots, *([self.hub_cache] if self.hub_cache is not None else [])]

    # ------------------------------------------------------------------------------------- looking

    def look(self) -> Listing:
        """All that there is, at one look at the disk."""
        with self._lock:
            listing = Listing()
            for found in self._everything():
                if found.real not in listing.seen:
                    listing.seen.add(found.real)
                    self._take(found, listing)
            self.records.save()
            self._latest = listing
            return listing

    def _everything(self) -> Iterator[Found]:
        if (self.assets / STARTER / "model_index.json").is_file():
            starter = self.assets / STARTER
            told = (starter / "model_index.json").stat()
            state = (told.st_size, told.st_mtime_ns)
            yield Found("model", starter, str(starter.resolve()), STARTER, "", "embedded", *state)
        for name in ("models", "loras", "controlnets"):
            yield from places.in_folder(self.assets / name, "embedded")
        for folder in self.folders:
            for root in places.roots(folder):
                yield from places.in_folder(root)
        if self.hub_cache is not None:
            yield from places.in_hub_cache(self.hub_cache)

    def _take(self, found: Found, listing: Listing) -> None:
        try:
            found.key.encode()
        except UnicodeEncodeError:
            sentence = f"{shown(found.path)} has a name that is not Unicode: give it another."
            listing.unusable.append(Unusable(shown(found.path), found.path, sentence))
            return
        if found.what == "model":
            self._take_model(found, listing)
            return
        try:
            identity = self._component(found) if found.what == "component" else self._identity(found)
        except UnreadableFile as problem:
            listing.unusable.append(Unusable(found.key, found.path, str(problem), bytes=found.size))
            return
        if identity is None and found.hint == "upscaler" and found.what == "file":
            identity = Identity("upscaler", bytes=found.size)  # spandrel knows more than is told apart here
        if identity is None:
            return
        if identity.sort in ("checkpoint", "diffusion model"):
            self._take_file(found, identity, listing)
        elif found.path.suffix.lower() == ".gguf":
            listing.unusable.append(Unusable(found.key, found.path, _unread(found, identity)))
        else:
            there = listing.addons[identity.sort]
            key = _free(found, there)
            there[key] = self._addon(found, key, identity)

    def _take_model(self, found: Found, listing: Listing) -> None:
        key = _free(found, listing.models)
        try:
            lacking = incomplete(found.path)
            spec = None if lacking else describe(found.path, key, self.records)
        except (*_NONSENSE, OSError):
            sentence = f"{shown(found.path)} has settings that make no sense: its files are damaged."
            listing.unusable.append(Unusable(key, found.path, sentence))
            return
        if spec is not None:
            listing.models[key] = replace(
                spec,
                source=found.source,
                disk_bytes=found.size,
                beside=found.beside,
                modified=found.changed / 1e9,
            )
            return
        named = str(read_json(found.path / "model_index.json").get("_class_name", ""))[:60]
        sentence = (
            f"{shown(found.path)} is not complete: its {lacking} has no weights. Fetch it again."
            if lacking
            else f"{shown(found.path)} is a {named}, which Darkroom does not run."
        )
        listing.unusable.append(Unusable(key, found.path, sentence))

    def _take_file(self, found: Found, identity: Identity, listing: Listing) -> None:
        key = _free(found, listing.models)
        spec = describe_file(found.path, key, identity, self.records) if found.what == "file" else None
        if spec is not None:
            listing.models[key] = replace(
                spec,
                source=found.source,
                disk_bytes=found.size,
                beside=found.beside,
                modified=found.changed / 1e9,
            )
            return
        sentence = identity.note or _unread(found, identity)
        listing.unusable.append(Unusable(key, found.path, sentence, identity.family, identity.bytes))

    def _addon(self, found: Found, key: str, identity: Identity) -> AddonSpec:
        sidecar = sidecars.read(found.path.parent, found.beside, self.records)
        by_name: Mapping[str, Any] = {}
        if identity.sort == "lora":
            by_name = few_steps.named(f"{key} {identity.title}", identity.family)
        return AddonSpec(
            key=key,
            title=_card_title(found.path) or identity.title or key.rpartition("/")[2],
            sort=identity.sort,
            path=found.path,
            family=identity.family,
            text_width=identity.text_width,
            bytes=identity.bytes,
            trigger_words=sidecar.words or identity.trigger_words,
            default_weight=1.0 if sidecar.weight is None else sidecar.weight,
            notes=sidecar.notes,
            beside=found.beside,
            modified=found.changed / 1e9,
            disk_bytes=found.size,
            parts=identity.holds if identity.sort == "lora" else frozenset(),
            format=identity.format,
            variant=identity.variant,
            width=identity.width,
            dtype=identity.dtype,
            alias=identity.alias,
            defaults={**by_name, **identity.defaults},
            source=found.source,
            note=identity.note,
            told_hash=identity.hash,
            records=self.records,
        )

    # ------------------------------------------------------------------------------------ identities

    def _identity(self, found: Found) -> Identity | None:
        """What a file is, from the records where it has not changed. Raises `UnreadableFile`."""
        state = (found.size, found.changed)
        latest = self._identities.get(found.real)
        if latest is not None and latest[0] == state:
            return latest[1]
        known = self.records.get(found.real, *state, "identity")
        if known is None:
            known = _to_json(found.path)
            self.records.put(found.real, *state, "identity", known)
        if "problem" in known:
            raise UnreadableFile(known["problem"])
        identity = _from_json(known["identity"]) if known["identity"] else None
        self._identities[found.real] = (state, identity)
        return identity

    def _component(self, found: Found) -> Identity | None:
        """What a folder with one network in diffusers' layout is."""
        config = read_json(found.path / "config.json")
        weights = component_weights(found.path)
        size = sum(file.stat().st_size for file in weights)
        name = str(config.get("_class_name", ""))
        sizes = sizes_of_config(config)
        if sizes is not None:
            sort: Sort = "adapter" if sizes.sort == "adapter" else "controlnet"
            variant = "union" if sizes.sort == "union" else ""
            return Identity(sort, sizes.family, variant, sizes.text, bytes=size, format="diffusers")
        if name.startswith("Autoencoder"):
            channels = config.get("latent_channels")
            return Identity("vae", width=channels, bytes=size, format="diffusers", holds=frozenset({"vae"}))
        named = config.get("architectures")
        if isinstance(named, list) and any("TextModel" in str(one) or "T5" in str(one) for one in named):
            width = config.get("hidden_size") or config.get("d_model")
            holds = frozenset({"text_encoder"})
            return Identity("text encoder", text_width=width, bytes=size, format="diffusers", holds=holds)
        return None


def _unchanged(spec: ModelSpec | AddonSpec) -> bool:
    """Whether a file, or what describes a folder, is as it was at the latest look."""
    marks = (spec.path / name for name in ("model_index.json", "config.json"))
    try:
        file = spec.path if spec.path.is_file() else next(mark for mark in marks if mark.is_file())
        told = file.stat()
    except (OSError, StopIteration):
        return False
    return (told.st_size, told.st_mtime_ns / 1e9) == (spec.disk_bytes, spec.modified)


def _unread(found: Found, identity: Identity) -> str:
    """Why a model that was recognised is not among those to choose from."""
    if found.what == "component":
        return (
            f"{shown(found.path)} is a model's denoiser alone, in diffusers' layout: put the whole model's "
            "folder here."
        )
    if found.path.suffix.lower() == ".gguf":
        return f"{shown(found.path)} is a GGUF file, which is not read yet: take a .safetensors file."
    kind = " ".join(filter(None, (identity.family, identity.variant)))
    return (
        f"{shown(found.path)} is a {kind} model in a single file, of which Darkroom reads those of SD, SDXL, "
        "SD3 and Flux. Put the model's diffusers folder here, or fetch it by its name on the hub."
    )


def _card_title(path: Path) -> str:
    """What the card.json of a folder calls it; this project's own have one."""
    return str(read_json(path / "card.json").get("title", ""))[:100] if path.is_dir() else ""


def _free(found: Found, taken: Mapping[str, Any]) -> str:
    """A key for what was found that nothing else has: its own, else with more of its path, the more the
    less it would be told apart."""
    if found.key not in taken:
        return found.key
    root = found.path
    for _ in found.key.split("/"):
        root = root.parent
    named = f"{root.name}/{found.key}"
    ending = found.path.suffix if found.what == "file" else "/"
    candidates = (f"{found.key}{ending}", named, f"{named}{ending}")
    return next((key for key in candidates if key not in taken), str(found.path))


def _to_json(path: Path) -> dict[str, Any]:
    try:
        identity = identify(path)
    except UnreadableFile as problem:
        return {"problem": str(problem)}
    except _NONSENSE:
        return {"problem": f"{shown(path)} has tensors of shapes that make no sense: it is damaged."}
    if identity is None:
        return {"identity": None}
    return {"identity": {**asdict(identity), "holds": sorted(identity.holds)}}


def _from_json(told: Mapping[str, Any]) -> Identity:
    known = {one.name for one in fields(Identity)}
    values = {name: value for name, value in told.items() if name in known}
    values["holds"] = frozenset(values.get("holds", ()))
    values["trigger_words"] = tuple(values.get("trigger_words", ()))
    return Identity(**values)
