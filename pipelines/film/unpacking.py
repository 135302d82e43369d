"""A film that came from elsewhere, taken in: everything in the file is held against what it should be first.

Nothing of the archive becomes a path: names are looked up in a list of what may be there, and every file is
written under a name that is made here. All is read, measured and checked in a folder of its own, which then
takes its place at once; what is cut, oversized or says two things is refused with a sentence.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipelines.film.archive import DESCRIPTION, EDITION, INPUTS, PICTURE, NotShared, shown
from pipelines.film.trajectory import (
    LATENTS,
    STEPS,
    RunInfo,
    TrajectoryStore,
    UnknownTrajectory,
    put_file,
    run_id,
    step_name,
)
from pipelines.library.headers import Header, UnreadableFile, amount, read_header
from pipelines.metadata import UnreadablePicture
from pipelines.pictures import PictureStore, read_original
from pipelines.request import GenerationRequest, InvalidRequest

MOST_STEPS = 2000
MOST_FILES = MOST_STEPS + 64
MOST_BYTES = 2 << 30
"""Bytes of all that is packed; a run of SDXL at 150 steps takes 150 MB."""
MOST_FILE = 512 << 20
MOST_DESCRIPTION = 8 << 20
MOST_RATIO = 200
"""How much smaller than its content a packed file may be; latents and pictures hardly shrink at all."""
ROOM = 256 << 20
"""Bytes that stay free on the disk."""

_NAMES = re.compile(
    rf"{DESCRIPTION}|{PICTURE}|{LATENTS}|{STEPS}/\d{{5}}\.safetensors"
    rf"|{INPUTS}/[0-9a-f]{{32}}\.(?:png|jpg|webp|gif|bmp|tif|avif)"
)
_NEEDED = {"sample", "model_output", "pred_original_sample"}
_TENSORS = _NEEDED | {"unconditional", "conditional"}
_NUMBERS = {"F64", "F32", "F16", "BF16"}
_FACTS = ("timestep", "sigma", "alpha", "noise")


class _File(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    bytes: int = Field(ge=1, le=MOST_FILE)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class _Whole(BaseModel):
    """run.json."""

    model_config = ConfigDict(strict=True)
    format: Literal["darkroom film"]
    version: int
    run: dict[str, Any]
    files: dict[str, _File] = Field(max_length=MOST_FILES)


class _Colours(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)
    weight: list[tuple[float, float, float]] = Field(min_length=1, max_length=512)
    bias: tuple[float, float, float]


class _About(BaseModel):
    """RunInfo.about, as far as reading the latents needs it."""

    to_rgb: _Colours
    layout: str = Field("grid", max_length=20)
    output_shape: list[int] = Field(default=[], max_length=4)


_RUN = TypeAdapter(RunInfo)
_DAMAGED = "It is damaged, or was made by something else: ask for the file once more."


def unpack(source: Path, store: TrajectoryStore, pictures: PictureStore, outputs: Path) -> RunInfo:
    """Takes the run in `source` into the stores and gives it back; its picture goes to `outputs`.

    A run whose id is taken gets a new one. Raises `NotShared` with a sentence; nothing of it is there then.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            return _unpacked(archive, store, pictures, outputs)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as problem:
        if isinstance(problem, NotShared):
            raise
        raise NotShared("This file is no film of Darkroom that can be read, or it is cut off.") from None
    except OSError as problem:
        raise NotShared(f"The film could not be taken in: {problem.strerror or problem}.") from None


