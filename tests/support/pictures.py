"""Small pictures with generation text, as the gallery finds them in its folders."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from pipelines import metadata
from pipelines.pictures import key_of

TEXT = (
    "{prompt}\nNegative prompt: fog\n"
    "Steps: 4, Sampler: {sampler}, CFG scale: 7, Seed: {seed}, Size: 16x16, Model: {model}"
)


def paint(path: Path, prompt: str = "a red house", seed: int = 1, **told: str) -> str:
    """A small picture with its text at `path`; its id. told: sampler, model, and `more` behind the text."""
    values = {"sampler": "Euler", "model": "Storybook", **told}
    more = values.pop("more", "")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (24, 16), (seed % 256, len(prompt) % 256, 90))
    metadata.embed(picture, path, TEXT.format(prompt=prompt, seed=seed, **values) + more)
    return key_of(path.read_bytes())
