"""Which layer of a model an adapter's key means, by kohya's, LyCORIS's, the original models' or diffusers' na

Names are compared with their dots and underscores alike, because kohya's cannot be told apart otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_PREFIXES = (
    ("lora_unet_", "denoiser"),
    ("lora_transformer_", "denoiser"),
    ("lycoris_", "denoiser"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te3_", "text_encoder_3"),
    ("lora_te_", "text_encoder"),
    ("text_encoder_3.", "text_encoder_3"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder.", "text_encoder"),
    ("base_model.model.", "denoiser"),
    ("model.diffusion_model.", "denoiser"),
    ("diffusion_model.", "denoiser"),
    ("unet.", "denoiser"),
    ("transformer.", "denoiser"),
)
"""Beginning of a key -> which part of the model it means."""


@dataclass(frozen=True)
class Target:
    """A layer: the module, its dotted name in its component, and of a layer that several of ours make up
    the rows of it that are this one's."""

    component: str
    name: str
    module: Any
    rows: slice | None = None


class LayerNames:
    """The layers of a pipeline's components by every name that adapters call them by.

    components: "unet" or "transformer", "text_encoder", "text_encoder_2", ... -> module.
    """

    def __init__(self, components: Mapping[str, Any]):
        self.denoiser = next((name for name in ("unet", "transformer") if name in components), "")
        self._tables = {name: dict(_aliases(name, module)) for name, module in components.items()}

    def find(self, key: str) -> list[Target]:
        """The layers that the key (a tensor's name without what follows the layer's) means; none if none."""
        prefix, part = next(
            ((prefix, part) for prefix, part in _PREFIXES if key.startswith(prefix)), ("", "denoiser")
        )
        component = self.denoiser if part == "denoiser" else part
        name = key[len(prefix) :].replace(".", "_")
        return self._tables.get(component, {}).get(name, [])


def plain_layers(module: Any) -> Iterator[tuple[str, Any]]:
    """(dotted name, layer) of every layer with a weight, without what peft has wrapped around it."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in module.named_modules():
        if "base_layer" in name or ".lora_" in name:
            continue
        if isinstance(layer, BaseTunerLayer):
            layer = layer.get_base_layer()
        if getattr(layer, "weight", None) is not None:
            yield name, layer


def _aliases(component: str, module: Any) -> Iterator[tuple[str, list[Target]]]:
    layers = dict(plain_layers(module))
    for name, layer in layers.items():
        target = [Target(component, name, layer)]
        yield name.replace(".", "_"), target
        if component.startswith("text_encoder"):
            # transformers 5 has no "text_model" level in CLIPTextModel, while files have it.
            bare = name.removeprefix("text_model.")
            yield "text_model_" + bare.replace(".", "_"), target
    if type(module).__name__ == "UNet2DConditionModel":
        for name, layer in layers.items():
            for original in original_unet_names(name, module.config):
                yield original.replace(".", "_"), [Target(component, name, layer)]
    if type(module).__name__ == "FluxTransformer2DModel":
        yield from _flux_aliases(component, layers)


_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def original_unet_names(name: str, config: Any) -> Iterator[str]:
    """The name of a UNet's layer in the original (CompVis, sgm) layout, if it has one there.

    There the blocks are counted through: one for the first convolution, then each block's layers and the
    downsampler at its end.
    """
    if name in _OUTSIDE:
        yield _OUTSIDE[name]
        return
    parts = name.split(".")
    per_block = config.layers_per_block
    if not isinstance(per_block, int) or len(parts) < 4:
        return
    if parts[0] == "mid_block":
        sort, number, rest = parts[1], int(parts[2]), ".".join(parts[3:])
        yield f"middle_block.{1 if sort == 'attentions' else 2 * number}.{_inner(sort, rest)}"
        return
    if parts[0] not in ("down_blocks", "up_blocks") or len(parts) < 5:
        return
    block, sort, number, rest = int(parts[1]), parts[2], int(parts[3]), ".".join(parts[4:])
    if parts[0] == "down_blocks":
        first = 1 + block * (per_block + 1)
        if sort == "downsamplers":
            yield f"input_blocks.{first + per_block}.0.{'op' if rest == 'conv' else rest}"
        else:
            yield f"input_blocks.{first + number}.{int(sort == 'attentions')}.{_inner(sort, rest)}"
        return
    first = block * (per_block + 1)
    if sort == "upsamplers":
        has_attention = config.up_block_types[block] != "UpBlock2D"
        yield f"output_blocks.{first + per_block}.{1 + has_attention}.{rest}"
    else:
        yield f"output_blocks.{first + number}.{int(sort == 'attentions')}.{_inner(sort, rest)}"


def _inner(sort: str, rest: str) -> str:
    return _RESNET.get(rest, rest) if sort == "resnets" else rest


_FLUX_OUTSIDE = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
_FLUX_DOUBLE = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
}
_FLUX_SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation.lin": ("norm.linear",),
}


def _flux_aliases(component: str, layers: Mapping[str, Any]) -> Iterator[tuple[str, list[Target]]]:
    """Black Forest Labs' names, under which query, key and value are one layer.

    The last layer's modulation is left out: its halves lie the other way round there.
    """
    rows: list[tuple[str, tuple[str, ...]]] = [
        (original, (ours,)) for original, ours in _FLUX_OUTSIDE.items()
    ]
    for table, theirs, ours in (
        (_FLUX_DOUBLE, "double_blocks", "transformer_blocks"),
        (_FLUX_SINGLE, "single_blocks", "single_transformer_blocks"),
    ):
        count = len({name.split(".")[1] for name in layers if name.startswith(f"{ours}.")})
        for number in range(count):
            rows += [
                (f"{theirs}.{number}.{original}", tuple(f"{ours}.{number}.{part}" for part in parts))
                for original, parts in table.items()
            ]
    for original, names in rows:
        if not all(name in layers for name in names):
            continue
        targets, start = [], 0
        for name in names:
            end = start + layers[name].weight.shape[0]
            targets.append(Target(component, name, layers[name], slice(start, end) if names[1:] else None))
            start = end
        yield original.replace(".", "_"), targets
