"""Components from elsewhere: a separate VAE or text encoder in place of a model's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.headers import UnreadableFile

if TYPE_CHECKING:
    from pipelines.models import ModelLibrary, ModelSpec
    from pipelines.parts import Blueprint


def of_file(spec: ModelSpec, library: ModelLibrary) -> Blueprint:
    raise UnreadableFile("Single files cannot be loaded yet.")


def with_spares(
    blueprint: Blueprint, spec: ModelSpec, library: ModelLibrary, vae: str, text_encoder: str
) -> Blueprint:
    return blueprint
