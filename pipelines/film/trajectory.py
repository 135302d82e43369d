"""The recorded runs on disk: one folder each, readable at any moment, whatever was killed while writing it.

`run.json` says what a run is, `steps/00000.safetensors` and on hold its steps. Every file is written beside
its place and renamed into it, so what is there is whole; a run's steps are those that follow each other
from 0. Importing this imports no torch: the page reads the list by it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.request import GenerationRequest

if TYPE_CHECKING:
    from torch import Tensor

State = Literal["running", "paused", "finished", "stopped", "failed"]
"""paused: it rests, or its program ended; its job goes on from here. stopped: kept before its last step."""

STEPS, LATENTS, DESCRIPTION = "steps", "latents.safetensors", "run.json"
_ID = re.compile(r"[0-9a-f]{16}-\d{1,4}")


class UnknownTrajectory(LookupError):
    """There is no such run (any more), or a part of it is gone; `str()` is a sentence."""


@dataclass(frozen=True)
class RunInfo:
    """What a recorded run is.

    id: "<job>-<index of the picture>". request: the resolved request's fields that are not at their defaults.
    created: seconds since the epoch. total: steps that the whole run takes. parent: the run that it branched
    off, and parent_step how many of its steps it took over. about: what reading its latents needs (layout and
    scale of the latents, the map to colours, the shape of the denoiser's output). picture: where its finished
    picture is, or will be. picture_key: the store's key of that file, by which it is known when it was moved.
    note: why the film ends early, a sentence.
    """

    id: str
    job: str
    index: int
    request: Mapping[str, Any]
    task: str = "text2image"
    model: str = ""
    model_title: str = ""
    created: float = 0.0
    total: int = 0
    state: State = "running"
    parent: str | None = None
    parent_step: int = 0
    name: str = ""
    pinned: bool = False
    trashed: bool = False
    picture: str = ""
    picture_key: str = ""
    note: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) that it was painted at."""
        sides = GenerationRequest.model_fields
        width, height = (int(self.request.get(side, sides[side].default)) for side in ("width", "height"))
        return width, height

    @property
    def ended(self) -> bool:
        """Whether nothing more will be recorded of it."""
        return self.state not in ("running", "paused")


_FIELDS = set(RunInfo.__dataclass_fields__)


class TrajectoryStore:
    """A folder of recorded runs; safe to use from several threads and from two processes."""

    def __init__(self, root: Path):
        self.root = root
        self._read: dict[str, tuple[int, RunInfo]] = {}

    # What there is

    def list(self) -> list[RunInfo]:
        """Every run, the newest first, those in the trash too; folders that say nothing are passed over."""
        found = []
        for folder in self._folders():
            try:
                found.append(self.get(folder.name))
            except UnknownTrajectory:
                continue
        return sorted(found, key=lambda run: (run.created, run.id), reverse=True)

    def get(self, id: str) -> RunInfo:
        """The run with that id. Raises `UnknownTrajectory`."""
        path = self.folder(id) / DESCRIPTION
        try:
            changed = path.stat().st_mtime_ns
            known = self._read.get(id)
            if known is None or known[0] != changed:
                values = json.loads(path.read_text("utf-8"))
                known = (changed, RunInfo(**{name: values[name] for name in _FIELDS & set(values)}))
                self._read[id] = known
        except (OSError, ValueError, TypeError, AttributeError):
            raise UnknownTrajectory(
                "The recorded run is not there any more: it was deleted, or never recorded."
            ) from None
        return known[1]

    def folder(self, id: str) -> Path:
        """Where a run lies. Raises `UnknownTrajectory` for what is no id: no path comes from outside."""
        if not _ID.fullmatch(id):
            raise UnknownTrajectory("There is no recorded run of that name.")
        return self.root / id

    def of_job(self, job: str) -> Sequence[RunInfo]:
        """The runs of a job that are recorded so far, in the order of its pictures."""
        return sorted((run for run in self.list() if run.job == job), key=lambda run: run.index)

    def children(self, id: str) -> Sequence[RunInfo]:
        """The runs that branched off this one, the oldest first."""
        return [run for run in reversed(self.list()) if run.parent == id]

    def steps(self, id: str) -> int:
        """How many steps of it can be read, from its first on without a gap."""
        try:
            there = {entry.name for entry in os.scandir(self.folder(id) / STEPS)}
        except OSError:
            return 0
        count = 0
        while step_name(count) in there:
            count += 1
        return count

    def bytes(self, id: str) -> int:
        """What it takes on disk."""
        return sum(file.stat().st_size for file in self.folder(id).rglob("*") if file.is_file())

    def read_step(self, id: str, index: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, facts) of a step: sample, model_output, pred_original_sample and, where guidance was on,
        unconditional and conditional, as the pipeline holds its latents; timestep, sigma, alpha, noise.
        Raises `UnknownTrajectory` where it is not there or was cut."""
        return self._tensors(self.folder(id) / STEPS / step_name(index), f"Step {index + 1}")

    def readable(self, id: str, index: int) -> bool:
        """Whether a step's file is whole, by its header alone."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.folder(id) / STEPS / step_name(index), "np"):
                return True
        except (OSError, SafetensorError, ValueError):
            return False

    def read_latents(self, id: str) -> Tensor:
        """The finished latents. Raises `UnknownTrajectory` where the run has not come so far."""
        return self._tensors(self.folder(id) / LATENTS, "The end")[0]["latents"]

    def _tensors(self, path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
                told = file.metadata() or {}
                facts, orders = (json.loads(told.get(name, "{}")) for name in ("step", "orders"))
                for name, order in orders.items():
                    tensors[name] = ordered(tensors[name], order)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError):
            raise UnknownTrajectory(f"{what} of the recorded run is not there, or its file is cut.") from None
        return tensors, facts

    # What changes

    def write(self, run: RunInfo) -> RunInfo:
        """Puts a run's description in place, whole."""
        folder = self.folder(run.id)
        (folder / STEPS).mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(run), ensure_ascii=False, default=str)
        put_file(folder / DESCRIPTION, lambda part: part.write_text(text, "utf-8"))
        self._read.pop(run.id, None)
        return run

    def change(self, id: str, **changes: Any) -> RunInfo:
        """Changes fields of a run's description. Raises `UnknownTrajectory`."""
        return self.write(replace(self.get(id), **changes))

    def rename(self, id: str, name: str) -> RunInfo:
        """Gives a run a name of at most 200 characters; an empty one takes it away."""
        return self.change(id, name=" ".join(name.split())[:200])

    def pin(self, id: str, pinned: bool) -> RunInfo:
        """Keeps a run whatever the budget says, or no longer."""
        return self.change(id, pinned=pinned)

    def trash(self, id: str) -> RunInfo:
        """Puts a run out of sight; `restore` brings it back until the trash is emptied."""
        return self.change(id, trashed=True)

    def restore(self, id: str) -> RunInfo:
        """Brings a run back from the trash."""
        return self.change(id, trashed=False)

    def empty_trash(self) -> int:
        """Deletes what is in the trash for good; returns how many runs."""
        gone = [run.id for run in self.list() if run.trashed and run.ended]
        for id in gone:
            self.delete(id)
        return len(gone)

    def delete(self, id: str) -> None:
        """Deletes a run for good: out of its place first, so that nobody meets half of it."""
        folder = self.folder(id)
        doomed = self.root / f".{id}.{secrets.token_hex(4)}.gone"
        try:
            folder.rename(doomed)
        except FileNotFoundError:
            return
        self._read.pop(id, None)
        shutil.rmtree(doomed, ignore_errors=True)

    def keep_within(self, limit: int, spare: str = "") -> Sequence[str]:
        """Deletes runs until all take at most `limit` bytes: those in the trash first, then the oldest; never
        a pinned one, one that has not ended, or `spare`. Returns their ids."""
        runs = self.list()
        sizes = {run.id: self.bytes(run.id) for run in runs}
        total, gone = sum(sizes.values()), []
        for run in sorted(runs, key=lambda one: (not one.trashed, one.created)):
            if total <= limit:
                break
            if run.pinned or not run.ended or run.id == spare:
                continue
            self.delete(run.id)
            total -= sizes[run.id]
            gone.append(run.id)
        return gone

    def clear(self) -> None:
        """Clears away what a killed program left half written or half deleted."""
        for entry in self.root.glob(".*.gone"):
            shutil.rmtree(entry, ignore_errors=True)
        for part in self.root.glob("*/**/.*.part"):
            part.unlink(missing_ok=True)
        for folder in self._folders():
            if not (folder / DESCRIPTION).exists():  # killed before it was told what run it is
                shutil.rmtree(folder, ignore_errors=True)

    def settle(self, jobs: Collection[str]) -> None:
        """Of the runs that a program left in the middle: those of `jobs` will be gone on with, others end."""
        for run in self.list():
            if run.ended:
                continue
            if run.job in jobs:
                self.change(run.id, state="paused")
            else:
                self.change(run.id, state="failed", note="The program ended while this run was painted.")

    def exists(self, id: str) -> bool:
        """Whether anything of a run is there."""
        return self.folder(id).is_dir()

    def _folders(self) -> Sequence[Path]:
        try:
            return [Path(entry.path) for entry in os.scandir(self.root) if _ID.fullmatch(entry.name)]
        except OSError:
            return []


