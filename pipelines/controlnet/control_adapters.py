"""T2I-Adapters: their files' layouts, and the hook that hands their features to a UNet.

A feature is added inside of a block of the UNet, where a ControlNet's residual is added to a skip connection,
so both can lead the same run.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.curves import value_at

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipelines.controlnet.control import ControlSpec
    from pipelines.request import ControlUnit


def adapter_state(state: Mapping[str, Any], spec: ControlSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights and arguments of a T2I-Adapter in diffusers' layout or its authors' (TencentARC), in which the
    blocks are counted through: two to a feature."""
    assert spec.sizes is not None
    across = 16 if spec.family == "SDXL" else 8
    config = {
        "in_channels": state["conv_in.weight"].shape[1] // across**2,
        "channels": list(spec.sizes.widths),
        "num_res_blocks": 2,
        "downscale_factor": across,
        "adapter_type": "full_adapter_xl" if spec.family == "SDXL" else "full_adapter",
    }
    if any(".resnets." in name for name in state):
        config["num_res_blocks"] = len(
            {name.split(".")[3] for name in state if name.startswith("body.0.res")}
        )
        return {f"adapter.{name}": tensor for name, tensor in state.items()}, config
    moved = {}
    for name, tensor in state.items():
        part, _, rest = name.removeprefix("body.").partition(".")
        if not name.startswith("body."):
            moved[f"adapter.{name}"] = tensor
        elif rest.startswith("in_conv"):
            moved[f"adapter.body.{int(part) // 2}.{rest}"] = tensor
        else:
            moved[f"adapter.body.{int(part) // 2}.resnets.{int(part) % 2}.{rest}"] = tensor
    return moved, config


class AdapterHook:
    """Hands the features of T2I-Adapters (Mou et al., 2023) to a UNet, call by call.

    The features depend on the map alone and are made once. Windows count like diffusers' ControlNet
    pipelines: step i of n is led where start <= i / n and (i + 1) / n <= end.
    """

    SOFT = (0.25, 0.62, 0.825, 1.0)
    """Weights of the features where the prompt is more important (the webui's ControlNet extension)."""

    def __init__(self, adapters: Sequence[Any]):
        self.adapters = list(adapters)
        self.pipe: Any = None
        self.led: list[tuple[Any, list[Any]]] = []
        self.calls = 0

    @classmethod
    def attached(cls, unet: Any, adapters: Sequence[Any]) -> Any:
        """A second handle of `unet`, same weights, whose calls this hook precedes."""
        handle = copy.copy(unet)
        for hooks in ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"):
            handle.__dict__[hooks] = OrderedDict(getattr(unet, hooks))
        hook = cls(adapters)
        handle.register_forward_pre_hook(hook, with_kwargs=True)
        handle.__dict__["darkroom_adapters"] = hook
        return handle

    @staticmethod
    def of(pipe: Any) -> AdapterHook:
        """The hook of a view that was made with adapters."""
        found = pipe.unet.__dict__["darkroom_adapters"]
        assert isinstance(found, AdapterHook)
        return found

    def arm(self, pipe: Any, rows: Sequence[tuple[ControlUnit, Image]]) -> None:
        """Computes the features of each unit's map, for the next run of `pipe`."""
        import numpy as np
        import torch

        self.pipe, self.led, self.calls = pipe, [], 0
        for adapter, (unit, image) in zip(self.adapters, rows):
            gray = adapter.config.in_channels == 1
            pixels = np.asarray(image.convert("L" if gray else "RGB"), np.float32) / 255
            batch = torch.from_numpy(pixels.reshape(1, image.height, image.width, -1).transpose(0, 3, 1, 2))
            with torch.no_grad():
                features = adapter(batch.to(adapter.device, adapter.dtype))
            if unit.control_mode != "balanced":
                soft = (*self.SOFT[-len(features) :],) if len(features) <= 4 else (1.0,) * len(features)
                features = [feature * weight for feature, weight in zip(features, soft)]
            self.led.append((unit, [one * unit.controlnet_conditioning_scale for one in features]))

    def __call__(self, unet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """forward_pre_hook: adds the sum of the features that count in this step."""
        import torch

        sample = args[0] if args else kwargs["sample"]
        total, now = self.pipe.num_timesteps, self.calls
        self.calls += 1
        summed: list[Any] = []
        for unit, features in self.led:
            if now / total < unit.control_guidance_start or (now + 1) / total > unit.control_guidance_end:
                continue
            led = [torch.cat([feature] * (len(sample) // len(feature))) for feature in features]
            if unit.points:
                led = [one * value_at(unit.points, now / total) for one in led]
            if unit.control_mode == "control" and len(sample) > 1:
                led = [torch.cat([one[: len(one) // 2] * 0, one[len(one) // 2 :]]) for one in led]
            summed = [a + b for a, b in zip(summed, led)] if summed else led
        if not summed:
            return args, kwargs
        return args, kwargs | {"down_intrablock_additional_residuals": summed}
