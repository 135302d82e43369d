"""Every parser of strangers' input, briefly; the long form is `python -m tests.fuzz --inputs 1000000`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import fuzz

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
GIVEN = {
    "infotext": st.text(),
    "prompt": st.text(st.sampled_from("()[]:\\<>,.1-a \nBREAK")),
    "other programs": st.dictionaries(st.sampled_from(fuzz.TEXT_KEYS), st.text()),
    "request": st.dictionaries(st.sampled_from(list(fuzz.GenerationRequest.model_fields)), JSON, max_size=5),
    "question": st.binary(),
    "file": st.binary(),
    "pixels": st.binary(),
}


def test_mutated_inputs_break_no_parser() -> None:
    _, faults = fuzz.run(3000, seed=1)
    assert faults == []


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_inputs_that_nobody_thought_of_break_no_parser(name: str) -> None:
    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(GIVEN[name])
    def check(value: object) -> None:
        assert fuzz.broken(fuzz.TARGETS[name], value) is None

    check()


def test_a_fault_is_found_and_told() -> None:
    """The harness itself: a parser that fails is caught, with its input."""

    def fails(text: str) -> None:
        raise KeyError(text)

    target = fuzz.Target(fuzz.prompt, fails, ValueError, 1)
    assert "KeyError" in str(fuzz.broken(target, "a"))
    assert fuzz.broken(fuzz.Target(fuzz.prompt, fails, KeyError, 1), "a") is None
