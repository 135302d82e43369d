"""LoRAs of the embedded model: their thin matrices while they are learned, and the file diffusers reads.

A LoRA (Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021) adds to each weight the product
of two thin ones. While it is learned the sum is taken before the layer runs: a step costs what a UNet costs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

RANKS: Mapping[str, int] = {"attention": 6, "feed-forward": 5, "convolution": 6, "other": 6}
"""For each kind of layer that kind_of tells: a file of just less than a megabyte."""


@dataclass(frozen=True)
class Card:
    """What a LoRA's file says of itself. suited: request fields to paint with, for the program to offer."""

    name: str
    title: str
    description: str
    suited: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> str:
        return f"storybook-{self.name}.safetensors"


class LowRank(nn.Module):
    """Adds `up` times `down` to a weight; nothing at first, for `up` starts at zero."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        outside, *inside = weight.shape
        self.down = nn.Parameter(torch.empty(rank, *inside))
        self.up = nn.Parameter(torch.zeros(outside, rank, *(1 for _ in inside[1:])))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up.flatten(1) @ self.down.flatten(1)).view_as(weight)


class Adapter(nn.Module):
    """The LoRA on a UNet: every linear and convolution whose rank is not 0."""

    def __init__(self, unet: UNet2DConditionModel, ranks: Mapping[str, int] = RANKS) -> None:
        """Puts itself into `unet`, whose own weights stay as they are."""
        super().__init__()
        unet.requires_grad_(False)
        self.names: list[str] = []
        parts: list[LowRank] = []
        for name, layer in list(unet.named_modules()):
            if isinstance(layer, nn.Linear | nn.Conv2d) and (rank := ranks[kind_of(name, layer)]):
                parts.append(LowRank(layer.weight, rank))
                parametrize.register_parametrization(layer, "weight", parts[-1])
                self.names.append(name)
        self.parts = nn.ModuleList(parts)

    def write(self, path: Path, card: Card, base: str = "Storybook") -> int:
        """Writes the LoRA in half precision in peft's names, as `load_lora_weights` reads it, with `card` as
        metadata; returns the file's size in bytes."""
        tensors: dict[str, Tensor] = {}
        for name, part in zip(self.names, self.parts, strict=True):
            for end, weight in (("lora_A", part.down), ("lora_B", part.up)):
                tensors[f"unet.{name}.{end}.weight"] = weight.detach().half().contiguous().cpu()
        metadata = {
            "format": "pt",
            "title": card.title,
            "description": card.description,
            "base_model": base,
            "trigger_words": "",
            "darkroom": json.dumps(dict(card.suited)),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        save_file(tensors, partial, metadata)
        partial.chmod(0o644)  # safetensors writes for the owner alone
        partial.replace(path)
        return path.stat().st_size


def kind_of(name: str, layer: nn.Module) -> str:
    """What the UNet's layer `name` is: "attention", "feed-forward", "convolution" (3x3) or "other"."""
    if "attn" in name:
        return "attention"
    if ".ff." in name:
        return "feed-forward"
    return "convolution" if isinstance(layer, nn.Conv2d) and layer.kernel_size[0] > 1 else "other"


def load_adapter(work: Path, model: Path, course: str) -> Adapter:
    """The averaged weights of the LoRA's latest checkpoint. Raises FileNotFoundError where there is none."""
    unet = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32)
    adapter = Adapter(unet)
    saved = torch.load(work / "checkpoints" / f"{course}-0.pt", map_location="cpu", weights_only=True)
    adapter.load_state_dict(saved["average"])
    return adapter
