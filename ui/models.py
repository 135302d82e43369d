"""The Models tab's own part: what is on this computer, what can be fetched, and who may see it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import anyio
import gradio as gr
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response

from pipelines.events import PictureDone
from pipelines.fetch.fetching import Fetcher
from pipelines.fetch.problems import FetchProblem
from pipelines.library.shelf import MODELS, Card, Shelf
from pipelines.library.watching import Watcher
from pipelines.request import InvalidRequest
from pipelines.worker import UnknownJob, Worker
from ui import feed, store
from ui.components.base import ASSETS_URL, Answer, Asked
from ui.components.models import ASKS, model_shelf

if TYPE_CHECKING:
    from fastapi import FastAPI

    from pipelines.library.models import ModelSpec
    from ui.page import Page

URL = f"{ASSETS_URL}/models"
"""Where the tab's own routes are, relative to the page."""

LAYOUT = (
    ("checkpoints", "whole models: .safetensors files, or diffusers folders"),
    ("loras", "LoRAs of any format: diffusers, kohya, LyCORIS"),
    ("controlnets", "ControlNets and T2I-Adapters"),
    ("vae, text_encoders", "parts that take the place of a model's own"),
    ("embeddings", "textual inversions, used by their names"),
    ("upscalers", "ESRGAN and its kin"),
)
"""What the empty shelf says of the folders, in the order in which people need them."""

SIDE = 384
"""Pixels of a thumbnail's longer side."""


def build(page: Page) -> None:
    """Lays the tab's part out; what a hand chooses there is wired in ui.ask."""
    first = page.spec()
    with gr.Column(elem_classes=["pane", "in-models"]):
        page.shelf = model_shelf(
            page.stock.answers(), "models", f"{URL}/feed", page.stock.news.edition, first.key if first else ""
        )


def add_routes(app: FastAPI, stock: Stock) -> None:
    """Adds the stream of what a page is told, and the thumbnails; before Gradio, which takes all the rest."""

    async def told(request: Request) -> Response:
        return feed.stream(stock.told())

    async def picture(request: Request) -> Response:
        asked = request.query_params
        small = await anyio.to_thread.run_sync(stock.thumbnail, asked.get("sort", ""), asked.get("key", ""))
        if small is None:
            return Response(status_code=404)
        # The address changes with the picture (v), so that a browser need never ask twice.
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(small, media_type="image/jpeg", headers=headers)

    app.add_route(f"/{URL}/feed", feed.guarded(app, told))
    app.add_route(f"/{URL}/picture", feed.guarded(app, picture))


def _sentences(answer: Callable[..., Answer]) -> Callable[..., Answer]:
    """The answer with {"problem": sentence} in the place of what a person can act upon."""

    @wraps(answer)
    def told(*given: Any) -> Answer:
        try:
            return answer(*given)
        except InvalidRequest as problem:
            return {"problem": str(problem)}
        except FetchProblem as problem:
            return {"problem": str(problem), "wants_token": problem.wants_token}
        except OSError as problem:
            name = Path(problem.filename).name if isinstance(problem.filename, str) else "A file"
            return {"problem": f"{name}: {problem.strerror or problem}."}

    return told


