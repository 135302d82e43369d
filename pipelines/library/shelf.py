"""The models and add-ons as cards, with what a person keeps on them: notes, a star, a picture, a weight.

Kept in the data folder (`shelf.json`, pictures in `shelf/`); what lies beside a model's file as the webui
keeps it is shown as well and never written to.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.library import hashes, sidecars
from pipelines.library.addons import AddonSpec, misfit
from pipelines.library.headers import FORMATS, read_json
from pipelines.library.models import Listing, ModelLibrary, ModelSpec
from pipelines.library.places import Source
from pipelines.request import InvalidRequest

MODELS = ("checkpoint", "diffusion model")
"""The sorts of cards that stand for what a request's `model` names."""
_SIDE = 768
"""Pixels of a kept picture's longer side."""


@dataclass(frozen=True)
class Card:
    """One model or add-on for people. key: within its sort; (sort, key) names it.

    path: the file or folder. format: "safetensors", "pickle", "gguf" or "diffusers"; of a LoRA the layout of
    its names. trigger_words, notes, weight: a person's own before those beside the file, and those before the
    file's metadata. picture: a preview's file; picture_set: it was set by hand here. unfit: why it does not
    fit the chosen model, "" where it does. modified: seconds since 1970. hash: "" while it is not known.
    """

    key: str
    sort: str
    title: str
    path: Path
    family: str = ""
    summary: str = ""
    variant: str = ""
    bytes: int = 0
    dtype: str = ""
    format: str = ""
    trigger_words: tuple[str, ...] = ()
    notes: str = ""
    favourite: bool = False
    weight: float = 1.0
    picture: Path | None = None
    picture_set: bool = False
    unfit: str = ""
    modified: float = 0.0
    hash: str = ""
    source: Source = "folder"
    alias: str = ""


