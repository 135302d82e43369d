"""A page of a few of the program's components, served for a test: its styles, scripts and frame alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr
from fastapi import FastAPI

from tests.support.served import serving
from ui import web
from ui.app import ASSETS
from ui.components.base import ASSETS_URL
from ui.theme import Darkroom


def framed() -> FastAPI:
    """An application with the program's frame, styles and scripts, still without a page."""
    app = FastAPI()
    app.add_middleware(web.Frame)
    for folder in ("css", "js", "fonts", "img"):
        app.mount(f"/{ASSETS_URL}/{folder}", web.Assets(directory=ASSETS / folder))
    return app


def with_page(app: FastAPI, blocks: gr.Blocks) -> FastAPI:
    """The application with `blocks` as its page; comes last, the page takes every address that is left."""
    return gr.mount_gradio_app(app, blocks, path="/", theme=Darkroom(), footer_links=[], run_history=False)


@contextmanager
def served(blocks: gr.Blocks) -> Iterator[str]:
    """The address at which `blocks` stand while the block of the `with` runs."""
    with serving(with_page(framed(), blocks)) as address:
        yield address
