"""Configs of single files, without network: architectures from assets, sizes from the file's header.

What a header cannot show (how many heads share a width, the size a model was trained at) follows the
architecture's rule; all that it shows counts before what the published model has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.library.headers import Header, read_header, read_json

if TYPE_CHECKING:
    from pipelines.library.identify import Identity

CONFIGS = Path(__file__).resolve().parents[2] / "assets" / "configs"
"""A folder for each architecture, laid out like a diffusers model without its weights."""
TOKENIZERS = CONFIGS / "tokenizers"

Shapes = Mapping[str, tuple[int, ...]]

DENOISER = ("model.diffusion_model.", "diffusion_model.", "")
VAE = ("first_stage_model.", "vae.", "")
"""Prefixes of a component's names in whole checkpoints, and none in files of their own."""

CLIP_PLACES: Mapping[str, Mapping[str, str]] = {
    "sd1": {"text_encoder": "cond_stage_model.transformer."},
    "sd2": {"text_encoder": "cond_stage_model.model."},
    "sdxl": {
        "text_encoder": "conditioner.embedders.0.transformer.",
        "text_encoder_2": "conditioner.embedders.1.model.",
    },
    "sdxl-refiner": {"text_encoder_2": "conditioner.embedders.0.model."},
    "sd3": {
        "text_encoder": "text_encoders.clip_l.transformer.",
        "text_encoder_2": "text_encoders.clip_g.transformer.",
    },
    "flux": {"text_encoder": "text_encoders.clip_l.transformer."},
}
"""Architecture -> component -> what stands before its tensors' names."""
T5_PLACE = "text_encoders.t5xxl.transformer."
T5_NAMES: Mapping[str, str] = {"sd3": "text_encoder_3", "flux": "text_encoder_2"}


def architecture(identity: Identity, shapes: Shapes) -> str:
    """The folder in `CONFIGS` that a file follows; "" for families that only come as diffusers folders."""
    if identity.family == "SD":
        opened = "cond_stage_model.model.token_embedding.weight" in shapes or identity.text_width == 1024
        return "sd2" if opened else "sd1"
    if identity.family == "SDXL":
        return "sdxl-refiner" if identity.variant == "refiner" else "sdxl"
    return {"SD3": "sd3", "Flux": "flux"}.get(identity.family, "")


def config_of(path: Path, identity: Identity, component: str) -> dict[str, Any]:
    """The config of a component ("unet", "transformer", "vae", "text_encoder", ..., "scheduler",
    "model_index") of a single file; empty where there is none. Reads the header only.

    Raises `UnreadableFile` for a damaged file.
    """
    return config_from(read_header(path), identity, component)


def config_from(header: Header, identity: Identity, component: str) -> dict[str, Any]:
    """The same from a header that was read."""
    shapes = header.shapes
    name = architecture(identity, shapes)
    if not name:
        return {}
    if component == "model_index":
        return read_json(CONFIGS / name / "model_index.json")
    if component == "scheduler":
        return _scheduler(name, identity, shapes)
    base = read_json(CONFIGS / name / component / "config.json")
    if not base:
        return {}
    if component == "unet":
        return base | unet_sizes(stripped(shapes, DENOISER), base) | _trained_at(name, identity)
    if component == "transformer":
        sizes = {"sd3": sd3_sizes, "flux": flux_sizes}[name]
        return base | sizes(stripped(shapes, DENOISER))
    if component == "vae":
        own = vae_sizes(stripped(shapes, VAE[:2]))
        return base | (own or {"latent_channels": _painted(name, stripped(shapes, DENOISER), base)})
    if T5_NAMES.get(name) == component:
        return base | t5_sizes(_below(shapes, T5_PLACE))
    return base | clip_sizes(_below(shapes, CLIP_PLACES[name][component]), drops_last=name == "sd2")


