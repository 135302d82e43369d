"""The Models tab in the whole page, over the real engine.

Files are dropped into the folder and used, a picture becomes a thumbnail, a hub in miniature is fetched from.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import pipelines
from tests.support import weights
from tests.support.browser import Newcomer, ask, choose, restored, violations
from tests.support.hub import Repo, TinyHub
from tests.support.served import served
from ui.components.models import ASKS
from ui.models import Stock

pytestmark = pytest.mark.browser


@dataclass
class House:
    """The running program, and the folder that it looks into."""

    address: str
    models: Path
    stock: Stock
    hub: TinyHub


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    models = folder / "models"
    shutil.copytree(tiny_models / "sd", models / "checkpoints" / "little")
    monkey = pytest.MonkeyPatch()
    monkey.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkey.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(folder / "token"))
    with (
        TinyHub().running() as hub,
        pipelines.open(folder / "data", models=[models], process=True) as worker,
    ):
        stock = Stock(worker, endpoint=hub.address, cache=folder / "cache", rows=())
        with served(worker, folder / "data", stock=stock) as address:
            yield House(address, models, stock, hub)
            hub.go.set()
    monkey.undo()


@pytest.fixture
def page(newcomer: Newcomer, house: House) -> Iterator[Page]:
    with newcomer() as page:
        page.goto(house.address)
        restored(page)
        yield page


def turn(page: Page, tab: str) -> None:
    page.locator("#tabs").get_by_role("tab", name=tab).click()


def titled(page: Page, title: str) -> None:
    expect(page.locator(".model-open").get_by_text(title, exact=True)).to_be_visible()


def offered(page: Page) -> list[str]:
    """What the header's list offers."""
    page.click("#model input")
    offers = page.get_by_role("listbox").get_by_role("option")
    expect(offers.first).to_be_visible()
    names = [one.get_attribute("aria-label") or "" for one in offers.all()]
    page.click("#name")  # a list that has the focus keeps what it shows
    return names


def test_what_is_dropped_into_the_folder_is_there_to_be_used(page: Page, house: House) -> None:
    turn(page, "Models")
    titled(page, "Storybook")
    expect(page.locator("#generate")).to_be_hidden()
    assert violations(page) == []
    shutil.copytree(house.models / "checkpoints" / "little", house.models / "checkpoints" / "fresh")
    titled(page, "fresh")
    page.get_by_role("button", name="Use fresh").click()
    page.wait_for_function("document.querySelector('#model input').value.startsWith('fresh')")
    expect(page.locator(".model-card.chosen .model-open")).to_have_text("fresh")
    weights.save(house.models / "loras" / "ann.safetensors", weights.lora(32))
    titled(page, "ann")
    page.get_by_role("button", name="Favourite: fresh").click()
    expect(page.get_by_role("button", name="Favourite: fresh")).to_have_attribute("aria-pressed", "true")
    page.reload()
    restored(page)
    assert page.input_value("#model input").startswith("fresh")
    names = [name.split(" · ")[0].strip() for name in offered(page)]
    # The embedded ones, favourites, then by title.
    assert names == ["Storybook", "Storybook pixels", "fresh", "little"]
    shutil.rmtree(house.models / "checkpoints" / "fresh")
    page.wait_for_function("document.querySelector('#model input').value.startsWith('Storybook')")


def test_the_last_picture_becomes_a_cards_picture(page: Page) -> None:
    choose(page, "little")
    ask(page, "a house", 2)
    expect(page.locator(".picture.final")).to_be_visible()
    turn(page, "Models")
    page.locator(".model-open").get_by_text("little", exact=True).click()
    page.get_by_role("button", name="Use the last picture").click()
    image = page.locator(".model-card.chosen img")
    expect(image).to_be_visible()
    page.wait_for_function("document.querySelector('.model-card.chosen img').naturalWidth === 64")
    page.get_by_role("button", name="Remove it").click()
    expect(page.locator(".model-card.chosen img")).to_have_count(0)


def test_a_lora_is_fetched_with_a_pause_and_added_to_the_run(
    page: Page, house: House, tmp_path: Path
) -> None:
    body = weights.save(tmp_path / "a.safetensors", weights.lora(32, rank=64)).read_bytes()
    house.hub.repos["ann/fetched"] = Repo({"fetched.safetensors": body})
    house.hub.hold["fetched.safetensors"] = len(body) // 2
    choose(page, "little")
    turn(page, "Models")
    page.locator("#models").get_by_role("tab", name="Fetch").click()
    page.get_by_label("Hub id or address").fill("ann/fetched/fetched.safetensors")
    page.keyboard.press("Enter")
    found = page.locator(".fetch-found")
    expect(found.locator(".fetch-sentence")).to_contain_text("free")
    found.get_by_role("button", name="Fetch it").click()
    row = page.locator(".fetch-row")
    row.get_by_role("button", name="Pause").click()
    expect(row.locator(".fetch-line")).to_contain_text("paused")
    house.hub.go.set()
    row.get_by_role("button", name="Resume").click()
    row.get_by_role("button", name="Show").click()
    expect(page.locator(".model-name")).to_have_text("fetched")
    page.locator(".model-sheet").get_by_role("button", name="Add to the run").click()
    turn(page, "Text")
    expect(page.locator(".lora-title")).to_have_text("fetched")


def test_the_house_is_quiet_when_nothing_happens(page: Page) -> None:
    """Searching and ordering ask the server for nothing, and nothing is asked for again and again."""
    turn(page, "Models")
    titled(page, "Storybook")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.post_data or ""))
    page.get_by_role("searchbox", name="Search what is on this computer").fill("story")
    there = page.get_by_role("tabpanel", name="On this computer")
    there.get_by_label("Order").select_option(label="Newest first")
    page.evaluate("new Promise((resolve) => requestIdleCallback(resolve))")
    assert [text for text in asked if any(f'"fn_name":"{name}"' in text for name in ASKS)] == []
