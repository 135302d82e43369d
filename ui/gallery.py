"""The gallery on its way to the page: lists, small pictures, files, and what a person changes there.

Nothing that a client sends is made a path: pictures are named by their ids.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import gradio as gr
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from pipelines import metadata
from pipelines.gallery import search
from pipelines.gallery.gallery import Gallery, shown
from pipelines.gallery.marks import named
from pipelines.gallery.search import Question
from pipelines.worker import Worker
from ui import feed
from ui.components.base import ASSETS_URL
from ui.components.gallery import gallery_view

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ui.page import Page

URL = f"{ASSETS_URL}/gallery"
"""Where the tab's own routes are, relative to the page."""

FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
MOST_LISTED = 500
MOST_ASKED = 8 << 20
"""Bytes of a question; the ids of 100,000 pictures are 3.6 MB."""
UNKNOWN = "This picture is not in the gallery any more: it was moved out of the folder, or deleted."


class Refused(ValueError):
    """A question that cannot be answered: a sentence, and the status of the answer."""

    def __init__(self, sentence: str, status: int = 400):
        super().__init__(sentence)
        self.status = status


class Desk:
    """What the tab is answered and told. A page's server has one; `open` begins to watch, `close` ends it."""

    def __init__(self, worker: Worker):
        self.worker, self.news = worker, feed.Bulletin()
        data = worker.store.root.parent
        self.gallery = Gallery(data, worker.store, worker.trajectories, self.news.changed)

    def open(self) -> None:
        self.gallery.open()

    def close(self) -> None:
        self.news.close()
        self.gallery.close()

    async def told(self) -> AsyncIterator[feed.Told]:
        """What a page is told without asking: {"gallery": edition}."""
        async for edition in self.news.editions():
            yield {"gallery": edition}

    # What the page asks

    def answer_list(self, asked: Mapping[str, str]) -> Any:
        limit = search.whole(asked.get("limit", "200"), 1, MOST_LISTED)
        edition = self.news.edition
        found = self.gallery.page(
            Question.of(asked), search.whole(asked.get("offset"), 0, 10**9), limit, asked.get("at", "")
        )
        indexing = self.gallery.indexing
        answer = {
            "total": found["total"],
            "edition": edition,
            "entries": [shown(row) for row in found["rows"]],
            "indexing": asdict(indexing) if indexing else None,
            "notes": self.gallery.notes(),
        }
        return {**answer, "at": found["at"]} if "at" in asked else answer

    def answer_ids(self, asked: Mapping[str, str]) -> Any:
        edition, ids = self.news.edition, self.gallery.index.ids(Question.of(asked))
        return {"total": len(ids), "edition": edition, "ids": ids}

    def answer_facets(self, asked: Mapping[str, str]) -> Any:
        told = self.gallery.facets()
        plural = {name: f"{name}s" for name in ("task", "model", "lora", "sampler", "board", "month")}
        return {plural.get(name, name): value for name, value in told.items()}

    def answer_entry(self, asked: Mapping[str, str]) -> Any:
        id = asked.get("id", "")
        row = self.gallery.index.row(id)
        if row is None:
            raise Refused(UNKNOWN, 404)
        text = self.gallery.index.text(id)
        return {
            **shown(row),
            "prompt": text["prompt"],
            "negative_prompt": text["negative"],
            "parameters": text["text"],
            "pairs": metadata.pairs(text["text"]),
            "note": text["note"],
            "bytes": row.bytes,
            "path": row.path,
            "url": f"{URL}/file?id={id}",
        }

    def answer_change(self, asked: Mapping[str, Any]) -> Any:
        ids, gallery = _ids(asked), self.gallery
        star, board, note, trash = (asked.get(name) for name in ("star", "board", "note", "trash"))
        for name, value, kind in (("star", star, bool), ("board", board, str), ("note", note, str)):
            if value is not None and not isinstance(value, kind):
                raise Refused(f"“{name}” cannot be {str(value)[:40]!r}.")
        changed = 0
        if star is not None or note is not None or "board" in asked:
            board = (board or "") if "board" in asked else None
            changed = gallery.mark(ids, star=star, board=board, note=note)
        if isinstance(trash, bool):
            changed = gallery.trash(ids) if trash else gallery.restore(ids)
        return {"changed": changed, "edition": self.news.edition}

    def answer_boards(self, asked: Mapping[str, Any]) -> Any:
        deed, name, to = (asked.get(key) for key in ("op", "name", "to"))
        if not isinstance(name, str) or not named(name):
            raise Refused("A board needs a name.")
        if deed == "create":
            self.gallery.create_board(name)
        elif deed == "delete":
            self.gallery.delete_board(name)
        elif deed == "rename" and isinstance(to, str) and named(to):
            self.gallery.rename_board(name, to)
        else:
            raise Refused("A board can be created, renamed (to a name) or deleted.")
        return {"boards": self.gallery.marks.boards, "edition": self.news.edition}

    def answer_empty_trash(self, asked: Mapping[str, Any]) -> Any:
        return {"deleted": self.gallery.empty_trash(), "edition": self.news.edition}