def _unpacked(
    archive: zipfile.ZipFile, store: TrajectoryStore, pictures: PictureStore, outputs: Path
) -> RunInfo:
    entries = _entries(archive)
    whole = _described(archive, entries)
    run = _run(whole.run)
    if set(entries) != {DESCRIPTION, *whole.files}:
        raise NotShared(f"The film's list of files is not what the file holds. {_DAMAGED}")
    count = sum(name.startswith(f"{STEPS}/") for name in whole.files)
    if not count or any(f"{STEPS}/{step_name(index)}" not in whole.files for index in range(count)):
        raise NotShared(f"Steps of the film are missing. {_DAMAGED}")
    store.root.mkdir(parents=True, exist_ok=True)
    total = sum(entry.file_size for entry in entries.values())
    if shutil.disk_usage(store.root).free < total + ROOM:
        raise NotShared(f"The film needs {amount(total)}, which the disk has not left: make room first.")
    # As `delete` calls what is on its way out: a start of the program clears away what a kill left of it.
    draft = store.root / f".{run.id}.{secrets.token_hex(4)}.gone"
    try:
        (draft / STEPS).mkdir(parents=True)
        (draft / INPUTS).mkdir()
        for name, told in whole.files.items():
            _copy(archive, entries[name], told, draft / Path(*name.split("/")))
        _check_tensors(run, draft, count)
        _check_pictures(run, draft)
        for path in sorted((draft / INPUTS).iterdir()):
            pictures.put(path)
        shutil.rmtree(draft / INPUTS)
        return _kept(_placed(run, store), draft, store, outputs)
    except UnreadablePicture as problem:
        raise NotShared(f"A picture of the film cannot be read. {problem}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The archive's files by name, each one that may be there."""
    listed = archive.infolist()
    if len(listed) > MOST_FILES:
        raise NotShared(f"The file holds {len(listed):,} files: no film has so many.")
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in listed:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        # orig_filename is what the file says; `filename` is already cut at a zero and has its slashes turned.
        if not _NAMES.fullmatch(entry.orig_filename) or kind not in (0, stat.S_IFREG):
            raise NotShared(
                f"The file holds something that belongs to no film, {_shown(entry.orig_filename)}."
            )
        if entry.filename in found:
            raise NotShared(f"The file holds {entry.filename} twice. {_DAMAGED}")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
            raise NotShared("The file is packed in a way that films are not, or asks for a password.")
        most = MOST_DESCRIPTION if entry.filename == DESCRIPTION else MOST_FILE
        if entry.file_size > most or entry.file_size > MOST_RATIO * entry.compress_size + 65_536:
            raise NotShared(f"{entry.filename} would unpack to {amount(entry.file_size)}: that is no film.")
        found[entry.filename] = entry
    if sum(entry.file_size for entry in listed) > MOST_BYTES:
        raise NotShared(f"The film would unpack to more than {amount(MOST_BYTES)}.")
    return found


def _described(archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo]) -> _Whole:
    if DESCRIPTION not in entries:
        raise NotShared(f"The file holds no {DESCRIPTION}: it is no film of Darkroom.")
    with archive.open(entries[DESCRIPTION]) as stream:
        text = stream.read(MOST_DESCRIPTION + 1)
    try:
        whole = _Whole.model_validate(json.loads(text))
    except (ValueError, RecursionError):
        raise NotShared(f"The film's description is not what Darkroom writes. {_DAMAGED}") from None
    if whole.version > EDITION:
        raise NotShared("The film was packed by a newer Darkroom: update this one to open it.")
    return whole


def _run(values: Mapping[str, Any]) -> RunInfo:
    """The run's description, as the real models take it."""
    try:
        known = {name: values[name] for name in RunInfo.__dataclass_fields__ if name in values}
        run = _RUN.validate_json(json.dumps(known), strict=True)
        about = _About.model_validate(dict(run.about))
    except ValidationError as problem:
        place = ".".join(str(part) for part in problem.errors()[0]["loc"][:2]) or "a part"
        raise NotShared(f"The film's description is wrong in {_shown(place)}. {_DAMAGED}") from None
    try:
        request = GenerationRequest.parse(run.request)
    except InvalidRequest as problem:
        raise NotShared(
            f"The film was asked for in a way that this Darkroom does not know: {problem}"
        ) from None
    if (
        not re.fullmatch(r"[0-9a-f]{16}", run.job)
        or not 0 <= run.index < 10_000
        or run.id != run_id(run.job, run.index)
    ):
        raise NotShared(f"The film is called in a way that no run is. {_DAMAGED}")
    if not run.ended or not 0 < run.total <= 10 * MOST_STEPS or not 0 <= run.parent_step <= MOST_STEPS:
        raise NotShared(f"The film says of its steps what cannot be. {_DAMAGED}")
    if not math.isfinite(run.created) or not 0 <= run.created < 1e11:
        raise NotShared(f"The film says of its date what cannot be. {_DAMAGED}")
    plain = {name: value for name, value in run.about.items() if isinstance(value, str | int | float | None)}
    return replace(
        run,
        request=request.model_dump(mode="json", exclude_defaults=True),
        task=request.task,
        name=" ".join(run.name.split())[:200],
        model_title=" ".join(run.model_title.split())[:200],
        note=" ".join(run.note.split())[:500],
        model=request.model,
        pinned=True,  # the budget takes the oldest films first, and what was sent may be old
        trashed=False,
        picture="",
        about={**plain, **about.model_dump(mode="json", exclude_unset=True)},
    )


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, told: _File, target: Path) -> None:
    """Unpacks one file, never more of it than was told."""
    seen, size = hashlib.sha256(), 0
    with archive.open(entry) as stream, target.open("xb") as file:
        while chunk := stream.read(1 << 20):
            size += len(chunk)
            if size > told.bytes:
                break
            seen.update(chunk)
            file.write(chunk)
    if size != told.bytes or seen.hexdigest() != told.sha256:
        raise NotShared(f"{entry.filename} is not what was packed. {_DAMAGED}")


