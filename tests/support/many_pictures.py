"""A folder of very many pictures, each a real PNG of its own with a generation text."""

from __future__ import annotations

import datetime
import os
import random
import struct
import zlib
from pathlib import Path

THINGS = "robot boat tree cat balloon flower lighthouse castle bridge river mountain street garden".split()
COLOURS = "red blue green yellow white black golden silver purple orange".split()
PLACES = "snow sea night forest desert city rain fog sunset morning field storm valley island".split()
STYLES = "photograph painting watercolour sketch etching poster film-still miniature".split()
MODELS = [f"Model {letter}" for letter in "ABCDEFGHIJKL"]
SAMPLERS = ["Euler", "Euler a", "DPM++ 2M", "DPM++ SDE", "UniPC", "DDIM", "Heun", "LCM"]
TASKS = ["text2image"] * 7 + ["image2image"] * 2 + ["inpaint"]


def fill(outputs: Path, count: int, days: int = 400) -> None:
    """`count` pictures over `days` days, as `<task>/<day>/<number>-<seed>.png`."""
    chosen = random.Random(1)
    first = datetime.date(2025, 1, 1)
    made: set[Path] = set()
    for number in range(count):
        day = first + datetime.timedelta(days=number * days // count)
        folder = outputs / chosen.choice(TASKS) / day.isoformat()
        if folder not in made:
            folder.mkdir(parents=True, exist_ok=True)
            made.add(folder)
        path = folder / f"{number % 99999 + 1:05d}-{number}.png"
        path.write_bytes(png(text(chosen, number), number))
        moment = datetime.datetime.combine(day, datetime.time()).timestamp() + number % 86_000
        os.utime(path, (moment, moment))


def text(chosen: random.Random, number: int) -> str:
    """A generation text; every word but the last occurs in many."""
    words = [
        f"a {chosen.choice(COLOURS)} {chosen.choice(THINGS)} and a {chosen.choice(COLOURS)} "
        f"{chosen.choice(THINGS)} in the {chosen.choice(PLACES)}, {chosen.choice(STYLES)}, highly detailed",
        f"take{number}" + (f" <lora:lora{chosen.randrange(30)}:0.8>" if number % 3 == 0 else ""),
    ]
    return (
        f"{', '.join(words)}\nNegative prompt: blurry, low quality, text, watermark, bad anatomy\n"
        f"Steps: {chosen.randrange(10, 50)}, Sampler: {chosen.choice(SAMPLERS)}, Schedule type: Karras, "
        f"CFG scale: 7, Seed: {number}, Size: 8x8, Model hash: 0123456789, Model: {chosen.choice(MODELS)}, "
        "RNG: CPU, App: Darkroom 0.1"
    )


def png(text: str, number: int) -> bytes:
    """A picture of 8 x 8 pixels in the colour of its number, with its text in the chunk of the webui."""
    row = b"\0" + number.to_bytes(3, "big") * 8
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", header),
            (b"tEXt", b"parameters\0" + text.encode("latin-1")),
            (b"IDAT", zlib.compress(row * 8, 1)),
            (b"IEND", b""),
        )
    )
