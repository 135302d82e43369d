"""Repainting a part: what is outside the mask stays bit for bit, and what is inside is where it belongs."""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.pictures import Original, read_original
from pipelines.repaint import Canvas, canvas_for, cut, matched, spread
from pipelines.request import GenerationRequest, InvalidRequest

EMPTY = "The mask is empty, so nothing would be painted: paint over what is to change, or extend the picture."
MODES = ("just resize", "crop and resize", "resize and fill")
AREAS = ("whole picture", "only masked")


def wanted(width: int = 64, height: int = 64, **changes: Any) -> GenerationRequest:
    given = {"image": "0" * 32, "mask_image": "1" * 32, **changes}
    return GenerationRequest(prompt="a", width=width, height=height, **given)


def noise(width: int, height: int, channels: int = 3, kind: Any = np.uint8) -> np.ndarray:
    draw = np.random.default_rng(3)
    return draw.integers(0, np.iinfo(kind).max, (height, width, channels), dtype=kind, endpoint=True)


def mask(width: int, height: int, *boxes: tuple[int, int, int, int], grey: int = 255) -> Original:
    pixels = np.zeros((height, width, 3), np.uint8)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = grey
    return Original(pixels)


def painted(request: GenerationRequest) -> Image.Image:
    return Image.fromarray(255 - noise(request.width, request.height))


def reach(sigma: int) -> int:
    return int(2.5 * sigma + 0.5)


def band(shape: tuple[int, ...], box: tuple[int, int, int, int], by: int) -> np.ndarray:
    """The box and `by` pixels around it, told from nothing but the numbers."""
    near = np.zeros(shape[:2], bool)
    left, top, right, bottom = box
    near[max(0, top - by) : bottom + by, max(0, left - by) : right + by] = True
    return near


ODD = [(513, 771, 3, np.uint8), (700, 300, 4, np.uint8), (301, 203, 3, np.uint16), (203, 301, 4, np.uint16)]


