"""What a generation text says of the pictures a run was shown (strength, mask, borders, control units) and of
the add-ons that are no part of the prompt.

Keys and values are the webui's and its ControlNet extension's; borders and soft masks have none there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.request import ControlUnit, GenerationRequest

_MODES = MappingProxyType(
    {
        "balanced": "Balanced",
        "prompt": "My prompt is more important",
        "control": "ControlNet is more important",
    }
)
_RESIZE = MappingProxyType(
    {
        "just resize": "Just Resize",
        "crop and resize": "Crop and Resize",
        "resize and fill": "Resize and Fill",
    }
)
_POSE = "openpose_editor"
"""What the webui calls a map that is drawn of a pose."""
_SIDES = ("extend_left", "extend_top", "extend_right", "extend_bottom")


def written(request: GenerationRequest) -> dict[str, object]:
    """The pairs for a request's pictures and add-ons, in the webui's words; empty where there are none."""
    pairs: dict[str, object] = {}
    if request.guidance_points:
        pairs["CFG curve"] = json.dumps(request.guidance_points, separators=(",", ":"))
    if request.eta:
        pairs["Eta DDIM"] = request.eta
    if request.vae:
        pairs["VAE"] = request.vae
    if request.text_encoder:
        pairs["Text encoder"] = request.text_encoder
    if request.quantisation != "none":
        pairs["Quantisation"] = request.quantisation
    if request.clip_skip > 1:
        pairs["Clip skip"] = request.clip_skip
    if request.refiner:
        pairs["Refiner"] = request.refiner
        pairs["Refiner switch at"] = request.refiner_switch_at
    if request.image:
        pairs["Denoising strength"] = request.strength
        pairs["Init image hash"] = request.image
        pairs["Resize mode"] = _RESIZE[request.resize_mode]
        if request.image_guidance_scale != type(request).model_fields["image_guidance_scale"].default:
            pairs["Image CFG scale"] = request.image_guidance_scale
    if request.task == "inpaint":
        pairs |= _mask_pairs(request)
    for number, unit in enumerate(request.controls):
        pairs[f"ControlNet {number}"] = _unit_text(unit)
    return pairs | _made_from(request)


def _made_from(request: GenerationRequest) -> dict[str, object]:
    """What the webui's "Init image hash" leaves open of the pictures and the run that this was made from."""
    pairs: dict[str, object] = {}
    if request.mask_image:
        pairs["Mask hash"] = request.mask_image
    shown = {
        at: unit.map_image or unit.image for at, unit in enumerate(request.controls) if not _is_drawn(unit)
    }
    if hashes := [f"{number}: {key}" for number, key in shown.items() if key]:
        pairs["Control image hashes"] = ", ".join(hashes)
    drawn = {number: unit.pose for number, unit in enumerate(request.controls) if _is_drawn(unit)}
    if drawn:
        pairs["Control poses"] = json.dumps(drawn, separators=(",", ":"))
    if request.branch:
        pairs["Branch of"] = request.branch.trajectory
        pairs["Branch step"] = request.branch.step
        for key, value in (
            ("Branch noise seed", request.branch.noise_seed),
            ("Branch painted", request.branch.painted),
            ("Branch painted on", request.branch.painted_on),
        ):
            if value is not None:
                pairs[key] = value
    return pairs


def _is_drawn(unit: ControlUnit) -> bool:
    """Whether a unit follows its pose."""
    return bool(unit.pose) and not unit.map_image


def _plain(number: float) -> str:
    return repr(number).removesuffix(".0")


def origins(request: GenerationRequest, origin: Callable[[str], str]) -> dict[str, str]:
    """The pairs that tell of the painted pictures and maps of a request what each was painted on. origin: the
    store's, from one key to the other."""
    pairs: dict[str, str] = {}
    if request.image and (key := origin(request.image)):
        pairs["Init image origin"] = key
    maps = enumerate(unit.map_image for unit in request.controls)
    if found := [f"{number}: {key}" for number, made in maps if made and (key := origin(made))]:
        pairs["Control image origins"] = ", ".join(found)
    return pairs


def _mask_pairs(request: GenerationRequest) -> dict[str, object]:
    pairs: dict[str, object] = {"Mask blur": request.mask_blur}
    if request.mask_inverted:
        pairs["Mask mode"] = "Inpaint not masked"
    if request.inpaint_area == "only masked":
        pairs["Inpaint area"] = "Only masked"
        pairs["Masked area padding"] = request.mask_padding
    if request.masked_content != "original":
        pairs["Masked content"] = request.masked_content
    if request.soft_inpainting:
        pairs["Soft inpainting enabled"] = True
    if any(request.extension):
        pairs["Extend"] = " ".join(str(side) for side in request.extension)
    return pairs


def _unit_text(unit: ControlUnit) -> str:
    made = "none" if unit.map_image else _POSE if unit.pose else unit.preprocessor
    values: dict[str, object] = {
        "Module": made,
        "Model": unit.model,
        "Weight": unit.controlnet_conditioning_scale,
        "Resize Mode": _RESIZE[unit.resize_mode],
    }
    if made == "canny":
        values |= {"Threshold A": unit.low_threshold, "Threshold B": unit.high_threshold}
    values |= {
        "Guidance Start": unit.control_guidance_start,
        "Guidance End": unit.control_guidance_end,
        "Control Mode": _MODES[unit.control_mode],
    }
    if unit.points:  # no commas: in a unit's text they part the pairs
        values["Weight Curve"] = " ".join(
            f"{_plain(share)}/{_plain(factor)}" for share, factor in unit.points
        )
    return ", ".join(f"{key}: {value}" for key, value in values.items())


