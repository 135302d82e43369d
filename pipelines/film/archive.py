"""A recorded run as one ZIP file that another copy of Darkroom can look into and branch from.

`run.json` describes it and names every other file with its size and hash: `steps/00000.safetensors` and on,
`latents.safetensors`, `picture.png`, and what the run was shown, `inputs/<key>.<ending>`.
"""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from pipelines import VERSION
from pipelines.film.trajectory import LATENTS, STEPS, RunInfo, TrajectoryStore, UnknownTrajectory, step_name
from pipelines.library.headers import UnreadableFile, read_header
from pipelines.metadata import UnreadablePicture
from pipelines.pictures import PictureStore

FORMAT, EDITION = "darkroom film", 1
DESCRIPTION, PICTURE, INPUTS = "run.json", "picture.png", "inputs"


class NotShared(ValueError):
    """A run that cannot be packed, or a file that is none; `str()` is a sentence."""


def pack(store: TrajectoryStore, pictures: PictureStore, id: str, target: BinaryIO) -> RunInfo:
    """Writes the run into `target`. Raises `UnknownTrajectory` where a part of it is gone, and `NotShared`
    while it still develops or where a picture that it was shown is no longer kept."""
    run = store.get(id)
    if not run.ended:
        raise NotShared("The run has not ended: it can be packed once it has.")
    if not (count := store.steps(id)):
        raise NotShared("Nothing of this run was recorded: there is no film to pack.")
    when = time.localtime(run.created)[:6] if run.created > 315_600_000 else (1980, 1, 1, 0, 0, 0)
    told: dict[str, dict[str, Any]] = {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:

        def put(name: str, data: bytes) -> None:
            if name != DESCRIPTION:
                told[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            archive.writestr(zipfile.ZipInfo(name, when), data)

        for name, path in _films(store, id, count):
            try:
                read_header(path)
                put(name, path.read_bytes())
            except (OSError, UnreadableFile):
                raise UnknownTrajectory(
                    f"A part of the recorded run, {name}, is not there, or its file is cut."
                ) from None
        if (picture := _picture(run)) is not None:
            put(PICTURE, picture)
        for key in shown(run.request):
            try:
                ending, data = pictures.file(key)
            except UnreadablePicture as problem:
                raise NotShared(str(problem)) from None
            put(f"{INPUTS}/{key}{ending}", data)
        # Without where things lie on this machine.
        about = {**asdict(run), "picture": "", "pinned": False, "trashed": False}
        whole = {"format": FORMAT, "version": EDITION, "program": VERSION, "run": about, "files": told}
        put(DESCRIPTION, json.dumps(whole, ensure_ascii=False, default=str).encode())
    return run


def shown(request: Mapping[str, Any]) -> list[str]:
    """The keys of all pictures that a request names: what it begins with, its mask, its maps, and what was
    painted onto a step."""
    units = [unit for unit in request.get("controls") or () if isinstance(unit, Mapping)]
    keys = [request.get("image"), request.get("mask_image"), (request.get("branch") or {}).get("painted")]
    keys += [unit.get(name) for unit in units for name in ("image", "map_image")]
    return [*dict.fromkeys(key for key in keys if isinstance(key, str) and key)]


def _films(store: TrajectoryStore, id: str, count: int) -> Iterator[tuple[str, Path]]:
    folder = store.folder(id)
    for index in range(count):
        yield f"{STEPS}/{step_name(index)}", folder / STEPS / step_name(index)
    if (folder / LATENTS).is_file():
        yield LATENTS, folder / LATENTS


def _picture(run: RunInfo) -> bytes | None:
    """The finished picture; None where it was deleted, which leaves the film whole."""
    try:
        return Path(run.picture).read_bytes() if run.picture else None
    except OSError:
        return None
