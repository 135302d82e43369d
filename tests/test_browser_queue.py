"""The queue view in a real Chromium over the real engine: alike in two windows, changed by hand and key."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

import pipelines
from pipelines.events import Failed, Finished
from pipelines.worker import Worker
from tests.support.browser import Newcomer, ready, violations
from tests.support.served import served
from tests.support.tiny import request

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def models(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_models / "sd", folder / "sd")
    return folder


@pytest.fixture
def worker(models: Path, tmp_path: Path) -> Iterator[Worker]:
    with pipelines.open(tmp_path / "data", models=[models]) as worker:
        worker.queue.pause(True)
        yield worker


@pytest.fixture
def windows(worker: Worker, tmp_path: Path, newcomer: Newcomer) -> Iterator[tuple[Page, Page]]:
    """A wide window and a phone's, both with the queue open; at the end no error was logged."""
    with (
        served(worker, tmp_path / "data") as address,
        newcomer(1360, 860, reduced_motion="reduce") as wide,
        newcomer(390, 844, reduced_motion="reduce") as phone,
    ):
        for page in (wide, phone):
            page.goto(address)
            ready(page)
            page.click("#queue-button")
        yield wide, phone


def asked(worker: Worker, *names: str) -> list[str]:
    return [worker.submit(request(prompt=name, seed=5)) for name in names]


def waiting(page: Page) -> Locator:
    return page.get_by_role("list", name="Waiting, in order").locator(".queue-name")


def row(page: Page, name: str) -> Locator:
    return page.locator(".queue-row").filter(has=page.get_by_role("button", name=name, exact=True))


def test_the_queue_is_the_same_in_every_window_and_changed_by_hand_and_by_key(
    worker: Worker, windows: tuple[Page, Page]
) -> None:
    page, phone = windows
    expect(phone.get_by_text("Nothing waits.")).to_be_visible()
    assert violations(phone) == []
    asked(worker, "one", "two", "three", "four")
    for window in windows:
        expect(waiting(window)).to_have_text(["one", "two", "three", "four"])
        expect(window.locator(".queue b")).to_have_text("4")
        expect(window.get_by_text("nothing new begins")).to_be_visible()
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    # By key: the focus goes with the row, and what came of it is read aloud.
    waiting(page).nth(3).focus()
    page.keyboard.press("Alt+ArrowUp")
    expect(page.get_by_text("Place 3 of 4.")).to_be_visible()
    expect(waiting(page)).to_have_text(["one", "two", "four", "three"])
    expect(waiting(page).nth(2)).to_be_focused()
    page.keyboard.press("Home")
    expect(waiting(page).first).to_be_focused()
    # By hand, on the phone: once its rows stand where the key has put them.
    expect(waiting(phone)).to_have_text(["one", "two", "four", "three"])
    grip, target = (row(phone, name).locator(".queue-grip").bounding_box() for name in ("four", "one"))
    assert grip and target
    phone.mouse.move(grip["x"] + 10, grip["y"] + 20)
    phone.mouse.down()
    phone.mouse.move(grip["x"] + 10, grip["y"] - 40)
    phone.mouse.move(grip["x"] + 10, target["y"] + 2)
    phone.mouse.up()
    for window in windows:
        expect(waiting(window)).to_have_text(["four", "one", "two", "three"])
    # A job is held back, one is taken out and put back, one comes last.
    row(page, "two").get_by_role("button", name="Hold back").click()
    expect(row(phone, "two")).to_contain_text("Held back")
    row(phone, "one").get_by_role("button", name="Take out").click()
    expect(waiting(page)).to_have_text(["four", "two", "three"])
    phone.get_by_role("button", name="Undo").click()
    expect(waiting(page)).to_have_text(["four", "one", "two", "three"])
    row(page, "four").locator(".queue-name").click()
    row(page, "four").get_by_role("button", name="When idle").click()
    expect(waiting(phone)).to_have_text(["one", "two", "three", "four"])
    assert violations(page) == [] and violations(phone) == []
    # The queue goes on: what was held back stays.
    page.get_by_role("button", name="Go on", exact=True).click()
    for window in windows:
        expect(waiting(window)).to_have_text(["two"])
    page.keyboard.press("Escape")
    expect(page.locator("#queue-panel")).to_be_hidden()
    expect(page.locator("#queue-button")).to_be_focused()


def test_a_waiting_job_is_changed_and_one_that_failed_is_tried_again(
    worker: Worker, windows: tuple[Page, Page], models: Path
) -> None:
    page, phone = windows
    job, other = asked(worker, "a red house", "a blue house")
    row(page, "a red house").locator(".queue-name").click()
    row(page, "a red house").get_by_role("button", name="Change").click()
    prompt = page.locator("#ask-prompt textarea")
    expect(prompt).to_have_value("a red house")
    expect(page.get_by_text("Generate puts them in its place").first).to_be_visible()
    expect(row(phone, "a red house")).to_contain_text("Held back")
    prompt.fill("a green house")
    page.click("#generate")
    for window in windows:
        expect(waiting(window)).to_have_text(["a green house", "a blue house"])
    expect(page.locator(".queue-editing")).to_have_count(0)
    weights = next((models / "sd" / "unet").glob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:2000])
    try:
        worker.queue.pause(False)
        assert isinstance(list(worker.follow(other))[-1], Failed)
    finally:
        weights.write_bytes(whole)
    failed = page.get_by_role("list", name="Ended with an error").locator(".queue-row")
    expect(failed).to_have_count(2)
    expect(page.locator("#queue-button")).to_have_attribute("data-failed", "")
    expect(failed.first.locator(".queue-trouble")).to_be_visible()
    assert violations(page) == []
    row(page, "a green house").get_by_role("button", name="Try again").click()
    expect(row(page, "a green house")).to_have_count(0)
    row(page, "a blue house").get_by_role("button", name="Dismiss").click()
    for window in windows:
        expect(window.get_by_text("Nothing waits.")).to_be_visible()
    again = worker.journal.ended(1)[0]
    assert again.id != job and again.request["prompt"] == "a green house"
    assert isinstance(worker.job(again.id).events[-1], Finished)


def test_a_stream_that_was_refused_is_asked_for_again(
    worker: Worker, tmp_path: Path, newcomer: Newcomer
) -> None:
    with served(worker, tmp_path / "data") as address, newcomer() as page:
        page.route("**/darkroom/models/feed*", lambda route: route.fulfill(status=503), times=1)
        page.goto(address)
        ready(page)
        asked(worker, "one")
        expect(page.locator(".queue b")).to_have_text("1")
