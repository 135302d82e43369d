"""What an adapter adds to a layer's output: LoRA, LyCORIS and DoRA.

The formulas are those of Hu et al. (2021), of Yeh et al. (2023: LoCon, LoHa, LoKr, IA3, full difference) and
of Liu et al. (2024).

A layer's weight is never touched: what the changed weight would add is computed beside it, so that without
adapters the output is the layer's own, bit for bit, also of quantised and offloaded layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.lora.adapter_names import Target

SUFFIXES: Mapping[str, str] = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_mid.weight": "mid",
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_A.default.weight": "down",
    "lora_B.default.weight": "up",
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "lora_linear_layer.down.weight": "down",
    "lora_linear_layer.up.weight": "up",
    "alpha": "alpha",
    "scale": "scale",
    "dora_scale": "dora",
    "lora_magnitude_vector": "peft_magnitude",
    "lora_magnitude_vector.weight": "peft_magnitude",
    "lora_B.bias": "peft_bias",
    **{name: name for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")},
    **{name: name for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b")},
    **{name: name for name in ("lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")},
    **{name: name for name in ("diff", "diff_b", "w_norm", "b_norm", "on_input", "weight")},
}
"""What a key ends with -> the part of the layer's adapter that it is ("weight" with "on_input" is IA3's)."""

PLAIN = frozenset({"down", "up", "alpha", "peft_magnitude", "peft_bias"})
"""The parts that diffusers' loaders know; all others are carried out here."""

UNSUPPORTED: Mapping[str, str] = {
    "oft_blocks": "OFT",
    "oft_diag": "OFT",
    "oft_R.weight": "OFT",
    "boft_blocks": "BOFT",
    "a1.weight": "GLoRA",
    "bias_indices": "a sparse bias",
    "rescale": "OFT",
}
"""Sorts of adapters that are known by their keys, and not carried out."""


class BrokenAdapter(ValueError):
    """An adapter whose tensors make none; `str()` is the end of a sentence that says why."""


@dataclass(frozen=True)
class Delta:
    """What one adapter does to one layer. parts: tensors by the names of `SUFFIXES`."""

    target: Target
    parts: Mapping[str, Tensor]
    factor: Tensor | None = None
    """DoRA's share of each row or column of the weight: its magnitude over the changed weight's norm."""

    @property
    def bytes(self) -> int:
        tensors = [*self.parts.values(), *([] if self.factor is None else [self.factor])]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def to(self, device: Any) -> Delta:
        """The same with its tensors on that device."""
        parts = {name: tensor.to(device) for name, tensor in self.parts.items()}
        return Delta(self.target, parts, None if self.factor is None else self.factor.to(device))

    def added(self, x: Tensor, output: Tensor) -> Tensor:
        """What is added to the layer's `output` for its input `x`, at a weight of 1."""
        if "weight" in self.parts:
            return self._ia3(x, output)
        if self.factor is not None:
            return self._dora(x, output)
        return self._low_rank(x)

    def _low_rank(self, x: Tensor) -> Tensor:
        layer, parts = self.target.module, self.parts
        bias = parts.get("diff_b", parts.get("b_norm"))
        bias = None if bias is None else bias.to(x)
        if "up" in parts and "mid" not in parts and self.target.rows is None:
            down, up = parts["down"].to(x), parts["up"].to(x)
            if down.dim() == 2 and len(layer.weight.shape) == 2:
                from torch.nn.functional import linear

                added = linear(linear(x, down), up) * scale_of(parts)
                return added if bias is None else added + bias
        weight = self.weight(x.dtype)
        return through(layer, x, None if weight is None else weight.to(x), bias)

    def weight(self, dtype: Any = None) -> Tensor | None:
        """The difference to the layer's weight, of its shape; None where only its bias changes.

        Computed in float32 for half precision, whose small products would vanish.
        """
        import torch

        shape = tuple(_shape_of(self.target.module))
        parts = {
            name: part.float()
            if dtype in (None, torch.float16) or part.dtype.itemsize == 1
            else part.to(dtype)
            for name, part in self.parts.items()
        }
        whole = (self.target.rows.stop - self.target.rows.start) if self.target.rows else None
        made = dense(parts, shape, sliced=whole is not None)
        if made is None:
            return None
        if self.target.rows is not None:
            made = made[self.target.rows]
        return made.reshape(shape) * scale_of(self.parts)

    def _ia3(self, x: Tensor, output: Tensor) -> Tensor:
        layer, weight = self.target.module, self.parts["weight"].to(x).flatten()
        bias = getattr(layer, "bias", None)
        if bool(self.parts["on_input"]):
            return _unbiased(layer, _per_channel(x, weight, layer))
        return _per_channel(_without(output, bias, layer), weight, layer)

    def _dora(self, x: Tensor, output: Tensor) -> Tensor:
        """(W + D) * f - W, with f for each row of the weight or for each column, without W itself."""
        layer, factor = self.target.module, self.factor
        assert factor is not None
        by_row = factor.shape[0] != 1
        factor = factor.to(x).flatten()
        if by_row:
            plain = _without(output, getattr(layer, "bias", None), layer)
            return _per_channel(self._low_rank(x), factor, layer) + _per_channel(plain, factor - 1, layer)
        return self._low_rank(_per_channel(x, factor, layer)) + _unbiased(
            layer, _per_channel(x, factor - 1, layer)
        )