@pytest.mark.parametrize("blur", [0, 4, 64])
@pytest.mark.parametrize("area", AREAS)
@pytest.mark.parametrize(("width", "height", "channels", "kind"), ODD)
def test_what_is_outside_the_mask_stays_bit_for_bit(
    width: int, height: int, channels: int, kind: Any, area: str, blur: int
) -> None:
    pixels = noise(width, height, channels, kind)
    box = (width // 3, height // 3, width // 2, height // 2)
    request = wanted(64, 128, mask_blur=blur, inpaint_area=area)
    canvas = canvas_for(request, Original(pixels), mask(width, height, box))
    before = pixels.copy()
    result = canvas.with_painted(painted(request))
    assert result.shape == pixels.shape and result.dtype == kind and (pixels == before).all()
    near = band(pixels.shape, box, reach(blur))
    assert (result[~near] == pixels[~near]).all()
    assert canvas.untouched(result) == (~near).sum() == (canvas.amount == 0).sum()
    left, top, right, bottom = box
    inside = (slice(top, bottom), slice(left, right))
    assert (result[inside] != pixels[inside]).any(2).mean() > 0.9
    if channels == 4 and not blur:
        assert (result[inside][..., 3] == np.iinfo(kind).max).all()


@pytest.mark.parametrize("area", AREAS)
@pytest.mark.parametrize("mode", MODES)
def test_every_way_of_resizing_keeps_and_paints(mode: str, area: str) -> None:
    pixels = noise(300, 90)
    corner, middle = (0, 0, 9, 9), (140, 40, 160, 50)
    for size in ((64, 64), (64, 256), (256, 64)):
        request = wanted(*size, resize_mode=mode, inpaint_area=area, mask_blur=0)
        canvas = canvas_for(request, Original(pixels), mask(300, 90, corner, middle))
        result = canvas.with_painted(painted(request))
        near = band(pixels.shape, corner, 0) | band(pixels.shape, middle, 0)
        assert (result[~near] == pixels[~near]).all()
        for left, top, right, bottom in (corner, middle):  # a corner is painted too, though it were cut off
            part = (slice(top, bottom), slice(left, right))
            assert (result[part] != pixels[part]).any(2).mean() > 0.9


def test_a_turned_photograph_keeps_its_turned_pixels() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(noise(90, 60)).save(buffer, "PNG", exif=exif)
    original = read_original(buffer.getvalue())
    request = wanted(inpaint_area="only masked")
    canvas = canvas_for(request, original, mask(60, 90, (20, 30, 30, 40)))
    result = canvas.with_painted(painted(request))
    near = band(result.shape, (20, 30, 30, 40), 10)
    assert result.shape == (90, 60, 3) and (result[~near] == original.pixels[~near]).all()
    assert (original.pixels == np.rot90(noise(90, 60), -1)).all()


@pytest.mark.parametrize("blur", [4, 64])
@pytest.mark.parametrize("content", ["original", "fill"])
def test_a_small_part_of_a_photograph_is_done_fast(blur: int, content: str) -> None:
    pixels = np.tile(noise(400, 300), (10, 10, 1))
    request = wanted(512, 512, mask_blur=blur, inpaint_area="only masked", masked_content=content)
    stencil = mask(4000, 3000, (2000, 1000, 2150, 1100))
    began = time.process_time()
    canvas = canvas_for(request, Original(pixels), stencil)
    canvas.shown(512, 512, fill=content == "fill"), canvas.mask(512, 512), canvas.strengths(512, 512)
    result = canvas.with_painted(painted(request))
    count = canvas.untouched(result)
    assert time.process_time() - began < 2
    near = band(pixels.shape, (2000, 1000, 2150, 1100), reach(blur))
    assert count == (~near).sum() and (result[~near] == pixels[~near]).all()


def test_what_is_inverted_keeps_what_is_painted_over() -> None:
    pixels = noise(80, 60)
    request = wanted(mask_inverted=True, mask_blur=0)
    canvas = canvas_for(request, Original(pixels), mask(80, 60, (20, 20, 50, 40)))
    result = canvas.with_painted(painted(request))
    kept = band(pixels.shape, (20, 20, 50, 40), 0)
    assert (result[kept] == pixels[kept]).all() and canvas.untouched(result) == 30 * 20
    assert (result[~kept] != pixels[~kept]).any(1).mean() > 0.9


def test_a_soft_mask_says_how_far_each_pixel_may_change() -> None:
    pixels = noise(80, 60)
    soft = mask(80, 60, (10, 10, 50, 40), grey=51)
    soft.pixels[20:30, 20:30] = 255
    request = wanted(80, 64, soft_inpainting=True, mask_blur=0, resize_mode="just resize")
    canvas = canvas_for(request, Original(pixels), soft)
    assert canvas.change[15, 15] == pytest.approx(0.2) and canvas.change[25, 25] == 1
    assert canvas.change[5, 5] == canvas.amount[5, 5] == 0
    strengths = canvas.strengths(80, 60)
    assert strengths.shape == (60, 80) and (abs(strengths - canvas.change) < 1e-6).all()
    result = canvas.with_painted(painted(request))
    near = band(pixels.shape, (10, 10, 50, 40), 0)
    assert (result[~near] == pixels[~near]).all()
    assert (np.asarray(canvas.mask(80, 60))[near] == 255).all()


def test_without_soft_inpainting_a_mask_is_black_or_white() -> None:
    greys = mask(80, 60, (10, 10, 40, 40), grey=127)
    greys.pixels[10:20, 10:20] = 128
    canvas = canvas_for(wanted(mask_blur=0), Original(noise(80, 60)), greys)
    assert (canvas.amount > 0).sum() == 100 and set(np.unique(canvas.change)) == {0, 1}


SIDES = st.sampled_from([0, 0, 8, 24, 61])


@settings(deadline=None, max_examples=60)
@given(
    sides=st.tuples(SIDES, SIDES, SIDES, SIDES).filter(any),
    stencil=st.booleans(),
    channels=st.sampled_from([3, 4]),
    kind=st.sampled_from([np.uint8, np.uint16]),
    area=st.sampled_from(AREAS),
    mode=st.sampled_from(MODES),
    blur=st.sampled_from([0, 4]),
)
def test_new_borders_leave_the_old_picture_alone(
    sides: tuple[int, int, int, int],
    stencil: bool,
    channels: int,
    kind: Any,
    area: str,
    mode: str,
    blur: int,
) -> None:
    pixels = noise(75, 53, channels, kind)
    left, top, right, bottom = sides
    request = wanted(
        96,
        64,
        mask_image="1" * 32 if stencil else None,
        **dict(zip(("extend_left", "extend_top", "extend_right", "extend_bottom"), sides)),
        inpaint_area=area,
        resize_mode=mode,
        mask_blur=blur,
    )
    box = (0, 30, 12, 53)
    canvas = canvas_for(request, Original(pixels), mask(75, 53, box) if stencil else None)
    assert canvas.size == (75 + left + right, 53 + top + bottom)
    old = (slice(top, top + 53), slice(left, left + 75))
    assert (canvas.pixels[old] == pixels).all()
    assert canvas.new.sum() == canvas.new.size - 75 * 53 and not canvas.new[old].any()
    result = canvas.with_painted(painted(request))
    kept = ~band(pixels.shape, box, reach(blur)) if stencil else np.ones((53, 75), bool)
    assert (result[old][kept] == pixels[kept]).all()
    assert canvas.untouched(result) == kept.sum()
    if channels == 4:
        assert (result[canvas.new][:, 3] == np.iinfo(kind).max).all()
    rows, columns = np.nonzero(canvas.new)
    x0, y0, x1, y1 = canvas.box  # all that is new is painted: nothing of it stays the mere filling
    assert x0 <= columns.min() and columns.max() < x1 and y0 <= rows.min() and rows.max() < y1


def test_a_changed_pixel_does_not_pass_for_untouched() -> None:
    pixels = noise(80, 60, 4)
    canvas = canvas_for(wanted(), Original(pixels), mask(80, 60, (30, 30, 40, 40)))
    result = canvas.with_painted(painted(wanted()))
    for channel in range(4):
        spoilt = result.copy()
        spoilt[0, 0, channel] ^= 1
        with pytest.raises(RuntimeError, match=r"^Pixels outside the mask were changed\.$"):
            canvas.untouched(spoilt)


def test_a_mask_of_the_same_shape_is_scaled() -> None:
    canvas = canvas_for(wanted(mask_blur=0), Original(noise(400, 300)), mask(100, 75, (25, 25, 50, 50)))
    assert canvas.amount.shape == (300, 400)
    rows, columns = np.nonzero(canvas.amount)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (100, 100, 200, 200)


@pytest.mark.parametrize("size", [(300, 400), (400, 320), (64, 64), (4000, 8)])
def test_a_mask_of_another_shape_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest) as told:
        canvas_for(wanted(), Original(noise(400, 300)), mask(*size, (0, 0, 9, 8)))
    assert told.value.problems == {
        "mask_image": f"The mask ({size[0]} x {size[1]}) has another shape than the picture (400 x 300): "
        "paint it anew, or load one of the picture's own shape."
    }


