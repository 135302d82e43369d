"""Which kind of LoRA a file is and what it was made for, told from its tensors' names, shapes and metadata.

Covers the layouts in use: diffusers' and peft's, kohya's, and LyCORIS (Yeh et al., 2023): LoHa, LoKr, full
differences, IA3 and the orthogonal ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipelines.library.denoisers import Shapes

LoraFormat = Literal["diffusers", "peft", "kohya", "lycoris"]

_ENDINGS: tuple[tuple[str, LoraFormat], ...] = (
    *((f".{name}", "lycoris") for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")),
    *((f".{name}", "lycoris") for name in ("hada_t1", "hada_t2")),
    *((f".{name}", "lycoris") for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a")),
    *((f".{name}", "lycoris") for name in ("lokr_w2_b", "lokr_t2", "oft_blocks", "oft_diag", "diff")),
    *((f".{name}", "lycoris") for name in ("diff_b", "on_input", "w_norm", "b_norm")),
    *((f".{name}.weight", "lycoris") for name in ("a1", "a2", "b1", "b2", "lora_mid")),
    (".lora_down.weight", "kohya"),
    (".lora_up.weight", "kohya"),
    (".lora_A.weight", "peft"),
    (".lora_B.weight", "peft"),
    (".lora_A.default.weight", "peft"),
    (".lora_B.default.weight", "peft"),
    (".lora_linear_layer.down.weight", "diffusers"),
    (".lora_linear_layer.up.weight", "diffusers"),
    (".lora.down.weight", "diffusers"),
    (".lora.up.weight", "diffusers"),
    ("_lora.down.weight", "diffusers"),
    ("_lora.up.weight", "diffusers"),
)
"""How the name of an adapter's tensor ends, after that of the layer which it changes."""

_FAMILIES: tuple[tuple[str, str], ...] = (
    ("Flux.2", r"double_stream_modulation|single_blocks_\d+_linear1.*_flux2|to_qkv_mlp_proj"),
    ("Flux.3", r"(^|_)(txt_)?mode_blocks_|early_stream_modulations"),
    ("Chroma", r"distilled_guidance_layer"),
    ("HunyuanVideo", r"individual_token_refiner|token_refiner_refiner_blocks"),
    ("Qwen-Image", r"(^|_)transformer_blocks_\d+_(img|txt)_(mlp|mod)"),
    ("SD3", r"(^|_)joint_blocks_\d+_"),
    ("AuraFlow", r"(^|_)(double_layers|joint_transformer_blocks)_\d+_"),
    ("Flux", r"(^|_)(double_blocks|single_blocks)_\d+_|(^|_)single_transformer_blocks_\d+_"),
    ("Sana", r"ff_conv_(inverted|point)|mlp_(inverted|point)_conv"),
    ("Z-Image", r"(^|_)layers_\d+_(attention_(to_q|qkv|out)|adaLN_modulation|feed_forward_w\d)"),
    ("Lumina 2", r"(^|_)layers_\d+_(attn_to_|feed_forward_linear)"),
    ("HiDream", r"(double|single)_stream_blocks_\d+_block"),
    ("Kandinsky 5", r"visual_transformer_blocks_"),
    ("Wan", r"(^|_)blocks_\d+_(self|cross)_attn_|^(transformer|diffusion_model)_blocks_\d+_attn\d_"),
)
"""Family -> how names of its layers look with "." and "_" taken for the same; the first found counts."""

_NAMED: tuple[tuple[str, str], ...] = (
    (r"sd_?xl|stable-diffusion-xl", "SDXL"),
    (r"sd3|stable-diffusion-(v?3|3\.5)", "SD3"),
    (r"flux-?\.?2|flux2", "Flux.2"),
    (r"flux-?\.?3|flux3", "Flux.3"),
    (r"chroma", "Chroma"),
    (r"flux", "Flux"),
    (r"qwen", "Qwen-Image"),
    (r"z-?_?image", "Z-Image"),
    (r"pixart", "PixArt"),
    (r"sana", "Sana"),
    (r"lumina", "Lumina 2"),
    (r"hunyuan.*video", "HunyuanVideo"),
    (r"wan", "Wan"),
    (r"sd_?v?[12]|stable-diffusion-v[12]", "SD"),
)
"""What metadata calls a family (kohya's ss_base_model_version, ModelSpec's architecture), lower case."""

_WIDTHS: Mapping[int, str] = {768: "SD", 1024: "SD", 2048: "SDXL", 1280: "SDXL"}
"""Width of the text that a published UNet listens to -> family."""


@dataclass(frozen=True)
class ToldLora:
    """What a LoRA is. text_width: of the text vectors its layers take, None where none of them takes text.
    width: channels of the transformer it changes, None for a UNet's. parts: "unet", "text_encoder", ..."""

    family: str
    format: LoraFormat
    text_width: int | None
    width: int | None
    parts: frozenset[str]


