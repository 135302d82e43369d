"""The LoRAs' panel in a real Chromium: what reaches the server is what was set, by mouse and by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import Locator, Page, expect

from pipelines.request import GenerationRequest, LoraWeight
from tests.support import bench
from tests.support.browser import Newcomer, violations
from ui import addons
from ui.components.guidance import guidance_curve
from ui.components.loras import loras

pytestmark = pytest.mark.browser


def row(key: str, title: str, **more: Any) -> dict[str, Any]:
    usual = {"key": key, "title": title, "summary": "SD, 0.9 MB", "words": [], "weight": 1.0}
    return {**usual, "settings": {}, "told": "", "unfit": "", **more}


FEW = {"scheduler": "LCM", "schedule": "Automatic", "num_inference_steps": 4, "guidance_scale": 1}
AVAILABLE = [
    row("ink", "Ink sketch", words=["ink drawing", "hatching"], weight=0.8),
    row("few", "Four steps", settings=FEW, told=addons.told(FEW)),
    row("mosaic", "Pixel mosaic"),
    row("samplers", "Samplers", settings={"scheduler": "LCM"}, told="LCM"),
    row("xl", "For SDXL", unfit="For SDXL is made for SDXL, but Storybook is SD."),
]


class Desk:
    """The server's side of the bench page."""

    def __init__(self) -> None:
        self.sent: list[list[Any]] = []

    def build(self) -> gr.Blocks:
        quiet: dict[str, Any] = {"show_progress": "hidden"}
        with gr.Blocks(fill_width=True) as blocks, gr.Row(elem_id="bench"), gr.Column(elem_id="ask", scale=0):
            with gr.Column(elem_classes=["card"]):
                panel = loras("ask-loras")
            scheduler = gr.Dropdown(["DPM++ 2M", "LCM"], value="DPM++ 2M", label="Sampler")
            schedule = gr.Dropdown(["Automatic", "Karras"], value="Karras", label="Schedule")
            steps = gr.Number(20, label="Steps", elem_id="steps")
            guidance = gr.Number(5, label="Guidance", elem_id="guidance")
            curve = guidance_curve("ask-guidance_points")
            fields = [scheduler, schedule, steps, guidance, curve]
            panel.suited(None, [panel, *fields], fields, js=addons.JS_SUIT, **quiet)
            panel.changed(None, panel, js="value => { window.told = value.loras }", **quiet)

            def take(*values: Any) -> str:
                self.sent.append(list(values))
                return str(len(self.sent))

            sent = gr.Textbox(elem_id="sent", label="Sent")
            gr.Button("send", elem_id="send").click(take, [panel, *fields], sent, **quiet)
            given = [LoraWeight(name="ink", weight=0.5, end=0.5), {"name": "gone", "weight": -1}]
            gr.Button("restore", elem_id="restore").click(lambda: given, None, panel, **quiet)
            blocks.load(lambda: {**panel.still, "available": AVAILABLE}, None, panel, **quiet)
        return blocks


Open = Callable[..., Any]


@pytest.fixture(scope="module")
def desk() -> Iterator[tuple[Desk, str]]:
    desk = Desk()
    with bench.served(desk.build()) as address:
        yield desk, address


@pytest.fixture
def visit(newcomer: Newcomer, desk: tuple[Desk, str]) -> Open:
    desk[0].sent.clear()

    @contextmanager
    def open_page(width: int = 480, height: int = 900, **options: Any) -> Iterator[Page]:
        with newcomer(width, height, **options) as page:
            page.goto(desk[1])
            page.wait_for_selector(".loras-add")
            yield page

    return open_page


def pick(page: Page, title: str) -> Locator:
    page.click(".loras-add")
    page.click(f".picker-row:has-text('{title}')")
    line = page.locator(f".lora:has-text('{title}')")
    expect(line).to_be_visible()
    return line


def sent(page: Page, desk: Desk) -> tuple[tuple[LoraWeight, ...], list[Any]]:
    count = len(desk.sent)
    page.click("#send")
    expect(page.locator("#sent textarea, #sent input")).to_have_value(str(count + 1))
    rows, *fields = desk.sent[-1]
    return GenerationRequest.parse({"prompt": "x", "loras": rows}).loras, fields


def test_one_that_is_added_counts_with_its_own_weight(visit: Open, desk: tuple[Desk, str]) -> None:
    with visit() as page:
        expect(page.locator(".loras-none")).to_have_text("none")
        line = pick(page, "Ink sketch")
        assert sent(page, desk[0])[0] == (LoraWeight(name="ink", weight=0.8),)
        number = line.locator("input[type=number]")
        number.fill("-0.35")
        number.press("Tab")
        assert sent(page, desk[0])[0] == (LoraWeight(name="ink", weight=-0.35),)
        line.locator(".lora-name button").click()
        assert sent(page, desk[0])[0] == ()
        line.locator("button[aria-label='Remove Ink sketch']").click()
        expect(page.locator(".lora")).to_have_count(0)


def test_one_that_does_not_fit_says_why_and_cannot_be_added(visit: Open) -> None:
    with visit() as page:
        page.click(".loras-add")
        far = page.locator(".picker-row:has-text('For SDXL')")
        expect(far).to_be_disabled()
        expect(far).to_contain_text("made for SDXL, but Storybook is SD")
        page.fill(".picker input", "pixel")
        expect(page.locator(".picker-row")).to_have_count(1)
        page.fill(".picker input", "nothing of that name")
        expect(page.locator(".picker-none")).to_have_text("No LoRA is called that.")
        page.keyboard.press("Escape")
        expect(page.locator(".picker")).to_be_hidden()


