"""Generation text ("infotext"): written into pictures, and read back out of ours and other programs'.

The format cannot tell everything apart: a prompt with a line that begins "Negative prompt:" is read as two.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from pipelines import foreign, picture_fields
from pipelines.lora import adapter_tags

if TYPE_CHECKING:
    import numpy as np

    from pipelines.request import GenerationRequest

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".avif": "AVIF"}
"""File name endings that `embed` writes -> Pillow's name of the format."""

_ORDER = (
    "Steps|Sampler|Schedule type|CFG scale|Image CFG scale|Seed|Face restoration|Size|Model hash|Model|"
    "VAE hash|VAE|Variation seed|Variation seed strength|Seed resize from|Denoising strength|Clip skip|ENSD|"
    "Init image hash|RNG|Tiling"
).split("|")
_NEGATIVE = "Negative prompt:"
_KEY = re.compile(r"\s*(\w[\w \-/]++):\s*")  # no brackets: "cat (sat:1.2), ..." is a prompt
_WHOLE = re.compile(r"[+-]?\d{1,100}(?:\.0+)?")
_NUMBER = re.compile(r"[+-]?(?:\d{1,100}(?:\.\d{0,100})?|\.\d{1,100})(?:e[+-]?\d{1,3})?", re.IGNORECASE)
_SIZE = re.compile(r"\s*(\d{1,100})\s*[x×]\s*(\d{1,100})\s*")
_FIELDS: dict[str, tuple[str, type]] = {
    "Steps": ("num_inference_steps", int),
    "CFG scale": ("guidance_scale", float),
    "Seed": ("seed", int),
    "Variation seed": ("subseed", int),
    "Variation seed strength": ("subseed_strength", float),
}
_MOST_PIXELS_DECODED = 32_000_000
_UNICODE, _ASCII = b"UNICODE\0", b"ASCII\0\0\0"


class UnreadablePicture(ValueError):
    """A file that is no picture, is broken, or is too large to look into; the message is a sentence."""


def write(
    request: GenerationRequest,
    *,
    picture: int,
    model_title: str,
    model_hash: str | None,
    version: str,
    extras: Mapping[str, object] | None = None,
) -> str:
    """The generation text of one picture of `request`, which must be `resolved()`.

    picture: its index. extras: further values by the webui's key; each takes its place in the webui's
    order, None is skipped, and none replaces a value of the request. Raises ValueError for a random seed.
    """
    varied = request.subseed_strength > 0
    if request.seed < 0 or (varied and request.subseed < 0):
        raise ValueError("Only a resolved request has a seed to write.")
    values: dict[str, object] = {
        **(extras or {}),
        "Steps": request.num_inference_steps,
        "Sampler": request.scheduler,
        "Schedule type": request.schedule,
        "CFG scale": request.guidance_scale,
        "Seed": request.seed_of(picture),
        "Size": f"{request.width}x{request.height}",
        "Model hash": model_hash,
        "Model": model_title,
        "RNG": "CPU",
    }
    if varied:
        values["Variation seed"] = request.subseed_of(picture)
        values["Variation seed strength"] = request.subseed_strength
    values |= picture_fields.written(request)
    prompt, values["Loras"] = adapter_tags.written(request.prompt, request.loras)
    values.pop("App", None)
    return _compose(prompt, request.negative_prompt, {**_ordered(values), "App": f"Darkroom {version}"})


def _ordered(values: Mapping[str, object]) -> dict[str, object]:
    known = {key: values[key] for key in _ORDER if key in values}
    return known | {key: value for key, value in values.items() if key not in known}


def _compose(prompt: str, negative: str, values: Mapping[str, object]) -> str:
    line = ", ".join(f"{key}: {_written(value)}" for key, value in values.items() if value is not None)
    return "\n".join([prompt, *([f"{_NEGATIVE} {negative}"] if negative else []), *([line] if line else [])])


