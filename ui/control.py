"""The Control tab's own part: the control units, and what they ask of the engine."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr
from pydantic import ValidationError

from pipelines.controlnet import control, poses
from pipelines.library.models import ModelSpec
from pipelines.request import ControlUnit, GenerationRequest, InvalidRequest, limits
from ui import store
from ui.components.units import control_units, examples

if TYPE_CHECKING:
    from ui.page import Page

NOT_UP = {"problem": "The engine is still starting; the map follows as soon as it is up."}


def build(page: Page) -> None:
    """Lays the units out; they count in every tab while they are on."""
    with gr.Column(elem_classes=["pane", "in-control"]):
        page.units = control_units(
            keep=lambda asked: store.keep(page.worker.store, asked),
            draw_map=lambda asked: draw_map(page, asked),
            read_pose=read_pose,
            detect_pose=lambda asked: detect_pose(page, asked),
            picture_url=lambda key: store.picture_of(page.worker.store, key),
            elem_id="ask-controls",
            value={"examples": [*examples(), *_edges_example(page)]},
        )


def _edges_example(page: Page) -> list[dict[str, Any]]:
    """Edges of the last of the pictures that come with the program."""
    return [
        {
            "title": "Edges of a drawing",
            "unit": {
                "kind": "edges",
                "preprocessor": "canny",
                "image": picture["key"],
                "shown": {"image": picture, "map": None},
            },
        }
        for picture in page.examples[-1:]
    ]


def networks(page: Page, model: ModelSpec | None) -> list[dict[str, Any]]:
    """Every ControlNet for the panel, with a sentence where it does not fit the model."""
    rows = []
    for spec in page.worker.controls.list():
        unfit = ""
        if model is not None:
            try:
                control.matches(spec, model)
            except InvalidRequest as problem:
                unfit = str(problem)
        rows.append(
            {
                "key": spec.key,
                "title": spec.title,
                "summary": spec.summary,
                "family": spec.family,
                "suits": list(spec.suits),
                "unfit": unfit,
            }
        )
    return sorted(rows, key=lambda row: bool(row["unfit"]))


def draw_map(page: Page, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The map that a unit makes: {"unit", "width", "height"} -> {"url"} or {"problem"}."""
    try:
        unit = ControlUnit(**{**asked["unit"], "model": asked["unit"].get("model") or "any"})
        drawn = page.worker.control_map(unit, _side(asked.get("width")), _side(asked.get("height")))
    except InvalidRequest as problem:
        return {"problem": str(problem)}
    except (ValidationError, TypeError, KeyError, AttributeError):
        return {"problem": "This unit's settings make no map yet: give it a picture, a map or a pose."}
    return {"url": f"data:image/png;base64,{base64.b64encode(drawn).decode()}"} if drawn else dict(NOT_UP)


def read_pose(asked: Mapping[str, Any]) -> dict[str, Any]:
    """People out of OpenPose JSON: {"text", "width", "height"} -> {"people"} or {"problem"}."""
    try:
        people = poses.parse(
            str(asked.get("text", "")), _side(asked.get("width")), _side(asked.get("height"))
        )
    except poses.InvalidPose as problem:
        return {"problem": str(problem)}
    return {"people": people}


def detect_pose(page: Page, asked: Mapping[str, Any]) -> dict[str, Any]:
    """People in a stored picture: {"key"} -> {"people"} or {"problem"}."""
    try:
        people = page.worker.detect_pose(str(asked.get("key", "")))
    except InvalidRequest as problem:
        return {"problem": str(problem)}
    if people is None:
        return dict(NOT_UP)
    return {"people": people} if people else {"problem": "No person was found in this picture."}


def _side(value: Any) -> int:
    """A side of a map in pixels, brought into what a request may have."""
    low, high, _ = limits(GenerationRequest.model_fields["width"])
    return int(min(high, max(low, value))) if isinstance(value, int | float) else 512