@pytest.mark.parametrize("area", AREAS)
@pytest.mark.parametrize(
    ("grey", "changes"),
    [(0, {}), (255, {"mask_inverted": True}), (127, {}), (0, {"soft_inpainting": True})],
    ids=["black", "white, inverted", "too faint", "black, soft"],
)
def test_a_mask_that_paints_nothing_is_refused(grey: int, changes: dict[str, Any], area: str) -> None:
    with pytest.raises(InvalidRequest) as told:
        canvas_for(
            wanted(inpaint_area=area, **changes),
            Original(noise(40, 30)),
            mask(40, 30, (0, 0, 40, 30), grey=grey),
        )
    assert told.value.problems == {"mask_image": EMPTY}


@pytest.mark.parametrize("content", [False, True], ids=["as it is", "filled"])
@pytest.mark.parametrize("area", AREAS)
def test_all_of_a_picture_may_be_painted(area: str, content: bool) -> None:
    request = wanted(inpaint_area=area)
    canvas = canvas_for(request, Original(noise(80, 60)), mask(80, 60, (0, 0, 80, 60)))
    assert canvas.shown(64, 64, fill=content).size == canvas.mask(64, 64).size == (64, 64)
    assert canvas.untouched(canvas.with_painted(painted(request))) == 0


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_only_masked_sees_the_mask_its_padding_and_the_right_shape(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(8, 300)), data.draw(st.integers(8, 300))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    pad, blur = data.draw(st.integers(0, 256)), data.draw(st.sampled_from([0, 0, 1, 4, 64]))
    size = data.draw(st.integers(8, 40)) * 8, data.draw(st.integers(8, 40)) * 8
    request = wanted(*size, inpaint_area="only masked", mask_padding=pad, mask_blur=blur)
    canvas = canvas_for(
        request, Original(noise(width, height)), mask(width, height, (left, top, right, bottom))
    )
    x0, y0, x1, y1 = canvas.box
    by = pad + reach(blur)
    assert x0 <= max(0, left - by) and y0 <= max(0, top - by)
    assert x1 >= min(width, right + by) and y1 >= min(height, bottom + by)
    target = size[0] / size[1]
    assert abs((x1 - x0) - (y1 - y0) * target) <= max(1, target) * 0.5 + 1e-9 or (
        abs((x1 - x0) / target - (y1 - y0)) <= max(1, 1 / target) * 0.5 + 1e-9
    )
    for start, end, length in ((x0, x1, width), (y0, y1, height)):
        if end - start <= length:
            assert start >= 0 and end <= length
        else:
            assert start <= 0 and end >= length and abs(-start - (end - length)) <= 1
    result = canvas.with_painted(painted(request))
    near = band(result.shape, (left, top, right, bottom), reach(blur))
    assert (result[~near] == canvas.pixels[~near]).all()
    assert canvas.shown(*size, fill=True).size == canvas.mask(*size).size == size


