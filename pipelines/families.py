"""What kinds of pipelines there are: a table of diffusers' classes, and one of the families they belong to.

Whatever differs between the families is written here as a row, so that the code that loads, checks, runs and
shows them asks the table and knows no family by name. Torch-free: the page reads it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pipelines.request import GenerationRequest, Task
from pipelines.schedulers import OWN, Kind

if TYPE_CHECKING:
    from pipelines.library.models import ModelSpec

Latents = Literal["grid", "packed", "patched", "video", "pixels"]
"""How a denoiser holds its sample: (n, c, h, w); a sequence of 2 x 2 patches; the same without the patches'
order kept (Flux.2); (n, c, frames, h, w); or pixels, with no VAE at all."""


def _frozen(**values: Any) -> Mapping[str, Any]:
    return MappingProxyType(values)


# ------------------------------------------------------------------------------------------ request fields

ALL_TAKE = frozenset(
    "model num_inference_steps scheduler seed num_images_per_prompt batch_count offload quantisation "
    "compiled branch".split()
)
"""Request fields that count for every model."""

_PICTURE = frozenset({"image", "resize_mode"})
_MASK = frozenset(
    "mask_image mask_blur mask_inverted masked_content inpaint_area mask_padding "
    "extend_left extend_top extend_right extend_bottom".split()
)
_VARIATION = frozenset({"subseed", "subseed_strength"})
_WORDS = frozenset({"prompt", "negative_prompt", "guidance_scale", "guidance_points", "width", "height"})
_SCHEDULE = frozenset({"schedule"})
_TEXT = _WORDS | _SCHEDULE | _VARIATION
_IMAGE = _PICTURE | {"strength"}
_INPAINT = _IMAGE | _MASK
_CLIP = frozenset({"clip_skip", "loras", "vae", "text_encoder"})
_FLOW_TEXT = _WORDS | _VARIATION
_ETA = frozenset({"eta"})
_CURVE = frozenset({"guidance_points"})


@dataclass(frozen=True)
class PipelineRow:
    """One diffusers pipeline class that a model's folder may name.

    variant: "" or what it is made for: "inpaint", "edit", "depth". views: task -> class that runs it.
    takes: request fields that mean something to it, beside `ALL_TAKE`. whole: tasks in which all steps are
    run whatever `strength` says. samplers: those that it can be led by, where not all of its kind.
    """

    family: str
    kind: Kind
    variant: str
    views: Mapping[Task, str]
    takes: frozenset[str] = frozenset()
    whole: frozenset[Task] = frozenset()
    samplers: tuple[str, ...] = ()

    @property
    def tasks(self) -> frozenset[Task]:
        """The tasks that it can run."""
        return frozenset(self.views)


@dataclass(frozen=True)
class FamilyRow:
    """What models of one family have in common.

    views: base class for each task (those of variants are in PIPELINES). denoiser, decoder: names of the
    components that denoise and that turn latents into pixels ("" in pixel space). native_size: pixels a side
    that its first models were trained at. defaults: request fields that suit it. guidance: what its calls
    name the request's guidance_scale, and guidance_shift what is added to it (some count from 0 = off).
    empty_negative: what stands for an empty negative prompt where guidance needs one. multiple: width and
    height must be multiples of it. hands_levels: its pipelines tell the scheduler what noise levels to walk.
    """

    views: Mapping[Task, str]
    denoiser: Literal["unet", "transformer"]
    native_size: int
    defaults: Mapping[str, Any] = field(default_factory=_frozen)
    latents: Latents = "grid"
    decoder: str = "vae"
    guidance: tuple[str, ...] = ("guidance_scale",)
    guidance_shift: float = 0.0
    empty_negative: str | None = None
    multiple: int = 8
    hands_levels: bool = False


def _views(text: str = "", image: str = "", inpaint: str = "") -> Mapping[Task, str]:
    named: dict[Task, str] = {"text2image": text, "image2image": image, "inpaint": inpaint}
    return MappingProxyType({task: name for task, name in named.items() if name})


# ------------------------------------------------------------------------------------------------ families

_SD = _views("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline")
_SDXL = _views(
    "StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"
)
_SD3 = _views(
    "StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline"
)
_FLUX = _views("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline")
_CHROMA = _views("ChromaPipeline", "ChromaImg2ImgPipeline")
"""diffusers 0.42 also has an inpainting class, which asks Chroma's transformer for a setting it has not."""
_FLUX2 = _views("Flux2KleinPipeline", "Flux2KleinPipeline", "Flux2KleinInpaintPipeline")
_QWEN = _views("QwenImagePipeline", "QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline")
_Z = _views("ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline")
_KANDINSKY22 = _views("KandinskyV22CombinedPipeline", "KandinskyV22Img2ImgCombinedPipeline")
_KANDINSKY3 = _views("Kandinsky3Pipeline", "Kandinsky3Img2ImgPipeline")
_IF = _views("IFPipeline", "IFImg2ImgPipeline", "IFInpaintingPipeline")


