"""The control units in a real Chromium: what reaches the server is what was set, and maps follow the hand.

The page here is a small one of its own; pictures are kept in a dict and edges are OpenCV's.
"""

import base64
import hashlib
import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import gradio as gr
import numpy as np
import pytest
from fastapi.responses import Response
from PIL import Image, ImageDraw
from playwright.sync_api import Locator, Page, expect

from pipelines.controlnet import poses
from pipelines.request import MOST_CONTROLS, ControlUnit, GenerationRequest, InvalidRequest
from tests.support.bench import framed, with_page
from tests.support.browser import Newcomer, violations
from tests.support.served import serving
from ui.components.units import control_units

pytestmark = pytest.mark.browser

PREPROCESSORS = [
    {"key": "none", "title": "None", "hint": "The picture is the map already.", "group": "Ready maps"},
    {"key": "canny", "title": "Canny edges", "hint": "Sharp edges.", "group": "Edges and lines"},
    {"key": "lineart", "title": "Line art", "hint": "A drawing's lines.", "group": "Edges and lines"},
    {"key": "openpose", "title": "Pose", "hint": "Bodies as skeletons.", "group": "People"},
    {"key": "depth_midas", "title": "Depth (MiDaS)", "hint": "Near is bright.", "group": "Space"},
]


def network(key: str, title: str, suits: list[str], unfit: str = "") -> dict[str, Any]:
    return {
        "key": key,
        "title": title,
        "summary": "SD, 9 MB",
        "family": "SDXL" if unfit else "SD",
        "suits": suits,
        "unfit": unfit,
    }


FAR = "XL canny is made for SDXL, but Storybook is SD."
NETWORKS = [
    network("edge", "Storybook edge", ["canny", "lineart"]),
    network("pose", "Storybook pose", ["openpose"]),
    network("depth", "Depth, a ControlNet with a rather long name of its own v11f1p", ["depth_midas"]),
    network("xl-canny", "XL canny", ["canny"], FAR),
]
OTHER_MODEL = [
    network("edge", "Storybook edge", ["canny"], "Storybook edge is made for SD."),
    network("xl-canny", "XL canny", ["canny"]),
]


