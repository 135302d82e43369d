"""Generation parameters out of a picture or a text, into the form."""

from __future__ import annotations
from typing import Any
import gradio as gr
from gradio.components import Component
from ui.form import Form


def read_parameters(form: Form, note: Component, path: Any = None, text: Any = None) -> dict[Component, Any]:
    return {note: "not yet"}
