"""What a weights file is, told from its header: its sort, its family, what is in it, what it says of itself.

Nothing is loaded. What tensors' names and shapes show counts before what metadata claims, and the file's name
is asked only where the two leave something open.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pipelines.controlnet.control_files import sizes_of_shapes
from pipelines.library import denoisers, identify_loras
from pipelines.library import identify_metadata as said
from pipelines.library.denoisers import Prediction
from pipelines.library.headers import Header, read_header

Sort = Literal[
    "checkpoint",
    "diffusion model",
    "lora",
    "controlnet",
    "adapter",
    "vae",
    "embedding",
    "text encoder",
    "upscaler",
]
"""What a file is for. A checkpoint holds all that painting needs or most of it, a diffusion model its
denoiser alone; "adapter" are T2I-Adapters."""
SORTS: tuple[Sort, ...] = get_args(Sort)


@dataclass(frozen=True)
class Identity:
    """What a file is.

    family: "SD" (1 and 2), "SDXL", "SD3", "Flux", ... or "" where it fits several or is not known.
    variant: "", "inpaint", "edit", "depth", "refiner", "control", "upscale". text_width: width of the text
    vectors it listens to (SD 1 768, SD 2 1024, SDXL 2048) or, of an embedding, which it adds; None if none.
    width: channels of a transformer's tokens, where a LoRA must agree with them; of a VAE, of its latents.
    prediction: what the denoiser was trained to tell; "" where it is none. dtype: in which most of its bytes
    are ("F16"). bytes: of weights. format: "diffusers", "peft", "kohya", "lycoris" for LoRAs, "original" or
    "diffusers" for what has two layouts of names, else "". holds: components inside ("unet", "vae", ...).
    alias: what its training called it. hash: 12 hex digits that its metadata tells (kohya's sshs_model_hash).
    defaults: request fields that suit a run with it.
    note: a sentence on what is out of the ordinary, or "".
    """

    sort: Sort
    family: str = ""
    variant: str = ""
    text_width: int | None = None
    width: int | None = None
    prediction: Prediction = ""
    dtype: str = ""
    bytes: int = 0
    format: str = ""
    title: str = ""
    trigger_words: tuple[str, ...] = ()
    holds: frozenset[str] = frozenset()
    alias: str = ""
    hash: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


_COMPONENTS: tuple[tuple[str, str], ...] = (
    ("first_stage_model.", "vae"),
    ("vae.", "vae"),
    ("cond_stage_model.", "text_encoder"),
    ("conditioner.embedders.0.transformer.", "text_encoder"),
    ("conditioner.embedders.0.model.", "text_encoder_2"),
    ("conditioner.embedders.1.", "text_encoder_2"),
    ("text_encoders.clip_l.", "text_encoder"),
    ("text_encoders.clip_g.", "text_encoder_2"),
    ("text_encoders.t5xxl.", "text_encoder_t5"),
    ("text_encoders.", "text_encoder"),
    ("depth_model.", "depth_estimator"),
)
"""What stands before the names of a component's tensors in a checkpoint."""

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "SD": ("vae", "text_encoder"),
    "SDXL": ("vae", "text_encoder", "text_encoder_2"),
    "SD3": ("vae", "text_encoder", "text_encoder_2"),
    "Flux": ("vae", "text_encoder", "text_encoder_2"),
    "Unconditional": (),
}
"""Family -> the components that painting needs beside the denoiser; where it is not named, VAE and one text
encoder."""

_UPSCALERS: tuple[tuple[str, ...], ...] = (
    ("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"),
    ("conv_first.weight", "body.0.rdb1.conv1.weight"),
    ("conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight"),
    ("body.0.weight", "body.1.weight", "body.2.weight"),
    ("conv_first.weight", "layers.0.residual_group.blocks.0.norm1.weight"),
    ("conv_first.weight", "layers.0.blocks.0.norm1.weight"),
    ("conv_first.weight", "layers.0.residual_group.blocks.0.conv_block.cab.0.weight"),
    ("conv_first.weight", "before_RG.1.weight"),
    ("conv_first.weight", "conv_after_body.weight"),
    ("to_feat.weight", "feats.0.norm1.weight"),
)
"""Names that tell an upscaler: ESRGAN old and new, its compact kin, SwinIR, HAT, DAT, SAFMN. What else
spandrel reads is one where it lies in an upscalers' folder."""
_UPSCALER_WRAPS = ("params_ema.", "params.", "model.", "module.", "")


def identify(path: Path | str) -> Identity | None:
    """What the file at `path` is; None for weights of nothing that is known here.

    Raises `UnreadableFile` with a sentence where it cannot be read (see headers.read_header).
    """
    path = Path(path)
    return identify_header(read_header(path), path.stem)