class Shelf:
    """The cards of a library and what a person added to them. Safe in several threads of one process."""

    def __init__(self, library: ModelLibrary, data: Path):
        self.library = library
        self.path = data / "shelf.json"
        self.pictures = data / "shelf"
        self._lock = threading.RLock()

    def cards(self, model: ModelSpec | None = None) -> list[Card]:
        """Every card: models first, then by sort and title; favourites before others of their sort. With a
        model, each add-on says whether it fits."""
        listing, kept = self.library.look(), self._kept()
        found = [self._model_card(spec, kept) for spec in listing.models.values()]
        found += [
            self._addon_card(addon, kept, model) for of in listing.addons.values() for addon in of.values()
        ]
        self.library.records.save()
        return sorted(found, key=_order)

    def card(self, sort: str, key: str, model: ModelSpec | None = None) -> Card:
        """One card. Raises `InvalidRequest` for a key that is not there."""
        spec, kept = self._named(sort, key), self._kept()
        if isinstance(spec, AddonSpec):
            return self._addon_card(spec, kept, model)
        return self._model_card(spec, kept)

    def favourites(self) -> set[tuple[str, str]]:
        """(sort, key) of what has a star."""
        return {(sort, key) for (sort, key), told in self._kept().items() if told.get("favourite") is True}

    def edit(
        self,
        sort: str,
        key: str,
        *,
        title: str | None = None,
        notes: str | None = None,
        favourite: bool | None = None,
        words: tuple[str, ...] | None = None,
        weight: float | None = None,
    ) -> Card:
        """Keeps what is given of a card; an empty text or no words bring the file's own back. Raises
        `InvalidRequest` for a key that is not there or a weight outside -2 .. 2."""
        self._named(sort, key)
        if weight is not None and not -2 <= weight <= 2:
            raise InvalidRequest({"loras": f"A LoRA's weight lies between -2 and 2, not at {weight:g}."})
        given = {"title": title, "notes": notes, "favourite": favourite, "weight": weight}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if words is not None:
            changes["words"] = [word.strip() for word in words if word.strip()]
        self._keep(sort, key, changes)
        return self.card(sort, key)

    def set_picture(self, sort: str, key: str, path: Path | None) -> Card:
        """Keeps a small copy of the picture at `path` as the card's, or (None) takes the set one away. Raises
        `InvalidRequest` for an unknown key and for what is no picture."""
        self._named(sort, key)
        place = self.pictures / f"{_digest(sort, key)}.jpg"
        if path is None:
            place.unlink(missing_ok=True)
        else:
            _write(place, _small(path))
        self._keep(sort, key, {"picture": path is not None})
        return self.card(sort, key)

    def hash_of(self, sort: str, key: str) -> str:
        """A card's hash; reads the whole file the first time. Raises `InvalidRequest` for an unknown key."""
        spec = self._named(sort, key)
        return spec.hash if isinstance(spec, AddonSpec) else spec.short_hash()

    # ---------------------------------------------------------------------------------------- cards

    def _named(self, sort: str, key: str) -> ModelSpec | AddonSpec:
        listing: Listing = self.library.look()
        there: Mapping[str, Any] = listing.models if sort in MODELS else listing.addons.get(sort, {})
        if key not in there:
            raise InvalidRequest(
                {"model": f"{key[:60]!r} is no longer among the models: it was moved or deleted."}
            )
        found: ModelSpec | AddonSpec = there[key]
        return found

    def _model_card(self, spec: ModelSpec, kept: _Kept) -> Card:
        sort = spec.identity.sort if spec.identity is not None else "checkpoint"
        told = kept.get((sort, spec.key), {})
        beside = sidecars.read(spec.path.parent, spec.beside, self.library.records)
        picture = self._picture(sort, spec.key, told)
        own = picture or sidecars.picture(spec.path.parent, spec.beside) or _inside(spec)
        return Card(
            key=spec.key,
            sort=sort,
            title=_text(told, "title") or spec.title,
            path=spec.path,
            family=spec.family,
            summary=spec.summary,
            variant=spec.variant,
            bytes=spec.bytes,
            dtype=spec.dtype,
            format=FORMATS.get(spec.path.suffix.lower(), "") if spec.is_file else "diffusers",
            trigger_words=_words(told) or beside.words,
            notes=_text(told, "notes") or beside.notes,
            favourite=told.get("favourite") is True,
            picture=own,
            picture_set=picture is not None,
            modified=spec.modified,
            hash=hashes.known(spec.path, "sha256", self.library.records)[:10],
            source=spec.source,
        )

    def _addon_card(self, addon: AddonSpec, kept: _Kept, model: ModelSpec | None) -> Card:
        told = kept.get((addon.sort, addon.key), {})
        picture = self._picture(addon.sort, addon.key, told)
        weight = told.get("weight")
        return Card(
            key=addon.key,
            sort=addon.sort,
            title=_text(told, "title") or addon.title,
            path=addon.path,
            family=addon.family,
            summary=addon.family,
            variant=addon.variant,
            bytes=addon.bytes,
            dtype=addon.dtype,
            format=addon.format or FORMATS.get(addon.path.suffix.lower(), ""),
            trigger_words=_words(told) or addon.trigger_words,
            notes=_text(told, "notes") or addon.notes,
            favourite=told.get("favourite") is True,
            weight=float(weight) if isinstance(weight, int | float) else addon.default_weight,
            picture=picture or sidecars.picture(addon.path.parent, addon.beside),
            picture_set=picture is not None,
            unfit=(misfit(addon, model) or "") if model is not None else "",
            modified=addon.modified,
            hash=addon.known_hash,
            source=addon.source,
            alias=addon.alias,
        )

    def _picture(self, sort: str, key: str, told: Mapping[str, Any]) -> Path | None:
        place = self.pictures / f"{_digest(sort, key)}.jpg"
        return place if told.get("picture") is True and place.is_file() else None

    # ----------------------------------------------------------------------------------------- kept

    def _kept(self) -> _Kept:
        with self._lock:
            rows = read_json(self.path).get("cards")
        found: _Kept = {}
        for name, told in rows.items() if isinstance(rows, dict) else ():
            sort, _, key = name.partition("/")
            if isinstance(told, dict):
                found[sort, key] = told
        return found

    def _keep(self, sort: str, key: str, changes: Mapping[str, Any]) -> None:
        with self._lock:
            kept = self._kept()
            told = {**kept.get((sort, key), {}), **changes}
            kept[sort, key] = {name: value for name, value in told.items() if value not in ("", [], False)}
            rows = {f"{one}/{other}": value for (one, other), value in sorted(kept.items()) if value}
            _write(self.path, json.dumps({"cards": rows}, indent=1, ensure_ascii=False).encode())


_Kept = dict[tuple[str, str], dict[str, Any]]


def _order(card: Card) -> tuple[Any, ...]:
    return (card.sort not in MODELS, card.sort, not card.favourite, card.title.lower(), card.key)


def _inside(spec: ModelSpec) -> Path | None:
    """A preview that a model's own folder brings along."""
    if spec.is_file:
        return None
    names = (
        f"{name}{ending}" for name in ("preview", "thumbnail", "samples") for ending in sidecars.PICTURES
    )
    return next((spec.path / name for name in names if (spec.path / name).is_file()), None)


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    return value if isinstance(value, str) else ""


def _words(told: Mapping[str, Any]) -> tuple[str, ...]:
    value = told.get("words")
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()


def _digest(sort: str, key: str) -> str:
    return hashlib.sha256(f"{sort}/{key}".encode()).hexdigest()[:24]


def _small(path: Path) -> bytes:
    """The picture as a JPEG of at most `_SIDE` pixels a side. Raises `InvalidRequest` for what is none."""
    import io

    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            picture.draft("RGB", (_SIDE, _SIDE))
            small = ImageOps.exif_transpose(picture).convert("RGB")
            small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    except (OSError, ValueError, Image.DecompressionBombError):
        raise InvalidRequest({"model": "This is not a picture that can be read: choose another."}) from None
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    """Writes a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    os.replace(part, path)
