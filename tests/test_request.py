"""What a request accepts, and the sentence it answers to everything else."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.request import SEED_LIMIT, ControlUnit, GenerationRequest, InvalidRequest, limits

FIELDS = GenerationRequest.model_fields
KEY = "0123456789abcdef" * 2
UNIT = {"model": "canny", "image": KEY}
PERSON = [[0.5, 0.5], [0.4, 0.6], *[None] * 16]
POSE = "Pose must be 1 to 8 people of eighteen joints, each two shares or null; "


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("prompt", "x" * 100_000, "Prompt may be 20,000 characters long; 100,000 were given. Shorten it."),
        ("prompt", ["a"], "Prompt must be text; ['a'] was given."),
        ("width", 0, "Width must be between 16 and 2048; 0 was given."),
        ("width", 7, "Width must be a multiple of 8; 7 was given, 16 or 24 would do."),
        ("height", 100_000, "Height must be between 16 and 2048; 100000 was given."),
        ("height", 100, "Height must be a multiple of 8; 100 was given, 96 or 104 would do."),
        ("num_inference_steps", 0, "Steps must be between 1 and 150; 0 was given."),
        ("num_inference_steps", 1_000_000, "Steps must be between 1 and 150; 1000000 was given."),
        ("num_inference_steps", [3], "Steps must be a whole number between 1 and 150; [3] was given."),
        ("num_inference_steps", None, "Steps must be a whole number between 1 and 150; nothing was given."),
        ("guidance_scale", float("nan"), "Guidance (CFG) must be a number between 1 and 30; nan was given."),
        ("guidance_scale", "much", "Guidance (CFG) must be a number between 1 and 30; 'much' was given."),
        ("seed", "abc", "Seed must be a whole number between -1 and 4294967294; 'abc' was given."),
        ("seed", 2**40, "Seed must be between -1 and 4294967294; 1099511627776 was given."),
        ("seed", True, "Seed cannot be True."),
        ("model", "", "Model may not be empty."),
        ("image", "x.png", "Picture must be a picture that was put into the store; 'x.png' was given."),
        ("image", 3, "Picture must be a picture that was put into the store; 3 was given."),
        (
            "image",
            KEY.upper(),
            f"Picture must be a picture that was put into the store; {KEY.upper()!r} was given.",
        ),
        (
            "image",
            KEY + "\n",
            f"Picture must be a picture that was put into the store; '{KEY}\\n' was given.",
        ),
        ("mask_image", "", "Mask must be a picture that was put into the store; '' was given."),
        ("strength", -0.1, "Strength (denoising) must be between 0 and 1; -0.1 was given."),
        ("strength", 1.01, "Strength (denoising) must be between 0 and 1; 1.01 was given."),
        ("strength", float("nan"), "Strength (denoising) must be a number between 0 and 1; nan was given."),
        ("strength", "half", "Strength (denoising) must be a number between 0 and 1; 'half' was given."),
        (
            "resize_mode",
            "stretch",
            "Resize must be one of just resize, crop and resize, resize and fill; 'stretch' was given.",
        ),
        ("mask_blur", 65, "Mask blur must be between 0 and 64; 65 was given."),
        ("mask_blur", -1, "Mask blur must be between 0 and 64; -1 was given."),
        ("mask_blur", 1.5, "Mask blur must be a whole number between 0 and 64; 1.5 was given."),
        ("mask_inverted", "maybe", "Repaint what is not masked must be on or off; 'maybe' was given."),
        ("mask_inverted", None, "Repaint what is not masked must be on or off; nothing was given."),
        ("soft_inpainting", 2, "Soft inpainting must be on or off; 2 was given."),
        (
            "masked_content",
            "none",
            "Begin with must be one of original, fill, latent noise, latent nothing; 'none' was given.",
        ),
        ("inpaint_area", 1, "Area must be one of whole picture, only masked; 1 was given."),
        ("mask_padding", 257, "Padding must be between 0 and 256; 257 was given."),
        ("mask_padding", -4, "Padding must be between 0 and 256; -4 was given."),
        ("extend_left", 1025, "Left must be between 0 and 1024; 1025 was given."),
        ("extend_top", -8, "Top must be between 0 and 1024; -8 was given."),
        ("extend_right", 0.5, "Right must be a whole number between 0 and 1024; 0.5 was given."),
        ("extend_bottom", True, "Bottom cannot be True."),
        ("controls", 3, "Control cannot be 3."),
        ("controls", None, "Control cannot be nothing."),
        ("controls", [UNIT] * 5, "At most 4 control units go together; 5 were given."),
        ("controls", ["canny"], "Control unit 1 is no control unit; 'canny' was given."),
        ("controls", [UNIT, None], "Control unit 2 is no control unit; nothing was given."),
    ],
)
def test_bad_values_are_answered_in_a_sentence(field: str, value: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        GenerationRequest.parse({"prompt": "a house", field: value})
    assert refused.value.problems == {field: sentence}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"model": ""},
            "No ControlNet is chosen: choose one, or put one for this model into models/controlnets.",
        ),
        ({"model": None}, "ControlNet must be text; nothing was given."),
        ({"model": "x" * 501}, "ControlNet may be 500 characters long; 501 were given. Shorten it."),
        ({"image": "x"}, "Picture must be a picture that was put into the store; 'x' was given."),
        ({"map_image": 3}, "Map must be a picture that was put into the store; 3 was given."),
        ({"image": None}, "Nothing is shown to it: give it a picture, a map or a pose."),
        ({"preprocessor": "x" * 61}, "Preprocessor may be 60 characters long; 61 were given. Shorten it."),
        ({"controlnet_conditioning_scale": 2.05}, "Weight must be between 0 and 2; 2.05 was given."),
        ({"controlnet_conditioning_scale": "x"}, "Weight must be a number between 0 and 2; 'x' was given."),
        (
            {"controlnet_conditioning_scale": float("inf")},
            "Weight must be a number between 0 and 2; inf was given.",
        ),
        ({"controlnet_conditioning_scale": True}, "Weight cannot be True."),
        ({"control_guidance_start": -0.1}, "Start must be between 0 and 1; -0.1 was given."),
        ({"control_guidance_end": 1.1}, "End must be between 0 and 1; 1.1 was given."),
        ({"control_guidance_start": 1}, "Start (1) must come before End (1)."),
        (
            {"control_guidance_start": 0.5, "control_guidance_end": 0.25},
            "Start (0.5) must come before End (0.25).",
        ),
        (
            {"resize_mode": "x"},
            "Resize must be one of just resize, crop and resize, resize and fill; 'x' was given.",
        ),
        ({"control_mode": "x"}, "Control mode must be one of balanced, prompt, control; 'x' was given."),
        ({"low_threshold": 0}, "Low threshold must be between 1 and 255; 0 was given."),
        ({"high_threshold": 256}, "High threshold must be between 1 and 255; 256 was given."),
        ({"high_threshold": 9.5}, "High threshold must be a whole number between 1 and 255; 9.5 was given."),
        ({"stepz": 3}, "there is no setting called 'stepz'."),
        ({"pose": 3}, POSE + "3 was given."),
        ({"pose": [3]}, POSE + "3 was given."),
        ({"pose": [[[0.1, float("nan")], *PERSON[1:]]]}, POSE + "nan was given."),
        ({"pose": [[[0.1, "x"], *PERSON[1:]]]}, POSE + "'x' was given."),
        (
            {"pose": [[None, *PERSON[1:]]]},
            "A person of the pose has fewer than two joints: nothing could be drawn of it.",
        ),
    ],
)
def test_a_bad_control_unit_is_told_by_its_number(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        GenerationRequest.parse({"prompt": "a", "controls": [UNIT, {**UNIT, **changes}]})
    assert refused.value.problems == {"controls": f"Control unit 2: {sentence}"}


@pytest.mark.parametrize(
    "pose", [[PERSON[:17]], [PERSON] * 9, [[[0.5], *PERSON[1:]]], [[[0.5] * 3, *PERSON[1:]]]]
)
def test_a_pose_is_people_of_eighteen_joints(pose: Any) -> None:
    with pytest.raises(InvalidRequest, match=rf"^Control unit 1: {POSE}.* was given\.$"):
        GenerationRequest.parse({"prompt": "a", "controls": [{"model": "a", "pose": pose}]})


def test_a_unit_without_a_network_is_told() -> None:
    with pytest.raises(InvalidRequest, match=r"^Control unit 1: ControlNet is missing: choose one\.$"):
        GenerationRequest.parse({"prompt": "a", "controls": [{"image": KEY}]})


@pytest.mark.parametrize("shown", [{"image": KEY}, {"map_image": KEY}, {"pose": [PERSON] * 8}])
def test_a_unit_is_shown_a_picture_a_map_or_a_pose(shown: dict[str, Any]) -> None:
    request = GenerationRequest.parse({"prompt": "a", "controls": [{"model": "a", **shown}] * 4})
    assert len(request.controls) == 4 and request.task == "text2image"


@pytest.mark.parametrize(
    "changes",
    [{"mask_image": KEY}, {"extend_left": 8}, {"extend_bottom": 1}, {"mask_image": KEY, "strength": 0}],
)
def test_a_mask_or_border_needs_a_picture(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        GenerationRequest.parse({"prompt": "a", **changes})
    assert refused.value.problems == {
        "image": "There is no picture to repaint or extend: drop, paste or choose one."
    }


@pytest.mark.parametrize(
    ("changes", "task"),
    [
        ({}, "text2image"),
        ({"image": KEY}, "image2image"),
        ({"image": KEY, "mask_inverted": True}, "image2image"),
        ({"image": KEY, "mask_image": KEY}, "inpaint"),
        ({"image": KEY, "extend_top": 8}, "inpaint"),
    ],
)
def test_what_is_there_decides_the_task(changes: dict[str, Any], task: str) -> None:
    assert GenerationRequest(prompt="a", **changes).task == task


def test_borders_are_told_in_the_order_left_top_right_bottom() -> None:
    sides = {"extend_bottom": 1024, "extend_right": 3, "extend_top": 2, "extend_left": 1}
    assert GenerationRequest(prompt="a", image=KEY, **sides).extension == (1, 2, 3, 1024)


@pytest.mark.parametrize("steps", range(1, 151))
def test_the_strength_that_is_named_runs_a_step(steps: int) -> None:
    asked = {"prompt": "a", "num_inference_steps": steps, "strength": 0}
    assert GenerationRequest.parse(asked).steps_run == steps  # without a picture there is nothing to keep
    with pytest.raises(InvalidRequest) as refused:
        GenerationRequest.parse({**asked, "image": KEY})
    told = refused.value.problems["strength"]
    start = f"Strength 0 of {steps} steps leaves no step to run: choose at least "
    assert told.startswith(start) and told.endswith(", or more steps.")
    least = float(told.removeprefix(start).split(",")[0])
    assert GenerationRequest.parse({**asked, "image": KEY, "strength": least}).steps_run >= 1
    if least > 0.01:  # and it is the least in steps of the slider
        with pytest.raises(InvalidRequest):
            GenerationRequest.parse({**asked, "image": KEY, "strength": round(least - 0.01, 2)})


def test_steps_run_are_a_share_of_the_steps() -> None:
    def run(strength: float, steps: int = 20) -> int:
        return GenerationRequest(
            prompt="a", image=KEY, strength=strength, num_inference_steps=steps
        ).steps_run

    assert [run(1), run(0.75), run(0.05), run(0.29, 100)] == [20, 15, 1, 28]  # int(0.29 * 100) is 28


def test_unknown_settings_are_named() -> None:
    with pytest.raises(InvalidRequest, match="no setting called 'stepz'; the settings are prompt, "):
        GenerationRequest.parse({"prompt": "a", "stepz": 3})


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as refused:
        GenerationRequest.parse({"prompt": 3, "width": 1, "seed": "x"})
    assert set(refused.value.problems) == {"prompt", "width", "seed"}
    assert pickle.loads(pickle.dumps(refused.value)).problems == refused.value.problems


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from([*FIELDS, "else"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())),
    )
)
def test_any_values_make_a_request_or_sentences(values: dict[str, Any]) -> None:
    try:
        request = GenerationRequest.parse(values)
    except InvalidRequest as refused:
        assert all(problem.endswith(".") and len(problem) < 900 for problem in refused.problems.values())
        return
    assert 64 <= request.width <= 2048 and request.width % 8 == 0
    assert -1 <= request.seed <= SEED_LIMIT


def test_whole_floats_of_a_slider_are_taken() -> None:
    assert GenerationRequest.parse({"prompt": "a", "num_inference_steps": 30.0}).num_inference_steps == 30


def test_a_request_is_frozen_and_says_how_many_pictures() -> None:
    request = GenerationRequest(prompt="a", num_images_per_prompt=2, batch_count=3)
    assert request.pictures == 6
    with pytest.raises(ValueError, match="frozen"):
        request.seed = 3  # type: ignore[misc]


def test_resolving_draws_each_random_seed_once() -> None:
    request = GenerationRequest(prompt="a", subseed_strength=0.5).resolved()
    assert request.seed >= 0 and request.subseed >= 0
    assert request.resolved() == request
    assert GenerationRequest(prompt="a", seed=4).resolved().subseed == -1


def test_pictures_count_their_seeds_up() -> None:
    plain = GenerationRequest(prompt="a", seed=SEED_LIMIT - 1)
    assert [plain.seed_of(i) for i in range(3)] == [SEED_LIMIT - 1, SEED_LIMIT, 0]
    varied = GenerationRequest(prompt="a", seed=5, subseed=9, subseed_strength=0.2)
    assert [(varied.seed_of(i), varied.subseed_of(i)) for i in range(2)] == [(5, 9), (5, 10)]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just(KEY),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*UNIT, "pose", "x"]), inner),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(st.sampled_from([*ControlUnit.model_fields, "x"]), ANY) | ANY, max_size=5))
def test_any_control_units_make_a_request_or_sentences(units: list[Any]) -> None:
    try:
        request = GenerationRequest.parse({"prompt": "a", "controls": units})
    except InvalidRequest as refused:
        assert list(refused.problems) == ["controls"]
        told = refused.problems["controls"]
        assert told.endswith(".") and len(told) < 300 and "None" not in told.split(";")[0]
        return
    assert len(request.controls) == len(units)


def test_the_form_finds_each_range() -> None:
    assert limits(FIELDS["num_inference_steps"]) == (1, 150, 1)
    assert limits(FIELDS["guidance_scale"]) == (1, 30, 0.5)
    assert limits(FIELDS["prompt"]) == (None, None, None)
    assert limits(FIELDS["strength"]) == (0, 1, 0.01)
    assert limits(FIELDS["mask_blur"]) == (0, 64, 1)
    assert limits(FIELDS["mask_padding"]) == (0, 256, 4)
    assert {limits(FIELDS[f"extend_{side}"]) for side in ("left", "top", "right", "bottom")} == {(0, 1024, 8)}
    unit = ControlUnit.model_fields
    assert limits(unit["controlnet_conditioning_scale"]) == (0, 2, 0.05)
    assert limits(unit["control_guidance_start"]) == limits(unit["control_guidance_end"]) == (0, 1, 0.01)


def test_the_defaults_are_the_fields_own() -> None:
    request = GenerationRequest(prompt="a", image=KEY)
    assert (request.strength, request.mask_blur, request.mask_padding) == (0.75, 4, 32)
    assert (request.masked_content, request.inpaint_area) == ("original", "whole picture")
    unit = ControlUnit(**UNIT)
    assert (unit.controlnet_conditioning_scale, unit.control_guidance_start) == (1, 0)
    assert (unit.control_guidance_end, unit.resize_mode) == (1, "crop and resize")