class Bench:
    """The server's side: what it keeps, what it was asked and what it was sent."""

    def __init__(self) -> None:
        self.pictures: dict[str, bytes] = {}
        self.origins: dict[str, Any] = {}
        self.drawn: list[dict[str, Any]] = []
        self.sent: list[Any] = []
        self.slow = 0.0
        self.gate = threading.Event()
        """Maps are drawn while it is set."""
        self.gate.set()
        self.down = False

    def put(self, data: bytes) -> str:
        key = hashlib.sha256(data).hexdigest()[:32]
        self.pictures[key] = data
        return key

    def picture(self, key: str) -> dict[str, Any] | None:
        if key not in self.pictures:
            return None
        width, height = self.image(key).size
        return {"key": key, "width": width, "height": height, "url": f"pictures/{key}"}

    def image(self, key: str) -> Image.Image:
        return Image.open(io.BytesIO(self.pictures[key]))

    def keep(self, asked: dict[str, Any]) -> dict[str, Any]:
        time.sleep(self.slow)
        data = Path(asked["path"]).read_bytes()
        try:
            Image.open(io.BytesIO(data)).verify()
        except OSError:
            return {"problem": "This is no picture: a PNG, JPEG or WebP would do."}
        found = self.picture(self.put(data))
        assert found
        self.origins[found["key"]] = asked["on"]
        return found

    def draw_map(self, asked: dict[str, Any]) -> dict[str, Any]:
        time.sleep(self.slow)
        self.gate.wait(60)
        if self.down:
            return {"problem": "The engine is still starting; the map follows as soon as it is up."}
        self.drawn.append(asked)
        unit = ControlUnit(**asked["unit"])
        drawn = self.map(unit, asked["width"], asked["height"])
        buffer = io.BytesIO()
        Image.fromarray(drawn).save(buffer, "PNG")
        return {"url": f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"}

    def map(self, unit: ControlUnit, width: int, height: int) -> np.ndarray:
        if unit.pose and not unit.map_image:
            return poses.draw_poses(unit.pose, width, height)
        source = self.image(unit.map_image or unit.image or "").convert("RGB").resize((width, height))
        pixels = np.asarray(source)
        if unit.map_image or unit.preprocessor == "none":
            return pixels
        return np.repeat(cv2.Canny(pixels, unit.low_threshold, unit.high_threshold)[..., None], 3, axis=2)

    def read_pose(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"people": poses.parse(asked["text"], asked["width"], asked["height"])}
        except poses.InvalidPose as problem:
            return {"problem": str(problem)}

    def detect_pose(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"people": poses.presets()[2].poses} if asked["key"] in self.pictures else {"problem": "Gone."}


def drawing() -> bytes:
    """A picture with edges of three strengths, so that both thresholds show."""
    image = Image.new("RGB", (320, 256), (200, 190, 170))
    draw = ImageDraw.Draw(image)
    draw.polygon([(60, 130), (150, 60), (240, 130)], fill=(120, 40, 30))
    draw.rectangle((80, 130, 220, 220), fill=(160, 150, 130))
    draw.rectangle((100, 150, 130, 185), fill=(150, 140, 121))
    draw.ellipse((250, 20, 300, 70), fill=(214, 200, 150))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def build(bench: Bench) -> gr.Blocks:
    key = bench.put(drawing())
    example = {"image": key, "preprocessor": "canny", "model": "edge", "shown": {"image": bench.picture(key)}}
    ready = {preset.key: [list(pose) for pose in preset.poses] for preset in poses.presets()}
    value = {
        "networks": NETWORKS,
        "preprocessors": PREPROCESSORS,
        "examples": [
            {"title": "A waving person", "unit": {"pose": ready["waving"], "preprocessor": "openpose"}},
            {"title": "Two people", "unit": {"pose": ready["high-five"], "preprocessor": "openpose"}},
            {"title": "Edges of a drawing", "unit": example},
        ],
        "width": 256,
        "height": 256,
    }
    quiet: dict[str, Any] = {"show_progress": "hidden"}
    with gr.Blocks(fill_width=True) as blocks, gr.Row(elem_id="bench"), gr.Column(elem_id="ask", scale=0):
        with gr.Tabs():
            with gr.Tab("Units"):
                panel = control_units(
                    bench.keep,
                    bench.draw_map,
                    bench.read_pose,
                    bench.detect_pose,
                    "ask-controls",
                    picture_url=bench.picture,
                    value=value,
                )
            with gr.Tab("Elsewhere"):
                gr.Textbox("Nothing here")

        def take(units: Any) -> str:
            bench.sent.append(units)
            return str(len(bench.sent))

        # Handled in the page, as the program does: Gradio may lose an event that overlaps with another.
        panel.changed(None, panel, js="value => { window.told = value.units }", **quiet)
        actions: dict[str, Callable[..., Any]] = {
            "other-model": lambda: {"networks": OTHER_MODEL},
            "tall": lambda: {"width": 256, "height": 384},
            "nothing": lambda: None,
            "restore": lambda: [
                ControlUnit(model="edge", preprocessor="canny", image=key, low_threshold=30),
                {"model": "pose", "preprocessor": "openpose", "pose": poses.presets()[0].poses},
            ],
        }
        with gr.Row(elem_id="actions"):
            sent = gr.Textbox(elem_id="sent")
            gr.Button("send", elem_id="send").click(take, panel, sent, **quiet)
        for name, answer in actions.items():
            gr.Button(name, elem_id=name).click(answer, None, panel, **quiet)
    return blocks


@contextmanager
def serve(bench: Bench) -> Iterator[str]:
    app = framed()

    @app.get("/pictures/{key}")
    def picture(key: str) -> Response:
        return Response(bench.pictures[key], media_type="image/png")

    with serving(with_page(app, build(bench))) as address:
        yield address


# The page, and what is done on it


@pytest.fixture(scope="module")
def served_bench() -> Iterator[tuple[Bench, str]]:
    bench = Bench()
    with serve(bench) as address:
        yield bench, address


@pytest.fixture
def bench(served_bench: tuple[Bench, str]) -> Iterator[Bench]:
    bench, _ = served_bench
    for record in (bench.drawn, bench.sent):
        record.clear()
    bench.slow, bench.down = 0.0, False
    yield bench


Open = Callable[..., Any]


@pytest.fixture
def visit(newcomer: Newcomer, served_bench: tuple[Bench, str]) -> Open:
    @contextmanager
    def open_page(width: int = 1000, height: int = 1000, without: str = "", **options: Any) -> Iterator[Page]:
        with newcomer(width, height, **options) as page:
            if without:
                page.route(f"**/{without}", lambda route: route.abort())
            page.goto(served_bench[1])
            page.wait_for_selector(".units-add")
            yield page

    return open_page


@pytest.fixture
def house(tmp_path: Path) -> Path:
    path = tmp_path / "house.png"
    path.write_bytes(drawing())
    return path


def submitted(page: Page, bench: Bench) -> list[dict[str, Any]]:
    """What a run would be asked with."""
    count = len(bench.sent) + 1
    page.click("#send")
    expect(page.locator("#sent :is(input, textarea)")).to_have_value(str(count))
    return bench.sent[-1]


def begin(page: Page, example: str) -> Locator:
    """The card of a unit that began as an example."""
    page.click(f".units-example:has-text('{example}')")
    card = page.locator(".unit.open")
    if "Edges" in example:
        expect(card.locator(".unit-screen img")).to_be_visible()
    return card


def slide(page: Page, label: str, value: float) -> None:
    """Moves a slider as a hand does, in several events."""
    page.locator(".unit.open").get_by_role("slider", name=label).evaluate(
        """(range, to) => {
            const from = Number(range.value);
            for (const part of [0.3, 0.7, 1]) {
                range.value = from + part * (to - from);
                range.dispatchEvent(new Event('input', { bubbles: true }));
            }
        }""",
        value,
    )


def shown_map(page: Page) -> np.ndarray:
    """The map in the open card, as it is on the screen."""
    url = page.locator(".unit.open .unit-screen img").get_attribute("src") or ""
    data = base64.b64decode(url.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def settle_map(page: Page, wanted: np.ndarray) -> None:
    for _ in range(200):
        if np.array_equal(shown_map(page), wanted):
            return
        page.wait_for_timeout(25)
    raise AssertionError("the map never became the one asked for")


def wait_until(page: Page, holds: Callable[[], bool]) -> None:
    for _ in range(200):
        if holds():
            return
        page.wait_for_timeout(25)
    raise AssertionError("what was waited for never came")


def tell_problem(page: Page, sentence: str) -> None:
    page.evaluate(
        "said => document.dispatchEvent("
        "new CustomEvent('darkroom:problems', { detail: said ? { controls: said } : {} }))",
        sentence,
    )


def give(page: Page, image: dict[str, Any] | None) -> None:
    """Another part of the page hands a picture on."""
    page.evaluate(
        "image => document.dispatchEvent("
        "new CustomEvent('darkroom:give', { detail: { to: 'ask-controls', image } }))",
        image,
    )


def parsed(units: list[dict[str, Any]]) -> tuple[ControlUnit, ...]:
    return GenerationRequest.parse({"prompt": "a house", "controls": units}).controls


def test_what_is_set_is_what_reaches_the_server(visit: Open, bench: Bench) -> None:
    with visit() as page:
        card = begin(page, "Edges")
        slide(page, "Weight", 1.35)
        slide(page, "When it counts: Start", 0.2)
        slide(page, "When it counts: End", 0.65)
        slide(page, "Low threshold", 40)
        slide(page, "High threshold", 90)
        card.get_by_label("Another shape").select_option(label="Fill the borders")
        card.get_by_label("Lead").select_option(label="The map matters more")
        (unit,) = parsed(submitted(page, bench))
        key = next(iter(bench.pictures))
        assert unit == ControlUnit(
            model="edge",
            preprocessor="canny",
            image=key,
            controlnet_conditioning_scale=1.35,
            control_guidance_start=0.2,
            control_guidance_end=0.65,
            low_threshold=40,
            high_threshold=90,
            resize_mode="resize and fill",
            control_mode="control",
        )
        expect(card.locator(".unit-head")).to_contain_text("weight 1.35 · 20–65% · on")
        page.wait_for_function("window.told?.[0].low_threshold === 40")  # told when the hand rests


def test_the_ends_of_the_range_never_meet_and_numbers_can_be_typed(visit: Open, bench: Bench) -> None:
    with visit() as page:
        card = begin(page, "Edges")
        slide(page, "When it counts: End", 0.3)
        slide(page, "When it counts: Start", 0.9)
        number = card.get_by_role("spinbutton", name="Weight")
        number.fill("1.777")
        page.evaluate("document.dispatchEvent(new CustomEvent('darkroom:settle', { detail: { wait: [] } }))")
        (unit,) = parsed(submitted(page, bench))
        assert (unit.control_guidance_start, unit.control_guidance_end) == (0.29, 0.3)
        assert unit.controlnet_conditioning_scale == 1.8
        number.fill("9")
        number.blur()
        expect(number).to_have_value("2")


def test_the_map_follows_the_thresholds_and_the_last_wish_wins(visit: Open, bench: Bench) -> None:
    with visit() as page:
        begin(page, "Edges")
        key = next(iter(bench.pictures))
        first = shown_map(page)
        bench.drawn.clear()
        bench.gate.clear()  # as slow a server as the hand wants, on any machine
        for low in (90, 70, 50, 30, 10):
            slide(page, "Low threshold", low)
        slide(page, "High threshold", 20)
        expect(page.locator(".unit-source.waits")).to_be_visible()
        bench.gate.set()
        wanted = ControlUnit(
            model="edge", preprocessor="canny", image=key, low_threshold=10, high_threshold=20
        )
        settle_map(page, bench.map(wanted, 256, 256))
        assert not np.array_equal(first, shown_map(page))
        assert len(bench.drawn) <= 3  # what was overtaken is not asked for
        assert bench.drawn[-1]["unit"]["low_threshold"] == 10
        expect(page.locator(".unit-source.waits")).to_have_count(0)


def test_one_threshold_pushes_the_other(visit: Open, bench: Bench) -> None:
    with visit() as page:
        begin(page, "Edges")
        slide(page, "Low threshold", 230)
        (unit,) = submitted(page, bench)
        assert (unit["low_threshold"], unit["high_threshold"]) == (230, 230)


def test_another_size_draws_the_map_anew_and_loses_no_unit(visit: Open, bench: Bench) -> None:
    with visit() as page:
        begin(page, "Edges")
        page.click("#tall")
        page.wait_for_function("document.querySelector('.unit.open .unit-screen img').naturalHeight === 384")
        page.click("#nothing")
        page.wait_for_timeout(300)
        assert len(submitted(page, bench)) == 1


def test_a_map_that_could_not_be_drawn_follows_when_the_engine_is_up(visit: Open, bench: Bench) -> None:
    with visit() as page:
        bench.down = True
        page.click(".units-example:has-text('Edges')")
        expect(page.locator(".unit-source .unit-problem")).to_contain_text("still starting")
        bench.down = False
        page.evaluate(
            "document.dispatchEvent(new CustomEvent('darkroom:engine', { detail: { ready: true } }))"
        )
        expect(page.locator(".unit-screen img")).to_be_visible()
        expect(page.locator(".unit-source .unit-problem")).to_be_hidden()


def test_there_are_four_units_and_no_fifth(visit: Open, bench: Bench) -> None:
    with visit() as page:
        begin(page, "Edges")
        page.click(".unit.open .unit-tool[title^=Duplicate]")
        page.click(".units-add")
        page.click(".unit.open .unit-pick:has-text('A pose')")
        page.click(".units-add")
        expect(page.locator(".unit")).to_have_count(MOST_CONTROLS)
        expect(page.locator(".units-add")).to_be_hidden()
        expect(page.locator(".unit-tool[title^=Duplicate]:enabled")).to_have_count(0)
        expect(page.locator(".unit.open")).to_have_count(1)
        units = submitted(page, bench)
        assert [unit["preprocessor"] for unit in units] == ["canny", "canny", "openpose", "canny"]
        assert units[0] == units[1]
        assert units[3]["image"] is None  # as it is, so that the request tells what is missing
        with pytest.raises(InvalidRequest) as told:
            parsed(units)
        tell_problem(page, told.value.problems["controls"])
        problem = page.locator(".unit:nth-child(4) .unit-problem:visible")
        expect(problem).to_contain_text("Nothing is shown to it: give it a picture")
        expect(page.locator(".unit-problem:visible, .problem:visible")).to_have_count(1)
        expect(page.locator(".unit.wrong")).to_have_count(1)
        page.click(".unit.open .unit-head")  # none is open: a picture that is given goes to the last
        give(page, bench.picture(next(iter(bench.pictures))))
        expect(page.locator(".unit:nth-child(4) .unit-drop img")).to_be_visible()
        assert len(parsed(submitted(page, bench))) == MOST_CONTROLS
        expect(page.locator(".unit.wrong")).to_have_count(0)


def test_a_unit_that_is_off_is_not_sent_and_problems_count_only_those_that_are(
    visit: Open, bench: Bench
) -> None:
    with visit() as page:
        begin(page, "Edges")
        page.click(".unit.open .unit-tool[title^=Duplicate]")
        page.click(".units-add")
        page.locator(".unit-switch").nth(0).click()
        expect(page.locator(".unit >> nth=0")).to_have_class(re.compile("off"))
        assert len(submitted(page, bench)) == 2
        tell_problem(page, "Control unit 1: Weight must be between 0 and 2; 3 was given.")
        expect(page.locator(".unit >> nth=1").locator(".unit-problem:visible")).to_have_text(
            "Weight must be between 0 and 2; 3 was given."
        )
        expect(page.locator(".unit >> nth=1")).to_have_class(re.compile("open"))
        expect(page.locator(".unit >> nth=1").locator(".unit-head")).to_be_focused()
        slide(page, "Weight", 0.5)
        expect(page.locator(".unit-problem:visible")).to_have_count(0)


def test_a_removed_unit_can_be_brought_back(visit: Open, bench: Bench) -> None:
    with visit() as page:
        begin(page, "Edges")
        slide(page, "Weight", 0.4)
        page.click(".unit-tool[title^=Remove]")
        expect(page.locator(".units-empty")).to_be_visible()
        assert submitted(page, bench) == []
        page.click("text=Bring it back")
        (unit,) = submitted(page, bench)
        assert unit["controlnet_conditioning_scale"] == 0.4
        expect(page.locator(".units-gone")).to_be_empty()


def test_preprocessor_and_controlnet_are_chosen_to_fit(visit: Open, bench: Bench) -> None:
    with visit() as page:
        card = begin(page, "Edges")
        made, followed = card.get_by_label("Made by"), card.get_by_label("Followed by")
        made.select_option("depth_midas")
        expect(followed).to_have_value("depth")
        expect(card.locator(".unit-pick input:checked")).to_have_value("other")
        followed.select_option("edge")
        expect(made).to_have_value("canny")
        made.select_option("lineart")
        expect(followed).to_have_value("edge")  # it suits both
        page.click(".unit-pick:has-text('A pose')")
        expect(followed).to_have_value("pose")
        (unit,) = parsed(submitted(page, bench))
        assert (unit.model, unit.preprocessor, len(unit.pose)) == ("pose", "openpose", 1)
        followed.select_option("edge")
        expect(card.locator(".unit-pick input:checked")).to_have_value("edges")
        (unit,) = parsed(submitted(page, bench))
        assert (unit.model, unit.preprocessor, unit.pose) == ("edge", "canny", ())


def test_a_controlnet_that_does_not_fit_cannot_be_chosen_and_says_why(visit: Open, bench: Bench) -> None:
    with visit() as page:
        card = begin(page, "Edges")
        option = card.locator("option[value=xl-canny]")
        expect(option).to_be_disabled()
        expect(option).to_contain_text("made for SDXL")
        page.click("#other-model")  # one that only this network fits
        expect(card.get_by_label("Followed by")).to_have_value("xl-canny")
        expect(card.locator("option[value=edge]")).to_be_disabled()
        assert submitted(page, bench)[0]["model"] == "xl-canny"
        page.click(".unit-pick:has-text('A pose')")  # for which there is none
        expect(card.locator(".unit-about:visible")).to_contain_text("made for other maps")


def test_the_edited_map_is_followed_and_can_be_given_up(visit: Open, bench: Bench) -> None:
    with visit() as page:
        card = begin(page, "Edges")
        made = shown_map(page)
        page.click("text=Edit map")
        easel = card.locator(".painter canvas").first
        expect(card.locator(".painter.full")).to_be_visible()
        expect(easel).to_be_visible()
        box = easel.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] * 0.35, box["y"] + box["height"] * 0.4)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.65, box["y"] + box["height"] * 0.4, steps=8)
        page.mouse.up()
        # The painter has not sent it yet; a run waits for that.
        page.evaluate(
            """async () => {
                const detail = { wait: [] };
                document.dispatchEvent(new CustomEvent('darkroom:settle', { detail }));
                await Promise.all(detail.wait);
            }"""
        )
        (unit,) = parsed(submitted(page, bench))
        assert unit.map_image and unit.image
        assert bench.origins[unit.map_image] == unit.image
        edited = np.asarray(bench.image(unit.map_image).convert("RGB"))
        assert edited.shape == made.shape
        assert edited.astype(int).sum() > made.astype(int).sum() + 100_000  # white was painted
        card.get_by_role("button", name="Done").click()
        expect(card.locator(".unit-chip")).to_contain_text("edited by hand")
        settle_map(page, edited)
        page.click("text=back to the made one")
        settle_map(page, made)
        (unit,) = parsed(submitted(page, bench))
        assert unit.map_image is None


