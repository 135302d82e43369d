"""Control modes: whether a unit's map gives way to the prompt, or the prompt to the map.

A mode weighs what a ControlNet returns, so it is a forward hook on the network for the time of a run; the
pipelines know nothing of it and every unit has its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pipelines.controlnet.control_networks import OCCURRENCE

if TYPE_CHECKING:
    from pipelines.request import ControlUnit

SOFTENING = 0.825
"""The webui's factor from one residual to the next shallower one: the deepest keeps its strength, the
shallowest of thirteen a tenth of it. diffusers' guess mode spaces the same tenfold evenly on a log scale."""


@contextmanager
def control_modes(units: Sequence[ControlUnit], networks: Sequence[Any], guidance: bool) -> Iterator[None]:
    """Weighs the residuals of each unit's network by the unit's control mode until the block is left.

    networks: one diffusers module for each unit; the same one may lead several (see control_networks.own).
    guidance: whether the batch is (unconditional, conditional), as for guidance_scale above 1.

    "balanced" leaves a network alone. "prompt" scales residual i of n by 0.825 ** (n - 1 - i). "control"
    scales them by logspace(-1, 0, n) and takes them from the unconditional half (diffusers' guess mode;
    Zhang et al., 2023, section 4.2), so that guidance strengthens the map. T2I-Adapters have their own hook
    for that and are passed over here.
    """
    modes: dict[int, list[str]] = {}
    modules: dict[int, Any] = {}
    for unit, network in zip(units, networks):
        if type(network).__name__ != "T2IAdapter":
            modules[id(network)] = network
            modes.setdefault(id(network), []).append(unit.control_mode)
    with ExitStack() as hooks:
        for key, network in modules.items():
            if set(modes[key]) != {"balanced"}:
                handle = network.register_forward_hook(_Weighing(modes[key], guidance), with_kwargs=True)
                hooks.callback(handle.remove)
        yield


class _Weighing:
    """forward_hook of one network; modes: one for each unit that it leads, in their order."""

    def __init__(self, modes: Sequence[str], guidance: bool):
        self.modes, self.guidance = list(modes), guidance

    def __call__(self, network: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
        mode = self.modes[network.__dict__.get(OCCURRENCE, 0)]
        if mode == "balanced":
            return result
        # A network that pools its map (shuffle) is in guess mode already: half a batch, weighed by itself.
        guessing = bool(kwargs.get("guess_mode"))
        if mode == "control" and guessing:
            return result
        down, middle = result[0], result[1]
        residuals = weighed([*down, middle], mode)
        if mode == "control" and self.guidance:
            residuals = [_conditional_only(residual) for residual in residuals]
        if isinstance(result, tuple):
            return type(down)(residuals[:-1]), residuals[-1]
        return type(result)(
            down_block_res_samples=type(down)(residuals[:-1]), mid_block_res_sample=residuals[-1]
        )


def weighed(residuals: Sequence[Any], mode: str) -> list[Any]:
    """`residuals` (tensors, shallowest first, the middle block's last) by the weights of "prompt" or
    "control". Raises ValueError for another mode."""
    import torch

    count = len(residuals)
    if mode == "prompt":
        weights: list[Any] = [SOFTENING ** (count - 1 - index) for index in range(count)]
    elif mode == "control":
        weights = list(torch.logspace(-1, 0, count, device=residuals[0].device).to(residuals[0].dtype))
    else:
        raise ValueError(f"There are no weights for the control mode {mode!r}; there are prompt and control.")
    return [residual * weight for residual, weight in zip(residuals, weights)]


def _conditional_only(residual: Any) -> Any:
    import torch

    unconditional, conditional = residual.chunk(2)
    return torch.cat([torch.zeros_like(unconditional), conditional])