def test_filled_areas_take_their_surroundings_colours() -> None:
    pixels = np.full((300, 400, 3), (20, 60, 220), np.uint8)
    pixels[100:160, 150:230] = (230, 20, 20)
    stencil = mask(400, 300, (150, 100, 230, 160))
    for area in AREAS:
        request = wanted(400, 304, inpaint_area=area, mask_padding=0, mask_blur=0)
        canvas = canvas_for(request, Original(pixels), stencil)
        own, filled = (np.asarray(canvas.shown(400, 304, fill=fill)).astype(int) for fill in (False, True))
        assert (own[..., 0] > 200).sum() > 2000
        assert (abs(filled - (20, 60, 220)) <= 2).all()


def test_filling_runs_smoothly_from_side_to_side() -> None:
    ramp = np.repeat(np.linspace(0, 60_000, 200)[None, :, None], 100, 0).repeat(3, 2).astype(np.uint16)
    known = np.ones((100, 200), bool)
    known[30:70, 60:140] = False
    hollow = ramp.copy()
    hollow[~known] = 65_535
    filled = spread(hollow, known)
    assert filled.dtype == np.uint16 and (filled[known] == ramp[known]).all()
    assert (abs(filled.astype(int) - ramp) < 12_000).all()
    nothing = np.zeros((100, 200), bool)
    assert (spread(hollow, nothing) == hollow).all()


