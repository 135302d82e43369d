"""The page in a real headless Chromium, over the real engine in its own process.

Nothing here waits for a time: each wait is for what a person would see. Where pictures mean nothing a tiny
model paints them, and a run that must still go on when something is done to it has hundreds of steps.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import pipelines
from pipelines import metadata
from pipelines.starter.reader import read_attributes
from tests.support.browser import STARTER, Newcomer, ask, choose, elsewhere, frames, over, ready, violations
from tests.support.served import served

pytestmark = pytest.mark.browser

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def address(data: Path, tiny_models: Path) -> Iterator[str]:
    with pipelines.open(data, models=[tiny_models], process=True) as worker, served(worker, data) as url:
        yield url


@pytest.fixture
def visit(newcomer: Newcomer, address: str, troubles: list[str]) -> Open:
    """Opens the page as a new visitor; at the end no error was logged and no other machine was asked."""

    @contextmanager
    def open_page(width: int = 1360, height: int = 860, model: str = "sd", **options: Any) -> Iterator[Page]:
        with newcomer(width, height, **options) as page:
            page.on("console", lambda told: troubles.extend(_refused(told.text)))
            page.on("request", lambda request: troubles.extend(elsewhere(request.url, address)))
            page.goto(address)
            ready(page)
            if model != STARTER:
                choose(page, model)
            yield page

    return open_page


def _refused(text: str) -> list[str]:
    """What the page's own policy kept it from doing."""
    return [text] if "Content Security Policy" in text else []


def test_a_prompted_picture_develops_step_by_step_and_is_kept(visit: Open) -> None:
    with visit(model=STARTER) as page:
        page.evaluate("window.seen = new Set()")
        page.evaluate(
            """new MutationObserver(() => {
                const image = document.querySelector('.picture');
                if (!image.hidden && !image.classList.contains('final')) window.seen.add(image.src);
            }).observe(document.querySelector('.picture'), { attributes: true })"""
        )
        ask(page, "a red house in the snow at night", 20, seed="7")
        expect(page.locator(".picture.final")).to_be_visible()
        assert page.evaluate("window.seen.size") >= 3
        assert page.locator(".frame.full").count() == 21  # the steps, and the finished picture
        expect(page.locator(".what")).to_contain_text("Finished, seed 7, 256 × 256")
        with page.expect_download() as download:
            page.click("#stage >> text=Download")
        found = metadata.read_fields(Path(download.value.path()))
        assert (found["prompt"], found["seed"]) == ("a red house in the snow at night", 7)
        expect(page.locator(".tile img")).to_have_attribute("alt", re.compile("red house.*seed 7"))


ASKED = {
    "a red house in the snow at night": {"time": "night", "ground": "snow", "house": "red"},
    "a yellow boat on the sea at sunset": {"time": "sunset", "ground": "sea", "boat": "yellow"},
}


def test_the_pictures_are_those_asked_for(visit: Open) -> None:
    with visit(model=STARTER) as page:
        for prompt, attributes in ASKED.items():
            ask(page, prompt, 20, seed="7")
            expect(page.locator(".tile img").first).to_have_attribute("alt", re.compile(prompt + ".*seed 7"))
            over(page)
            with page.expect_download() as download:
                page.click("#stage >> text=Download")
            seen = read_attributes(Image.open(download.value.path()))
            assert {name: seen[name] for name in attributes} == attributes


def test_a_model_without_words_has_no_fields_for_them_and_paints(visit: Open) -> None:
    with visit(model=STARTER) as page:
        page.click("#model input")
        page.click("[role=option][aria-label^='Storybook pixels']")
        expect(page.get_by_text("This model paints without words: press Generate.")).to_be_visible()
        for name in ("prompt", "guidance_scale", "guidance_points", "width", "loras"):
            expect(page.locator(f"#ask-{name}")).to_be_hidden()
        hollow = "(all) => all.filter((one) => one.offsetHeight && !one.innerText.trim()).length"
        assert page.locator(".card").evaluate_all(hollow) == 0
        page.click("#generate")
        expect(page.locator(".picture.final.pixels")).to_be_visible()
        expect(page.locator(".what")).to_contain_text("32 × 32")