def step_name(index: int) -> str:
    """A step's file name."""
    return f"{index:05d}.safetensors"


def run_id(job: str, index: int) -> str:
    """The id of the run that paints picture `index` of a job."""
    return f"{job}-{index}"


def order_of(tensor: Tensor) -> list[int] | None:
    """How a tensor lies in memory: its sides, that with the longest stride first. None where that is their
    own order, or where it is no whole piece of memory.

    Convolutions round otherwise for another order (channels last), so what is read back has to lie as it lay.
    """
    if tensor.is_contiguous():
        return None
    order = sorted(range(tensor.dim()), key=lambda side: (-tensor.stride(side), side))
    return order if tensor.permute(order).is_contiguous() else None


def ordered(tensor: Tensor, order: Sequence[int]) -> Tensor:
    """The same numbers lying in that order. Raises ValueError for what is no order of its sides."""
    if sorted(order) != list(range(tensor.dim())):
        raise ValueError("no order of these sides")
    back = sorted(range(len(order)), key=order.__getitem__)
    return tensor.permute(*order).contiguous().permute(*back)


def put_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Lets `write` fill a file beside `path` and moves it there, whole; leaves nothing where it fails."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        write(part)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def new_run(job: str, index: int, **known: Any) -> RunInfo:
    """A run that begins now."""
    return RunInfo(run_id(job, index), job, index, created=time.time(), **known)