LEFT_OUT = MappingProxyType(
    {
        "mask_inverted": False,
        "inpaint_area": "whole picture",
        "masked_content": "original",
        "soft_inpainting": False,
    }
)
"""What an inpainting run's text, which always tells "Mask blur", does not tell because it is the default."""


NO_ADDONS = MappingProxyType({"clip_skip": 1, "vae": "", "refiner": "", "eta": 0.0, "guidance_points": ()})
"""What a generation text does not tell of add-ons, and of what changes over the steps, because there is
none."""

_HASH = re.compile(r"\s*\[[0-9a-f]{6,64}\]$")


def read(key: str, value: str) -> dict[str, Any]:
    """The request fields that a pair tells; empty for a pair that is none of these, or holds no such value.

    Pictures themselves are not in a text, so control units stay what they are: words.
    """
    plain = value.strip().lower()
    match key:
        case "Denoising strength":
            return _number("strength", plain, float)
        case "Mask blur":
            return _number("mask_blur", plain, int)
        case "Masked area padding":
            return _number("mask_padding", plain, int)
        case "Mask mode" if plain == "inpaint not masked":
            return {"mask_inverted": True}
        case "Inpaint area" if plain in ("only masked", "whole picture"):
            return {"inpaint_area": plain}
        case "Masked content" if plain in ("fill", "original", "latent noise", "latent nothing"):
            return {"masked_content": plain}
        case "Resize mode" if plain in _RESIZE:
            return {"resize_mode": plain}
        case "Soft inpainting enabled" if plain == "true":
            return {"soft_inpainting": True}
        case "Clip skip":
            return _number("clip_skip", plain, int)
        case "CFG curve":
            return _curve("guidance_points", value)
        case "Eta DDIM":
            return _number("eta", plain, float)
        case "VAE" if plain not in ("", "none", "automatic"):
            return {"vae": value.strip()}
        case "Refiner" if plain not in ("", "none"):
            return {"refiner": _HASH.sub("", value).strip()}
        case "Refiner switch at":
            return _number("refiner_switch_at", plain, float)
        case "Extend":
            sides = plain.split()
            if len(sides) == 4 and all(side.isdecimal() and len(side) < 5 for side in sides):
                return dict(zip(_SIDES, map(int, sides)))
    return {}


_UNIT = re.compile(
    "(?:^|, )(Module|Model|Weight|Resize Mode|Threshold A|Threshold B|Guidance Start|Guidance End|"
    "Control Mode|Weight Curve): "
)


def units(extras: Mapping[str, str]) -> list[dict[str, Any]]:
    """The control units that a generation text of this program tells, as values of the request. Raises
    ValueError with a sentence where it does not tell all of one."""
    shown, poses = numbered(extras.get("Control image hashes", "")), _json(extras.get("Control poses", ""))
    texts = [extras[name] for name in sorted(extras) if re.fullmatch(r"ControlNet \d", name)]
    return [_unit(text, shown.get(str(at)), poses.get(str(at)), at + 1) for at, text in enumerate(texts)]


def _unit(text: str, shown: str | None, pose: Any, number: int) -> dict[str, Any]:
    _, *parts = _UNIT.split(text)
    told = dict(zip(parts[::2], parts[1::2]))
    made, modes, sizes = told.get("Module"), _turned(_MODES), _turned(_RESIZE)
    if not (pose if made == _POSE else shown):
        raise ValueError(f"This picture's text does not say what its control unit {number} followed.")
    followed = {"pose": pose} if made == _POSE else {"map_image" if made == "none" else "image": shown}
    curve = (point.partition("/") for point in told.get("Weight Curve", "").split())
    try:
        values: dict[str, Any] = {
            "model": told["Model"],
            **followed,
            "controlnet_conditioning_scale": float(told["Weight"]),
            "resize_mode": sizes[told["Resize Mode"]],
            "control_guidance_start": float(told["Guidance Start"]),
            "control_guidance_end": float(told["Guidance End"]),
            "control_mode": modes[told["Control Mode"]],
            "points": tuple((float(share), float(factor)) for share, _, factor in curve),
        }
        if "image" in followed:
            values["preprocessor"] = made
        for name, key in (("low_threshold", "Threshold A"), ("high_threshold", "Threshold B")):
            if key in told:
                values[name] = int(told[key])
    except (KeyError, ValueError):
        raise ValueError(f"This picture's text does not tell all of its control unit {number}.") from None
    return values


def numbered(text: str) -> dict[str, str]:
    """The keys in "0: key, 2: key", by their numbers."""
    parts = (part.partition(":") for part in text.split(","))
    return {number.strip(): key.strip() for number, _, key in parts if key.strip()}


def _turned(words: Mapping[str, str]) -> dict[str, str]:
    return {said: value for value, said in words.items()}


def _json(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


def branch(extras: Mapping[str, str]) -> dict[str, Any] | None:
    """The branch that a generation text tells, as values of the request; None where it is none."""
    if "Branch of" not in extras:
        return None
    names = {
        "trajectory": "Branch of",
        "step": "Branch step",
        "noise_seed": "Branch noise seed",
        "painted": "Branch painted",
        "painted_on": "Branch painted on",
    }
    return {name: extras[key] for name, key in names.items() if key in extras}


def _curve(name: str, text: str) -> dict[str, Any]:
    """Points of (share, value); nothing of what is none."""
    try:
        points = json.loads(text)
        return {name: tuple((float(share), float(value)) for share, value in points)}
    except (ValueError, TypeError, RecursionError):
        return {}


def _number(name: str, text: str, kind: type) -> dict[str, Any]:
    digits = text.replace(".", "", 1) if kind is float else text
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 20:
        return {}
    return {name: kind(text)}
