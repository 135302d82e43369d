"""The form: components made from the request's fields, under the request's own names.

Components here hand on what the page sent as it is. Gradio's would round it, turn it into text or refuse it
with a sentence of their own, and then the request could no longer say what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from pipelines.request import GenerationRequest, InvalidRequest, limits
from ui.components.base import WithoutStub

Form = dict[str, Component]
"""Field name of the request -> the component that shows it."""


class _AsGiven(metaclass=WithoutStub):
    EVENTS: list[Any] = []

    def preprocess(self, payload: Any) -> Any:
        return payload

    def get_block_name(self) -> str:
        """Name of gradio's own class: it says which of the page's parts draws the component."""
        return next(
            kind.__name__.lower() for kind in type(self).__mro__ if kind.__module__.startswith("gradio.")
        )


class Text(_AsGiven, gr.Textbox):
    """A text, handed on as given."""


class Number(_AsGiven, gr.Number):
    """A number, handed on as given: limits are the request's to check."""


class Slider(_AsGiven, gr.Slider):
    """A number with a handle."""


class Choice(_AsGiven, gr.Dropdown):
    """One of a list; what is not in the list is refused where the list is kept, in the engine."""


class Switch(_AsGiven, gr.Checkbox):
    """On or off."""


class Seed(_AsGiven, gr.Textbox):
    """A seed; empty stands for -1, "pick one". (A gr.Number cannot be empty: the page makes it 0.)"""

    def preprocess(self, payload: Any) -> Any:
        return -1 if payload in (None, "") else payload

    def postprocess(self, value: Any) -> Any:
        return "" if value in (None, -1) else str(value)


def field(kind: type[Component], name: str, tab: str, **options: Any) -> Component:
    """A component of that kind for a request's field: its title, hint, limits and default are the field's."""
    described = GenerationRequest.model_fields[name]
    low, high, step = limits(described)
    if issubclass(kind, Slider):
        options = {"minimum": low, "maximum": high, "step": step, "buttons": [], **options}
    if not described.is_required():
        options.setdefault("value", described.default)
    options.setdefault("label", described.title)
    options.setdefault("info", described.description)
    classes = ["field", *options.pop("elem_classes", [])]
    return kind(elem_id=f"{tab}-{name}", elem_classes=classes, **options)


def sound(values: Any) -> dict[str, Any]:
    """What of `values` makes a request: unknown names and bad values are left out, the prompt may be empty.

    For settings that come from elsewhere (a browser's store, a picture), where the rest is still of use.
    """
    if not isinstance(values, Mapping):
        return {}
    kept = {name: value for name, value in values.items() if name in GenerationRequest.model_fields}
    prompt = kept.pop("prompt", None)
    try:
        GenerationRequest.parse({"prompt": "any", **kept})
    except InvalidRequest as problem:
        kept = {name: value for name, value in kept.items() if name not in problem.problems}
    if isinstance(prompt, str):
        kept["prompt"] = prompt
    return kept


def filled(form: Form, values: Mapping[str, Any]) -> dict[Component, Any]:
    """The update that puts `values` into the form; fields that are not named stay as they are."""
    return {form[name]: form[name].postprocess(value) for name, value in values.items() if name in form}
