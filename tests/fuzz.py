"""Random and mutated inputs to every parser of what strangers write: `python -m tests.fuzz --inputs 1000000`.

Each parser gives a value or raises the one exception that it documents, and takes at most a second; whatever
else it does is printed with the input that made it do so, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import string
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image

from pipelines import foreign, metadata, pictures, prompt_syntax
from pipelines.lora import adapter_tags
from pipelines.metadata import UnreadablePicture
from pipelines.request import GenerationRequest, InvalidRequest
from ui.doors import asked
from ui.doors.limits import TooMuch
from ui.form import sound
from ui.tabs import requested

SLOW = 1.0
"""Seconds after which an answer is no answer."""

INFOTEXTS = (
    "a (red:1.3) house, [snow], <lora:ink:0.8>\nNegative prompt: blurry, (bad:1.2)\nSteps: 20, Sampler: "
    "DPM++ 2M Karras, CFG scale: 7.5, Seed: 123456789, Size: 512x768, Model hash: abcdef1234, Model: a-b, "
    'Denoising strength: 0.6, Clip skip: 2, Lora hashes: "ink: 0011", Variation seed: 5, Version: v1.10.1',
    "text BREAK more\nSteps: 4, Sampler: Euler a, Schedule type: Automatic, Seed: -1, Size: 64x64, "
    'Mask blur: 4, Loras: [{"name": "ink", "weight": 0.5}], Control: [{"model": "edge", "weight": 1}]',
    "",
    "Steps: 1, Sampler: x, Seed: 1",
)
JSONS = (
    '{"3": {"class_type": "KSampler", "inputs": {"seed": 8, "steps": 20, "cfg": 7.0, "sampler_name": "euler",'
    '"scheduler": "normal", "denoise": 1.0, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], '
    '"latent_image": ["5", 0]}}, "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a"}},'
    '"5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512}}, '
    '"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a house", "clip": ["4", 1]}}, '
    '"7": {"class_type": "CLIPTextEncode", "inputs": {"text": ["6", 0], "clip": ["4", 1]}}}',
    '{"sui_image_params": {"prompt": "a", "seed": 1, "steps": 20, "cfgscale": 7, "width": 8, "height": 8}}',
    '{"positive_prompt": "a", "negative_prompt": "b", "seed": 1, "steps": 9, "cfg_scale": 7, "width": 64, '
    '"height": 64, "model": {"name": "m", "hash": "h"}, "loras": [{"model": {"name": "l"}, "weight": 1}]}',
    '{"prompt": "a", "uc": "b", "steps": 28, "sampler": "k_euler", "seed": 1, "scale": 5, "width": 8}',
    '{"session_hash": "a", "fn_index": 0, "data": [[1, {"path": "/tmp/x"}], null], "event_data": {}}',
)
TOKENS = (
    *(
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        '"',
        "\\",
        ":",
        ",",
        "\n",
        "\r\n",
        "<lora:",
        ">",
        "BREAK",
        "|",
        "\0",
        " ",
    ),
    *("Steps: ", "Size: ", "Seed: ", "Negative prompt: ", "Loras: ", "Control: ", ":1.3)", ":nan)", "1e999"),
    *("-1", "9" * 30, "9" * 5000, "0" * 50, "NaN", "-Infinity", "true", "null", "[[[[", '{"a":', "\\u0000"),
    *("\ud800", "\u202e", "\U0001f600", "é", "٣", "²", "x" * 300, "((((((", "1.2.3", "--", "%s%n", "../../"),
)
TEXT_KEYS = ("parameters", "prompt", "workflow", "Comment", "invokeai_metadata", "Title", "Description")


def mutated(dice: random.Random, seed: str, most: int = 6) -> str:
    """A text with pieces of it taken out, doubled, swapped for others and sprinkled with tokens."""
    text = seed
    for _ in range(dice.randint(0, most)):
        at = dice.randint(0, len(text))
        end = min(len(text), at + dice.choice((1, 1, 3, 20, 200)))
        way = dice.random()
        if way < 0.3:
            text = text[:at] + text[end:]
        elif way < 0.5:
            text = text[:at] + text[at:end] * dice.choice((2, 3, 50)) + text[end:]
        elif way < 0.85:
            text = text[:at] + dice.choice(TOKENS) + text[at if way < 0.7 else end :]
        else:
            text = text[:at] + chr(dice.choice((dice.randrange(128), dice.randrange(0x11000)))) + text[end:]
    return text[:30_000]


def infotext(dice: random.Random) -> str:
    """A generation text, more or less."""
    return mutated(dice, dice.choice(INFOTEXTS))


def prompt(dice: random.Random) -> str:
    """Words, weights and tags."""
    if dice.random() < 0.5:
        return mutated(dice, dice.choice(INFOTEXTS).partition("\n")[0], 10)
    return "".join(dice.choice(TOKENS + tuple(string.ascii_letters)) for _ in range(dice.randint(0, 40)))


def texts(dice: random.Random) -> dict[str, str]:
    """What the text chunks of a picture say."""
    keys = dice.sample(TEXT_KEYS, dice.randint(1, 3))
    return {key: mutated(dice, dice.choice(JSONS + INFOTEXTS)) for key in keys}


def value(dice: random.Random, depth: int = 0) -> Any:
    """A value of any kind that JSON can say, and some that it cannot."""
    way = dice.random()
    if way < 0.35:
        return dice.choice((None, True, 0, 1, -1, 7.5, 512, 10**25, -0.0, math.nan, math.inf, 1e308, 2**63))
    if way < 0.6:
        return dice.choice(TOKENS)
    if way < 0.7 or depth > 3:
        return dice.choice(
            ("Euler", "Automatic", "starter", "512", "0.5", "resize", "fill", "a" * 32, "0" * 32)
        )
    if way < 0.85:
        return [value(dice, depth + 1) for _ in range(dice.randint(0, 4))]
    names = [*GenerationRequest.model_fields, *"name weight model kind start step points".split()]
    return {dice.choice(names): value(dice, depth + 1) for _ in range(dice.randint(0, 4))}


def fields(dice: random.Random) -> dict[str, Any]:
    """Values for a request, most of them good."""
    names = list(GenerationRequest.model_fields)
    told = {name: value(dice) for name in dice.sample(names, dice.randint(0, 6))}
    if dice.random() < 0.7:
        told["prompt"] = "a house"
    if dice.random() < 0.05:
        told[dice.choice(TOKENS)] = 1
    return told


@cache
def files() -> tuple[bytes, ...]:
    """Small pictures of every kind that is read."""
    from PIL.PngImagePlugin import PngInfo

    told = PngInfo()
    told.add_text("parameters", INFOTEXTS[0])
    told.add_itxt("prompt", JSONS[0], zip=True)
    picture, made = Image.effect_noise((16, 12), 80).convert("RGB"), []
    exif = Image.Exif()
    exif[0x9286] = b"UNICODE\0" + INFOTEXTS[0].encode("utf-16-be")
    exif[0x0112] = 6
    for kind, options in (
        ("PNG", {"pnginfo": told}),
        ("JPEG", {"exif": exif}),
        ("WEBP", {"exif": exif}),
        ("GIF", {"save_all": True, "append_images": [picture]}),
        ("BMP", {}),
        ("TIFF", {"exif": exif}),
        ("AVIF", {}),
    ):
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        made.append(buffer.getvalue())
    return tuple(made)


def file(dice: random.Random) -> bytes:
    """A picture's file with some bytes changed, cut out or put in."""
    data = bytearray(dice.choice(files()))
    for _ in range(dice.randint(1, 8)):
        at = dice.randrange(len(data)) if data else 0
        way = dice.random()
        if way < 0.6 and data:
            data[at] = dice.choice((0, 1, 127, 128, 255, dice.randrange(256)))
        elif way < 0.8:
            del data[at : at + dice.choice((1, 4, 100))]
        else:
            data[at:at] = dice.randbytes(dice.choice((1, 4, 64)))
    return bytes(data)


