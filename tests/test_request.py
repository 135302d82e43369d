"""What a request accepts, and the sentence it answers to everything else."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.request import SEED_LIMIT, GenerationRequest, InvalidRequest, limits

FIELDS = GenerationRequest.model_fields


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("prompt", "", "Prompt is empty: write what the picture shows."),
        ("prompt", " \n ", "Prompt is empty: write what the picture shows."),
        ("prompt", "x" * 100_000, "Prompt may be 20,000 characters long; 100,000 were given. Shorten it."),
        ("prompt", ["a"], "Prompt must be text; ['a'] was given."),
        ("width", 0, "Width must be between 64 and 2048; 0 was given."),
        ("width", 7, "Width must be a multiple of 8; 7 was given, 64 or 72 would do."),
        ("height", 100_000, "Height must be between 64 and 2048; 100000 was given."),
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
    ],
)
def test_bad_values_are_answered_in_a_sentence(field: str, value: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        GenerationRequest.parse({"prompt": "a house", field: value})
    assert refused.value.problems == {field: sentence}


def test_unknown_settings_are_named() -> None:
    with pytest.raises(InvalidRequest, match="no setting called 'stepz'; the settings are prompt, "):
        GenerationRequest.parse({"prompt": "a", "stepz": 3})


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as refused:
        GenerationRequest.parse({"prompt": "", "width": 1, "seed": "x"})
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


def test_the_form_finds_each_range() -> None:
    assert limits(FIELDS["num_inference_steps"]) == (1, 150, 1)
    assert limits(FIELDS["guidance_scale"]) == (1, 30, 0.5)
    assert limits(FIELDS["prompt"]) == (None, None, None)
