"""How much memory a run works with beside its weights, by model, request and number format.

From `pipelines.budget.footprint`'s counts, times what was measured that libraries add to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.budget import footprint

if TYPE_CHECKING:
    from pipelines.devices import DevicePlan
    from pipelines.library.models import ModelSpec
    from pipelines.request import GenerationRequest

WIDTHS: Mapping[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of a number."""

# Measured on a processor (oneDNN) with SD 1.5's networks, in fresh processes: peaks over what was counted, in
# bf16 at 512, 768 and 1024 pixels and in float32 at 512. They add rearranged weights and inputs.
DECODE, ENCODE, DENOISE = 1.43, 1.6, 3.3
DENOISE_FIXED = 60_000_000


@dataclass(frozen=True)
class Working:
    """Bytes beside the weights. denoise: one evaluation. decode: the VAE's, encoding included where the run
    begins with a picture; decode_tiled: the same in tiles.

    group_share, layer_share: how much of the denoiser is on the device at once when it comes in groups of
    blocks, or layer by layer.
    """

    denoise: int
    decode: int
    decode_tiled: int
    group_share: float = 0.5
    layer_share: float = 0.05


def of(model: ModelSpec, request: GenerationRequest, plan: DevicePlan) -> Working:
    """For one picture of `request`: pictures of a batch run one after the other."""
    width = WIDTHS[plan.dtype]
    name, config = denoiser_config(model)
    vae = model.config("vae")
    scale = footprint.vae_scale(vae) if vae else 1
    rows, columns = request.height // scale, request.width // scale
    text = footprint.text_tokens(model.family)
    once = footprint.denoiser(config, rows, columns, text=text) if config else footprint.Footprint()
    if request.controls and config:
        led = footprint.controlnet(config, rows, columns, text=text)
        once = footprint.Footprint(once.macs, once.values + led.values * 0.25 * len(request.controls))
    denoise = round(once.values * samples(model, request) * width * DENOISE) + DENOISE_FIXED
    if not vae:  # pixel space
        return Working(denoise, 0, 0)
    side = footprint.tile_side(vae)
    whole = _vae(vae, request, request.height, request.width, width)
    tile = _vae(vae, request, min(side, request.height), min(side, request.width), width)
    # The finished tiles stay until they are blended, in pixels.
    tiles = 3 * request.height * request.width * width * 4 if tile < whole else 0
    return Working(denoise, whole, min(whole, tile + tiles), 0.5 if name == "unet" else 0.15)


def _vae(config: Mapping[str, Any], request: GenerationRequest, height: int, width: int, bytes_: int) -> int:
    values = footprint.decode(config, height, width).values * DECODE
    if request.image is not None:
        values = max(values, footprint.encode(config, height, width).values * ENCODE)
    return round(values * bytes_)


def denoiser_config(model: ModelSpec) -> tuple[str, Mapping[str, Any]]:
    """Name and configuration of what denoises; ("unet", {}) where nothing is known of it."""
    for name in ("unet", "transformer"):
        if config := model.config(name):
            return name, config
    return "unet", {}


_ONE_SAMPLE = frozenset({"Flux", "Flux2", "ZImage"})
"""Families whose guidance is an input of the network, not a second evaluation."""


def samples(model: ModelSpec, request: GenerationRequest) -> int:
    """How many samples an evaluation has: the guided ones are doubled, editing by instruction trebles."""
    if request.guidance_peak <= 1 or model.family in _ONE_SAMPLE:
        return 1
    return 3 if getattr(model, "variant", "") == "edit" and model.family in ("SD", "SDXL") else 2
