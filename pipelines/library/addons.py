"""What is added to a model: LoRAs, VAEs, embeddings, text encoders, control networks, upscalers.

Also whether one fits a model, as a sentence for people.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.families import FAMILIES
from pipelines.library import hashes
from pipelines.library.places import Source
from pipelines.library.records import FileRecords
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from pipelines.library.identify import Sort
    from pipelines.library.models import ModelSpec

FIELDS: Mapping[str, str] = {
    "lora": "loras",
    "vae": "vae",
    "text encoder": "text_encoder",
    "embedding": "prompt",
    "controlnet": "controls",
    "adapter": "controls",
    "upscaler": "model",
}
"""Sort -> the request's field that names one; a problem is told of that field."""

NOUNS: Mapping[str, str] = {
    "lora": "LoRA",
    "vae": "VAE",
    "text encoder": "text encoder",
    "embedding": "embedding",
    "controlnet": "ControlNet",
    "adapter": "T2I-Adapter",
    "upscaler": "upscaler",
}

LATENT_CHANNELS: Mapping[str, int] = {
    **dict.fromkeys(("SD", "SDXL", "PixArt", "AuraFlow", "Hunyuan-DiT", "Kolors", "Lumina"), 4),
    **dict.fromkeys(("SD3", "Flux", "Chroma", "Z-Image", "Lumina 2", "CogView4", "Qwen-Image"), 16),
    "Sana": 32,
    "Flux.2": 32,
}
"""Channels of the latents that a family's published models paint in; a VAE must make the same."""

_VAE_KIN: tuple[frozenset[str], ...] = (
    frozenset({"SDXL", "AuraFlow", "PixArt", "Kolors", "Hunyuan-DiT", "Lumina"}),
    frozenset({"Flux", "Chroma", "Z-Image", "Lumina 2"}),
    frozenset({"SD", "PixArt"}),
)
"""Families whose models share a VAE."""