def _written(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    # Beyond the webui's rule: what would be read as JSON, or lose its ends, is written as JSON too.
    special = any(mark in text for mark in ",:\n\r") or text[:1] in ("[", "{", '"') or text != text.strip()
    return json.dumps(text, ensure_ascii=False) if special else text


def parse(text: str) -> dict[str, Any]:
    """The values that a generation text tells, by request field, and all others as text under "extras".

    Reads what this program, the webui since 1.0, its kin and Civitai write; never raises. Values are given
    as found: whether they suit is for the request to say. Where there is a parameter line, what the format
    leaves out because it is the default is given too: no negative prompt is "", a sampler without a schedule
    "Automatic", no variation strength 0, and so on with add-ons and a mask's settings; LoRAs named at the
    prompt's end are "loras". Text without a parameter line is all prompt and negative prompt.
    """
    if text.count("\r\n") == text.count("\n"):
        text = text.replace("\r\n", "\n")
    lines = text.rstrip().split("\n")
    pairs = _pairs(lines[-1])
    if len(pairs) < 3:
        lines, pairs = text.strip().split("\n"), {}
    else:
        lines.pop()
    start = next((i for i, line in enumerate(lines) if line.lstrip().startswith(_NEGATIVE)), None)
    prompt = "\n".join(lines[:start])
    negative = None
    if start is not None:
        first = lines[start].lstrip().removeprefix(_NEGATIVE)
        negative = "\n".join([first.removeprefix(" "), *lines[start + 1 :]])
    if not pairs:
        return _fields(prompt or None, negative, pairs)
    prompt, loras = adapter_tags.read_loras(prompt, pairs.pop("Loras", None))
    return {**picture_fields.NO_ADDONS, "loras": loras, **_fields(prompt, negative, pairs)}


def pairs(text: str) -> list[tuple[str, str]]:
    """What the parameter line of a generation text says, as it stands there; nothing where there is none."""
    found = _pairs(text.rstrip().rpartition("\n")[2])
    return list(found.items()) if len(found) >= 3 else []


def _pairs(line: str) -> dict[str, str]:
    """The `Key: value` pairs of a parameter line; JSON strings are unpacked, JSON lists and objects kept."""
    pairs: dict[str, str] = {}
    attempts = 20  # at broken JSON: each may read to the end of the line
    place = 0
    while place < len(line):
        found = _KEY.match(line, place)
        if found is None:
            place = line.find(",", place) + 1 or len(line)
            continue
        place, value = found.end(), None
        if attempts and line[place : place + 1] in ("[", "{", '"'):
            value, after = _json(line, place)
            attempts -= value is None
        if value is None:
            after = line.find(",", place)
            after = len(line) if after < 0 else after
            value = line[place:after].strip()
        pairs[found[1].strip()] = value
        place = after + 1
    return pairs


def _json(line: str, place: int) -> tuple[str | None, int]:
    """The JSON value that begins at `place` and where the comma after it is; None where none ends so."""
    try:
        value, end = json.JSONDecoder().raw_decode(line, place)
    except (ValueError, RecursionError):
        return None, place
    after = end
    while after < len(line) and line[after].isspace():
        after += 1
    if after < len(line) and line[after] != ",":
        return None, place
    return (value if isinstance(value, str) else line[place:end]), after


def _fields(prompt: str | None, negative: str | None, pairs: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    extras: dict[str, str] = {}
    if prompt is not None:
        fields["prompt"] = prompt
    if negative is not None or pairs:
        fields["negative_prompt"] = negative or ""
    for key, value in pairs.items():
        name, kind = _FIELDS.get(key, ("", str))
        size = _SIZE.fullmatch(value) if key == "Size" else None
        if name and (_WHOLE if kind is int else _NUMBER).fullmatch(value):
            fields[name] = int(value.partition(".")[0]) if kind is int else float(value)
        elif size is not None:
            fields["width"], fields["height"] = int(size[1]), int(size[2])
        elif key == "Sampler" and value:
            fields["scheduler"], suffix = foreign.sampler(value)
            fields.setdefault("schedule", suffix or "Automatic")
        elif key == "Schedule type" and value:
            fields["schedule"] = foreign.schedule(value)
        elif found := picture_fields.read(key, value):
            fields |= found
        else:
            extras[key] = value
    if "seed" in fields:
        fields.setdefault("subseed_strength", 0.0)
    if "mask_blur" in fields:
        fields = {**picture_fields.LEFT_OUT, **fields}
    return {**fields, "extras": extras}


def embed(image: Image.Image | np.ndarray, path: Path, text: str) -> None:
    """Saves `image` with its generation text, in the format of `path`'s ending (see `FORMATS`).

    An array is RGB or RGBA, uint8 or uint16 (h, w, 3 or 4); 16 bits a channel can only be saved as PNG.

    The file appears whole or not at all: it is written beside its place, flushed to the disk and renamed.
    Raises ValueError for another ending, or where a JPEG, which holds 64 kB of it, cannot hold the text.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(
            f"Pictures are saved as {', '.join(FORMATS)}; {path.suffix or 'no ending'} was given."
        )
    options = _save_options(kind, _clean(text))
    if not isinstance(image, Image.Image):
        pixels = image
        if pixels.dtype == "uint16":
            return _write_whole(path, lambda file: file.write(_deep_png(pixels, text)))
        image = Image.fromarray(image)
    if kind == "JPEG" and image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    picture = image
    _write_whole(path, lambda file: picture.save(file, format=kind, **options))


def _write_whole(path: Path, write_to: Callable[[BinaryIO], object]) -> None:
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            write_to(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _deep_png(pixels: np.ndarray, text: str) -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write."""
    import cv2

    swap = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    done, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, swap))
    if not done:
        raise ValueError("The picture could not be written as a PNG of 16 bits a channel.")
    return with_text(encoded.tobytes(), "parameters", text)


