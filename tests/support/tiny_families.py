"""The other families at tiny size: diffusers' real pipelines and text encoders, random weights, in memory.

Everything is seeded, as in tiny.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.support import tiny, tiny_transformers, tiny_unets

MAKERS: Mapping[str, Callable[[], Any]] = {
    "sd1": tiny.sd,
    "sd2": tiny_unets.sd2,
    "sdxl": tiny.sdxl,
    "sd3": tiny.sd3,
    "flux": tiny.flux,
    "sd-inpaint": tiny.sd_inpaint,
    "ddpm": tiny_unets.unconditional,
    "ddim": lambda: tiny_unets.unconditional("DDIMPipeline", 32),
    "pix2pix": tiny_unets.pix2pix,
    "pix2pix-xl": tiny_unets.pix2pix_xl,
    "depth": tiny_unets.depth,
    "lcm": tiny_unets.lcm,
    "flux-fill": tiny_transformers.flux_fill,
    "flux-kontext": tiny_transformers.flux_kontext,
    "flux2-klein": tiny_transformers.flux2_klein,
    "chroma": tiny_transformers.chroma,
    "z-image": tiny_transformers.z_image,
    "qwen-image": tiny_transformers.qwen_image,
    "qwen-edit": tiny_transformers.qwen_edit,
    "pixart-alpha": lambda: tiny_transformers.pixart("PixArtAlphaPipeline"),
    "pixart-sigma": tiny_transformers.pixart,
    "sana": tiny_transformers.sana,
    "sana-sprint": lambda: tiny_transformers.sana("SanaSprintPipeline"),
    "aura-flow": tiny_transformers.aura_flow,
    "hunyuan": tiny_transformers.hunyuan,
    "lumina": tiny_transformers.lumina,
    "lumina2": tiny_transformers.lumina2,
    "cogview3": tiny_transformers.cogview3,
    "cogview4": tiny_transformers.cogview4,
    "kandinsky22": tiny_unets.kandinsky22,
    "kandinsky22-inpaint": lambda: tiny_unets.kandinsky22("KandinskyV22InpaintCombinedPipeline"),
    "kandinsky3": tiny_unets.kandinsky3,
    "if": tiny_unets.deepfloyd,
}
"""Key of a tiny model -> what builds it."""


def save(folder: Path, names: Iterable[str] = tuple(MAKERS)) -> Path:
    """Writes the tiny models of those names into `folder` and returns it: a models folder."""
    for name in names:
        MAKERS[name]().save_pretrained(folder / name, safe_serialization=True)
    return folder
