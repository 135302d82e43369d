"""The Image tab's own part: the picture to begin with, which can be sketched on, and the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from ui import store
from ui.components.painter import painter

if TYPE_CHECKING:
    from ui.page import Page


def build(page: Page) -> None:
    """Lays the picture out; strength and shape are in the form (ui.ask)."""
    with gr.Column(elem_classes=["pane", "in-image"]):
        page.shown["sketch"] = painter(
            lambda asked: store.keep(page.worker.store, asked), "image-image", "sketch"
        )
