"""Compiles a denoiser's repeated blocks beside the runs that paint meanwhile as they are.

A twin that shares every weight is compiled in a thread of its own. What torch compiled belongs to a block's
code, so the denoiser itself then finds it ready; each size and each make of LoRA is compiled once.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.request import OffloadMode

BLOCKS: Mapping[str, tuple[str, ...]] = {
    "UNet2DConditionModel": ("BasicTransformerBlock", "ResnetBlock2D"),
    "SD3Transformer2DModel": ("JointTransformerBlock",),
    "PixArtTransformer2DModel": ("BasicTransformerBlock",),
    "SanaTransformer2DModel": ("SanaTransformerBlock",),
}
"""What is compiled of a denoiser of that class, where it is more than diffusers' `_repeated_blocks` names."""

MOST_KINDS = 96
"""How many makes of one block torch may keep: an SDXL's differ in widths and sizes, and each counts anew for
every size and LoRA."""


class Compiler:
    """Knows what is compiled. tell: takes sentences about what happened in the background. backend: torch's
    name of what compiles."""

    def __init__(self, tell: Callable[[str], None] = lambda sentence: None, backend: str = "inductor"):
        self._tell, self._backend = tell, backend
        self._ready: set[Any] = set()
        self._failed: dict[Any, str] = {}
        self._under_way: dict[Any, threading.Thread] = {}
        self._lock = threading.Lock()

    @contextmanager
    def used(self, pipe: Any, mode: OffloadMode, note: Callable[[str], None]) -> Iterator[None]:
        """Inside, the denoiser of `pipe` runs compiled where that is ready for what it is called with; where
        not, its first call begins it in the background. mode: where weights are in this run. note: takes a
        sentence for the person."""
        denoiser = pipe.components.get("unet") or pipe.components.get("transformer")
        blocks = blocks_of(denoiser)
        if why := _hindrance(denoiser, blocks, mode):
            note(why)
            yield
            return
        asked = False

        def first(watched: Any, args: Any, kwargs: Any) -> None:
            # `watched` is the run's own handle of the denoiser, which listens to its output.
            nonlocal asked
            if asked:
                return
            asked = True
            called = signature(denoiser, args, kwargs)
            if self._is_ready(called, note):
                allow_many()
                compile_blocks(blocks, self._backend)
            elif called not in self._failed:
                self._begin(called, denoiser, args, kwargs)

        hook = denoiser.register_forward_pre_hook(first, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
            for block in blocks:
                block._compiled_call_impl = None

    def wait(self) -> None:
        """Until nothing is being compiled."""
        for thread in list(self._under_way.values()):
            thread.join()

    def _is_ready(self, called: Any, note: Callable[[str], None]) -> bool:
        with self._lock:
            if called in self._ready:
                return True
            if called in self._failed:
                note(f"The model could not be compiled and ran as it is: {self._failed[called]}")
            else:
                note("The model is being compiled in the background; until then it runs as it is.")
            return False

    def _begin(self, called: Any, denoiser: Any, args: Any, kwargs: Any) -> None:
        with self._lock:
            if called in self._under_way:
                return
            given = copies((args, kwargs))
            thread = threading.Thread(
                target=self._warm_up, args=(called, twin(denoiser), given), name="compile", daemon=True
            )
            self._under_way[called] = thread
        thread.start()

    def _warm_up(self, called: Any, denoiser: Any, given: tuple[Any, Any]) -> None:
        import torch

        began = time.perf_counter()
        args, kwargs = given
        try:
            allow_many()
            compile_blocks(blocks_of(denoiser), self._backend)
            with torch.no_grad():
                denoiser(*args, **kwargs)
        except Exception as problem:  # of dynamo, inductor, triton or a C++ compiler: there is no end to them
            own = getattr(
                problem, "inner_exception", problem
            )  # what the compiler said, without dynamo's advice
            told = (str(own).strip().splitlines() or [type(own).__name__])[0][:200]
            with self._lock:
                self._failed[called] = told
            self._tell(f"The model could not be compiled: {told}")
        else:
            with self._lock:
                self._ready.add(called)
            self._tell(f"The model was compiled in {time.perf_counter() - began:.0f} s.")
        finally:
            with self._lock:
                self._under_way.pop(called, None)


def blocks_of(denoiser: Any) -> list[Any]:
    """The blocks of a denoiser that are compiled, in its order; none where its class has none that repeat."""
    if denoiser is None:
        return []
    names = BLOCKS.get(type(denoiser).__name__) or tuple(getattr(denoiser, "_repeated_blocks", None) or ())
    return [part for part in denoiser.modules() if type(part).__name__ in names]


def compile_blocks(blocks: list[Any], backend: str = "inductor") -> None:
    """What diffusers' `compile_repeated_blocks` does, of these blocks; torch compiles at their first call."""
    for block in blocks:
        block.compile(backend=backend, dynamic=False)


def allow_many() -> None:
    """Lets torch keep more makes of one block than its eight, after which it would compile no more."""
    import torch._dynamo

    for name in ("recompile_limit", "accumulated_recompile_limit"):
        least = MOST_KINDS if name == "recompile_limit" else 1024
        setattr(torch._dynamo.config, name, max(getattr(torch._dynamo.config, name), least))


def twin(module: Any) -> Any:
    """A copy of a module that shares its weights: changes of what it computes do not reach the module."""
    shared = {id(tensor): tensor for tensor in [*module.parameters(), *module.buffers()]}
    made = copy.deepcopy(module, shared)
    for part in made.modules():
        part._forward_pre_hooks.clear()
        part._compiled_call_impl = None
    return made


def copies(value: Any) -> Any:
    """The same nest of tuples, lists and mappings with a tensor of its own for each in it."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, tuple):
        return tuple(copies(one) for one in value)
    if isinstance(value, list):
        return [copies(one) for one in value]
    if isinstance(value, dict):
        return {name: copies(one) for name, one in value.items()}
    return value


def signature(module: Any, args: Any, kwargs: Any) -> Any:
    """What decides whether something compiled fits: class and make of the denoiser with the LoRAs in it, and
    the shapes of what it is called with."""
    made = str(dict(getattr(module, "config", {})))
    return (type(module).__name__, made, _adapters(module), _shapes((args, kwargs)))


def _adapters(module: Any) -> Any:
    """Which LoRAs there are, of what rank, and which count; None without any."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    found = [
        (tuple(part.r.items()), part._disable_adapters, tuple(part._active_adapter))
        for part in module.modules()
        if isinstance(part, BaseTunerLayer)
    ]
    return tuple(found) or None


def _shapes(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return (tuple(value.shape), tuple(value.stride()), str(value.dtype), str(value.device))
    if isinstance(value, tuple | list):
        return tuple(_shapes(one) for one in value)
    if isinstance(value, dict):
        return tuple((name, _shapes(one)) for name, one in value.items())
    return value if isinstance(value, bool | str | None) else type(value).__name__


def _hindrance(denoiser: Any, blocks: list[Any], mode: OffloadMode) -> str:
    """Why this run cannot be compiled, as a sentence; empty where it can."""
    if not blocks:
        return "The model was not compiled: it has no blocks that repeat."
    if mode != "resident":
        return "The model was not compiled: its weights do not stay on the device (Memory)."
    if any(part._forward_hooks for block in blocks for part in block.modules()):
        return "The model was not compiled: a LyCORIS adapter is on, which works beside its layers."
    return ""
