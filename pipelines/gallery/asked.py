"""The request that made a picture, from the best witness: its recorded run, the journal, or its text.

What cannot be said surely is not guessed: `CannotVerify` tells why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines import metadata
from pipelines.film.trajectory import RunInfo
from pipelines.gallery.gallery import Gallery
from pipelines.gallery.places import Row
from pipelines.journal import Journal
from pipelines.library.models import ModelLibrary
from pipelines.lora import adapters
from pipelines.metadata import UnreadablePicture
from pipelines.request import GenerationRequest, InvalidRequest

FOREIGN = (
    "This picture was made by another program. Only Darkroom's own can be painted again to the last bit: "
    "other programs draw their noise in other ways."
)


class CannotVerify(ValueError):
    """A picture that cannot be painted again; `str()` is a sentence with the reason."""


def request_of(
    row: Row, run: RunInfo | None, gallery: Gallery, journal: Journal, library: ModelLibrary
) -> GenerationRequest:
    """The request for this one picture. Raises `CannotVerify`."""
    text = gallery.index.text(row.id).get("text", "")
    told = metadata.parse(text)
    extras: Mapping[str, str] = told.get("extras", {})
    if not extras.get("App", "").startswith("Darkroom"):
        raise CannotVerify(FOREIGN if text else "This picture carries no text that says how it was made.")
    try:
        if run is not None:
            request = _single(GenerationRequest.parse(run.request), run.index)
        elif (found := journal.painter(text)) is not None:
            request = _single(GenerationRequest.parse(found[0].request), found[1])
        else:
            request = _from_text(told, extras, library)
    except InvalidRequest as problem:
        raise CannotVerify(
            f"What this picture was asked for is no longer a sound request. {problem}"
        ) from None
    if run is None and "Stopped at step" in extras:
        raise CannotVerify(
            f"This picture was stopped by hand at step {extras['Stopped at step']} and kept, and its film is "
            "gone: there is nothing to compare its steps with."
        )
    _same_model(request, extras, library)
    for key in _keys(request):
        _stored(key, gallery)
    return request


def _single(request: GenerationRequest, index: int) -> GenerationRequest:
    """One picture of a request, which by itself is the same as beside the others."""
    seeds: dict[str, Any] = {"seed": request.seed_of(index)}
    if request.subseed_strength > 0:
        seeds["subseed"] = request.subseed_of(index)
    return request.model_copy(update={**seeds, "num_images_per_prompt": 1, "batch_count": 1})


def _from_text(
    told: Mapping[str, Any], extras: Mapping[str, str], library: ModelLibrary
) -> GenerationRequest:
    if any(name.startswith("ControlNet ") for name in extras):
        raise CannotVerify(
            "This picture followed control maps, and its film is gone: its text does not hold the maps."
        )
    if "Branch of" in extras:
        raise CannotVerify("This picture is a branch of another run, and its film is gone.")
    fields, missing = adapters.known(told, library)
    if missing:
        raise CannotVerify(f"Something that this picture was made with is not here. {' '.join(missing)}")
    values = {name: fields[name] for name in GenerationRequest.model_fields if name in fields}
    for name, key in (("image", "Init image hash"), ("mask_image", "Mask hash")):
        if extras.get(key):
            values[name] = extras[key]
    if "mask_blur" in told and not values.get("mask_image") and "Extend" not in told.get("extras", {}):
        sides = any(values.get(f"extend_{side}") for side in ("left", "top", "right", "bottom"))
        if not sides:
            raise CannotVerify("This picture's text does not say which mask it was painted with.")
    return GenerationRequest.parse({**values, "model": _model(extras, library)})


def _model(extras: Mapping[str, str], library: ModelLibrary) -> str:
    title, told = extras.get("Model", ""), extras.get("Model hash", "")
    specs = library.list()
    called = [spec for spec in specs if spec.title == title]
    for spec in [*called, *(spec for spec in specs if spec not in called)]:
        if told and spec.short_hash() == told:
            return spec.key
    if len(called) == 1:
        return called[0].key  # another file of that name: `_same_model` says so
    raise CannotVerify(
        f"The model {title or 'that painted this picture'} is not here: put it into the models folder, or "
        "fetch it in the Models tab."
    )


def _same_model(request: GenerationRequest, extras: Mapping[str, str], library: ModelLibrary) -> None:
    try:
        spec = library.find(request.model)
    except InvalidRequest as problem:
        raise CannotVerify(str(problem)) from None
    told = extras.get("Model hash", "")
    if told and (here := spec.short_hash()) != told:
        raise CannotVerify(
            f"The model {spec.title} has changed since: its file's hash is {here}, the picture was painted "
            f"with {told}."
        )


def _keys(request: GenerationRequest) -> Iterator[str]:
    """The stored pictures that a request needs."""
    shown = [request.image, request.mask_image, request.branch.painted if request.branch else None]
    for unit in request.controls:
        shown += [unit.image, unit.map_image]
    yield from (key for key in shown if key)


def _stored(key: str, gallery: Gallery) -> None:
    """Sees to it that a picture is in the store; one that is in the gallery is put there anew."""
    try:
        gallery.store.stored(key)
    except UnreadablePicture:
        path = gallery.file(key)
        try:
            if path is not None and gallery.store.put(path).key == key:
                return
        except (UnreadablePicture, OSError):
            pass  # it is told below that it is gone
        raise CannotVerify(
            "A picture that this one was made from (picture, mask or map) is no longer kept here."
        ) from None
