"""The Gallery tab in the whole page: pictures are found, sent on, compared, thrown away, brought in and out.

The pictures are drawn here; nothing needs the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

import pipelines
from pipelines import metadata
from tests.support.browser import Newcomer, restored, violations
from tests.support.served import served

pytestmark = pytest.mark.browser

HOUSE, BOAT = "a red house in the snow", "a blue boat on the sea"


@dataclass
class House:
    """The running program, and the folder of its pictures."""

    address: str
    outputs: Path

    def draw(self, number: int, prompt: str, size: tuple[int, int] = (96, 64)) -> Path:
        """A picture with its generation text, as if it had been painted."""
        path = self.outputs / "text2image" / f"2026-10-{1 + number % 20:02d}" / f"{number:05d}-{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = f"{prompt}\nNegative prompt: fog\nSteps: 4, Sampler: Euler, Seed: {number}, Size: 96x64"
        metadata.embed(Image.new("RGB", size, (8 * number % 256, 90, 140)), path, text)
        return path


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Iterator[House]:
    data = tmp_path_factory.mktemp("gallery")
    house = House("", data / "outputs")
    for number in range(30):
        house.draw(number, BOAT if number % 3 else HOUSE, (64, 96) if number % 5 == 0 else (96, 64))
    with pipelines.open(data, models=[tiny_models], process=True) as worker, served(worker, data) as address:
        house.address = address
        yield house


@pytest.fixture
def page(newcomer: Newcomer, house: House) -> Iterator[Page]:
    with newcomer() as page:
        page.goto(f"{house.address}/#gallery")
        restored(page)
        yield page


def turn(page: Page, tab: str) -> None:
    page.locator("#tabs").get_by_role("tab", name=tab).click()


def counted(page: Page, words: str) -> None:
    expect(page.locator(".gallery-count")).to_have_text(words)


def cell(page: Page, place: int) -> Locator:
    """The picture at that place of the list, from 1."""
    return page.locator(f".gallery-cell[aria-posinset='{place}']")


def test_what_cannot_be_verified_is_said_beside_the_picture(page: Page) -> None:
    cell(page, 1).click()
    viewer = page.locator(".gallery-viewer")
    viewer.get_by_role("button", name="Verify").click()
    expect(viewer.locator(".gallery-verdict")).to_have_attribute("data-state", "cannot")
    expect(viewer.locator(".gallery-verdict")).to_contain_text("another program")


def test_a_picture_is_found_looked_at_and_sent_to_a_painter(page: Page) -> None:
    counted(page, "30 pictures")
    assert violations(page) == []
    page.keyboard.press("/")
    page.keyboard.type("boat sea")
    counted(page, "20 pictures found")
    turn(page, "Text")
    turn(page, "Gallery")
    assert page.evaluate("location.hash") == "#gallery?q=boat+sea"
    cell(page, 2).click()
    viewer = page.locator(".gallery-viewer")
    expect(viewer.locator(".gallery-where")).to_have_text("2 of 20")
    page.keyboard.press("ArrowRight")
    expect(viewer.locator(".gallery-where")).to_have_text("3 of 20")
    expect(viewer.locator(".gallery-pairs")).to_contain_text("Euler")
    assert violations(page) == []
    page.keyboard.press("s")
    expect(viewer.get_by_role("button", name="Star (S)")).to_have_attribute("aria-pressed", "true")
    viewer.get_by_label("Note").fill("for the wall")
    viewer.get_by_role("button", name="Inpaint", exact=True).click()
    expect(viewer).to_be_hidden()
    expect(page.locator("#tabs").get_by_role("tab", name="Inpaint")).to_have_attribute(
        "aria-selected", "true"
    )
    expect(page.locator("#inpaint-image .teach")).to_be_hidden()  # it has a picture now
    turn(page, "Gallery")
    page.get_by_role("button", name="Starred 1").click()
    cell(page, 1).click()
    expect(viewer.get_by_label("Note")).to_have_value("for the wall")
    viewer.get_by_role("button", name="Use these settings").click()
    expect(page.locator("#ask-prompt textarea")).to_have_value(BOAT)
    expect(page.locator("#ask-negative_prompt").locator("textarea, input")).to_have_value("fog")


def test_two_are_compared_thrown_away_and_taken_back(page: Page, house: House) -> None:
    counted(page, "30 pictures")
    for place in (1, 4):
        cell(page, place).hover()
        cell(page, place).locator(".gallery-check").click()
    page.get_by_role("button", name="Compare").click()
    compare = page.locator(".gallery-compare")
    expect(compare.get_by_role("row", name="Seed")).to_be_visible()
    compare.get_by_role("button", name="Slider").click()
    expect(compare.get_by_label("Where one picture ends")).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="To trash").click()
    counted(page, "28 pictures")
    page.get_by_role("button", name="Undo").click()
    counted(page, "30 pictures")
    # The same with keys alone: a range is chosen and trashed, and Ctrl+Z takes it back.
    page.locator(".gallery-scroll").focus()
    page.keyboard.press("Home")
    for key in ("Space", "ArrowRight", "Shift+ArrowRight"):
        page.keyboard.press(key)
    expect(page.locator(".gallery-chosen")).to_have_text("3 chosen")
    page.keyboard.press("Delete")
    counted(page, "27 pictures")
    page.keyboard.press("Control+z")
    counted(page, "30 pictures")
    page.keyboard.press("Control+a")
    expect(page.locator(".gallery-chosen")).to_have_text("30 chosen")
    late = house.draw(99, "a cat that came from outside")  # the chosen ones stay chosen
    expect(page.locator(".gallery-place-button").first).to_have_text("All pictures31")
    expect(page.locator(".gallery-chosen")).to_have_text("30 chosen")
    late.unlink()
    page.keyboard.press("Escape")
    counted(page, "30 pictures")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert violations(page) == []


def test_pictures_are_brought_in_and_put_on_a_board(page: Page, house: House, tmp_path: Path) -> None:
    counted(page, "30 pictures")
    page.get_by_role("button", name="New board").click()
    page.keyboard.type("Wall")
    page.keyboard.press("Enter")
    expect(page.locator(".gallery-none h3")).to_have_text("“Wall” is empty")
    fresh = House("", tmp_path).draw(7, "a yellow balloon")
    known = next(house.outputs.rglob("00003-3.png"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    page.get_by_role("button", name="Import").click()
    page.locator(".gallery-import input[type=file]").first.set_input_files([fresh, known, broken])
    expect(page.locator(".gallery-progress")).to_contain_text(
        "1 picture imported, 1 known already, 1 refused"
    )
    page.get_by_role("button", name="Close", exact=True).click()
    page.get_by_role("button", name="All pictures").click()
    counted(page, "31 pictures")
    cell(page, 2).drag_to(page.locator(".gallery-places li", has_text="Wall"))
    expect(page.locator(".gallery-told")).to_contain_text("1 picture on “Wall” now.")
    cell(page, 1).hover()
    cell(page, 1).locator(".gallery-check").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export ZIP").click()
    assert len([name for name in ZipFile(download.value.path()).namelist() if name.endswith(".png")]) == 1