@dataclass(frozen=True)
class AddonSpec:
    """One add-on that can be asked for by its `key`, within its sort.

    path: a file, or a folder in diffusers' layout. family, text_width, width: what it was made for, see
    identify.Identity; of a VAE, width is the number of its latent channels. format: the layout of a LoRA's
    names ("diffusers", "peft", "kohya", "lycoris"). default_weight: what suits where nothing else is asked
    for. defaults: request fields that suit a run with it (an LCM LoRA's sampler, steps and guidance).
    alias: what its training called it, which old prompts may name. notes, beside: what lies beside the file
    says, and the names of those files (see sidecars). modified: seconds since 1970.
    disk_bytes: of the file, or of a folder's config.json. parts: components that a LoRA changes ("unet",
    "text_encoder", ...).
    """

    key: str
    title: str
    sort: Sort
    path: Path
    family: str = ""
    text_width: int | None = None
    bytes: int = 0
    trigger_words: tuple[str, ...] = ()
    format: str = ""
    default_weight: float = 1.0
    defaults: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    width: int | None = None
    dtype: str = ""
    alias: str = ""
    source: Source = "folder"
    note: str = ""
    told_hash: str = ""
    notes: str = ""
    beside: tuple[str, ...] = ()
    modified: float = 0.0
    disk_bytes: int = 0
    parts: frozenset[str] = frozenset()
    records: FileRecords | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The last part of the key: what `<lora:name:1>` calls it."""
        return self.key.rpartition("/")[2]

    @property
    def hash(self) -> str:
        """12 hex digits of LoRAs and embeddings, 10 of others (CONVENTIONS: "Hashes"); read off the file once
        and then remembered. "" for a folder of several files."""
        if self.told_hash:
            return self.told_hash
        if self.sort == "lora":
            return hashes.lora_hash(self.path, self.records)
        return hashes.file_hash(self.path, self.records, self._digits) if self.path.is_file() else ""

    @property
    def known_hash(self) -> str:
        """`hash` where it is known without reading the file, else ""."""
        if self.told_hash:
            return self.told_hash
        what = "sha256 of tensors" if self.sort == "lora" else "sha256"
        return hashes.known(self.path, what, self.records)[: self._digits]

    @property
    def _digits(self) -> int:
        return 12 if self.sort in ("lora", "embedding") else 10


def misfit(addon: AddonSpec, model: ModelSpec) -> str | None:
    """Why `addon` cannot be used with `model`, a sentence; None where it fits, or nothing tells otherwise."""
    if addon.sort == "upscaler":
        return None
    if addon.sort in ("controlnet", "adapter"):
        return _control_misfit(addon, model)
    if addon.sort == "vae":
        return _vae_misfit(addon, model)
    if addon.sort == "text encoder":
        return _encoder_misfit(addon, model)
    made = f"{addon.title} is made for"
    if addon.family and model.family and addon.family != model.family:
        return f"{made} {_named(addon.family, addon.text_width)}, but {model.title} is {_named_model(model)}."
    denoiser = FAMILIES[model.family].denoiser if model.family in FAMILIES else ""
    if not addon.family and {"unet": "transformer", "transformer": "unet"}.get(denoiser) in addon.parts:
        kind = "UNets (SD, SDXL)" if "unet" in addon.parts else "transformers (SD3, Flux and later ones)"
        return f"{made} {kind}, but {model.title} is {_named_model(model)}."
    if addon.text_width and model.text_width and addon.text_width != model.text_width:
        mine, theirs = _named(addon.family, addon.text_width), _named_model(model)
        if mine == theirs:
            mine, theirs = f"text {addon.text_width} wide", f"{theirs}, whose text is {model.text_width} wide"
        elif not addon.family:
            mine = f"text {addon.text_width} wide"
        return f"{made} {mine}, but {model.title} is {theirs}."
    if addon.width and model.width and addon.width != model.width:
        return (
            f"{made} {addon.family} models {addon.width} channels wide, but {model.title} is "
            f"{model.width} wide."
        )
    return None


def _named(family: str, text: int | None) -> str:
    """ "SD 1", "SD 2" or "SD with text 160 wide": SD models differ by the text that they listen to."""
    if family != "SD" or text is None:
        return family
    return {768: "SD 1", 1024: "SD 2"}.get(text, f"SD with text {text} wide")


def _named_model(model: ModelSpec) -> str:
    return _named(model.family, model.text_width)


def _control_misfit(addon: AddonSpec, model: ModelSpec) -> str | None:
    from pipelines.controlnet import control_files

    sizes = control_files.sizes_of(addon.path, addon.records)
    why = control_files.misfit(sizes, control_files.sizes_of_model(model)) if sizes is not None else None
    return f"{addon.title} is made for {why[0]}, but {model.title} is {why[1]}." if why else None


def _vae_misfit(addon: AddonSpec, model: ModelSpec) -> str | None:
    channels = model.config("vae").get("latent_channels") or LATENT_CHANNELS.get(model.family)
    if addon.width and channels and addon.width != channels:
        return (
            f"{addon.title} makes latents of {addon.width} channels, but {model.title} paints in {channels}."
        )
    kin = any({addon.family, model.family} <= families for families in _VAE_KIN)
    if addon.family and addon.family != model.family and not kin:
        return f"{addon.title} is the VAE of {addon.family} models, but {model.title} is {model.family}."
    return None


_ENCODERS: Mapping[str, tuple[str, ...]] = {
    "SD 1": ("CLIP-L",),
    "SD 2": ("CLIP-H",),
    "SDXL": ("CLIP-L", "CLIP-G"),
    "SD3": ("CLIP-L", "CLIP-G", "T5"),
    "Flux": ("CLIP-L", "T5"),
    "Chroma": ("T5",),
    "PixArt": ("T5",),
}
"""Model -> the text encoders that it listens to; those that are not here are listed without a check."""


def _encoder_misfit(addon: AddonSpec, model: ModelSpec) -> str | None:
    wanted = _ENCODERS.get(_named_model(model))
    if wanted is None or addon.variant in ("", "CLIP", *wanted):
        return None
    return f"{addon.title} is a {addon.variant}, but {model.title} listens to {' and '.join(wanted)}."


def pick(there: Mapping[str, AddonSpec], sort: str, key: str) -> AddonSpec:
    """The add-on called `key`: by its key, else by the last part of it or its alias where only one is called
    so, in capitals or not. Raises `InvalidRequest` naming those that are called nearly so."""
    if key in there:
        return there[key]
    for called in (lambda one: (one.name,), lambda one: (one.alias,), _lowered):
        asked = key.lower() if called is _lowered else key
        found = [one for one in there.values() if asked and asked in called(one)]
        if len(found) == 1:
            return found[0]
        if found:
            keys = ", ".join(one.key for one in found[:8])
            raise _unknown(sort, f"There are several called {key[:60]!r}: name one of {keys}.")
    names = {one.name.lower(): one.key for one in there.values()}
    near = [names[name] for name in difflib.get_close_matches(key.lower()[:100], names, 5, 0.5)]
    noun = NOUNS.get(sort, sort)
    if near:
        way_out = f"Nearest are {', '.join(near)}."
    elif there:
        way_out = f"There are {', '.join(list(there)[:8])}{', ...' if len(there) > 8 else '.'}"
    else:
        way_out = "There are none: put one into the models folder."
    raise _unknown(sort, f"There is no {noun} called {key[:60]!r}. {way_out}")


def _lowered(one: AddonSpec) -> tuple[str, ...]:
    return (one.key.lower(), one.name.lower(), one.alias.lower())


def _unknown(sort: str, sentence: str) -> InvalidRequest:
    return InvalidRequest({FIELDS.get(sort, "model"): sentence})
