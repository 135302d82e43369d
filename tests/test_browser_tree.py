"""The tree of branches and comparing in a real Chromium, over drawn films."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import Newcomer
from tests.support.films import Pairs, bench_app, related
from tests.support.served import serving

pytestmark = pytest.mark.browser


@pytest.fixture
def films(tmp_path: Path) -> Pairs:
    made = Pairs(tmp_path)
    related(made)
    return made


@pytest.fixture
def page(newcomer: Newcomer, films: Pairs) -> Iterator[Page]:
    with serving(bench_app(films)) as url, newcomer() as page:
        page.goto(url)
        expect(page.get_by_role("treeitem")).to_have_count(3)
        yield page


def node(page: Page, name: str) -> Any:
    return page.get_by_role("treeitem", name=name)


def test_the_tree_is_walked_and_changed_by_keyboard(page: Page, films: Pairs) -> None:
    root = node(page, "Seed 7")
    root.click()
    expect(root).to_have_attribute("aria-selected", "true")
    root.focus()
    page.keyboard.press("ArrowRight")
    expect(node(page, "noon from step 9")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(node(page, "guidance 9 from step 5")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(root).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("F2")
    page.get_by_label("Name of this run").last.fill("stricter")
    page.keyboard.press("Enter")
    expect(node(page, "stricter")).to_be_focused()
    page.keyboard.press("Enter")
    expect(node(page, "stricter")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Delete")
    expect(page.get_by_role("treeitem")).to_have_count(2)
    assert films.trajectories.get(f"{'b' * 16}-0").trashed
    page.get_by_text("Trash (1)", exact=True).last.click()
    page.get_by_role("button", name="Restore Seed 7").click()
    expect(page.get_by_role("treeitem")).to_have_count(3)
    assert films.trajectories.get(f"{'c' * 16}-0").name == "stricter"


def test_a_parent_in_the_trash_keeps_its_place_and_can_be_brought_back(page: Page, films: Pairs) -> None:
    films.trajectories.trash(f"{'a' * 16}-0")
    node(page, "noon").click()
    root = node(page, "Seed 7 in the trash")
    root.hover()
    root.get_by_role("button", name="Restore").click()
    expect(node(page, "Seed 7 in the trash")).to_have_count(0)
    films.trajectories.delete(f"{'a' * 16}-0")
    # By its run: it is named by what it changed of its parent, so a tree drawn meanwhile calls it otherwise.
    page.locator(f"[data-run='{'c' * 16}-0'] .tree-face").click()
    expect(node(page, "A run that was deleted its branches are kept")).to_be_visible()


def test_two_runs_are_compared_in_step_with_the_slider(page: Page) -> None:
    node(page, "Seed 7").click()
    other = node(page, "noon")
    other.hover()
    other.get_by_role("button", name="Compare").click()
    words = page.locator(".compare-words")
    expect(words).to_contain_text("They part at step 9.")
    page.get_by_role("button", name="Show step 9").click()
    expect(words).to_contain_text("Here they differ by 25%, 20.0 dB.")
    page.get_by_role("button", name="Difference").click()
    expect(page.get_by_alt_text("What differs, step 9: black is the same")).to_be_visible()
    page.get_by_role("button", name="Wipe").click()
    page.get_by_label("Where one picture ends").press("Home")
    expect(page.locator(".compare-screen")).to_have_attribute("style", "--edge: 0%;")
    page.get_by_role("button", name="Finished").click()
    expect(words).to_contain_text("43% of the pixels differ")