def seam(off: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What was painted, `off` too bright; the picture, whose right half is new; and where that is."""
    original = np.full((60, 200, 3), 100, np.float32)
    new = np.zeros((60, 200), bool)
    new[:, 100:] = True
    return original + np.float32(off), original, new


def test_the_difference_vanishes_at_the_seam() -> None:
    given, original, new = seam(20)
    result = matched(given, original, new, ~new)
    assert (result[~new] == given[~new]).all()
    assert (abs(result[:, 100] - 100) < 2).all()
    assert (abs(result[:, 199] - 120) < 2).all()
    steps = np.diff(result[:, 100:].mean((0, 2)))
    assert (steps >= -1e-3).all() and steps.max() < 1.5
    same, original, new = seam(0)
    assert (matched(same, original, new, ~new) == same).all()


def test_what_was_repainted_says_nothing_of_the_seam() -> None:
    given, original, new = seam(0)
    kept = ~new
    kept[:, 80:] = False
    original[:, 80:100] = 0  # a dark thing there was masked, and is no more
    assert (abs(matched(given, original, new, kept) - given) < 1e-3).all()
    assert (matched(given, original, new, np.zeros_like(new)) == given).all()


def over(pixels: np.ndarray, ground: int = 255) -> np.ndarray:
    """Pixels as they are seen over white, in 0-255."""
    full = np.iinfo(pixels.dtype).max
    values = pixels.astype(np.float64) / full
    if pixels.shape[2] == 3:
        return values * 255
    return (values[..., :3] * values[..., 3:] + (1 - values[..., 3:])) * ground


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("blur", [0, 4, 20])
@pytest.mark.parametrize("sides", [{}, {"extend_right": 16}])
def test_painting_what_was_there_changes_nothing(
    channels: int, kind: Any, blur: int, sides: dict[str, int]
) -> None:
    pixels = noise(128, 96, channels, kind)
    request = wanted(128 + sides.get("extend_right", 0), 96, mask_blur=blur, **sides)
    canvas = canvas_for(request, Original(pixels), mask(128, 96, (40, 30, 70, 60)))
    result = canvas.with_painted(canvas.shown(request.width, 96, fill=False))
    seen = slice(0, 128)
    rounded = 1.01 if channels == 3 else 1.25  # alpha is rounded too
    assert (abs(over(result[:, seen]) - over(pixels)) <= rounded).all()


def test_clear_parts_lend_no_colour_to_what_is_painted() -> None:
    pixels = np.zeros((60, 80, 4), np.uint8)  # black, but nobody can see it
    request = wanted(80, 64, mask_blur=4)
    canvas = canvas_for(request, Original(pixels), mask(80, 60, (30, 20, 50, 40)))
    result = canvas.with_painted(Image.new("RGB", (80, 64), (200, 100, 50)))
    seen = result[result[..., 3] > 0]
    assert len(seen) > 20 * 20 and (seen[:, :3] == (200, 100, 50)).all()


@pytest.mark.parametrize("box", [(0, 0, 5, 5), (75, 0, 80, 5), (0, 55, 5, 60), (75, 55, 80, 60)])
def test_masks_in_corners(box: tuple[int, int, int, int]) -> None:
    pixels = noise(80, 60)
    for size in ((64, 64), (128, 64), (512, 512)):
        request = wanted(*size, inpaint_area="only masked", mask_blur=2)
        canvas = canvas_for(request, Original(pixels), mask(80, 60, box))
        shown = np.asarray(canvas.mask(*size)) >= 128
        assert 0 < shown.mean() < 0.1
        corner = (0 if box[1] == 0 else -1, 0 if box[0] == 0 else -1)
        beyond = canvas.box[0] < 0 or canvas.box[1] < 0
        assert beyond or shown[corner]
        result = canvas.with_painted(painted(request))
        near = band(pixels.shape, box, reach(2))
        assert (result[~near] == pixels[~near]).all() and (result[near] != pixels[near]).any()


def test_what_is_painted_comes_back_to_its_place() -> None:
    pixels = np.zeros((300, 400, 3), np.uint8)
    request = wanted(256, 256, inpaint_area="only masked", mask_blur=0, mask_padding=16)
    canvas = canvas_for(request, Original(pixels), mask(400, 300, (100, 100, 180, 180)))
    left, top, right, bottom = canvas.box
    assert (left, top, right, bottom) == (84, 84, 196, 196)
    view = Image.new("RGB", (400, 300))
    view.paste((250, 250, 250), (120, 130, 140, 150))
    result = canvas.with_painted(view.crop(canvas.box).resize((256, 256), Image.Resampling.LANCZOS))
    rows, columns = np.nonzero(result[..., 0] > 125)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (120, 130, 140, 150)


def test_cutting_beyond_the_picture() -> None:
    pixels = noise(5, 4)
    assert (cut(pixels, (1, 1, 4, 3)) == pixels[1:3, 1:4]).all()
    grown = cut(pixels, (-2, -1, 8, 6))
    assert grown.shape == (7, 10, 3) and (grown[1:5, 2:7] == pixels).all()
    assert (grown[0, :3] == pixels[0, 0]).all() and (grown[6, 6:] == pixels[3, 4]).all()
    assert (cut(pixels[..., 0], (-2, 0, 5, 4), outside=0)[:, :2] == 0).all()


def test_a_canvas_knows_its_size() -> None:
    canvas = canvas_for(wanted(extend_top=8), Original(noise(40, 30)), mask(40, 30, (3, 3, 9, 9)))
    assert isinstance(canvas, Canvas) and canvas.size == (40, 38)


@pytest.mark.parametrize("turns", range(4))
def test_filling_looks_around_on_every_side(turns: int) -> None:
    pixels = np.full((300, 300, 3), (0, 0, 250), np.uint8)
    pixels[:, 150:] = (0, 250, 0)
    request = wanted(104, 104, inpaint_area="only masked", mask_padding=0, mask_blur=0)
    canvas = canvas_for(request, Original(np.rot90(pixels, turns)), mask(300, 300, (98, 98, 202, 202)))
    filled = np.rot90(np.asarray(canvas.shown(104, 104, fill=True)), -turns).astype(int)
    assert (filled[:, 2, 2] > filled[:, 2, 1] + 100).all()
    assert (filled[:, -3, 1] > filled[:, -3, 2] + 100).all()
