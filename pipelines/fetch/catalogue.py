"""The catalogue: well-known models that can be fetched by a click, as rows of assets/models.json."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.families import FAMILIES, PIPELINES
from pipelines.request import GenerationRequest, InvalidRequest

CATALOGUE = Path(__file__).resolve().parents[2] / "assets" / "models.json"

RowSort = Literal[
    "model",
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
"""What a row brings: a whole pipeline, or one of the sorts of files that pipelines.library.identify knows."""


class CatalogueRow(BaseModel):
    """One model that can be fetched.

    key: unique, also the id of its fetch. id: repository of the hub; revision: "" is its main branch; file:
    one file of it, "" for what the pipeline needs. family: of pipelines.families. bytes: to download, and
    memory: the denoiser plus the largest other component in half precision; both rounded to about 5%. size:
    pixels a side that it was trained at, 0 where that means nothing. defaults: request fields that suit it.
    joins: prefix of component names -> repository that holds those, for a pipeline spread over repositories;
    pipeline: the diffusers class that joins them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(pattern=r"[a-z0-9][a-z0-9.-]*", max_length=60)
    id: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
    revision: str = ""
    file: str = ""
    sort: RowSort
    family: str
    title: str = Field(min_length=1, max_length=60)
    summary: str = Field(min_length=20, max_length=200)
    licence: str = Field(min_length=2)
    licence_url: str = Field(pattern=r"^https://")
    gated: bool = False
    bytes: int = Field(gt=0)
    memory: int = Field(ge=0)
    size: int = Field(ge=0)
    defaults: Mapping[str, Any] = Field(default_factory=dict)
    joins: Mapping[str, str] = Field(default_factory=dict)
    pipeline: str = ""
    homepage: str = Field(pattern=r"^https://")

    @model_validator(mode="after")
    def _fits_the_program(self) -> Self:
        if self.joins and self.pipeline not in PIPELINES:
            raise ValueError(f"{self.key}: there is no pipeline called {self.pipeline!r}")
        if self.family not in FAMILIES:
            raise ValueError(f"{self.key}: there is no family called {self.family!r}")
        try:
            GenerationRequest.parse({"prompt": "a house", **self.defaults})
        except InvalidRequest as error:
            raise ValueError(f"{self.key}: {error}") from None
        if not re.fullmatch(r"[^.!?]+(\.\d[^.!?]*)*\.", self.summary.strip()):
            raise ValueError(f"{self.key}: the summary must be one sentence")
        return self


def read(path: Path = CATALOGUE) -> tuple[CatalogueRow, ...]:
    """The rows, in the order in which they are shown. Raises pydantic's ValidationError and ValueError for a
    file that does not say what it should."""
    rows = tuple(CatalogueRow(**told) for told in json.loads(path.read_text(encoding="utf8"))["models"])
    keys = [row.key for row in rows]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise ValueError(f"The catalogue names {', '.join(sorted(twice))} more than once.")
    return rows