class Stock:
    """What the tab is answered and told. A page's server has one; `open` begins to watch, `close` ends it.

    What is fetched goes into the first of the models folders. fetching: options of the `Fetcher`, for a hub
    of one's own.
    """

    def __init__(self, worker: Worker, **fetching: Any):
        self.worker = worker
        self.news = feed.Bulletin()
        data = worker.store.root.parent
        self.folder = worker.library.folders[0] if worker.library.folders else data / "models"
        self.shelf = Shelf(worker.library, data)
        options = {"cache": worker.library.hub_cache, **fetching}
        self.fetcher = Fetcher(self.folder, data, on_done=lambda state: self.news.changed(), **options)
        self.watcher = Watcher(worker.library, self.news.changed)
        self.beside: list[Callable[[], AsyncIterator[feed.Told]]] = []
        """What else is told in the same stream: a browser opens six connections to a server at most."""
        self._pictures: dict[str, Path] = {}
        self._models: tuple[str, list[ModelSpec]] = ("", [])

    def models(self) -> list[ModelSpec]:
        """Every model as the header lists them: the embedded ones, favourites, then by title."""
        edition, models = self._models
        if edition != self.news.edition:
            edition, models = self.news.edition, self.worker.models()
            self._models = (edition, models)
        liked = {key for sort, key in self.shelf.favourites() if sort in MODELS}
        return sorted(models, key=lambda one: (one.source != "embedded", one.key not in liked))

    def open(self) -> None:
        """Watches the folders."""
        self.watcher.start()

    def close(self) -> None:
        """Ends what `open` began and lets the pages go that listen."""
        self.news.close()
        self.watcher.close()
        self.fetcher.close()

    def answers(self) -> dict[str, Callable[[Asked], Answer]]:
        """A function for each of `ui.components.models.ASKS`."""
        return {name: getattr(self, f"answer_{name}") for name in ASKS}

    async def told(self) -> AsyncIterator[feed.Told]:
        """What a page is told without asking: {"library": edition}, {"fetches": states}, and `beside`."""

        async def library() -> AsyncIterator[feed.Told]:
            async for edition in self.news.editions():
                yield {"library": edition}

        async def fetches() -> AsyncIterator[feed.Told]:
            async for states in self.fetcher.watch():
                yield {"fetches": [asdict(state) for state in states]}

        async for message in feed.merged(library(), fetches(), *(source() for source in self.beside)):
            yield message

    def thumbnail(self, sort: str, key: str) -> bytes | None:
        """A card's picture as a small JPEG; None where it has none. Only what the shelf was asked for last is
        known here: nothing that a client sends is made a path."""
        path = self._pictures.get(f"{sort}/{key}")
        if path is None:
            return None
        try:
            with Image.open(path) as picture:
                picture.draft("RGB", (SIDE, SIDE))
                small = picture.convert("RGB")
                small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        except (OSError, ValueError, Image.DecompressionBombError):
            return None
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=85)
        return buffer.getvalue()

    # What the page asks

    @_sentences
    def answer_shelf(self, asked: Asked) -> Answer:
        """Every card, as it fits the chosen model."""
        edition = self.news.edition
        chosen = str(asked.get("model", ""))
        model = next((spec for spec in self.worker.models() if spec.key == chosen), None)
        cards = [self._row(card) for card in self.shelf.cards(model)]
        listed = {spec.key for spec in self._models[1]}
        if self._models[0] and listed != {card["key"] for card in cards if card["sort"] in MODELS}:
            self._models = ("", [])  # a change that the system did not tell of
            self.news.changed()
        unusable = [
            {"file": one.path.name, "sentence": one.sentence} for one in self.worker.library.unusable()
        ]
        told = {"unusable": unusable, "where": self._where(), "note": self.watcher.problem}
        return {"cards": cards, "edition": edition, **told}

    @_sentences
    def answer_edit(self, asked: Asked) -> Answer:
        """Keeps a note or a star."""
        change: dict[str, Any] = {}
        if isinstance(asked.get("notes"), str):
            change["notes"] = asked["notes"][:4000]
        if isinstance(asked.get("favourite"), bool):
            change["favourite"] = asked["favourite"]
        return {"card": self._row(self.shelf.edit(*_named(asked), **change))}

    @_sentences
    def answer_picture(self, asked: Asked) -> Answer:
        """Sets a card's picture: an upload's, or one of a finished job; or takes it away."""
        if asked.get("remove"):
            return {"card": self._row(self.shelf.set_picture(*_named(asked), None))}
        if "path" in asked:
            kept = store.keep(self.worker.store, asked)
            if "problem" in kept:
                return kept
            path = self.worker.store.stored(kept["key"]).shown
        else:
            found = self._finished(asked)
            if found is None:
                return {"problem": "This picture's run is forgotten: choose the picture's file instead."}
            path = found
        return {"card": self._row(self.shelf.set_picture(*_named(asked), path))}

    @_sentences
    def answer_hash(self, asked: Asked) -> Answer:
        """Reads a whole file for its hash."""
        return {"hash": self.shelf.hash_of(*_named(asked))}

    @_sentences
    def answer_catalogue(self, asked: Asked) -> Answer:
        """Well-known models."""
        return {"rows": self.fetcher.rows()}

    @_sentences
    def answer_estimate(self, asked: Asked) -> Answer:
        """What fetching something would bring."""
        return asdict(self.fetcher.estimate(_text(asked, "id"), _text(asked, "token")))

    @_sentences
    def answer_start(self, asked: Asked) -> Answer:
        """Begins to fetch something."""
        sort = _text(asked, "sort")
        key = self.fetcher.start(
            _text(asked, "id"),
            _text(asked, "token"),
            remember=asked.get("remember") is True,
            sort="" if sort == "model" else sort,
        )
        return {"key": key}

    @_sentences
    def answer_steer(self, asked: Asked) -> Answer:
        """Pauses, resumes or cancels a fetch."""
        key, deed = _text(asked, "key"), asked.get("deed")
        if deed == "pause":
            self.fetcher.pause(key)
        elif deed == "cancel":
            self.fetcher.cancel(key)
        elif deed == "resume":
            self.fetcher.resume(key, _text(asked, "token"), remember=asked.get("remember") is True)
        return {}

    # How it is done

    def _where(self) -> Answer:
        folders = [str(folder) for folder in (self.folder, *self.worker.library.folders[1:])]
        return {"folders": folders, "layout": [list(line) for line in LAYOUT]}

    def _row(self, card: Card) -> Answer:
        name = f"{card.sort}/{card.key}"
        picture = ""
        if card.picture is not None:
            self._pictures[name] = card.picture
            version = card.picture.stat().st_mtime_ns
            picture = f"{URL}/picture?{urlencode({'sort': card.sort, 'key': card.key, 'v': version})}"
        return {
            "id": name,
            "sort": card.sort,
            "key": card.key,
            "title": card.title,
            "file": card.path.name,
            "folder": str(card.path.parent),
            "family": card.family,
            "variant": card.variant,
            "bytes": card.bytes,
            "dtype": card.dtype,
            "format": card.format,
            "words": list(card.trigger_words),
            "word": card.key.rpartition("/")[2],
            "notes": card.notes,
            "favourite": card.favourite,
            "picture": picture,
            "picture_set": card.picture_set,
            "unfit": card.unfit,
            "hash": card.hash,
            "weight": card.weight,
            "modified": card.modified,
            "own": card.source != "embedded",
        }

    def _finished(self, asked: Mapping[str, Any]) -> Path | None:
        """The file of a finished picture: {"job", "picture"}."""
        try:
            events = self.worker.job(_text(asked, "job")).events
        except UnknownJob:
            return None
        index = asked.get("picture")
        done = (event for event in events if isinstance(event, PictureDone) and event.index == index)
        return next((Path(event.picture.path) for event in done), None)


def _named(asked: Asked) -> tuple[str, str]:
    return _text(asked, "sort"), _text(asked, "key")


def _text(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name)
    return value if isinstance(value, str) else ""
