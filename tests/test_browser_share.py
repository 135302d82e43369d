"""Sharing and lessons in a real Chromium: a replay from disk without a network, a film given on, a tour."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from pipelines.request import GenerationRequest
from tests.support.browser import Newcomer, violations
from tests.support.films import Pairs, bench_app
from tests.support.served import serving
from tests.test_explore_share import HOSTILE
from tests.test_film_sharing import Copy, recorded
from ui.explore import lessons, replay
from ui.explore.runs import row

pytestmark = pytest.mark.browser


class Anything:
    """A library in which everything is found."""

    def find(self, *named: str) -> Any:
        return named

    addon = find

    def addons(self, sort: str) -> list[Any]:
        return []


class Teaching(Pairs):
    """Films whose runs say what they were asked for, as lessons look for them."""

    library = controls = Anything()

    def submit(self, request: GenerationRequest, client: str = "") -> str:
        job = super().submit(request, client)
        asked = request.model_dump(mode="json", exclude_defaults=True)
        self.trajectories.change(f"{job}-0", request=asked)
        return job

    def whole(self, name: str, job: str) -> str:
        """A lesson's run, recorded to its end."""
        request = lessons.request_of(name)
        steps = request.num_inference_steps
        run = self.add(
            job, steps, request.prompt, request=request.model_dump(mode="json", exclude_defaults=True)
        )
        for index in range(steps):
            (self.trajectories.folder(run) / "steps" / f"{index:05d}.safetensors").touch()
        return run


@pytest.fixture
def page(newcomer: Newcomer) -> Iterator[Page]:
    with newcomer(accept_downloads=True) as page:
        yield page


def grey(page: Page) -> int:
    """The red value in the middle of the canvas of the predicted picture."""
    return int(
        page.evaluate(
            """() => { const one = document.querySelectorAll('.lane:not([hidden]) canvas')[1];
            return one.getContext('2d').getImageData(one.width / 2, one.height / 2, 1, 1).data[0]; }"""
        )
    )


def test_a_replay_opens_from_disk_without_a_network_and_is_scrubbed(page: Page, tmp_path: Path) -> None:
    films = Pairs(tmp_path)
    run = films.add("a" * 16, 20, HOSTILE, still_from=12)
    film = films.films[run]
    full = [step["lanes"]["x0"] for step in film["steps"]]
    info = films.info(run)
    file = tmp_path / "replay.html"
    file.write_bytes(replay.replay(info, row(info), film, full, full[-1]))
    asked: list[str] = []
    logged: list[str] = []
    page.context.set_offline(True)
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: message.type == "error" and logged.append(message.text))
    page.goto(file.as_uri())
    expect(page.locator(".explore-strip .explore-where")).to_contain_text("Step 20 of 20")
    expect(page.locator(".lane-state:not(:empty)")).to_have_text("full decode")
    expect(page.locator(".curve-sentence")).to_contain_text("The last 8 of 20 steps")
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    page.keyboard.press("Home")
    expect(page.locator(".explore-strip .explore-where")).to_contain_text("Step 1 of 20")
    greys = page.evaluate("""() => {
        const slider = document.querySelector('.explore-strip .scrub');
        const canvas = document.querySelectorAll('.lane:not([hidden]) canvas')[1];
        return [...Array(20).keys()].map((step) => {
            slider.value = step;
            slider.dispatchEvent(new Event('input', { bubbles: true }));
            return canvas.getContext('2d').getImageData(8, 8, 1, 1).data[0];
        });
    }""")
    assert greys == sorted(set(greys)) and len(greys) == 20  # each step another picture, ever lighter
    page.get_by_role("button", name="Light or dark").click()
    assert violations(page) == []
    assert (asked, logged) == ([file.as_uri()], [])  # the file alone, and nothing that its policy refused


