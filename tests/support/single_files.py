"""Tiny models of the published architectures, and what writes them into one file as their authors did.

They follow the rules by which a header tells a config: groups of 32 channels, heads 64 wide (8 heads in SD1),
CLIP's real vocabulary. The names are those of CompVis, Stability AI and Black Forest Labs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.load import packed_tokenizers, single_file
from tests.support.tiny import BETAS

ARCHITECTURES = ("sd1", "sd1-inpaint", "sd1-edit", "sd2", "sdxl", "sdxl-refiner", "sd3", "flux")


def build(name: str, seed: int = 0) -> Any:
    """A pipeline of one of `ARCHITECTURES` with random weights."""
    import torch

    torch.manual_seed(seed)
    makers = {"sd2": _sd2, "sdxl": _sdxl, "sdxl-refiner": _refiner, "sd3": _sd3, "flux": _flux}
    return makers[name]() if name in makers else _sd1(name)


def _clip(cls: str, **changes: Any) -> Any:
    import transformers

    config = transformers.CLIPTextConfig(
        **{
            "vocab_size": 49408,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_attention_heads": 1,
            "num_hidden_layers": 2,
            "projection_dim": 64,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
        }
        | changes
    )
    return getattr(transformers, cls)(config).eval()


def _t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=32128,
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    return T5EncoderModel(config).eval()


def _vae(scaling: float = 0.18215, channels: int = 4, **changes: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        **{
            "block_out_channels": (32, 64),
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "layers_per_block": 2,
            "latent_channels": channels,
            "scaling_factor": scaling,
        }
        | changes
    ).eval()


def _unet(**changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        **{
            "sample_size": 64,
            "block_out_channels": (32, 64),
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "layers_per_block": 2,
            "cross_attention_dim": 64,
        }
        | changes
    ).eval()


def _tokenizer(pad: str) -> Any:
    return packed_tokenizers.clip(single_file.TOKENIZERS, pad)


def _sd1(name: str) -> Any:
    import diffusers

    channels, cls = {
        "sd1": (4, "StableDiffusionPipeline"),
        "sd1-inpaint": (9, "StableDiffusionInpaintPipeline"),
        "sd1-edit": (8, "StableDiffusionInstructPix2PixPipeline"),
    }[name]
    betas = {**BETAS, "skip_prk_steps": True, "set_alpha_to_one": False}
    return getattr(diffusers, cls)(
        unet=_unet(in_channels=channels, attention_head_dim=8),
        vae=_vae(),
        text_encoder=_clip("CLIPTextModel", hidden_act="quick_gelu"),
        tokenizer=_tokenizer("<|endoftext|>"),
        scheduler=diffusers.PNDMScheduler(**betas),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sd2() -> Any:
    import diffusers

    return diffusers.StableDiffusionPipeline(
        unet=_unet(attention_head_dim=[1, 1], use_linear_projection=True),
        vae=_vae(),
        text_encoder=_clip("CLIPTextModel", hidden_act="gelu"),
        tokenizer=_tokenizer("!"),
        scheduler=diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, **BETAS),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _xl_unet(**changes: Any) -> Any:
    return _unet(
        **{
            "sample_size": 128,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": [1, 2],
            "attention_head_dim": [1, 1],
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
        }
        | changes
    )


def _sdxl() -> Any:
    import diffusers

    return diffusers.StableDiffusionXLPipeline(
        unet=_xl_unet(cross_attention_dim=192, projection_class_embeddings_input_dim=128 + 6 * 256),
        vae=_vae(0.13025, force_upcast=True),
        text_encoder=_clip("CLIPTextModel", hidden_act="quick_gelu"),
        text_encoder_2=_clip(
            "CLIPTextModelWithProjection",
            hidden_act="gelu",
            hidden_size=128,
            num_attention_heads=2,
            projection_dim=128,
        ),
        tokenizer=_tokenizer("<|endoftext|>"),
        tokenizer_2=_tokenizer("!"),
        scheduler=diffusers.EulerDiscreteScheduler(timestep_spacing="leading", **BETAS),
    )


def _refiner() -> Any:
    import diffusers

    return diffusers.StableDiffusionXLImg2ImgPipeline(
        unet=_xl_unet(
            cross_attention_dim=1280,
            projection_class_embeddings_input_dim=64 + 5 * 256,
            transformer_layers_per_block=2,
        ),
        vae=_vae(0.13025, force_upcast=True),
        text_encoder=None,
        text_encoder_2=_clip("CLIPTextModelWithProjection", hidden_act="gelu"),
        tokenizer=None,
        tokenizer_2=_tokenizer("!"),
        scheduler=diffusers.EulerDiscreteScheduler(timestep_spacing="leading", **BETAS),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
    )


def _sd3() -> Any:
    import diffusers
    import torch

    first = _clip("CLIPTextModelWithProjection", hidden_act="quick_gelu")
    with torch.no_grad():
        first.text_projection.weight.copy_(torch.eye(64))  # as published: the pooled vector as it is
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=128,
            patch_size=2,
            in_channels=4,
            num_layers=2,
            attention_head_dim=64,
            num_attention_heads=1,
            joint_attention_dim=192,
            caption_projection_dim=64,
            pooled_projection_dim=192,
            out_channels=4,
            pos_embed_max_size=96,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        ).eval(),
        vae=_vae(
            1.5305, 4, shift_factor=0.0609, force_upcast=True, use_quant_conv=False, use_post_quant_conv=False
        ),
        text_encoder=first,
        text_encoder_2=_clip(
            "CLIPTextModelWithProjection",
            hidden_act="gelu",
            hidden_size=128,
            num_attention_heads=2,
            projection_dim=128,
        ),
        text_encoder_3=None,
        tokenizer=_tokenizer("<|endoftext|>"),
        tokenizer_2=_tokenizer("!"),
        tokenizer_3=None,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def _flux() -> Any:
    import diffusers

    return diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=128,
            num_attention_heads=1,
            joint_attention_dim=32,
            pooled_projection_dim=64,
            axes_dims_rope=(16, 56, 56),
        ).eval(),
        vae=_vae(
            0.3611, 4, shift_factor=0.1159, force_upcast=True, use_quant_conv=False, use_post_quant_conv=False
        ),
        text_encoder=_clip("CLIPTextModel", hidden_act="quick_gelu"),
        text_encoder_2=_t5(),
        tokenizer=_tokenizer("<|endoftext|>"),
        tokenizer_2=packed_tokenizers.t5(single_file.TOKENIZERS),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0),
    )


# ------------------------------------------------------------------------------------------ writing


def save(pipe: Any, path: Path, name: str, metadata: Mapping[str, str] | None = None) -> Path:
    """Writes the pipeline's weights as one safetensors file in the layout of architecture `name`."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: tensor.contiguous().clone() for key, tensor in tensors_of(pipe, name).items()}
    save_file(tensors, path, metadata=dict(metadata or {}))
    return path


