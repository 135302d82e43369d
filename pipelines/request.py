"""What is wanted: one frozen value that a form fills, a script writes and the engine reads.

Field names are those of diffusers' pipeline calls, ranges live here once and the form reads them.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

SEED_LIMIT = 2**32 - 2
"""Seeds lie in 0 .. SEED_LIMIT; -1 asks for a random one (the webui's range)."""

SMALLEST = 64
"""Pixels a side that may be asked for, at least: smaller is only a model that has one size."""

Task = Literal["text2image", "image2image", "inpaint"]
ResizeMode = Literal["just resize", "crop and resize", "resize and fill"]
"""How a picture of another shape is brought to the size: stretched, cut, or filled up at its borders."""
MaskedContent = Literal["original", "fill", "latent noise", "latent nothing"]
"""What a masked area begins as: itself, its surroundings' colours, noise, or an empty latent."""
InpaintArea = Literal["whole picture", "only masked"]
ControlMode = Literal["balanced", "prompt", "control"]
"""Which side a control unit gives way to: neither, the prompt, or (weakening the prompt) none."""
OffloadMode = Literal["auto", "resident", "components", "groups", "sequential"]
"""What of a model stays on the device in a run: all, a component at a time, groups of layers, a layer."""
Quantisation = Literal["none", "int8", "int4", "float8"]
"""How the denoiser's weights, and those of very large text encoders, are held: as they are, or smaller and a
little less exact."""

PictureKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""A picture in the data folder's store (pipelines.pictures), by the hash of its bytes."""
Joint = tuple[float, float] | None
Pose = Annotated[tuple[Joint, ...], Field(min_length=18, max_length=18)]
"""OpenPose's eighteen joints as shares of width and height, None for one that is not seen."""

Share = Annotated[float, Field(ge=0, le=1)]
Points = tuple[tuple[Share, float], ...]
"""A curve over the steps: (share of the steps, value), the value in between on the line through them."""
CURVE_HINT = "Points of share and factor; the weight follows the line through them."

MOST_CONTROLS = 4
MOST_LORAS = 16
MOST_POINTS = 16


class InvalidRequest(ValueError):
    """Values that make no request; `problems` maps a field's name to a sentence that says what to do."""

    def __init__(self, problems: Mapping[str, str]):
        self.problems = dict(problems)
        super().__init__(" ".join(self.problems.values()))

    def __reduce__(self) -> tuple[type, tuple[dict[str, str]]]:
        return type(self), (self.problems,)


def _field(default: Any, title: str, hint: str, *, step: float | None = None, **limits: Any) -> Any:
    """A pydantic field with what the form needs: `title` (its label), `hint` and a slider's `step`."""
    extra: dict[str, Any] = {} if step is None else {"step": step}
    return Field(default, title=title, description=hint, json_schema_extra=extra, **limits)


def _no_switch(value: Any, info: ValidationInfo, fields: Mapping[str, FieldInfo]) -> Any:
    if isinstance(value, bool) and fields[str(info.field_name)].annotation is not bool:
        raise PydanticCustomError("not_a_setting", "a switch")  # pydantic would read True as 1
    return value


class ControlUnit(BaseModel):
    """One picture that a run follows by way of a ControlNet (Zhang et al., 2023).

    What is followed is `map_image` as it is, else the skeletons of `pose`, else what `preprocessor` makes
    of `image`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str = _field(..., "ControlNet", "The network that follows the map.", min_length=1, max_length=500)
    preprocessor: str = _field(
        "none", "Preprocessor", "What makes the map out of the picture.", max_length=60
    )
    image: PictureKey | None = _field(None, "Picture", "The picture that the map is made of.")
    map_image: PictureKey | None = _field(None, "Map", "A ready map, followed as it is.")
    pose: tuple[Pose, ...] = _field((), "Pose", "People as eighteen joints each.", max_length=8)
    controlnet_conditioning_scale: float = _field(
        1.0, "Weight", "How strongly the map is followed.", step=0.05, ge=0, le=2
    )
    control_guidance_start: float = _field(
        0.0, "Start", "From which share of the steps on the map counts.", step=0.01, ge=0, le=1
    )
    control_guidance_end: float = _field(
        1.0, "End", "Up to which share of the steps the map counts.", step=0.01, ge=0, le=1
    )
    points: Points = _field((), "Curve", CURVE_HINT, max_length=MOST_POINTS)
    resize_mode: ResizeMode = _field(
        "crop and resize", "Resize", "How a picture of another shape is brought to the size."
    )
    control_mode: ControlMode = _field(
        "balanced", "Control mode", "Which of prompt and map gives way to the other."
    )
    low_threshold: int = _field(
        100, "Low threshold", "Fainter edges than this are dropped.", step=1, ge=1, le=255
    )
    high_threshold: int = _field(
        200, "High threshold", "Clearer edges than this are always kept.", step=1, ge=1, le=255
    )

    @field_validator("*", mode="before")
    @classmethod
    def _one_value(cls, value: Any, info: ValidationInfo) -> Any:
        return _no_switch(value, info, cls.model_fields)

    @model_validator(mode="after")
    def _shows_something(self) -> Self:
        if not (self.map_image or self.pose or self.image):
            raise _problem("image", "Nothing is shown to it: give it a picture, a map or a pose.")
        if self.control_guidance_start >= self.control_guidance_end:
            raise _problem(
                "control_guidance_end",
                f"Start ({self.control_guidance_start:g}) must come before "
                f"End ({self.control_guidance_end:g}).",
            )
        if self.pose and any(sum(joint is not None for joint in person) < 2 for person in self.pose):
            raise _problem(
                "pose", "A person of the pose has fewer than two joints: nothing could be drawn of it."
            )
        _check_points("points", self.points, 0, 2, "factor")
        return self


class LoraWeight(BaseModel):
    """One LoRA (Hu et al., 2021) or LyCORIS adapter of a run, and how strongly it counts.

    points: (share of the steps 0 .. 1, factor on the weights) between which the factor is interpolated
    linearly; empty means 1 throughout. Outside `start` .. `end` (shares of the steps) it does not count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = _field(..., "LoRA", "The LoRA's name.", min_length=1, max_length=500)
    weight: float = _field(1.0, "Weight", "How strongly it counts in the picture.", step=0.05, ge=-2, le=2)
    text_weight: float | None = _field(
        None, "Text weight", "The same in the text encoder; empty is as the weight.", step=0.05, ge=-2, le=2
    )
    start: float = _field(0.0, "Start", "From which share of the steps on it counts.", step=0.01, ge=0, le=1)
    end: float = _field(1.0, "End", "Up to which share of the steps it counts.", step=0.01, ge=0, le=1)
    points: Points = _field((), "Curve", CURVE_HINT, max_length=MOST_POINTS)

    @field_validator("*", mode="before")
    @classmethod
    def _one_value(cls, value: Any, info: ValidationInfo) -> Any:
        return _no_switch(value, info, cls.model_fields)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start >= self.end:
            raise _problem("end", f"Start ({self.start:g}) must come before End ({self.end:g}).")
        _check_points("points", self.points, -2, 2, "factor")
        return self


def _problem(field: str, sentence: str) -> PydanticCustomError:
    return PydanticCustomError("sentence", "{sentence}", {"sentence": sentence, "field": field})


def _check_points(field: str, points: Points, low: float, high: float, what: str) -> None:
    shares = [share for share, _ in points]
    if shares != sorted(set(shares)):
        raise _problem(field, "The curve's points must come one after the other.")
    if any(not low <= value <= high for _, value in points):
        raise _problem(field, f"A curve's {what} must be between {low:g} and {high:g}.")


class Branch(BaseModel):
    """Where a run leaves a recorded one (`trajectory`), and after how many of its steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    trajectory: str = _field(..., "Run", "The recorded run that is gone on with.", max_length=40)
    step: int = _field(0, "Step", "How many of its steps are taken over.", step=1, ge=0, le=10_000)
    noise_seed: int | None = _field(
        None, "Remaining noise", "Seeds what the sampler still draws.", ge=0, le=SEED_LIMIT
    )
    painted: PictureKey | None = _field(None, "Painted", "What that step predicts, painted on.")
    painted_on: PictureKey | None = _field(
        None, "Painted on", "The same before it was painted on; where both agree, the run stays as it is."
    )


class GenerationRequest(BaseModel):
    """Everything that defines a run.

    Two equal requests with a seed of 0 or more give the same pictures. Raises `InvalidRequest` from
    `parse` (sentences) and pydantic's `ValidationError` from the constructor.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prompt: str = _field(..., "Prompt", "What the picture shows.", max_length=20_000)
    negative_prompt: str = _field(
        "", "Leave out (negative prompt)", "What the picture should not show.", max_length=20_000
    )
    model: str = _field("starter", "Model", "The model that paints.", min_length=1, max_length=500)
    width: int = _field(256, "Width", "Pixels across, in steps of 8.", step=8, ge=16, le=2048, multiple_of=8)
    height: int = _field(256, "Height", "Pixels down, in steps of 8.", step=8, ge=16, le=2048, multiple_of=8)
    num_inference_steps: int = _field(
        20, "Steps", "How many times the picture is refined. More is slower.", step=1, ge=1, le=150
    )
    guidance_scale: float = _field(
        7.0,
        "Guidance (CFG)",
        "How strictly the picture follows the prompt. 1 switches it off.",
        step=0.5,
        ge=1,
        le=30,
    )
    guidance_points: Points = _field(
        (),
        "Guidance over the steps",
        "Points of share and guidance; where there are some, the line through them counts.",
        max_length=MOST_POINTS,
    )
    scheduler: str = _field("DPM++ 2M", "Sampler", "The way from noise to picture.", max_length=100)
    schedule: str = _field("Automatic", "Schedule", "How the noise levels are spaced.", max_length=100)
    eta: float = _field(
        0.0,
        "Eta",
        "How much noise each step adds anew: 0 always walks the same way, 1 is as DDPM does.",
        step=0.05,
        ge=0,
        le=1,
    )
    seed: int = _field(
        -1, "Seed", "The same seed gives the same picture; -1 picks one at random.", ge=-1, le=SEED_LIMIT
    )
    subseed: int = _field(
        -1, "Variation seed", "A second seed to lean towards; -1 picks one.", ge=-1, le=SEED_LIMIT
    )
    subseed_strength: float = _field(
        0.0,
        "Variation strength",
        "0 is the seed's own picture, 1 the variation seed's.",
        step=0.01,
        ge=0,
        le=1,
    )
    num_images_per_prompt: int = _field(
        1, "Batch size", "Pictures with the seeds that follow.", step=1, ge=1, le=8
    )
    batch_count: int = _field(1, "Batches", "How many batches one after the other.", step=1, ge=1, le=100)

    image: PictureKey | None = _field(None, "Picture", "The picture to start from.")
    mask_image: PictureKey | None = _field(None, "Mask", "White is painted anew, grey partly.")
    strength: float = _field(
        0.75,
        "Strength (denoising)",
        "How far the result may leave the picture: 0 keeps it, 1 paints anew.",
        step=0.01,
        ge=0,
        le=1,
    )
    resize_mode: ResizeMode = _field(
        "crop and resize", "Resize", "How a picture of another shape is brought to the size."
    )
    mask_blur: int = _field(
        4, "Mask blur", "How softly new and old run into each other.", step=1, ge=0, le=64
    )
    mask_inverted: bool = _field(False, "Repaint what is not masked", "Keeps what is painted over.")
    masked_content: MaskedContent = _field("original", "Begin with", "What the masked area starts as.")
    inpaint_area: InpaintArea = _field(
        "whole picture", "Area", "Only masked paints the area alone, at the full size: more detail."
    )
    mask_padding: int = _field(
        32, "Padding", "How much around the mask is looked at, in pixels.", step=4, ge=0, le=256
    )
    soft_inpainting: bool = _field(
        False, "Soft inpainting", "Grey parts of the mask change less (differential diffusion)."
    )
    extend_left: int = _field(0, "Left", "Pixels to paint on the left.", step=8, ge=0, le=1024)
    extend_top: int = _field(0, "Top", "Pixels to paint above.", step=8, ge=0, le=1024)
    extend_right: int = _field(0, "Right", "Pixels to paint on the right.", step=8, ge=0, le=1024)
    extend_bottom: int = _field(0, "Bottom", "Pixels to paint below.", step=8, ge=0, le=1024)
    controls: tuple[ControlUnit, ...] = _field(
        (), "Control", "Maps that the picture follows.", max_length=MOST_CONTROLS
    )

    loras: tuple[LoraWeight, ...] = _field(
        (), "LoRAs", "Small additions to the model.", max_length=MOST_LORAS
    )
    vae: str = _field("", "VAE", "What turns latents into pixels; empty is the model's own.", max_length=500)
    text_encoder: str = _field(
        "", "Text encoder", "What reads the prompt; empty is the model's own.", max_length=500
    )
    clip_skip: int = _field(
        1,
        "Clip skip",
        "2 leaves out the text encoder's last layer, as some models want.",
        step=1,
        ge=1,
        le=12,
    )
    refiner: str = _field("", "Refiner", "A second model that ends the run.", max_length=500)
    refiner_switch_at: float = _field(
        0.8, "Refiner from", "From which share of the steps on the refiner runs.", step=0.01, ge=0.01, le=1
    )
    image_guidance_scale: float = _field(
        1.5,
        "Picture guidance",
        "How closely an editing model keeps to the picture.",
        step=0.05,
        ge=1,
        le=5,
    )
    offload: OffloadMode = _field(
        "auto", "Memory", "What stays on the device; automatic keeps as much there as fits."
    )
    quantisation: Quantisation = _field(
        "none", "Quantisation", "Smaller weights: less memory, a little less exact."
    )
    compiled: bool = _field(
        False, "Compile", "Faster steps, mostly on a GPU, once compiling in the background is done."
    )

    branch: Branch | None = _field(None, "Branch", "The recorded run that this one goes on from.")

    @field_validator("*", mode="before")
    @classmethod
    def _one_value(cls, value: Any, info: ValidationInfo) -> Any:
        return _no_switch(value, info, cls.model_fields)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.image is None and (self.mask_image or any(self.extension)):
            raise _problem("image", "There is no picture to repaint or extend: drop, paste or choose one.")
        if self.image is not None and self.steps_run < 1:
            least = math.ceil(100 / self.num_inference_steps) / 100
            raise _problem(
                "strength",
                f"Strength {self.strength:g} of {self.num_inference_steps} steps leaves no step to run: "
                f"choose at least {least:.2f}, or more steps.",
            )
        low, high, _ = limits(type(self).model_fields["guidance_scale"])
        _check_points("guidance_points", self.guidance_points, low, high, "guidance")
        return self

    @property
    def task(self) -> Task:
        """Which inputs are present decides the task; it is never stored."""
        if self.mask_image or any(self.extension):
            return "inpaint"
        return "image2image" if self.image else "text2image"

    @property
    def extension(self) -> tuple[int, int, int, int]:
        """Pixels to add at the picture's left, top, right and bottom."""
        return self.extend_left, self.extend_top, self.extend_right, self.extend_bottom

    @property
    def guidance_peak(self) -> float:
        """The strongest guidance of the run. Above 1 every step asks the model with and without the prompt,
        also those at which a curve comes down to 1."""
        return max((value for _, value in self.guidance_points), default=self.guidance_scale)

    @property
    def steps_run(self) -> int:
        """How many of the steps are run: a share of `strength` where there is a picture (diffusers' rule)."""
        if self.image is None:
            return self.num_inference_steps
        return min(int(self.num_inference_steps * self.strength), self.num_inference_steps)

    @property
    def pictures(self) -> int:
        """How many pictures the run makes."""
        return self.num_images_per_prompt * self.batch_count

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """The request in `values`; raises `InvalidRequest` with a sentence for each field that is off."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise InvalidRequest(_sentences(error, cls.model_fields)) from None

    def resolved(self) -> Self:
        """The same request with every random choice made: the one that is run, kept and shown."""
        chosen: dict[str, int] = {}
        if self.seed < 0:
            chosen["seed"] = secrets.randbelow(SEED_LIMIT + 1)
        if self.subseed < 0 and self.subseed_strength > 0:
            chosen["subseed"] = secrets.randbelow(SEED_LIMIT + 1)
        return self.model_copy(update=chosen) if chosen else self

    def seed_of(self, picture: int) -> int:
        """Seed of the picture with that index: seed + index, and the seed itself for variations."""
        return self.seed if self.subseed_strength > 0 else (self.seed + picture) % (SEED_LIMIT + 1)

    def subseed_of(self, picture: int) -> int:
        """Variation seed of the picture with that index; meaningless without variation strength."""
        return (self.subseed + picture) % (SEED_LIMIT + 1)


def limits(field: FieldInfo) -> tuple[Any, Any, Any]:
    """(lowest, highest, step) of a numeric field, None where it has none."""
    found = {
        name: getattr(rule, name) for rule in field.metadata for name in ("ge", "le") if hasattr(rule, name)
    }
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return found.get("ge"), found.get("le"), extra.get("step")


def _sentences(error: ValidationError, fields: Mapping[str, FieldInfo]) -> dict[str, str]:
    """pydantic's findings in plain words, by field; the first finding of a field is told."""
    problems: dict[str, str] = {}
    for found in error.errors(include_url=False):
        told = found.get("ctx", {})
        place = [part for part in found["loc"] if part != "function-after"] or [told.get("field", "request")]
        name = str(place[0])
        if name not in problems:
            problems[name] = (
                _part_sentence(place, found) if place[1:] else _sentence(name, fields.get(name), found)
            )
    return problems


_PARTS: Mapping[str, tuple[str, type[BaseModel]]] = {
    "controls": ("control unit", ControlUnit),
    "loras": ("LoRA", LoraWeight),
}
"""The fields that hold several values with fields of their own."""
_SINGLE: Mapping[str, type[BaseModel]] = {"branch": Branch}
"""The fields that hold one value with fields of its own."""


def _part_sentence(place: list[Any], found: Any) -> str:
    """What is wrong inside of a value with fields of its own (a control unit, a LoRA, the branch)."""
    if str(place[0]) not in _PARTS and str(place[0]) not in _SINGLE:
        return _sentence(str(place[0]), GenerationRequest.model_fields.get(str(place[0])), found)
    if str(place[0]) in _SINGLE:
        name = str(place[-1])
        return _sentence(name, _SINGLE[str(place[0])].model_fields.get(name), found)
    called, kind = _PARTS[str(place[0])]
    which = f"{called[0].upper()}{called[1:]} {place[1] + 1}"
    name = str(place[2]) if len(place) > 2 else str(found.get("ctx", {}).get("field", ""))
    field = kind.model_fields.get(name)
    if name and field is None:
        return f"{which}: there is no setting called {name[:60]!r}."
    if field is None:
        given = _shown(found.get("input"))
        return f"{which} is no {called}; {given} was given."
    return f"{which}: {_sentence(name, field, found)}"


def _sentence(name: str, field: FieldInfo | None, found: Any) -> str:
    if field is None:
        known = ", ".join(fields_known())
        return f"There is no setting called {name!r}; the settings are {known}."
    title, kind, given = field.title or name, found["type"], _shown(found.get("input"))
    if kind == "sentence":
        return str(found["ctx"]["sentence"])
    if name == "pose":
        return (
            f"{title} must be 1 to 8 people of eighteen joints, each two shares or null; {given} was given."
        )
    if name in ("image", "mask_image", "map_image"):
        return f"{title} must be a picture that was put into the store; {given} was given."
    if name in ("points", "guidance_points"):
        if kind == "too_long":
            return f"{title} may have {MOST_POINTS} points; {len(found['input'])} were given."
        value = "factor" if name == "points" else "guidance"
        return f"{title} must be points of a share (0 to 1) and a {value}; {given} was given."
    low, high, _ = limits(field)
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"{title} must be between {low} and {high}; {given} was given."
    if kind == "multiple_of":
        step = found["ctx"]["multiple_of"]
        size = int(found["input"])
        below = max(low, size // step * step)
        near = str(below) if below + step > high else f"{below} or {below + step}"
        return f"{title} must be a multiple of {step}; {given} was given, {near} would do."
    if kind == "finite_number":
        return f"{title} must be a number between {low} and {high}; {given} was given."
    if kind.startswith(("int", "float")):
        whole = "a whole number" if field.annotation is int else "a number"
        return f"{title} must be {whole} between {low} and {high}; {given} was given."
    if kind == "string_too_long":
        length = found["ctx"]["max_length"]
        return f"{title} may be {length:,} characters long; {len(found['input']):,} were given. Shorten it."
    if name == "prompt" and kind in ("missing", "value_error"):
        return f"{title} is empty: write what the picture shows."
    if kind == "missing":
        return f"{title} is missing: choose one."
    if kind == "string_too_short" and title == "ControlNet":
        return "No ControlNet is chosen: choose one, or put one for this model into models/controlnets."
    if kind == "string_too_short":
        return f"{title} may not be empty."
    if kind == "literal_error":
        return f"{title} must be one of {', '.join(get_args(field.annotation))}; {given} was given."
    if kind.startswith("bool"):
        return f"{title} must be on or off; {given} was given."
    if kind == "too_long" and name in ("controls", "loras"):
        most, called = (MOST_CONTROLS, "control units") if name == "controls" else (MOST_LORAS, "LoRAs")
        return f"At most {most} {called} go together; {len(found['input'])} were given."
    if kind == "string_type":
        return f"{title} must be text; {given} was given."
    return f"{title} cannot be {given}."


def fields_known() -> list[str]:
    """Names of all settings, in the order of the request."""
    return list(GenerationRequest.model_fields)


def _shown(value: Any) -> str:
    """A value as an error names it: short, and never a page long."""
    text = "nothing" if value is None else repr(value) if isinstance(value, str) else f"{value}"
    return text if len(text) <= 60 else text[:57] + "..."
