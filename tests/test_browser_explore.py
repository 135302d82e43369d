"""The Explore tab in a real Chromium, over films that are drawn here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import Newcomer, violations
from tests.support.films import Films, bench_app
from tests.support.served import serving

pytestmark = pytest.mark.browser

Visit = Callable[..., Any]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Films:
    films = Films(tmp_path_factory.mktemp("films"))
    films.add("3a7bd5" + "0" * 10, 20, "a red house in the snow", created=1.79e9)
    films.add("c0ffee" + "0" * 10, 50, "a sailboat on the sea", still_from=41, created=1.795e9)
    return films


PROGRESS = """([id, steps]) => document.dispatchEvent(new CustomEvent('darkroom:progress', {
    detail: { id, steps, begun: 1, done: steps > 11 } }))"""
"""What the stage tells of a job that it follows."""

RUNNING = "ab1e" + "0" * 12
HOUSE, BOAT = "3a7bd5" + "0" * 10 + "-0", "c0ffee" + "0" * 10 + "-0"


@pytest.fixture(scope="module")
def address(films: Films) -> Iterator[str]:
    with serving(bench_app(films)) as url:
        yield url


@pytest.fixture
def visit(newcomer: Newcomer, address: str) -> Visit:
    """Opens the tab over the drawn films; at the end no error was logged."""

    @contextmanager
    def open_page(width: int = 1360, height: int = 860, url: str = address, **options: Any) -> Iterator[Page]:
        with newcomer(width, height, **options) as page:
            page.goto(url)
            yield page

    return open_page


def opened(page: Page, steps: int) -> None:
    """Waits until every frame of the strip is drawn and the hand's rest has brought its full decodes."""
    page.wait_for_function(
        "n => document.querySelectorAll('.explore-strip .frame canvas').length === n", arg=steps
    )
    expect(page.locator(".lane-state:not(:empty)")).to_have_count(2)


def at(page: Page) -> int:
    """The step that is looked at, from 1."""
    return int((page.locator(".explore-strip .explore-where").text_content() or "").split()[1])


def grey(page: Page, lane: int) -> int:
    """The red value in the middle of a lane's canvas."""
    script = """n => { const one = document.querySelectorAll('.lane:not([hidden]) canvas')[n];
        return one.getContext('2d').getImageData(one.width / 2, one.height / 2, 1, 1).data[0]; }"""
    return int(page.evaluate(script, lane))


def test_the_newest_run_is_open_and_tells_where_it_came_to_rest(visit: Visit) -> None:
    with visit() as page:
        opened(page, 50)
        expect(page.locator(".run-face")).to_contain_text("a sailboat on the sea")
        expect(page.locator(".curve-sentence")).to_have_text("The last 9 of 50 steps changed less than 1%.")
        assert at(page) == 50
        assert violations(page) == []


def test_fifty_steps_are_scrubbed_without_a_request(visit: Visit) -> None:
    with visit() as page:
        opened(page, 50)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        greys = page.evaluate("""() => {
            const slider = document.querySelector('.explore-strip .scrub');
            const canvas = document.querySelectorAll('.lane:not([hidden]) canvas')[1];
            const seen = [];
            for (let step = 0; step < 50; step += 1) {
                slider.value = step;
                slider.dispatchEvent(new Event('input', { bubbles: true }));
                const { data } = canvas.getContext('2d').getImageData(8, 8, 1, 1);
                seen.push(data[0]);
            }
            return seen;
        }""")
        assert asked == []
        assert greys[:49] == sorted(set(greys[:49]))  # each step another picture, ever lighter


def test_keys_step_play_and_jump(visit: Visit) -> None:
    with visit() as page:
        opened(page, 50)
        page.locator(".explore-speed").select_option(label="fast")
        page.click(".curve-sentence")  # no control has the focus
        page.keyboard.press("Home")
        assert at(page) == 1
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
        assert at(page) == 2
        page.keyboard.press("Space")
        expect(page.locator(".explore-play")).to_have_text("Pause")
        page.wait_for_function(
            "parseInt(document.querySelector('.explore-strip .explore-where').textContent.slice(5)) > 4"
        )
        page.keyboard.press("Space")
        expect(page.locator(".explore-play")).to_have_text("Play")
        page.keyboard.press("End")
        assert at(page) == 50


def test_where_the_hand_rests_the_picture_is_decoded_in_full(visit: Visit, films: Films) -> None:
    with visit() as page:
        opened(page, 50)
        films.decoded.clear()
        page.evaluate("""() => { const slider = document.querySelector('.explore-strip .scrub');
            for (const step of [3, 9, 17, 24]) {
                slider.value = step;
                slider.dispatchEvent(new Event('input', { bubbles: true }));
            } }""")
        assert grey(page, 1) == pytest.approx(255 * 25 / 50, abs=3)
        expect(page.locator(".lane-state:not(:empty)")).to_have_count(2)
        assert grey(page, 1) == pytest.approx(0.2 * 255, abs=3)
        assert films.decoded == [(BOAT, 24, "x0"), (BOAT, 24, "x_t")]  # nothing of what was passed by


