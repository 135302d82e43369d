"""Weights on disk as this machine runs them: converted once, then mapped into memory as they are.

An entry is one component in safetensors format, in a folder named after its content, so two models with the
same VAE keep it once. A small record beside it remembers which files gave which content.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pipelines.budget.memory import amount

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BUDGET = 80_000_000_000
"""Bytes the cache may take where the disk is large."""
SHARE_OF_FREE = 0.5
"""At most this share of what the disk has free, its own bytes counted as free."""
_TEMPORARY = "writing-"
_FORMAT = 1
"""Counted up when what is remembered changes its meaning; older records are then passed over."""


class BadWeights(ValueError):
    """Weights that cannot give a picture; `str()` is a sentence."""


@dataclass(frozen=True)
class Record:
    """What is known of one component's source files. content: hash of its tensors as they run.

    stored: they are in the cache, converted; else the source files hold them as they run.
    """

    content: str
    bytes: int
    stored: bool


class WeightsCache:
    """Converted weights below `root`. Every method may be called from any thread, and by several processes.

    budget: bytes on disk; by default what the disk has room for.
    """

    def __init__(self, root: Path, budget: int | None = None):
        self.root, self._budget = root, budget
        self._lock = threading.Lock()

    def recall(self, stamp: str) -> Record | None:
        """What is remembered of the source files with that stamp, None where nothing is, or is gone."""
        told = self.note(stamp)
        try:
            record = Record(told["content"], int(told["bytes"]), bool(told["stored"]))
        except (KeyError, TypeError, ValueError):
            return None
        return None if record.stored and not self.file(record.content).is_file() else record

    def remember(self, stamp: str, record: Record) -> None:
        self.keep_note(stamp, asdict(record))

    def note(self, key: str) -> dict[str, Any]:
        """A small JSON object kept under `key`; empty where there is none."""
        try:
            told = json.loads((self.root / "known" / f"{key}.json").read_text("utf8"))
        except (OSError, ValueError):  # never written, or cut off by a crash: it is found out anew
            return {}
        return told if isinstance(told, dict) and told.pop("format", None) == _FORMAT else {}

    def keep_note(self, key: str, told: Mapping[str, Any]) -> None:
        """Keeps a small JSON object under `key`; where the disk is full it is found out anew next time."""
        file = self.root / "known" / f"{key}.json"
        temporary = file.with_name(f"{_TEMPORARY}{os.getpid()}-{threading.get_ident()}-{file.name}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({**told, "format": _FORMAT}), encoding="utf8")
            temporary.replace(file)
        except OSError:
            temporary.unlink(missing_ok=True)

    def file(self, content: str) -> Path:
        """Where the weights with that content are kept, if they are."""
        return self.root / content / "weights.safetensors"

    def open(self, content: str) -> dict[str, Tensor]:
        """The kept tensors, mapped into memory. Raises OSError or SafetensorError where they are gone."""
        file = self.file(content)
        os.utime(file)  # the least recently used go first
        return read_tensors([file])

    def store(self, state: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype]) -> tuple[str, int]:
        """Writes the tensors in `dtypes`, one after the other so that no second copy is in memory.

        Returns their content and bytes. Raises `BadWeights`, and OSError where the disk is full.
        """
        size = sum(tensor.numel() * dtypes[name].itemsize for name, tensor in state.items())
        with self._lock:
            self._make_room(size)
        folder = self.root / f"{_TEMPORARY}{os.getpid()}-{threading.get_ident()}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with (folder / "weights.safetensors").open("wb") as stream:
                content = digest(state, dtypes, stream)
                stream.flush()
                os.fsync(stream.fileno())
            if not self.file(content).is_file():
                shutil.rmtree(self.root / content, ignore_errors=True)
                folder.rename(self.root / content)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return content, size

    def sweep(self) -> None:
        """Takes away what a crash left half-written. Called once at the start."""
        places = [*self.root.glob(f"{_TEMPORARY}*"), *(self.root / "known").glob(f"{_TEMPORARY}*")]
        for place in places:
            writer = place.name.removeprefix(_TEMPORARY).split("-")[0]
            if writer.isdigit() and (int(writer) == os.getpid() or not _alive(int(writer))):
                shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink(missing_ok=True)

    @property
    def bytes(self) -> int:
        """What the kept weights take on disk."""
        return sum(size for _, size, _ in self._entries())

    def _entries(self) -> list[tuple[float, int, Path]]:
        found = []
        for file in self.root.glob("*/weights.safetensors"):
            try:
                seen = file.stat()
            except FileNotFoundError:  # another process took it away
                continue
            if not file.parent.name.startswith(_TEMPORARY):
                found.append((seen.st_mtime, seen.st_size, file.parent))
        return sorted(found)

    def _make_room(self, size: int) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        entries = self._entries()
        used = sum(one for _, one, _ in entries)
        free = shutil.disk_usage(self.root).free
        budget = self._budget if self._budget is not None else min(BUDGET, int((free + used) * SHARE_OF_FREE))
        if size > budget:
            raise OSError(
                errno.ENOSPC,
                f"{amount(size)} do not fit into the {amount(budget)} kept for converted weights",
            )
        for _, one, folder in entries:
            if used + size <= budget:
                break
            # Where it is mapped into memory it stays readable until that ends (not so on Windows, which
            # refuses: then the next one goes).
            shutil.rmtree(folder, ignore_errors=True)
            used -= one


def read_tensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """All tensors of safetensors files, mapped into memory: nothing is read before it is used."""
    from safetensors import safe_open

    found: dict[str, Tensor] = {}
    for file in files:
        with safe_open(file, "pt") as opened:
            found |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return found


def digest(
    state: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype], stream: BinaryIO | None = None
) -> str:
    """Hash over names, formats, shapes and values of the tensors, converted to `dtypes`; 32 hex digits.

    stream: where they are written meanwhile, as a safetensors file. Raises `BadWeights` for values that are
    no numbers.
    """
    hashed = hashlib.sha256()
    for name, data in _converted(state, dtypes, stream, hashed):
        hashed.update(name.encode())
        hashed.update(data)
        if stream is not None:
            stream.write(data)
    return hashed.hexdigest()[:32]


def _converted(
    state: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype], stream: BinaryIO | None, hashed: Any
) -> Iterator[tuple[str, memoryview]]:
    import torch

    # The widest first: so each tensor begins at a multiple of its own size.
    order = sorted(state, key=lambda name: (-dtypes[name].itemsize, name))
    header = _header({name: (dtypes[name], tuple(state[name].shape)) for name in order})
    hashed.update(header)
    if stream is not None:
        stream.write(header)
    for name in order:
        tensor = state[name].to(dtypes[name]).contiguous()
        # A sum in float32 finds what is no number in one pass; only where it does is each value looked at.
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.sum(dtype=torch.float32))):
            wrong = int((~torch.isfinite(tensor)).sum())
            if wrong:
                raise BadWeights(
                    f"{wrong:,} of the {tensor.numel():,} values of {name} are no numbers (NaN or infinite). "
                    "The file is damaged, or was made by a training that failed: take another copy of it."
                )
        yield name, memoryview(tensor.reshape(-1).view(torch.uint8).numpy())


def _header(table: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> bytes:
    told: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape) in table.items():
        count = dtype.itemsize
        for side in shape:
            count *= side
        told[name] = {"dtype": _name(dtype), "shape": list(shape), "data_offsets": [end, end + count]}
        end += count
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)  # vector units read aligned memory faster
    return struct.pack("<Q", len(text)) + text


def _name(dtype: torch.dtype) -> str:
    """As safetensors calls it."""
    names = {
        "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64",
        "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
        "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    }  # fmt: skip
    return names[str(dtype).removeprefix("torch.")]


def _alive(process: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(process))
