"""The painter in a real headless Chromium: real pointer, touch and key events, and the masks that arrive.

What a stroke should have painted is worked out here from its geometry, pixel by pixel.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import Response
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from ui import web
from ui.app import ASSETS
from ui.components.base import ASSETS_URL
from ui.components.painter import painter
from ui.theme import Darkroom

pytestmark = pytest.mark.browser

CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
WAIT = 60_000
Point = tuple[float, float]
Mask = np.ndarray[Any, np.dtype[np.uint8]]


class Shelf:
    """What the page has sent, by key; the newest last."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.problem = ""
        self._count = itertools.count(1)

    def put(self, data: bytes) -> dict[str, Any]:
        key = f"k{next(self._count)}"
        self.files[key] = data
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
        return {"key": key, "width": width, "height": height, "url": f"kept/{key}"}

    def keep(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self.problem:
            return {"problem": self.problem}
        return self.put(Path(asked["path"]).read_bytes())

    def image(self, key: str) -> Image.Image:
        return Image.open(io.BytesIO(self.files[key]))


@contextmanager
def served(shelf: Shelf) -> Iterator[str]:
    """The address of a page with a painter of each kind, each on its own tab, and what they told below."""
    with gr.Blocks() as blocks:
        told = gr.Textbox(elem_id="told", label="told")
        for mode, extendable in (("mask", True), ("sketch", False), ("map", False)):
            with gr.Tab(mode):
                part = painter(shelf.keep, mode, mode, extendable)  # type: ignore[arg-type]
                part.painted(json.dumps, part, told)
    app = FastAPI()
    app.add_middleware(web.Frame)
    for folder in ("css", "js", "fonts", "img"):
        app.mount(f"/{ASSETS_URL}/{folder}", web.Assets(directory=ASSETS / folder))
    app.get("/kept/{key}")(lambda key: Response(shelf.files[key], media_type="image/png"))
    head = f'<link rel="stylesheet" href="{ASSETS_URL}/css/painter.css">'
    gr.mount_gradio_app(app, blocks, path="/", theme=Darkroom(), head=head, run_history=False, ssr_mode=False)
    door = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