def build(page: Page) -> None:
    """Lays the tab's part out; what a hand chooses there is wired in ui.ask."""
    with gr.Column(elem_classes=["pane", "in-gallery"]):
        page.gallery = gallery_view("gallery", URL)


def add_routes(app: FastAPI, desk: Desk) -> None:
    """Adds the tab's own routes; before Gradio, which takes all the rest."""

    async def thumb(request: Request) -> Response:
        id = request.query_params.get("id", "")
        small = await anyio.to_thread.run_sync(desk.gallery.thumbnail, id)
        if small is None:
            return Response(status_code=404)
        return Response(small, media_type="image/webp", headers=FOREVER)

    async def file(request: Request) -> Response:
        path = await anyio.to_thread.run_sync(desk.gallery.file, request.query_params.get("id", ""))
        if path is None or not path.is_file():
            return Response(status_code=404)
        return FileResponse(path, headers=FOREVER)

    for name, look in (("thumb", thumb), ("file", file)):
        app.add_route(f"/{URL}/{name}", feed.guarded(app, look))
    for name in ("list", "ids", "facets", "entry"):
        app.add_route(f"/{URL}/{name}", feed.guarded(app, _asking(getattr(desk, f"answer_{name}"))))
    for name in ("change", "boards", "empty_trash"):
        app.add_route(
            f"/{URL}/{name}", feed.guarded(app, _telling(getattr(desk, f"answer_{name}"))), methods=["POST"]
        )


def _asking(answer: Callable[[Mapping[str, str]], Any]) -> Callable[[Request], Awaitable[Response]]:
    async def asked(request: Request) -> Response:
        return await answered(answer, dict(request.query_params))

    return asked


def _telling(answer: Callable[[Mapping[str, Any]], Any]) -> Callable[[Request], Awaitable[Response]]:
    async def told(request: Request) -> Response:
        try:
            given = await body(request, MOST_ASKED)
            values = json.loads(given or b"{}")
        except Refused as problem:
            return _problem(problem)
        except (ValueError, RecursionError):
            return _problem(Refused("The question is no JSON."))
        if not isinstance(values, dict):
            return _problem(Refused("The question is no JSON object."))
        return await answered(answer, values)

    return told


async def answered(answer: Callable[[Any], Any], asked: Any) -> Response:
    """What `answer` gives, on a thread of its own; what goes wrong as a sentence."""
    try:
        return JSONResponse(await anyio.to_thread.run_sync(answer, asked))
    except Refused as problem:
        return _problem(problem)
    except OSError as problem:
        name = Path(problem.filename).name if isinstance(problem.filename, str) else "A file"
        return _problem(Refused(f"{name} could not be written or moved: {problem.strerror or problem}.", 507))


async def body(request: Request, most: int) -> bytes:
    """A question's bytes. Raises `Refused` for more than `most`, without reading further."""
    given = bytearray()
    async for part in request.stream():
        given += part
        if len(given) > most:
            raise Refused(f"That is too large: {most >> 20} MB are the most.", 413)
    return bytes(given)


def _problem(problem: Refused) -> Response:
    return JSONResponse({"problem": str(problem)}, status_code=problem.status)


def _ids(asked: Mapping[str, Any]) -> list[str]:
    ids = asked.get("ids")
    if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
        raise Refused("“ids” must be a list of pictures' ids.")
    return [search.clean(id) for id in ids]
