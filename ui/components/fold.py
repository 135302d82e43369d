"""A heading that folds what follows it away, with a word on what is set inside while it is folded.

Unlike gr.Accordion it keeps what is inside in the page, where sentences and dropped files find it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import gradio as gr

from ui.components.base import Scripted, script


@contextmanager
def fold(title: str, elem_id: str, elem_classes: Sequence[str] = ()) -> Iterator[Scripted]:
    """A folded part of the form. Yields its heading, whose value is {"title", "word"}."""
    with gr.Column(elem_id=elem_id, elem_classes=["fold", "card", *elem_classes]):
        heading = Scripted(
            value={"title": title, "word": ""},
            apply_default_css=False,
            elem_classes=["plain"],
            **script("fold.js"),
        )
        with gr.Column(elem_classes=["folded"]):
            yield heading