def test_a_discarded_edit_leaves_the_map_as_it_was(visit: Open, bench: Bench) -> None:
    with visit() as page:
        card = begin(page, "Edges")
        page.click("text=Edit map")
        expect(card.locator(".painter.full")).to_be_visible()
        box = card.locator(".painter canvas").first.bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_timeout(600)  # the painter keeps it by itself
        card.get_by_role("button", name="Discard").click()
        expect(card.locator(".painter")).to_have_count(0)
        (unit,) = parsed(submitted(page, bench))
        assert unit.map_image is None


def test_a_ready_map_is_followed_without_a_picture(visit: Open, bench: Bench, house: Path) -> None:
    with visit() as page:
        page.click(".units-add")
        with page.expect_file_chooser() as chooser:
            page.click("text=Use a ready map")
        chooser.value.set_files(house)
        expect(page.locator(".unit-chip")).to_contain_text("a ready map")
        (unit,) = parsed(submitted(page, bench))
        assert unit.map_image == hashlib.sha256(house.read_bytes()).hexdigest()[:32]
        assert unit.image is None
        with page.expect_download() as download:
            page.click("[title='Download the map']")
        saved = np.asarray(Image.open(download.value.path()).convert("RGB"))
        assert np.array_equal(saved, bench.map(unit, 256, 256))


