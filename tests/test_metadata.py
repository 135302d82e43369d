"""Generation text there and back, in every file format, and texts as other programs really write them."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from pipelines import foreign, metadata
from pipelines.metadata import UnreadablePicture, embed, parse, read, read_fields, write
from pipelines.request import GenerationRequest
from pipelines.schedulers import OWN, SAMPLERS, SCHEDULES

SUFFIXES = [".png", ".jpg", ".webp", ".avif"]


def request(**changes: Any) -> GenerationRequest:
    return GenerationRequest(**{"prompt": "a red house", "seed": 7, **changes})


def written(wanted: GenerationRequest, picture: int = 0, **changes: Any) -> str:
    told: dict[str, Any] = {
        "model_title": "Storybook",
        "model_hash": "6ce0161689",
        "version": "0.1",
        **changes,
    }
    return write(wanted, picture=picture, **told)


def picture() -> Image.Image:
    return Image.linear_gradient("L").resize((16, 24)).convert("RGB")


def test_the_text_is_the_webuis() -> None:
    wanted = request(negative_prompt="fog", guidance_scale=7.5, width=512, height=768, schedule="Karras")
    assert written(wanted, 2) == (
        "a red house\nNegative prompt: fog\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 9, Size: 512x768, "
        "Model hash: 6ce0161689, Model: Storybook, RNG: CPU, App: Darkroom 0.1"
    )


def test_values_take_their_place_and_are_quoted_where_needed() -> None:
    extras = {
        "Stopped at": 4,
        "Denoising strength": 0.75,
        "Clip skip": None,
        "Lora hashes": "a: 1, b: 2",
    }
    text = written(
        request(subseed=3, subseed_strength=0.25), 1, model_hash=None, model_title="a, b", extras=extras
    )
    assert text.splitlines()[-1] == (
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Automatic, CFG scale: 7, Seed: 7, Size: 256x256, "
        'Model: "a, b", Variation seed: 4, Variation seed strength: 0.25, Denoising strength: 0.75, '
        'RNG: CPU, Stopped at: 4, Lora hashes: "a: 1, b: 2", App: Darkroom 0.1'
    )
    assert "Negative prompt" not in text and "Version" not in text
    assert parse(text)["extras"]["Lora hashes"] == "a: 1, b: 2"


def test_a_random_seed_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="resolved"):
        written(request(seed=-1))
    with pytest.raises(ValueError, match="resolved"):
        written(request(subseed_strength=0.5))


def splits(text: str) -> bool:
    """Whether the format itself reads the text as something else."""
    return text.endswith("\r") or any(
        line.lstrip().startswith("Negative prompt:") for line in text.split("\n")
    )


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.text(
    st.sampled_from('ab: ,"\\\n\r\t[]{}()日é\u2028\x0b'), max_size=60
)
PROMPT = TEXT.filter(lambda text: bool(text.strip()) and not splits(text))


@given(
    prompt=PROMPT,
    negative=TEXT.filter(lambda text: not text.endswith("\r")),
    steps=st.integers(1, 150),
    guidance=st.floats(1, 30),
    seed=st.integers(0, 2**32 - 3),
    strength=st.floats(0, 1),
    scheduler=st.sampled_from(sorted(SAMPLERS)),
    schedule=st.sampled_from(sorted(SCHEDULES)),
    title=TEXT,
    extra=TEXT,
)
@example(
    "Steps: 1, Sampler: x, Seed: 3",
    "a\nSteps: 1, Sampler: x, Seed: 3",
    5,
    7,
    1,
    0,
    "Euler a",
    "Karras",
    "",
    "",
)
@example(" \n a \n\n", "\n", 5, 7.0, 1, 1.0, "DDIM", "Beta", '"quoted"', "[1, 2")
def test_what_is_written_is_read_back(
    prompt: str,
    negative: str,
    steps: int,
    guidance: float,
    seed: int,
    strength: float,
    scheduler: str,
    schedule: str,
    title: str,
    extra: str,
) -> None:
    wanted = request(
        prompt=prompt,
        negative_prompt=negative,
        num_inference_steps=steps,
        guidance_scale=guidance,
        seed=seed,
        subseed=5,
        subseed_strength=strength,
        scheduler=scheduler,
        schedule=schedule,
        width=640,
        height=72,
    )
    found = parse(written(wanted, model_title=title, extras={"Note": extra}))
    extras = found.pop("extras")
    found.setdefault("subseed", 5)
    assert found == {name: getattr(wanted, name) for name in found}
    assert len(found) == 17
    assert extras == {
        "Model hash": "6ce0161689",
        "Model": title,
        "RNG": "CPU",
        "Note": extra,
        "App": "Darkroom 0.1",
    }
    assert GenerationRequest(**found) == wanted


@given(
    st.text(max_size=300)
    | st.text(st.sampled_from('ab:,"\\\n {}[]1x'), max_size=100)
    | st.lists(st.sampled_from(["Steps", "Seed", ": ", ", ", '"', "[", "{", "Size", "1x2", "nan", "\n"])).map(
        "".join
    )
)
@example("a: b, c: d, Steps: " + "9" * 5000)
@example("Steps: " + "[" * 100_000 + ", a: b, c: d")
@example("a: b, c: d, " + 'e: ["e: [", ' * 20_000)
@example("a" * 100_000)
@example(":" * 100_000 + "," * 100_000)
@example("aa " * 100_000)
@settings(deadline=2000)
def test_parsing_never_raises(text: str) -> None:
    found = parse(text)
    assert all(isinstance(value, str) for value in found["extras"].values())


def test_out_of_range_and_odd_values_are_told_as_found() -> None:
    found = parse("x\nSteps: 100000, Sampler: Foo, CFG scale: 0.1, Seed: abc, Size: 7x9")
    assert found["num_inference_steps"] == 100000 and found["guidance_scale"] == 0.1
    assert (found["width"], found["height"], found["scheduler"]) == (7, 9, "Foo")
    assert found["extras"] == {"Seed": "abc"}


def test_text_without_parameters_is_a_prompt() -> None:
    assert parse("") == {"extras": {}}
    assert parse("a cat (big:1.2), mat (red:1.1), sun (low:1.2)") == {
        "prompt": "a cat (big:1.2), mat (red:1.1), sun (low:1.2)",
        "extras": {},
    }
    assert parse("a cat\nNegative prompt: dog\nhorse") == {
        "prompt": "a cat",
        "negative_prompt": "dog\nhorse",
        "extras": {},
    }


WEBUI_1_5 = (
    "masterpiece, best quality, (a castle:1.2) on a hill, <lora:detail:0.6>\n"
    "Negative prompt: EasyNegative, (worst quality:1.4),\nlowres\n"
    "Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 2982410354, Size: 512x768, "
    "Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Denoising strength: 0.5, Clip skip: 2, "
    "Hires upscale: 2, Hires upscaler: Latent, "
    'Lora hashes: "detail: 7c6bad76eb54, other: c21332fa0a2d", Version: v1.5.1'
)
WEBUI_1_10 = (
    "a castle\nNegative prompt: fog\n"
    "Steps: 20, Sampler: DPM++ 2M SDE, Schedule type: Exponential, CFG scale: 6, Seed: 5, Size: 1024x1024, "
    "Model hash: 31e35c80fc, Model: sd_xl_base_1.0, Variation seed: 77, Variation seed strength: 0.3, "
    'RNG: CPU, ControlNet 0: "Module: canny, Model: control_v11p_sd15_canny [d14c016b], Weight: 1.0", '
    'Hires prompt: "a castle, \\"big\\"\\nwide", Version: v1.10.1'
)
CIVITAI = (
    "portrait of a fox\nNegative prompt: blurry\n"
    "Steps: 30, Sampler: Euler a, CFG scale: 5.0, Seed: 1144, Size: 832x1216, Clip skip: 2, "
    "Created Date: 2024-09-18T10:22:31.7724Z, "
    'Civitai resources: [{"type":"checkpoint","modelVersionId":290640,"modelName":"Pony, V6: XL",'
    '"modelVersionName":"V6"},{"type":"lora","weight":0.8,"modelVersionId":382152}], '
    'Civitai metadata: {"remixOfId": 12, "a": {"b": [1, 2]}}, Hashes: {"model": "67ab2fd8ec"}'
)


def test_the_webui_of_today() -> None:
    found = parse(WEBUI_1_10)
    assert (found["prompt"], found["negative_prompt"]) == ("a castle", "fog")
    assert (found["scheduler"], found["schedule"], found["guidance_scale"]) == (
        "DPM++ 2M SDE",
        "Exponential",
        6.0,
    )
    assert (found["subseed"], found["subseed_strength"], found["seed"]) == (77, 0.3, 5)
    assert found["extras"]["ControlNet 0"].startswith("Module: canny, Model: control_v11p")
    assert found["extras"]["Hires prompt"] == 'a castle, "big"\nwide'


@pytest.mark.parametrize("text", [WEBUI_1_5, WEBUI_1_5.replace("\n", "\r\n"), WEBUI_1_5 + "\n\n"])
def test_the_webui_before_1_9(text: str) -> None:
    found = parse(text)
    assert found["prompt"] == "masterpiece, best quality, (a castle:1.2) on a hill,"
    assert found["loras"] == ({"name": "detail", "weight": 0.6},)
    assert found["negative_prompt"] == "EasyNegative, (worst quality:1.4),\nlowres"
    assert (found["scheduler"], found["schedule"]) == ("DPM++ 2M", "Karras")
    assert (found["num_inference_steps"], found["seed"]) == (28, 2982410354)
    assert (found["width"], found["height"], found["subseed_strength"]) == (512, 768, 0.0)
    assert found["extras"]["Lora hashes"] == "detail: 7c6bad76eb54, other: c21332fa0a2d"
    assert found["clip_skip"] == 2


def test_civitais_raw_json() -> None:
    found = parse(CIVITAI)
    assert (found["scheduler"], found["schedule"], found["width"]) == ("Euler a", "Automatic", 832)
    resources = json.loads(found["extras"]["Civitai resources"])
    assert [each["type"] for each in resources] == ["checkpoint", "lora"]
    assert json.loads(found["extras"]["Civitai metadata"])["a"] == {"b": [1, 2]}
    assert json.loads(found["extras"]["Hashes"]) == {"model": "67ab2fd8ec"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DPM++ 2M Karras", ("DPM++ 2M", "Karras")),
        ("DPM++ 2M SDE Exponential", ("DPM++ 2M SDE", "Exponential")),
        ("DPM++ 2S a Karras", ("DPM++ 2S a", "Karras")),
        ("Euler SGM Uniform", ("Euler", "SGM Uniform")),
        ("Euler Ancestral", ("Euler a", None)),
        ("euler_ancestral", ("Euler a", None)),
        ("k_euler_a", ("Euler a", None)),
        ("k_dpmpp_2m_ka", ("DPM++ 2M", "Karras")),
        ("k_dpmpp_2m_sde_exp", ("DPM++ 2M SDE", "Exponential")),
        ("dpmpp_2m_sde_gpu", ("DPM++ 2M SDE", None)),
        ("dpmpp_3m_sde", ("DPM++ 3M SDE", None)),
        ("dpmpp_2m_k", ("DPM++ 2M", "Karras")),
        ("dpm_2_ancestral", ("DPM2 a", None)),
        ("kdpm_2_k", ("DPM2", "Karras")),
        ("uni_pc_bh2", ("UniPC", None)),
        ("LMS Karras", ("LMS", "Karras")),
        ("ddim", ("DDIM", None)),
        ("EulerAncestralDiscreteScheduler", ("Euler a", None)),
        ("DPMSolverMultistepScheduler", ("DPM++ 2M", None)),
        ("Restart", ("Restart", None)),
        ("DPM++ 2M SDE Heun Karras", ("DPM++ 2M SDE Heun", "Karras")),
        ("karras", ("karras", None)),
        ("", ("", None)),
    ],
)
def test_sampler_names(name: str, expected: tuple[str, str | None]) -> None:
    assert foreign.sampler(name) == expected


def test_our_own_names_stay() -> None:
    assert foreign.sampler(OWN) == (OWN, None)
    for name in SAMPLERS:
        assert foreign.sampler(name) == (name, None)
        for schedule in SCHEDULES:
            assert foreign.sampler(f"{name} {schedule}") == (name, schedule)
    assert [foreign.schedule(name) for name in SCHEDULES] == list(SCHEDULES)
    assert foreign.schedule("sgm_uniform") == "SGM Uniform"
    assert foreign.schedule("Align Your Steps") == "Align Your Steps"


STORED = TEXT.map(lambda text: text + "\nSteps: 1, a: b, c: d")


@given(text=STORED)
@example("a\nSteps: 1, Sampler: é, Seed: 3")
@example("日本語 🦊\nSteps: 1, Sampler: x, Seed: 3")
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_keeps_the_text_exactly(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"a{suffix}"
    embed(picture(), path, text)
    assert read(path) == text
    with path.open("rb") as file:
        assert read(file) == text
        assert not file.closed
    assert list(tmp_path.iterdir()) == [path]


def test_png_pixels_and_chunk_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.PNG"
    for text, kind in (("é: 1", b"tEXtparameters\0\xe9"), ("日: 1", b"iTXtparameters\0")):
        embed(picture(), path, text)
        assert kind in path.read_bytes()
        with Image.open(path) as image:
            assert image.tobytes() == picture().tobytes()


def test_jpeg_takes_pictures_with_transparency_and_says_when_the_text_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    embed(picture().convert("RGBA"), path, "a: 1")
    assert read(path) == "a: 1"
    with pytest.raises(ValueError, match="too long for a JPEG"):
        embed(picture(), path, "a" * 40_000)
    with pytest.raises(ValueError, match=re.escape(".gif")):
        embed(picture(), tmp_path / "a.gif", "a")
    assert read(path) == "a: 1"


def test_nothing_is_left_behind_when_saving_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    embed(picture(), path, "first")
    with pytest.raises(OSError):
        embed(Image.new("CMYK", (2, 2)), path, "second")  # PNG has no such mode
    assert list(tmp_path.iterdir()) == [path]
    assert read(path) == "first"


def test_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        embed(picture(), tmp_path / f"a{suffix}", "a\ud800b \ud83e\udd8a: 1")
        assert read(tmp_path / f"a{suffix}") == "a\ufffdb 🦊: 1"


def png(**texts: str) -> io.BytesIO:
    info, file = PngInfo(), io.BytesIO()
    for keyword, text in texts.items():
        info.add_text(keyword.replace("__", "-"), text)
    picture().save(file, "PNG", pnginfo=info)
    return io.BytesIO(file.getvalue())


def with_exif(tag: int, value: Any, *, inside: bool = True, kind: str = "JPEG") -> io.BytesIO:
    exif, file = Image.Exif(), io.BytesIO()
    (exif.get_ifd(ExifTags.IFD.Exif) if inside else exif)[tag] = value
    picture().save(file, kind, exif=exif.tobytes())
    return io.BytesIO(file.getvalue())


@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + WEBUI_1_10.encode("utf-16-be"),
        b"UNICODE\0" + WEBUI_1_10.encode("utf-16-le"),
        b"UNICODE\0" + WEBUI_1_10.encode(),
        b"ASCII\0\0\0" + WEBUI_1_10.encode(),
        bytes(8) + WEBUI_1_10.encode() + b"\0\0",
        WEBUI_1_10.encode(),
    ],
)
def test_exif_comments_of_every_encoding(comment: bytes) -> None:
    for kind in ("JPEG", "WEBP", "AVIF", "PNG"):
        found = read_fields(with_exif(ExifTags.Base.UserComment, comment, kind=kind))
        assert found == {**parse(WEBUI_1_10), "source": "Stable Diffusion web UI"}


def test_a_picture_without_data_tells_nothing() -> None:
    assert read_fields(png()) == {}
    assert read(png(Software="GIMP", Comment="made by hand")) is None
    assert read(png(prompt="not a graph", workflow="{}")) is None


def test_text_behind_the_pixels_is_found() -> None:
    whole = png(parameters=WEBUI_1_10).getvalue()
    start = whole.index(b"tEXt") - 4
    size = 12 + int.from_bytes(whole[start : start + 4], "big")
    chunk, rest = whole[start : start + size], whole[:start] + whole[start + size :]
    end = rest.index(b"IEND") - 4
    assert read(io.BytesIO(rest[:end] + chunk + rest[end:])) == WEBUI_1_10


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (WEBUI_1_10, "Stable Diffusion web UI"),
        (CIVITAI, "Civitai"),
        (WEBUI_1_10.replace("v1.10.1", "f2.0.1v1.10.1-previous-224"), "Forge"),
        (WEBUI_1_10.replace("Version: v1.10.1", "App: SD.Next"), "SD.Next"),
        (WEBUI_1_10.replace("v1.10.1", "Fooocus v2.5.5"), "Fooocus"),
        (WEBUI_1_10.replace("v1.10.1", "ComfyUI"), "ComfyUI"),
        (WEBUI_1_10 + ', App: " "', "Stable Diffusion web UI"),
        (written(request()), "Darkroom"),
    ],
)
def test_the_program_is_named(text: str, source: str) -> None:
    assert read_fields(png(parameters=text))["source"] == source


INVOKEAI = {
    "app_version": "4.2.9",
    "generation_mode": "txt2img",
    "positive_prompt": "landscape, hills",
    "negative_prompt": "low quality",
    "width": 768,
    "height": 432,
    "seed": 356120443,
    "rand_device": "cpu",
    "cfg_scale": 7.5,
    "steps": 50,
    "scheduler": "dpmpp_2m_sde_k",
    "clip_skip": 0,
    "model": {"key": "5c1c", "hash": "blake3:9b", "name": "amixx", "base": "sd-1", "type": "main"},
    "loras": [],
}


def test_invokeai() -> None:
    file = png(invokeai_metadata=json.dumps(INVOKEAI), invokeai_graph="{}")
    assert read_fields(file) == {
        "prompt": "landscape, hills",
        "negative_prompt": "low quality",
        "num_inference_steps": 50,
        "scheduler": "DPM++ 2M SDE",
        "schedule": "Karras",
        "guidance_scale": 7.5,
        "seed": 356120443,
        "width": 768,
        "height": 432,
        "subseed_strength": 0.0,
        "extras": {"Model": "amixx", "RNG": "CPU"},
        "source": "InvokeAI",
    }
    text = read(png(invokeai_metadata=json.dumps(INVOKEAI)))
    assert text == (
        "landscape, hills\nNegative prompt: low quality\nSteps: 50, Sampler: DPM++ 2M SDE, "
        "Schedule type: Karras, CFG scale: 7.5, Seed: 356120443, Size: 768x432, Model: amixx, RNG: CPU"
    )


FOOOCUS = {
    "adm_guidance": "(1.5, 0.8, 0.3)",
    "base_model": "juggernautXL_v8Rundiffusion",
    "base_model_hash": "aeb7e9e689",
    "full_prompt": ["cinematic still a fox . emotional, harmonious"],
    "guidance_scale": 4,
    "loras": [["sd_xl_offset_example-lora_1.0", 0.1, "4852686128"]],
    "metadata_scheme": "fooocus",
    "negative_prompt": "",
    "performance": "Speed",
    "prompt": "a fox",
    "resolution": "(1152, 896)",
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "seed": "4621365439172632576",
    "sharpness": 2,
    "steps": 30,
    "styles": "['Fooocus V2', 'Fooocus Enhance']",
    "version": "Fooocus v2.5.5",
}


@pytest.mark.parametrize("inside", [None, True, False])
def test_fooocus(inside: bool | None) -> None:
    text = json.dumps(FOOOCUS)
    if inside is None:
        file = png(parameters=text, fooocus_scheme="fooocus")
    else:
        value = b"ASCII\0\0\0" + text.encode() if inside else text
        file = with_exif(ExifTags.Base.UserComment, value, inside=inside)
    found = read_fields(file)
    assert (found["prompt"], found["negative_prompt"], found["source"]) == ("a fox", "", "Fooocus")
    assert (found["width"], found["height"], found["guidance_scale"]) == (1152, 896, 4.0)
    assert (found["scheduler"], found["schedule"]) == ("DPM++ 2M SDE", "Karras")
    assert found["seed"] == 4621365439172632576  # beyond our range, which the request will say
    assert found["extras"]["Performance"] == "Speed"


def test_fooocus_in_the_webuis_scheme() -> None:
    found = read_fields(png(parameters=WEBUI_1_10, fooocus_scheme="a1111"))
    assert found["prompt"] == "a castle"


NOVELAI = {
    "prompt": "1girl, {fox ears}, forest",
    "steps": 28,
    "height": 1216,
    "width": 832,
    "scale": 5.0,
    "uncond_scale": 1.0,
    "cfg_rescale": 0.0,
    "seed": 3203567138,
    "n_samples": 1,
    "noise_schedule": "karras",
    "sampler": "k_euler_ancestral",
    "uc": "lowres, bad",
    "request_type": "PromptGenerateRequest",
}


def test_novelai() -> None:
    texts = {"Title": "AI generated image", "Description": str(NOVELAI["prompt"]), "Software": "NovelAI"}
    found = read_fields(png(**texts, Source="Stable Diffusion XL C1E1DE52", Comment=json.dumps(NOVELAI)))
    assert (found["prompt"], found["negative_prompt"]) == (NOVELAI["prompt"], "lowres, bad")
    assert (found["scheduler"], found["schedule"], found["guidance_scale"]) == ("Euler a", "Karras", 5.0)
    assert (found["seed"], found["width"], found["height"]) == (3203567138, 832, 1216)
    assert found["extras"] == {"Model": "Stable Diffusion XL C1E1DE52"}
    old = {key: value for key, value in NOVELAI.items() if key != "prompt"}
    assert read_fields(png(**texts, Comment=json.dumps(old)))["prompt"] == NOVELAI["prompt"]


def test_swarmui() -> None:
    values = {
        "prompt": "a fox",
        "negativeprompt": "",
        "seed": 3,
        "steps": 25,
        "cfgscale": 1.0,
        "sampler": "euler",
    }
    values |= {"width": 512, "height": 768, "scheduler": "normal", "model": "Flux/flux1-dev-fp8"}
    found = read_fields(png(parameters=json.dumps({"sui_image_params": values})))
    assert (found["source"], found["scheduler"], found["schedule"]) == ("SwarmUI", "Euler", "Uniform")


COMFY = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 156680208700286,
            "steps": 20,
            "cfg": 8,
            "sampler_name": "dpmpp_2m",
            "scheduler": "karras",
            "denoise": 1,
            "model": ["10", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 640, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a glass bottle", "clip": ["10", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "text, watermark", "clip": ["10", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
    "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "x", "model": ["4", 0], "clip": ["4", 1]}},
}


def comfy(graph: dict[str, Any], **more: str) -> dict[str, Any]:
    return read_fields(png(prompt=json.dumps(graph), **more))


def test_comfyui() -> None:
    found = comfy(COMFY, workflow="{}")
    assert found.pop("extras") == {"Model": "v1-5.safetensors"}
    assert found == {
        "prompt": "a glass bottle",
        "negative_prompt": "text, watermark",
        "num_inference_steps": 20,
        "scheduler": "DPM++ 2M",
        "schedule": "Karras",
        "guidance_scale": 8.0,
        "seed": 156680208700286,
        "width": 512,
        "height": 640,
        "subseed_strength": 0.0,
        "source": "ComfyUI",
    }
    for tag in (ExifTags.Base.Make, ExifTags.Base.Model):
        file = with_exif(tag, "prompt:" + json.dumps(COMFY), inside=False, kind="WEBP")
        assert read_fields(file)["prompt"] == "a glass bottle"


def test_comfyui_takes_the_first_of_two_samplers() -> None:
    second = {**COMFY["3"]["inputs"], "seed": 99, "steps": 9, "denoise": 0.5, "latent_image": ["12", 0]}  # type: ignore[dict-item]
    graph = {
        "1": {"class_type": "KSampler", "inputs": second},
        "12": {"class_type": "LatentUpscale", "inputs": {"samples": ["3", 0], "width": 1024, "height": 1280}},
        **COMFY,
    }
    found = comfy(graph)
    assert (found["seed"], found["num_inference_steps"], found["width"]) == (156680208700286, 20, 512)


def test_comfyui_follows_links_and_keeps_the_prompts_apart() -> None:
    graph = {
        "1": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {
                "noise": ["2", 0],
                "guider": ["3", 0],
                "sampler": ["4", 0],
                "sigmas": ["5", 0],
                "latent_image": ["6", 0],
            },
        },
        "2": {"class_type": "RandomNoise", "inputs": {"noise_seed": ["11", 0]}},
        "3": {"class_type": "CFGGuider", "inputs": {"cfg": 3.5, "positive": ["7", 0], "negative": ["7", 1]}},
        "4": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "5": {"class_type": "BasicScheduler", "inputs": {"scheduler": "simple", "steps": 12, "denoise": 0.6}},
        "6": {"class_type": "EmptyLatentImage", "inputs": {"width": ["12", 0], "height": 768}},
        "7": {
            "class_type": "ControlNetApplyAdvanced",
            "inputs": {"positive": ["8", 0], "negative": ["9", 0], "image": ["13", 0]},
        },
        "8": {"class_type": "CLIPTextEncode", "inputs": {"text": ["10", 0], "clip": ["14", 0]}},
        "9": {"class_type": "CLIPTextEncode", "inputs": {"text": "fog", "clip": ["14", 0]}},
        "10": {"class_type": "StringConstant", "inputs": {"string": "a fox"}},
        "11": {"class_type": "PrimitiveInt", "inputs": {"value": 31}},
        "12": {"class_type": "PrimitiveInt", "inputs": {"value": 1024}},
    }
    found = comfy(graph)
    assert (found["prompt"], found["negative_prompt"], found["seed"]) == ("a fox", "fog", 31)
    assert (found["guidance_scale"], found["scheduler"], found["schedule"]) == (3.5, "Euler", "Simple")
    assert (found["num_inference_steps"], found["width"], found["height"]) == (12, 1024, 768)
    assert found["strength"] == 0.6 and found["extras"] == {}


def test_comfyui_with_the_editors_graph_alone() -> None:
    nodes = [
        {
            "id": 3,
            "type": "KSampler",
            "inputs": [{"name": name, "link": link} for name, link in zip(("positive", "negative"), (4, 6))],
            "widgets_values": [42, "randomize", 20, 8, "euler", "normal", 1],
        },
        {"id": 6, "type": "CLIPTextEncode", "inputs": [], "widgets_values": ["a fox"]},
        {"id": 7, "type": "CLIPTextEncode", "inputs": [], "widgets_values": ["fog"]},
        {"id": 8, "type": "Note", "widgets_values": {"a": 1}},
    ]
    links = [[4, 6, 0, 3, 1, "CONDITIONING"], [6, 7, 0, 3, 2, "CONDITIONING"]]
    found = read_fields(png(workflow=json.dumps({"nodes": nodes, "links": links})))
    assert (found["prompt"], found["negative_prompt"], found["seed"]) == ("a fox", "fog", 42)
    assert (found["scheduler"], found["num_inference_steps"]) == ("Euler", 20)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["1", "2"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["inputs", "class_type", "positive", "steps", "guider", "samples", "1", "2", "text"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)
GRAPH = st.dictionaries(
    st.sampled_from(["1", "2", "3"]),
    st.fixed_dictionaries(
        {
            "class_type": st.just("KSampler") | JSON,
            "inputs": st.dictionaries(
                st.sampled_from("positive negative guider steps seed latent_image text cfg width".split()),
                st.sampled_from([["1", 0], ["2", 1], ["3", 0], 5, "x", None, [1], True, 1e999, 10**5000])
                | JSON,
            )
            | JSON,
        }
    )
    | JSON,
)
ALL = list(INVOKEAI) + list(FOOOCUS) + list(NOVELAI) + ["nodes", "links", "sui_image_params"]


@given(
    st.sampled_from(["prompt", "workflow", "parameters", "Comment", "invokeai_metadata"]),
    GRAPH | st.dictionaries(st.sampled_from(ALL), JSON) | JSON,
)
@example("prompt", {"1": {"inputs": {"positive": ["1", 0], "steps": ["1", 0]}}})
@settings(deadline=None)
def test_tampered_data_never_raises(keyword: str, value: Any) -> None:
    try:
        text = json.dumps(value)
    except ValueError:  # integers too long for Python to write
        return
    found = foreign.find({keyword: text})
    if found is not None:
        assert all(isinstance(each, str) for each in found.parameters.values())
        assert isinstance(found.prompt, str | None) and isinstance(found.negative_prompt, str | None)
        metadata._fields(found.prompt, found.negative_prompt, found.parameters)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1\0\x10Exif\0\0", b"GIF89a"]
)
def test_files_that_are_no_pictures_are_refused_with_a_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(UnreadablePicture, match="cannot be read as a picture"):
        read(path)
    with pytest.raises(UnreadablePicture):
        read_fields(io.BytesIO(data))
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.png")


def test_a_decompression_bomb_is_refused() -> None:
    data = bytearray(png(parameters=WEBUI_1_10).getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(UnreadablePicture, match="too many pixels"):
        read(io.BytesIO(bytes(data)))


WHOLE = [
    png(parameters=WEBUI_1_10).getvalue(),
    *(
        with_exif(ExifTags.Base.UserComment, b"UNICODE\0a\0", kind=kind).getvalue()
        for kind in ("JPEG", "WEBP", "AVIF")
    ),
]


@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    st.data(),
)
@settings(deadline=None, max_examples=200)
def test_broken_files_raise_nothing_else(
    whole: bytes, changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    broken = bytearray(whole)
    for place, value in changes:
        broken[place % len(broken)] = value
    cut = data.draw(st.integers(0, len(broken)) | st.just(len(broken)))
    try:
        read_fields(io.BytesIO(bytes(broken[:cut])))
    except UnreadablePicture:
        pass


def test_a_parameter_line_is_told_as_it_stands() -> None:
    text = 'a, b: c\nNegative prompt: fog, Steps: no\nSteps: 4, Sampler: Euler, Note: "x, y", Seed: 7'
    assert metadata.pairs(text) == [("Steps", "4"), ("Sampler", "Euler"), ("Note", "x, y"), ("Seed", "7")]
    assert metadata.pairs("only words, and: a colon") == []
