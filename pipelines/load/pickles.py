"""Pickled weights (.ckpt, .pt, .bin): read in torch's weights-only mode alone, or not at all.

A pickle is a program. What such a program would call is told by name, and none of it is ever executed.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.library.headers import UnreadableFile, shown

if TYPE_CHECKING:
    from torch import Tensor

_NESTED = ("state_dict", "string_to_param", "model", "module", "params_ema", "params", "ema")
"""Keys under which trainings put the tensors, beside their optimizer's and their settings."""
_STOOD_IN = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning_fabric.utilities.data.AttributeDict",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
)
"""What the trainings of published checkpoints left beside the weights: notes on their progress. A class that
does nothing stands in for each; the real ones are neither imported nor called."""

_DAMAGED = (OSError, RuntimeError, ValueError, EOFError, IndexError, KeyError)
"""What torch raises for files that are cut off or no checkpoints at all."""


class _Nothing:
    """Stands in for whatever a pickle wants to make: takes everything, keeps nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Nothing:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        return

    def __setstate__(self, state: Any) -> None:
        return

    def __hash__(self) -> int:
        return 0


class UnsafePickle(UnreadableFile):
    """A pickle that would execute something. names: what it would call."""

    def __init__(self, message: str, names: tuple[str, ...]):
        super().__init__(message)
        self.names = names


def unsafe_names(path: Path) -> list[str]:
    """What unpickling the file would call beyond the making of tensors, sorted; nothing of it is executed.

    Raises `UnreadableFile` for what is no pickle that torch wrote.
    """
    import torch

    _refuse_bomb(path)
    try:
        if zipfile.is_zipfile(path):
            found = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        else:
            found = _named_in_stream(path) - set(torch._weights_only_unpickler._get_allowed_globals())
    except (
        OSError,
        RuntimeError,
        ValueError,
        pickle.UnpicklingError,
        EOFError,
        IndexError,
        KeyError,
    ) as error:
        raise UnreadableFile(
            f"{shown(path)} is no file of weights that torch wrote ({_first_line(error)}). It may be "
            "damaged: fetch it again."
        ) from error
    return sorted(found - set(_STOOD_IN))


def _named_in_stream(path: Path) -> set[str]:
    """Every function and class that a file of torch's oldest format names: up to five pickles, one after the
    other, and then numbers. The opcodes are read, not carried out."""
    found: set[str] = set()
    strings: list[str] = []
    with path.open("rb") as stream:
        for count in range(5):
            if not stream.peek(1):
                break
            try:
                for opcode, argument, _ in pickletools.genops(stream):
                    if opcode.name in ("GLOBAL", "INST"):
                        found.add(str(argument).replace(" ", ".", 1))
                    elif opcode.name == "STACK_GLOBAL":
                        found.add(".".join(strings[-2:]))
                    elif isinstance(argument, str):
                        strings.append(argument)
            except (ValueError, struct.error):
                if not count:
                    raise
                break  # the numbers have begun
    return found


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickled checkpoint by name, on the CPU, mapped into memory where the format allows.

    Raises `UnsafePickle` for one that would execute something, naming it, and `UnreadableFile` for one that
    is damaged or holds no tensors.
    """
    import torch

    _refuse_bomb(path)
    try:
        # Only zip files can be mapped; the oldest format is one stream.
        with torch.serialization.safe_globals([(_Nothing, name) for name in _STOOD_IN]):
            told = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        names = tuple(unsafe_names(path))
        if names:
            raise UnsafePickle(
                f"{shown(path)} was not opened: it is a pickle that would run {_listed(names)}, and weights "
                "need none of that. Take a .safetensors file of this model instead.",
                names,
            ) from None
        raise UnreadableFile(
            f"{shown(path)} is a pickle that holds more than weights, and was not opened. Take a "
            f".safetensors file of this model instead ({_first_line(error)})."
        ) from None
    except _DAMAGED as error:
        raise UnreadableFile(
            f"{shown(path)} cannot be read ({_first_line(error)}). It may be damaged: fetch it again."
        ) from error
    tensors = _tensors(told)
    if not tensors:
        raise UnreadableFile(f"{shown(path)} holds no weights.")
    return tensors


def _tensors(told: Any) -> dict[str, Any]:
    import torch

    if not isinstance(told, Mapping):
        return {}
    for key in _NESTED:
        inner = told.get(key)
        if isinstance(inner, Mapping) and any(isinstance(value, torch.Tensor) for value in inner.values()):
            told = inner
            break
    return {
        name: value
        for name, value in told.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor) and not value.is_sparse
    }


def _refuse_bomb(path: Path) -> None:
    """torch stores its zip files without packing them; one that unpacks to far more is no checkpoint."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as opened:
            whole = sum(entry.file_size for entry in opened.infolist())
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        raise UnreadableFile(f"{shown(path)} is a damaged zip file: fetch it again.") from None
    if whole > 2 * path.stat().st_size + 1_000_000:
        raise UnreadableFile(
            f"{shown(path)} unpacks to {whole:,} bytes, far more than it has: it is no file of weights, and "
            "was not opened."
        )


def _listed(names: tuple[str, ...]) -> str:
    first = ", ".join(name[:80] for name in names[:5])
    return first if len(names) <= 5 else f"{first} and {len(names) - 5} more"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