def tensors_of(pipe: Any, name: str) -> dict[str, Any]:
    """All tensors of a pipeline under their authors' names."""
    name = name.split("-")[0] if name != "sdxl-refiner" else name
    places = single_file.CLIP_PLACES[name]
    found: dict[str, Any] = {}
    if "unet" in pipe.components:
        found |= _below("model.diffusion_model.", unet(pipe.unet))
    else:
        named = {"sd3": sd3, "flux": flux}[name](pipe.transformer)
        found |= _below("model.diffusion_model.", named)
    found |= _below("vae." if name in ("sd3", "flux") else "first_stage_model.", vae(pipe.vae))
    for component, place in places.items():
        encoder = getattr(pipe, component)
        opened = place.endswith(".model.")
        found |= _below(place, open_clip(encoder, extra=name == "sd2") if opened else clip(encoder))
    if name == "sd3":  # published without it
        found.pop("text_encoders.clip_l.transformer.text_projection.weight", None)
    if name in single_file.T5_NAMES and (encoder := getattr(pipe, single_file.T5_NAMES[name])) is not None:
        found |= _below(single_file.T5_PLACE, t5(encoder))
    return found


def _below(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def unet(module: Any) -> dict[str, Any]:
    """CompVis' names of a UNet."""
    each = module.config.layers_per_block + 1
    attends = ["CrossAttn" in kind for kind in module.config.up_block_types]
    found = {}
    for name, tensor in module.state_dict().items():
        layer, _, kind = name.rpartition(".")
        block = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name)
        middle = re.match(r"mid_block\.(\w+)\.(\d+)\.(.*)", name)
        if layer in _UNET:
            found[f"{_UNET[layer]}.{kind}"] = tensor
        elif block:
            way, level, sort, index, rest = block[1], int(block[2]), block[3], int(block[4]), block[5]
            place = f"{'input' if way == 'down' else 'output'}_blocks."
            first = level * each + (way == "down")
            if sort == "resnets":
                part, _, kind = rest.rpartition(".")
                found[f"{place}{first + index}.0.{_RESNET[part]}.{kind}"] = tensor
            elif sort == "attentions":
                found[f"{place}{first + index}.1.{rest}"] = tensor
            elif sort == "downsamplers":
                found[f"{place}{first + each - 1}.0.op.{kind}"] = tensor
            else:
                found[f"{place}{first + each - 1}.{1 + attends[level]}.conv.{kind}"] = tensor
        elif middle:
            sort, index, rest = middle[1], int(middle[2]), middle[3]
            if sort == "attentions":
                found[f"middle_block.1.{rest}"] = tensor
            else:
                part, _, kind = rest.rpartition(".")
                found[f"middle_block.{2 * index}.{_RESNET[part]}.{kind}"] = tensor
        else:
            raise KeyError(name)
    return found