def test_the_film_is_scrubbed_by_hand_and_by_keys(visit: Open) -> None:
    with visit() as page:
        ask(page, "two pines at sunset", 6)
        expect(page.locator(".picture.final")).to_be_visible()
        page.wait_for_timeout(1500)  # Explore asks once for its list when a run has ended
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        what = page.locator(".what")
        page.hover(".frame >> nth=2")
        expect(what).to_contain_text("Step 3 of 6")
        page.mouse.move(2, 2)
        expect(what).to_contain_text("Finished")
        page.click(".stage .line")
        page.evaluate("document.activeElement.blur()")
        for key, text in {"Home": "Step 1 of", "ArrowRight": "Step 2 of", "End": "Finished"}.items():
            page.keyboard.press(key)
            expect(what).to_contain_text(text)
        page.focus(".scrub")
        page.keyboard.press("ArrowLeft")
        expect(what).to_contain_text("Step 6 of 6")
        assert [url for url in requests if not url.startswith(("blob:", "data:"))] == []
        page.evaluate(
            "document.addEventListener('darkroom:explore', event => (window.opened = event.detail))"
        )
        page.click("#stage .frame >> nth=2")
        assert page.evaluate("window.opened.run").endswith("-0")
        assert page.evaluate("window.opened.step") == 2
        expect(page.locator("body[data-tab=explore]")).to_be_visible()


def test_a_refresh_in_mid_run_finds_the_run_and_its_film_again(visit: Open) -> None:
    with visit() as page:
        ask(page, "a yellow boat on the sea", 150, seed="3", batch_count="100")
        frames(page, 3)
        page.reload()
        ready(page)
        frames(page, 4)
        expect(page.locator("body.running")).to_be_visible()
        assert page.input_value("#ask-prompt textarea") == "a yellow boat on the sea"
        assert page.input_value("#ask-num_inference_steps input[type=number]") == "150"
        assert page.input_value("#ask-seed input") == "3"
        before = page.locator(".what").inner_text()
        page.wait_for_function("text => document.querySelector('.what').textContent !== text", arg=before)
        page.click("#keep")
        over(page)
        expect(page.locator(".what")).to_contain_text("seed")
        tiles = page.locator(".tile").count()
        assert tiles >= 1
        page.reload()
        ready(page)
        expect(page.locator(".tile")).to_have_count(tiles)
        frames(page, 2)  # the film is sent when it is shown


def test_a_run_is_stopped_by_a_key(visit: Open) -> None:
    with visit() as page:
        page.fill("#ask-prompt textarea", "a blue house")
        page.fill("#ask-num_inference_steps input[type=number]", "150")
        page.fill("#ask-batch_count input", "100")
        page.keyboard.press("Control+Enter")
        frames(page, 2)
        expect(page.locator("#stop")).to_be_enabled()
        page.keyboard.press("Escape")
        over(page)
        expect(page.locator("#stop")).to_be_disabled()
        expect(page.locator(".queue b")).to_have_text("0")


def test_a_job_that_waits_is_shown_and_a_batch_has_a_strip_for_each_picture(visit: Open) -> None:
    with visit() as page:
        ask(page, "a cat on the beach", 150, batch_count="100")
        frames(page, 1)
        ask(page, "a cat in the snow", 3, num_images_per_prompt="2", batch_count="2")
        expect(page.locator(".tile", has_text="waits")).to_be_visible()
        expect(page.locator(".queue b")).to_have_text("2")
        page.keyboard.press("Escape")
        expect(page.locator(".strip")).to_have_count(4)
        over(page)
        expect(page.locator(".strip:enabled")).to_have_count(4)
        page.click(".strip >> nth=1")
        expect(page.locator(".strip >> nth=1")).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".queue b")).to_have_text("0")


def test_sentences_stand_beside_the_fields_they_are_about(visit: Open) -> None:
    with visit() as page:
        ask(page, "  ", 5, width="257", seed="abc")
        expect(page.locator(".problem")).to_have_count(3)
        expect(page.locator("#ask-prompt .problem")).to_contain_text("write what the picture shows")
        expect(page.locator(".problem[data-field=ask-width]")).to_contain_text("256 or 264 would do")
        expect(page.locator("#ask-prompt textarea")).to_be_focused()
        page.fill("#ask-width input", "256")
        expect(page.locator(".problem")).to_have_count(2)
        page.click("#ask-sizes [title^='4:3']")
        page.wait_for_function("document.querySelector('#ask-width input').value === '72'")
        page.fill("#ask-seed input", "")
        page.click("#ask-scheduler input")
        page.click("role=option[name='LCM']")
        ask(page, "a house", 80)
        expect(page.locator("#ask-num_inference_steps .problem")).to_contain_text("at most 50 steps")