def _painted(name: str, shapes: Shapes, base: Mapping[str, Any]) -> int:
    """Channels of the latents that a denoiser without a VAE tells."""
    if name == "flux" and "img_in.weight" in shapes:
        return int(shapes["final_layer.linear.weight"][0] // 4)  # packed two by two
    if name == "sd3" and "x_embedder.proj.weight" in shapes:
        return shapes["x_embedder.proj.weight"][1]
    if "out.2.weight" in shapes:
        return shapes["out.2.weight"][0]
    return int(base["latent_channels"])


def _trained_at(name: str, identity: Identity) -> dict[str, Any]:
    if name == "sd2" and identity.prediction == "v_prediction" and not identity.variant:
        return {"sample_size": 96}  # 768 pixels
    return {}


def _scheduler(name: str, identity: Identity, shapes: Shapes) -> dict[str, Any]:
    told = read_json(CONFIGS / name / "scheduler" / "scheduler_config.json")
    if identity.prediction == "v_prediction":
        told["prediction_type"] = "v_prediction"
    if "ztsnr" in shapes:
        told["rescale_betas_zero_snr"] = True
    if name == "flux" and not any("guidance_in." in one for one in shapes):
        told |= {"shift": 1.0, "use_dynamic_shifting": False}  # schnell, which is distilled to few steps
    return told


# --------------------------------------------------------------------------------------------- sizes


def unet_sizes(shapes: Shapes, base: Mapping[str, Any]) -> dict[str, Any]:
    """What the UNet's tensors (named as CompVis names them) show of its config. base: the architecture's."""
    if "input_blocks.0.0.weight" not in shapes:
        return {}
    widths: list[int] = []
    depths: list[int] = []
    layers: list[int] = []
    fresh = True
    for index in range(1, _count(shapes, "input_blocks.{}.0.")):
        block = f"input_blocks.{index}."
        if f"{block}0.op.weight" in shapes:
            fresh = True
            continue
        if fresh:
            widths.append(shapes[f"{block}0.out_layers.3.weight"][0])
            depths.append(_count(shapes, f"{block}1.transformer_blocks.{{}}."))
            layers.append(0)
            fresh = False
        layers[-1] += 1
    middle = _count(shapes, "middle_block.1.transformer_blocks.{}.")
    down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths]
    deep = [depth or 1 for depth in depths[:-1]] + [middle or 1]
    found: dict[str, Any] = {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": widths,
        "layers_per_block": layers[0],
        "down_block_types": down,
        "up_block_types": [one.replace("Down", "Up") for one in reversed(down)],
        "use_linear_projection": _sides(shapes, "proj_in.weight") == 2,
    }
    if set(deep) != {1} or "transformer_layers_per_block" in base:
        found["transformer_layers_per_block"] = deep if len(set(deep)) > 1 else deep[0]
    text = next((shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight")), None)
    if text is not None:
        found["cross_attention_dim"] = text
    if isinstance(base.get("attention_head_dim"), list):  # SD 2 and SDXL: heads are 64 wide
        found["attention_head_dim"] = [max(1, width // 64) for width in widths]
    if "label_emb.0.0.weight" in shapes and base.get("addition_embed_type"):
        found["projection_class_embeddings_input_dim"] = shapes["label_emb.0.0.weight"][1]
    return found


def vae_sizes(shapes: Shapes) -> dict[str, Any]:
    """The same of an AutoencoderKL, in the authors' names or diffusers'."""
    if "decoder.conv_in.weight" not in shapes:
        return {}
    original = "decoder.mid.block_1.conv1.weight" in shapes
    level = (
        "encoder.down.{}.block.0.conv1.weight"
        if original
        else "encoder.down_blocks.{}.resnets.0.conv1.weight"
    )
    layer = "encoder.down.0.block.{}." if original else "encoder.down_blocks.0.resnets.{}."
    widths = [shapes[level.format(index)][0] for index in range(_count(shapes, level))]
    return {
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "layers_per_block": _count(shapes, layer),
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
    }


def clip_sizes(shapes: Shapes, drops_last: bool = False) -> dict[str, Any]:
    """The same of a CLIP text encoder, in transformers' names or open_clip's. drops_last: its last layer is
    in the file and goes unused, as in SD 2."""
    shapes = {name.removeprefix("text_model."): shape for name, shape in shapes.items()}
    if "transformer.resblocks.0.mlp.c_fc.weight" in shapes:
        vocabulary, width = shapes["token_embedding.weight"]
        inner = shapes["transformer.resblocks.0.mlp.c_fc.weight"][0]
        count = _count(shapes, "transformer.resblocks.{}.") - drops_last
        positions = shapes["positional_embedding"][0]
        projection = shapes.get("text_projection", (width, width))[1]
    elif "embeddings.token_embedding.weight" in shapes:
        vocabulary, width = shapes["embeddings.token_embedding.weight"]
        inner = shapes["encoder.layers.0.mlp.fc1.weight"][0]
        count = _count(shapes, "encoder.layers.{}.")
        positions = shapes["embeddings.position_embedding.weight"][0]
        projection = shapes.get("text_projection.weight", (width, width))[0]
    else:
        return {}
    found = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": count,
        "num_attention_heads": max(1, width // 64),
        "max_position_embeddings": positions,
    }
    return found if drops_last else found | {"projection_dim": projection}


def t5_sizes(shapes: Shapes) -> dict[str, Any]:
    """The same of a T5 encoder."""
    query = shapes.get("encoder.block.0.layer.0.SelfAttention.q.weight")
    if query is None:
        return {}
    heads = shapes["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    return {
        "vocab_size": shapes["shared.weight" if "shared.weight" in shapes else "encoder.embed_tokens.weight"][
            0
        ],
        "d_model": query[1],
        "d_ff": shapes["encoder.block.0.layer.1.DenseReluDense.wo.weight"][1],
        "num_heads": heads[1],
        "relative_attention_num_buckets": heads[0],
        "d_kv": query[0] // heads[1],
        "num_layers": _count(shapes, "encoder.block.{}."),
        "num_decoder_layers": _count(shapes, "encoder.block.{}."),
    }


def sd3_sizes(shapes: Shapes) -> dict[str, Any]:
    """The same of SD 3's transformer (Esser et al., 2024)."""
    if "x_embedder.proj.weight" not in shapes:
        return {}
    width, channels, patch, _ = shapes["x_embedder.proj.weight"]
    found: dict[str, Any] = {
        "in_channels": channels,
        "patch_size": patch,
        "num_layers": _count(shapes, "joint_blocks.{}."),
        "num_attention_heads": max(1, width // 64),
        "caption_projection_dim": shapes["context_embedder.weight"][0],
        "joint_attention_dim": shapes["context_embedder.weight"][1],
        "pooled_projection_dim": shapes["y_embedder.mlp.0.weight"][1],
        "out_channels": shapes["final_layer.linear.weight"][0] // patch**2,
        "pos_embed_max_size": math.isqrt(shapes["pos_embed"][1]),
    }
    twice = [
        index
        for index in range(found["num_layers"])
        if f"joint_blocks.{index}.x_block.attn2.qkv.weight" in shapes
    ]
    if twice:
        found["dual_attention_layers"] = twice
    if "joint_blocks.0.x_block.attn.ln_q.weight" in shapes:
        found["qk_norm"] = "rms_norm"
    return found


def flux_sizes(shapes: Shapes) -> dict[str, Any]:
    """The same of Flux's transformer."""
    if "img_in.weight" not in shapes:
        return {}
    width, channels = shapes["img_in.weight"]
    head = shapes["double_blocks.0.img_attn.norm.query_norm.scale"][0]
    out = shapes["final_layer.linear.weight"][0]
    found: dict[str, Any] = {
        "in_channels": channels,
        "num_layers": _count(shapes, "double_blocks.{}."),
        "num_single_layers": _count(shapes, "single_blocks.{}."),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shapes["txt_in.weight"][1],
        "pooled_projection_dim": shapes["vector_in.in_layer.weight"][1],
        "guidance_embeds": "guidance_in.in_layer.weight" in shapes,
    }
    return found | ({"out_channels": out} if out != channels else {})


def stripped(shapes: Mapping[str, Any], prefixes: tuple[str, ...]) -> dict[str, Any]:
    """What is named below the first of the prefixes that occurs, without it; all of it for the prefix ""."""
    for prefix in prefixes:
        found = _below(shapes, prefix)
        if found:
            return found
    return {}


def _below(shapes: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}


def _count(shapes: Shapes, pattern: str) -> int:
    """How many numbers from 0 on put into the pattern begin a name."""
    before, after = pattern.split("{}")
    numbers = set()
    for name in shapes:
        if name.startswith(before):
            number, _, rest = name[len(before) :].partition(".")
            if f".{rest}".startswith(after):
                numbers.add(number)
    count = 0
    while str(count) in numbers:
        count += 1
    return count


def _sides(shapes: Shapes, ending: str) -> int:
    return next((len(shape) for name, shape in shapes.items() if name.endswith(ending)), 0)
