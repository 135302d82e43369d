"""The painter in a real headless Chromium: real pointer, touch and key events, and the masks that arrive.

What a stroke should have painted is worked out here from its geometry, pixel by pixel.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Locator, expect

from tests.support.browser import Newcomer, violations
from tests.support.easel import FRAMES, Easel, Point, Shelf, picture, served, tell

pytestmark = pytest.mark.browser


def grid(width: int, height: int) -> tuple[Any, Any]:
    """The middles of all pixels: x and y."""
    return np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)


def swept(points: Sequence[Point], radius: float, width: int, height: int) -> Any:
    """Where a round brush comes along the lines between points."""
    x, y = grid(width, height)
    near = np.full((height, width), np.inf)
    for (ax, ay), (bx, by) in itertools.pairwise([*points, points[-1]]):
        dx, dy = bx - ax, by - ay
        part = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy or 1), 0, 1)
        near = np.minimum(near, np.hypot(x - ax - part * dx, y - ay - part * dy))
    return near <= radius


def enclosed(points: Sequence[Point], width: int, height: int) -> Any:
    image = Image.new("1", (8 * width, 8 * height))
    ImageDraw.Draw(image).polygon([(8 * x - 0.5, 8 * y - 0.5) for x, y in points], fill=1)
    return np.asarray(image).reshape(height, 8, width, 8).mean(axis=(1, 3)) >= 0.5


def alike(mask: Any, expected: Any) -> float:
    """Intersection over union of a mask, from its half on, with where it should be."""
    found = mask > 127 if mask.dtype == np.uint8 else mask
    return float((found & expected).sum() / max(1, (found | expected).sum()))


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture(scope="module")
def address(shelf: Shelf) -> Iterator[str]:
    with served(shelf) as url:
        yield url


Open = Callable[..., Any]


@pytest.fixture
def visit(newcomer: Newcomer, address: str, shelf: Shelf) -> Open:
    """Opens the page at the painter of a kind; at the end no error was thrown in it."""

    @contextmanager
    def open_page(kind: str = "mask", size: tuple[int, int] = (900, 1000), **options: Any) -> Iterator[Easel]:
        shelf.problem = ""
        with newcomer(*size, **options) as page:
            page.goto(address)
            page.get_by_role("tab", name=kind).click()
            easel = Easel(page, shelf, kind)
            expect(easel.root).to_be_visible()
            yield easel

    return open_page


@pytest.mark.parametrize("side", [512, 1024, 2048])
def test_the_mask_that_arrives_is_what_the_hand_drew(visit: Open, side: int) -> None:
    with visit() as easel:
        easel.give(side, side * 3 // 4)
        easel.hard()
        points = easel.drag((0.2, 0.3), (0.5, 0.8), (0.85, 0.25))
        mask = easel.mask()
        assert mask.shape == (side * 3 // 4, side)
        size, radius = (side, side * 3 // 4), easel.size() / 2
        assert alike(mask, swept(points, radius, *size)) >= 0.99
        assert (mask[swept(points, radius - 1, *size)] == 255).all()  # a hard brush has but a smooth edge
        assert (mask[~swept(points, radius + 1, *size)] == 0).all()


def test_soft_and_weak_brushes_give_grey(visit: Open) -> None:
    with visit() as easel:
        easel.give(512, 512)
        easel.slide("Hardness", 0)
        easel.slide("Size", 0.6)
        easel.slide("Strength", 0.5)
        (at,) = easel.drag((0.5, 0.5))
        mask, radius = easel.mask(), easel.size() / 2
        x, y = grid(512, 512)
        far = np.hypot(x - at[0], y - at[1])
        assert abs(int(mask[far < 3].max()) - 128) <= 2
        assert abs(float(mask[abs(far - radius / 2) < 1].mean()) - 64) < 4
        assert not mask[far > radius + 1].any()
        assert len(np.unique(mask)) > 100  # not reduced to a few steps
        easel.drag((0.5, 0.5))
        assert abs(int(easel.mask()[far < 3].max()) - 192) <= 2  # the second layer covers half of the rest


def test_a_picture_too_large_for_the_painter_gets_a_mask_of_its_shape(visit: Open) -> None:
    with visit() as easel:
        easel.give(3000, 1500)
        easel.hard()
        points = easel.drag((0.3, 0.5), (0.7, 0.5))
        mask = easel.mask()
        assert mask.shape == (1024, 2048)
        unit = 2048 / 3000
        expected = swept([(x * unit, y * unit) for x, y in points], easel.size() / 2 * unit, 2048, 1024)
        assert alike(mask, expected) >= 0.99


def test_fifty_strokes_are_undone_and_done_again(visit: Open) -> None:
    with visit() as easel:
        easel.give(512, 512)
        easel.hard()
        easel.slide("Size", 0.2)
        counts = []
        for count in range(60):
            easel.click(0.1 + 0.08 * (count % 10), 0.1 + 0.12 * (count // 10))
            if count in (9, 59):
                counts.append(easel.mask())
        for _ in range(50):
            easel.page.keyboard.press("Control+z")
        assert np.array_equal(easel.mask(), counts[0])
        for _ in range(25):
            easel.page.keyboard.press("Control+y")
            easel.page.keyboard.press("Control+Shift+z")
        assert np.array_equal(easel.mask(), counts[1])
        for _ in range(60):
            easel.tool("undo")
        assert easel.value()["mask"] is None
        expect(easel.root.locator("[data-deed=undo]")).to_be_disabled()


def test_the_eraser_and_the_right_button_take_away(visit: Open) -> None:
    with visit() as easel:
        easel.give(512, 512)
        easel.hard()
        line = easel.drag((0.2, 0.5), (0.8, 0.5))
        radius = easel.size() / 2
        easel.page.keyboard.press("e")
        gone = easel.drag((0.5, 0.2), (0.5, 0.8))
        left = swept(line, radius, 512, 512) & ~swept(gone, radius, 512, 512)
        assert alike(easel.mask(), left) >= 0.98
        easel.page.keyboard.press("x")
        expect(easel.root.locator("[data-deed=brush]")).to_have_attribute("aria-pressed", "true")
        gone = easel.drag((0.3, 0.2), (0.3, 0.8), button="right")
        left &= ~swept(gone, radius, 512, 512)
        assert alike(easel.mask(), left) >= 0.98


def test_paint_lands_under_the_pointer_at_any_zoom(visit: Open) -> None:
    with visit() as easel:
        easel.give(1024, 768)
        easel.hard()
        place = easel.place(0.3, 0.6)
        before = easel.pixel(place)
        easel.page.mouse.move(*place)
        for _ in range(10):
            easel.page.mouse.wheel(0, -120)
        expect(easel.root.locator(".percent")).not_to_contain_text(f"{round(easel.scale() * 100)}%")
        zoomed = int(easel.root.locator(".percent").inner_text().rstrip("%")) / 100
        assert zoomed > 4 * easel.scale()
        easel.page.mouse.down()
        easel.page.mouse.move(place[0] + 100, place[1] - 50, steps=4)
        easel.page.mouse.up()
        after = (before[0] + 100 / zoomed, before[1] - 50 / zoomed)
        assert alike(easel.mask(), swept([before, after], easel.size() / 2, 1024, 768)) >= 0.98
        # Space and a drag move the picture: the same pixel is then 60 places further.
        easel.page.keyboard.down(" ")
        easel.page.mouse.move(*place)
        easel.page.mouse.down()
        easel.page.mouse.move(place[0] + 60, place[1], steps=3)
        easel.page.mouse.up()
        easel.page.keyboard.up(" ")
        easel.tool("clear")
        easel.page.mouse.click(place[0] + 60, place[1])
        assert alike(easel.mask(), swept([before], easel.size() / 2, 1024, 768)) >= 0.97


def test_one_finger_paints_and_two_zoom(visit: Open) -> None:
    with visit(has_touch=True) as easel:
        easel.give(512, 512)
        easel.hard()
        session = easel.page.context.new_cdp_session(easel.page)

        def touch(kind: str, *places: Point) -> None:
            points = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(places)]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        places = [easel.place(0.2 + 0.1 * step, 0.3 + 0.05 * step) for step in range(6)]
        touch("touchStart", places[0])
        for place in places[1:]:
            touch("touchMove", place)
        touch("touchEnd")
        expected = swept([easel.pixel(place) for place in places], easel.size() / 2, 512, 512)
        mask = easel.mask()
        assert alike(mask, expected) >= 0.98
        x, y = easel.place(0.5, 0.5)
        touch("touchStart", (x - 30, y))
        touch("touchStart", (x - 30, y), (x + 30, y))
        for wide in range(40, 130, 10):
            touch("touchMove", (x - wide, y), (x + wide, y))
        touch("touchEnd")
        shown = int(easel.root.locator(".percent").inner_text().rstrip("%")) / 100
        assert shown == pytest.approx(4 * easel.scale(), rel=0.05)
        assert np.array_equal(easel.mask(), mask)  # the first finger's dot was taken back


def test_a_pen_paints_as_wide_as_it_is_pressed(visit: Open) -> None:
    with visit() as easel:
        easel.give(512, 512)
        easel.hard()
        easel.slide("Size", 0.5)
        session = easel.page.context.new_cdp_session(easel.page)
        for part, force in ((0.3, 0.25), (0.7, 1.0)):
            x, y = easel.place(part, 0.5)
            for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
                event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
                session.send("Input.dispatchMouseEvent", {**event, "pointerType": "pen", "force": force})
        mask = easel.mask() > 127
        light, strong = mask[:, :256].sum(), mask[:, 256:].sum()
        assert math.sqrt(strong / light) == pytest.approx(4, rel=0.1)


def test_lines_are_straight(visit: Open) -> None:
    with visit() as easel:
        easel.give(512, 512)
        easel.hard()
        radius = easel.size() / 2
        first = easel.click(0.2, 0.2)
        easel.page.keyboard.down("Shift")
        second = easel.click(0.8, 0.3)
        drawn = swept([first, second], radius, 512, 512)
        assert alike(easel.mask(), drawn) >= 0.99
        way = easel.drag((0.2, 0.6), (0.5, 0.4), (0.8, 0.7))
        easel.page.keyboard.up("Shift")
        drawn |= swept([way[0], way[-1]], radius, 512, 512)
        assert alike(easel.mask(), drawn) >= 0.99
        easel.page.keyboard.press("l")
        way = easel.drag((0.1, 0.9), (0.3, 0.5), (0.9, 0.9))
        drawn |= swept([way[0], way[-1]], radius, 512, 512)
        assert alike(easel.mask(), drawn) >= 0.99


def test_lasso_and_rectangle_fill_what_they_go_round(visit: Open) -> None:
    with visit() as easel:
        easel.give(512, 512)
        easel.page.mouse.click(*easel.place(0.5, 0.5))
        easel.page.keyboard.press("Control+z")
        easel.page.keyboard.press("s")
        star = [
            (0.5, 0.1),
            (0.6, 0.4),
            (0.9, 0.5),
            (0.6, 0.6),
            (0.7, 0.9),
            (0.4, 0.7),
            (0.2, 0.8),
            (0.3, 0.5),
        ]
        points = easel.drag(*star)
        drawn = enclosed(points, 512, 512)
        assert alike(easel.mask(), drawn) >= 0.99
        easel.page.keyboard.press("r")
        (left, top), (right, bottom) = easel.drag((0.05, 0.05), (0.3, 0.2))
        x, y = grid(512, 512)
        box = (x > round(left)) & (x < round(right)) & (y > round(top)) & (y < round(bottom))
        mask = easel.mask()
        assert alike(mask, drawn | box) >= 0.99
        assert (mask[box] == 255).all()
        easel.page.keyboard.down("Alt")
        easel.drag((0.05, 0.05), (0.3, 0.2))
        easel.page.keyboard.up("Alt")
        assert alike(easel.mask(), drawn & ~box) >= 0.99


def test_the_bucket_fills_what_a_line_encloses(visit: Open) -> None:
    with visit() as easel:
        easel.give(512, 384)
        points = easel.drag((0.2, 0.2), (0.8, 0.25), (0.7, 0.8), (0.25, 0.7), (0.2, 0.2))
        easel.page.keyboard.press("g")
        easel.click(0.5, 0.5)
        mask = easel.mask()
        drawn = enclosed(points, 512, 384) | swept(points, easel.size() / 2, 512, 384)
        assert alike(mask, drawn) >= 0.98
        assert (mask[enclosed(points, 512, 384)] == 255).all()  # no pale seam along the line
        easel.page.keyboard.down("Alt")
        easel.click(0.5, 0.5)
        easel.page.keyboard.up("Alt")
        assert not easel.mask().any()


@pytest.mark.parametrize("pixels", [1, 8, 20])
def test_growing_and_shrinking_are_true_to_the_pixel(visit: Open, pixels: int) -> None:
    with visit() as easel:
        easel.give(512, 384)
        easel.page.mouse.click(*easel.place(0.5, 0.5))
        easel.page.keyboard.press("Control+z")
        easel.page.keyboard.press("r")
        easel.drag((0.3, 0.3), (0.6, 0.7))
        before = easel.mask() > 127
        ys, xs = np.nonzero(before)
        x, y = grid(512, 384)
        dx = np.maximum(0, np.maximum(xs.min() + 0.5 - x, x - xs.max() - 0.5))
        dy = np.maximum(0, np.maximum(ys.min() + 0.5 - y, y - ys.max() - 0.5))
        easel.root.locator(".pixels").fill(str(pixels))
        easel.tool("grow")
        assert np.array_equal(easel.mask() > 127, np.hypot(dx, dy) <= pixels + 0.5)
        easel.tool("undo")
        easel.tool("shrink")
        inner = before.copy()
        inner[: ys.min() + pixels] = inner[ys.max() + 1 - pixels :] = False
        inner[:, : xs.min() + pixels] = inner[:, xs.max() + 1 - pixels :] = False
        assert np.array_equal(easel.mask() > 127, inner)


def test_shrinking_leaves_the_border_of_the_picture_alone(visit: Open) -> None:
    with visit() as easel:
        easel.give(256, 256)
        easel.tool("invert")
        easel.tool("shrink")
        assert (easel.mask() == 255).all()


def test_invert_keeps_greys_and_clear_can_be_undone(visit: Open) -> None:
    with visit() as easel:
        easel.give(512, 512)
        easel.slide("Hardness", 0.2)
        easel.drag((0.3, 0.3), (0.7, 0.6))
        mask = easel.mask()
        easel.tool("invert")
        assert np.array_equal(easel.mask(), 255 - mask)
        easel.tool("clear")
        assert easel.value()["mask"] is None
        easel.tool("undo")
        easel.tool("undo")
        assert np.array_equal(easel.mask(), mask)


def load(easel: Easel, deed: str, name: str, data: bytes) -> None:
    with easel.page.expect_file_chooser() as chooser:
        easel.tool(deed)
    chooser.value.set_files({"name": name, "mimeType": "image/png", "buffer": data})


def test_masks_are_loaded_and_saved_as_files(visit: Open, tmp_path: Path) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (192, 1))
    out = io.BytesIO()
    Image.fromarray(ramp).save(out, "PNG")
    with visit() as easel:
        easel.give(256, 192)
        load(easel, "load", "ramp.png", out.getvalue())
        expect(easel.root.locator("[data-deed=undo]")).to_be_enabled()
        page = easel.page
        page.wait_for_function("document.querySelector('#mask .aloud').textContent === 'Mask loaded.'")
        assert np.array_equal(easel.mask(), ramp)
        with page.expect_download() as download:
            easel.tool("save")
        with Image.open(download.value.path()) as saved:
            assert (saved.mode, saved.size) == ("L", (256, 192))
            assert np.array_equal(np.asarray(saved), ramp)
        load(easel, "load", "large.png", picture(512, 384, (255, 255, 255)))
        expect(easel.root.locator(".alert")).to_be_hidden()
        page.wait_for_function(FRAMES)
        assert (easel.mask() == 255).all()  # twice as large, of the same shape: scaled
        other = (picture(300, 100), "300 × 100, the picture 256 × 192")
        for data, words in (other, (b"nothing", "cannot be read")):
            load(easel, "load", "other.png", data)
            expect(easel.root.get_by_role("alert")).to_contain_text(words)
        assert (easel.mask() == 255).all()


def test_borders_are_dragged_and_moved_by_keys(visit: Open) -> None:
    with visit() as easel:
        easel.give(512, 512)
        handle = easel.root.get_by_role("slider", name="Extend right")
        box = handle.bounding_box()
        assert box
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        way = round(100 * easel.scale())
        easel.page.mouse.move(x, y)
        easel.page.mouse.down()
        easel.page.mouse.move(x + way, y, steps=5)
        easel.page.mouse.up()
        expected = round(way / easel.scale() / 8) * 8
        expect(handle).to_have_attribute("aria-valuenow", str(expected))
        assert easel.value()["extend"] == {"left": 0, "top": 0, "right": expected, "bottom": 0}
        expect(easel.root.locator(".room")).to_contain_text(f"{512 + expected} × 512")
        top = easel.root.get_by_role("slider", name="Extend top")
        top.focus()
        steps: list[str] = []
        easel.page.expose_function("stepped", lambda name: steps.append(name))
        easel.page.evaluate("document.addEventListener('darkroom:step', (event) => stepped(event.detail))")
        for key in ("ArrowUp", "ArrowUp", "PageUp", "ArrowDown"):
            easel.page.keyboard.press(key)
        expect(top).to_have_attribute("aria-valuenow", "72")
        easel.page.keyboard.press("End")
        expect(top).to_have_attribute("aria-valuenow", "1024")
        easel.page.keyboard.press("Control+z")
        expect(top).to_have_attribute("aria-valuenow", "72")
        assert easel.value()["extend"]["top"] == 72
        easel.root.get_by_role("button", name="reset").click()
        assert set(easel.told("value.extend?.top + value.extend?.right === 0")["extend"].values()) == {0}
        assert steps == []  # the stage did not turn its frames meanwhile


def test_the_program_is_told_when_the_hand_rests_and_can_wait_for_it(visit: Open) -> None:
    with visit() as easel:
        key = easel.give(512, 512)
        easel.told(f"value.image === '{key}' && value.mask === null")
        easel.drag((0.2, 0.3), (0.7, 0.6))
        value = easel.told("value.mask")
        assert value["mask"] == value["shown"]["mask"]["key"]
        assert easel.shelf.image(value["mask"]).size == (value["width"], value["height"]) == (512, 512)
        easel.drag((0.2, 0.8), (0.7, 0.8))
        waited = easel.page.evaluate(
            """async () => {
                const wait = [];
                document.dispatchEvent(new CustomEvent('darkroom:settle', { detail: { wait } }));
                return Promise.all(wait);
            }"""
        )
        assert len(waited) == 1 and waited[0]["mask"] != value["mask"]
        assert easel.value() == waited[0]


def test_strokes_zoom_and_undo_outlive_their_place_in_the_page(visit: Open) -> None:
    with visit() as easel:
        page = easel.page
        key = easel.give(512, 512)
        easel.drag((0.2, 0.3), (0.7, 0.6))
        first = easel.mask()
        easel.drag((0.2, 0.8), (0.7, 0.8))
        page.click("#hide")  # at once: the second stroke may not have been sent yet
        expect(easel.root).to_have_count(0)
        page.click("#show")
        expect(easel.root).to_be_visible()
        both = easel.mask()
        assert (both[first > 127] > 127).all()
        assert both.sum() > 1.5 * first.sum()
        assert easel.value()["image"] == key
        easel.tool("undo")
        assert np.array_equal(easel.mask(), first)
        page.wait_for_function(FRAMES)
        points = easel.drag((0.2, 0.9), (0.7, 0.9))  # and it is painted on as before
        assert alike(easel.mask(), (first > 127) | swept(points, easel.size() / 2, 512, 512)) >= 0.98
        assert easel.told(f"value.mask === '{easel.value()['mask']}'")["image"] == key


EMBEDDED = """async (shown) => {
    const { Painter } = await import(new URL('darkroom/js/painter.js', document.baseURI));
    const host = document.createElement('div');
    host.id = 'embedded';
    document.querySelector('.gradio-container').append(host);
    window.sent = [];
    const keep = async (blob, name) => {
        window.sent.push(new Uint8Array(await blob.arrayBuffer()));
        return { key: `s${window.sent.length}`, width: 256, height: 256, url: URL.createObjectURL(blob) };
    };
    window.painter = new Painter(host, { mode: 'mask', keep, onChange: (value) => (window.changed = value) });
    await window.painter.show(shown);
    return window.painter.value;
}"""


def test_what_the_program_sends_is_shown_and_painted_on(visit: Open) -> None:
    with visit() as easel:
        image = easel.shelf.put(picture(256, 256))
        ramp = io.BytesIO()
        Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1))).save(ramp, "PNG")
        mask = easel.shelf.put(ramp.getvalue())
        shown = {"image": image, "mask": mask, "extend": {"left": 16, "top": 0}}
        value = easel.page.evaluate(EMBEDDED, shown)
        assert value == {
            "image": image["key"],
            "mask": mask["key"],
            "extend": {"left": 16, "top": 0, "right": 0, "bottom": 0},
            "width": 256,
            "height": 256,
        }
        assert easel.page.evaluate("painter.flush().then(() => sent.length)") == 0  # nothing is new
        easel.page.locator("#embedded [data-deed=invert]").click()
        assert easel.page.evaluate("painter.flush().then(({ mask }) => mask)") == "s1"
        assert easel.page.evaluate("changed.mask") == "s1"
        data = bytes(easel.page.evaluate("[...sent[0]]"))
        with Image.open(io.BytesIO(data)) as sent:
            assert np.array_equal(np.asarray(sent)[0], np.arange(256)[::-1])
        assert easel.page.evaluate("painter.show({ image: null }).then(() => painter.value.image)") is None
        easel.page.evaluate("painter.destroy()")
        expect(easel.page.locator("#embedded > *")).to_have_count(0)


def test_a_problem_stands_in_the_painter_and_nothing_is_lost(visit: Open) -> None:
    with visit() as easel:
        easel.give(256, 256)
        easel.shelf.problem = "The disk is full. Delete some pictures and try again."
        points = easel.drag((0.3, 0.3), (0.7, 0.7))
        alert = easel.root.get_by_role("alert")
        expect(alert).to_have_text(easel.shelf.problem)
        assert easel.value()["problem"] == easel.shelf.problem
        easel.shelf.problem = ""
        assert alike(easel.mask(), swept(points, easel.size() / 2, 256, 256)) >= 0.95
        expect(alert).to_be_hidden()
        load(easel, "replace", "notes.txt", b"no picture")
        expect(alert).to_be_visible()
        assert easel.mask().any()


def test_the_keys_alone_choose_move_and_paint(visit: Open) -> None:
    with visit() as easel:
        easel.give(512, 512)
        easel.hard()
        page = easel.page
        stopped: list[str] = []
        page.expose_function("heard", lambda name: stopped.append(name))
        listen = "(name) => document.addEventListener('darkroom:' + name, () => heard(name))"
        for name in ("step", "stop"):
            page.evaluate(listen, name)
        easel.area.focus()
        said = easel.root.get_by_role("status")
        page.keyboard.press("b")
        expect(said).to_have_text("Brush, 32 pixels")
        page.keyboard.press("]")
        expect(said).to_have_text("Brush, 35 pixels")
        page.keyboard.press("[")
        page.keyboard.press("{")
        expect(said).to_have_text("Hardness 90%")
        page.keyboard.press("}")
        page.wait_for_function(FRAMES)
        size = easel.size()
        assert size == 32
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowDown")
        expect(said).to_have_text(f"{256 + size}, 257")
        expect(easel.root.locator(".ring.keyed")).to_be_visible()
        page.keyboard.press("Enter")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
        page.keyboard.press(" ")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Shift+Enter")  # a line from the last
        other = (256 - size, 257 - size)
        drawn = swept([(256 + size, 257)], size / 2, 512, 512)
        drawn |= swept([other, (other[0], other[1] - 2 * size)], size / 2, 512, 512)
        assert alike(easel.mask(), drawn) >= 0.99
        page.keyboard.press("r")
        page.keyboard.press("Enter")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        x, y = grid(512, 512)
        corner = (other[0], other[1] - 2 * size)
        drawn |= (x > corner[0]) & (x < corner[0] + size) & (y < corner[1]) & (y > corner[1] - size)
        assert alike(easel.mask(), drawn) >= 0.99
        assert stopped == []


def test_a_sketch_is_painted_into_the_picture_and_comes_off_again(visit: Open) -> None:
    with visit("sketch") as easel:
        key = easel.give(512, 384)
        easel.root.locator(".swatch[title='#3f8f5a']").click()
        points = easel.drag((0.2, 0.5), (0.8, 0.5))
        value = easel.value()
        assert (value["mask"], value["width"]) == (None, 512)
        flat = easel.painted()
        green = (flat == (0x3F, 0x8F, 0x5A)).all(axis=2)
        inner = easel.size() / 2 - 0.5  # within the smooth edge
        assert alike(green, swept(points, inner, 512, 384)) >= 0.97
        assert (flat[0, 0] == (40, 90, 160)).all()
        easel.page.keyboard.down("Alt")
        easel.click(0.05, 0.05)
        easel.page.keyboard.up("Alt")
        expect(easel.root.locator("input.colour")).to_have_value("#285aa0")
        easel.page.keyboard.press("e")
        easel.drag((0.2, 0.5), (0.5, 0.5))
        half = (easel.painted() == (0x3F, 0x8F, 0x5A)).all(axis=2).sum()
        assert 0 < half < 0.7 * green.sum()
        easel.tool("clear")
        assert easel.value()["image"] == key
        easel.tool("undo")
        easel.tool("undo")
        assert np.array_equal(easel.painted(), flat)


def test_half_opaque_colour_lies_over_the_picture(visit: Open) -> None:
    with visit("sketch") as easel:
        easel.give(256, 256)
        easel.root.locator(".swatch[title=White]").click()
        easel.slide("Opacity", 0.5)
        point = easel.click(0.5, 0.5)
        flat = easel.painted()
        assert np.abs(flat[int(point[1]), int(point[0])].astype(int) - (148, 173, 208)).max() <= 2


def test_a_control_map_begins_with_an_empty_sheet_and_white(visit: Open) -> None:
    with visit("map") as easel:
        easel.root.get_by_role("button", name="empty sheet").click()
        expect(easel.root.locator(".foot")).to_contain_text("1024 × 1024")
        easel.width = easel.height = 1024
        easel.page.wait_for_function(FRAMES)
        points = easel.drag((0.2, 0.2), (0.8, 0.7))
        flat = easel.painted()
        assert alike(flat[..., 0], swept(points, easel.size() / 2, 1024, 1024)) >= 0.99
        easel.page.keyboard.press("g")
        easel.root.locator(".swatch[title=Black]").click()
        easel.click(*((points[0][0] + 1) / 1024, (points[0][1] + 1) / 1024))
        assert easel.painted().max() < 140  # only the smooth edge is left, if at all


def test_large_fills_the_window_and_escape_leaves_without_stopping_a_run(visit: Open) -> None:
    with visit() as easel:
        easel.give(512, 512)
        easel.hard()
        easel.drag((0.2, 0.2), (0.5, 0.5))
        before = easel.mask()
        stopped: list[str] = []
        easel.page.expose_function("heard", lambda: stopped.append("stop"))
        easel.page.evaluate("document.addEventListener('darkroom:stop', () => heard())")
        easel.tool("large")
        easel.page.wait_for_function(FRAMES)
        assert easel.root.bounding_box() == {"x": 0, "y": 0, "width": 900, "height": 1000}
        points = easel.drag((0.5, 0.8), (0.8, 0.8))
        easel.page.keyboard.press("Escape")
        expect(easel.root).not_to_have_class("large")
        assert easel.page.evaluate("!document.querySelector('.painter.large')")
        expected = (before > 127) | swept(points, easel.size() / 2, 512, 512)
        assert alike(easel.mask(), expected) >= 0.99
        assert stopped == []
        easel.page.keyboard.press("Escape")
        easel.page.wait_for_function(FRAMES)
        assert stopped == ["stop"]  # now it is the page's again


def test_a_picture_sent_to_a_painter_that_was_never_open_waits_there(visit: Open) -> None:
    with visit() as easel:
        image = easel.shelf.put(picture(320, 200))
        tell(easel.page, "give", {"to": "map", "image": image})
        easel.page.get_by_role("tab", name="map").click()
        expect(easel.page.locator("#map .painter .foot")).to_contain_text("320 × 200")
        easel.page.get_by_role("tab", name="mask").click()
        expect(easel.root.locator(".teach")).to_be_visible()


SHOWN = """([x, y]) => {
    const canvas = document.querySelector('#mask .front');
    const box = canvas.getBoundingClientRect();
    const unit = canvas.width / box.width;
    return canvas.getContext('2d').getImageData((x - box.x) * unit, (y - box.y) * unit, 1, 1).data[3];
}"""


def test_the_blur_of_the_mask_is_shown_but_not_sent(visit: Open) -> None:
    with visit() as easel:
        easel.give(512, 512)
        easel.hard()
        easel.drag((0.3, 0.5), (0.7, 0.5))
        mask = easel.mask()
        beyond = easel.place(0.5, 0.5 + (easel.size() / 2 + 6) / 512)
        assert easel.page.evaluate(SHOWN, beyond) == 0
        tell(easel.page, "soft", {"to": "mask", "pixels": 8})
        easel.page.wait_for_function(f"(place) => ({SHOWN})(place) > 20", arg=beyond)
        assert np.array_equal(easel.mask(), mask)
        tell(easel.page, "soft", {"to": "mask", "pixels": 0})
        easel.page.wait_for_function(f"(place) => ({SHOWN})(place) === 0", arg=beyond)


def test_a_picture_that_comes_smaller_than_it_is_counts_as_large_as_it_is(visit: Open) -> None:
    with visit() as easel:
        image = {**easel.shelf.put(picture(256, 192)), "width": 1024, "height": 768}
        tell(easel.page, "give", {"to": "mask", "image": image})
        expect(easel.root.locator(".foot")).to_contain_text("1024 × 768")
        easel.width, easel.height = 1024, 768
        easel.page.wait_for_function(FRAMES)
        easel.hard()
        points = easel.drag((0.2, 0.3), (0.8, 0.6))
        assert alike(easel.mask(), swept(points, easel.size() / 2, 1024, 768)) >= 0.99


FILES = """async ([kind, bytes]) => {
    const bag = new DataTransfer();
    bag.items.add(new File([Uint8Array.from(bytes)], 'it.png', { type: 'image/png' }));
    const box = document.querySelector('#mask .screen-box');
    const details = { bubbles: true, cancelable: true };
    const event = kind === 'paste'
        ? new ClipboardEvent('paste', { ...details, clipboardData: bag })
        : new DragEvent('drop', { ...details, dataTransfer: bag });
    (kind === 'paste' ? document.body : box).dispatchEvent(event);
}"""


def test_pictures_are_dropped_pasted_replaced_and_removed(visit: Open) -> None:
    with visit() as easel:
        page, foot = easel.page, easel.root.locator(".foot")
        expect(easel.root.locator(".teach")).to_contain_text("Drop, paste or choose a picture")
        page.evaluate(FILES, ["drop", list(picture(320, 200))])
        expect(foot).to_contain_text("320 × 200")
        easel.width, easel.height = 320, 200
        easel.drag((0.3, 0.5), (0.6, 0.5))
        mask = easel.mask()
        page.mouse.move(*easel.place(0.5, 0.5))
        page.evaluate(FILES, ["paste", list(picture(200, 300))])  # the pointer is over it
        expect(foot).to_contain_text("200 × 300")
        assert easel.value()["mask"] is None
        easel.tool("undo")
        expect(foot).to_contain_text("320 × 200")
        assert np.array_equal(easel.mask(), mask)
        easel.tool("remove")
        expect(easel.root.locator(".teach")).to_be_visible()
        easel.told("value.image === null")
        easel.root.get_by_role("button", name="bring the last one back").click()
        expect(foot).to_contain_text("320 × 200")
        assert np.array_equal(easel.mask(), mask)


def overlapping(buttons: Sequence[Locator]) -> list[str]:
    boxes = [(one.get_attribute("aria-label"), one.bounding_box()) for one in buttons]
    return [
        f"{a} and {b}"
        for (a, one), (b, other) in itertools.combinations(boxes, 2)
        if one
        and other
        and min(one["x"] + one["width"], other["x"] + other["width"]) - max(one["x"], other["x"]) > 0.5
        and min(one["y"] + one["height"], other["y"] + other["height"]) - max(one["y"], other["y"]) > 0.5
    ]


@pytest.mark.parametrize("touch", [False, True])
def test_everything_fits_a_narrow_panel(visit: Open, touch: bool) -> None:
    with visit(size=(360, 740), has_touch=touch, is_mobile=touch) as easel:
        easel.give(512, 512)
        buttons = easel.root.locator("button:visible").all()
        assert len(buttons) > 18
        assert overlapping(buttons) == []
        least = 36 if touch else 24
        for button in buttons:
            box = button.bounding_box()
            assert box and box["x"] >= 0 and box["x"] + box["width"] <= 360
            assert min(box["width"], box["height"]) >= least, button.get_attribute("aria-label")


@pytest.mark.parametrize("kind", ["mask", "sketch"])
@pytest.mark.parametrize("look", ["dark", "light"])
def test_the_painter_has_no_barriers(visit: Open, look: str, kind: str) -> None:
    with visit(kind) as easel:
        easel.page.evaluate(f"document.documentElement.dataset.theme = '{look}'")
        for given in (False, True):
            if given:
                easel.give(256, 256)
            assert violations(easel.page, f"#{kind} .painter", minor=True) == []
