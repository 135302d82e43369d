"""A page of a few of the program's components, served for a test: its styles, scripts and frame alone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI

from ui import web
from ui.app import ASSETS
from ui.components.base import ASSETS_URL
from ui.theme import Darkroom


@contextmanager
def served(blocks: gr.Blocks) -> Iterator[str]:
    """The address at which `blocks` stand while the block of the `with` runs."""
    app = FastAPI()
    app.add_middleware(web.Frame)
    for folder in ("css", "js", "fonts", "img"):
        app.mount(f"/{ASSETS_URL}/{folder}", web.Assets(directory=ASSETS / folder))
    gr.mount_gradio_app(app, blocks, path="/", theme=Darkroom(), footer_links=[], run_history=False)
    door = socket.create_server(("127.0.0.1", 0))
    up = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[Any] | None = None) -> None:
            await super().startup(sockets)
            up.set()

    server = Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    assert up.wait(60)
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
