"""Control units whose weight follows a curve: each weighs its network's scale anew at every step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.curves import value_at

if TYPE_CHECKING:
    from pipelines.controlnet.control import ControlSpec
    from pipelines.request import ControlUnit


def follow_curves(
    pipe: Any, units: Sequence[ControlUnit], specs: Sequence[ControlSpec], share: Callable[[], float]
) -> None:
    """Makes the ControlNets of a view weigh by their units' curves; those without one stay as they are.

    share: gives the share of the steps that is done when the present one begins. T2I-Adapters have their own
    hook for that (see control_adapters).
    """
    led = [unit for unit, spec in zip(units, specs) if spec.sort != "adapter"]
    if not any(unit.points for unit in led):
        return
    network = pipe.controlnet
    if not hasattr(network, "nets"):
        pipe.controlnet = _weighed(network, led[0], share)
        return
    for place, unit in enumerate(led):
        if unit.points:
            network.nets[place] = _weighed(network.nets[place], unit, share)


def _weighed(network: Any, unit: ControlUnit, share: Callable[[], float]) -> Any:
    """A second handle of a network, same weights and hooks. Every pipeline names the scale in its call."""
    handle = copy.copy(network)

    def forward(*args: Any, conditioning_scale: Any, **kwargs: Any) -> Any:
        factor = value_at(unit.points, share())
        scale = (
            [one * factor for one in conditioning_scale]
            if isinstance(conditioning_scale, list)
            else conditioning_scale * factor
        )
        return network.forward(*args, conditioning_scale=scale, **kwargs)

    handle.__dict__["forward"] = forward
    return handle
