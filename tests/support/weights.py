"""Weights files that tests write: with the names and shapes asked for and nothing but zeros in them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

Shapes = dict[str, tuple[int, ...]]

BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "I64": 8, "U8": 1}


def table(
    shapes: Mapping[str, tuple[int, ...]], dtype: str = "F16", metadata: Mapping[str, str] | None = None
) -> tuple[bytes, int]:
    """(a safetensors header's JSON, bytes of the tensors that belong to it)."""
    told: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * BYTES[dtype]
        told[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    return json.dumps(told).encode(), end


def save(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str = "F16",
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Writes a whole safetensors file; the tensors are a hole in it, so that large ones take no room."""
    text, size = table(shapes, dtype, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + size)
    return path


def lora(width: int = 768, layout: str = "kohya", deep: bool = False, rank: int = 4) -> Shapes:
    """Names and shapes of a LoRA for a UNet that listens to text `width` wide; deep: as SDXL's attention."""
    block = "down_blocks.{}.attentions.0.transformer_blocks.{}".format(*((1, 1) if deep else (0, 0)))
    shapes: Shapes = {}
    for layer, inputs in ((f"{block}.attn1.to_q", 320), (f"{block}.attn2.to_k", width)):
        flat = f"lora_unet_{layer.replace('.', '_')}"
        down, up = (rank, inputs), (320, rank)
        if layout == "kohya":
            shapes |= {f"{flat}.alpha": (), f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up}
        elif layout == "loha":
            shapes[f"{flat}.alpha"] = ()
            for factor in ("hada_w1", "hada_w2"):
                shapes |= {f"{flat}.{factor}_a": up, f"{flat}.{factor}_b": down}
        elif layout == "lokr":
            shapes |= {f"{flat}.lokr_w1": (8, 8), f"{flat}.lokr_w2": (320 // 8, inputs // 8)}
        elif layout == "peft":
            shapes |= {f"unet.{layer}.lora_A.weight": down, f"unet.{layer}.lora_B.weight": up}
        else:
            attention, _, which = layer.rpartition(".")
            old = f"unet.{attention}.processor.{which}_lora"
            shapes |= {f"{old}.down.weight": down, f"{old}.up.weight": up}
    return shapes
