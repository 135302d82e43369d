"""A small page with the Models tab alone, over plain rows: no library, no hub."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import Response

from tests.support.bench import framed, with_page
from tests.support.served import serving
from ui import feed
from ui.components.models import ASKS, model_shelf

WHERE = {
    "folders": ["/home/ann/darkroom/models"],
    "layout": [
        ["checkpoints", "whole models, as .safetensors files or diffusers folders"],
        ["loras", "LoRAs, of any of the usual formats"],
        ["controlnets, vae, embeddings", "as their names say"],
    ],
}


def row(sort: str, key: str, **changes: Any) -> dict[str, Any]:
    """A card as the page takes it."""
    return {
        "id": f"{sort}/{key}",
        "sort": sort,
        "key": key,
        "title": key.rpartition("/")[2].replace("-", " ").capitalize(),
        "file": f"{key}.safetensors",
        "folder": f"/home/ann/darkroom/models/{sort}s",
        "family": "SDXL",
        "variant": "",
        "bytes": 144_000_000,
        "dtype": "F16",
        "format": "safetensors",
        "words": [],
        "notes": "",
        "favourite": False,
        "picture": "",
        "picture_set": False,
        "unfit": "",
        "hash": "",
        "weight": 1.0,
        "modified": 1_700_000_000.0,
        "own": True,
        **changes,
    }


def known(key: str, **changes: Any) -> dict[str, Any]:
    """A row of the catalogue as the page takes it."""
    return {
        "key": key,
        "id": f"maker/{key}",
        "sort": "model",
        "family": "SDXL",
        "title": key.replace("-", " ").capitalize(),
        "summary": "Good at many things.",
        "licence": "OpenRAIL++",
        "licence_url": "https://example.org/licence",
        "gated": False,
        "bytes": 6_900_000_000,
        "memory": 8_000_000_000,
        "homepage": "https://example.org/model",
        "state": "not there",
        **changes,
    }


def state(key: str, phase: str, **changes: Any) -> dict[str, Any]:
    """How far a download is, as the page takes it."""
    return {
        "key": key,
        "id": f"maker/{key}",
        "title": key.replace("-", " ").capitalize(),
        "sort": "model",
        "phase": phase,
        "done_bytes": 2_100_000_000,
        "total_bytes": 6_900_000_000,
        "speed": 41_000_000.0,
        "seconds_left": 117.0,
        "message": "",
        "wants_token": False,
        **changes,
    }


@dataclass
class Bench:
    """The server's side: what there is, and what it was asked."""

    cards: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    news: feed.Bulletin = field(default_factory=feed.Bulletin)
    fetches: feed.Bulletin = field(default_factory=feed.Bulletin)

    def answer(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((name, asked))
        if name in self.answers:
            return self.answers[name]
        if name == "shelf":
            return {"cards": self.cards, "where": WHERE, "edition": self.news.edition}
        if name == "catalogue":
            return {"rows": self.rows}
        if name in ("edit", "picture"):
            found = next(
                one for one in self.cards if (one["sort"], one["key"]) == (asked["sort"], asked["key"])
            )
            found |= {name: asked[name] for name in ("notes", "favourite") if name in asked}
            return {"card": found}
        if name == "hash":
            return {"hash": "6ce0161689"}
        return {"key": "one"}

    @property
    def listening(self) -> int:
        """How many windows hold a connection."""
        return self.news.listening

    def of(self, name: str) -> list[dict[str, Any]]:
        return [asked for one, asked in self.asked if one == name]

    async def told(self) -> AsyncIterator[dict[str, Any]]:
        async def editions() -> AsyncIterator[dict[str, Any]]:
            async for edition in self.news.editions():
                yield {"library": edition}

        async def fetches() -> AsyncIterator[dict[str, Any]]:
            async for _ in self.fetches.editions():
                yield {"fetches": self.states}

        async for message in feed.merged(editions(), fetches()):
            yield message


def build(bench: Bench) -> gr.Blocks:
    """The page: the panel, a prompt to put words into, and what was chosen."""

    def ask(name: str) -> Any:
        return lambda asked: bench.answer(name, asked)

    with gr.Blocks(fill_width=True) as blocks:
        pane = {"elem_classes": ["pane", "in-models"]}
        with gr.Row(elem_id="bench"), gr.Column(elem_id="work"), gr.Column(**pane):
            panel = model_shelf({name: ask(name) for name in ASKS}, "models", "feed", "", "base")
        gr.Textbox(label="Prompt", elem_id="ask-prompt", lines=2)
        gr.Textbox(label="Leave out", elem_id="ask-negative_prompt")
        chosen = gr.Textbox(label="Chosen", elem_id="chosen")

        def choose(event: gr.EventData) -> tuple[str, dict[str, Any]]:
            key = str(getattr(event, "key", ""))
            return key, {"model": key}

        panel.chosen(choose, None, [chosen, panel], show_progress="hidden")
    return blocks


@contextmanager
def bench_page(bench: Bench) -> Iterator[str]:
    """The address of the page over `bench`."""
    app = framed()

    @app.get("/feed")
    async def told(request: Request) -> Response:
        return feed.stream(bench.told())

    with serving(with_page(app, build(bench))) as address:
        try:
            yield address
        finally:
            bench.news.close()
