"""Generation parameters out of a picture or a text, into the form.

What this program cannot do (a sampler it lacks, a size it refuses) is left out of the form and said so; the
model is never switched.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import metadata, schedulers
from pipelines.lora import adapters
from pipelines.request import GenerationRequest, InvalidRequest
from ui.form import sound
from ui.tabs import SIDES

if TYPE_CHECKING:
    from pipelines.library.models import ModelLibrary

NOTHING = (
    "This picture carries no generation parameters. Editors and messengers often take them out; "
    "the file as it was first saved still has them."
)
GONE = (
    '<p class="problem" role="alert">The picture that it began with is not kept any more: drop it into the '
    "painter, if you have it elsewhere.</p>"
)
MASK_GONE = (
    '<p class="problem" role="alert">The mask that it was painted with is not kept any more: paint over what '
    "is to change.</p>"
)
NO_TEXT = (
    "There are no parameters in this text. It needs a line such as “Steps: 20, Sampler: Euler, Seed: 1”."
)


def from_file(path: str, library: ModelLibrary) -> tuple[dict[str, Any], str]:
    """The settings that a picture carries, and a sentence about them as HTML."""
    try:
        found = metadata.read_fields(Path(path))
    except (metadata.UnreadablePicture, OSError) as problem:
        return {}, _trouble(str(problem))
    if not found:
        return {}, _trouble(NOTHING)
    return _taken(found, found.get("source") or "this picture", library)


def from_text(text: Any, library: ModelLibrary) -> tuple[dict[str, Any], str]:
    """The settings that a generation text tells, and a sentence about them as HTML."""
    found = metadata.parse(str(text or ""))
    if not found.get("extras") and "num_inference_steps" not in found:
        return {}, _trouble(NO_TEXT)
    return _taken(found, "the text", library)


def painting(text: Any) -> tuple[str, dict[str, Any]] | None:
    """The painter with which a run of this text began, and its value: keys of pictures in the store; None for
    a run that began with noise."""
    found = metadata.parse(str(text or ""))
    told: Mapping[str, str] = found.get("extras", {})
    if not told.get("Init image hash"):
        return None
    extend = {side: found.get(f"extend_{side}", 0) for side in SIDES}
    mask = told.get("Mask hash")
    painter = "mask" if mask or any(extend.values()) else "sketch"
    return painter, {"image": told["Init image hash"], "mask": mask, "extend": extend}


def _taken(found: Mapping[str, Any], source: str, library: ModelLibrary) -> tuple[dict[str, Any], str]:
    found, notes = adapters.known(found, library)
    given = {
        name: found[name] for name in GenerationRequest.model_fields if name in found and name != "model"
    }
    kept = sound(given)
    try:
        schedulers.check(kept.get("scheduler", "Euler"), kept.get("schedule", "Automatic"))
    except InvalidRequest as problem:
        kept = {name: value for name, value in kept.items() if name not in problem.problems}
    titles = {name: (GenerationRequest.model_fields[name].title or name) for name in given}
    left = [f"{titles[name]} {str(given[name])[:40]}" for name in given if name not in kept]
    sentence = f"Taken from {escape(source[:60])}: {len(kept)} settings."
    if left:
        sentence += f" Left as it was, since Darkroom has none such: {escape(', '.join(left))}."
    sentence += "".join(f" {escape(note)}" for note in notes)
    return kept, f'<p role="status">{sentence}</p>'


def _trouble(sentence: str) -> str:
    return f'<p class="problem" role="alert">{escape(sentence)}</p>'
