"""Where fetched files lie, on the way and at the end: the models folder, and the Hugging Face cache's
layout."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import os
import shutil
from pathlib import Path

from pipelines.fetch.catalogue import CatalogueRow
from pipelines.fetch.fetch_plan import FOLDERS, Item, Plan, local_name
from pipelines.fetch.hub import PICKLES, WEIGHTS

STAGING = ".fetching"
"""Folder below models/ where things lie until they are whole."""


class Places:
    """Where files of plans lie, on the way and at the end. models: our folder; cache: Hugging Face's."""

    def __init__(self, models: Path, cache: Path | None = None):
        self.models = models
        self._cache = cache

    @property
    def cache(self) -> Path:
        """The Hugging Face cache: the given folder, else what HF_HOME and HF_HUB_CACHE say."""
        from huggingface_hub import constants

        return self._cache or Path(constants.HF_HUB_CACHE)

    def _repo(self, repo: str) -> Path:
        return self.cache / ("models--" + repo.replace("/", "--"))

    def _snapshot(self, plan: Plan) -> Path:
        return self._repo(plan.repo) / "snapshots" / plan.commit

    def staging(self, plan: Plan) -> Path:
        """Folder for what is on the way to the models folder; the same for the same thing at the same
        version."""
        mark = hashlib.sha256(f"{plan.id}\n{plan.commit}".encode()).hexdigest()[:16]
        return self.models / STAGING / mark

    def whole(self, plan: Plan, item: Item) -> Path:
        """Where the file lies once it is fetched and checked, until the plan is finished."""
        if plan.place == "models":
            return self.staging(plan) / item.name
        blob = self._repo(plan.repo) / "blobs" / item.blob
        placed = self._snapshot(plan) / item.name  # the file itself where the system has no links
        return blob if blob.exists() or not placed.is_file() else placed

    def part(self, plan: Plan, item: Item) -> Path:
        """Where the file's bytes gather."""
        if plan.place == "models":
            return self.staging(plan) / (item.name + ".part")
        return self._repo(plan.repo) / "blobs" / (item.blob + ".part")

    def here(self, plan: Plan, item: Item) -> int:
        """Bytes of the file that are already on this disk."""
        for path in (self.whole(plan, item), self.part(plan, item)):
            if path.is_file():
                return path.stat().st_size
        return 0

    def goal(self, plan: Plan) -> Path:
        """Where the plan's result will be."""
        if plan.place == "cache":
            return self._snapshot(plan)
        return self.models / FOLDERS.get(plan.sort, "") / plan.name

    def free(self, plan: Plan) -> int:
        """Free bytes of the disk that the plan fills."""
        folder = self._repo(plan.repo) if plan.place == "cache" else self.models
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    def finish(self, plan: Plan) -> Path:
        """Makes the fetched files visible, all at once or the one that others look for last; returns
        where."""
        goal = self.goal(plan)
        if plan.place == "cache":
            for item in sorted(plan.items, key=lambda item: item.name == "model_index.json"):
                _link(self.whole(plan, item), goal / item.name)
            if plan.revision != plan.commit:
                _write(self._repo(plan.repo) / "refs" / (plan.revision or "main"), plan.commit)
            return goal
        staging = self.staging(plan)
        come = staging if plan.folder else self.whole(plan, plan.items[0])
        goal.parent.mkdir(parents=True, exist_ok=True)
        if not _same(come, goal):
            goal = _free_name(goal)
            os.replace(come, goal)
        shutil.rmtree(staging, ignore_errors=True)
        return goal

    def discard(self, plan: Plan) -> None:
        """Throws away what has come of a plan; blobs that are whole stay, other programs may use them."""
        if plan.place == "models":
            shutil.rmtree(self.staging(plan), ignore_errors=True)
            return
        for item in plan.items:
            part = self.part(plan, item)
            for path in (part, part.with_name(part.name + ".tag")):
                path.unlink(missing_ok=True)
        for folder in (self._repo(plan.repo) / "blobs", self._repo(plan.repo)):
            with contextlib.suppress(OSError):  # not empty: something else of the model is there
                folder.rmdir()

    def ours(self, row: CatalogueRow) -> Path:
        """Where a row of the catalogue would be in the models folder; whole pipelines mostly are in the
        cache."""
        name = local_name(row.id, row.file) if row.file else row.id.rpartition("/")[2]
        return self.models / FOLDERS.get(row.sort, "") / (row.key if row.joins else name)

    def library_key(self, row: CatalogueRow) -> str:
        """The key under which the library (pipelines.library.models) lists what the row brings."""
        ours = self.ours(row)
        if row.sort == "model" and not ours.exists() and not row.joins:
            return row.id
        return ours.stem if row.file else ours.name

    def holds(self, row: CatalogueRow) -> bool:
        """Whether what a row of the catalogue brings is there, fetched by whomever."""
        ours = self.ours(row)
        if row.sort != "model":
            return ours.exists()
        if (ours / "model_index.json").is_file():
            return True
        repo = self._repo(row.id)
        ref = repo / "refs" / (row.revision or "main")
        commit = ref.read_text(encoding="utf8").strip() if ref.is_file() else row.revision
        snapshot = repo / "snapshots" / commit
        if not commit or not (snapshot / "model_index.json").is_file():
            return False
        return any(file.suffix in WEIGHTS | PICKLES for file in [*snapshot.glob("*/*"), *snapshot.glob("*")])


def _link(blob: Path, place: Path) -> None:
    """Makes `place` a relative link to the blob, as huggingface_hub lays its cache out; moves the file itself
    where the system has no links for this user (Windows), as it does too."""
    if blob == place:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_file():
        return
    place.unlink(missing_ok=True)
    try:
        place.symlink_to(os.path.relpath(blob, place.parent))
    except OSError:
        os.replace(blob, place)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".part")
    fresh.write_text(text, encoding="utf8")
    os.replace(fresh, path)


def _same(come: Path, goal: Path) -> bool:
    """Whether what has come is there already, byte by byte."""
    if come.is_dir() and goal.is_dir():
        files = [file.relative_to(come) for file in come.rglob("*") if file.is_file()]
        return all(_same(come / file, goal / file) for file in files)
    return come.is_file() and goal.is_file() and filecmp.cmp(come, goal, shallow=False)


def _free_name(path: Path) -> Path:
    """`path`, or the same with a number where something else has that name."""
    number, found = 2, path
    while found.exists():
        found = path.with_name(
            f"{path.stem}-{number}{path.suffix}" if path.suffix else f"{path.name}-{number}"
        )
        number += 1
    return found
