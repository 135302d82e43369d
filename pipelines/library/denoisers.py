"""Which family a denoiser is of, told from its tensors' names and shapes alone.

Two layouts of names are known: the authors' own (CompVis and those who followed) and diffusers'. The facts
are those of diffusers' conversion table (loaders/single_file_utils.py) and of its classes' own state dicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Shapes = Mapping[str, tuple[int, ...]]
Prediction = Literal["epsilon", "v_prediction", "flow", ""]

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "net.", "model.", "")
"""What files put before a denoiser's names; the first one under which a family is recognised counts."""

MOVING = frozenset({"Wan", "LTX", "LTX2", "HunyuanVideo", "Mochi", "Cosmos"})
"""Families that make moving pictures: known, so that a person is told, and not painted with."""


@dataclass(frozen=True)
class Told:
    """What a denoiser is. text_width: of the vectors it listens to. width: channels of its tokens, or of a
    UNet's first block. channels: of the latents it takes, with mask or picture where it takes those."""

    family: str
    component: Literal["unet", "transformer"]
    variant: str = ""
    text_width: int | None = None
    width: int | None = None
    channels: int | None = None
    prediction: Prediction = "epsilon"


@dataclass(frozen=True)
class _Row:
    """A transformer's family. marks: alternatives, each a list of names that must all be there. text, inputs:
    tensors whose second side is the text's width, or the number of channels that go in."""

    family: str
    marks: tuple[tuple[str, ...], ...]
    text: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    prediction: Prediction = "flow"


_ROWS: tuple[_Row, ...] = (
    _Row(
        "Flux.3", (("early_stream_modulations.image.lin.weight",), ("mode_blocks.image.0.attn.to_q.weight",))
    ),
    _Row(
        "Flux.2",
        (("single_stream_modulation.lin.weight",), ("single_stream_modulation.linear.weight",)),
        ("txt_in.weight", "context_embedder.weight"),
        ("img_in.weight", "x_embedder.weight"),
    ),
    _Row(
        "Chroma",
        (("distilled_guidance_layer.in_proj.weight",), ("distilled_guidance_layer.in_proj.bias",)),
        ("txt_in.weight", "context_embedder.weight"),
        ("img_in.weight", "x_embedder.weight"),
    ),
    _Row(
        "HunyuanVideo",
        (
            ("txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias",),
            ("context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight",),
        ),
    ),
    _Row(
        "Flux",
        (
            ("double_blocks.0.img_attn.norm.key_norm.scale",),
            ("single_transformer_blocks.0.proj_mlp.weight", "time_text_embed.text_embedder.linear_1.weight"),
        ),
        ("txt_in.weight", "context_embedder.weight"),
        ("img_in.weight", "x_embedder.weight"),
    ),
    _Row(
        "SD3",
        (
            ("joint_blocks.0.context_block.adaLN_modulation.1.bias",),
            ("pos_embed.proj.weight", "transformer_blocks.0.attn.add_q_proj.weight"),
        ),
        ("context_embedder.weight",),
        ("x_embedder.proj.weight", "pos_embed.proj.weight"),
    ),
    _Row(
        "AuraFlow",
        (
            ("double_layers.0.attn.w2q.weight", "cond_seq_linear.weight"),
            ("joint_transformer_blocks.0.attn.add_q_proj.weight",),
        ),
        ("cond_seq_linear.weight", "context_embedder.weight"),
    ),
    _Row(
        "Qwen-Image 2.1",
        (("txt_in.text_norm.weight",),),
        ("txt_in.in_layer.weight",),
        ("img_in.weight",),
    ),
    _Row(
        "Qwen-Image",
        (("txt_norm.weight", "transformer_blocks.0.img_mod.1.weight"),),
        ("txt_in.weight",),
        ("img_in.weight",),
    ),
    _Row(
        "Krea2",
        (("txtfusion.projector.weight",), ("text_fusion.projector.weight",)),
        ("txt_in.linear_1.weight",),
    ),
    _Row(
        "Sana",
        (
            ("blocks.0.cross_attn.q_linear.weight", "blocks.0.mlp.inverted_conv.conv.weight"),
            ("caption_norm.weight", "transformer_blocks.0.ff.conv_inverted.weight"),
        ),
        ("y_embedder.y_proj.fc1.weight", "caption_projection.linear_1.weight"),
        ("x_embedder.proj.weight", "patch_embed.proj.weight"),
    ),
    _Row(
        "PixArt",
        (
            ("blocks.0.cross_attn.q_linear.weight", "t_block.1.weight"),
            ("pos_embed.proj.weight", "adaln_single.linear.weight"),
        ),
        ("y_embedder.y_proj.fc1.weight", "caption_projection.linear_1.weight"),
        ("x_embedder.proj.weight", "pos_embed.proj.weight"),
        prediction="epsilon",
    ),
    _Row(
        "Z-Image",
        (("layers.0.adaLN_modulation.0.weight",), ("all_x_embedder.2-1.weight",)),
        ("cap_embedder.1.weight",),
        ("x_embedder.weight", "all_x_embedder.2-1.weight"),
    ),
    _Row(
        "Lumina 2",
        (
            ("cap_embedder.0.weight",),
            ("time_caption_embed.timestep_embedder.linear_1.weight",),
        ),
        ("cap_embedder.1.weight", "time_caption_embed.caption_embedder.1.weight"),
        ("x_embedder.weight",),
    ),
    _Row(
        "HiDream",
        (
            ("double_stream_blocks.0.block.adaLN_modulation.1.bias",),
            ("double_stream_blocks.0.block.attn1.to_q.weight",),
        ),
    ),
    _Row("Kandinsky 5", (("visual_transformer_blocks.0.visual_modulation.out_layer.weight",),)),
    _Row("CogView4", (("patch_embed.text_proj.weight",),), ("patch_embed.text_proj.weight",)),
    _Row("ERNIE-Image", (("layers.0.adaLN_sa_ln.weight",),), ("text_proj.weight",)),
    _Row("Wan", (("head.modulation",), ("condition_embedder.time_proj.weight",))),
    _Row("LTX2", (("av_ca_a2v_gate_adaln_single.emb.timestep_embedder.linear_1.weight",),)),
    _Row("LTX", (("patchify_proj.weight",), ("proj_in.weight", "caption_projection.linear_1.weight"))),
    _Row("Mochi", (("blocks.0.attn.qkv_x.weight",),)),
    _Row("Cosmos", (("x_embedder.proj.1.weight",),)),
)

