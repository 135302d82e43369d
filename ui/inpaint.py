"""The Inpaint tab's own part: the painter in which a mask is painted and borders are dragged outwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from ui import store
from ui.components.painter import painter

if TYPE_CHECKING:
    from ui.page import Page


def build(page: Page) -> None:
    """Lays the painter out; the mask's settings are in the form (ui.ask)."""
    with gr.Column(elem_classes=["pane", "in-inpaint"]):
        page.shown["mask"] = painter(
            lambda asked: store.keep(page.worker.store, asked),
            "inpaint-image",
            "mask",
            extendable=True,
            examples=page.examples,
        )