def vae(module: Any) -> dict[str, Any]:
    """CompVis' names of an autoencoder."""
    last = len(module.config.block_out_channels) - 1
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    found = {}
    for name, tensor in module.state_dict().items():
        new = re.sub(r"decoder\.up_blocks\.(\d+)", lambda match: f"decoder.up.{last - int(match[1])}", name)
        new = re.sub(r"encoder\.down_blocks\.(\d+)", r"encoder.down.\1", new)
        new = re.sub(r"mid_block\.resnets\.(\d+)", lambda match: f"mid.block_{int(match[1]) + 1}", new)
        new = re.sub(r"\.resnets\.", ".block.", new)
        new = new.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
        new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if (match := re.match(r"(.*)mid_block\.attentions\.0\.(.*)\.(\w+)$", new)) is not None:
            new = f"{match[1]}mid.attn_1.{attention[match[2]]}.{match[3]}"
            if tensor.dim() == 2:
                tensor = tensor[:, :, None, None]
        found[new] = tensor
    return found


def clip(module: Any) -> dict[str, Any]:
    """CLIP as OpenAI's was published in transformers' names."""
    return {
        name if name.startswith(("text_model.", "text_projection")) else f"text_model.{name}": tensor
        for name, tensor in module.state_dict().items()
    }


def open_clip(module: Any, extra: bool = False) -> dict[str, Any]:
    """open_clip's names of a text encoder; extra: with the last layer that SD 2 does not use."""
    import torch

    state = {name.removeprefix("text_model."): tensor for name, tensor in module.state_dict().items()}
    found = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
    }
    if "text_projection.weight" in state:
        found["text_projection"] = state["text_projection.weight"].T
    count = module.config.num_hidden_layers
    for index in range(count + extra):
        old, new = f"encoder.layers.{min(index, count - 1)}.", f"transformer.resblocks.{index}."
        parts = {name.removeprefix(old): tensor for name, tensor in state.items() if name.startswith(old)}
        for kind in ("weight", "bias"):
            found[f"{new}attn.in_proj_{kind}"] = torch.cat(
                [parts[f"self_attn.{which}_proj.{kind}"] for which in "qkv"]
            )
            found[f"{new}attn.out_proj.{kind}"] = parts[f"self_attn.out_proj.{kind}"]
            found[f"{new}ln_1.{kind}"] = parts[f"layer_norm1.{kind}"]
            found[f"{new}ln_2.{kind}"] = parts[f"layer_norm2.{kind}"]
            found[f"{new}mlp.c_fc.{kind}"] = parts[f"mlp.fc1.{kind}"]
            found[f"{new}mlp.c_proj.{kind}"] = parts[f"mlp.fc2.{kind}"]
    return found


def t5(module: Any) -> dict[str, Any]:
    """T5's own names; what is tied is written once."""
    return {
        name: tensor for name, tensor in module.state_dict().items() if name != "encoder.embed_tokens.weight"
    }


def _other_way(tensor: Any) -> Any:
    import torch

    scale, shift = tensor.chunk(2)
    return torch.cat([shift, scale])


