"""Weights files that tests write: with the names and shapes asked for and nothing but zeros in them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

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


def lora(
    width: int = 768, rank: int = 4, layout: str = "kohya", deep: bool = False
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a LoRA for a UNet that listens to text `width` wide; deep: of SDXL's attention."""
    block = "down_blocks.{}.attentions.0.transformer_blocks.{}".format(*((1, 1) if deep else (0, 0)))
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, inputs in ((f"{block}.attn1.to_q", 320), (f"{block}.attn2.to_k", width)):
        flat = f"lora_unet_{layer.replace('.', '_')}"
        if layout == "kohya":
            shapes |= {f"{flat}.alpha": (), f"{flat}.lora_down.weight": (rank, inputs)}
            shapes[f"{flat}.lora_up.weight"] = (320, rank)
        elif layout == "loha":
            shapes |= {
                f"{flat}.alpha": (),
                f"{flat}.hada_w1_a": (320, rank),
                f"{flat}.hada_w1_b": (rank, inputs),
            }
            shapes |= {f"{flat}.hada_w2_a": (320, rank), f"{flat}.hada_w2_b": (rank, inputs)}
        elif layout == "lokr":
            shapes |= {f"{flat}.lokr_w1": (8, 8), f"{flat}.lokr_w2": (320 // 8, inputs // 8)}
        elif layout == "peft":
            shapes |= {
                f"unet.{layer}.lora_A.weight": (rank, inputs),
                f"unet.{layer}.lora_B.weight": (320, rank),
            }
        else:
            attention, _, which = layer.rpartition(".")
            old = f"unet.{attention}.processor.{which}_lora"
            shapes |= {f"{old}.down.weight": (rank, inputs), f"{old}.up.weight": (320, rank)}
    return shapes
