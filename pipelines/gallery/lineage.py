"""What a picture was made from, and what was made from it: other pictures, masks, maps and recorded runs.

Pictures are known by the hash of their bytes, which their names and places do not change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.film.trajectory import RunInfo, TrajectoryStore, UnknownTrajectory
from pipelines.gallery.index import Index
from pipelines.gallery.places import Row

_LABELS: Mapping[str, str] = {
    "picture": "Made from",
    "painted": "Painted on",
    "mask": "Mask",
    "control": "Control map",
    "branch": "Branched from",
    "parent": "Branched from",
}


@dataclass(frozen=True)
class Source:
    """One thing that a picture was made from.

    what: "picture", "mask", "control", "painted" (one of these as it was painted on) or "branch". key: of the
    picture in the store, "" for a branch. id: of the picture in the gallery, None where it is not there.
    """

    what: str
    key: str
    id: str | None
    label: str


class Lineage:
    """Reads off the index and the recorded runs how pictures hang together."""

    def __init__(self, data: Path, index: Index, runs: TrajectoryStore):
        self.data, self.index, self.runs = data, index, runs

    def run(self, row: Row) -> RunInfo | None:
        """The recorded run that painted a picture; None where there is none (any more)."""
        place = self.data / row.path
        found = None
        for run in self.runs.list():
            if run.picture_key == row.id:
                return run
            if not run.picture_key and run.picture and Path(run.picture) == place:
                found = run
        return found

    def made_from(self, row: Row, run: RunInfo | None) -> list[Source]:
        """What a picture was made from, as its file and its recorded run tell."""
        told = list(self.index.sources(row.id))
        keys = {key for _, key in told}
        told += [(what, key) for what, key in _asked(run.request if run else {}) if key not in keys]
        parent = next((key for what, key in told if what == "parent"), None)
        sources = []
        for what, key in told:
            if what == "parent":
                continue
            label, branch = _LABELS.get(what, what), what == "branch"
            id = (parent or self._painted_by(key)) if branch else key
            label = self._branched(key, label, known=parent is not None) if branch else label
            there = id is not None and self.index.row(id) is not None
            sources.append(Source(what, "" if branch else key, id if there else None, label))
        return sources

    def became(self, row: Row, run: RunInfo | None) -> list[tuple[str, str]]:
        """(id, what it was to them) of the pictures that were made from this one."""
        keys = [row.id, *([run.id] if run else [])]
        found = {id: _LABELS.get(what, what) for id, what in self.index.made_of(keys)}
        found.pop(row.id, None)
        return list(found.items())

    def _painted_by(self, id: str) -> str | None:
        """The id of the picture that a recorded run has painted."""
        try:
            run = self.runs.get(id)
        except UnknownTrajectory:
            return None
        if run.picture_key:
            return run.picture_key
        place = Path(run.picture)
        if not run.picture or not place.is_relative_to(self.data):
            return None
        known = self.index.file(place.relative_to(self.data).as_posix())
        return None if known is None else known[2]

    def _branched(self, id: str, label: str, known: bool) -> str:
        """known: whether the picture that the run had become is."""
        try:
            name = self.runs.get(id).name
        except UnknownTrajectory:
            return label if known else f"{label} a run that is no longer recorded"
        return f"{label} {name}" if name else label


def _asked(request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a request was shown: (what, key)."""
    for name, what in (("image", "picture"), ("mask_image", "mask")):
        if isinstance(key := request.get(name), str):
            yield what, key
    for unit in request.get("controls") or ():
        if isinstance(key := unit.get("map_image") or unit.get("image"), str):
            yield "control", key
    branch = request.get("branch")
    if isinstance(branch, Mapping) and isinstance(id := branch.get("trajectory"), str):
        yield "branch", id