def test_lanes_are_chosen_and_remembered(visit: Visit) -> None:
    with visit() as page:
        opened(page, 50)
        expect(page.locator(".lane:visible")).to_have_count(4)
        pull = page.get_by_role("button", name="Where the words pull")
        pull.click()
        page.get_by_role("button", name="The model’s own world").click()
        page.reload()
        opened(page, 50)
        expect(pull).to_have_attribute("aria-pressed", "true")
        names = page.locator(".lane:visible .lane-title").all_text_contents()
        assert names == [
            "What came in",
            "Where it is heading",
            "What this step changed",
            "Where the words pull",
        ]


def test_a_run_is_found_named_kept_thrown_away_and_brought_back(visit: Visit, films: Films) -> None:
    with visit() as page:
        opened(page, 50)
        page.click(".run-face")
        page.get_by_role("searchbox", name="Search runs").fill("SNOW")
        page.locator(".run-open").click()
        opened(page, 20)
        page.get_by_role("button", name="Name this run").click()
        page.get_by_role("textbox", name="Name of this run").fill("Winter")
        page.keyboard.press("Enter")
        expect(page.locator(".run-face .run-title")).to_have_text("Winter")
        page.get_by_role("button", name="Keep this run").click()
        expect(page.get_by_role("button", name="Keep this run")).to_have_attribute("aria-pressed", "true")
        assert (films.info(HOUSE).name, films.info(HOUSE).pinned) == ("Winter", True)
        page.get_by_role("button", name="Move this run to the trash").click()
        opened(page, 50)
        assert films.info(HOUSE).trashed
        page.get_by_role("button", name="Undo").click()
        opened(page, 20)
        assert not films.info(HOUSE).trashed


def test_from_elsewhere_in_the_page_a_run_is_opened_at_a_step(visit: Visit) -> None:
    with visit() as page:
        opened(page, 50)
        event = """id => document.dispatchEvent(
            new CustomEvent('darkroom:explore', { detail: { run: id, step: 6 } }))"""
        page.evaluate(event, HOUSE)
        opened(page, 20)
        assert at(page) == 7
        page.evaluate(event, "f" * 16 + "-0")
        expect(page.locator(".explore-told.bad")).to_contain_text("not there any more")
        assert at(page) == 7


def test_a_run_that_goes_on_is_followed_and_one_that_is_looked_into_is_left_alone(
    visit: Visit, tmp_path: Path
) -> None:
    films = Films(tmp_path)
    run = films.add(RUNNING, 12, "a boat", state="running", picture="")
    whole = films.films[run]["steps"]

    def goes_on(count: int) -> None:
        films.films[run]["steps"] = whole[:count]
        page.evaluate(PROGRESS, [RUNNING, count])
        page.wait_for_function(
            "n => document.querySelectorAll('.explore-strip .frame.full').length === n", arg=count
        )

    films.films[run]["steps"] = whole[:3]
    with serving(bench_app(films)) as url, visit(url=url) as page:
        opened(page, 3)
        assert page.locator(".explore-strip .frame").count() == 12
        goes_on(5)
        expect(page.locator(".explore-strip .explore-where")).to_contain_text("Step 5 of 12")
        page.locator(".explore-strip .frame").nth(1).click()
        goes_on(8)
        expect(page.locator(".explore-strip .explore-where")).to_contain_text("Step 2 of 12")
        films.trajectories.change(run, state="finished")
        goes_on(12)
        expect(page.locator(".curve-sentence")).to_contain_text("The picture changed by more than 1%")


def test_after_a_restart_all_runs_are_there(visit: Visit, tmp_path: Path) -> None:
    before = Films(tmp_path)
    run = before.add(RUNNING, 5, "a boat")
    before.trajectories.rename(run, "Afloat")
    after = Films(tmp_path)
    after.films = before.films
    with serving(bench_app(after)) as url, visit(url=url) as page:
        opened(page, 5)
        expect(page.locator(".run-face")).to_contain_text("Afloat")


def test_on_a_phone_nothing_is_cut_and_nothing_moves_by_itself(visit: Visit) -> None:
    with visit(390, 844, has_touch=True, reduced_motion="reduce") as page:
        opened(page, 50)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate("document.getAnimations().length") == 0
        page.locator(".explore-strip .frame").nth(9).tap()
        assert at(page) == 10
        assert violations(page) == []


def test_the_empty_tab_says_what_it_is_for(visit: Visit, tmp_path: Path) -> None:
    films = Films(tmp_path)
    with serving(bench_app(films)) as url, visit(url=url) as page:
        expect(page.get_by_role("heading", name="Open a run and look inside")).to_be_visible()
        expect(page.locator(".explore-lanes, .explore-side").locator("visible=true")).to_have_count(0)
        assert violations(page) == []
        page.evaluate("document.addEventListener('darkroom:jobs', ({ detail }) => (window.jobs = detail))")
        page.get_by_role("button", name="Paint a first run").click()
        page.wait_for_function("window.jobs")  # with these the stage is asked to follow the run
        page.evaluate(PROGRESS, [page.evaluate("window.jobs[0]"), 6])
        opened(page, 6)
        expect(page.locator(".explore-empty")).to_be_hidden()
        assert [request.model for request in films.asked] == ["starter"]
