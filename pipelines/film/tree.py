"""Recorded runs as trees of branches, read from the runs' own descriptions each time.

There is no index of them that could be wrong after a kill.
A run whose parent is gone keeps its place under an empty node, so that what a person branched stays together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.film.trajectory import RunInfo
from pipelines.request import ControlUnit, GenerationRequest, LoraWeight

_TITLES: Mapping[str, str] = {
    "prompt": "prompt",
    "negative_prompt": "leave out",
    "guidance_scale": "guidance",
    "guidance_points": "guidance curve",
    "loras": "LoRAs",
    "controls": "control",
    "mask_image": "mask",
}
"""What a branch may change, as short as a node of the tree has room for."""


@dataclass
class Node:
    """A run in its tree. run: None for a parent that was deleted. children: the oldest first."""

    id: str
    run: RunInfo | None
    children: list[Node] = field(default_factory=list)

    @property
    def trashed(self) -> bool:
        """Whether it lies in the trash."""
        return self.run is not None and self.run.trashed

    def walk(self, depth: int = 0) -> Iterator[tuple[Node, int]]:
        """The node and all below it with their depths, each before its children."""
        yield self, depth
        for child in self.children:
            yield from child.walk(depth + 1)


def trees(runs: Iterable[RunInfo]) -> list[Node]:
    """The trees that the runs make, that with the newest run first.

    A parent that is not among `runs` is a node without a run. Runs that name each other as parents (no
    program writes that, a damaged disk may) begin trees of their own.
    """
    nodes = {run.id: Node(run.id, run) for run in runs}
    roots: dict[str, Node] = {}
    for node in sorted(nodes.values(), key=_age):
        parent = None if node.run is None else node.run.parent
        if not isinstance(parent, str) or _leads_back(node.id, nodes):
            roots[node.id] = node
            continue
        above = nodes.get(parent)
        if above is None:
            above = nodes[parent] = roots[parent] = Node(parent, None)
        above.children.append(node)
    return sorted(roots.values(), key=lambda root: max(_age(node) for node, _ in root.walk()), reverse=True)


def tree_of(runs: Iterable[RunInfo], id: str) -> Node | None:
    """The tree that the run belongs to, None where there is none."""
    return next((root for root in trees(runs) if any(node.id == id for node, _ in root.walk())), None)


def changes(run: RunInfo, parent: RunInfo | None) -> list[str]:
    """What a branch changed of its parent, in a few words each; empty where nothing was."""
    if parent is None:
        return []
    before, now = wanted(parent), wanted(run)
    told = [_told(name, before[name], now[name]) for name in _TITLES if before.get(name) != now.get(name)]
    branch = now.get("branch") or {}
    if branch.get("noise_seed") is not None:
        told.append(f"noise {branch['noise_seed']}")
    if branch.get("painted"):
        told.append("painted on")
    return told


def wanted(run: RunInfo) -> dict[str, Any]:
    """A run's request, with the fields that it leaves at their defaults."""
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in GenerationRequest.model_fields.items()
        if not field.is_required()
    }
    given = {**defaults, **run.request}
    for name, kind in (("loras", LoraWeight), ("controls", ControlUnit)):
        given[name] = [_whole(kind, one) for one in given.get(name) or ()]
    return given


def _whole(kind: type[LoraWeight] | type[ControlUnit], given: Any) -> dict[str, Any]:
    values = dict(given) if isinstance(given, Mapping) else given.model_dump(mode="json")
    defaults = {
        name: field.get_default() for name, field in kind.model_fields.items() if not field.is_required()
    }
    whole = {**defaults, **values}
    return {name: list(one) if isinstance(one, tuple) else one for name, one in whole.items()}


def _told(name: str, before: Any, now: Any) -> str:
    title = _TITLES[name]
    if name in ("prompt", "negative_prompt"):
        return _words(title, str(before), str(now))
    if name == "guidance_points":
        return "guidance curve" if now else "guidance level"
    if name == "guidance_scale":
        return f"{title} {now:g}"
    if name == "loras":
        return _parts(title, before, now, "name", "weight")
    if name == "controls":
        return _parts(title, before, now, "model", "controlnet_conditioning_scale")
    return f"another {title}"


def _words(title: str, before: str, now: str) -> str:
    """The words that came in, else those that went."""
    old, new = (re.findall(r"[^\s,.;]+", text) for text in (before, now))
    came = [word for word in new if word not in old]
    went = [word for word in old if word not in new]
    if came:
        return f"{'' if title == 'prompt' else f'{title}: '}{_short(' '.join(came))}"
    return f"{title} without {_short(' '.join(went))}" if went else f"another {title}"


def _parts(title: str, before: list[Any], now: list[Any], name: str, weight: str) -> str:
    old = {one.get(name): one for one in before}
    new = {one.get(name): one for one in now}
    for key, one in new.items():
        if key not in old:
            return f"with {_called(key)}"
        if one.get(weight) != old[key].get(weight):
            return f"{_called(key)} {one.get(weight):g}"
    gone = [key for key in old if key not in new]
    return f"without {_called(gone[0])}" if gone else f"another {title}"


def _called(key: Any) -> str:
    return _short(str(key).rpartition("/")[2].removesuffix(".safetensors"))


def _short(text: str, most: int = 32) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _age(node: Node) -> float:
    return node.run.created if node.run is not None else 0.0


def _leads_back(id: str, nodes: Mapping[str, Node]) -> bool:
    """Whether the parents of `id` lead in a circle."""
    seen: set[str] = set()
    at: str | None = id
    while at is not None and at in nodes:
        if at in seen:
            return True
        seen.add(at)
        run = nodes[at].run
        at = run.parent if run is not None else None
    return False
