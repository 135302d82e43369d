"""Recorded runs packed and taken in again: the same bit for bit, and nothing of what was tampered with."""

from __future__ import annotations

import collections
import hashlib
import io
import json
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save

import pipelines
from pipelines.events import Finished
from pipelines.film import unpacking
from pipelines.film.archive import NotShared, pack
from pipelines.film.compare import parts_at
from pipelines.film.trajectory import RunInfo, TrajectoryStore, UnknownTrajectory, new_run, step_name
from pipelines.film.unpacking import unpack
from pipelines.pictures import PictureStore
from pipelines.request import GenerationRequest
from pipelines.worker import Worker
from ui.explore import branch

SHAPE = (1, 4, 8, 8)
COLOURS = {"weight": [[0.1, 0.2, 0.3]] * 4, "bias": [0.5, 0.5, 0.5]}
REQUEST = {"prompt": "a house", "width": 64, "height": 64, "seed": 5}


@dataclass
class Copy:
    """The data folder of one copy of the program."""

    data: Path

    def __post_init__(self) -> None:
        self.films = TrajectoryStore(self.data / "trajectories")
        self.pictures = PictureStore(self.data / "inputs")
        self.outputs = self.data / "outputs"

    def packed(self, id: str) -> bytes:
        buffer = io.BytesIO()
        pack(self.films, self.pictures, id, buffer)
        return buffer.getvalue()

    def take(self, data: bytes) -> RunInfo:
        path = self.data / "came.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return unpack(path, self.films, self.pictures, self.outputs)

    def files(self) -> dict[str, bytes]:
        """All that is there, by name."""
        there = (path for path in self.data.rglob("*") if path.is_file() and path.name != "came.zip")
        return {path.relative_to(self.data).as_posix(): path.read_bytes() for path in there}


@pytest.fixture
def here(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "there" / "deep")


def png(colour: str, side: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "PNG")
    return buffer.getvalue()


def recorded(copy: Copy, **more: Any) -> str:
    """A made-up run of three steps, with a picture that it began with and a finished one."""
    image = copy.pictures.put(png("red")).key
    picture = copy.outputs / "image2image" / "00001-5.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(png("blue"))
    run = new_run(
        "a" * 16,
        0,
        **{
            "request": {**REQUEST, "image": image},
            "task": "image2image",
            "model": "starter",
            "model_title": "Storybook",
            "total": 3,
            "state": "finished",
            "picture": str(picture),
            "about": {"to_rgb": COLOURS, "layout": "grid", "output_shape": [4, 8, 8]},
            **more,
        },
    )
    copy.films.write(run)
    for index in range(3):
        (copy.films.folder(run.id) / "steps" / step_name(index)).write_bytes(step(index))
    (copy.films.folder(run.id) / "latents.safetensors").write_bytes(save({"latents": torch.ones(SHAPE)}))
    return run.id


def step(index: int, **change: Any) -> bytes:
    """A step's file."""
    draw = torch.Generator().manual_seed(index)
    names = ("sample", "model_output", "pred_original_sample", "unconditional", "conditional")
    tensors = {name: torch.randn(SHAPE, generator=draw) for name in names}
    facts = {"timestep": 900.0, "sigma": 1.0, "alpha": 0.7, "noise": 0.7, **change.pop("facts", {})}
    orders = change.pop("orders", {"sample": [0, 2, 3, 1]})
    return save({**tensors, **change}, {"step": json.dumps(facts), "orders": json.dumps(orders)})


def test_a_run_is_the_same_in_another_copy(here: Copy, there: Copy) -> None:
    id = recorded(here, name="Winter", pinned=True)
    run = there.take(here.packed(id))
    before, known = here.films.get(id), there.films.get(id)
    assert known == run and run.id == id
    picture = Path(run.picture)
    assert picture.read_bytes() == png("blue") and picture.is_relative_to(there.outputs)
    same = {"picture": "", "pinned": False}
    assert replace(run, **same) == replace(before, **same)
    folder = "trajectories/" + id
    names = [*(f"{folder}/steps/{step_name(index)}" for index in range(3)), f"{folder}/latents.safetensors"]
    assert [there.files()[name] for name in names] == [here.files()[name] for name in names]
    assert there.pictures.load(run.request["image"]).size == (64, 64)
    assert not [name for name in there.files() if ".gone" in name or ".part" in name]


