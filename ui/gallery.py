"""The gallery on its way to the page: lists, small pictures, files, and what a person changes there.

Nothing that a client sends is made a path: pictures are named by their ids.
"""

from __future__ import annotations

import datetime
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import anyio
import gradio as gr
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from pipelines import metadata
from pipelines.gallery import importing, search
from pipelines.gallery.asked import CannotVerify
from pipelines.gallery.exporting import zipped
from pipelines.gallery.gallery import Gallery, shown
from pipelines.gallery.importing import Importer
from pipelines.gallery.lineage import Lineage
from pipelines.gallery.marks import named
from pipelines.gallery.places import Row
from pipelines.gallery.search import Question
from pipelines.gallery.verifying import Verifier
from pipelines.metadata import UnreadablePicture
from pipelines.worker import Worker
from ui import feed, store
from ui.client import asker
from ui.components.base import ASSETS_URL, Answer, Asked
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
PATIENCE = 20.0
"""Seconds that a question for a verdict is held before it is answered with "running"."""
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
        self.importer = Importer(self.gallery)
        self.verdicts = feed.Bulletin()
        self.verifier = Verifier(self.gallery, worker, self.verdicts.changed)

    def open(self) -> None:
        self.gallery.open(self.verifier.go_on)

    def close(self) -> None:
        self.news.close()
        self.verdicts.close()
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
        row = self._row(asked)
        text = self.gallery.index.text(row.id)
        lineage = Lineage(self.gallery.data, self.gallery.index, self.gallery.trajectories)
        run = lineage.run(row)
        return {
            **shown(row),
            "prompt": text["prompt"],
            "negative_prompt": text["negative"],
            "parameters": text["text"],
            "pairs": metadata.pairs(text["text"]),
            "note": text["note"],
            "verdict": asdict(verdict) if (verdict := self.gallery.marks.of(row.id).verdict) else None,
            "bytes": row.bytes,
            "path": row.path,
            "url": f"{URL}/file?id={row.id}",
            "run": run.id if run else None,
            "from": [
                {"id": source.id, "what": source.what, "label": source.label, **self._picture(source.key)}
                for source in lineage.made_from(row, run)
            ],
            "into": [{"id": id, "label": label} for id, label in lineage.became(row, run)],
        }

    def _picture(self, key: str) -> dict[str, str]:
        """Where a page finds a picture of the store; empty where it is gone."""
        found = store.picture_of(self.worker.store, key) if key else None
        return {} if found is None else {"url": found["url"]}

    def _row(self, asked: Mapping[str, Any]) -> Row:
        id = asked.get("id")
        row = self.gallery.index.row(search.clean(id)) if isinstance(id, str) else None
        if row is None:
            raise Refused(UNKNOWN, 404)
        return row

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

    def answer_send(self, asked: Mapping[str, Any]) -> Any:
        path = self.gallery.data / self._row(asked).path
        try:
            return store.shown(self.worker.store.put(path))
        except UnreadablePicture as problem:
            raise Refused(str(problem)) from None

    def answer_verify(self, asked: Asked) -> Answer:
        """{"job"} that paints a picture again, or {"problem"}."""
        try:
            return {"job": _tried(lambda asked: self.verifier.start(self._row(asked), asker(asked)), asked)}
        except (CannotVerify, Refused) as problem:
            return {"problem": str(problem)}

    def take(self, data: bytes, asked: Mapping[str, str]) -> Any:
        """Imports a file: its bytes, and what its address tells of it."""
        modified = search.whole(asked.get("modified"), 0, int((time.time() + 86_400) * 1000)) / 1000
        name, board = (search.clean(asked.get(key, ""))[:1000] for key in ("name", "board"))
        try:
            found = self.importer.take(data, name, named(board), modified or None)
        except UnreadablePicture as problem:
            return {"id": None, "known": False, "problem": str(problem)}
        return {"id": found.id, "known": found.known, "restored": found.restored}


def build(page: Page) -> None:
    """Lays the tab's part out; what a hand chooses there is wired in ui.ask."""
    with gr.Column(elem_classes=["pane", "in-gallery"]):
        page.gallery = gallery_view("gallery", URL, page.desk.answer_verify)


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

    async def verified(request: Request) -> Response:
        job = request.query_params.get("job", "")
        verdict = desk.verifier.verdict(job)
        with anyio.move_on_after(PATIENCE):
            async for _ in desk.verdicts.editions():
                if (verdict := desk.verifier.verdict(job)).state != "running":
                    break
        return JSONResponse(asdict(verdict))

    async def export(request: Request) -> Response:
        try:
            ids = _ids(await _given(request))
        except Refused as problem:
            return _problem(problem)
        name = f"darkroom-{datetime.date.today().isoformat()}.zip"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return StreamingResponse(zipped(desk.gallery, ids), media_type="application/zip", headers=headers)

    async def take(request: Request) -> Response:
        try:
            data = await body(request, importing.MOST_BYTES)
        except Refused as problem:
            return _problem(problem)
        return await answered(lambda asked: desk.take(data, asked), dict(request.query_params))

    for name, look in (("thumb", thumb), ("file", file), ("verified", verified)):
        app.add_route(f"/{URL}/{name}", feed.guarded(app, look))
    for name, hand in (("export", export), ("import", take)):
        app.add_route(f"/{URL}/{name}", feed.guarded(app, hand), methods=["POST"])
    for name in ("list", "ids", "facets", "entry"):
        app.add_route(f"/{URL}/{name}", feed.guarded(app, _asking(getattr(desk, f"answer_{name}"))))
    for name in ("change", "boards", "empty_trash", "send"):
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
            values = await _given(request)
        except Refused as problem:
            return _problem(problem)
        return await answered(answer, values)

    return told


async def _given(request: Request) -> dict[str, Any]:
    """A question's values: a JSON object, or a form whose "ids" are parted by commas. Raises `Refused`."""
    given = await body(request, MOST_ASKED)
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        told = parse_qs(given.decode("ascii", "replace"))
        return {"ids": [id for part in told.get("ids", []) for id in part.split(",") if id]}
    try:
        values = json.loads(given or b"{}")
    except (ValueError, RecursionError):
        raise Refused("The question is no JSON.") from None
    if not isinstance(values, dict):
        raise Refused("The question is no JSON object.")
    return values


async def answered(answer: Callable[[Any], Any], asked: Any) -> Response:
    """What `answer` gives, on a thread of its own; what goes wrong as a sentence."""
    try:
        return JSONResponse(await anyio.to_thread.run_sync(_tried, answer, asked))
    except Refused as problem:
        return _problem(problem)


def _tried(answer: Callable[[Any], Any], asked: Any) -> Any:
    """What `answer` gives. Raises `Refused` for what goes wrong."""
    try:
        return answer(asked)
    except sqlite3.Error as problem:
        raise Refused(f"The gallery's index cannot answer ({problem}): try it once more.", 503) from None
    except OSError as problem:
        name = Path(problem.filename).name if isinstance(problem.filename, str) else "A file"
        raise Refused(f"{name} could not be written or moved: {problem.strerror or problem}.", 507) from None


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
