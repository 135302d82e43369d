"""What a generation text says of pictures, there and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import metadata, picture_fields
from pipelines.lora import adapter_tags
from pipelines.request import GenerationRequest
from ui.form import sound

PICTURE, MASK = "a" * 32, "b" * 32
UNIT = {"model": "control-canny", "image": PICTURE}


def request(**changes: Any) -> GenerationRequest:
    return GenerationRequest(**{"prompt": "a house", "seed": 7, **changes})


def text_of(wanted: GenerationRequest) -> str:
    return metadata.write(wanted, picture=0, model_title="Storybook", model_hash=None, version="0.1")


def test_a_run_from_text_alone_says_nothing_of_pictures() -> None:
    assert picture_fields.written(request()) == {}
    assert picture_fields.written(request(strength=0.3, mask_blur=9)) == {}


def test_image_to_image_in_the_webuis_words() -> None:
    text = text_of(request(image=PICTURE, strength=0.5, resize_mode="resize and fill"))
    assert text.splitlines()[-1] == (
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Automatic, CFG scale: 7, Seed: 7, Size: 256x256, "
        f"Model: Storybook, Denoising strength: 0.5, Init image hash: {PICTURE}, RNG: CPU, "
        "Resize mode: Resize and Fill, App: Darkroom 0.1"
    )


def test_inpainting_in_the_webuis_words() -> None:
    told = picture_fields.written(
        request(
            image=PICTURE,
            mask_image=MASK,
            strength=1.0,
            mask_inverted=True,
            inpaint_area="only masked",
            mask_padding=48,
            masked_content="latent noise",
            soft_inpainting=True,
            extend_left=8,
            extend_bottom=64,
        )
    )
    assert told == {
        "Denoising strength": 1.0,
        "Init image hash": PICTURE,
        "Resize mode": "Crop and Resize",
        "Mask blur": 4,
        "Mask mode": "Inpaint not masked",
        "Inpaint area": "Only masked",
        "Masked area padding": 48,
        "Masked content": "latent noise",
        "Soft inpainting enabled": True,
        "Extend": "8 0 0 64",
        "Mask hash": MASK,
    }
    plain = picture_fields.written(request(image=PICTURE, mask_image=MASK))
    assert list(plain) == ["Denoising strength", "Init image hash", "Resize mode", "Mask blur", "Mask hash"]


def test_a_branch_and_what_was_painted_on_say_what_they_come_from() -> None:
    branch = {"trajectory": "0a1b-0", "step": 3, "noise_seed": 5, "painted": MASK, "painted_on": PICTURE}
    told = picture_fields.written(request(branch=branch))
    assert told == {
        "Branch of": "0a1b-0",
        "Branch step": 3,
        "Branch noise seed": 5,
        "Branch painted": MASK,
        "Branch painted on": PICTURE,
    }
    assert "Branch noise seed" not in picture_fields.written(request(branch={"trajectory": "0a1b-0"}))
    below = {MASK: PICTURE}
    wanted = request(image=MASK, controls=({**UNIT, "map_image": MASK}, UNIT, {**UNIT, "map_image": PICTURE}))
    assert picture_fields.origins(wanted, lambda key: below.get(key, "")) == {
        "Init image origin": PICTURE,
        "Control image origins": f"0: {PICTURE}",
    }
    assert picture_fields.origins(request(image=PICTURE), lambda key: below.get(key, "")) == {}


def test_control_units_are_read_back_whole() -> None:
    person = ((0.5, 0.1), (1 / 3, 0.4), *(None,) * 16)
    units = (
        {**UNIT, "preprocessor": "canny", "low_threshold": 3, "points": ((0.0, 1 / 3), (1.0, 2.0))},
        {
            "model": "a, odd: one",
            "map_image": MASK,
            "control_mode": "control",
            "resize_mode": "just resize",
        },
        {"model": "control-pose", "pose": (person,), "control_guidance_start": 0.25},
    )
    wanted = request(controls=units)
    extras = metadata.parse(text_of(wanted))["extras"]
    assert request(controls=picture_fields.units(extras)).controls == wanted.controls
    for key in ("Control image hashes", "Control poses"):
        with pytest.raises(ValueError, match=r"does not say what its control unit \d followed"):
            picture_fields.units({name: value for name, value in extras.items() if name != key})
    with pytest.raises(ValueError, match="does not tell all of its control unit 1"):
        picture_fields.units({**extras, "ControlNet 0": "Module: canny, Model: a"})


PERSON = ((0.5, 0.5), (0.4, 0.4), *(None,) * 16)


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (
            {**UNIT, "preprocessor": "canny"},
            "Module: canny, Model: control-canny, Weight: 1.0, Resize Mode: Crop and Resize, "
            "Threshold A: 100, Threshold B: 200, Guidance Start: 0.0, Guidance End: 1.0, "
            "Control Mode: Balanced",
        ),
        (
            {
                "model": "control-pose",
                "pose": (PERSON,),
                "controlnet_conditioning_scale": 0.8,
                "control_guidance_start": 0.1,
                "control_guidance_end": 0.75,
                "resize_mode": "just resize",
                "control_mode": "control",
            },
            "Module: openpose_editor, Model: control-pose, Weight: 0.8, Resize Mode: Just Resize, "
            "Guidance Start: 0.1, Guidance End: 0.75, Control Mode: ControlNet is more important",
        ),
        (
            {**UNIT, "map_image": MASK, "preprocessor": "canny", "control_mode": "prompt"},
            "Module: none, Model: control-canny, Weight: 1.0, Resize Mode: Crop and Resize, "
            "Guidance Start: 0.0, Guidance End: 1.0, Control Mode: My prompt is more important",
        ),
    ],
    ids=["canny", "pose", "map"],
)
def test_control_units_in_the_webuis_words(unit: dict[str, Any], words: str) -> None:
    wanted = request(controls=(UNIT, unit))
    assert picture_fields.written(wanted)["ControlNet 1"] == words
    text = text_of(wanted)
    assert f', ControlNet 1: "{words}", Control image hashes: "0: {PICTURE}' in text
    extras = metadata.parse(text)["extras"]
    assert extras["ControlNet 1"] == words and extras["ControlNet 0"].startswith("Module: none, ")


SIDE = st.integers(0, 1024)


@given(
    steps=st.integers(1, 150),
    strength=st.floats(0, 1),
    masked=st.booleans(),
    extension=st.tuples(SIDE, SIDE, SIDE, SIDE) | st.just((0, 0, 0, 0)),
    settings=st.fixed_dictionaries(
        {
            "resize_mode": st.sampled_from(["just resize", "crop and resize", "resize and fill"]),
            "mask_blur": st.integers(0, 64),
            "mask_inverted": st.booleans(),
            "masked_content": st.sampled_from(["original", "fill", "latent noise", "latent nothing"]),
            "inpaint_area": st.sampled_from(["whole picture", "only masked"]),
            "mask_padding": st.integers(0, 256),
            "soft_inpainting": st.booleans(),
        }
    ),
)
def test_what_is_written_is_read_back(
    steps: int, strength: float, masked: bool, extension: tuple[int, ...], settings: dict[str, Any]
) -> None:
    if int(steps * strength) < 1:
        strength = 1.0
    sides = dict(zip(("extend_left", "extend_top", "extend_right", "extend_bottom"), extension))
    wanted = request(
        num_inference_steps=steps,
        image=PICTURE,
        mask_image=MASK if masked else None,
        strength=strength,
        **settings,
        **sides,
    )
    fields = metadata.parse(text_of(wanted))
    assert fields["strength"] == strength and fields["resize_mode"] == settings["resize_mode"]
    extras = {"Model", "Init image hash", "RNG", "App"} | ({"Mask hash"} if masked else set())
    assert set(fields["extras"]) == extras
    if wanted.task == "image2image":
        assert not set(fields) & {"mask_blur", "mask_inverted", "extend_left"}
        return
    told = {name: value for name, value in settings.items() if name != "mask_padding"}
    assert {name: fields[name] for name in told} == told
    if settings["inpaint_area"] == "only masked":
        assert fields["mask_padding"] == settings["mask_padding"]
    assert {name: fields.get(name, 0) for name in sides} == sides


def test_an_older_inpainting_resets_what_it_leaves_out() -> None:
    fields = metadata.parse(
        "a\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 3, Size: 64x64, Denoising strength: 0.75, "
        "Mask blur: 4"
    )
    assert fields["mask_inverted"] is False and fields["inpaint_area"] == "whole picture"
    assert fields["masked_content"] == "original" and fields["soft_inpainting"] is False
    assert "mask_inverted" not in metadata.parse("a\nSteps: 20, Seed: 3, Size: 64x64")


@pytest.mark.parametrize(
    ("key", "value", "fields"),
    [
        ("Denoising strength", "0.75", {"strength": 0.75}),
        ("Denoising strength", "1", {"strength": 1.0}),
        ("Denoising strength", ".5", {"strength": 0.5}),
        ("Denoising strength", "6.1e-05", {}),
        ("Denoising strength", "-1", {}),
        ("Denoising strength", "nan", {}),
        ("Denoising strength", "1.2.3", {}),
        ("Denoising strength", "٣", {}),
        ("Denoising strength", ".", {}),
        ("Mask blur", "8", {"mask_blur": 8}),
        ("Mask blur", "8.5", {}),
        ("Mask blur", "8" * 5000, {}),
        ("Masked area padding", "32", {"mask_padding": 32}),
        ("Mask mode", "Inpaint not masked", {"mask_inverted": True}),
        ("Mask mode", "Inpaint masked", {}),
        ("Inpaint area", "Only masked", {"inpaint_area": "only masked"}),
        ("Inpaint area", "Whole picture", {"inpaint_area": "whole picture"}),
        ("Inpaint area", "half", {}),
        ("Masked content", "latent nothing", {"masked_content": "latent nothing"}),
        ("Masked content", "something", {}),
        ("Resize mode", "Crop and Resize", {"resize_mode": "crop and resize"}),
        ("Resize mode", "Latent upscale", {}),
        ("Soft inpainting enabled", "True", {"soft_inpainting": True}),
        ("Soft inpainting enabled", "False", {}),
        (
            "Extend",
            "8 0 16 24",
            {"extend_left": 8, "extend_top": 0, "extend_right": 16, "extend_bottom": 24},
        ),
        ("Extend", "8 0 16", {}),
        ("Extend", "8 0 16 -8", {}),
        ("Extend", "8 0 16 99999", {}),
        ("Extend", "² 0 0 0", {}),
        ("ControlNet 0", "Module: canny", {}),
        ("Steps", "3", {}),
        ("", "", {}),
    ],
)
def test_pairs_of_the_webui(key: str, value: str, fields: dict[str, Any]) -> None:
    assert picture_fields.read(key, value) == fields


def test_addons_in_the_webuis_words() -> None:
    wanted = request(
        loras=[
            {"name": "people/ann", "weight": 0.8},
            {"name": "ink", "weight": 0.5, "text_weight": 0.25, "start": 0.5, "points": [[0.5, 0], [1, 1]]},
        ],
        vae="mse",
        clip_skip=2,
        refiner="xl-refiner",
        refiner_switch_at=0.75,
    )
    lines = text_of(wanted).splitlines()
    assert lines[0] == "a house <lora:ann:0.8> <lora:ink:0.25:0.5>"
    assert "Model: Storybook, VAE: mse, Clip skip: 2, RNG: CPU, " in lines[1]
    assert "Refiner: xl-refiner, Refiner switch at: 0.75, " in lines[1]
    fields = metadata.parse("\n".join(lines))
    assert "Loras" not in fields["extras"]
    assert GenerationRequest.parse({**{name: fields[name] for name in fields if name != "extras"}}) == (
        wanted.model_copy(update={"guidance_scale": 7.0})
    )


def test_texts_of_the_webui_tell_addons() -> None:
    text = (
        "<lora:first:1> a cat <lora:one:0.5>, <lora:big:3> <lora:detail:0.6><lyco:two:te=0.5:unet=1>\n"
        "Steps: 20, Sampler: Euler, Seed: 3, VAE hash: 0123456789, VAE: vae-ft-mse.safetensors, "
        "Clip skip: 2, Refiner: xl_refiner [7440042bbd], Refiner switch at: 0.8, Version: v1.10.1"
    )
    fields = metadata.parse(text)
    # A weight that the picker cannot hold stays in the prompt, and so does what stands before it.
    assert fields["prompt"] == "<lora:first:1> a cat <lora:one:0.5>, <lora:big:3>"
    assert fields["loras"] == (
        {"name": "detail", "weight": 0.6},
        {"name": "two", "weight": 1.0, "text_weight": 0.5},
    )
    assert (fields["vae"], fields["clip_skip"]) == ("vae-ft-mse.safetensors", 2)
    assert (fields["refiner"], fields["refiner_switch_at"]) == ("xl_refiner", 0.8)
    plain = metadata.parse("a cat\nSteps: 20, Sampler: Euler, Seed: 3")
    assert (plain["vae"], plain["clip_skip"], plain["refiner"], plain["loras"]) == ("", 1, "", ())
    assert metadata.parse("a cat <lora:x:1>") == {"prompt": "a cat <lora:x:1>", "extras": {}}


@pytest.mark.parametrize(
    "told", ["{", "[[0]]", '[["a", {}]]', '[[-1, {"start": 5}]]', "7", "[" * 9000, "[[-1, 3]]"]
)
def test_what_is_told_of_loras_may_be_anything(told: str) -> None:
    assert adapter_tags.read_loras("a <lora:x:1>", told) == ("a", ({"name": "x", "weight": 1.0},))


SHARES = st.floats(0, 1)
NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20) | st.sampled_from(
    ["people/ann", "a.b c", "🎈", "x:y", "a<b>", "a,b", "one/two/three", "/"]
)


@st.composite
def loras(draw: Any) -> dict[str, Any]:
    start, end = sorted((draw(SHARES), draw(SHARES)))
    shares = sorted(draw(st.sets(SHARES, max_size=4)))
    return {
        "name": draw(NAMES),
        "weight": draw(st.floats(-2, 2)),
        "text_weight": draw(st.none() | st.floats(-2, 2)),
        "start": start if start < end else 0.0,
        "end": end if start < end else 1.0,
        "points": [[share, draw(st.floats(-2, 2))] for share in shares],
    }


@given(
    st.lists(loras(), max_size=16),
    st.text("ab <>:()[]\n,", min_size=1, max_size=30).filter(lambda text: bool(text.strip())),
    st.integers(1, 12),
)
def test_loras_are_read_back(rows: list[dict[str, Any]], prompt: str, clip_skip: int) -> None:
    wanted = request(prompt=prompt, loras=rows, clip_skip=clip_skip)
    found = metadata.parse(text_of(wanted))
    assert (found["prompt"], found["clip_skip"]) == (prompt, clip_skip)
    back = GenerationRequest(prompt="a", loras=found["loras"]).loras
    assert len(back) == len(wanted.loras)
    for one, given_one in zip(back, wanted.loras):
        assert one.name == given_one.name or one.name == adapter_tags.tag_name(given_one.name)
        assert (one.weight, one.start, one.end, one.points) == (
            *(given_one.weight, given_one.start, given_one.end),
            given_one.points,
        )
        assert (one.text_weight or one.weight) == (
            given_one.weight if given_one.text_weight is None else given_one.text_weight
        ) or given_one.text_weight == 0


KEYS = [
    *("Clip skip", "VAE", "Refiner", "Refiner switch at"),
    *("Denoising strength", "Mask blur", "Masked area padding", "Mask mode", "Inpaint area"),
    *("Masked content", "Resize mode", "Soft inpainting enabled", "Extend", "ControlNet 0"),
]
VALUE = (
    st.text()
    | st.text("0123456789. -+eE")
    | st.from_regex(r"\d{1,30}(\.\d{0,30})?(e[+-]?\d{1,4})?")
    | st.floats().map(str)
    | st.integers().map(str)
    | st.lists(st.integers(-9, 9999), max_size=6).map(lambda sides: " ".join(map(str, sides)))
)


@given(st.sampled_from(KEYS) | st.text(), VALUE)
def test_any_text_gives_fields_of_the_right_kind(key: str, value: str) -> None:
    fields = picture_fields.read(key, value)
    for name, found in fields.items():
        default = GenerationRequest.model_fields[name].default
        assert type(found) is type(default)
    kept = sound(fields)
    assert set(kept) <= set(fields)
    GenerationRequest(prompt="a", **{n: v for n, v in kept.items() if not n.startswith("extend_")})
