"""Adapters for the tiny models: random weights in the layouts in which people find LoRAs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj", "add_q_proj")


def layers(component: Any, endings: Iterable[str] = ATTENTION) -> dict[str, Any]:
    """The layers of a component whose names end so, by dotted name."""
    return {
        name: layer
        for name, layer in component.named_modules()
        if name.endswith(tuple(f".{ending}" for ending in endings)) or name in endings
    }


def halves(parts: Mapping[str, Any], rank: int = 3, seed: int = 0, size: float = 0.4) -> dict[str, Any]:
    """{component: {layer: (down, up)}}: the LoRA of every attention layer of the components."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    return {
        part: {
            name: (
                torch.randn(rank, layer.weight.shape[1], generator=draw) * size,
                torch.randn(layer.weight.shape[0], rank, generator=draw) * size,
            )
            for name, layer in layers(component).items()
        }
        for part, component in parts.items()
    }


def components(
    pipe: Any, names: Iterable[str] = ("unet", "transformer", "text_encoder", "text_encoder_2")
) -> Any:
    """The parts of a pipeline that LoRAs are made for; the T5 of SD3 and Flux is none of them."""
    found = {name: pipe.components.get(name) for name in names}
    return {
        name: part
        for name, part in found.items()
        if part is not None and getattr(part.config, "model_type", "") != "t5"
    }


def as_peft(made: Mapping[str, Any]) -> dict[str, Any]:
    """diffusers' own layout of today."""
    return {
        f"{part}.{name}.lora_{half}.weight": tensor
        for part, rows in made.items()
        for name, (down, up) in rows.items()
        for half, tensor in (("A", down), ("B", up))
    }


def as_old_diffusers(made: Mapping[str, Any]) -> dict[str, Any]:
    """diffusers' layout before peft; of UNets alone."""
    tensors = {}
    for name, (down, up) in made["unet"].items():
        block, _, layer = name.rpartition(".attn")
        number, _, which = layer.partition(".")
        which = "to_out" if which == "to_out.0" else which
        for half, tensor in (("down", down), ("up", up)):
            tensors[f"unet.{block}.attn{number}.processor.{which}_lora.{half}.weight"] = tensor
    return tensors


def as_kohya(
    made: Mapping[str, Any], alpha: float = 2.0, rename: Callable[[str], str] = lambda name: name
) -> dict[str, Any]:
    """kohya's layout; `rename` turns a UNet layer's name into another layout's."""
    import torch

    two = "text_encoder_2" in made
    prefixes = {"text_encoder": "lora_te1" if two else "lora_te", "text_encoder_2": "lora_te2"}
    tensors = {}
    for part, rows in made.items():
        for name, (down, up) in rows.items():
            if part in prefixes:
                bare = "text_model." + name.removeprefix("text_model.")
                key = f"{prefixes[part]}_{bare.replace('.', '_')}"
            else:
                key = f"lora_unet_{rename(name).replace('.', '_')}"
            tensors[f"{key}.lora_down.weight"] = down
            tensors[f"{key}.lora_up.weight"] = up
            tensors[f"{key}.alpha"] = torch.tensor(alpha)
    return tensors


def save(tensors: Mapping[str, Any], path: Path, **metadata: str) -> Path:
    """Writes tensors as a safetensors file."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=metadata or None
    )
    return path
