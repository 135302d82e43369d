"""The Explore tab's own part: recorded runs, opened and looked into.

Each region of the tab that asks the server for something is a module here with `ANSWERS`, a table of verb ->
function(worker, asked); a region with files of its own has `add_routes(app, worker)` too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import gradio as gr

from pipelines.worker import Worker
from ui.components.base import Answer, Ask, Asked
from ui.components.explore import explorer
from ui.explore import branch, compare, film, forward, lab, lessons, runs, share, tree, words
from ui.explore.runs import URL

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ui.page import Page

Verb = Callable[[Worker, Asked], Answer]

REGIONS: tuple[Mapping[str, Verb], ...] = (
    runs.ANSWERS,
    branch.ANSWERS,
    tree.ANSWERS,
    compare.ANSWERS,
    words.ANSWERS,
    lessons.ANSWERS,
    lab.ANSWERS,
    forward.ANSWERS,
)
"""The regions' `ANSWERS`, one row each."""


def build(page: Page) -> None:
    """Lays the tab's part out."""
    with gr.Column(elem_classes=["pane", "in-explore"]):
        explorer(asks(page.worker), "explore", URL)


def add_routes(app: FastAPI, worker: Worker) -> None:
    """Adds the regions' own routes; before Gradio, which takes all the rest."""
    film.add_routes(app, worker)
    share.add_routes(app, worker)
    words.add_routes(app, worker)
    forward.add_routes(app, worker)


def asks(worker: Worker) -> dict[str, Ask]:
    """Every verb that the page may ask, bound to the worker."""
    return {verb: partial(answer, worker) for verbs in REGIONS for verb, answer in verbs.items()}