def test_an_id_that_is_taken_is_changed_and_the_first_run_left_alone(here: Copy) -> None:
    id = recorded(here)
    before = here.files()
    run = here.take(here.packed(id))
    assert run.id != id and here.films.steps(run.id) == 3
    assert {name: here.files()[name] for name in before} == before
    assert {one.id for one in here.films.list()} == {id, run.id}


def test_a_branch_is_below_its_parent_only_where_that_is_there(here: Copy, there: Copy) -> None:
    parent = recorded(here)
    request = {**here.films.get(parent).request, "branch": {"trajectory": parent, "step": 1}}
    child = here.films.write(
        replace(
            here.films.get(parent),
            id="b" * 16 + "-0",
            job="b" * 16,
            request=request,
            parent=parent,
            parent_step=1,
        )
    )
    for index in range(3):
        (here.films.folder(child.id) / "steps" / step_name(index)).write_bytes(step(index))
    packed = here.packed(child.id)
    alone = there.take(packed)
    assert (alone.parent, alone.parent_step, "branch" in alone.request) == (None, 0, False)
    there.films.delete(alone.id)
    there.take(here.packed(parent))
    below = there.take(packed)
    assert (below.parent, below.parent_step) == (parent, 1)


def test_without_its_finished_picture_a_film_is_still_whole(here: Copy, there: Copy) -> None:
    id = recorded(here)
    Path(here.films.get(id).picture).unlink()
    run = there.take(here.packed(id))
    assert run.picture == "" and there.films.steps(run.id) == 3


def test_what_cannot_be_packed_is_told(here: Copy) -> None:
    id = recorded(here)
    here.films.change(id, state="running")
    with pytest.raises(NotShared, match="has not ended"):
        here.packed(id)
    here.films.change(id, state="finished")
    shutil.rmtree(here.pictures.root)
    with pytest.raises(NotShared, match="no longer kept"):
        here.packed(id)
    with pytest.raises(UnknownTrajectory):
        here.packed("f" * 16 + "-0")


# --------------------------------------------------------------------------- files that were tampered with

Tamper = Callable[[dict[str, bytes]], Any]