_EXTRA_CHANNELS: Mapping[int, str] = {9: "inpaint", 8: "edit", 5: "depth", 7: "upscale"}
"""Channels that go into a UNet of four latent ones -> what the others are (mask and picture, ...)."""
_FLUX_CHANNELS: Mapping[int, str] = {384: "inpaint", 128: "control"}
"""The same for Flux, whose 16 latent channels are packed two by two: Fill, and Depth and Canny."""


def tell(shapes: Shapes) -> tuple[Told, str] | None:
    """What the denoiser among these tensors is and the prefix of its names; None where there is none."""
    for prefix in PREFIXES:
        bare = (
            {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
            if prefix
            else shapes
        )
        told = (_tell_unet(bare) or _tell_transformer(bare)) if bare else None
        if told is not None:
            return told, prefix
    return None


def _tell_transformer(shapes: Shapes) -> Told | None:
    for row in _ROWS:
        if any(all(name in shapes for name in names) for names in row.marks):
            channels = _second(shapes, row.inputs)
            return Told(
                row.family,
                "transformer",
                _FLUX_CHANNELS.get(channels or 0, "") if row.family == "Flux" else "",
                _second(shapes, row.text),
                next((shapes[name][0] for name in row.inputs if shapes.get(name)), None),
                channels,
                row.prediction,
            )
    return None


def _tell_unet(shapes: Shapes) -> Told | None:
    if "input_blocks.0.0.weight" in shapes and "out.2.weight" in shapes:
        first, adds = shapes["input_blocks.0.0.weight"], "label_emb.0.0.weight" in shapes
    elif "conv_in.weight" in shapes and "up_blocks.0.resnets.0.conv1.weight" in shapes:
        first, adds = shapes["conv_in.weight"], "add_embedding.linear_1.weight" in shapes
        if "time_embedding.linear_1.weight" not in shapes:
            return None  # a VAE's half
    elif "down_blocks.0.resnets_in.0.resnet_blocks.0.projection.weight" in shapes:
        return Told(
            "Kandinsky 3", "unet", "", _second(shapes, ("encoder_hid_proj.projection_linear.weight",))
        )
    else:
        return None
    if len(first) != 4:
        return None
    width, channels = first[0], first[1]
    text = next((shape[1] for name, shape in shapes.items() if _listens(name) and len(shape) == 2), None)
    variant = _EXTRA_CHANNELS.get(channels, "")
    if "encoder_hid_proj.image_embeds.weight" in shapes:
        return Told("Kandinsky 2.2", "unet", variant, None, width, channels)
    if "encoder_hid_proj.weight" in shapes:
        return Told(
            "DeepFloyd IF", "unet", variant, _second(shapes, ("encoder_hid_proj.weight",)), width, channels
        )
    if text is None:
        return Told("Unconditional", "unet", "", None, width, channels)
    if not adds or text in (768, 1024):
        return Told("SD", "unet", variant, text, width, channels)
    return Told("SDXL", "unet", variant or ("refiner" if text == 1280 else ""), text, width, channels)


def _listens(name: str) -> bool:
    return name.endswith("attn2.to_k.weight")


def _second(shapes: Shapes, names: tuple[str, ...]) -> int | None:
    return next((shapes[name][1] for name in names if len(shapes.get(name, ())) > 1), None)