def tell(shapes: Shapes, metadata: Mapping[str, str]) -> ToldLora | None:
    """What the LoRA with these tensors is; None for what is none."""
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    formats: dict[LoraFormat, int] = {}
    for name, shape in shapes.items():
        ending = next((row for row in _ENDINGS if name.endswith(row[0])), None)
        if ending is not None:
            layer = name.removesuffix(ending[0])
            layers.setdefault(layer, {})[ending[0].lstrip("._")] = shape
            formats[ending[1]] = formats.get(ending[1], 0) + 1
    if not layers or 4 * sum(formats.values()) < len(shapes):
        return None
    flat = {_flat(layer): parts for layer, parts in layers.items()}
    text = next(
        (size for layer, parts in flat.items() if "attn2_to_k" in layer and (size := _inputs(parts))), None
    )
    family = _family(flat, metadata, text)
    kind = "lycoris" if "lycoris" in formats else max(formats, key=lambda one: formats[one])
    unet = family in ("SD", "SDXL", "")
    return ToldLora(family, kind, text if unet else None, None if unet else _width(flat), _parts(flat, unet))


def _flat(layer: str) -> str:
    return layer.replace(".processor", "").replace(".", "_")


def _family(
    flat: Mapping[str, Mapping[str, tuple[int, ...]]], metadata: Mapping[str, str], text: int | None
) -> str:
    told = " ".join(
        metadata.get(name, "") for name in ("ss_base_model_version", "modelspec.architecture", "base_model")
    ).lower()
    named = next((family for pattern, family in _NAMED if told.strip() and re.search(pattern, told)), "")
    seen = _seen(flat, text)
    # Names and shapes cannot be wrong; what training tools write down sometimes is.
    return seen or named


def _seen(flat: Mapping[str, Mapping[str, tuple[int, ...]]], text: int | None) -> str:
    names = list(flat)
    for family, pattern in _FAMILIES:
        looks = re.compile(pattern)
        if any(looks.search(name) for name in names):
            if family == "Flux" and (_width(flat) or 0) in (4096, 6144):
                return "Flux.2"
            return family
    if any(re.search(r"(down|up|mid|input|output|middle)_blocks?_", name) for name in names):
        return _seen_unet(names, text)
    if any("transformer_blocks_" in name and "_attn_" in name for name in names):
        width = _width(flat) or 0
        deepest = max(
            (int(found[1]) for name in names if (found := re.search(r"blocks_(\d+)_", name))), default=0
        )
        return "SD3" if width < 3072 else "Qwen-Image" if deepest > 18 else "Flux"
    if any("transformer_blocks_" in name and "_attn1_" in name for name in names):
        return {1152: "PixArt", 2240: "Sana"}.get(_width(flat) or 0, "")
    if any(re.match(r"lora_te2_|text_encoder_2_", name) for name in names):
        return ""  # SDXL's or SD3's or Flux's: a LoRA for text encoders alone
    return ""


def _seen_unet(names: list[str], text: int | None) -> str:
    if text is not None and text in _WIDTHS:
        return _WIDTHS[text]
    if any(re.match(r"lora_te2_|text_encoder_2_", name) for name in names):
        return "SDXL"
    if any(
        re.search(r"attentions_\d_transformer_blocks_[1-9]|(in|out)put_blocks_\d_1_tr.*_blocks_[1-9]", name)
        for name in names
    ):
        return "SDXL"  # SD's attention is one block deep
    return "SD" if text is not None or any("down_blocks_0_attentions" in name for name in names) else ""


def _width(flat: Mapping[str, Mapping[str, tuple[int, ...]]]) -> int | None:
    for layer, parts in flat.items():
        if re.search(r"(to_q|qkv|self_attn_q|to_k|linear1|wq|to_v)$", layer) and "text_encoder" not in layer:
            size = _inputs(parts)
            if size:
                return size
    return None


def _inputs(parts: Mapping[str, tuple[int, ...]]) -> int | None:
    """How many numbers go into the layer that these tensors change; None where they do not tell."""
    for name, shape in parts.items():
        if name.endswith(("down.weight", "lora_A.weight", "lora_A.default.weight", "hada_w1_b", "diff")):
            return shape[1] if len(shape) > 1 else None
    outer = parts.get("lokr_w1", parts.get("lokr_w1_b", ()))
    inner = parts.get("lokr_w2", parts.get("lokr_w2_b", ()))
    return outer[1] * inner[1] if len(outer) > 1 and len(inner) > 1 else None


def _parts(flat: Mapping[str, object], unet: bool) -> frozenset[str]:
    found = set()
    for name in flat:
        if re.match(r"lora_te(1)?_|text_encoder_(?!2|3)", name):
            found.add("text_encoder")
        elif re.match(r"lora_te2_|text_encoder_2_", name):
            found.add("text_encoder_2")
        elif re.match(r"lora_te3_|text_encoder_3_", name):
            found.add("text_encoder_3")
        else:
            found.add("unet" if unet else "transformer")
    return frozenset(found)