def altered(data: bytes, change: Tamper, honest: bool = True) -> bytes:
    """The archive after `change` of its files by name; with `honest`, sizes and hashes are told anew. What
    `change` returns, if anything, is packed too: (ZipInfo or name, bytes) one by one."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    entries = change(files)
    if honest and files.get("run.json", b"").startswith(b'{"format"'):
        whole = json.loads(files["run.json"])
        whole["files"] = {
            name: {"bytes": len(one), "sha256": hashlib.sha256(one).hexdigest()}
            for name, one in files.items()
            if name != "run.json"
        }
        files["run.json"] = json.dumps(whole).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, one in files.items():
            archive.writestr(name, one)
        for name, one in entries or ():
            archive.writestr(name, one)
    return buffer.getvalue()


def with_run(**changes: Any) -> Tamper:
    def change(files: dict[str, bytes]) -> None:
        whole = json.loads(files["run.json"])
        whole["run"] |= changes
        files["run.json"] = json.dumps(whole).encode()

    return change


def with_file(name: str, data: bytes) -> Tamper:
    return lambda files: files.update({name: data})


def with_entry(name: str | zipfile.ZipInfo, data: bytes = b"x") -> Tamper:
    return lambda files: [(name, data)]


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return entry


def shrunk(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


FIRST = "steps/00000.safetensors"
OTHER = torch.zeros(1, 4, 4, 4)
HOSTILE: dict[str, tuple[Tamper, str]] = {
    "up": (with_entry("../../evil.txt"), "belongs to no film"),
    "up from steps": (with_entry("steps/../../../evil.safetensors"), "belongs to no film"),
    "absolute": (with_entry("/tmp/evil.txt"), "belongs to no film"),
    "backslash": (with_entry("steps\\..\\..\\evil.txt"), "belongs to no film"),
    "drive": (with_entry("C:/evil.txt"), "belongs to no film"),
    "device": (with_entry("steps/CON"), "belongs to no film"),
    "a folder": (with_entry("steps/"), "belongs to no film"),
    "a link": (with_entry(link("picture.png"), b"/etc/passwd"), "belongs to no film"),
    "a link as a step": (with_entry(link("steps/00009.safetensors"), b"/etc/passwd"), "belongs to no film"),
    "twice": (with_entry(FIRST), "twice"),
    "unlisted": (with_entry("steps/00003.safetensors"), "list of files"),
    "bomb": (with_entry(shrunk("steps/00003.safetensors"), bytes(50_000_000)), "would unpack to 50 MB"),
    "bomb in the description": (with_file("run.json", b" " * 9_000_000), "would unpack to"),
    "no description": (lambda files: files.pop("run.json") and None, "no run.json"),
    "no json": (with_file("run.json", b"{nonsense"), "not what Darkroom writes"),
    "nested json": (with_file("run.json", b"[" * 100_000), "not what Darkroom writes"),
    "a newer edition": (
        lambda files: files.update({"run.json": files["run.json"].replace(b'"version": 1', b'"version": 2')}),
        "newer Darkroom",
    ),
    "an id that is a path": (with_run(id="../../../evil-0"), "called in a way"),
    "a job that is a path": (with_run(job="../evil", id="../evil-0"), "called in a way"),
    "a state": (with_run(state="running"), "of its steps"),
    "a wrong type": (with_run(total="3"), "wrong in 'total'"),
    "an unknown setting": (with_run(request={**REQUEST, "image": None, "evil": 1}), "no setting called"),
    "a size": (with_run(request={**REQUEST, "width": 10**9}), "between 16 and 2048"),
    "no colours": (with_run(about={}), "wrong in 'to_rgb'"),
    "colours of other latents": (
        with_run(about={"to_rgb": {**COLOURS, "weight": [[0.1, 0.2, 0.3]] * 16}}),
        "do not fit its size",
    ),
    "another picture": (with_run(request={**REQUEST, "image": "f" * 32}), "not its own"),
    "a missing step": (lambda files: files.pop(FIRST) and None, "missing"),
    "no steps": (
        lambda files: [files.pop(f"steps/{step_name(index)}") for index in range(3)] and None,
        "missing",
    ),
    "a cut step": (lambda files: files.update({FIRST: files[FIRST][:-10]}), "cut off"),
    "a pickle for a step": (with_file(FIRST, b"PK\x03\x04" + bytes(2000)), "cannot be read"),
    "a header that lies": (with_file(FIRST, b"\xff" * 8 + bytes(100)), "cannot be read"),
    "other tensors": (with_file(FIRST, step(0, evil=torch.ones(2))), "does not hold"),
    "whole numbers": (
        with_file(FIRST, step(0, sample=torch.ones(SHAPE, dtype=torch.int32))),
        "something else",
    ),
    "one shape and another": (
        with_file("steps/00001.safetensors", step(1, sample=OTHER, pred_original_sample=OTHER + 1)),
        "another shape",
    ),
    "guidance of half": (with_file(FIRST, step(0, conditional=OTHER)), "guidance"),
    "noise that is none": (with_file(FIRST, step(0, facts={"alpha": float("nan")})), "nothing sound"),
    "an order of other sides": (with_file(FIRST, step(0, orders={"sample": [0, 1, 2, 9]})), "nothing sound"),
    "an order of nothing": (with_file(FIRST, step(0, orders={"evil": [0]})), "nothing sound"),
    "noise in words": (with_file(FIRST, step(0, facts={"noise": "much"})), "nothing sound"),
    "other last latents": (with_file("latents.safetensors", save({"latents": OTHER})), "last latents"),
    "no picture": (with_file("picture.png", b"\x89PNG\r\n\x1a\n" + bytes(99)), "cannot be read"),
    "a page for a picture": (with_file("picture.png", b"<html><script>"), "no PNG"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_of_a_file_that_was_tampered_with_nothing_is_taken(here: Copy, there: Copy, name: str) -> None:
    change, sentence = HOSTILE[name]
    data = altered(here.packed(recorded(here)), change)
    there.data.mkdir(parents=True)
    around = there.data.parent.parent
    before = {path for path in around.rglob("*") if there.data not in path.parents}
    with pytest.raises(NotShared, match=sentence) as told:
        there.take(data)
    assert str(told.value).endswith(".")
    assert there.films.list() == [] and [name for name in there.files() if "inputs" not in name] == []
    assert {path for path in around.rglob("*") if there.data not in path.parents} == before


def test_a_name_that_hides_something_behind_a_zero_is_no_name(here: Copy, there: Copy) -> None:
    data = altered(here.packed(recorded(here)), with_entry("steps/00003.safetensors?/../../evil"))
    with pytest.raises(NotShared, match="belongs to no film"):
        there.take(data.replace(b"safetensors?", b"safetensors\0"))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_film_that_is_cut_off_is_refused(here: Copy, there: Copy, share: float) -> None:
    data = here.packed(recorded(here))
    with pytest.raises(NotShared, match="cut off"):
        there.take(data[: int(share * len(data))])
    assert there.files() == {}


def test_a_flipped_bit_anywhere_is_refused_or_does_not_matter(here: Copy, there: Copy) -> None:
    data = here.packed(recorded(here))
    whole = there.take(data)
    there.films.delete(whole.id)
    refused = 0
    for place in range(0, len(data), len(data) // 60):
        broken = bytearray(data)
        broken[place] ^= 0x40
        try:
            run = there.take(bytes(broken))
        except NotShared:
            refused += 1
            continue
        assert [there.films.read_step(run.id, index)[0].keys() for index in range(3)]
        there.films.delete(run.id)
    assert refused > 40  # what is left lies in dates and flags of the archive that say nothing


def test_what_is_told_of_hashes_is_checked(here: Copy, there: Copy) -> None:
    data = altered(here.packed(recorded(here)), with_file(FIRST, step(7)), honest=False)
    with pytest.raises(NotShared, match="not what was packed"):
        there.take(data)


def test_a_disk_without_room_is_told(here: Copy, there: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    data = here.packed(recorded(here))
    monkeypatch.setattr(unpacking, "ROOM", 1 << 60)
    with pytest.raises(NotShared, match="make room"):
        there.take(data)


# ------------------------------------------------------------------------------------ over the real model

WHOLE = {"prompt": "a red house at night", "width": 64, "height": 64, "num_inference_steps": 4, "seed": 3}


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Worker, Worker]]:
    with (
        pipelines.open(tmp_path_factory.mktemp("first")) as first,
        pipelines.open(tmp_path_factory.mktemp("second")) as second,
    ):
        yield first, second


def painted(worker: Worker, job: str) -> str:
    [ending] = collections.deque(worker.follow(job), maxlen=1)
    assert isinstance(ending, Finished), ending
    return f"{job}-0"


@pytest.mark.parametrize("task", ["text2image", "image2image", "inpaint"])
def test_a_branch_of_what_came_from_elsewhere_is_the_same_to_the_bit(
    workers: tuple[Worker, Worker], tmp_path: Path, task: str
) -> None:
    first, second = workers
    asked: dict[str, Any] = {**WHOLE, "scheduler": "Euler a"}
    if task != "text2image":
        asked["image"] = first.store.put(png("green")).key
    if task == "inpaint":
        mask = Image.new("L", (64, 64))
        mask.paste(255, (16, 16, 48, 48))
        buffer = io.BytesIO()
        mask.save(buffer, "PNG")
        asked["mask_image"] = first.store.put(buffer.getvalue()).key
    run = painted(first, first.submit(GenerationRequest.parse(asked)))
    with (tmp_path / "film.zip").open("wb") as file:
        pack(first.trajectories, first.store, run, file)
    outputs = second.store.root.parent / "outputs"
    taken = unpack(tmp_path / "film.zip", second.trajectories, second.store, outputs)
    for at in (0, 2):
        same = branch.branch(second, {"run": taken.id, "step": at})
        assert parts_at(second.trajectories, taken.id, painted(second, same["job"])) is None
    changes = {"prompt": "a red house by day"}
    ends = []
    for worker, id in ((first, run), (second, taken.id)):
        other = branch.branch(worker, {"run": id, "step": 2, "changes": changes})
        ends.append(worker.trajectories.read_latents(painted(worker, other["job"])))
    assert torch.equal(*ends)
