"""Curves, the sampler lab and the forward process in a real Chromium, over the whole program."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

import pipelines
from pipelines.worker import Worker
from tests.support.browser import Newcomer, ready
from tests.support.served import served

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with pipelines.open(tmp_path_factory.mktemp("data")) as worker:
        yield worker


@pytest.fixture
def page(newcomer: Newcomer, worker: Worker) -> Iterator[Page]:
    with served(worker, worker.store.root.parent) as url, newcomer() as page:
        page.goto(url)
        ready(page)
        yield page


def test_guidance_is_drawn_by_mouse_and_eta_shows_where_it_counts(page: Page, worker: Worker) -> None:
    page.fill("#ask-prompt textarea", "a red house")
    page.fill("#ask-num_inference_steps input[type=number]", "3")
    page.fill("#ask-width input", "64")
    page.fill("#ask-height input", "64")
    heading = page.get_by_role("button", name="Guidance over the steps")
    heading.click()
    sheet = page.locator("#ask-guidance_points .curve-sheet")
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + 2, box["y"] + 2, steps=4)
    page.mouse.up()
    page.mouse.click(box["x"] + box["width"] * 0.9, box["y"] + box["height"] - 2)
    last = page.locator("#ask-guidance_points").get_by_role("slider", name="Point 2")
    last.focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#ask-curve .set")).to_have_text("12 → 1.5")
    expect(page.locator("#ask-eta")).to_be_hidden()
    page.click("#ask-scheduler input")
    page.get_by_role("option", name="DDIM", exact=True).click()
    page.fill("#ask-eta input[type=number]", "0.5")
    page.keyboard.press("Tab")
    page.click("#generate")
    expect(page.get_by_role("button", name="Look inside")).to_be_visible()
    request = worker.job(worker.trajectories.list()[0].job).request
    (first, strong), (then, weak) = request.guidance_points
    assert first == 0 and strong == 12 and 0.85 < then < 0.95 and weak == 1.5
    assert (request.scheduler, request.eta) == ("DDIM", 0.5)

    page.reload()
    expect(page.locator("#ask-curve .set")).to_have_text("12 → 1.5")
    expect(page.locator("#ask-eta input[type=number]")).to_have_value("0.5")
    heading.click()
    page.locator("#ask-guidance_points").get_by_role("button", name="Level").click()
    expect(page.locator("#ask-curve .set")).to_be_empty()


def test_samplers_are_compared_and_a_cell_opens_its_run(page: Page, worker: Worker) -> None:
    worker.generate("a red house", width=64, height=64, num_inference_steps=3, seed=4)
    run = worker.trajectories.list()[0].id
    page.evaluate("run => document.dispatchEvent(new CustomEvent('darkroom:explore', {detail: {run}}))", run)
    page.get_by_role("tab", name="Lab").click()
    page.get_by_role("button", name="DDPM against DDIM").click()
    page.get_by_text("What is compared").click()
    expect(page.get_by_label("Eta of samplers that take it")).to_have_value("0, 0.5, 1")
    page.get_by_label("Numbers of steps").fill("2, 4")
    page.get_by_label("Steps of the long run").fill("8")
    page.get_by_role("button", name="Compare 8 pictures").click()
    row = page.get_by_role("row", name="DDIM, η 0.5")
    expect(row.get_by_text("dB")).to_have_count(2)
    expect(page.locator(".lab-cell:not(:disabled)")).to_have_count(9)
    expect(page.locator(".lab-plot .lab-dot").first).to_be_visible()
    row.get_by_role("button").first.click()
    expect(page.get_by_text("of 2 on")).to_be_attached()  # the branch region speaks of the run that is open
    expect(row.get_by_role("button").first).to_have_attribute("data-open", "")

    page.get_by_text("The forward process").click()
    where = page.locator(".forward-where")
    expect(where).to_contain_text("signal to noise")
    slider = page.get_by_role("slider", name="How far the picture is noised")
    before = where.inner_text()
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(where).not_to_have_text(before)
    page.get_by_label("Sampler of the schedule").select_option("DPM++ 2M")
    chosen = page.locator(".forward-line.chosen title").first
    expect(chosen).to_have_text("DPM++ 2M, Automatic")