def test_a_picture_is_chosen_pasted_and_given(visit: Open, bench: Bench, house: Path) -> None:
    paste = """([data, place]) => {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const clipboardData = new DataTransfer();
        clipboardData.items.add(new File([bytes], 'pasted.png', { type: 'image/png' }));
        const event = new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true });
        document.querySelector(place).dispatchEvent(event);
    }"""
    red, green = (image_of((200, 20, 20)), image_of((20, 200, 20)))
    with visit() as page:
        page.click(".units-add")
        page.set_input_files(".unit-drop input", house)
        expect(page.locator(".unit-screen img")).to_be_visible()
        page.evaluate(paste, [base64.b64encode(red).decode(), ".unit-choose"])
        bring = hashlib.sha256(red).hexdigest()[:32]
        expect(page.locator(".unit-drop img")).to_have_attribute("src", f"pictures/{bring}")
        assert submitted(page, bench)[0]["image"] == bring
        given = bench.picture(bench.put(green))
        give(page, given)
        assert given
        expect(page.locator(".unit-drop img")).to_have_attribute("src", given["url"])
        assert submitted(page, bench)[0]["image"] == given["key"]
        page.click("[title='Remove the picture']")
        assert submitted(page, bench)[0]["image"] is None


def test_a_dropped_picture_lands_where_it_is_dropped(visit: Open, bench: Bench) -> None:
    drop = """([data, place]) => {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], 'dropped.png', { type: 'image/png' }));
        const event = new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true });
        document.querySelector(place).dispatchEvent(event);
    }"""
    keys = []
    with visit(without="page.js") as page:  # which decides what of a drop is the page's
        for colour, place in (
            ((10, 20, 30), ".units-empty"),
            ((40, 50, 60), ".unit-screen"),
            ((70, 80, 90), ".unit-choose"),
        ):
            data = image_of(colour)
            keys.append(hashlib.sha256(data).hexdigest()[:32])
            page.evaluate(drop, [base64.b64encode(data).decode(), place])
            page.wait_for_function(
                "key => document.querySelector('.units-panel').innerHTML.includes(key)", arg=keys[-1]
            )
            (unit,) = parsed(submitted(page, bench))
            if place == ".unit-screen":
                assert (unit.image, unit.map_image) == (keys[0], keys[1])
            else:
                assert (unit.image, unit.map_image) == (keys[-1], None)


