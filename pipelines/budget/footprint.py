"""What a network costs by its configuration alone: multiply-adds and working memory, at any size.

Counted layer by layer for diffusers' UNets and autoencoders and for the common transformers; for others from
their number of weights. Nothing is loaded and torch is not imported, so the page can ask at every keystroke.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Footprint:
    """macs: multiply-adds. values: numbers held at the same time at the peak, weights not counted."""

    macs: float = 0.0
    values: float = 0.0

    def __add__(self, other: Footprint) -> Footprint:
        """Both at once: an encoder that runs while the other's numbers are held."""
        return Footprint(self.macs + other.macs, self.values + other.values)

    def times(self, factor: float) -> Footprint:
        return Footprint(self.macs * factor, self.values * factor)


TEXT_TOKENS: Mapping[str, int] = {"SD": 77, "SDXL": 77, "SD3": 333, "Flux": 512, "PixArt": 300, "Sana": 300}
"""How many text vectors the denoiser of a family listens to; diffusers' defaults, 77 a chunk for CLIP."""
_OTHER_TEXT_TOKENS = 256


def text_tokens(family: str) -> int:
    return TEXT_TOKENS.get(family, _OTHER_TEXT_TOKENS)


def denoiser(config: Config, height: int, width: int, *, text: int, weights: float = 0) -> Footprint:
    """One evaluation for one sample of latents of height x width. weights: how many numbers the network
    holds, used for kinds that are not counted layer by layer."""
    if "down_block_types" in config and "block_out_channels" in config:
        return _unet(config, height * width, text)
    return _transformer(config, height, width, text, weights)


def controlnet(config: Config, height: int, width: int, *, text: int) -> Footprint:
    """One evaluation of the ControlNet that belongs to a denoiser of this configuration: a UNet's is its
    first half again, a transformer's usually a share of its blocks (taken as a quarter)."""
    whole = denoiser(config, height, width, text=text)
    if "down_block_types" in config:
        half = _unet(config, height * width, text, down_only=True)
        return Footprint(half.macs, half.values)
    return whole.times(0.25)


# ------------------------------------------------------------------------------------------------ the UNet


def _each(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] * count


def _resnet(before: float, after: float, places: float) -> Footprint:
    macs = 9 * before * after * places + 9 * after * after * places
    if before != after:
        macs += before * after * places
    # Input, its normalised copy and the result live together, and the convolution's own rearranged input.
    return Footprint(macs, (2 * before + 2 * after) * places)


def _attention(wide: float, places: float, text: int, context: float, depth: int) -> Footprint:
    """`depth` transformer blocks with attention to itself and to the text, and a gated feed-forward."""
    itself = 4 * wide**2 * places + 2 * places**2 * wide
    words = 2 * wide**2 * places + 2 * wide * context * text + 2 * places * text * wide
    forward = 12 * wide**2 * places
    macs = 2 * wide**2 * places + depth * (itself + words + forward)
    # The feed-forward's 8 times wider product, its gated half and the stream that it is added to.
    return Footprint(macs, 15 * wide * places)


def _unet(config: Config, places: float, text: int, *, down_only: bool = False) -> Footprint:
    channels = [int(count) for count in config["block_out_channels"]]
    kinds = list(config["down_block_types"])
    layers = _each(config.get("layers_per_block", 2), len(channels))
    depths = _each(config.get("transformer_layers_per_block", 1), len(channels))
    contexts = _each(config.get("cross_attention_dim") or 0, len(channels))
    macs = 9.0 * int(config.get("in_channels") or 4) * channels[0] * places
    peak, skips, before = 0.0, [channels[0] * places], channels[0]
    skip_channels = [channels[0]]
    here = places

    def passed(part: Footprint, held: float) -> None:
        nonlocal macs, peak
        macs += part.macs
        peak = max(peak, part.values + held)

    def block(kind: str, before: float, after: float, level: int, held: float) -> None:
        passed(_resnet(before, after, here), held)
        if "CrossAttn" in kind:
            depth = _depth(depths[level])
            passed(_attention(after, here, text, contexts[level], depth), held)
        elif "Attn" in kind:
            passed(Footprint(4 * after**2 * here + 2 * here**2 * after, 6 * after * here), held)

    for level, (kind, after) in enumerate(zip(kinds, channels)):
        for _ in range(layers[level]):
            block(kind, before, after, level, sum(skips))
            before = after
            skips.append(after * here)
            skip_channels.append(after)
        if level < len(channels) - 1:
            here /= 4
            passed(Footprint(9.0 * after * after * here), sum(skips))
            skips.append(after * here)
            skip_channels.append(after)
    if config.get("mid_block_type", "UNetMidBlock2DCrossAttn"):
        block("CrossAttn" if contexts[-1] else "Attn", before, before, -1, sum(skips))
        passed(_resnet(before, before, here), sum(skips))
    if down_only:
        # A ControlNet ends in a 1 x 1 convolution for each of what it hands over.
        extra = sum(count * size for count, size in zip(skip_channels, skips)) + before * before * here
        return Footprint(macs + extra, peak + sum(skips))
    up_kinds = list(config.get("up_block_types") or [kind.replace("Down", "Up") for kind in kinds[::-1]])
    for step, (kind, after) in enumerate(zip(up_kinds, channels[::-1])):
        level = len(channels) - 1 - step
        for _ in range(layers[level] + 1):
            skips.pop()
            block(kind, before + skip_channels.pop(), after, level, sum(skips))
            before = after
        if step < len(channels) - 1:
            here *= 4
            passed(Footprint(9.0 * after * after * here, 3.0 * after * here), sum(skips))
    macs += 9.0 * before * int(config.get("out_channels") or 4) * places
    return Footprint(macs, peak)


