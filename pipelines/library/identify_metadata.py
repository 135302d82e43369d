"""What a weights file says of itself in its metadata: read as a stranger's words, short and printable."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any


def told_hash(metadata: Mapping[str, str]) -> str:
    """The first 12 hex digits of the hash that kohya's tools write; "" where there is none."""
    told = metadata.get("sshs_model_hash", "")
    return told[:12].lower() if re.fullmatch(r"(?:0x)?[0-9a-fA-F]{12,64}", told) else ""


def trigger_words(metadata: Mapping[str, str], most: int = 12) -> tuple[str, ...]:
    """Words that call a LoRA: what its author names, else the tags that stood at nearly every picture it was
    trained on (kohya's ss_tag_frequency)."""
    said = metadata.get("modelspec.trigger_phrase") or metadata.get("trigger_words", "")
    if said.strip():
        return tuple(_unique(line(part) for part in said[:4000].split(",")))[:most]
    try:
        folders = json.loads(metadata.get("ss_tag_frequency", "") or "{}")
    except (ValueError, RecursionError):
        return ()
    if not isinstance(folders, dict):
        return ()
    found: list[str] = []
    for tags in folders.values():
        counted = [
            (tag, count)
            for tag, count in (tags.items() if isinstance(tags, dict) else ())
            if isinstance(count, int) and not isinstance(count, bool) and count > 0
        ]
        often = 0.9 * max((count for _, count in counted), default=0)
        found += [
            line(tag) for tag, count in sorted(counted, key=lambda one: -one[1])[:most] if count >= often
        ]
    return tuple(_unique(found))[:most]


_SETTINGS: Mapping[str, type | tuple[type, ...]] = {
    "scheduler": str,
    "schedule": str,
    "num_inference_steps": int,
    "guidance_scale": (int, float),
}
"""Request fields that a LoRA's metadata may suggest, and what they hold."""


def suggested(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Settings in Darkroom's own metadata: {"scheduler": "LCM", "num_inference_steps": 4}."""
    try:
        told = json.loads(metadata.get("darkroom", "")[:4000] or "{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    kept = {name: told[name] for name, kind in _SETTINGS.items() if isinstance(told.get(name), kind)}
    return {
        name: value
        for name, value in kept.items()
        if not (isinstance(value, float) and not 0 <= value <= 100)
    }


def _unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(word for word in words if word))


def line(text: str) -> str:
    """One printable line of at most 200 signs out of what a stranger wrote."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in str(text)[:400]).split())[:200]