def test_a_film_is_saved_and_opened_by_another_copy(page: Page, tmp_path: Path) -> None:
    here, there = Copy(tmp_path / "here"), Teaching(tmp_path / "there")
    there.store = Copy(tmp_path / "there").pictures  # type: ignore[assignment]
    films = Pairs(here.data)
    films.store = here.pictures  # type: ignore[assignment]
    run = recorded(here)
    films.films[run] = there.films[run] = films.films[films.add("b" * 16, 3, "unused")]
    films.trajectories.delete("b" * 16 + "-0")
    with serving(bench_app(films)) as url:
        page.goto(url)
        page.get_by_role("button", name="Share this run").click()
        expect(page.get_by_role("dialog", name="Share this run")).to_be_visible()
        assert violations(page) == []
        page.get_by_role("radio", name="With its latents (ZIP)").check()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save").click()
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        assert file.name == f"darkroom-a-house-{run[:6]}.zip"
    with serving(bench_app(there)) as url:
        page.goto(url)
        page.locator("input[type=file]:not([hidden]), input[type=file]").first.set_input_files(file)
        expect(page.locator(".explore-told")).to_contain_text(["The film is here", ""])
        expect(page.locator(".run-face")).to_contain_text("a house")
        assert there.trajectories.steps(run) == 3 and there.info(run).pinned
        page.locator("input[type=file]").first.set_input_files(
            {"name": "x.zip", "mimeType": "application/zip", "buffer": b"PK nonsense"}
        )
        expect(page.locator(".explore-told.bad")).to_contain_text("no film of Darkroom")


PROGRESS = """([id, steps, done]) => document.dispatchEvent(new CustomEvent('darkroom:progress', {
    detail: { id, steps, total: 20, begun: 1, done, state: done ? 'finished' : 'running' } }))"""


def test_a_lesson_is_walked_by_keys_and_moves_what_is_there(page: Page, tmp_path: Path) -> None:
    films = Teaching(tmp_path)
    weak = films.whole("Guidance 1", "1" * 16)
    with serving(bench_app(films)) as url:
        page.goto(url)
        page.get_by_role("button", name="Lessons").click()
        expect(page.locator(".lesson-title")).to_be_focused()
        page.get_by_role("button", name="What guidance does").click()
        expect(page.locator(".lesson-place")).to_have_text("What guidance does: step 1 of 5")
        expect(page.locator(".run-face")).to_contain_text("yellow boat")
        expect(page.locator(".explore-strip .explore-where")).to_contain_text("Step 20 of 20")
        page.evaluate("document.addEventListener('darkroom:jobs', ({ detail }) => (window.jobs = detail))")
        page.get_by_role("button", name="Next").press("Enter")
        # The second run is not there: it is painted by the ordinary way, and told of meanwhile.
        page.wait_for_function("window.jobs")
        job = page.evaluate("window.jobs[0]")
        page.evaluate(PROGRESS, [job, 7, False])
        expect(page.locator(".lesson-status")).to_have_text("A run is being painted for this: step 7 of 20.")
        films.films[f"{job}-0"] = films.films[weak]
        for index in range(20):
            (films.trajectories.folder(f"{job}-0") / "steps" / f"{index:05d}.safetensors").touch()
        films.trajectories.change(f"{job}-0", total=20)
        page.evaluate(PROGRESS, [job, 20, True])
        expect(page.locator(".lesson-status")).to_have_text("")
        expect(page.locator(".lane:visible .lane-title")).to_have_text(
            ["Where it is heading", "Where the words pull"]
        )
        page.keyboard.press("Enter")
        expect(page.locator(".explore-strip .explore-where")).to_contain_text("Step 4 of")
        page.keyboard.press("Enter")
        expect(page.locator(".compare-body")).to_be_visible()
        expect(page.locator(".explore-compare")).to_have_class("explore-region explore-compare looked-at")
        page.keyboard.press("Enter")
        expect(page.locator(".compare-bar").get_by_role("button", name="Finished")).to_have_attribute(
            "aria-pressed", "true"
        )
        assert violations(page) == []
        assert [request.guidance_scale for request in films.asked] == [7]
        page.get_by_role("button", name="Done").click()
        expect(page.get_by_role("button", name="What guidance does Walked")).to_be_visible()
        page.get_by_role("button", name="Close").click()
        expect(page.locator(".lesson-card")).to_be_hidden()
        expect(page.locator(".looked-at")).to_have_count(0)
        expect(page.get_by_role("button", name="Lessons")).to_be_focused()
        expect(page.locator(".lane:visible")).to_have_count(4)  # as they were chosen by hand