def body(dice: random.Random) -> bytes:
    """What is sent as a question."""
    return mutated(dice, dice.choice(JSONS)).encode("utf-8", "surrogatepass")


def read_infotext(text: str) -> None:
    """As the page's "Read parameters": what is found is put into the form."""
    found = metadata.parse(text)
    metadata.pairs(text)
    json.dumps(sound(found))


def read_prompt(text: str) -> None:
    """As a run does."""
    spans = prompt_syntax.parse_weights(text)
    assert spans and all(math.isfinite(span.weight) for span in spans)
    prompt_syntax.plain(text)
    adapter_tags.without_tags(text)
    adapter_tags.read_tags(text)


def read_foreign(told: dict[str, str]) -> None:
    """As of a picture of another program."""
    found = foreign.find(told)
    if found is not None:
        assert all(isinstance(one, str) for one in found.parameters.values())


def read_request(given: dict[str, Any]) -> None:
    """As of a client: a request, or a sentence for each field."""
    requested({**given, "tab": given.get("prompt")})
    sound(given)
    made = GenerationRequest.parse(given)
    GenerationRequest.parse(json.loads(made.resolved().model_dump_json()))


def read_file(data: bytes) -> None:
    """The texts of a picture."""
    metadata.read_fields(io.BytesIO(data))


