"""The first steps of a recorded run, taken again without asking the denoiser.

The whole call runs: the real scheduler steps over what was recorded, so multistep history, random draws,
masks and windows of control units rebuild themselves, and what follows is what would have followed.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.film.trajectory import TrajectoryStore
from pipelines.latents import painter

if TYPE_CHECKING:
    from torch import Tensor


ALL = sys.maxsize
"""As many steps as there may be."""


@dataclass(frozen=True)
class Replay:
    """Steps 0 .. count - 1 of the run `id`, of which `known` are recorded; the others come to nothing.

    start: what the first step after them begins with, in the place of what the recorded run did. noise_seed:
    seeds what a sampler draws from then on; None goes on drawing as the recorded run did. noise_at: after how
    many steps it does so, None for after the last of these. own: the run goes on from what it took itself.
    """

    store: TrajectoryStore
    id: str
    count: int
    known: int
    output_shape: tuple[int, ...] = ()
    start: Tensor | None = None
    noise_seed: int | None = None
    noise_at: int | None = None
    own: bool = False
    _read: dict[int, dict[str, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    def seed_after(self, steps: int) -> int | None:
        """What the remaining noise is drawn with once so many steps are taken; None where nothing changes."""
        return self.noise_seed if steps == (self.count if self.noise_at is None else self.noise_at) else None

    def given(self, index: int) -> tuple[Tensor | None, Tensor | None]:
        """(model output, sample) that step `index` takes; None where it is the run's own."""
        if index >= min(self.count, self.known):
            return None, None
        return self._of(index, "model_output"), self._of(index, "sample")

    def following(self, index: int) -> Tensor | None:
        """What follows step `index` where the run may come to something else by itself (another mask)."""
        if index + 1 > self.count:
            return None
        if index + 1 == self.count and self.start is not None:
            return self.start
        if index + 1 >= self.known:
            return None
        return self._of(index + 1, "sample")

    def _of(self, index: int, name: str) -> Tensor:
        """A tensor of a recorded step, which is read once: what follows a step is what the next is given. A
        copy, since a scheduler may go on working in the same memory."""
        if index not in self._read:
            self._read.clear()
            self._read[index] = self.store.read_step(self.id, index)[0]
        return self._read[index][name].clone()


class Denoiser:
    """A view's denoiser, watched, and passed over while steps are replayed.

    index: gives the step that is being computed. stilled: once true, what it gave last is given again. watch:
    around each of its calls, by the step.
    """

    def __init__(
        self,
        pipe: Any,
        name: str,
        index: Callable[[], int],
        replay: Replay | None,
        stilled: Callable[[], bool],
        watch: Callable[[int, Any], AbstractContextManager[Any]],
    ):
        self.index, self.replay, self.stilled, self.watch = index, replay, stilled, watch
        self.parts: tuple[Tensor, Tensor] | None = None
        self.shape: tuple[int, ...] = ()
        self._last: Any = None
        owner = painter(pipe)
        self._original = getattr(owner, name)
        handle = copy.copy(self._original)
        handle.__dict__["forward"] = self._forward
        setattr(owner, name, handle)
        if replay is not None and replay.count and getattr(owner, "controlnet", None) is not None:
            owner.controlnet = _passed_over(owner.controlnet, lambda: index() < replay.count)

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        first: Any = args[0] if args else next((kwargs[name] for name in _FIRST if name in kwargs), None)
        replay = self.replay
        if replay is not None and self.index() < replay.count and replay.output_shape and _is_tensor(first):
            # A denoiser that takes something else is asked; the recorded output counts in any case.
            return _nothing(first.new_zeros((len(first), *replay.output_shape)), kwargs)
        if self._last is not None and self.stilled():
            return self._last
        with self.watch(self.index(), self._original):
            self._last = found = self._original.forward(*args, **kwargs)
        output = found[0]
        if _is_tensor(output):
            self.shape = tuple(output.shape[1:])
            doubled = len(output) == 2
            self.parts = (output[:1], output[1:]) if doubled else None
        return found


_FIRST = ("sample", "hidden_states", "x")
"""What diffusers' denoisers call what they denoise."""


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _nothing(zeros: Tensor, kwargs: dict[str, Any]) -> Any:
    from diffusers.models.modeling_outputs import Transformer2DModelOutput

    return (zeros,) if kwargs.get("return_dict") is False else Transformer2DModelOutput(sample=zeros)


def _passed_over(network: Any, now: Callable[[], bool]) -> Any:
    """A ControlNet that says nothing while `now()`: nobody listens to it then."""
    handle = copy.copy(network)
    handle.__dict__["_forward_hooks"] = type(network._forward_hooks)()
    handle.__dict__["_forward_hooks_with_kwargs"] = type(network._forward_hooks_with_kwargs)()

    def forward(*args: Any, **kwargs: Any) -> Any:
        if now():
            first = args[0] if args else next(kwargs[name] for name in _FIRST if name in kwargs)
            return [], first.new_zeros(1)
        return network(*args, **kwargs)

    handle.__dict__["forward"] = forward
    return handle