def identify_header(header: Header, name: str = "") -> Identity | None:
    """The same from a header; `name`, the file's, decides only between what looks the same."""
    told = (
        _lora(header)
        or _embedding(header)
        or _control(header)
        or _model(header, name)
        or _vae(header, name)
        or _text_encoder(header)
        or _upscaler(header)
    )
    if told is None:
        return None
    metadata = header.metadata
    return replace(
        told,
        dtype=_dtype(header),
        bytes=sum(info.bytes for info in header.tensors.values()),
        title=said.line(metadata.get("modelspec.title") or metadata.get("title", "")),
        alias=said.line(metadata.get("ss_output_name", "")),
    )


# ------------------------------------------------------------------------------------------- add-ons


def _lora(header: Header) -> Identity | None:
    told = identify_loras.tell(header.shapes, header.metadata)
    if told is None:
        return None
    return Identity(
        "lora",
        told.family,
        text_width=told.text_width,
        width=told.width,
        format=told.format,
        holds=told.parts,
        trigger_words=said.trigger_words(header.metadata),
        hash=said.told_hash(header.metadata),
        defaults=said.suggested(header.metadata),
    )


def _embedding(header: Header) -> Identity | None:
    """A textual inversion (Gal et al., 2022): a few vectors, in the webui's or diffusers' layout."""
    shapes = {name: shape for name, shape in header.shapes.items() if len(shape) in (1, 2)}
    if not 1 <= len(shapes) <= 4 or len(header.tensors) > 8:
        return None
    if {"clip_l", "clip_g"} <= set(shapes):
        return Identity("embedding", "SDXL", text_width=2048, holds=frozenset({"clip_l", "clip_g"}))
    named = next(
        (name for name in shapes if name == "emb_params" or name.startswith("string_to_param.")), None
    )
    if named is None and len(header.tensors) == 1 and "." not in next(iter(shapes)):
        named = next(iter(shapes))  # diffusers': {"<token>": vectors}
    if named is None:
        return None
    width = shapes[named][-1]
    if len(shapes[named]) == 2 and shapes[named][0] > 256:
        return None  # a matrix, not a handful of vectors
    return Identity("embedding", "SDXL" if width == 1280 else "SD", text_width=width)


def _control(header: Header) -> Identity | None:
    sizes = sizes_of_shapes(header.shapes)
    if sizes is None:
        return None
    return Identity(
        "adapter" if sizes.sort == "adapter" else "controlnet",
        sizes.family,
        variant="union" if sizes.sort == "union" else "",
        text_width=sizes.text,
    )


# -------------------------------------------------------------------------------------------- models


def _model(header: Header, name: str) -> Identity | None:
    found = denoisers.tell(header.shapes)
    if found is None:
        return None
    told, prefix = found
    holds: set[str] = {told.component}
    holds |= {
        component for start, component in _COMPONENTS if any(one.startswith(start) for one in header.tensors)
    }
    if "text_encoder_t5" in holds:
        holds = holds - {"text_encoder_t5"} | {"text_encoder_3" if told.family == "SD3" else "text_encoder_2"}
    variant = _variant(told, holds, prefix, header, name)
    return Identity(
        "checkpoint" if len(holds) > 1 else "diffusion model",
        told.family,
        variant,
        told.text_width,
        told.width,
        prediction(told, variant, header, name),
        format="original" if _original(header, prefix) else "diffusers",
        holds=frozenset(holds),
        note=_note(told, header),
    )


def needed(identity: Identity) -> tuple[str, ...]:
    """Components that painting with such a model needs and that are not in its file."""
    wanted = _NEEDED.get(identity.family, ("vae", "text_encoder"))
    if identity.variant == "refiner":
        wanted = ("vae", "text_encoder_2")
    return tuple(component for component in wanted if component not in identity.holds)


def _original(header: Header, prefix: str) -> bool:
    marks = (
        "input_blocks.0.0.weight",
        "double_blocks.0.img_attn.norm.key_norm.scale",
        "joint_blocks.0.",
        "blocks.0.",
    )
    return any(name.removeprefix(prefix).startswith(marks) for name in header.tensors)


def _variant(told: denoisers.Told, holds: set[str], prefix: str, header: Header, name: str) -> str:
    if told.family == "SDXL" and holds & {"text_encoder", "text_encoder_2"} == {"text_encoder_2"}:
        return "refiner"
    hint = f"{name} {header.metadata.get('modelspec.architecture', '')}".lower()
    if told.family == "Flux" and not told.variant and "kontext" in hint:
        return "edit"  # the same shapes as Flux dev
    if told.family == "Qwen-Image" and "edit" in hint:
        return "edit"
    return told.variant