def scale_of(parts: Mapping[str, Tensor]) -> float:
    """alpha / rank, or what the file says outright. Of two whole factors (LoKr) there is no rank: 1."""
    if "scale" in parts:
        return float(parts["scale"])
    rank = next(
        (
            parts[name].shape[0]
            for name in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")
            if name in parts and parts[name].dim() > 0
        ),
        None,
    )
    return float(parts["alpha"]) / rank if rank and "alpha" in parts else 1.0


def dense(parts: Mapping[str, Tensor], shape: Sequence[int], sliced: bool = False) -> Tensor | None:
    """The unscaled difference of a weight; of a fused layer (`sliced`) with all its rows, else of `shape`."""
    import torch

    if "up" in parts:
        up, down = parts["up"].flatten(1), parts["down"].flatten(1)
        if "mid" in parts:
            made = torch.einsum("nmkl,in,mj->ijkl", parts["mid"], up, down)
        else:
            made = up @ down
    elif "hada_w1_a" in parts:
        made = _hadamard_side(parts, "1") * _hadamard_side(parts, "2")
    elif "lokr_w1" in parts or "lokr_w1_a" in parts:
        first = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
        if "lokr_w2" in parts:
            second = parts["lokr_w2"]
        elif "lokr_t2" in parts:
            second = _tucker(parts["lokr_t2"], parts["lokr_w2_a"], parts["lokr_w2_b"])
        else:
            second = parts["lokr_w2_a"] @ parts["lokr_w2_b"].flatten(1)
        while first.dim() < second.dim():
            first = first.unsqueeze(-1)
        made = torch.kron(first.contiguous(), second.contiguous())
    elif "diff" in parts:
        made = parts["diff"]
    elif "w_norm" in parts:
        made = parts["w_norm"]
    else:
        return None
    return made.flatten(1) if sliced else made.reshape(tuple(shape))


def _hadamard_side(parts: Mapping[str, Tensor], side: str) -> Tensor:
    first, second = parts[f"hada_w{side}_a"], parts[f"hada_w{side}_b"]
    if f"hada_t{side}" in parts:
        return _tucker(parts[f"hada_t{side}"], first, second)
    return first @ second.flatten(1)


