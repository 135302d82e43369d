"""LoRAs as a prompt names them: `<lora:name:weight>`, read out of a prompt and written into generation text.

The webui's syntax: https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#lora
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.request import MOST_LORAS, InvalidRequest, LoraWeight

HEAVIEST = 10.0
"""A tag's weights lie within plus and minus this; the picker's within 2."""

_TAG = re.compile(r"<(?:lora|lyco):([^<>\n]*)>", re.IGNORECASE)
_UNSAFE = re.compile(r"[:<>,\r\n]")
_DEFAULTS = {"start": 0.0, "end": 1.0, "points": ()}


@dataclass(frozen=True)
class Tag:
    """One tag. weight: in the denoiser. text_weight: in the text encoder. rank: of a DyLoRA, how many of
    its dimensions count (`dyn=8`), None for all. place: where it stands in the prompt."""

    name: str
    weight: float
    text_weight: float
    rank: int | None = None
    place: tuple[int, int] = (0, 0)


def read_tags(prompt: str) -> tuple[str, list[Tag]]:
    """The prompt without its tags, and the tags in order.

    `<lora:name>` counts 1, `<lora:name:0.8>` 0.8 everywhere, `<lora:name:0.5:0.8>` 0.5 in the text encoder
    and 0.8 in the denoiser, and so do `te=0.5` and `unet=0.8`. Raises `InvalidRequest` for a tag that is
    none of these.
    """
    found = [_tag(match) for match in _TAG.finditer(prompt)]
    return _TAG.sub("", prompt), found


def without_tags(prompt: str) -> str:
    """The prompt without its tags, whatever they say."""
    return _TAG.sub("", prompt)


def has_tags(prompt: str) -> bool:
    return _TAG.search(prompt) is not None


def tag_name(key: str) -> str:
    """The name by which a tag calls the LoRA with that key: its file's, as other programs look it up, with
    what would end the name replaced."""
    return _UNSAFE.sub("_", key.rsplit("/", 1)[-1]).strip() or "_"


def _tag(match: re.Match[str]) -> Tag:
    name, *values = (part.strip() for part in match[1].split(":"))
    plain = [value for value in values if "=" not in value]
    named = dict(value.split("=", 1) for value in values if "=" in value)
    named = {key.strip().lower(): value.strip() for key, value in named.items()}
    if not name or len(plain) > 3 or named.keys() - {"te", "unet", "dyn"}:
        raise _malformed(match[0])
    text = _weight(named.get("te", plain[0] if plain else "1"), match[0])
    weight = text if len(plain) < 2 else _weight(plain[1], match[0])
    weight = _weight(named["unet"], match[0]) if "unet" in named else weight
    rank = named.get("dyn", plain[2] if len(plain) > 2 else "")
    if rank and not (rank.isascii() and rank.isdecimal() and int(rank[:9]) > 0):
        raise _malformed(match[0])
    return Tag(name, weight, text, int(rank[:9]) if rank else None, match.span())


def _weight(text: str, tag: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _malformed(tag) from None
    if not math.isfinite(value) or abs(value) > HEAVIEST:
        raise InvalidRequest(
            {"prompt": f"The weight in {tag[:80]} must be between -{HEAVIEST:g} and {HEAVIEST:g}."}
        )
    return value


def _malformed(tag: str) -> InvalidRequest:
    return InvalidRequest(
        {
            "prompt": f"{tag[:80]} names no LoRA: write <lora:name:0.8>, or <lora:name:0.5:0.8> with the "
            "text encoder's weight before the picture's."
        }
    )


# -------------------------------------------------------------------------------------- generation text


def written(prompt: str, loras: Iterable[LoraWeight]) -> tuple[str, str | None]:
    """The prompt with the picker's LoRAs as tags at its end, and a value that tells what tags cannot: whole
    keys, and weights over the steps. None where nothing is left to tell."""
    parts: list[str] = []
    rest = []
    given = tuple(loras)
    for place, lora in enumerate(given, -len(given)):  # from the end: the prompt may have tags of its own
        name = tag_name(lora.name)
        same = lora.text_weight in (None, lora.weight)
        weights = [lora.weight] if same else [float(lora.text_weight or 0), lora.weight]
        parts.append(f"<lora:{':'.join([name, *(_plain(weight) for weight in weights)])}>")
        told: dict[str, Any] = {} if lora.name == name else {"name": lora.name}
        for field, default in _DEFAULTS.items():
            if (value := getattr(lora, field)) != default:
                told[field] = value
        if told:
            rest.append([place, told])
    tags = " ".join(parts)
    told_text = json.dumps(rest, ensure_ascii=False, separators=(",", ":")) if rest else None
    return (f"{prompt} {tags}" if prompt and tags else prompt + tags), told_text


def _plain(weight: float) -> str:
    return repr(int(weight)) if weight.is_integer() else repr(weight)


def read_loras(prompt: str, told: str | None) -> tuple[str, tuple[dict[str, Any], ...]]:
    """What `written` wrote: the prompt without the tags of its LoRAs, and `LoraWeight` fields of each.

    The run of tags at the prompt's end is what is read, since the picker's stand there; tags in midst of the
    prompt, and such as the picker could not hold, are left where they are and count from there.
    """
    tags, start = _last_tags(prompt)
    if not tags:
        return prompt, ()
    rest = _told(told)
    loras = []
    for place, tag in enumerate(tags, -len(tags)):
        extra = rest.get(place, {})
        if "name" in extra and tag_name(extra["name"]) != tag.name:
            extra = {key: value for key, value in extra.items() if key != "name"}
        fields: dict[str, Any] = {"name": tag.name, "weight": tag.weight, **extra}
        if tag.text_weight != tag.weight:
            fields["text_weight"] = tag.text_weight
        loras.append(fields)
    return prompt[:start].removesuffix(" "), tuple(loras)


def _last_tags(prompt: str) -> tuple[list[Tag], int]:
    """The tags at the prompt's end that the picker can hold, and where they begin."""
    tags: list[Tag] = []
    start = len(prompt)
    for match in reversed(list(_TAG.finditer(prompt))):
        if prompt[match.end() : start].strip() or len(tags) == MOST_LORAS:
            break
        try:
            tag = _tag(match)
        except InvalidRequest:
            break
        if tag.rank is not None or max(abs(tag.weight), abs(tag.text_weight)) > 2:
            break
        tags.insert(0, tag)
        start = match.start()
    return tags, start


def _told(text: str | None) -> dict[int, dict[str, Any]]:
    """What is told beyond the tags, by the tag's place; nothing of what suits no LoRA."""
    try:
        rows = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return {}
    found: dict[int, dict[str, Any]] = {}
    for row in rows if isinstance(rows, list) else ():
        if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], int)):
            continue
        fields = row[1] if isinstance(row[1], Mapping) else {}
        known = {key: fields[key] for key in ("name", *_DEFAULTS) if key in fields}
        try:
            LoraWeight(**{"name": "any", **known})
        except ValueError:
            continue
        if "points" in known:
            known["points"] = tuple((share, factor) for share, factor in known["points"])
        found[row[0]] = known
    return found


def put_back(prompt: str, loras: Sequence[Mapping[str, Any]]) -> str:
    """The prompt with LoRAs that there are none of here as tags again."""
    return written(prompt, [LoraWeight(**lora) for lora in loras])[0]
