"""Branching, the tree and comparing in a real Chromium: over drawn films, and over the whole program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

import pipelines
from pipelines.controlnet.control import ControlLibrary
from pipelines.engine import EngineSettings
from pipelines.pictures import PictureStore
from pipelines.request import GenerationRequest
from tests.support.browser import Newcomer, ready
from tests.support.films import PROMPT, Pairs, bench_app, related
from tests.support.served import served, serving

pytestmark = pytest.mark.browser


class Branching(Pairs):
    """Films that can be branched and compared, of a program whose runs are only asked for."""

    def __init__(self, data: Path):
        super().__init__(data)
        self.store: Any = PictureStore(data / "inputs")
        self.library = EngineSettings(data).library()
        self.controls = ControlLibrary(self.library.folders, self.library.assets, self.library)
        self.submitted: list[GenerationRequest] = []

    def submit(self, request: GenerationRequest, client: str = "") -> str:
        self.submitted.append(request)
        return "e" * 16


@pytest.fixture
def films(tmp_path: Path) -> Branching:
    made = Branching(tmp_path)
    related(made)
    return made


@pytest.fixture
def page(newcomer: Newcomer, films: Branching) -> Iterator[Page]:
    with serving(bench_app(films)) as url, newcomer() as page:
        page.goto(url)
        expect(page.get_by_role("treeitem")).to_have_count(3)
        yield page


def node(page: Page, name: str) -> Any:
    return page.get_by_role("treeitem", name=name)


def test_a_branch_asks_for_what_was_changed_at_the_step_that_is_looked_at(
    page: Page, films: Branching
) -> None:
    node(page, "Seed 7").click()
    expect(page.get_by_text("Step 20 of 20, t")).to_be_visible()
    slider = page.get_by_role("slider", name="Step").first
    box = slider.bounding_box()
    assert box is not None
    slider.click(position={"x": box["width"] * 7 / 19, "y": box["height"] / 2})
    expect(page.get_by_text("From step 8 of 20 on")).to_be_visible()
    expect(page.get_by_text("bit for bit")).to_be_visible()
    page.get_by_label("Prompt of the branch").fill("a red house at noon")
    expect(page.get_by_text("7 steps are taken over, 13 steps are computed anew.")).to_be_visible()
    page.get_by_text("More to change").click()
    page.get_by_role("switch", name="Storybook in ink").click()
    page.get_by_label("Seed of the remaining noise").fill("5")
    page.get_by_role("button", name="Branch here").click()
    expect(page.get_by_text("The branch waits for its turn.")).to_be_visible()
    [asked] = films.submitted
    assert asked.branch is not None
    assert (asked.branch.trajectory, asked.branch.step, asked.branch.noise_seed) == (f"{'a' * 16}-0", 7, 5)
    expected = {
        "prompt": "a red house at noon",
        "seed": 7,
        "branch": asked.branch.model_dump(exclude_defaults=True),
    }
    assert asked.model_dump(exclude_defaults=True) == expected


def test_what_stays_as_it_is_is_shown_with_its_reason(page: Page) -> None:
    page.get_by_text("What stays as it is").click()
    told = page.locator(".branch-locked")
    for title in ("Model", "Sampler", "Steps", "Size", "Seed"):
        expect(told.get_by_role("term").filter(has_text=title)).to_be_visible()
    expect(told).to_contain_text("They space the noise levels of the steps before.")


def test_one_click_leaves_a_thing_out(page: Page, films: Branching) -> None:
    node(page, "Seed 7").click()
    page.get_by_text("What did this do?").click()
    page.get_by_role("button", name="Leave out red", exact=True).click()
    expect(page.get_by_text("The branch waits for its turn.")).to_be_visible()
    page.get_by_role("button", name="Leave out the LoRA Storybook in ink").click()
    expect(page.get_by_role("button", name="Branch here")).to_be_enabled()
    assert [(one.prompt, len(one.loras)) for one in films.submitted] == [
        ("a house at night, snow", 1),
        (PROMPT, 0),
    ]
    assert all(one.branch is not None and one.branch.step == 0 for one in films.submitted)


def test_a_branch_of_a_deleted_run_is_told_in_a_sentence(page: Page, films: Branching) -> None:
    node(page, "Seed 7").click()
    expect(node(page, "Seed 7")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("button", name="Branch here")).to_be_enabled()
    films.trajectories.delete(f"{'a' * 16}-0")
    page.get_by_role("button", name="Branch here").click()
    expect(page.get_by_text("The recorded run is not there any more")).to_be_visible()
    assert not films.submitted


# --------------------------------------------------------------------------------- over the whole program


@pytest.fixture
def program(newcomer: Newcomer, tmp_path: Path) -> Iterator[Page]:
    """The page of the whole program."""
    with (
        pipelines.open(tmp_path, process=True) as worker,
        served(worker, tmp_path) as url,
        newcomer() as page,
    ):
        page.goto(url)
        ready(page)
        yield page


def test_a_run_is_opened_scrubbed_changed_at_step_8_and_compared(program: Page) -> None:
    page = program
    page.fill("#ask-prompt textarea", "a red house in the snow by day")
    page.fill("#ask-seed input", "7")
    page.fill("#ask-num_inference_steps input[type=number]", "12")
    page.click("#generate")
    page.get_by_role("button", name="Look inside").click()
    expect(page.get_by_role("treeitem")).to_have_count(1)
    page.locator(".explore-strip .frame").nth(7).click()
    expect(page.get_by_text("From step 8 of 12 on")).to_be_visible()

    page.get_by_role("button", name="Branch here").click()  # with nothing changed
    expect(page.get_by_role("treeitem", name="nothing changed from step 8")).to_be_visible()
    expect(page.get_by_text("The branch is finished.")).to_be_visible()
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Compare the new branch with its parent").click()
    words = page.locator(".compare-words")
    expect(words).to_contain_text("They part nowhere: all 12 steps are the same, bit for bit.")
    page.get_by_role("button", name="Finished").click()
    expect(words).to_contain_text("The finished pictures are equal: the difference is exactly 0.")

    page.get_by_role("tab", name="Branch").click()
    page.get_by_label("Prompt of the branch").fill("a red house in the snow at night")
    page.get_by_role("button", name="Branch here").click()
    night = page.get_by_role("treeitem", name="at night from step 8")
    expect(page.get_by_text("The branch is finished.")).to_be_visible()
    night.hover()
    night.get_by_role("button", name="Compare").click()
    expect(words).to_contain_text("They part at step 8.")

    page.get_by_role("tab", name="Branch").click()
    night.focus()
    page.keyboard.press("Delete")
    expect(night).to_have_count(0)
    page.get_by_text("Trash (1)", exact=True).last.click()
    page.locator(".tree-lying").get_by_role("button").click()
    expect(page.get_by_role("treeitem")).to_have_count(3)