def with_text(png: bytes, keyword: str, text: str) -> bytes:
    """A PNG file that says `text` under `keyword`, too: an iTXt chunk (PNG, 11.3.3.4) before its pixels."""
    chunk = b"iTXt" + keyword.encode("latin-1") + bytes(5) + _clean(text).encode()
    packed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    header = 8 + 25  # the signature and the IHDR chunk, which must come first
    return png[:header] + packed + png[header:]


def _clean(text: str) -> str:
    """The text with halves of UTF-16 pairs joined, or replaced where they stand alone: files hold none."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _save_options(kind: str, text: str) -> dict[str, Any]:
    if kind == "PNG":
        info = PngInfo()
        info.add_text("parameters", text)  # Latin-1 as tEXt, all else as iTXt
        return {"pnginfo": info}
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UNICODE + text.encode("utf-16-be")
    data = exif.tobytes()  # an Exif that holds nothing but this directory is falsy to Pillow, and left out
    if kind == "JPEG" and len(data) > 65_533:
        raise ValueError("The generation text is too long for a JPEG file. Save the picture as PNG.")
    return {"exif": data, "quality": 95}


def read(file: Path | BinaryIO) -> str | None:
    """The generation text of a picture, made from its data where another program wrote those.

    None where it has none. Raises `UnreadablePicture`, and OSError where the file cannot be opened.
    """
    texts = _texts(file)
    if (text := _infotext(texts)) is not None:
        return text
    found = foreign.find(texts)
    if found is None:
        return None
    values: dict[str, object] = {**found.parameters}
    if "Sampler" in found.parameters:
        values["Sampler"], suffix = foreign.sampler(found.parameters["Sampler"])
        values["Schedule type"] = foreign.schedule(
            found.parameters.get("Schedule type", suffix or "Automatic")
        )
    return _compose(found.prompt or "", found.negative_prompt or "", _ordered(values))


def read_fields(file: Path | BinaryIO) -> dict[str, Any]:
    """What a picture tells, as from `parse`, with the program under "source"; empty where it tells nothing.

    Raises `UnreadablePicture`, and OSError where the file cannot be opened.
    """
    texts = _texts(file)
    if (text := _infotext(texts)) is not None:
        fields = parse(text)
        return {**fields, "source": _program(fields["extras"])}
    found = foreign.find(texts)
    if found is None:
        return {}
    return {**_fields(found.prompt, found.negative_prompt, found.parameters), "source": found.source}


def _program(extras: Mapping[str, str]) -> str:
    """Which program wrote a generation text, as far as it says so."""
    app, version = extras.get("App", "").strip(), extras.get("Version", "")
    if "Civitai resources" in extras:
        return "Civitai"
    if app:
        return app.split()[0]
    for sign, program in (("ComfyUI", "ComfyUI"), ("Fooocus", "Fooocus"), ("f", "Forge"), ("neo", "Forge")):
        if version.startswith(sign):
            return program
    return "Stable Diffusion web UI"


def _infotext(texts: Mapping[str, str]) -> str | None:
    text = texts.get("parameters", "")
    return text if text.strip() and not foreign.json_object(text) else None


def _texts(file: Path | BinaryIO) -> dict[str, str]:
    """The texts that a picture carries, by PNG keyword; those in EXIF under the keyword they stand for."""
    source = file.open("rb") if isinstance(file, Path) else file
    try:
        with Image.open(source, formats=sorted(set(FORMATS.values()))) as image:
            texts = _strings(image.info)
            if image.format != "PNG":
                return dict(_exif_texts(image.getexif())) | texts
            # In a PNG all else may stand after the pixels, and looking there means decoding those.
            if not texts.keys() & _KEYWORDS and image.width * image.height <= _MOST_PIXELS_DECODED:
                texts = dict(_exif_texts(image.getexif())) | _strings(image.info)
            return texts
    except Image.DecompressionBombError:
        raise UnreadablePicture("This picture has too many pixels to be opened.") from None
    # All that Pillow's readers raise on files that are cut short or were tampered with.
    except (OSError, ValueError, TypeError, LookupError, SyntaxError, ArithmeticError, EOFError) as error:
        raise UnreadablePicture(_NOT_READABLE) from error
    except (struct.error, zlib.error, MemoryError, RuntimeError, AttributeError) as error:
        raise UnreadablePicture(_NOT_READABLE) from error
    finally:
        if isinstance(file, Path):
            source.close()


def _strings(values: Mapping[Any, Any]) -> dict[str, str]:
    return {str(key): value for key, value in values.items() if isinstance(value, str)}


_KEYWORDS = {"parameters", "prompt", "workflow", "Comment", "invokeai_metadata"}
_NOT_READABLE = "This file cannot be read as a picture (PNG, JPEG, WebP or AVIF); it may be incomplete."


def _exif_texts(exif: Image.Exif) -> Iterator[tuple[str, str]]:
    """UserComment as `parameters`, and what ComfyUI writes as "prompt:{...}" into tags of the camera."""
    for tag in (ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model):
        value = exif.get(tag)
        name, colon, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
        if colon and name.casefold() in ("prompt", "workflow"):
            yield name.casefold(), rest.strip("\0 ")
    # Fooocus writes it outside the EXIF directory proper.
    for comment in (
        exif.get(ExifTags.Base.UserComment),
        exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment),
    ):
        if isinstance(comment, bytes | str) and (text := _comment(comment)).strip():
            yield "parameters", text


def _comment(value: bytes | str) -> str:
    """The text of an EXIF UserComment: eight bytes name its encoding, though not its byte order."""
    if isinstance(value, str):
        return value.rstrip("\0")
    code, data = value[:8], value[8:]
    if code == _UNICODE:
        # Big-endian is the custom, others exist; the colons of a generation text or of JSON tell.
        for encoding in ("utf-16-be", "utf-16-le", "utf-8"):
            text = data.decode(encoding, "replace")
            if ": " in text or '":' in text:
                return text.rstrip("\0")
        return data.decode("utf-16-be", "replace").rstrip("\0")
    plain = data if code in (_ASCII, bytes(8)) else value
    return plain.decode("utf-8", "replace").rstrip("\0")
