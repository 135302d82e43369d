"""Brings weights from RAM to a device and back; to a CUDA GPU through two page-locked buffers.

A GPU copies by itself only from page-locked memory. Weights lie in mapped files, which the driver would first
gather on one thread; gathered on all threads into one buffer while the other is on its way, they come as fast
as the machine copies.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

BUFFER = 64 << 20
"""Bytes of each of the two buffers: large enough that a copy's start does not count."""
LEAST = 1 << 20
"""Modules of fewer bytes go as they are."""

_HOME = "darkroom_weights_in_ram"


class Crossing:
    """Moves modules to one device and back. Any thread may, one at a time does."""

    def __init__(self, device: str):
        self.device = device
        self._buffers: list[Tensor] | None = None
        self._lock = threading.Lock()

    def place(self, module: Any, on_device: bool) -> None:
        """Brings a component to the device or back. In RAM its weights stay as they are, mapped from disk, so
        going back copies nothing; what was added to it meanwhile (a LoRA's layers) is copied."""
        import torch

        if not isinstance(module, torch.nn.Module):
            return
        home: dict[Any, Any] = module.__dict__.setdefault(_HOME, {})
        tensors = [*module.parameters(), *module.buffers()]
        if on_device:
            leaving = [tensor for tensor in dict.fromkeys(tensors) if tensor.device.type == "cpu"]
            home.update((tensor, tensor.data) for tensor in leaving)
            with self._lock:
                self._bring(leaving)
            return
        for tensor in tensors:
            kept = home.pop(tensor, None)
            tensor.data = kept if kept is not None else tensor.data.to("cpu")
        home.clear()

    def _bring(self, tensors: list[Tensor]) -> None:
        buffers = self._pinned() if sum(tensor.nbytes for tensor in tensors) >= LEAST else None
        if buffers is None:
            for tensor in tensors:
                tensor.data = tensor.data.to(self.device, non_blocking=True)
            return
        for tensor, there in self._through(buffers, tensors):
            tensor.data = there

    def _through(self, buffers: list[Tensor], tensors: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """(tensor, its copy on the device) of each. All of them have arrived when this returns."""
        import torch

        stream = torch.cuda.current_stream(self.device)
        sent = [torch.cuda.Event() for _ in buffers]
        turn = used = 0
        found = []
        for tensor in tensors:
            there = torch.empty_like(tensor.data, device=self.device)
            found.append((tensor, there))
            if there.stride() != tensor.stride():  # with gaps, or several in one place
                there.copy_(tensor.data)
                continue
            source, target = _flat(tensor.data), _flat(there)
            done = 0
            while done < len(source):
                if used >= len(buffers[turn]):
                    sent[turn].record(stream)
                    turn, used = (turn + 1) % len(buffers), 0
                    sent[turn].synchronize()  # at once where it was never sent
                count = min(len(source) - done, len(buffers[turn]) - used)
                staged = buffers[turn][used : used + count]
                staged.copy_(source[done : done + count])
                target[done : done + count].copy_(staged, non_blocking=True)
                done, used = done + count, used + -(-count // 64) * 64
        stream.synchronize()  # the buffers are free for the next one
        return found

    def _pinned(self) -> list[Tensor] | None:
        """The buffers, made when they are first used; None where the device has no use for such, or the
        system allows none."""
        import torch

        if self._buffers is None and self.device.split(":")[0] == "cuda":
            try:
                self._buffers = [torch.empty(BUFFER, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
            except RuntimeError:  # a container's limit on locked memory: then the driver's own way
                self._buffers = []
        return self._buffers or None


def _flat(tensor: Tensor) -> Tensor:
    """The bytes of a tensor without gaps, in the order in which they lie."""
    import torch

    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)