def _advice(sampler: str, steps: int, guidance: float, **more: Any) -> Mapping[str, Any]:
    return _frozen(scheduler=sampler, num_inference_steps=steps, guidance_scale=guidance, **more)


FAMILIES: Mapping[str, FamilyRow] = MappingProxyType(
    {
        "SD": FamilyRow(_SD, "unet", 512),
        "SDXL": FamilyRow(_SDXL, "unet", 1024),
        "SD3": FamilyRow(_SD3, "transformer", 1024, _advice("Euler", 28, 5.0)),
        "Flux": FamilyRow(_FLUX, "transformer", 1024, _advice("Euler", 28, 3.5), "packed", hands_levels=True),
        "Flux.2": FamilyRow(
            _FLUX2, "transformer", 1024, _advice("Euler", 28, 4.0), "patched", multiple=16, hands_levels=True
        ),
        "Chroma": FamilyRow(
            _CHROMA, "transformer", 1024, _advice("Euler", 35, 5.0), "packed", multiple=16, hands_levels=True
        ),
        "Z-Image": FamilyRow(
            _Z, "transformer", 1024, _advice("Euler", 30, 5.0), guidance_shift=-1.0, multiple=16
        ),
        "Qwen-Image": FamilyRow(
            _QWEN,
            "transformer",
            1328,
            _advice("Euler", 30, 4.0),
            "packed",
            guidance=("true_cfg_scale",),
            empty_negative=" ",
            multiple=16,
        ),
        "PixArt": FamilyRow(_views("PixArtSigmaPipeline"), "transformer", 1024, _advice("DPM++ 2M", 20, 4.5)),
        "Sana": FamilyRow(_views("SanaPipeline"), "transformer", 1024, _advice(OWN, 20, 4.5), multiple=32),
        "AuraFlow": FamilyRow(_views("AuraFlowPipeline"), "transformer", 1024, _advice("Euler", 50, 3.5)),
        "Hunyuan-DiT": FamilyRow(_views("HunyuanDiTPipeline"), "transformer", 1024, _advice("DDPM", 50, 5.0)),
        "Lumina": FamilyRow(_views("LuminaPipeline"), "transformer", 1024, _advice(OWN, 30, 4.0)),
        "Lumina 2": FamilyRow(
            _views("Lumina2Pipeline"), "transformer", 1024, _advice(OWN, 30, 4.0), multiple=16
        ),
        "CogView3": FamilyRow(_views("CogView3PlusPipeline"), "transformer", 1024, _advice(OWN, 50, 5.0)),
        "CogView4": FamilyRow(
            _views("CogView4Pipeline"), "transformer", 1024, _advice(OWN, 50, 5.0), multiple=32
        ),
        "Kandinsky 2.2": FamilyRow(
            _KANDINSKY22, "unet", 512, _advice("DDPM", 50, 4.0), decoder="movq", multiple=64
        ),
        "Kandinsky 3": FamilyRow(
            _KANDINSKY3, "unet", 1024, _advice("DDPM", 25, 3.0), decoder="movq", multiple=64
        ),
        "DeepFloyd IF": FamilyRow(_IF, "unet", 64, _advice("DDPM", 50, 7.0), "pixels", ""),
        "Unconditional": FamilyRow(
            _views("DDIMPipeline"), "unet", 256, _advice("DDIM", 50, 1.0), "pixels", ""
        ),
    }
)
"""Family -> what its models share. A family is added with a row here and one for each class in PIPELINES."""

# ----------------------------------------------------------------------------------------------- pipelines

_SD_TAKES = _TEXT | _INPAINT | _CLIP | _ETA | {"controls", "soft_inpainting", "refiner", "refiner_switch_at"}
_FLOW_TAKES = _FLOW_TEXT | _INPAINT | {"loras", "vae", "text_encoder"}
_SOFT = frozenset({"soft_inpainting"})
_NO_NEGATIVE = frozenset({"negative_prompt"})
_EDIT = _WORDS | _SCHEDULE | _PICTURE | _CLIP | _ETA | {"image_guidance_scale"}
_KEEPS_TO_PICTURE: frozenset[Task] = frozenset({"image2image"})
_ADDS = frozenset({"loras", "vae"})

_PIXEL_SAMPLERS = ("DDPM", "DDIM", "DPM++ 2M", "DPM++ 2M SDE", "DPM++ 3M SDE")
"""Samplers for pipelines that hand `step` a generator and do not scale their noise."""

