"""Journeys that begin with pictures, in a real Chromium over the real engine: repaint, extend, sketch, pose.

Strokes are real pointer strokes, and what they should have done is judged by the kept files. Where pictures
mean nothing a tiny model paints them.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect

import pipelines
from pipelines.controlnet.poses import JOINTS
from pipelines.events import PictureDone
from pipelines.starter.joints import read_joints
from pipelines.starter.reader import read_attributes
from pipelines.worker import Job, Worker
from tests.support.browser import LONG, STARTER, Newcomer, choose, elsewhere, frames, over, ready, violations
from tests.support.easel import FRAMES
from tests.support.served import served
from ui.tabs import NO_MASK, NO_PICTURE

pytestmark = pytest.mark.browser

CONTROLNETS = Path(__file__).resolve().parents[1] / "assets" / "controlnets"
BEACH = "a man in a red shirt standing on the beach on a sunny day"
IDS = "JSON.parse(localStorage.getItem('darkroom.session') ?? '[]')"
Open = Callable[..., Any]
Point = tuple[float, float]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def worker(data: Path, tiny_models: Path) -> Iterator[Worker]:
    with pipelines.open(data, models=[tiny_models], process=True) as worker:
        yield worker


@pytest.fixture(scope="module")
def address(worker: Worker, data: Path) -> Iterator[str]:
    with served(worker, data) as url:
        yield url


@pytest.fixture
def visit(newcomer: Newcomer, address: str, troubles: list[str]) -> Open:
    """Opens a tab of the page as a new visitor; at the end no error was thrown and no other machine asked."""

    @contextmanager
    def open_page(
        tab: str, model: str = "sd", width: int = 1360, height: int = 900, **options: Any
    ) -> Iterator[Page]:
        with newcomer(width, height, **options) as page:
            page.on("request", lambda request: troubles.extend(elsewhere(request.url, address)))
            page.goto(f"{address}/#{tab}")
            ready(page)
            if model != STARTER:
                choose(page, model)
            yield page

    return open_page


class Canvas:
    """A painter of the page as a hand meets it; places are in pixels of its picture."""

    def __init__(self, page: Page, tab: str):
        self.page, self.id = page, f"{tab}-image"
        self.root = page.locator(f"#{self.id} .painter")
        self.easel = self.root.locator(".easel")

    def choose(self, file: Path | dict[str, Any]) -> None:
        """Gives it a picture by its own button."""
        button = "Choose a picture" if self.empty else "Choose another picture"
        with self.page.expect_file_chooser() as chooser:
            self.root.get_by_role("button", name=button).first.click()
        chooser.value.set_files(file)  # type: ignore[arg-type]

    @property
    def empty(self) -> bool:
        return "full" not in (self.root.get_attribute("class") or "").split()

    def shows(self, width: int, height: int) -> None:
        expect(self.root.locator(".foot")).to_contain_text(f"{width} × {height}")
        self.page.evaluate(FRAMES)

    def _view(self, what: str, *given: float) -> Any:
        return self.page.evaluate(
            f"""async ([id, x, y]) => {{
                const address = new URL('darkroom/js/painter-mount.js', document.baseURI);
                const {{ painters }} = await import(address);
                const {{ view }} = painters.get(id);
                {what}
            }}""",
            [self.id, *given],
        )

    def spot(self, x: float, y: float) -> Point:
        """Where on the page a pixel of the picture is."""
        found = self._view(
            """const { easel, left, top, scale } = view;
            const box = easel.getBoundingClientRect();
            const [across, down] = [box.left + easel.clientLeft, box.top + easel.clientTop];
            return [across + left + x * scale, down + top + y * scale];
            """,
            x,
            y,
        )
        return found[0], found[1]

    def scale(self) -> float:
        return float(self._view("return view.scale;"))

    def paint(self, *points: Point, wide: float | None = None) -> None:
        """A stroke through points; `wide`: pixels of the picture."""
        if wide:
            slider = self.root.get_by_role("slider", name="Size", exact=True)
            slider.fill(str(round(1000 * (wide / 400) ** 0.5)))
        self.easel.scroll_into_view_if_needed()
        mouse = self.page.mouse
        mouse.move(*self.spot(*points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.spot(*point), steps=5)
        mouse.up()

    def is_painted(self, x: float, y: float) -> bool:
        """Whether paint is seen over a pixel of the picture."""
        return bool(
            self._view(
                """await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
                const { front, left, top, scale, ratio } = view;
                const place = [(left + x * scale) * ratio, (top + y * scale) * ratio].map(Math.round);
                return front.getContext('2d').getImageData(...place, 1, 1).data[3] > 64;""",
                x,
                y,
            )
        )

    def becomes_painted(self, x: float, y: float) -> bool:
        """The same, where the paint may still be on its way: a picture is shown before its mask is there."""
        deadline = time.monotonic() + LONG / 1000
        while not (seen := self.is_painted(x, y)) and time.monotonic() < deadline:
            self.page.evaluate(FRAMES)
        return seen


def told(page: Page) -> list[str]:
    return [str(one) for one in page.evaluate(IDS)]


def developed(page: Page, worker: Worker, press: Callable[[], Any] | None = None) -> Job:
    """Generates as a hand does and waits until the finished picture is on the stage."""
    known = len(told(page))
    (press or (lambda: page.click("#generate")))()
    page.wait_for_function(f"known => {IDS}.length > known", arg=known)
    job = worker.job(told(page)[-1])
    while not job.done:
        page.wait_for_timeout(30)
    assert any(isinstance(event, PictureDone) for event in job.events), job.events[-1]
    expect(page.locator(".deeds a[download]")).to_have_attribute("download", kept(job).name)
    expect(page.locator(".picture.final")).to_be_visible()
    return job


def shown_again(page: Page, job: Job) -> None:
    """Generates as a hand does, with what `job` was asked with: only an equal request is answered from its
    record, and says so."""
    known = told(page)
    page.click("#generate")
    expect(page.locator(".pace")).to_have_text("Made before, with the same settings and seed")
    expect(page.locator(".deeds a[download]")).to_have_attribute("download", kept(job).name)
    assert told(page) == known


def kept(job: Job) -> Path:
    """The file of a job's first picture."""
    return Path(next(event for event in job.events if isinstance(event, PictureDone)).picture.path)


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def write(page: Page, prompt: str, steps: int, **fields: str) -> None:
    page.fill("#ask-prompt textarea", prompt)
    for name, value in {"num_inference_steps": str(steps), **fields}.items():
        page.locator(f"#ask-{name} input:not([type=range])").fill(value)