def _depth(value: Any) -> int:
    """Some configurations nest the number of transformer blocks once more, by layer; these are all alike."""
    return int(max(value)) if isinstance(value, list | tuple) else int(value)


# -------------------------------------------------------------------------------------------- transformers


def _transformer(config: Config, height: int, width: int, text: int, weights: float) -> Footprint:
    patch = int(config.get("patch_size") or 1)
    packed = 2 if config.get("_class_name", "").startswith(("Flux", "QwenImage", "Chroma")) else 1
    places = max(1, height // (patch * packed)) * max(1, width // (patch * packed))
    heads = int(config.get("num_attention_heads") or config.get("n_heads") or 0)
    wide = heads * int(config.get("attention_head_dim") or 0) or int(config.get("dim") or 0) or 1024
    both = int(config.get("num_layers") or config.get("n_layers") or 0)
    single = int(config.get("num_single_layers") or 0)
    length = places + text
    name = str(config.get("_class_name", ""))
    if name.startswith(("SD3Transformer", "FluxTransformer", "FluxControlNet", "SD3ControlNet")):
        dual = len(config.get("dual_attention_layers") or ())
        macs = 12.0 * wide**2 * length * (both + single) + 2.0 * length**2 * wide * (both + single)
        macs += dual * (4.0 * wide**2 * places + 2.0 * places**2 * wide)
    elif name.startswith("PixArt"):
        macs = both * (14.0 * wide**2 * places + 2.0 * places**2 * wide + 2.0 * places * text * wide)
        macs += both * 2.0 * wide**2 * text
    else:
        macs = weights * length + 2.0 * length**2 * wide * max(1, both + single)
    # The stream twice, queries, keys and values, and the feed-forward's four times wider product.
    return Footprint(macs, 12.0 * wide * length)


# ------------------------------------------------------------------------------------------- the autoencoder


def _vae_channels(config: Config) -> list[int]:
    """Channels by level, the full size first; DC and Wan autoencoders have other words for them."""
    found = config.get("block_out_channels") or config.get("decoder_block_out_channels")
    if not found and config.get("dim_mult"):
        found = [int(config.get("base_dim") or 96) * int(factor) for factor in config["dim_mult"]]
    return [int(count) for count in found or (128, 256, 512, 512)]


def vae_scale(config: Config) -> int:
    """Pixels a latent has on a side."""
    return int(2 ** (len(_vae_channels(config)) - 1))


def decode(config: Config, height: int, width: int) -> Footprint:
    """Latents of one picture to height x width pixels."""
    return _vae(config, height, width, extra=1)


def encode(config: Config, height: int, width: int) -> Footprint:
    """A picture of height x width pixels to latents."""
    return _vae(config, height, width, extra=0)


def _vae(config: Config, height: int, width: int, *, extra: int) -> Footprint:
    """extra: how many more residual blocks a level has than layers_per_block; a decoder has one."""
    channels = _vae_channels(config)
    layers = _each(config.get("layers_per_block") or 2, len(channels))
    full = float(height * width)
    deep = full / 4 ** (len(channels) - 1)
    latent = int(config.get("latent_channels") or 4)
    macs = 9.0 * latent * channels[-1] * deep + 9.0 * channels[0] * 3 * full
    parts = [_resnet(channels[-1], channels[-1], deep)] * 2
    parts.append(
        Footprint(4.0 * channels[-1] ** 2 * deep + 2.0 * deep**2 * channels[-1], 6.0 * channels[-1] * deep)
    )
    for level, count in enumerate(channels):
        places = full / 4**level
        above = channels[level + 1] if level < len(channels) - 1 else count
        below = channels[level - 1] if level else count
        first = above if extra else below
        parts.append(_resnet(first, count, places))
        parts += [_resnet(count, count, places)] * (_depth(layers[level]) + extra - 1)
    for level, (count, deeper) in enumerate(pairwise(channels)):
        if extra:  # nearest neighbours, then a convolution, in the deeper level's width at this level's size
            places = full / 4**level
            parts.append(Footprint(9.0 * deeper**2 * places, 3.0 * deeper * places))
        else:
            parts.append(Footprint(9.0 * count**2 * full / 4 ** (level + 1), 2.0 * count * full / 4**level))
    macs += sum(part.macs for part in parts)
    return Footprint(macs, max(part.values for part in parts))


def tile_side(config: Config) -> int:
    """Pixels a side of the tiles that a decode is cut into: the size that the VAE was trained at, and never
    more than 512, since a tile as large as the picture saves nothing."""
    sizes = config.get("sample_size")
    side = int(max(sizes) if isinstance(sizes, Sequence) else sizes or 512)
    return max(8 * vae_scale(config), min(512, side))


def tiles(config: Config, height: int, width: int, overlap: float = 0.25) -> int:
    """How many tiles a picture is decoded in."""
    step = tile_side(config) * (1 - overlap)
    return math.ceil(height / step) * math.ceil(width / step)
