"""Tensors of single files under the names of diffusers' modules, by diffusers' own conversions.

Flux alone is named here: diffusers' conversion knows its published width only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pipelines.load.single_file import CLIP_PLACES, DENOISER, T5_NAMES, T5_PLACE, VAE, stripped

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, "Tensor"]
Convert = Callable[[State, Any], dict[str, "Tensor"]]


def converter(architecture: str, component: str) -> Convert:
    """What turns a whole file's tensors into those of a component. A file that already has the module's names
    is taken as it is."""
    if component == "vae":
        return vae
    if component in ("unet", "transformer"):
        return {"sd3": sd3, "flux": flux}.get(architecture, unet)
    if T5_NAMES.get(architecture) == component:
        return lambda state, module: stripped(state, (T5_PLACE, ""))
    place = CLIP_PLACES[architecture][component]
    return lambda state, module: clip(state, module, place)


def unet(state: State, module: Any) -> dict[str, Tensor]:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    named = {f"{DENOISER[0]}{name}": tensor for name, tensor in stripped(state, DENOISER).items()}
    return dict(convert_ldm_unet_checkpoint(named, module.config))


def vae(state: State, module: Any) -> dict[str, Tensor]:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    own = stripped(state, VAE)
    if "decoder.mid_block.resnets.0.conv1.weight" in own:
        return own
    return dict(convert_ldm_vae_checkpoint(own, module.config))


def clip(state: State, module: Any, place: str = "") -> dict[str, Tensor]:
    """A CLIP text encoder in transformers' names or open_clip's, below `place` or in a file of its own."""
    import torch
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    own = stripped(state, (place, ""))
    if "token_embedding.weight" in own:
        named = {f"{_OPEN}{name}": tensor for name, tensor in own.items()}
        return dict(convert_open_clip_checkpoint(module, named, prefix=_OPEN))
    wanted = module.state_dict()
    if "text_projection.weight" in wanted and "text_projection.weight" not in own:
        # SD 3 takes CLIP-L's pooled vector as it is; its files hold no projection.
        own["text_projection.weight"] = torch.eye(wanted["text_projection.weight"].shape[0])
    return own


_OPEN = "open_clip."
"""Any prefix but SD 2's own: for that, diffusers passes over the projection too."""


def sd3(state: State, module: Any) -> dict[str, Tensor]:
    from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers

    return dict(convert_sd3_transformer_checkpoint_to_diffusers(stripped(state, DENOISER)))


_FLUX: Mapping[str, str] = {
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "txt_in": "context_embedder",
    "img_in": "x_embedder",
    "final_layer.linear": "proj_out",
}
_FLUX_DOUBLE: Mapping[str, str] = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
_FLUX_SINGLE: Mapping[str, str] = {
    "modulation.lin": "norm.linear",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
    "linear2": "proj_out",
}
_FLUX_SPLIT: Mapping[str, tuple[str, ...]] = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
"""Layers that Black Forest Labs' files hold in one and diffusers apart; parts are slices, not copies."""


def flux(state: State, module: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, tensor in stripped(state, DENOISER).items():
        layer, _, kind = name.rpartition(".")
        kind = "weight" if kind == "scale" else kind
        group, _, rest = layer.partition(".")
        if group == "double_blocks":
            index, _, inner = rest.partition(".")
            block = f"transformer_blocks.{index}."
            if inner in _FLUX_DOUBLE:
                found[f"{block}{_FLUX_DOUBLE[inner]}.{kind}"] = tensor
            elif inner in _FLUX_SPLIT:
                for part, values in zip(_FLUX_SPLIT[inner], tensor.chunk(3)):
                    found[f"{block}{part}.{kind}"] = values
        elif group == "single_blocks":
            index, _, inner = rest.partition(".")
            block = f"single_transformer_blocks.{index}."
            if inner in _FLUX_SINGLE:
                found[f"{block}{_FLUX_SINGLE[inner]}.{kind}"] = tensor
            elif inner == "linear1":  # query, key, value, and the first layer of the block's perceptron
                width = len(tensor) // 7
                parts = tensor.split((width, width, width, len(tensor) - 3 * width))
                for part, values in zip(("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"), parts):
                    found[f"{block}{part}.{kind}"] = values
        elif layer == "final_layer.adaLN_modulation.1":
            found[f"norm_out.linear.{kind}"] = _scale_first(tensor)
        elif layer in _FLUX:
            found[f"{_FLUX[layer]}.{kind}"] = tensor
    return found


def _scale_first(tensor: Tensor) -> Tensor:
    """The original tells shift and scale in this order, diffusers the other way around."""
    import torch

    shift, scale = tensor.chunk(2)
    return torch.cat([scale, shift])
