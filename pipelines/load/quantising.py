"""Weights held smaller: as int8, int4 or float8, and multiplied out again layer by layer when they are used.

Plain torch, so it runs wherever torch does, and the parts are ordinary buffers: they move with offload hooks,
count in a component's bytes and carry LoRAs like any layer. Time is paid for memory.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pipelines.request import Quantisation

BYTES_PER_WEIGHT: Mapping[str, float] = {"int8": 1.0, "int4": 0.5625, "float8": 1.0}
"""What a quantised weight takes; int4 carries a scale and an offset of 16 bits for every 64 weights."""

DENOISERS = frozenset({"unet", "transformer", "transformer_2", "prior_prior"})
LARGE_TEXT_ENCODER = 2_000_000_000
"""Bytes from which on a text encoder is quantised too: T5-XXL and language models, never CLIP."""

_GROUP = 64
_LEAST = 4096
"""Layers of fewer weights stay as they are: they are no memory, and often the delicate ones."""
_DELICATE = frozenset(
    "conv_in conv_out proj_out proj_in norm_out time_embedding time_proj add_embedding time_text_embed "
    "x_embedder context_embedder pos_embed patch_embed caption_projection adaln_single shared "
    "embed_tokens lm_head".split()
)
"""Topmost parts that stay as they are: what everything passes through once, and the clock."""


def check(quantisation: Quantisation, device: str) -> None:
    """Raises `InvalidRequest` where this machine cannot hold weights so. device: of the plan."""
    if quantisation == "float8" and device.split(":")[0] == "mps":
        raise InvalidRequest(
            {"quantisation": "Apple's GPUs do not know float8. Choose int8, which takes as little memory."}
        )


def is_quantised(name: str, size: int, quantisation: Quantisation) -> bool:
    """Whether a component of that name and that many bytes (unquantised) is held smaller."""
    if quantisation == "none":
        return False
    return name in DENOISERS or (name.startswith("text_encoder") and size >= LARGE_TEXT_ENCODER)


def key(name: str, size: int, quantisation: Quantisation) -> str:
    """What a component's key in the cache ends with: quantised ones are other components. Empty for none."""
    return f"+{quantisation}" if is_quantised(name, size, quantisation) else ""


def size_after(name: str, size: int, width: int, quantisation: Quantisation) -> int:
    """About how many bytes a component takes. size: its bytes at `width` bytes a weight."""
    if not is_quantised(name, size, quantisation):
        return size
    return round(size / width * BYTES_PER_WEIGHT[quantisation])


def quantise(module: nn.Module, quantisation: Quantisation) -> int:
    """Turns the linear and convolutional layers inside `module` into quantised ones, in place and layer by
    layer, so that no more than one layer is held twice. Returns how many there were.

    Do it before LoRAs are attached and on the processor, so that the device never holds the large weights.
    """
    if quantisation == "none":
        return 0
    kinds = _kinds()
    found = 0
    for name, layer in module.named_modules():
        made = kinds.get(type(layer))
        if made is None or layer.weight.numel() < _LEAST or name.split(".")[0] in _DELICATE:
            continue
        weight = layer._parameters.pop("weight").detach()
        codec = _CODECS[quantisation]
        for part, values in zip(("codes", "scale", "offset"), codec.pack(weight), strict=True):
            layer.register_buffer(f"packed_{part}", values)
        layer.__class__ = made
        layer.codec, layer.packed_shape = codec, tuple(weight.shape)
        found += 1
        del weight
    return found


def quantisation_of(module: nn.Module) -> Quantisation:
    """How a module's weights are held."""
    for layer in module.modules():
        codec = getattr(layer, "codec", None)
        if isinstance(codec, _Codec):
            return codec.name
    return "none"


class _Codec:
    """Packs a weight (rows, ...) into codes, a scale and an offset (None where there is none), and back.

    Scales and offsets are of the weight's own format and are rounded to it before the codes are made: what
    is multiplied out later is then centred on the weight.
    """

    name: Quantisation

    def pack(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        raise NotImplementedError

    def unpack(self, layer: Any) -> Tensor:
        raise NotImplementedError


class _Int8(_Codec):
    """127 steps to each side, a scale for every row (output channel)."""

    name = "int8"

    def pack(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        import torch

        rows = weight.flatten(1)
        scale = (rows.abs().amax(1, keepdim=True).float() / 127).clamp_min(1e-12).to(weight.dtype)
        codes = (rows.float() / scale.float()).round_().clamp_(-127, 127).to(torch.int8)
        return codes, scale, None

    def unpack(self, layer: Any) -> Tensor:
        found: Tensor = layer.packed_codes.to(layer.packed_scale.dtype).mul_(layer.packed_scale)
        return found.view(layer.packed_shape)


class _Float8(_Codec):
    """e4m3, with a power of two for every row: weights that come from a float8 file stay exactly as they are.

    The codes are held as bytes, which `.to(dtype)` leaves alone.
    """

    name = "float8"

    def pack(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        import torch

        rows = weight.flatten(1).float()
        largest = rows.abs().amax(1, keepdim=True).clamp_min(2.0**-14)  # float16's smallest normal number
        scale = torch.exp2(torch.ceil(torch.log2(largest / 448))).clamp_min(2.0**-14)
        codes = (rows / scale).to(torch.float8_e4m3fn).view(torch.uint8)
        return codes, scale.to(weight.dtype), None

    def unpack(self, layer: Any) -> Tensor:
        import torch

        values = layer.packed_codes.view(torch.float8_e4m3fn).to(layer.packed_scale.dtype)
        return values.mul_(layer.packed_scale).view(layer.packed_shape)


class _Int4(_Codec):
    """Sixteen steps between the smallest and the largest of every 64 weights, two codes in a byte."""

    name = "int4"

    def pack(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        import torch
        from torch.nn.functional import pad

        flat = weight.flatten().float()
        groups = pad(flat, (0, -flat.numel() % _GROUP)).view(-1, _GROUP)
        low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
        offset = low.to(weight.dtype)
        scale = ((high - offset.float()) / 15).clamp_min(1e-7).to(weight.dtype)
        codes = ((groups - offset.float()) / scale.float()).round_().clamp_(0, 15).to(torch.uint8)
        return codes[:, : _GROUP // 2] | codes[:, _GROUP // 2 :] << 4, scale, offset

    def unpack(self, layer: Any) -> Tensor:
        import torch

        packed, scale, offset = layer.packed_codes, layer.packed_scale, layer.packed_offset
        values = torch.empty((len(packed), _GROUP), dtype=scale.dtype, device=packed.device)
        values[:, : _GROUP // 2], values[:, _GROUP // 2 :] = packed & 15, packed >> 4
        values.mul_(scale).add_(offset)
        shape = layer.packed_shape
        count = functools.reduce(int.__mul__, shape, 1)
        return values.view(-1)[:count].view(shape)


_CODECS: Mapping[str, _Codec] = {codec.name: codec for codec in (_Int8(), _Float8(), _Int4())}


@functools.cache
def _kinds() -> Mapping[type, type]:
    """torch's layer classes -> the same with a weight that is multiplied out whenever it is asked for.

    They are subclasses, so peft and diffusers see the layers that they know.
    """
    from torch import nn

    def weight(layer: Any) -> Tensor:
        found: Tensor = layer.codec.unpack(layer)
        return found

    return {
        kind: type(f"Quantised{kind.__name__}", (kind,), {"weight": property(weight)})
        for kind in (nn.Linear, nn.Conv2d)
    }