def image_of(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_file_that_is_no_picture_is_told_beside_it(visit: Open, bench: Bench, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture at all")
    with visit() as page:
        page.click(".units-add")
        page.set_input_files(".unit-drop input", broken)
        expect(page.locator(".unit-source .unit-problem")).to_contain_text("This is no picture")
        assert submitted(page, bench)[0]["image"] is None


def test_a_run_waits_for_a_picture_that_is_on_its_way(visit: Open, bench: Bench, house: Path) -> None:
    with visit() as page:
        page.click(".units-add")
        bench.slow = 0.5
        page.set_input_files(".unit-drop input", house)
        page.evaluate(
            """async () => {
                const detail = { wait: [] };
                document.dispatchEvent(new CustomEvent('darkroom:settle', { detail }));
                await Promise.all(detail.wait);
            }"""
        )
        assert submitted(page, bench)[0]["image"] is not None


def test_a_pose_reaches_the_server_as_it_is_drawn(visit: Open, bench: Bench) -> None:
    with visit() as page:
        card = begin(page, "A waving person")
        expect(card.locator(".pose svg").first).to_be_visible()
        before = parsed(submitted(page, bench))[0].pose
        waving = next(one for one in poses.presets() if one.key == "waving").poses
        assert np.allclose(np.array(before), np.array(waving), atol=1e-5)
        card.locator(".pose [tabindex='0']:is(circle, g)").first.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(100)
        after = parsed(submitted(page, bench))[0].pose
        moved = [a != b for a, b in zip(before[0], after[0])]
        assert any(moved)
        expect(card.locator("text=Download the map")).to_be_visible()
        drawn = json.loads(json.dumps(after))
        wait_until(page, lambda: bench.drawn[-1]["unit"]["pose"] == drawn)
        # What a kind had is there again on the way back.
        page.click(".unit-pick:has-text('Edges of a picture')")
        assert submitted(page, bench)[0]["pose"] == []
        page.click(".unit-pick:has-text('A pose')")
        assert parsed(submitted(page, bench))[0].pose == after


def test_all_is_there_again_when_the_tab_was_left(visit: Open, bench: Bench) -> None:
    with visit() as page:
        begin(page, "Edges")
        slide(page, "Low threshold", 33)
        page.click(".units-add")
        page.click(".unit.open .unit-pick:has-text('A pose')")
        page.locator(".unit-switch").nth(1).click()
        before = submitted(page, bench)
        page.click("role=tab[name='Elsewhere']")
        expect(page.locator(".units-panel:visible")).to_have_count(0)
        page.click("role=tab[name='Units']")
        expect(page.locator(".unit:visible")).to_have_count(2)
        expect(page.locator(".unit.open .unit-pick input:checked")).to_have_value("pose")
        expect(page.locator(".unit >> nth=1")).to_have_class(re.compile("off"))
        assert submitted(page, bench) == before
        page.locator(".unit-head").nth(0).click()
        expect(page.locator(".unit.open .unit-screen img")).to_be_visible()
        expect(page.get_by_role("spinbutton", name="Low threshold")).to_have_value("33")


def test_restored_units_are_shown_with_their_pictures(visit: Open, bench: Bench) -> None:
    with visit() as page:
        begin(page, "A waving person")
        page.click("#restore")
        expect(page.locator(".unit")).to_have_count(2)
        expect(page.locator(".unit.open .unit-drop img")).to_have_attribute(
            "src", f"pictures/{next(iter(bench.pictures))}"
        )
        first, second = parsed(submitted(page, bench))
        assert (first.low_threshold, first.model) == (30, "edge")
        assert second.pose == poses.presets()[0].poses


def test_everything_goes_by_keys(visit: Open, bench: Bench) -> None:
    with visit() as page:
        page.focus(".units-add")
        page.keyboard.press("Enter")
        expect(page.locator(".unit.open .unit-head")).to_be_focused()
        page.keyboard.press("Tab")
        page.keyboard.press("Space")  # the switch
        assert page.locator(".unit-switch").get_attribute("aria-checked") == "false"
        page.keyboard.press("Space")
        for _ in range(3):
            page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")  # from edges to a pose
        expect(page.locator(".unit-pick input:checked")).to_have_value("pose")
        page.get_by_role("slider", name="Weight").focus()
        page.keyboard.press("ArrowRight")
        page.get_by_role("slider", name="When it counts: End").focus()
        page.keyboard.press("ArrowLeft")
        (unit,) = submitted(page, bench)
        assert (unit["controlnet_conditioning_scale"], unit["control_guidance_end"]) == (1.05, 0.99)
        assert len(unit["pose"]) == 1
        page.focus(".unit-head")
        page.keyboard.press("Enter")
        expect(page.locator(".unit.open")).to_have_count(0)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_nothing_serious(visit: Open, bench: Bench, theme: str) -> None:
    with visit(390, 900, reduced_motion="reduce") as page:
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        assert violations(page, ".units-panel") == []
        begin(page, "Edges")
        page.click(".units-add")
        tell_problem(page, "Control unit 2: Nothing is shown to it: give it a picture.")
        assert violations(page, ".units-panel") == []
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_finger_finds_its_targets(visit: Open, bench: Bench) -> None:
    with visit(390, 900, has_touch=True, is_mobile=True) as page:
        begin(page, "Edges")
        for target in page.locator(".unit :is(button, select, a, .unit-pick):visible").all():
            box = target.bounding_box()
            assert box is not None
            assert box["height"] >= 40, target.evaluate("node => node.outerHTML.slice(0, 80)")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
