"""Words in a real Chromium, over the whole program: click one, see where it acts, and make that a mask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

import pipelines
from pipelines.worker import Worker
from tests.support.browser import Newcomer, restored, violations
from tests.support.served import served

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with pipelines.open(tmp_path_factory.mktemp("data"), process=True) as worker:
        worker.generate("a red house in the snow at night", seed=7, num_inference_steps=8)
        yield worker


@pytest.fixture
def page(newcomer: Newcomer, worker: Worker) -> Iterator[Page]:
    with served(worker, worker.store.root.parent) as url, newcomer() as page:
        page.goto(f"{url}/#explore")
        restored(page)
        yield page


def drawn(page: Page) -> str:
    """The drawing, to be compared."""
    return str(page.locator(".words-screen canvas").evaluate("one => one.toDataURL()"))


def test_a_word_glows_where_it_acts_and_becomes_a_mask(page: Page, worker: Worker) -> None:
    page.get_by_role("tab", name="Explore").click()
    page.get_by_role("tab", name="Words").click()
    words = page.get_by_role("group", name="Words of the prompt")
    house = words.get_by_role("button", name="house")
    expect(house).to_be_visible()
    page.wait_for_function("document.querySelector('.words-screen canvas').width > 100")
    plain = drawn(page)
    house.click()
    expect(house).to_have_attribute("aria-pressed", "true")
    scale = page.locator(".words-scale")
    expect(scale).to_contain_text("%")
    assert drawn(page) != plain
    layers = page.get_by_role("combobox", name="Layer")
    mean = drawn(page)
    layers.select_option(index=1)
    assert drawn(page) != mean
    layers.select_option(index=0)

    canvas = page.locator(".words-screen canvas")
    canvas.click(position={"x": 60, "y": 60})
    ranks = page.get_by_role("list", name="Words that act there").get_by_role("listitem")
    expect(ranks).to_have_count(7)
    expect(ranks.last).to_contain_text("No word")
    canvas.press("ArrowDown")
    assert violations(page) == []

    page.locator(".explore-strip .frame").nth(2).click()  # another step is listened to once the hand rests
    expect(page.get_by_text("Where words act at step 3 of 8")).to_be_visible()
    expect(scale).to_be_visible()

    page.get_by_text("Make it a mask").click()
    expect(page.get_by_text("of the picture")).to_be_visible()
    page.get_by_role("slider", name="it is mask").fill("60")
    share = float((page.locator(".words-share").text_content() or "").split("%")[0])
    page.get_by_role("button", name="Use as mask").click()
    expect(page.locator("#inpaint-image canvas").first).to_be_visible()
    page.fill("#ask-prompt textarea", "a blue house in the snow at night")
    page.fill("#ask-num_inference_steps input[type=number]", "4")
    page.click("#generate")
    expect(page.get_by_text("outside the mask are the original")).to_be_visible()
    newest: Any = worker.trajectories.list()[0]
    assert newest.task == "inpaint"
    mask = worker.store.load(newest.request["mask_image"]).rgb()
    assert abs(float((np.asarray(mask)[..., 0] > 127).mean() * 100) - share) < 2
