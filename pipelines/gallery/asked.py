"""The request that made a picture, from the best witness: its recorded run, the journal, or its text.

What cannot be said surely is not guessed: `CannotVerify` tells why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines import metadata, picture_fields
from pipelines.film.branching import LOCKED
from pipelines.film.trajectory import RunInfo, UnknownTrajectory
from pipelines.gallery.gallery import Gallery
from pipelines.gallery.places import Row
from pipelines.journal import Journal
from pipelines.library.models import ModelLibrary
from pipelines.lora import adapters
from pipelines.metadata import UnreadablePicture
from pipelines.pictures import KEPT_DAYS
from pipelines.request import GenerationRequest, InvalidRequest

FOREIGN = (
    "This picture was made by another program. Only Darkroom's own can be painted again to the last bit: "
    "other programs draw their noise in other ways."
)

NO_PARENT = (
    "This picture is a branch of another run whose film is gone, so the steps that it took over cannot be "
    "taken again."
)

_BESIDE: Mapping[str, str] = {
    "image": "Init image hash",
    "mask_image": "Mask hash",
    "image_guidance_scale": "Image CFG scale",
    "text_encoder": "Text encoder",
    "quantisation": "Quantisation",
}
"""Fields that a form is not filled with, and by what a text tells them."""


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
            request = _from_text(told, extras, gallery, library)
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
    for what, key in _shown(request):
        _stored(what, key, gallery)
    _branched(request, gallery)
    return request


def _single(request: GenerationRequest, index: int) -> GenerationRequest:
    """One picture of a request, which by itself is the same as beside the others."""
    seeds: dict[str, Any] = {"seed": request.seed_of(index)}
    if request.subseed_strength > 0:
        seeds["subseed"] = request.subseed_of(index)
    return request.model_copy(update={**seeds, "num_images_per_prompt": 1, "batch_count": 1})


def _from_text(
    told: Mapping[str, Any], extras: Mapping[str, str], gallery: Gallery, library: ModelLibrary
) -> GenerationRequest:
    fields, missing = adapters.known(told, library)
    if missing:
        raise CannotVerify(f"Something that this picture was made with is not here. {' '.join(missing)}")
    values = {name: fields[name] for name in GenerationRequest.model_fields if name in fields}
    for name, key in _BESIDE.items():
        if extras.get(key):
            values[name] = extras[key]
    if "mask_blur" in told and not values.get("mask_image") and "Extend" not in told.get("extras", {}):
        sides = any(values.get(f"extend_{side}") for side in ("left", "top", "right", "bottom"))
        if not sides:
            raise CannotVerify("This picture's text does not say which mask it was painted with.")
    try:
        values["controls"] = picture_fields.units(extras)
    except ValueError as problem:
        raise CannotVerify(str(problem)) from None
    if branch := picture_fields.branch(extras):
        return GenerationRequest.parse({**_locked(branch, gallery), **values, "branch": branch})
    return GenerationRequest.parse({**values, "model": _model(extras, library)})


def _locked(branch: Mapping[str, Any], gallery: Gallery) -> dict[str, Any]:
    """What a branch cannot but share with the run that it left, which a text does not tell all of."""
    try:
        given = dict(gallery.trajectories.get(str(branch["trajectory"])).request)
    except UnknownTrajectory:
        raise CannotVerify(NO_PARENT) from None
    given.pop("branch", None)
    parent = GenerationRequest.parse(given)
    return {name: getattr(parent, name) for name in LOCKED}


def _branched(request: GenerationRequest, gallery: Gallery) -> None:
    """Sees to it that the steps which a branch takes over are there."""
    branch = request.branch
    if branch is None:
        return
    if not gallery.trajectories.exists(branch.trajectory):
        raise CannotVerify(NO_PARENT)
    there = gallery.trajectories.steps(branch.trajectory)
    if there < branch.step:
        raise CannotVerify(
            f"This picture left another run after {branch.step} steps, of whose film {there} are there."
        )


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


def _shown(request: GenerationRequest) -> Iterator[tuple[str, str]]:
    """(what it is, its key) of the stored pictures that a request needs."""
    told = [("The picture that this one was made from", request.image), ("The mask", request.mask_image)]
    for number, unit in enumerate(request.controls, 1):
        if unit.map_image:
            told.append((f"The map of control unit {number}", unit.map_image))
        elif not unit.pose:
            told.append((f"The picture of control unit {number}", unit.image))
    if request.branch:
        told.append(("What was painted where this picture branched off", request.branch.painted))
        told.append(("What it was painted on", request.branch.painted_on))
    yield from ((what, key) for what, key in told if key)


def _stored(what: str, key: str, gallery: Gallery) -> None:
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
            f"{what} is no longer kept here: what a run is shown stays for {KEPT_DAYS} days after its use."
        ) from None