PIPELINES: Mapping[str, PipelineRow] = MappingProxyType(
    {
        "StableDiffusionPipeline": PipelineRow("SD", "diffusion", "", _SD, _SD_TAKES),
        "StableDiffusionImg2ImgPipeline": PipelineRow("SD", "diffusion", "", _SD, _SD_TAKES),
        "StableDiffusionInpaintPipeline": PipelineRow("SD", "diffusion", "", _SD, _SD_TAKES),
        "StableDiffusionInstructPix2PixPipeline": PipelineRow(
            "SD",
            "diffusion",
            "edit",
            _views(image="StableDiffusionInstructPix2PixPipeline"),
            _EDIT,
            _KEEPS_TO_PICTURE,
        ),
        "StableDiffusionDepth2ImgPipeline": PipelineRow(
            "SD",
            "diffusion",
            "depth",
            _views(image="StableDiffusionDepth2ImgPipeline"),
            _WORDS | _SCHEDULE | _IMAGE | _CLIP | _ETA,
        ),
        "LatentConsistencyModelPipeline": PipelineRow(
            "SD",
            "diffusion",
            "",
            _views("LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline"),
            (_TEXT | _IMAGE | _CLIP) - _NO_NEGATIVE - _SCHEDULE,
            samplers=("LCM",),
        ),
        "StableDiffusionXLPipeline": PipelineRow("SDXL", "diffusion", "", _SDXL, _SD_TAKES),
        "StableDiffusionXLImg2ImgPipeline": PipelineRow("SDXL", "diffusion", "", _SDXL, _SD_TAKES),
        "StableDiffusionXLInpaintPipeline": PipelineRow("SDXL", "diffusion", "", _SDXL, _SD_TAKES),
        "StableDiffusionXLInstructPix2PixPipeline": PipelineRow(
            "SDXL",
            "diffusion",
            "edit",
            _views(image="StableDiffusionXLInstructPix2PixPipeline"),
            _EDIT,
            _KEEPS_TO_PICTURE,
        ),
        "StableDiffusion3Pipeline": PipelineRow("SD3", "flow", "", _SD3, _FLOW_TAKES | _SOFT | {"controls"}),
        "FluxPipeline": PipelineRow(
            "Flux", "flow", "", _FLUX, (_FLOW_TAKES | _SOFT | {"controls"}) - _NO_NEGATIVE
        ),
        "FluxFillPipeline": PipelineRow(
            "Flux",
            "flow",
            "inpaint",
            _views(inpaint="FluxFillPipeline"),
            _FLOW_TAKES - _NO_NEGATIVE - _VARIATION,
        ),
        "FluxKontextPipeline": PipelineRow(
            "Flux",
            "flow",
            "edit",
            _views("FluxKontextPipeline", "FluxKontextPipeline", "FluxKontextInpaintPipeline"),
            _FLOW_TAKES - _NO_NEGATIVE,
            _KEEPS_TO_PICTURE,
        ),
        "Flux2KleinPipeline": PipelineRow(
            "Flux.2", "flow", "", _FLUX2, _FLOW_TEXT - _NO_NEGATIVE | _INPAINT | _ADDS, _KEEPS_TO_PICTURE
        ),
        "Flux2Pipeline": PipelineRow(
            "Flux.2",
            "flow",
            "",
            _views("Flux2Pipeline", "Flux2Pipeline"),
            _FLOW_TEXT - _NO_NEGATIVE | _PICTURE | _ADDS,
            _KEEPS_TO_PICTURE,
        ),
        "ChromaPipeline": PipelineRow("Chroma", "flow", "", _CHROMA, _FLOW_TAKES - _MASK),
        "ZImagePipeline": PipelineRow("Z-Image", "flow", "", _Z, _FLOW_TAKES),
        "QwenImagePipeline": PipelineRow("Qwen-Image", "flow", "", _QWEN, _FLOW_TAKES),
        "QwenImageEditPipeline": PipelineRow(
            "Qwen-Image",
            "flow",
            "edit",
            _views(image="QwenImageEditPipeline", inpaint="QwenImageEditInpaintPipeline"),
            _FLOW_TAKES - _VARIATION,
            _KEEPS_TO_PICTURE,
        ),
        "PixArtAlphaPipeline": PipelineRow(
            "PixArt", "diffusion", "", _views("PixArtAlphaPipeline"), _TEXT | _ETA | {"vae"}
        ),
        "PixArtSigmaPipeline": PipelineRow(
            "PixArt", "diffusion", "", _views("PixArtSigmaPipeline"), _TEXT | _ETA | {"vae"}
        ),
        "SanaPipeline": PipelineRow("Sana", "flow", "", _views("SanaPipeline"), _FLOW_TEXT | {"loras"}),
        "SanaSprintPipeline": PipelineRow(
            "Sana",
            "own",
            "",
            _views("SanaSprintPipeline", "SanaSprintImg2ImgPipeline"),
            _FLOW_TEXT - _NO_NEGATIVE - _CURVE | _IMAGE | {"loras"},
        ),
        "AuraFlowPipeline": PipelineRow(
            "AuraFlow", "flow", "", _views("AuraFlowPipeline"), _FLOW_TEXT | _ADDS
        ),
        "HunyuanDiTPipeline": PipelineRow(
            "Hunyuan-DiT", "diffusion", "", _views("HunyuanDiTPipeline"), _TEXT | _ETA | {"vae"}
        ),
        "LuminaPipeline": PipelineRow("Lumina", "flow", "", _views("LuminaPipeline"), _FLOW_TEXT | {"vae"}),
        "Lumina2Pipeline": PipelineRow("Lumina 2", "flow", "", _views("Lumina2Pipeline"), _FLOW_TEXT | _ADDS),
        "CogView3PlusPipeline": PipelineRow(
            "CogView3", "own", "", _views("CogView3PlusPipeline"), _FLOW_TEXT | {"vae"}
        ),
        "CogView4Pipeline": PipelineRow(
            "CogView4", "flow", "", _views("CogView4Pipeline"), _FLOW_TEXT | _ADDS
        ),
        "KandinskyV22CombinedPipeline": PipelineRow(
            "Kandinsky 2.2", "diffusion", "", _KANDINSKY22, _TEXT | _IMAGE, samplers=_PIXEL_SAMPLERS
        ),
        "KandinskyV22InpaintCombinedPipeline": PipelineRow(
            "Kandinsky 2.2",
            "diffusion",
            "inpaint",
            _views(inpaint="KandinskyV22InpaintCombinedPipeline"),
            _WORDS | _SCHEDULE | _PICTURE | _MASK,
            frozenset({"inpaint"}),
            samplers=_PIXEL_SAMPLERS,
        ),
        "Kandinsky3Pipeline": PipelineRow(
            "Kandinsky 3", "diffusion", "", _KANDINSKY3, _TEXT | _IMAGE | {"loras"}, samplers=_PIXEL_SAMPLERS
        ),
        "IFPipeline": PipelineRow("DeepFloyd IF", "diffusion", "", _IF, _TEXT | _INPAINT | _ETA | {"loras"}),
        "DDPMPipeline": PipelineRow(
            "Unconditional", "diffusion", "", _views("DDPMPipeline"), _SCHEDULE, samplers=_PIXEL_SAMPLERS
        ),
        "DDIMPipeline": PipelineRow(
            "Unconditional", "diffusion", "", _views("DDIMPipeline"), _ETA, samplers=("DDIM",)
        ),
    }
)
"""diffusers' class, as model_index.json names it -> what it is. A class is added with a row here.

Left out, since diffusers 0.42 cannot load what it saves of them: Stable Cascade and Wuerstchen (deprecated
there), PRX; and Kolors, which wants sentencepiece.
"""