def turn(page: Page, tab: str) -> None:
    page.get_by_role("tab", name=tab, exact=True).click()
    expect(page.get_by_role("tab", name=tab, exact=True)).to_have_attribute("aria-selected", "true")


def is_open(page: Page, tab: str) -> None:
    expect(page.get_by_role("tab", name=tab, exact=True)).to_have_attribute("aria-selected", "true")


def scene(width: int, height: int) -> Image.Image:
    """A drawing without a plain area, so that a shifted or smoothed pixel shows."""
    rng = np.random.default_rng(3)
    image = Image.fromarray(rng.integers(90, 130, (height, width, 3), np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, height * 2 // 3, width, height), fill=(80, 140, 70))
    draw.rectangle((width // 4, height // 3, width // 2, height * 3 // 4), fill=(170, 60, 50))
    return image


def file_of(image: Image.Image, name: str = "scene.png", kind: str = "PNG", **options: Any) -> dict[str, Any]:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return {"name": name, "mimeType": f"image/{kind.lower()}", "buffer": out.getvalue()}


# Journeys


def test_a_red_shirt_becomes_blue_and_nothing_else_changes(visit: Open, worker: Worker) -> None:
    with visit("text", STARTER) as page:
        write(page, BEACH, 20, seed="5", width="256", height="256")
        first = kept(developed(page, worker))
        before = pixels(first)
        assert read_attributes(before)["shirt"] == "red"
        page.get_by_role("button", name="Inpaint", exact=True).click()
        is_open(page, "Inpaint")
        canvas = Canvas(page, "inpaint")
        canvas.shows(256, 256)
        (joints,) = read_joints([before])
        place = {name: (float(x), float(y)) for name, (x, y) in zip(JOINTS, joints)}
        hips = [(x, y - 4) for x, y in (place["right hip"], place["left hip"])]
        canvas.paint(place["right shoulder"], hips[0], hips[1], place["left shoulder"], wide=24)
        canvas.paint(place["neck"], (place["neck"][0], hips[0][1]))
        for side in ("right", "left"):
            canvas.paint(*(place[f"{side} {part}"] for part in ("shoulder", "elbow", "wrist")), wide=18)
        chest, sand = (place["neck"][0], place["neck"][1] + 20), (30.0, 230.0)
        write(page, "blue shirt", 20, seed="5", strength="1")
        job = developed(page, worker)
        after = pixels(kept(job))
        seen = read_attributes(after)
        assert (seen["person"], seen["shirt"]) == ("man", "blue")
        request = job.request
        assert request.mask_image
        mask = worker.store.load(request.mask_image).pixels[..., 0] > 0
        reach = int(2.5 * request.mask_blur + 0.5)
        near = cv2.dilate(mask.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
        assert 0.02 < mask.mean() < near.mean() < 0.35
        assert np.array_equal(before[~near], after[~near])
        count = int((before == after).all(axis=2).sum())
        note = page.locator(".pace")
        expect(note).to_contain_text("pixels outside the mask are the original's, bit for bit.")
        assert (~near).sum() <= int(note.inner_text().split()[0].replace(",", "")) <= count
        for again in (lambda: turn(page, "Text"), lambda: turn(page, "Inpaint"), page.reload):
            again()
        ready(page)
        is_open(page, "Inpaint")
        canvas.shows(256, 256)
        page.wait_for_function("document.querySelector('#ask-prompt textarea').value === 'blue shirt'")
        assert canvas.becomes_painted(*chest) and not canvas.is_painted(*sand)
        # What came back is what a run would get, and what a further refresh finds.
        page.locator("#ask-num_inference_steps input[type=number]").fill("2")
        job = developed(page, worker)
        assert (job.request.image, job.request.mask_image) == (request.image, request.mask_image)
        page.reload()
        ready(page)
        canvas.shows(256, 256)
        assert canvas.becomes_painted(*chest) and not canvas.is_painted(*sand)


def test_a_border_that_is_dragged_is_painted_and_the_rest_is_kept(visit: Open, worker: Worker) -> None:
    image = scene(256, 256)
    with visit("inpaint", STARTER) as page:
        canvas = Canvas(page, "inpaint")
        canvas.choose(file_of(image))
        canvas.shows(256, 256)
        handle = canvas.root.locator(".handle.left").bounding_box()
        assert handle is not None
        x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
        way = 128 * canvas.scale()
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x - way, y, steps=8)
        page.mouse.up()
        expect(canvas.root.get_by_role("slider", name="Extend left")).to_have_attribute(
            "aria-valuenow", "128"
        )
        expect(page.locator("#ask-width input")).to_have_value("384")
        expect(page.locator("#ask-height input")).to_have_value("256")
        expect(page.locator("#ask-strength input[type=number]")).to_have_value("1")
        write(page, "the beach", 4, seed="1")
        job = developed(page, worker)
        result = pixels(kept(job))
        assert result.shape == (256, 384, 3)
        assert np.array_equal(result[:, 128:], np.asarray(image))
        assert result[:, :128].std() > 5  # and something is there


def test_a_pose_is_dragged_and_the_run_follows_it(visit: Open, worker: Worker) -> None:
    assert (CONTROLNETS / "storybook-pose" / "config.json").is_file(), (
        "the embedded pose ControlNet is missing"
    )
    wrist = JOINTS.index("right wrist")
    with visit("control", STARTER) as page:
        page.locator(".units-example", has_text="Waving").click()
        expect(page.locator(".unit.open .joint")).to_have_count(18)

        def at(x: float, y: float) -> Point:
            found = page.evaluate(
                """([x, y]) => { const svg = document.querySelector('.unit.open .pose-canvas svg');
                    const point = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
                    return [point.x, point.y]; }""",
                [x, y],
            )
            return found[0], found[1]

        page.locator(".unit.open .pose-canvas").scroll_into_view_if_needed()
        joint = page.locator(".unit.open .joint[aria-label^='right wrist, person 1'] .dot").bounding_box()
        assert joint is not None
        goal = (84.0, 96.0)
        page.mouse.move(joint["x"] + joint["width"] / 2, joint["y"] + joint["height"] / 2)
        page.mouse.down()
        page.mouse.move(*at(goal[0] + 5, goal[1] + 9), steps=4)
        page.mouse.move(*at(*goal), steps=4)
        page.mouse.up()
        write(page, "a woman in a yellow shirt on a meadow", 8, seed="4")
        job = developed(page, worker)
        (unit,) = job.request.controls
        assert unit.model == "storybook-pose"
        found = unit.pose[0][wrist]
        assert found is not None
        assert np.abs(np.array(found) * 256 - goal).max() <= 1.5
        page.click(".deeds summary")
        expect(page.locator(".deeds pre")).to_contain_text("ControlNet 0:")
        # A unit comes back with a refresh, and with the settings of its picture.
        page.reload()
        ready(page)
        expect(page.locator(".unit")).to_have_count(1)
        page.click(".unit-tool[title^=Remove]")
        expect(page.locator(".unit")).to_have_count(0)
        turn(page, "Text")
        page.click("#stage >> text=Use these settings")
        is_open(page, "Control")
        expect(page.locator(".unit")).to_have_count(1)
        shown_again(page, job)


def test_a_picture_is_begun_with_and_sketched_on(visit: Open, worker: Worker) -> None:
    with visit("image", STARTER) as page:
        canvas = Canvas(page, "image")
        data = list(file_of(scene(300, 200))["buffer"])
        page.evaluate(
            """(bytes) => {
                const bag = new DataTransfer();
                bag.items.add(new File([Uint8Array.from(bytes)], 'scene.png', { type: 'image/png' }));
                const box = document.querySelector('#image-image .screen-box');
                const event = new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: bag });
                box.dispatchEvent(event);
            }""",
            data,
        )
        canvas.shows(300, 200)
        expect(page.locator("#ask-width input")).to_have_value("304")  # its shape
        expect(page.locator("#ask-height input")).to_have_value("200")
        write(page, "a house", 20, seed="1", strength="0.5")
        expect(page.locator("#ask-steps-run")).to_have_text("runs 10 of 20 steps")
        plain = developed(page, worker).request
        assert (plain.task, plain.steps_run) == ("image2image", 10)
        frames(page, 11)  # the steps, and the finished picture
        assert page.locator(".frame.full").count() == 11
        canvas.paint((60.0, 40.0), (220.0, 40.0), wide=20)
        page.wait_for_function(FRAMES)
        assert canvas.becomes_painted(140, 40)
        page.locator("#ask-num_inference_steps input[type=number]").fill("4")
        sketched = developed(page, worker).request  # at once: what is painted is sent first
        assert sketched.image and plain.image and sketched.image != plain.image
        before, after = (worker.store.load(key).pixels[..., :3] for key in (plain.image, sketched.image))
        changed = (before != after).any(axis=2)
        assert changed[32:48, 70:210].mean() > 0.95
        assert not changed[70:].any()
        assert worker.store.origin(sketched.image) == plain.image
        text = kept(worker.job(told(page)[-1])).read_bytes()
        assert f"Init image origin: {plain.image}".encode() in text
        turn(page, "Text")
        expect(page.locator("#ask-strength")).to_be_hidden()
        text = developed(page, worker).request
        assert (text.task, text.image) == ("text2image", None)


def bad_files() -> list[tuple[dict[str, Any], str]]:
    """Files that make no picture, each with a word of what is said of it."""
    letter = {"name": "letter.png", "mimeType": "image/png", "buffer": b"Dear all,\n" * 40}
    cut = file_of(scene(128, 96), "cut.png")
    cut["buffer"] = cut["buffer"][:4000]
    return [(letter, "picture"), (cut, "cut off"), (file_of(Image.new("RGB", (1, 1))), "too small")]


def test_bad_input_gets_a_sentence_and_loses_nothing(visit: Open, worker: Worker) -> None:
    whole = file_of(scene(128, 96))
    bad = bad_files()
    with visit("inpaint", STARTER) as page:  # it has ControlNets, so a unit lacks its picture alone
        canvas = Canvas(page, "inpaint")
        page.fill("#ask-prompt textarea", "a blue door")
        page.click("#generate")
        problem = page.locator("#inpaint-image .problem")
        expect(problem).to_have_text(NO_PICTURE)
        for file, word in bad:
            canvas.choose(file)
            expect(canvas.root.locator(".alert")).to_contain_text(word)
            assert canvas.empty
        canvas.choose(whole)
        canvas.shows(128, 96)
        expect(canvas.root.locator(".alert")).to_be_hidden()
        expect(problem).to_have_count(0)  # what it asked for has been done
        page.click("#generate")
        expect(problem).to_have_text(NO_MASK)
        canvas.paint((40.0, 40.0), (80.0, 60.0), wide=14)
        expect(problem).to_have_count(0)
        for file, word in bad:
            canvas.choose(file)
            expect(canvas.root.locator(".alert")).to_contain_text(word)
            canvas.shows(128, 96)
            assert canvas.becomes_painted(60, 50)
        turn(page, "Control")
        page.click(".units-add")
        page.locator(".unit-pick", has_text="Edges of a picture").click()
        turn(page, "Inpaint")
        page.click("#generate")
        turn(page, "Control")
        expect(page.locator(".unit .unit-problem:visible")).to_contain_text("Nothing is shown to it")
        page.click(".unit-tool[title^=Remove]")
        turn(page, "Inpaint")
        assert page.input_value("#ask-prompt textarea") == "a blue door"
        assert canvas.becomes_painted(60, 50) and not canvas.is_painted(10, 90)
        film = [Image.new("RGB", (120, 80), colour) for colour in ("navy", "white")]
        canvas.choose(file_of(film[0], "two.gif", "GIF", save_all=True, append_images=film[1:]))
        canvas.shows(120, 80)
        expect(canvas.root.get_by_role("status")).to_contain_text("the first one is used")
        page.keyboard.press("Control+z")  # a picture that was replaced comes back with its mask
        canvas.shows(128, 96)
        assert canvas.becomes_painted(60, 50)
        write(page, "a blue door", 2)
        job = developed(page, worker)
        assert job.request.task == "inpaint"


def test_a_result_gives_its_picture_mask_and_tab_back(visit: Open, worker: Worker) -> None:
    with visit("inpaint") as page:
        canvas = Canvas(page, "inpaint")
        canvas.choose(file_of(scene(128, 128)))
        canvas.shows(128, 128)
        canvas.paint((30.0, 64.0), (90.0, 64.0), wide=24)
        page.locator("#ask-mask .fold-head").click()
        write(page, "a red door", 3, seed="9", strength="0.8", mask_blur="2")
        first = developed(page, worker)
        canvas.root.get_by_role("button", name="Remove the picture").click()
        expect(canvas.root.locator(".teach")).to_be_visible()
        turn(page, "Text")
        write(page, "something else", 2, seed="")
        developed(page, worker)
        page.locator(".tile", has=page.locator("[alt*='a red door']")).click()
        page.click("#stage >> text=Use these settings")
        is_open(page, "Inpaint")
        canvas.shows(128, 128)
        expect(page.locator("#ask-prompt textarea")).to_have_value("a red door")
        expect(page.locator("#ask-strength input[type=number]")).to_have_value("0.8")
        page.wait_for_function(FRAMES)
        assert canvas.becomes_painted(60, 64) and not canvas.is_painted(60, 100)
        shown_again(page, first)


@pytest.mark.parametrize("tab", ["image", "inpaint"])
def test_the_gallery_gives_a_painted_pictures_settings_picture_and_paint_back(
    visit: Open, worker: Worker, tab: str
) -> None:
    with visit(tab) as page:
        canvas = Canvas(page, tab)
        canvas.choose(file_of(scene(128, 96)))
        canvas.shows(128, 96)
        canvas.paint((30.0, 48.0), (90.0, 48.0), wide=24)
        write(page, f"a door in the {tab} tab", 3, seed="12", strength="0.7")
        first = developed(page, worker)
        assert first.request.task == {"image": "image2image"}.get(tab, tab)
        canvas.root.get_by_role("button", name="Remove the picture").click()
        expect(canvas.root.locator(".teach")).to_be_visible()
        turn(page, "Text")
        write(page, "something else", 2, seed="")
        turn(page, "Gallery")
        page.locator(f".gallery-cell[aria-label*='in the {tab} tab']").first.click()
        page.locator(".gallery-viewer").get_by_role("button", name="Use these settings").click()
        is_open(page, tab.capitalize())
        canvas.shows(128, 96)
        expect(page.locator("#ask-prompt textarea")).to_have_value(f"a door in the {tab} tab")
        expect(page.locator("#ask-strength input[type=number]")).to_have_value("0.7")
        page.evaluate(FRAMES)
        if tab == "inpaint":
            assert canvas.becomes_painted(60, 48) and not canvas.is_painted(60, 85)
        shown_again(page, first)  # only the very same picture, with its paint, is answered from the record


def test_the_gallery_fills_the_painter_with_a_picture_of_its_own_that_the_store_let_go_of(
    visit: Open, worker: Worker
) -> None:
    def let_go(key: str | None) -> None:
        for file in worker.store.root.glob(f"{key}.*"):
            file.unlink()
        canvas.root.get_by_role("button", name="Remove the picture").click()
        expect(canvas.root.locator(".teach")).to_be_visible()

    def taken_up() -> None:
        turn(page, "Gallery")
        page.locator(".gallery-cell[aria-label*='a changed picture']").first.click()
        page.locator(".gallery-viewer").get_by_role("button", name="Use these settings").click()
        is_open(page, "Inpaint")
        canvas.shows(64, 64)

    with visit("text") as page:
        canvas = Canvas(page, "inpaint")
        write(page, "a first picture", 2, seed="4")
        developed(page, worker)
        page.locator("#stage .sends").get_by_role("button", name="Inpaint").click()
        canvas.shows(64, 64)
        canvas.paint((16.0, 32.0), (48.0, 32.0), wide=12)
        write(page, "a changed picture", 3, seed="5", strength="0.8")
        job = developed(page, worker)
        let_go(job.request.image)
        taken_up()
        page.evaluate(FRAMES)
        assert canvas.becomes_painted(32, 32)
        shown_again(page, job)
        let_go(job.request.mask_image)
        taken_up()
        expect(page.get_by_text("The mask that it was painted with is not kept any more")).to_have_count(1)
        assert not canvas.is_painted(32, 32)


def test_a_verdict_is_told_again_after_a_reload(visit: Open, worker: Worker) -> None:
    def opened() -> None:
        turn(page, "Gallery")
        page.locator(".gallery-cell[aria-label*='a door to be verified']").first.click()

    with visit("text") as page:
        write(page, "a door to be verified", 3, seed="3")
        developed(page, worker)
        opened()
        verdict = page.locator(".gallery-verdict")
        page.locator(".gallery-viewer").get_by_role("button", name="Verify").click()
        expect(verdict).to_contain_text("Identical: every pixel is the same.")
        page.reload()
        ready(page)
        opened()
        expect(verdict).to_have_text(re.compile(r"^Identical: every pixel is the same\. \(.+\)$"))


def test_a_refresh_in_mid_run_goes_on_in_its_tab(visit: Open, worker: Worker) -> None:
    with visit("inpaint") as page:
        canvas = Canvas(page, "inpaint")
        canvas.choose(file_of(scene(128, 128)))
        canvas.shows(128, 128)
        canvas.paint((30.0, 64.0), (90.0, 64.0), wide=24)
        write(page, "a red door", 150, strength="1", batch_count="100")
        page.click("#generate")
        frames(page, 2)
        page.reload()
        ready(page)
        is_open(page, "Inpaint")
        frames(page, 3)
        expect(page.locator("body.running")).to_be_visible()
        canvas.shows(128, 128)
        assert canvas.becomes_painted(60, 64)
        page.click("#stop")
        over(page)


def test_a_batch_is_gone_on_with_after_a_reload_and_paints_nothing_twice(visit: Open, worker: Worker) -> None:
    with visit("image") as page:
        folder = [file_of(scene(64, 48 + 8 * number), f"{number}.png") for number in range(3)]
        words = page.locator(".batch-words")

        def choose() -> None:
            with page.expect_file_chooser() as chooser:
                page.get_by_role("button", name="Choose pictures").click()
            chooser.value.set_files(folder)  # type: ignore[arg-type]

        page.locator("#image-batch-fold .fold-head").click()
        write(page, "a grey door", 2, strength="1")
        worker.queue.pause(True)
        choose()
        expect(words).to_have_text("0 of 3 painted.")
        jobs = worker.running()
        assert len(jobs) == 3
        page.reload()
        ready(page)
        expect(words).to_have_text("0 of 3 painted.")  # what was folded away is open
        page.evaluate("localStorage.removeItem('darkroom.batch')")
        choose()
        page.wait_for_function("localStorage.getItem('darkroom.batch')")  # once it is answered
        expect(words).to_have_text("0 of 3 painted.")
        assert worker.running() == jobs
        worker.queue.pause(False)
        expect(words).to_have_text("3 of 3 painted.")
        choose()
        expect(words).to_have_text("0 of 3 painted, 3 skipped, done before.")


def test_keys_turn_tabs_generate_and_leave_the_large_painter(visit: Open, worker: Worker) -> None:
    with visit("text") as page:
        page.get_by_role("tab", name="Text", exact=True).focus()
        ways = {"ArrowRight": "Image", "End": "Models", "ArrowLeft": "Gallery", "Home": "Text"}
        for key, tab in (*ways.items(), ("ArrowRight", "Image"), ("ArrowRight", "Inpaint")):
            page.keyboard.press(key)
            is_open(page, tab)
            expect(page.get_by_role("tab", name=tab, exact=True)).to_be_focused()
        canvas = Canvas(page, "inpaint")
        canvas.choose(file_of(scene(128, 128)))
        canvas.shows(128, 128)
        write(page, "a red door", 150, strength="1", batch_count="100")
        canvas.easel.focus()
        page.keyboard.press("Enter")  # the cursor
        page.keyboard.press("Enter")  # and a dot under it
        page.keyboard.press("Control+Enter")
        frames(page, 2)
        canvas.root.get_by_role("button", name="Large").click()
        expect(canvas.root).to_have_class(_word("large"))
        # The first may only put the cursor of the keys away, which a mouse that comes by has done already.
        for _ in range(2):
            if "large" in canvas.root.get_attribute("class").split():
                page.keyboard.press("Escape")
        expect(canvas.root).not_to_have_class(_word("large"))
        expect(page.locator("body.running")).to_be_visible()
        count = page.locator(".what").inner_text()
        page.wait_for_function("text => document.querySelector('.what').textContent !== text", arg=count)
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("Escape")
        over(page)
        request = worker.job(told(page)[-1]).request
        assert request.task == "inpaint"


def _word(name: str) -> Any:
    return re.compile(rf"(^| ){name}( |$)")


def touch(page: Page, places: list[Point]) -> None:
    """A finger draws through places and comes to rest: after a flick Chromium takes no tap for a moment."""
    session = page.context.new_cdp_session(page)
    for at, (x, y) in enumerate(places + places[-1:] * 4):
        kind = "touchMove" if at else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y, "id": 0}]})
        page.wait_for_timeout(30)
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_finger_paints_on_a_narrow_page(visit: Open, worker: Worker) -> None:
    with visit("inpaint", width=390, height=844, has_touch=True, is_mobile=True) as page:
        canvas = Canvas(page, "inpaint")
        canvas.choose(file_of(scene(128, 128)))
        canvas.shows(128, 128)
        canvas.easel.scroll_into_view_if_needed()
        places = [canvas.spot(30.0 + 10 * step, 64.0) for step in range(7)]
        scrolled = page.evaluate("scrollY")
        touch(page, places)
        assert page.evaluate("scrollY") == scrolled  # the finger painted, it did not scroll
        assert canvas.becomes_painted(60, 64) and not canvas.is_painted(60, 100)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        button = page.locator("#generate").bounding_box()
        assert button is not None
        assert button["y"] + button["height"] <= 844
        for tab in ("Image", "Control", "Text", "Inpaint"):
            turn(page, tab)
            assert page.evaluate("document.documentElement.scrollWidth") == 390, tab
        write(page, "a red door", 2)
        job = developed(page, worker, lambda: page.locator("#generate").tap())
        assert job.request.mask_image


@pytest.mark.parametrize("width", [1360, 390])
def test_axe_finds_nothing_serious_in_the_tabs(visit: Open, width: int) -> None:
    with visit("image", width=width, reduced_motion="reduce") as page:
        found = violations(page)  # a tab without a picture
        Canvas(page, "image").choose(file_of(scene(128, 96)))
        Canvas(page, "image").shows(128, 96)
        turn(page, "Inpaint")
        found += violations(page)
        canvas = Canvas(page, "inpaint")
        canvas.choose(file_of(scene(128, 96)))
        canvas.shows(128, 96)
        canvas.paint((40.0, 40.0), (80.0, 60.0), wide=14)
        turn(page, "Control")
        found += violations(page)
        page.locator(".units-example", has_text="Waving").click()
        expect(page.locator(".unit.open .joint")).to_have_count(18)
        for look in ("dark", "light"):
            page.evaluate("look => { document.documentElement.dataset.theme = look }", look)
            for tab in ("Image", "Inpaint", "Control"):
                turn(page, tab)
                found += [f"{tab}, {look}: {one}" for one in violations(page)]
        assert found == []