def sd3(module: Any) -> dict[str, Any]:
    """Stability AI's names of SD 3's transformer."""
    import torch

    state = dict(module.state_dict())
    last = module.config.num_layers - 1
    plain = {
        "pos_embed.pos_embed": "pos_embed",
        "pos_embed.proj": "x_embedder.proj",
        "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
        "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
        "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
        "context_embedder": "context_embedder",
        "proj_out": "final_layer.linear",
    }
    block = {
        "norm1.linear": "x_block.adaLN_modulation.1",
        "norm1_context.linear": "context_block.adaLN_modulation.1",
        "attn.to_out.0": "x_block.attn.proj",
        "attn.to_add_out": "context_block.attn.proj",
        "attn.norm_q": "x_block.attn.ln_q",
        "attn.norm_k": "x_block.attn.ln_k",
        "attn.norm_added_q": "context_block.attn.ln_q",
        "attn.norm_added_k": "context_block.attn.ln_k",
        "attn2.to_out.0": "x_block.attn2.proj",
        "attn2.norm_q": "x_block.attn2.ln_q",
        "attn2.norm_k": "x_block.attn2.ln_k",
        "ff.net.0.proj": "x_block.mlp.fc1",
        "ff.net.2": "x_block.mlp.fc2",
        "ff_context.net.0.proj": "context_block.mlp.fc1",
        "ff_context.net.2": "context_block.mlp.fc2",
    }
    joined = {
        "attn.to_q": ("x_block.attn.qkv", "attn.to_k", "attn.to_v"),
        "attn.add_q_proj": ("context_block.attn.qkv", "attn.add_k_proj", "attn.add_v_proj"),
        "attn2.to_q": ("x_block.attn2.qkv", "attn2.to_k", "attn2.to_v"),
    }
    found = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if name in plain:
            found[plain[name]] = tensor
        elif layer in plain:
            found[f"{plain[layer]}.{kind}"] = tensor
        elif layer == "norm_out.linear":
            found[f"final_layer.adaLN_modulation.1.{kind}"] = _other_way(tensor)
        elif (match := re.match(r"transformer_blocks\.(\d+)\.(.*)", layer)) is not None:
            index, rest = int(match[1]), match[2]
            if rest in joined:
                new, *others = joined[rest]
                whole = [tensor, *(state[f"transformer_blocks.{index}.{one}.{kind}"] for one in others)]
                found[f"joint_blocks.{index}.{new}.{kind}"] = torch.cat(whole)
            elif rest in block:
                swapped = rest == "norm1_context.linear" and index == last
                found[f"joint_blocks.{index}.{block[rest]}.{kind}"] = (
                    _other_way(tensor) if swapped else tensor
                )
    return found


def flux(module: Any) -> dict[str, Any]:
    """Black Forest Labs' names of Flux' transformer."""
    import torch

    state = dict(module.state_dict())
    plain = {
        "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
        "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
        "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
        "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
        "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
        "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
        "context_embedder": "txt_in",
        "x_embedder": "img_in",
        "proj_out": "final_layer.linear",
    }
    double = {
        "norm1.linear": "img_mod.lin",
        "norm1_context.linear": "txt_mod.lin",
        "attn.norm_q": "img_attn.norm.query_norm",
        "attn.norm_k": "img_attn.norm.key_norm",
        "attn.norm_added_q": "txt_attn.norm.query_norm",
        "attn.norm_added_k": "txt_attn.norm.key_norm",
        "attn.to_out.0": "img_attn.proj",
        "attn.to_add_out": "txt_attn.proj",
        "ff.net.0.proj": "img_mlp.0",
        "ff.net.2": "img_mlp.2",
        "ff_context.net.0.proj": "txt_mlp.0",
        "ff_context.net.2": "txt_mlp.2",
    }
    single = {
        "norm.linear": "modulation.lin",
        "attn.norm_q": "norm.query_norm",
        "attn.norm_k": "norm.key_norm",
        "proj_out": "linear2",
    }
    joined = {
        "attn.to_q": ("img_attn.qkv", "attn.to_k", "attn.to_v"),
        "attn.add_q_proj": ("txt_attn.qkv", "attn.add_k_proj", "attn.add_v_proj"),
    }
    found = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        match = re.match(r"(single_)?transformer_blocks\.(\d+)\.(.*)", layer)
        if layer in plain:
            found[f"{plain[layer]}.{kind}"] = tensor
        elif layer == "norm_out.linear":
            found[f"final_layer.adaLN_modulation.1.{kind}"] = _other_way(tensor)
        elif match is not None:
            index, rest = match[2], match[3]
            table, place = (single, "single_blocks") if match[1] else (double, "double_blocks")
            old = f"{match[1] or ''}transformer_blocks.{index}."
            ending = "scale" if ".norm_" in f".{rest}" else kind
            if rest in table:
                found[f"{place}.{index}.{table[rest]}.{ending}"] = tensor
            elif match[1] and rest == "attn.to_q":
                others = [state[f"{old}{one}.{kind}"] for one in ("attn.to_k", "attn.to_v", "proj_mlp")]
                found[f"{place}.{index}.linear1.{kind}"] = torch.cat([tensor, *others])
            elif not match[1] and rest in joined:
                new, *others = joined[rest]
                found[f"{place}.{index}.{new}.{kind}"] = torch.cat(
                    [tensor, *(state[f"{old}{one}.{kind}"] for one in others)]
                )
    return found