def prediction(told: denoisers.Told, variant: str, header: Header, name: str) -> Prediction:
    """What the denoiser tells: by the file's own word, else by what its family does."""
    if told.prediction == "flow":
        return "flow"
    word = header.metadata.get("modelspec.prediction_type", "").lower()
    if word in ("v", "v_prediction", "v-prediction"):
        return "v_prediction"
    if word in ("epsilon", "eps"):
        return "epsilon"
    if "v_pred" in header.tensors or re.search(r"v[-_ ]?pred", name.lower()):
        return "v_prediction"
    if told.family == "SD" and told.text_width == 1024 and not variant:
        # SD 2's files do not say. The 768 models tell v, the 512 ones, named "base", and SD-Turbo noise.
        return "epsilon" if re.search(r"base|512|turbo", name.lower()) else "v_prediction"
    return "epsilon"


def _note(told: denoisers.Told, header: Header) -> str:
    if told.family in denoisers.MOVING:
        return f"{told.family} models make moving pictures, which Darkroom does not."
    if "edm_mean" in header.tensors:
        return "Trained by EDM's preconditioning (Playground 2.5): it needs a sampler of that kind."
    return ""


# ------------------------------------------------------------------------------------------ components

_VAE_MARKS = (
    ("decoder.conv_in.weight", "decoder.mid.block_1.conv1.weight"),
    ("decoder.conv_in.weight", "decoder.mid_block.resnets.0.conv1.weight"),
    ("decoder.conv_in.weight", "decoder.up_blocks.0.0.conv.weight"),
    ("decoder.conv1.weight", "decoder.middle.0.residual.0.gamma"),
    ("decoder.project_in.conv.weight",),
    ("decoder.project_in.main.conv.weight",),
)


def _vae_family(shapes: denoisers.Shapes, channels: int | None, name: str) -> str:
    """The family that a VAE is of; "" for those of 4 and 16 channels, which look the same in several."""
    if len(shapes.get("decoder.conv_in.weight", ())) == 5 or "decoder.conv1.weight" in shapes:
        return "Qwen-Image"
    if "decoder.up_blocks.0.0.conv.weight" in shapes or "decoder.project_in.conv.weight" in shapes:
        return "Sana"
    if channels == 32:
        return "Flux.2"
    called = name.lower()
    if channels == 4 and re.search(r"sd_?xl|xl_?vae|xl-vae", called):
        return "SDXL"
    return (
        "SD" if channels == 4 and re.search(r"ft-?_?mse|ft-?_?ema|840000|560000|kl-f8-anime", called) else ""
    )


def _vae(header: Header, name: str) -> Identity | None:
    for prefix in ("", "first_stage_model.", "vae."):
        shapes = {
            name.removeprefix(prefix): shape
            for name, shape in header.shapes.items()
            if name.startswith(prefix)
        }
        if any(all(name in shapes for name in names) for names in _VAE_MARKS):
            first = shapes.get("decoder.conv_in.weight", ())
            channels = first[1] if len(first) >= 4 else None
            if "quantize.embedding.weight" in shapes:
                return None  # of Kandinsky and its kin: never taken apart from its model
            layout = (
                "diffusers" if any(name.startswith("decoder.up_blocks.0.") for name in shapes) else "original"
            )
            family = _vae_family(shapes, channels, name)
            return Identity("vae", family, width=channels, format=layout, holds=frozenset({"vae"}))
    return None


_CLIP: Mapping[int, str] = {768: "CLIP-L", 1280: "CLIP-G", 1024: "CLIP-H"}
_TEXT_MARKS: tuple[tuple[str, str], ...] = (
    ("encoder.layers.0.self_attn.out_proj.weight", "CLIP"),
    ("transformer.resblocks.0.attn.out_proj.weight", "CLIP"),
    ("encoder.block.0.layer.0.SelfAttention.q.weight", "T5"),
    ("enc.blk.0.attn_q.weight", "T5"),
    ("layers.0.self_attn.q_proj.weight", "language model"),
    ("blk.0.attn_q.weight", "language model"),
)
"""How a layer's name ends -> what text encoder it is of. A CLIP is told further by its width."""


def _text_encoder(header: Header) -> Identity | None:
    """CLIP, T5 and language models; text_width is that of their vectors."""
    for ending, kind in _TEXT_MARKS:
        for name, shape in header.shapes.items():
            if name.endswith(ending) and "vis" not in name and len(shape) == 2:
                named = _CLIP.get(shape[1], kind) if kind == "CLIP" else kind
                return Identity(
                    "text encoder", variant=named, text_width=shape[1], holds=frozenset({"text_encoder"})
                )
    return None


def _upscaler(header: Header) -> Identity | None:
    for wrap in _UPSCALER_WRAPS:
        names = {name.removeprefix(wrap) for name in header.tensors if name.startswith(wrap)}
        if any(names.issuperset(marks) for marks in _UPSCALERS):
            return Identity("upscaler")
    return None


def _dtype(header: Header) -> str:
    sizes: dict[str, int] = {}
    for info in header.tensors.values():
        sizes[info.dtype] = sizes.get(info.dtype, 0) + info.bytes
    return max(sizes, key=lambda dtype: sizes[dtype]) if sizes else ""
