"""Adapter files: read into tensors by layer, and held against a model's layers before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.library.headers import UnreadableFile, read_header
from pipelines.lora.adapter_deltas import (
    PLAIN,
    SUFFIXES,
    UNSUPPORTED,
    BrokenAdapter,
    Delta,
    dora_factor,
    fits,
)

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.lora.adapter_names import LayerNames

_ENDINGS = sorted(SUFFIXES, key=len, reverse=True)


@dataclass(frozen=True)
class AdapterFile:
    """layers: part of a layer's adapter by layer's key (as the file spells it). metadata: the file's."""

    path: Path
    layers: Mapping[str, Mapping[str, Tensor]]
    metadata: Mapping[str, str]
    tensors: Mapping[str, Tensor]

    odd: bool = False
    """Whether it has parts of no form that is known here; diffusers may know them."""

    @property
    def plain(self) -> bool:
        """Whether it is nothing but LoRA, which diffusers loads."""
        return self.odd or all(parts.keys() <= PLAIN for parts in self.layers.values())


def read_adapter(path: Path) -> AdapterFile:
    """The adapter in a file (.safetensors, or a pickle in torch's weights-only mode), on the CPU.

    Raises `BrokenAdapter`, and `UnreadableFile` for what cannot be read: truncated, hostile, no weights.
    """
    header = read_header(path)
    if header.format == "safetensors":
        from safetensors.torch import load_file

        try:
            tensors = load_file(path)
        except Exception as error:  # SafetensorError derives from Exception alone
            raise UnreadableFile(f"{path.name} cannot be read: {str(error)[:120]}.") from error
    else:
        from pipelines.load.pickles import load_tensors

        tensors = load_tensors(path)
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        for ending, sort in UNSUPPORTED.items():
            if name.endswith(f".{ending}"):
                raise BrokenAdapter(f"it holds {sort}, which is not supported")
        last = name.rsplit(".", 1)[-1]
        ending = next((one for one in _ENDINGS if name.endswith((f".{one}", f"_{one}"))), last)
        layers.setdefault(name[: -len(ending) - 1], {})[SUFFIXES.get(ending, ending)] = tensor
    if not any(len(parts.keys() - {"alpha"}) for parts in layers.values()):
        raise BrokenAdapter("it holds no layers")
    odd = any("weight" in parts and "on_input" not in parts for parts in layers.values())
    odd = odd or any(parts.keys() - set(SUFFIXES.values()) for parts in layers.values())
    return AdapterFile(path, layers, header.metadata, tensors, odd)


def cut_to(file: AdapterFile, rank: int) -> AdapterFile:
    """A DyLoRA's first `rank` dimensions alone, at the scale of the whole (the webui's `dyn`)."""
    import torch

    layers = {}
    for key, parts in file.layers.items():
        if "down" in parts and "up" in parts and "mid" not in parts:
            whole = parts["down"].shape[0]
            scale = float(parts["alpha"]) / whole if "alpha" in parts else 1.0
            down, up = parts["down"][:rank], parts["up"][:, :rank]
            parts = {**parts, "down": down, "up": up, "scale": torch.tensor(scale)}
        layers[key] = parts
    return AdapterFile(file.path, layers, file.metadata, file.tensors, file.odd)


def deltas_of(file: AdapterFile, names: LayerNames) -> tuple[list[Delta], list[str]]:
    """What the file does to each layer of a model, and the keys that name no layer of it.

    Raises `BrokenAdapter` where shapes do not fit the layers or a value is not finite.
    """
    made: list[Delta] = []
    unknown: list[str] = []
    for key, parts in file.layers.items():
        targets = names.find(key)
        if not targets:
            unknown.append(key)
            continue
        check_finite(key, parts)
        for target in targets:
            delta = Delta(target, _normalised(parts))
            if not fits(delta):
                raise BrokenAdapter(
                    f"{key[:80]!r} does not have the shape of the model's layer {target.name}: it is "
                    "damaged, or made for another model"
                )
            if "dora" in parts:
                delta = _with_dora(delta)
            made.append(delta)
    return made, unknown


def _normalised(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    kept = dict(parts)
    if "weight" not in kept:
        kept.pop("on_input", None)
    return kept


def _with_dora(delta: Delta) -> Delta:
    weight = delta.target.module.weight
    if not weight.is_floating_point() or weight.device.type == "meta" or delta.target.rows is not None:
        raise BrokenAdapter(
            "it is a DoRA, which counts from the model's own weights, and these are quantised or fused"
        )
    return Delta(delta.target, delta.parts, dora_factor(delta, weight))


def check_finite(key: str, parts: Mapping[str, Tensor]) -> None:
    """Raises `BrokenAdapter` where a tensor holds what is no number."""
    for tensor in parts.values():
        if not is_finite(tensor):
            raise BrokenAdapter(f"{key[:80]!r} holds values that are no numbers (NaN or infinite)")


def is_finite(tensor: Any) -> bool:
    """Whether all values of a tensor on the CPU are finite.

    By their bits: an exponent of ones, with either sign, is what lies above all numbers as a whole number
    with or without sign. Two maxima of whole numbers are several times as fast as asking halves.
    """
    import torch

    if not tensor.is_floating_point() or not tensor.numel():
        return True
    wide = tensor.float() if tensor.element_size() == 1 else tensor
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[wide.element_size()]
    whole = wide.detach().contiguous().view(bits).numpy()
    least = {
        torch.float16: 0x7C00,
        torch.bfloat16: 0x7F80,
        torch.float32: 0x7F80_0000,
        torch.float64: 0x7FF0_0000_0000_0000,
    }[wide.dtype]
    sign = 1 << (8 * wide.element_size() - 1)
    unsigned = whole.view(f"uint{8 * wide.element_size()}")
    return int(whole.max()) < least and int(unsigned.max()) < sign + least