def _tucker(core: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """A convolution's weight (out, in, h, w) from its Tucker parts: core (r, r, h, w), (r, out), (r, in)."""
    import torch

    return torch.einsum("ijkl,jr,ip->prkl", core, second, first)


def dora_factor(delta: Delta, weight: Tensor) -> Tensor:
    """DoRA's magnitudes over the norms of the changed weight: (1, in, ...) or (out, 1, ...)."""
    import torch

    magnitude = delta.parts["dora"].float()
    difference = delta.weight()
    changed = weight.float() if difference is None else weight.float() + difference.to(weight.device)
    if magnitude.dim() == 1:
        magnitude = magnitude.reshape(-1, *[1] * (changed.dim() - 1))
    over = [side for side in range(changed.dim()) if magnitude.shape[side] == 1]
    if len(over) == changed.dim():
        over = [side for side in range(changed.dim()) if side != 1]
    return magnitude.to(changed.device) / torch.linalg.vector_norm(changed, dim=over, keepdim=True)


# ----------------------------------------------------------------------------------------------- layers


def through(layer: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """What the layer's kind gives for `x` with this weight and bias in place of its own."""
    import torch
    from torch.nn import functional

    if weight is None:
        assert bias is not None
        shape = [1, -1, *[1] * (x.dim() - 2)] if isinstance(layer, torch.nn.Conv2d) else [-1]
        return bias.reshape(shape)
    if isinstance(layer, torch.nn.Conv2d):
        return functional.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    if isinstance(layer, torch.nn.GroupNorm):
        return functional.group_norm(x, layer.num_groups, weight, bias, layer.eps)
    if isinstance(layer, torch.nn.LayerNorm):
        return functional.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
    return functional.linear(x, weight, bias)


def fits(delta: Delta) -> bool:
    """Whether the parts' shapes give a weight of the layer's shape; computes it once."""
    import torch

    shape = tuple(_shape_of(delta.target.module))
    layer = delta.target.module
    if not isinstance(layer, torch.nn.Linear | torch.nn.Conv2d | torch.nn.GroupNorm | torch.nn.LayerNorm):
        return False
    parts = delta.parts
    if "weight" in parts:
        side = 1 if bool(parts["on_input"]) else 0
        return parts["weight"].numel() == shape[side]
    meta = {name: part.to("meta") for name, part in parts.items()}
    try:
        made = dense(meta, shape, sliced=delta.target.rows is not None)
    except (RuntimeError, KeyError, IndexError):
        return False
    rows = delta.target.rows
    if made is not None and rows is not None:
        side = torch.Size(shape[1:]).numel()
        if made.shape[0] < rows.stop or made.shape[1] != side:
            return False
    bias = parts.get("diff_b", parts.get("b_norm"))
    if bias is not None and bias.numel() != shape[0]:
        return False
    if "dora" in parts:
        dora = parts["dora"]
        return dora.dim() in (1, len(shape)) and dora.numel() in shape[:2] and made is not None
    return made is not None or bias is not None


def _shape_of(layer: Any) -> Sequence[int]:
    """A layer's weight shape, also of a quantised one, whose tensor may be packed."""
    import torch

    if isinstance(layer, torch.nn.Linear):
        return (layer.out_features, layer.in_features)
    return tuple(layer.weight.shape)


def _per_channel(x: Tensor, values: Tensor, layer: Any) -> Tensor:
    import torch

    return x * (values.reshape(1, -1, 1, 1) if isinstance(layer, torch.nn.Conv2d) else values)


def _without(output: Tensor, bias: Tensor | None, layer: Any) -> Tensor:
    import torch

    if bias is None:
        return output
    bias = bias.to(output)
    return output - (bias.reshape(1, -1, 1, 1) if isinstance(layer, torch.nn.Conv2d) else bias)


def _unbiased(layer: Any, x: Tensor) -> Tensor:
    """The layer's own weight times `x`, by its own forward: it may be quantised or offloaded."""
    output: Tensor = layer.forward(x)
    return _without(output, getattr(layer, "bias", None), layer)


class Hook:
    """Adds the active adapters' parts to the output of one layer. active: (delta, weight) in order."""

    def __init__(self, layer: Any):
        self.active: list[tuple[Delta, float]] = []
        self._handle = layer.register_forward_hook(self)

    def __call__(self, layer: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        result = output
        for delta, weight in self.active:
            result = result + (delta.added(inputs[0], output) * weight).to(output.dtype)
        return result

    def remove(self) -> None:
        self._handle.remove()