def pipeline_of(family: str, variant: str = "") -> str:
    """Name of the class for models of a family and variant (told from a single file); "" where there is none.

    "inpaint" models of families whose plain pipelines also inpaint are of the family's inpainting class.
    """
    for name, row in PIPELINES.items():
        if (row.family, row.variant) == (family, variant):
            return name
    if variant == "inpaint" and family in FAMILIES:
        return FAMILIES[family].views.get("inpaint", "")
    return ""


def tasks_of(spec: ModelSpec) -> frozenset[Task]:
    """The tasks that a model can run."""
    tasks = PIPELINES[spec.pipeline].tasks
    return tasks & {"inpaint"} if spec.variant == "inpaint" else tasks


def fields_of(spec: ModelSpec) -> frozenset[str]:
    """Names of the GenerationRequest fields that count for a model; the others leave its pictures as they
    are."""
    return PIPELINES[spec.pipeline].takes | ALL_TAKE


def settled(request: GenerationRequest, spec: ModelSpec) -> GenerationRequest:
    """The request as the model takes it: fields that mean nothing to it stand at their defaults, a size that
    it has only one of is that one, and strength is whole where it counts for nothing."""
    taken = fields_of(spec)
    fields = GenerationRequest.model_fields
    changed = {
        name: "" if field.is_required() else field.default
        for name, field in fields.items()
        if name not in taken
    }
    changed |= {name: spec.defaults[name] for name in ("width", "height") if name not in taken}
    if request.task in PIPELINES[spec.pipeline].whole:
        changed["strength"] = 1.0
    return request.model_copy(update=changed)
