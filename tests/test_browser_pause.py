"""Pausing a run in a real Chromium, over the whole program: by mouse, by key, over a reload, in Explore."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import pipelines
from tests.support.browser import Newcomer, ask, choose, frames, ready, violations
from tests.support.served import served

pytestmark = pytest.mark.browser


@pytest.fixture
def page(newcomer: Newcomer, tiny_models: Path, tmp_path: Path) -> Iterator[Page]:
    with (
        pipelines.open(tmp_path, models=[tiny_models], process=True, film_bytes=0) as worker,
        served(worker, tmp_path) as url,
        newcomer() as page,
    ):
        page.goto(url)
        ready(page)
        choose(page, "sd")
        yield page


def test_a_run_rests_is_looked_into_and_goes_on(page: Page) -> None:
    what, pause, go_on = (
        page.locator(".what"),
        page.get_by_role("button", name="Pause", exact=True),
        page.get_by_role("button", name="Continue", exact=True),
    )
    ask(page, "a yellow boat on the sea", 150, seed="3")
    frames(page, 3)
    pause.click()
    expect(what).to_contain_text(re.compile(r"Step \d+ of 150, paused"))
    expect(page.locator("body.running")).to_have_count(0)
    rested = page.locator("#stage .frame.full").count()
    expect(pause).to_be_hidden()
    assert violations(page) == []
    # Another run is painted meanwhile, and the one that rests is where it was.
    ask(page, "two pines at sunset", 2, seed="4")
    expect(page.locator(".tile img").first).to_have_attribute("alt", re.compile("two pines.*seed 4"))
    page.reload()
    ready(page)
    page.locator(".tile", has_text="paused").click()
    expect(what).to_contain_text(", paused")
    page.get_by_role("button", name="Look inside").first.click()
    expect(page.locator("body[data-tab=explore]")).to_be_visible()
    expect(page.locator(".run-about")).to_contain_text("paused")
    expect(page.get_by_role("button", name="Branch here").first).to_be_enabled()
    page.locator("[role=tab]", has_text="Text").click()
    expect(go_on).to_be_visible()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("p")
    expect(what).to_contain_text("Finished, seed 3")
    assert page.locator("#stage .frame.full").count() == 151 > rested
