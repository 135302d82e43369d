"""Remembers what text encoders made of prompts, so that a repeated prompt runs none of them."""

from __future__ import annotations

import functools
import itertools
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

MOST_BYTES = 256 << 20


class PromptMemory:
    """Results by what went into them, the least recently used dropped beyond `most_bytes`.

    Tensors lie in RAM, so that what is remembered takes nothing of the device. What is given out may not be
    changed in place; no pipeline does.
    """

    def __init__(self, most_bytes: int = MOST_BYTES):
        self.most_bytes = most_bytes
        self.bytes = 0
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._next = itertools.count()

    def number(self, part: Any) -> int:
        """A number of its own for a text encoder or tokenizer; none is given twice."""
        if part not in self._numbers:
            self._numbers[part] = next(self._next)
        return self._numbers[part]

    def encoders_of(self, pipe: Any) -> tuple[int, ...]:
        """Which text encoders and tokenizers a pipeline has: part of every key."""
        return tuple(
            self.number(part)
            for name, part in sorted(pipe.components.items())
            if part is not None and name.startswith(("text_encoder", "tokenizer"))
        )

    def recall(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once for each key."""
        if key in self._entries:
            self._entries.move_to_end(key)
            return _restored(self._entries[key][0])
        made = make()
        kept, size = _kept(made), _size(made)
        if size <= self.most_bytes:
            self._entries[key] = kept, size
            self.bytes += size
            while self.bytes > self.most_bytes:
                self.bytes -= self._entries.popitem(last=False)[1][1]
        return made

    def attach(self, pipe: Any, state: Hashable) -> None:
        """Makes a view remember what its `encode_prompt` gives, for pipelines that read prompts themselves.

        state: what else counts, such as the adapters of the text encoders.
        """
        encode = getattr(pipe, "encode_prompt", None)
        if encode is None:
            return
        parts = (type(pipe).__name__, self.encoders_of(pipe), state)

        @functools.wraps(encode)
        def remembered(*args: Any, **kwargs: Any) -> Any:
            given = _frozen([args, kwargs])
            if given is None:
                return encode(*args, **kwargs)
            return self.recall((parts, given), lambda: encode(*args, **kwargs))

        pipe.encode_prompt = remembered


def _frozen(value: Any) -> Hashable | None:
    """A key for arguments, None where they hold more than words and numbers (tensors, pictures)."""
    import torch

    if value is None or isinstance(value, str | int | float | bool):
        return type(value).__name__, value
    if isinstance(value, torch.device | torch.dtype):
        return str(value)
    if isinstance(value, Mapping):
        value = [[key, value[key]] for key in sorted(value)]
    if not isinstance(value, list | tuple):
        return None
    parts = [_frozen(part) for part in value]
    return None if None in parts else tuple(parts)


def _kept(value: Any) -> Any:
    """The value with its tensors in RAM, each beside the device that it belongs to."""
    import torch

    if isinstance(value, torch.Tensor):
        return _Tensor(value.detach().cpu(), value.device)
    if isinstance(value, Mapping):
        return {key: _kept(part) for key, part in value.items()}
    return type(value)(map(_kept, value)) if type(value) in (list, tuple) else value


class _Tensor:
    def __init__(self, tensor: Any, device: Any):
        self.tensor, self.device = tensor, device


def _restored(value: Any) -> Any:
    if isinstance(value, _Tensor):
        return value.tensor.to(value.device)
    if isinstance(value, Mapping):
        return {key: _restored(part) for key, part in value.items()}
    return type(value)(map(_restored, value)) if type(value) in (list, tuple) else value


def _size(value: Any) -> int:
    import torch

    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return sum(_size(part) for part in parts) + 200
