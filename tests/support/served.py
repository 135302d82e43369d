"""The running program for tests: its web application over a worker, on a free port of this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi.testclient import TestClient

from pipelines.worker import Worker
from ui.doors.connections import config


def asked_of_page(client: TestClient, name: str, data: dict[str, Any], session: str = "one") -> Any:
    """The answer of a component's function, asked as the page asks it."""
    (mount,) = [route for route in client.app.routes if getattr(route, "path", None) == ""]  # type: ignore[attr-defined]
    blocks = mount.app.get_blocks().blocks
    (number,) = [at for at, block in blocks.items() if hasattr(getattr(block, name, None), "_is_server_fn")]
    question = {"session_hash": session, "component_id": number, "fn_name": name, "data": data}
    return client.post("/gradio_api/component_server", json=question).json()


@contextmanager
def served(worker: Worker, data: Path, **options: Any) -> Iterator[str]:
    """The address of the page over `worker`. options: as for `ui.app.build`."""
    from ui.app import build

    with serving(build(worker, data, **options)) as address:
        yield address


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The address of a web application, served while the block runs."""
    door = socket.create_server(("127.0.0.1", 0))
    up = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            up.set()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            if (news := getattr(app.state, "news", None)) is not None:
                news.close()
            await super().shutdown(sockets)

    server = Server(config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    if not up.wait(60):
        raise TimeoutError("the page was not served within a minute")
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
