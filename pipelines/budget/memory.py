"""What memory this machine has for us, limits of containers counted, and what its running out looks like.

The component cache takes its budgets from here, the choice of offload and the forecast their room.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.devices import DevicePlan

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
_NO_LIMIT = 1 << 60
"""Version 1 writes "no limit" as the largest number of pages; no machine has an exbibyte."""


@dataclass(frozen=True)
class Memory:
    """Bytes. Totals are what this process may ever use, limits of its control groups (containers) counted.

    device_*: of the GPU; the same as RAM where models run on the processor. device_free and ram_available:
    what is free now. device_own and ram_own: what this process holds now, and could let go of.
    """

    device_total: int
    device_free: int
    ram_total: int
    ram_available: int
    device_own: int = 0
    ram_own: int = 0

    @property
    def device_ours(self) -> int:
        """What a run may take on the device when everything else of ours leaves it."""
        return min(self.device_total, self.device_free + self.device_own)

    @property
    def ram_ours(self) -> int:
        """The same for RAM."""
        return min(self.ram_total, self.ram_available + self.ram_own)


@dataclass(frozen=True)
class Limit:
    """A control group's: at most `total` bytes, of which `used` are taken and cannot be reclaimed."""

    total: int
    used: int


def measure(plan: DevicePlan) -> Memory:
    """What there is now. plan: says which device is meant."""
    ram_total, ram_available, ram_own = _ram()
    kind = plan.device.split(":")[0]
    if kind == "cuda":
        total, free, own = _cuda(plan.device)
    elif kind == "mps":
        total, free, own = _mps(ram_available)
    else:
        total, free, own = ram_total, ram_available, ram_own
    return Memory(total, free, ram_total, ram_available, own, ram_own)


def _ram() -> tuple[int, int, int]:
    import psutil

    machine = psutil.virtual_memory()
    total, available = int(machine.total), int(machine.available)
    for limit in limits():
        total = min(total, limit.total)
        available = min(available, max(0, limit.total - limit.used))
    seen = psutil.Process().memory_info()
    # Pages of mapped files count as "shared"; the system takes them back by itself, so they are already free.
    own = int(seen.rss) - int(getattr(seen, "shared", 0))
    return total, min(available, total), max(0, own)


def _cuda(device: str) -> tuple[int, int, int]:
    import torch

    free, total = torch.cuda.mem_get_info(device)
    # What torch's allocator keeps without using it is free to us, whatever the driver says.
    kept, used = torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
    return int(total), int(free + kept - used), int(used)


def _mps(ram_available: int) -> tuple[int, int, int]:
    import torch

    total = int(torch.mps.recommended_max_memory())
    own = int(torch.mps.current_allocated_memory())
    # Its memory is the machine's RAM: what other programs hold of that is not there.
    return total, max(0, min(total - int(torch.mps.driver_allocated_memory()), ram_available)), own


def limits(root: Path = CGROUPS, own: Path = OWN_CGROUPS) -> list[Limit]:
    """The memory limits of the control groups that this process is in, both versions, up to the topmost.

    Empty where there are none. root, own: where the system shows them.
    """
    found = []
    for folder, version in _groups(root, own):
        limit = _version_2(folder) if version == 2 else _version_1(folder)
        if limit is not None:
            found.append(limit)
    return found


def _groups(root: Path, own: Path) -> Iterator[tuple[Path, int]]:
    """The folders of our control groups and those above them, with their version."""
    try:
        lines = own.read_text(encoding="utf8").splitlines()
    except OSError:  # no Linux, or /proc is hidden
        return
    for line in lines:
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        _, controllers, path = parts
        if controllers == "":
            tops, version = (root, root / "unified"), 2
        elif "memory" in controllers.split(","):
            tops, version = (root / "memory", root / controllers), 1
        else:
            continue
        for top in tops:
            if not top.is_dir():
                continue
            # Inside a container the path is often the host's, and what is mounted is our own group already.
            place = top / path.strip("/")
            inside = place if place.is_dir() and ".." not in path.split("/") else top
            while True:
                yield inside, version
                if inside == top:
                    break
                inside = inside.parent
            break


def _version_2(folder: Path) -> Limit | None:
    # Above memory.high the kernel slows a group down until it barely moves: it is a limit as well.
    caps = [number for name in ("memory.max", "memory.high") if (number := _number(folder / name))]
    total = min(caps, default=_NO_LIMIT)
    used = _number(folder / "memory.current")
    if total >= _NO_LIMIT or used is None:
        return None
    return Limit(total, max(0, used - _stat(folder, "inactive_file")))


def _version_1(folder: Path) -> Limit | None:
    total = _number(folder / "memory.limit_in_bytes")
    used = _number(folder / "memory.usage_in_bytes")
    if total is None or total >= _NO_LIMIT or used is None:
        return None
    return Limit(total, max(0, used - _stat(folder, "total_inactive_file")))


def _number(file: Path) -> int | None:
    """The number in a file; None for "max", and where the file is missing or hidden."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdecimal() else None


def _stat(folder: Path, name: str) -> int:
    """A line of memory.stat; the page cache counts as used, but is given back when it is wanted."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return 0
    for line in lines:
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdecimal():
            return int(value)
    return 0


_SAID = (
    "out of memory",  # CUDA, MPS
    "not enough memory",  # torch's CPU allocator on Windows and Linux
    "can't allocate memory",
    "cannot allocate memory",
    "alloc_failed",  # CUDNN_STATUS_ALLOC_FAILED, CUBLAS_STATUS_ALLOC_FAILED
    "could not create a memory object",  # oneDNN
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that RAM or GPU memory ran out; every library tells it in its own way."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    told = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in told for part in _SAID)


def give_back(collect: bool = True) -> None:
    """Returns what is not used any more to the system and the device: after an eviction or a failed try.

    collect: also looks for what only cycles hold, which takes a tenth of a second.
    """
    import ctypes
    import gc
    import sys

    import torch

    if collect:
        gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
    if sys.platform == "linux" and os.confstr("CS_GNU_LIBC_VERSION"):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # glibc keeps freed pieces otherwise


def amount(count: float) -> str:
    """Bytes for people: "9.1 GB", "820 MB"."""
    return f"{count / 1e9:.1f} GB" if count >= 0.95e9 else f"{max(1, round(count / 1e6))} MB"
