"""The tabs: what each adds to a run and leaves out of it, and the size that suits a picture."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.request import GenerationRequest, InvalidRequest
from ui.tabs import NO_MASK, NO_PICTURE, TABS, fitted, requested, tab_for, tab_of

PICTURE, MASK, OTHER = "a" * 32, "b" * 32, "c" * 32
UNIT = {"model": "canny", "image": OTHER}
FORM = {
    "prompt": "a house",
    "width": 512,
    "strength": 0.5,
    "resize_mode": "just resize",
    "mask_blur": 7,
    "masked_content": "fill",
    "inpaint_area": "only masked",
    "mask_padding": 16,
    "mask_inverted": False,
    "soft_inpainting": True,
    "controls": [UNIT],
}
PAINTERS = {
    "sketch": {"image": OTHER},
    "mask": {"image": PICTURE, "mask": MASK, "extend": {"left": 64, "bottom": 8}},
}


def asked(tab: Any, **changes: Any) -> dict[str, Any]:
    return requested({**FORM, **PAINTERS, "tab": tab, **changes})


@pytest.mark.parametrize("tab", ["text", "control", None, "nonsense", {"tab": "text"}, ["image"], 3])
def test_without_a_painter_no_picture_slips_in(tab: Any) -> None:
    stale = {"image": PICTURE, "mask_image": MASK, "extend_left": 8, "batch": {"keys": [PICTURE]}}
    values = asked(tab, **stale)
    assert values == {"prompt": "a house", "width": 512, "controls": [UNIT]}
    assert GenerationRequest.parse(values).task == "text2image"


@pytest.mark.parametrize("tab", ["image", {"tab": "image"}])
def test_the_image_tab_begins_with_its_picture(tab: Any) -> None:
    values = asked(tab, mask_image=MASK, extend_top=8)
    assert values == {
        "prompt": "a house",
        "width": 512,
        "controls": [UNIT],
        "strength": 0.5,
        "resize_mode": "just resize",
        "image": OTHER,
    }
    assert GenerationRequest.parse(values).task == "image2image"


def test_the_inpaint_tab_adds_mask_and_borders() -> None:
    values = asked("inpaint", image=OTHER, extend_top=8)
    assert values == {
        **FORM,
        "image": PICTURE,
        "mask_image": MASK,
        "extend_left": 64,
        "extend_top": 0,
        "extend_right": 0,
        "extend_bottom": 8,
    }
    request = GenerationRequest.parse(values)
    assert request.task == "inpaint" and request.extension == (64, 0, 0, 8)


def problems(tab: str, **changes: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        asked(tab, **changes)
    return refused.value.problems


@pytest.mark.parametrize("empty", [None, {}, {"image": None}, {"image": ""}, "text", 3, [PICTURE]])
def test_a_missing_picture_is_told(empty: Any) -> None:
    assert (
        NO_PICTURE == "There is no picture yet: drop, paste or choose one, or send one here from the stage."
    )
    assert problems("image", sketch=empty) == {"image": NO_PICTURE}
    assert problems("inpaint", mask=empty) == {"image": NO_PICTURE}


@pytest.mark.parametrize("extend", [None, {}, {"left": 0, "top": None}, {"elsewhere": 8}, [8], "8"])
def test_a_missing_mask_is_told(extend: Any) -> None:
    painted = {"image": PICTURE, "mask": None, "extend": extend}
    assert NO_MASK == "Nothing is painted yet: paint over what is to change, or drag a border outwards."
    assert problems("inpaint", mask=painted) == {"image": NO_MASK}
    everything = asked("inpaint", mask=painted, mask_inverted=True)  # nothing is kept
    assert "mask_image" not in everything and everything["image"] == PICTURE


def test_borders_alone_are_enough_and_nonsense_is_the_requests_to_refuse() -> None:
    values = asked("inpaint", mask={"image": PICTURE, "extend": {"top": 16}})
    assert "mask_image" not in values and GenerationRequest.parse(values).task == "inpaint"
    values = asked("inpaint", mask={"image": PICTURE, "extend": {"top": "far"}})
    with pytest.raises(InvalidRequest, match=r"^Top must be a whole number between 0 and 1024; 'far' was"):
        GenerationRequest.parse(values)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({}, "text"),
        ({"controls": (UNIT,)}, "control"),
        ({"image": PICTURE}, "image"),
        ({"image": PICTURE, "controls": (UNIT,)}, "image"),
        ({"image": PICTURE, "mask_image": MASK}, "inpaint"),
        ({"image": PICTURE, "extend_right": 8, "controls": (UNIT,)}, "inpaint"),
    ],
)
def test_a_run_belongs_to_a_tab(changes: dict[str, Any], key: str) -> None:
    assert tab_for(GenerationRequest(prompt="a", **changes)).key == key


def test_tabs_are_found_by_key() -> None:
    assert [tab_of(tab.key) for tab in TABS] == list(TABS)
    known = set(GenerationRequest.model_fields)
    assert all(set(tab.fields) <= known for tab in TABS)


@pytest.mark.parametrize(
    ("width", "height", "native", "want"),
    [
        (512, 512, 512, (512, 512)),
        (513, 771, 512, (512, 768)),  # its own size: half again as many pixels
        (600, 400, 512, (600, 400)),
        (4000, 3000, 512, (592, 440)),
        (4000, 3000, 1024, (1184, 888)),
        (100, 100, 512, (512, 512)),
        (4000, 100, 512, (2048, 64)),
        (20_000, 8, 1024, (2048, 64)),
        (3000, 90, 512, (2048, 64)),  # as many pixels as wanted, but too wide
        (645, 645, 512, (512, 512)),  # rounded up it would have too many
    ],
)
def test_a_size_suits_a_picture(width: int, height: int, native: int, want: tuple[int, int]) -> None:
    assert fitted(width, height, native) == want
    assert fitted(height, width, native) == want[::-1]


@settings(max_examples=1000)
@given(st.integers(8, 30_000), st.integers(8, 30_000), st.sampled_from([64, 256, 512, 768, 1024, 1536]))
def test_sizes_are_in_range_keep_the_shape_and_settle(width: int, height: int, native: int) -> None:
    across, down = fitted(width, height, native)
    assert all(64 <= side <= 2048 and side % 8 == 0 for side in (across, down))
    assert fitted(across, down, native) == (across, down)
    GenerationRequest(prompt="a", width=across, height=down)
    if max(width, height) <= 32 * min(width, height):  # longer ones cannot be had in 64 to 2048
        # Each side is within half a step of the picture's at one and the same scale.
        least = max((across - 4.001) / width, (down - 4.001) / height)
        most = min((across + 4.001) / width, (down + 4.001) / height)
        assert least <= most
    if max(width, height) <= 8 * min(width, height) and 256 <= native <= 512:
        assert native**2 * 0.45 <= across * down <= native**2 * 1.7
