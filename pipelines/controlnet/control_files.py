"""What a ControlNet's folder or file is, told from its config.json or its safetensors header alone.

The sizes that must agree with the model are those of the residuals a ControlNet adds to the denoiser's skip
connections, and that of the text it listens to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.library.headers import UnreadableFile, read_header, read_json

if TYPE_CHECKING:
    from pipelines.library.records import FileRecords
    from pipelines.library.specs import ModelSpec

Sort = Literal["controlnet", "union", "adapter"]

HUB = "https://huggingface.co"

_ORIGINAL_PREFIXES = ("control_model.", "module.", "adapter.")
_CLASSES: Mapping[str, tuple[str, Sort]] = {
    "ControlNetModel": ("", "controlnet"),
    "ControlNetUnionModel": ("", "union"),
    "SD3ControlNetModel": ("SD3", "controlnet"),
    "FluxControlNetModel": ("Flux", "controlnet"),
    "T2IAdapter": ("", "adapter"),
}
"""_class_name in config.json -> (family, where the class is of one only; sort)."""


@dataclass(frozen=True)
class Sizes:
    """What decides whether a control network and a model go together.

    family: "SD", "SDXL", "SD3" or "Flux". text: width of the text's vectors, None where it takes none.
    widths: channels of each residual (SD, SDXL), of each feature (adapters), or of the tokens (SD3, Flux).
    """

    family: str
    sort: Sort
    text: int | None
    widths: tuple[int, ...]


def sizes_of(path: Path, records: FileRecords | None = None) -> Sizes | None:
    """The sizes of the control network at `path`, a diffusers folder or a weights file; None for what is
    none. Reads no weights, and with `records` the header of a file once only."""
    if path.is_dir():
        return sizes_of_config(read_json(path / "config.json"))
    if records is None or not path.is_file():
        return _sizes_of_file(path)
    told = path.stat()
    state = (path, told.st_size, told.st_mtime_ns, "control sizes")
    known = records.get(*state)
    if known:
        return Sizes(known[0], known[1], known[2], tuple(known[3]))
    sizes = _sizes_of_file(path)
    if sizes is not None:
        records.put(*state, [sizes.family, sizes.sort, sizes.text, list(sizes.widths)])
    return sizes


def _sizes_of_file(path: Path) -> Sizes | None:
    try:
        return sizes_of_shapes(read_header(path).shapes)
    except UnreadableFile:  # the list of models tells why
        return None


def sizes_of_config(config: Mapping[str, Any]) -> Sizes | None:
    """The same from a config's contents, with diffusers' defaults for what it leaves out."""
    row = _CLASSES.get(str(config.get("_class_name", "")))
    if row is None:
        return None
    family, sort = row
    if sort == "adapter":
        family = "SDXL" if config.get("adapter_type") == "full_adapter_xl" else "SD"
        return Sizes(family, sort, None, tuple(config.get("channels", (320, 640, 1280, 1280))))
    if family:
        joint: int | None = config.get("joint_attention_dim", 4096)
        if family == "Flux" and config.get("num_mode"):
            sort = "union"
        return Sizes(family, sort, joint, (_token_width(config, family),))
    family = "SDXL" if config.get("addition_embed_type") == "text_time" else "SD"
    return Sizes(family, sort, config.get("cross_attention_dim", 1280), residual_widths(config))


def sizes_of_model(model: ModelSpec) -> Sizes:
    """What a control network must have for a model; its sort is "controlnet". Its widths are empty where
    nothing tells them."""
    denoiser = model.config("unet") or model.config("transformer")
    if not denoiser:
        return Sizes(model.family, "controlnet", model.text_width, ())
    return replace(sizes_of_denoiser(denoiser), family=model.family)


def sizes_of_denoiser(config: Mapping[str, Any]) -> Sizes:
    """The same from the config of a UNet or transformer."""
    if "block_out_channels" in config or "cross_attention_dim" in config:
        family = "SDXL" if config.get("addition_embed_type") == "text_time" else "SD"
        return Sizes(family, "controlnet", config.get("cross_attention_dim", 1280), residual_widths(config))
    family = "Flux" if "Flux" in str(config.get("_class_name", "")) else "SD3"
    joint = config.get("joint_attention_dim", 4096)
    return Sizes(family, "controlnet", joint, (_token_width(config, family),))


def misfit(own: Sizes, model: Sizes) -> tuple[str, str] | None:
    """(what a control network is made for, what the model is instead), or None where they go together."""
    if own.family != model.family:
        return own.family, model.family
    if own.text is not None and own.text != model.text:
        return (
            f"{own.family} with text {own.text} wide",
            f"{model.family} with another text width, {model.text}",
        )
    if not model.widths:
        return None
    expected = model.widths
    if own.sort == "adapter":
        expected = tuple(dict.fromkeys(model.widths))
        if tuple(dict.fromkeys(own.widths)) == expected:
            return None
    if own.widths != expected:
        return (
            f"{own.family} with layers of {_listed(own.widths)} channels",
            f"{model.family} with layers of {_listed(expected)}",
        )
    return None


def residual_widths(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Channels of the skip connections of a UNet or ControlNet: the input's, then for each block its layers'
    and, but for the last, its downsampler's (Zhang et al., 2023, figure 3: 12 for SD)."""
    blocks: list[int] = list(config.get("block_out_channels", (320, 640, 1280, 1280)))
    layers = config.get("layers_per_block", 2)
    each = [layers] * len(blocks) if isinstance(layers, int) else list(layers)
    widths = [blocks[0]]
    for index, channels in enumerate(blocks):
        widths += [channels] * (each[index] + (index < len(blocks) - 1))
    return tuple(widths)


