"""The program: starts the engine, serves the page on this machine and ends both on Ctrl+C.

The engine's process is started before gradio is imported, so that both imports run at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import webbrowser
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pipelines
from pipelines.journal_file import DataInUse, JournalUnusable
from pipelines.safety import NoChecker

if TYPE_CHECKING:
    from fastapi import FastAPI

    from pipelines.worker import Worker
    from ui.gallery import Desk
    from ui.models import Stock

ASSETS = Path(__file__).resolve().parent.parent / "assets"
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
QUEUE_REST = 0.02
"""Seconds between two looks of Gradio's queue at whether there is work; its own 1 ms costs 8% of a core."""
EVENTS_BESIDE = 500
"""Events that Gradio follows at the same time, beside one for each job that may wait. What comes beyond that
waits in Gradio's memory, where it is in no journal and its turn is not fair; Gradio's own 40 is meant for
functions that work, ours only listen."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program until it is interrupted; returns the exit status."""
    import launch

    options = launch.parse_options(sys.argv[1:] if argv is None else argv)
    os.environ.pop(launch.AUTH_VARIABLE, None)  # no process that this one starts needs it
    try:
        door = _bound(options.host, options.port)
    except OSError as error:
        print(_port_problem(options.port, error), file=sys.stderr)
        return 1
    with contextlib.closing(door):
        try:
            worker = pipelines.open(
                options.data,
                models=options.models,
                device=options.device,
                dtype=options.dtype,
                process=True,
                films=not options.no_film,
                film_bytes=int(options.film_budget * 1e9),
                safety_checker=options.safety_checker,
                most_waiting=options.queue_limit,
            )
        except (DataInUse, JournalUnusable, NoChecker) as problem:
            print(problem, file=sys.stderr)
            return 1
        with worker:
            return _serve(worker, options, door)


def _serve(worker: Worker, options: Any, door: socket.socket) -> int:
    import uvicorn

    from ui.doors.connections import config

    # Gradio's own folder is shared by all its programs, and what lies in it may be fetched by name.
    os.environ["GRADIO_TEMP_DIR"] = str(options.data.resolve() / "uploads")
    hosts = [*LOCAL_HOSTS]
    if options.listen:
        hosts += list(_own_names())
    app = build(worker, options.data, hosts=hosts, proxies=options.allowed_host, auth=options.auth)
    address = f"http://{'127.0.0.1' if not options.listen else _own_address()}:{options.port}"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(f"Darkroom is open at {address}  (Ctrl+C ends it)", flush=True)
            if options.share:
                shared = await asyncio.to_thread(_shared, options.port)
                app.state.names.add(urlsplit(shared).hostname or "")
                print(f"and, for those who know the password, at {shared}", flush=True)
            if not options.no_browser:
                webbrowser.open(address)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.news.close()  # the pages' streams end; the server would wait for them
            await super().shutdown(sockets)

    server = Server(config(app))
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again once all is closed
        server.run(sockets=[door])
    return 0


def build(
    worker: Worker,
    data: str | Path,
    *,
    hosts: Iterable[str] = LOCAL_HOSTS,
    proxies: Iterable[str] = (),
    auth: tuple[str, str] | None = None,
    stock: Stock | None = None,
    desk: Desk | None = None,
) -> FastAPI:
    """The whole web application over a worker; `data`: its folder; the page may show outputs/ and inputs/.
    stock: what the Models tab shows and fetches, desk: what the gallery is asked; None for the worker's.

    hosts: names under which the page may be asked for. Any other is refused, else a foreign page whose
    name is made to point at this machine could use the program (DNS rebinding). proxies: further ones, under
    which a proxy of the person's own serves the page.
    """
    import gradio as gr
    from fastapi import FastAPI

    from ui import explore, gallery, models, page, queue, web
    from ui.components.base import ASSETS_URL
    from ui.doors.guard import Guard, Names
    from ui.doors.table import FILE_BYTES
    from ui.theme import Darkroom

    stock, desk = stock or models.Stock(worker), desk or gallery.Desk(worker)
    line = queue.QueueView(worker)
    stock.beside += [desk.told, line.told]

    @contextlib.asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        stock.open()
        desk.open()
        yield
        await asyncio.to_thread(stock.close)
        await asyncio.to_thread(desk.close)

    blocks = page.build(worker, stock, line, desk)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=running)
    app.state.news = stock.news
    app.state.names = names = Names([*hosts, *proxies])
    app.add_middleware(
        Guard,
        routes=app.router.routes,
        blocks=blocks,
        names=names,
        proxies=Names(proxies),
        password=auth is not None,
    )
    app.add_middleware(web.Frame)
    for folder in ("css", "js", "fonts", "img"):
        app.mount(f"/{ASSETS_URL}/{folder}", web.Assets(directory=ASSETS / folder))
    models.add_routes(app, stock)
    explore.add_routes(app, worker)
    gallery.add_routes(app, desk)
    queue.add_routes(app, line)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=Darkroom(),
        auth=auth,
        allowed_paths=[str(Path(data).resolve() / folder) for folder in ("outputs", "inputs")],
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        favicon_path=str(ASSETS / "img" / "icon.png"),
        max_file_size=FILE_BYTES,
    )
    blocks._queue.sleep_when_free = QUEUE_REST
    blocks._queue.max_thread_count = worker.queue.room + EVENTS_BESIDE
    return app


def _bound(host: str, port: int) -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform != "win32":  # there it would let two programs share the port
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host, port))
        door.listen(128)
    except OSError:
        door.close()
        raise
    return door


def _port_problem(port: int, error: OSError) -> str:
    return (
        f"Port {port} cannot be used ({error.strerror}): another program, or Darkroom itself, is open there. "
        f"Close that, or take another port: python launch.py --port {port % 65535 + 1}"
    )


def _own_address() -> str:
    """The address under which other machines reach this one; no packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _own_names() -> Iterator[str]:
    name = socket.gethostname().lower()
    yield from (name, f"{name}.local", _own_address())


def _shared(port: int) -> str:
    import secrets

    from gradio.networking import setup_tunnel

    return setup_tunnel("127.0.0.1", port, secrets.token_urlsafe(32), None, None)


if __name__ == "__main__":
    raise SystemExit(main())
