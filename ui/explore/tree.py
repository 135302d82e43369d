"""The tree of branches that the open run belongs to, and the trash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipelines.film.trajectory import RunInfo
from pipelines.film.tree import Node, changes, tree_of, wanted
from pipelines.worker import Worker
from ui.components.base import Answer, Asked
from ui.explore.runs import row

STATES = {"running": "developing", "paused": "paused", "stopped": "stopped and kept", "failed": "failed"}
"""What is said of a run that did not simply finish."""

GONE = "A run that was deleted"
NOTHING = "nothing changed"


def tree(worker: Worker, asked: Asked) -> Answer:
    """{"run"} -> {"nodes": its tree from the root on, each before its children; "trash": what lies there}.

    A run in the trash is part of the tree only while something that is not there hangs below it.
    """
    runs = worker.trajectories.list()
    root = tree_of(runs, str(asked.get("run", "")))
    nodes = list(_rows(root, None, 1)) if root is not None else []
    return {"nodes": nodes, "trash": [_row(Node(run.id, run), None, 1) for run in runs if run.trashed]}


def title(run: RunInfo, parent: RunInfo | None) -> str:
    """What a run is called: by its name, by what it changed, else by its seed."""
    if run.name:
        return run.name
    if parent is None:
        return f"Seed {wanted(run).get('seed')}"
    return ", ".join(changes(run, parent)) or NOTHING


def finished_url(run: RunInfo) -> str:
    """The address of a run's finished picture; empty where there is none (yet)."""
    path = Path(run.picture) if run.picture else None
    return f"gradio_api/file={quote(path.as_posix())}" if path and path.is_file() else ""


def _rows(node: Node, parent: Node | None, level: int) -> Iterator[Answer]:
    if not _seen(node):
        return
    yield _row(node, parent, level)
    for child in node.children:
        yield from _rows(child, node, level + 1)


def _seen(node: Node) -> bool:
    return not node.trashed or any(_seen(child) for child in node.children)


def _row(node: Node, parent: Node | None, level: int) -> Answer:
    if node.run is None:
        told = "its branches are kept"
        return {"id": node.id, "level": level, "title": GONE, "told": told, "gone": True, "thumb": ""}
    return {
        **row(node.run),
        "level": level,
        "title": title(node.run, parent.run if parent else None),
        "told": ", ".join(_told(node.run)),
        "gone": False,
    }


def _told(run: RunInfo) -> Iterator[str]:
    if run.parent is not None:
        yield f"from step {run.parent_step + 1}"
    if run.trashed:
        yield "in the trash"
    elif run.state in STATES:
        yield STATES[run.state]


def empty_trash(worker: Worker, asked: Asked) -> Answer:
    """Deletes what lies in the trash for good: {} -> {"count"}."""
    return {"count": worker.trajectories.empty_trash()}


ANSWERS: dict[str, Any] = {"tree": tree, "empty_trash": empty_trash}