def bare_names(names: Iterable[str]) -> dict[str, str]:
    """Name in the file -> name without the prefix that checkpoints of whole trainings put before it."""
    found = {}
    for name in names:
        prefix = next((one for one in _ORIGINAL_PREFIXES if name.startswith(one)), "")
        found[name] = name[len(prefix) :]
    return found


def sizes_of_shapes(shapes: Mapping[str, tuple[int, ...]]) -> Sizes | None:
    """The sizes of the control network with these tensors; None where they are of something else."""
    if "lora_controlnet" in shapes:
        return None  # a LoRA that makes a UNet into a ControlNet, which diffusers does not load
    bare = bare_names(shapes)
    shapes = {bare[name]: shape for name, shape in shapes.items() if shape}
    if "controlnet_x_embedder.weight" in shapes:
        sort: Sort = "union" if "controlnet_mode_embedder.weight" in shapes else "controlnet"
        return Sizes(
            "Flux", sort, _text(shapes, "context_embedder"), (shapes["controlnet_x_embedder.weight"][0],)
        )
    if "pos_embed_input.proj.weight" in shapes:
        width = shapes["pos_embed_input.proj.weight"][0]
        return Sizes("SD3", "controlnet", _text(shapes, "context_embedder"), (width,))
    widths = _numbered(shapes, "controlnet_down_blocks.{}.weight") or _numbered(
        shapes, "zero_convs.{}.0.weight"
    )
    if widths:
        xl = "add_embedding.linear_1.weight" in shapes or "label_emb.0.0.weight" in shapes
        sort = "union" if "task_embedding" in shapes else "controlnet"
        return Sizes("SDXL" if xl else "SD", sort, _text(shapes, "attn2.to_k"), widths)
    return _adapter_sizes(shapes)


def _adapter_sizes(shapes: Mapping[str, tuple[int, ...]]) -> Sizes | None:
    each = _numbered(shapes, "body.{}.resnets.0.block2.weight")  # diffusers
    flat = _numbered(shapes, "body.{}.block2.weight")  # TencentARC: two to a feature
    widths = each or flat[::2]
    if not widths or "conv_in.weight" not in shapes:
        return None
    # The pixels are unshuffled by 8 for SD and by 16 for SDXL, of one channel (sketches) or three.
    family = "SDXL" if shapes["conv_in.weight"][1:2] in ((256,), (768,)) else "SD"
    return Sizes(family, "adapter", None, widths)


def _numbered(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> tuple[int, ...]:
    found: list[int] = []
    while (name := pattern.format(len(found))) in shapes:
        found.append(shapes[name][0])
    return tuple(found)


def _text(shapes: Mapping[str, tuple[int, ...]], layer: str) -> int | None:
    ending = f"{layer}.weight"
    return next(
        (shape[1] for name, shape in shapes.items() if len(shape) > 1 and name.endswith(ending)), None
    )


def _token_width(config: Mapping[str, Any], family: str) -> int:
    heads, each = (24, 128) if family == "Flux" else (18, 64)
    return int(config.get("num_attention_heads", heads) * config.get("attention_head_dim", each))


def _listed(widths: tuple[int, ...]) -> str:
    return ", ".join(str(width) for width in widths)
