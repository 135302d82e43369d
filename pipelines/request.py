"""What is wanted: one frozen value that a form fills, a script writes and the engine reads.

Field names are those of diffusers' pipeline calls, ranges live here once and the form reads them.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

SEED_LIMIT = 2**32 - 2
"""Seeds lie in 0 .. SEED_LIMIT; -1 asks for a random one (the webui's range)."""

Task = Literal["text2image", "image2image", "inpaint"]


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
    width: int = _field(256, "Width", "Pixels across, in steps of 8.", step=8, ge=64, le=2048, multiple_of=8)
    height: int = _field(256, "Height", "Pixels down, in steps of 8.", step=8, ge=64, le=2048, multiple_of=8)
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
    scheduler: str = _field("DPM++ 2M", "Sampler", "The way from noise to picture.", max_length=100)
    schedule: str = _field("Automatic", "Schedule", "How the noise levels are spaced.", max_length=100)
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

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, prompt: str) -> str:
        if not prompt.strip():
            raise ValueError("empty")
        return prompt

    @field_validator("*", mode="before")
    @classmethod
    def _one_value(cls, value: Any) -> Any:
        if isinstance(value, bool):  # pydantic would read True as 1
            raise PydanticCustomError("not_a_setting", "a switch")
        return value

    @property
    def task(self) -> Task:
        """Which inputs are present decides the task; it is never stored."""
        return "text2image"

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
        name = str(found["loc"][0]) if found["loc"] else "request"
        if name not in problems:
            problems[name] = _sentence(name, fields.get(name), found)
    return problems


def _sentence(name: str, field: FieldInfo | None, found: Any) -> str:
    if field is None:
        known = ", ".join(fields_known())
        return f"There is no setting called {name!r}; the settings are {known}."
    title, kind, given = field.title or name, found["type"], _shown(found.get("input"))
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
    if kind == "missing" or (name == "prompt" and kind == "value_error"):
        return f"{title} is empty: write what the picture shows."
    if kind == "string_too_short":
        return f"{title} may not be empty."
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
