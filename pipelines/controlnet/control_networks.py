"""Loading control networks, and the pipeline and call arguments that carry them.

A ControlNet changes the pipeline's class. A T2I-Adapter does not: its features are handed to the denoiser by
a hook on the view's own handle of it, since diffusers' adapter pipelines know one task and no step callback.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import views
from pipelines.controlnet.control_adapters import AdapterHook, adapter_state
from pipelines.controlnet.control_files import (
    HUB,
    Sort,
    bare_names,
    misfit,
    sizes_of_config,
    sizes_of_denoiser,
)
from pipelines.controlnet.preprocessors import PREPROCESSORS
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipelines.controlnet.control import ControlSpec
    from pipelines.request import ControlUnit, Task

NO_PIPELINE = frozenset(
    [("SD3", task, "controlnet") for task in ("image2image", "inpaint")]
    + [("SD", task, "union") for task in ("text2image", "image2image", "inpaint")]
    + [
        (family, task, "adapter")
        for family in ("SD3", "Flux")
        for task in ("text2image", "image2image", "inpaint")
    ]
)
"""(family, task, sort) for which diffusers 0.42 has no pipeline. SD3's ControlNet inpainting pipeline is
another thing: it takes no map, its network is shown the picture and the mask."""

_TASKS = {"text2image": "text alone", "image2image": "image to image", "inpaint": "inpainting"}
_SORTS = {"controlnet": "ControlNet", "union": "union ControlNet", "adapter": "T2I-Adapter"}

_AUTO = {
    "text2image": "AutoPipelineForText2Image",
    "image2image": "AutoPipelineForImage2Image",
    "inpaint": "AutoPipelineForInpainting",
}
_UNION = {
    "text2image": "StableDiffusionXLControlNetUnionPipeline",
    "image2image": "StableDiffusionXLControlNetUnionImg2ImgPipeline",
    "inpaint": "StableDiffusionXLControlNetUnionInpaintPipeline",
}
"""diffusers' from_pretrained knows these, its from_pipe does not."""

_MODELS: Mapping[tuple[str, Sort], str] = {
    ("SD", "controlnet"): "ControlNetModel",
    ("SDXL", "controlnet"): "ControlNetModel",
    ("SDXL", "union"): "ControlNetUnionModel",
    ("SD3", "controlnet"): "SD3ControlNetModel",
    ("Flux", "controlnet"): "FluxControlNetModel",
    ("Flux", "union"): "FluxControlNetModel",
    ("SD", "adapter"): "T2IAdapter",
    ("SDXL", "adapter"): "T2IAdapter",
}
OCCURRENCE = "darkroom_occurrence"
"""Attribute of a network that leads several units of one run: which of them this handle belongs to."""


def no_pipeline(family: str, task: str, sort: Sort, title: str) -> InvalidRequest:
    """What is said where diffusers has no pipeline for a row of `NO_PIPELINE`."""
    return InvalidRequest(
        {
            "controls": f"diffusers has no pipeline for {_TASKS[task]} on {family} with a {_SORTS[sort]}, "
            f"which {title} is. Remove the control unit, or take a model of another family (SD or SDXL)."
        }
    )


# ------------------------------------------------------------------------------------------------ loading


def load(spec: ControlSpec, base_pipeline: Any, dtype: Any, device: str) -> Any:
    """The diffusers module of `spec` in `dtype` on `device`, in evaluation mode.

    base_pipeline: what it is to lead; a single file is built after its denoiser's config. Uses the network
    only for a spec without a path. Raises `InvalidRequest` with a sentence for one that cannot be fetched,
    is of another shape than it seems, or does not go with the model.
    """
    if spec.path is None:
        network = _fetched(spec, base_pipeline, dtype)
    elif spec.path.is_dir():
        network = _class_of(spec.path)[0].from_pretrained(
            spec.path, dtype=dtype, local_files_only=True, use_safetensors=True, variant=_variant(spec.path)
        )
    else:
        network = _from_file(spec, spec.path, base_pipeline).to(dtype)
    return network.to(device).eval().requires_grad_(False)


def _class_of(folder: Path) -> tuple[Any, dict[str, Any]]:
    import diffusers

    from pipelines.library.headers import read_json

    config = read_json(folder / "config.json")
    return getattr(diffusers, config["_class_name"]), config


def _variant(folder: Path) -> str | None:
    """ "fp16" where a folder holds only such weights."""
    names = [path.name for path in folder.glob("*.safetensors")]
    return "fp16" if names and all(".fp16." in name for name in names) else None