def test_settings_that_suit_one_are_set_and_set_back(visit: Open, desk: tuple[Desk, str]) -> None:
    with visit() as page:
        pick(page, "Four steps")
        told = page.locator(".loras-suit")
        expect(told).to_contain_text("Set for Four steps: LCM, Automatic, 4 steps, guidance 1.")
        expect(page.locator("#steps input")).to_have_value("4")
        assert sent(page, desk[0])[1] == ["LCM", "Automatic", 4, 1, ()]
        told.locator("button").click()
        expect(page.locator("#steps input")).to_have_value("20")
        assert sent(page, desk[0])[1] == ["DPM++ 2M", "Karras", 20, 5, ()]
        expect(told).to_be_empty()


def test_removing_it_sets_back_as_well(visit: Open, desk: tuple[Desk, str]) -> None:
    with visit() as page:
        line = pick(page, "Four steps")
        expect(page.locator("#steps input")).to_have_value("4")
        line.locator("button[aria-label='Remove Four steps']").click()
        expect(page.locator("#steps input")).to_have_value("20")
        assert sent(page, desk[0])[1] == ["DPM++ 2M", "Karras", 20, 5, ()]


def test_a_drawn_guidance_is_laid_aside_for_it_and_comes_back(visit: Open, desk: tuple[Desk, str]) -> None:
    with visit() as page:
        page.locator("#ask-guidance_points").get_by_role("button", name="Fades out").click()
        drawn = sent(page, desk[0])[1][-1]
        assert len(drawn) == 2
        line = pick(page, "Four steps")
        told = page.locator(".loras-suit")
        expect(told).to_contain_text("guidance 1. The drawn guidance is laid aside.")
        expect(page.locator("#ask-guidance_points .curve-sheet circle")).to_have_count(0)
        assert sent(page, desk[0])[1] == ["LCM", "Automatic", 4, 1, ()]
        line.locator("button[aria-label='Remove Four steps']").click()
        expect(page.locator("#ask-guidance_points .curve-sheet circle")).to_have_count(2)
        assert sent(page, desk[0])[1] == ["DPM++ 2M", "Karras", 20, 5, drawn]
        pick(page, "Samplers")
        expect(told).to_have_text("Set for Samplers: LCM. Set back")
        assert sent(page, desk[0])[1] == ["LCM", "Karras", 20, 5, drawn]  # it says nothing of guidance


def test_what_is_folded_away_reaches_the_request(visit: Open, desk: tuple[Desk, str]) -> None:
    with visit() as page:
        line = pick(page, "Pixel mosaic")
        line.locator("button[aria-label='More of Pixel mosaic']").click()
        line.locator(".lora-same button").click()
        text = line.locator(".lora-details .unit-field input[type=number]").first
        text.fill("0.25")
        text.press("Tab")
        line.locator("button:has-text('Fades out')").click()
        dot = line.locator(".curve-sheet circle").nth(1)
        dot.focus()
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowLeft")
        (one,) = sent(page, desk[0])[0]
        assert (one.text_weight, one.points) == (0.25, ((0.0, 1.0), (0.95, 0.05)))
        expect(line.locator(".lora-word")).to_have_text("curve, text 0.25")
        page.keyboard.press("Shift+Tab")
        dot.focus()
        page.keyboard.press("Delete")
        (one,) = sent(page, desk[0])[0]
        assert one.points == ((0.0, 1.0),)


def test_a_curve_is_drawn_by_hand(visit: Open, desk: tuple[Desk, str]) -> None:
    with visit() as page:
        line = pick(page, "Pixel mosaic")
        line.locator("button[aria-label='More of Pixel mosaic']").click()
        sheet = line.locator(".curve-sheet")
        sheet.scroll_into_view_if_needed()
        box = sheet.bounding_box()
        assert box
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x, box["y"] + 1, steps=4)
        page.mouse.up()
        (one,) = sent(page, desk[0])[0]
        ((share, factor),) = one.points
        assert abs(share - 0.5) < 0.03 and factor == 2


def test_what_a_picture_had_is_shown_again(visit: Open, desk: tuple[Desk, str]) -> None:
    with visit() as page:
        page.click("#restore")
        expect(page.locator(".lora")).to_have_count(2)
        expect(page.locator(".lora:has-text('Ink sketch') .lora-word")).to_have_text("up to 50%")
        expect(page.locator(".lora:has-text('gone') .lora-problem")).to_contain_text("no LoRA of that name")
        assert [one.name for one in sent(page, desk[0])[0]] == ["ink", "gone"]


def test_trigger_words_and_the_models_page_are_heard(visit: Open, desk: tuple[Desk, str]) -> None:
    with visit() as page:
        page.evaluate("document.addEventListener('darkroom:words', (e) => { window.words = e.detail.text })")
        line = pick(page, "Ink sketch")
        line.locator(".chip:has-text('hatching')").click()
        assert page.evaluate("window.words") == "hatching"
        page.evaluate(
            "document.dispatchEvent(new CustomEvent('darkroom:lora', { detail: { name: 'mosaic' } }))"
        )
        expect(page.locator(".lora")).to_have_count(2)
        assert [one.name for one in sent(page, desk[0])[0]] == ["ink", "mosaic"]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_everybody_can_use_it(visit: Open, theme: str) -> None:
    with visit() as page:
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        line = pick(page, "Ink sketch")
        line.locator("button[aria-label='More of Ink sketch']").click()
        line.locator("button:has-text('Fades in')").click()
        assert violations(page, ".loras-panel", minor=True) == []


def test_the_page_needs_no_width(visit: Open, tmp_path: Path) -> None:
    with visit(width=390) as page:
        line = pick(page, "Ink sketch")
        line.locator("button[aria-label='More of Ink sketch']").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