def _check_tensors(run: RunInfo, draft: Path, count: int) -> None:
    """Every step holds the tensors of a step, of one shape, which the run's colours and size fit."""
    first: tuple[int, ...] = ()
    for index in range(count):
        name = step_name(index)
        header = _header(draft / STEPS / name)
        if not _NEEDED <= set(header.tensors) <= _TENSORS:
            raise NotShared(f"Step {index + 1} of the film does not hold what a step does. {_DAMAGED}")
        shape = header.shapes["sample"]
        first = first or shape
        if shape != first or header.shapes["pred_original_sample"] != first:
            raise NotShared(f"Step {index + 1} of the film has another shape than the first. {_DAMAGED}")
        if header.shapes.get("conditional") != header.shapes.get("unconditional"):
            raise NotShared(f"Step {index + 1} of the film has a guidance that does not fit. {_DAMAGED}")
        _check_facts(header, index)
    if not fits(run, first):
        raise NotShared(f"The film's latents do not fit its size. {_DAMAGED}")
    if (draft / LATENTS).is_file() and _header(draft / LATENTS).shapes != {"latents": first}:
        raise NotShared(f"The film's last latents have another shape than its steps. {_DAMAGED}")


def _header(path: Path) -> Header:
    try:
        header = read_header(path)
    except UnreadableFile as problem:
        raise NotShared(f"A step of the film cannot be read: {problem}") from None
    sound = all(one.dtype in _NUMBERS and 0 not in one.shape for one in header.tensors.values())
    if header.format != "safetensors" or not sound:
        raise NotShared(f"{path.name} of the film holds something else than latents. {_DAMAGED}")
    return header


def _check_facts(header: Header, index: int) -> None:
    try:
        facts = json.loads(header.metadata.get("step", "{}"))
        numbers = [float(facts[name]) for name in _FACTS]
        orders = json.loads(header.metadata.get("orders", "{}")).items()
        lying = all(sorted(order) == list(range(len(header.shapes[name]))) for name, order in orders)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        numbers, lying = [], False
    alpha, noise = numbers[2:] or (math.nan, math.nan)
    if not (lying and math.isfinite(alpha) and math.isfinite(noise) and alpha**2 + noise**2 > 0):
        raise NotShared(f"Step {index + 1} of the film says nothing sound of its noise. {_DAMAGED}")


def fits(run: RunInfo, shape: Sequence[int]) -> bool:
    """Whether latents of that shape can be shown as pictures of the run (develop.grid) by its colours."""
    if len(shape) not in (3, 4, 5) or shape[0] != 1 or math.prod(shape) > MOST_FILE:
        return False
    channels = len(run.about["to_rgb"]["weight"])
    if len(shape) > 3:
        return shape[1] == channels and (len(shape) == 4 or shape[2] == 1)
    fields = GenerationRequest.model_fields
    width, height = (run.request.get(side, fields[side].default) for side in ("width", "height"))
    places, depth = shape[1:]
    rows = round((places * height / width) ** 0.5)
    whole = rows > 0 and places % rows == 0
    if run.about.get("layout") == "patched":
        return whole and depth == channels
    return whole and depth == 4 * channels


def _check_pictures(run: RunInfo, draft: Path) -> None:
    """What the run was shown is there and is what its keys say; the finished picture is a PNG file."""
    wanted, there = set(shown(run.request)), {path.stem: path for path in (draft / INPUTS).iterdir()}
    if wanted != set(there):
        raise NotShared(f"Pictures that the run was shown are missing, or are not its own. {_DAMAGED}")
    for key, path in there.items():
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest()[:32] != key:
            raise NotShared(f"A picture that the run was shown is another one. {_DAMAGED}")
        read_original(data)
    if (draft / PICTURE).is_file():
        data = (draft / PICTURE).read_bytes()
        if not data.startswith(b"\x89PNG\r\n\x1a\n"):
            raise NotShared(f"The film's finished picture is no PNG file. {_DAMAGED}")
        read_original(data)


def _placed(run: RunInfo, store: TrajectoryStore) -> RunInfo:
    """The run under an id that is free, and below its parent only where that is here."""
    if run.parent is not None:
        try:
            store.get(run.parent)
        except UnknownTrajectory:
            alone = {name: value for name, value in run.request.items() if name != "branch"}
            run = replace(run, parent=None, parent_step=0, request=alone)
    while store.folder(run.id).exists():
        job = secrets.token_hex(8)
        run = replace(run, job=job, index=0, id=run_id(job, 0))
    return run


def _kept(run: RunInfo, draft: Path, store: TrajectoryStore, outputs: Path) -> RunInfo:
    """Puts the finished picture among the outputs and the checked run in its place, or neither."""
    picture: Path | None = None
    if (source := draft / PICTURE).is_file():
        data = source.read_bytes()
        # Under a name that no run of this program takes: those are numbered.
        picture = outputs / run.task / datetime.date.today().isoformat() / f"{run.id}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        put_file(picture, lambda part: part.write_bytes(data))
        source.unlink()
    run = replace(run, picture=str(picture or ""))
    try:
        (draft / DESCRIPTION).write_text(json.dumps(asdict(run), ensure_ascii=False), "utf-8")
        os.rename(draft, store.folder(run.id))
    except OSError:
        if picture is not None:
            picture.unlink(missing_ok=True)
        raise
    return run


def _shown(text: str) -> str:
    """What a file says, for a sentence: printable, and not longer than a line bears."""
    return repr("".join(sign if sign.isprintable() else "?" for sign in text[:60]))