def decode_file(data: bytes) -> None:
    """The pixels of a picture."""
    pictures.read_original(data)


@dataclass(frozen=True)
class Target:
    """make: an input out of dice. read: takes it. known: what it may raise. share: of all inputs. slow:
    seconds that are too many; a few changed bytes make a picture as large as any that is taken."""

    make: Callable[[random.Random], Any]
    read: Callable[[Any], None]
    known: type[Exception]
    share: int
    slow: float = SLOW


TARGETS = {
    "infotext": Target(infotext, read_infotext, InvalidRequest, 25),
    "prompt": Target(prompt, read_prompt, InvalidRequest, 25),
    "other programs": Target(texts, read_foreign, InvalidRequest, 15),
    "request": Target(fields, read_request, InvalidRequest, 20),
    "question": Target(body, asked.parsed, TooMuch, 10),
    "file": Target(file, read_file, UnreadablePicture, 3),
    "pixels": Target(file, decode_file, UnreadablePicture, 2, slow=20.0),
}


def broken(target: Target, given: Any) -> str | None:
    """What is wrong with what a target makes of an input; None where it does as it should."""
    began = time.perf_counter()
    try:
        target.read(given)
    except target.known:
        pass
    except Exception:
        return traceback.format_exc(limit=-4)
    spent = time.perf_counter() - began
    return f"It took {spent:.1f} s." if spent > target.slow else None


def run(inputs: int, seed: int, names: list[str] | None = None) -> tuple[int, list[tuple[str, Any, str]]]:
    """Reads so many inputs; returns how many, and what went wrong with which (each fault once)."""
    dice = random.Random(seed)
    chosen = {name: TARGETS[name] for name in names or TARGETS}
    weights = [target.share for target in chosen.values()]
    faults: dict[tuple[str, str], Any] = {}
    for _ in range(inputs):
        (name,) = dice.choices(list(chosen), weights)
        given = chosen[name].make(dice)
        problem = broken(chosen[name], given)
        if problem is not None:
            faults.setdefault((name, problem.split(" took ")[0]), (given, problem))
    return inputs, [(name, given, problem) for (name, _), (given, problem) in faults.items()]


def main() -> int:
    """Runs as many as are asked for, and prints how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=list(TARGETS), action="append")
    options = parser.parse_args()
    began, done, found = time.monotonic(), 0, {}
    while done < options.inputs:
        count, faults = run(min(20_000, options.inputs - done), options.seed + done, options.target)
        done += count
        found |= {(name, problem): given for name, given, problem in faults}
        print(f"{done:,} inputs, {len(found)} faults, {time.monotonic() - began:.0f} s", flush=True)
    for (name, problem), given in found.items():
        print(f"\n{name}: {given!r:.2000}\n{problem}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