def test_parameters_are_read_back_into_the_form(visit: Open, tmp_path: Path) -> None:
    line = "Steps: 9, Sampler: Euler a, CFG scale: 4.5, Seed: 42, Size: 64x128"
    text = f"a red house\nNegative prompt: trees\n{line}"
    file = tmp_path / "picture.png"
    metadata.embed(Image.new("RGB", (64, 128)), file, text)
    with visit() as page:
        page.set_input_files(".reader input[type=file]", file)
        page.wait_for_function("document.querySelector('#ask-seed input').value === '42'")
        assert page.input_value("#ask-prompt textarea") == "a red house"
        assert page.input_value("#ask-negative_prompt textarea, #ask-negative_prompt input") == "trees"
        assert page.input_value("#ask-scheduler input") == "Euler a"
        assert page.input_value("#ask-height input") == "128"
        expect(page.locator(".note p")).to_contain_text("Taken from")
        page.click("#generate")
        expect(page.locator(".picture.final")).to_be_visible()
        page.fill("#ask-prompt textarea", "something else")
        page.click("#stage >> text=Use these settings")
        page.wait_for_function("document.querySelector('#ask-prompt textarea').value === 'a red house'")


def test_an_example_is_one_click_and_tokens_are_counted(visit: Open) -> None:
    with visit(model=STARTER) as page:
        chip = page.locator(".empty .chip").first
        prompt = chip.inner_text()
        chip.click()
        page.wait_for_function("p => document.querySelector('#ask-prompt textarea').value === p", arg=prompt)
        expect(page.locator(".token-count")).to_contain_text(re.compile(r"^\d+ / 75 tokens$"))
        page.fill("#ask-prompt textarea", "house " * 100)
        expect(page.locator(".token-count")).to_contain_text("/ 150 tokens")


def test_the_look_is_dark_until_light_is_chosen_and_then_stays_light(visit: Open) -> None:
    def ground(page: Page) -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    with visit(color_scheme="light") as page:
        assert ground(page) == "rgb(20, 18, 16)"
        page.click("[title^='Change to the light']")
        assert ground(page) == "rgb(250, 247, 242)"
        page.reload()
        ready(page)
        assert ground(page) == "rgb(250, 247, 242)"


def test_what_a_first_picture_needs_is_above_the_fold(visit: Open) -> None:
    with visit() as page:
        for needed in ("#ask-prompt", "#generate", "#ask-width", "#ask-seed", ".screen"):
            box = page.locator(needed).bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= 860, needed


@pytest.mark.parametrize("width", [1360, 390])
def test_axe_finds_nothing_serious(visit: Open, width: int) -> None:
    with visit(width, reduced_motion="reduce") as page:  # a colour that still changes has no contrast
        assert violations(page) == []
        ask(page, "a house", 2)
        expect(page.locator(".picture.final")).to_be_visible()
        for fold in page.locator(".fold-head:visible").all():
            fold.click()
        page.click(".deeds summary")
        assert violations(page) == []
        page.click("[title^='Change to the light']")
        assert violations(page) == []


def test_a_narrow_window_has_one_column_with_generate_under_the_thumb(visit: Open) -> None:
    with visit(390, 844) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        places = {name: page.locator(name).bounding_box() for name in (".screen", "#ask-prompt", "#generate")}
        assert all(places.values())
        assert places[".screen"]["y"] < places["#ask-prompt"]["y"]  # type: ignore[index]
        bottom = places["#generate"]["y"] + places["#generate"]["height"]  # type: ignore[index]
        assert 800 < bottom <= 844
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        after = page.locator("#generate").bounding_box()
        assert after is not None
        assert after["y"] == places["#generate"]["y"]  # type: ignore[index]


def test_the_key_sheet_opens_and_closes(visit: Open) -> None:
    with visit() as page:
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("?")
        expect(page.locator("dialog.sheet")).to_be_visible()
        assert violations(page) == []
        page.keyboard.press("Escape")
        expect(page.locator("dialog.sheet")).to_be_hidden()