def _fetched(spec: ControlSpec, base_pipeline: Any, dtype: Any) -> Any:
    """A network from the hub, which looks into its own cache first and honours HF_HUB_OFFLINE."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HTTPError

    problem = (
        f"The ControlNet {spec.key} is not on this computer and could not be fetched from {HUB}/{spec.key}. "
        "Check the name and the connection, or download its files and put them into a folder of their own "
        "in the models folder's ControlNet subfolder."
    )
    try:
        folder = Path(hf_hub_download(spec.key, "config.json")).parent
        cls, config = _class_of(folder)
        sizes = sizes_of_config(config)
        if sizes is None:
            raise InvalidRequest(
                {"controls": f"{HUB}/{spec.key} is a {config.get('_class_name')}, not a ControlNet."}
            )
        if (why := misfit(sizes, sizes_of_denoiser(_denoiser_config(base_pipeline)))) is not None:
            raise InvalidRequest(
                {"controls": f"{spec.key} is made for {why[0]}, but this model is {why[1]}. Choose another."}
            )
        return cls.from_pretrained(spec.key, dtype=dtype, use_safetensors=True)
    except (EntryNotFoundError, HTTPError, OSError) as error:
        raise InvalidRequest({"controls": problem}) from error


def _denoiser_config(pipe: Any) -> dict[str, Any]:
    denoiser = pipe.components.get("unet") or pipe.components["transformer"]
    return {**denoiser.config, "_class_name": type(denoiser).__name__}


def _from_file(spec: ControlSpec, path: Path, pipe: Any) -> Any:
    import diffusers
    import torch
    from safetensors.torch import load_file

    state = load_file(path)
    names = bare_names(state)
    state = {names[name]: tensor for name, tensor in state.items()}
    cls = getattr(diffusers, _MODELS[spec.family, spec.sort])
    if spec.sort == "adapter":
        state, config = adapter_state(state, spec)
    elif spec.family in ("SD3", "Flux"):
        config = _transformer_config(state, pipe.transformer, cls)
    else:
        config = _unet_config(state, pipe.unet, cls)
        if "time_embed.0.weight" in state:
            from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

            # SDXL's embedding of sizes is the one layer that diffusers' table of names leaves out.
            label = {name: tensor for name, tensor in state.items() if name.startswith("label_emb.0.")}
            state = convert_controlnet_checkpoint(state, config)
            for name, tensor in label.items():
                layer, kind = name.split(".")[2:]
                state[f"add_embedding.linear_{1 if layer == '0' else 2}.{kind}"] = tensor
    with torch.device("meta"):  # the weights come from the file: drawing random ones first takes seconds
        network = cls(**config)
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise InvalidRequest(
            {
                "controls": f"{path.name} does not have the layers of a {cls.__name__} for this model. "
                "It may be damaged, or made for another one: download it again, or take its diffusers folder."
            }
        ) from error
    return network


def _unet_config(state: Mapping[str, Any], unet: Any, cls: Any) -> dict[str, Any]:
    """Arguments of a ControlNet like `unet`, with what the weights tell: channels of input and map."""
    taken = _taken(unet.config, cls)
    hint = [state[f"input_hint_block.{index}.weight"] for index in (0, 4, 8, 12) if _original(state)]
    if not hint:
        hint = [state["controlnet_cond_embedding.conv_in.weight"]]
        while (name := f"controlnet_cond_embedding.blocks.{2 * len(hint) - 1}.weight") in state:
            hint.append(state[name])
    first = state["input_blocks.0.0.weight" if _original(state) else "conv_in.weight"]
    taken |= {
        "in_channels": first.shape[1],
        "conditioning_channels": hint[0].shape[1],
        "conditioning_embedding_out_channels": tuple(layer.shape[0] for layer in hint),
    }
    if "task_embedding" in state:
        kinds, channels = state["task_embedding"].shape
        taken |= {
            "num_control_type": kinds,
            "num_trans_channel": channels,
            "num_trans_head": 8 if channels % 8 == 0 else 1,
            "num_proj_channel": state["spatial_ch_projs.weight"].shape[0],
            "num_trans_layer": _count(state, "transformer_layes"),  # spelt so in diffusers
        }
    return taken


def _original(state: Mapping[str, Any]) -> bool:
    return "input_blocks.0.0.weight" in state


def _transformer_config(state: Mapping[str, Any], transformer: Any, cls: Any) -> dict[str, Any]:
    taken = _taken(transformer.config, cls) | {"num_layers": _count(state, "transformer_blocks")}
    if "controlnet_x_embedder.weight" in state:
        taken["num_single_layers"] = _count(state, "single_transformer_blocks")
        taken["guidance_embeds"] = "time_text_embed.guidance_embedder.linear_1.weight" in state
        modes = state.get("controlnet_mode_embedder.weight")
        taken["num_mode"] = None if modes is None else modes.shape[0]
    else:
        side = taken.get("patch_size", 2) ** 2
        channels = state["pos_embed_input.proj.weight"].shape[1]
        taken["extra_conditioning_channels"] = channels - taken["in_channels"] if side else 0
    return taken


def _taken(config: Mapping[str, Any], cls: Any) -> dict[str, Any]:
    accepted = inspect.signature(cls.__init__).parameters
    return {name: value for name, value in config.items() if name in accepted}


def _count(state: Mapping[str, Any], prefix: str) -> int:
    return len({name.split(".")[1] for name in state if name.startswith(f"{prefix}.")})


# --------------------------------------------------------------------------------- views and their arguments


def view(base: Any, task: Task, networks: Sequence[Any] = (), scheduler: Any = None) -> Any:
    """A disposable pipeline for `task` over the components of `base`, led by `networks`, one for each control
    unit in their order; the same network may be given for several.

    Shares every component with `base`; where there are adapters, `unet` is a second handle of the same
    weights with a hook of its own, and where SD3's ControlNets lead, `vae` is one that draws by seed.
    Raises `InvalidRequest` where diffusers has no such pipeline.
    """
    import diffusers

    if not networks:
        return views.view(base, task, scheduler)
    adapters = [one for one in networks if isinstance(one, diffusers.T2IAdapter)]
    controlnets = own([one for one in networks if not isinstance(one, diffusers.T2IAdapter)])
    union = any(isinstance(network, diffusers.ControlNetUnionModel) for network in controlnets)
    cls = getattr(diffusers, (_UNION if union else _AUTO)[task])
    parts: dict[str, Any] = {} if scheduler is None else {"scheduler": scheduler}
    family = sizes_of_denoiser(_denoiser_config(base)).family
    sort: Sort = "controlnet"
    if adapters:
        if "unet" not in base.components:
            raise no_pipeline(family, task, "adapter", "the chosen one")
        parts["unet"] = AdapterHook.attached(base.unet, adapters)
    if controlnets:
        parts["controlnet"] = controlnets[0] if len(controlnets) == 1 else controlnets
        sort = "union" if union else "controlnet"
        if family == "SD3":
            parts["vae"] = _drawing_by_seed(base.vae)
        if (family, task, sort) in NO_PIPELINE:
            raise no_pipeline(family, task, sort, "the chosen one")
    if sort == "union":
        return views.made(cls, base, parts)
    return cls.from_pipe(base, **parts)


class _Drawn:
    """A latent distribution whose samples come from a generator of its own."""

    def __init__(self, distribution: Any, generator: Any):
        self.distribution, self.generator = distribution, generator

    def sample(self) -> Any:
        return self.distribution.sample(self.generator)


def _drawing_by_seed(vae: Any) -> Any:
    """A second handle of `vae`. SD3's ControlNet pipeline samples the map's latents from torch's global
    generator, so that a run could not be repeated: here they are drawn as after torch.manual_seed(0)."""
    import torch
    from diffusers.models.modeling_outputs import AutoencoderKLOutput

    generator = torch.Generator("cpu").manual_seed(0)
    handle = copy.copy(vae)

    def encode(pixels: Any) -> Any:
        return AutoencoderKLOutput(latent_dist=_Drawn(vae.encode(pixels).latent_dist, generator))

    handle.__dict__["encode"] = encode
    return handle


def own(networks: Sequence[Any]) -> list[Any]:
    """A handle for each unit: where one network leads several, the later ones get shallow copies, which share
    weights and hooks and know which unit they are. A list of modules would otherwise hold one twice, and
    nobody could tell its calls apart."""
    seen: dict[int, int] = {}
    handles = []
    for network in networks:
        number = seen[id(network)] = seen.get(id(network), -1) + 1
        handles.append(copy.copy(network) if number else network)
        if number:
            handles[-1].__dict__[OCCURRENCE] = number
    return handles


def control_kwargs(
    pipe: Any, units: Sequence[ControlUnit], maps: Sequence[Image], specs: Sequence[ControlSpec]
) -> dict[str, Any]:
    """The arguments with which `pipe`, a `view` for these units, is called to follow `maps` (RGB Pillow
    pictures of the run's size).

    One ControlNet takes plain values, several take lists. The map is `image` for text-to-image ControlNets
    of SD and SDXL, `control_image` for all others. Adapters take nothing from the call: their hook is armed.
    """
    rows = list(zip(units, maps, specs))
    led = [row for row in rows if row[2].sort != "adapter"]
    if len(led) < len(rows):
        AdapterHook.of(pipe).arm(
            pipe, [(unit, image) for unit, image, spec in rows if spec.sort == "adapter"]
        )
    if not led:
        return {}
    taken = inspect.signature(pipe.__call__).parameters
    values: dict[str, list[Any]] = {
        "control_image" if "control_image" in taken else "image": [image for _, image, _ in led],
        "controlnet_conditioning_scale": [unit.controlnet_conditioning_scale for unit, _, _ in led],
        "control_guidance_start": [unit.control_guidance_start for unit, _, _ in led],
        "control_guidance_end": [unit.control_guidance_end for unit, _, _ in led],
    }
    if "control_mode" in taken:
        modes = [union_mode(unit, spec.family) if spec.sort == "union" else None for unit, _, spec in led]
        if len(led) > 1 or modes != [None]:
            values["control_mode"] = modes
    return {name: each if len(led) > 1 else each[0] for name, each in values.items()}


def union_mode(unit: ControlUnit, family: str) -> int | None:
    """The number by which the union ControlNets of a family know a unit's map: its preprocessor tells, also
    of a ready map. None for a sort they do not know."""
    drawn = bool(unit.pose) and not unit.map_image
    return PREPROCESSORS["openpose" if drawn else unit.preprocessor].union_mode(family)
