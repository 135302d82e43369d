"""The Models tab in a real Chromium, over plain rows: what a hand does there, and what reaches the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.support.browser import Newcomer, violations
from tests.support.models_bench import Bench, bench_page, known, row, state

pytestmark = pytest.mark.browser

LONG_NAME = "a very long name " * 12 + "😀🎨" * 20 + "x" * 60
MISFIT = "Pixel art is made for SDXL, but Storybook is SD."


def cards() -> list[dict[str, Any]]:
    return [
        row("checkpoint", "starter", title="Storybook", family="SD", own=False, modified=1.0),
        row("checkpoint", "base", title="Base", bytes=6_900_000_000, modified=5.0),
        row("lora", "people/ann", title="Ann", words=["ann person", "studio light", "35mm"], weight=0.8),
        row("lora", "pixel-art", title="Pixel art", unfit=MISFIT),
        row("vae", "soft", title="Soft VAE", family="SD"),
        row("embedding", "bad-hands", title="Bad hands", word="bad-hands", notes="keeps fingers in order"),
        row("text encoder", "t5", title="T5", family="SD3"),
        row("upscaler", "ultra", title="Ultra sharp", family=""),
        row("controlnet", "canny", title="Canny", family="SD"),
        row("lora", "long", title=LONG_NAME, words=["w" * 200], file="y" * 300),
    ]


def catalogue() -> list[dict[str, Any]]:
    return [
        known("sdxl-base", title="Stable Diffusion XL"),
        known("sd35", title="Stable Diffusion 3.5", family="SD3", gated=True),
        known("lcm", title="LCM LoRA", sort="lora", needs=["sdxl-base"], state="there"),
    ]


ESTIMATE = {
    "id": "sdxl-base",
    "sort": "model",
    "bytes": 6_900_000_000,
    "fits": True,
    "files": [["unet/model.safetensors", 5_100_000_000], ["vae/model.safetensors", 335_000_000]],
    "licence": "OpenRAIL++",
    "licence_url": "https://example.org/licence",
    "wants_token": False,
    "goes_to": "/home/ann/.cache/huggingface/hub",
    "sentence": "6.9 GB; 38 GB free.",
}


@pytest.fixture(scope="module")
def served_bench() -> Iterator[tuple[Bench, str]]:
    bench = Bench()
    with bench_page(bench) as address:
        yield bench, address


@pytest.fixture
def bench(served_bench: tuple[Bench, str]) -> Bench:
    bench, _ = served_bench
    bench.cards, bench.rows, bench.states = cards(), catalogue(), []
    bench.asked.clear()
    bench.answers.clear()
    return bench


Open = Callable[..., Any]


@pytest.fixture
def visit(newcomer: Newcomer, served_bench: tuple[Bench, str]) -> Open:
    @contextmanager
    def open_page(width: int = 1360, height: int = 860, light: bool = False) -> Iterator[Page]:
        with newcomer(width, height, reduced_motion="reduce") as page:
            if light:
                page.add_init_script("localStorage.setItem('darkroom.theme', 'light')")
            page.goto(served_bench[1])
            page.evaluate("document.body.dataset.tab = 'models'")
            page.wait_for_selector(".models-panel[data-ready]")
            yield page

    return open_page


def titles(page: Page) -> list[str]:
    return page.locator(".model-card .model-open").all_text_contents()


def card(page: Page, title: str) -> Any:
    return page.locator(".model-card").filter(has=page.get_by_role("button", name=title, exact=True))


def details(page: Page) -> Any:
    return page.locator(".model-sheet")


def events(page: Page, *names: str) -> None:
    """Gathers what the page's other parts would hear."""
    page.evaluate(
        """names => {
            window.heard = [];
            const hear = (name) => ({ detail }) => window.heard.push([name, detail]);
            names.forEach((name) => document.addEventListener(`darkroom:${name}`, hear(name)));
        }""",
        list(names),
    )


def until(page: Page, holds: Callable[[], bool]) -> None:
    for _ in range(400):
        if holds():
            return
        page.wait_for_timeout(25)
    raise AssertionError("what was waited for never came")


def test_what_there_is_can_be_searched_filtered_and_ordered(visit: Open, bench: Bench) -> None:
    with visit() as page:
        names = titles(page)
        assert names[:2] == ["Base", "Storybook"]
        assert names[-1] == "Pixel art"  # what does not fit comes last
        expect(page.locator(".models-sort[aria-pressed=true]")).to_have_text("All10")
        search = page.get_by_role("searchbox", name="Search what is on this computer")
        for words, found in {
            "fingers": ["Bad hands"],  # notes
            "STUDIO": ["Ann"],  # trigger words
            "people/ann": ["Ann"],  # file
            "sd3": ["T5"],
            "base 35mm": [],
        }.items():
            search.fill(words)
            assert titles(page) == found
        expect(page.locator(".models-none")).to_contain_text("Nothing here matches")
        page.click("text=Show everything")
        expect(page.locator(".model-card")).to_have_count(10)
        page.click(".models-sort:has-text('LoRAs')")
        assert set(titles(page)) == {"Ann", "Pixel art", LONG_NAME}
        expect(page.locator(".models-list .models-count:not(:empty)")).to_have_text("3 files")
        page.get_by_label("Only what fits").check()
        assert "Pixel art" not in titles(page)
        page.click(".models-sort:has-text('All')")
        page.get_by_label("Made for").select_option("SD")
        assert titles(page) == ["Storybook", "Canny", "Soft VAE"]
        page.get_by_label("Made for").select_option("")
        page.get_by_label("Order").select_option(label="Largest first")
        assert titles(page)[0] == "Base"


def test_favourites_come_first_at_once_and_are_kept(visit: Open, bench: Bench) -> None:
    with visit() as page:
        star = page.get_by_role("button", name="Favourite: Canny")
        star.click()
        expect(star).to_have_attribute("aria-pressed", "true")
        assert titles(page)[0] == "Canny"
        until(page, lambda: bench.of("edit") == [{"sort": "controlnet", "key": "canny", "favourite": True}])
        bench.answers["edit"] = {"problem": "The notes could not be written: the disk is full."}
        page.get_by_role("button", name="Favourite: Ann").click()
        expect(page.get_by_role("alert").filter(has_text="the disk is full")).to_be_visible()
        expect(page.get_by_role("button", name="Favourite: Ann")).to_have_attribute("aria-pressed", "false")


def test_use_does_what_each_sort_is_for(visit: Open, bench: Bench) -> None:
    with visit() as page:
        events(page, "lora", "vae", "text_encoder", "controlnet")
        expect(card(page, "Base").locator(".model-chosen")).to_have_text("In use")
        page.get_by_role("button", name="Use Storybook").click()
        expect(page.locator("#chosen :is(input, textarea)")).to_have_value("starter")
        expect(card(page, "Storybook").locator(".model-chosen")).to_have_text("In use")
        expect(card(page, "Base").locator(".model-use")).to_have_text("Use")
        for name in ("Add Ann", "Use Soft VAE", "Use T5", "Use Canny"):
            page.get_by_role("button", name=name).click()
        assert page.evaluate("window.heard") == [
            ["lora", {"name": "people/ann", "weight": 0.8}],
            ["vae", {"key": "soft"}],
            ["text_encoder", {"key": "t5"}],
            ["controlnet", {"key": "canny"}],
        ]
        expect(card(page, "Ultra sharp").locator(".model-use")).to_have_count(0)
        expect(card(page, "Pixel art").locator(".model-use")).to_have_count(0)
        expect(card(page, "Pixel art").locator(".model-unfit")).to_have_text(MISFIT)


def test_words_go_into_the_prompt_where_the_hand_left_it(visit: Open, bench: Bench) -> None:
    with visit() as page:
        prompt = page.locator("#ask-prompt textarea")
        prompt.fill("a portrait, in the rain")
        prompt.evaluate("input => { input.focus(); input.setSelectionRange(5, 5) }")
        card(page, "Ann").get_by_role("button", name="ann person").click()
        expect(prompt).to_have_value("a portrait, ann person, in the rain")
        card(page, "Ann").get_by_role("button", name="studio light").click()
        expect(prompt).to_have_value("a portrait, ann person, studio light, in the rain")
        card(page, "Ann").get_by_role("button", name="studio light").click()
        expect(page.locator(".models-told").first).to_contain_text("stands in the prompt already")
        expect(prompt).to_have_value("a portrait, ann person, studio light, in the rain")
        page.get_by_role("button", name="Bad hands", exact=True).click()
        details(page).get_by_role("button", name="Put into “Leave out”").click()
        expect(page.locator("#ask-negative_prompt :is(input, textarea)")).to_have_value("bad-hands")


def test_details_keep_notes_pictures_and_the_hash(visit: Open, bench: Bench, tmp_path: Path) -> None:
    picture = tmp_path / "ann.png"
    Image.new("RGB", (32, 32), (200, 120, 40)).save(picture)
    with visit() as page:
        page.get_by_role("button", name="Ann", exact=True).click()
        sheet = details(page)
        expect(sheet.locator("h3")).to_be_focused()
        expect(sheet.locator("dl")).to_contain_text("/home/ann/darkroom/models/loras")
        sheet.get_by_label("Notes").fill("good at 0.7")
        expect(sheet.locator(".model-kept")).to_have_text("Kept")
        assert bench.of("edit") == [{"sort": "lora", "key": "people/ann", "notes": "good at 0.7"}]
        expect(sheet.get_by_label("Notes")).to_have_value("good at 0.7")
        sheet.get_by_role("button", name="Work it out").click()
        expect(sheet.locator("dl")).to_contain_text("6ce0161689")
        sheet.locator("input[type=file]").set_input_files(picture)
        until(page, lambda: len(bench.of("picture")) == 1)
        asked = bench.of("picture")[0]
        assert Path(asked["path"]).read_bytes() == picture.read_bytes()
        assert (asked["sort"], asked["key"]) == ("lora", "people/ann")
        page.evaluate("Object.assign(document.body.appendChild(document.createElement('i')), {id: 'stage'})")
        page.evaluate("Object.assign(document.getElementById('stage').dataset, {job: 'j1', picture: '2'})")
        page.click(".model-close")
        page.get_by_role("button", name="Ann", exact=True).click()
        sheet.get_by_role("button", name="Use the last picture").click()
        until(page, lambda: len(bench.of("picture")) == 2)
        last = bench.of("picture")[1]
        assert last == {"sort": "lora", "key": "people/ann", "job": "j1", "picture": 2}


def test_keys_go_from_card_to_card_and_escape_stops_no_run(visit: Open, bench: Bench) -> None:
    with visit() as page:
        events(page, "stop", "step")
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("/")
        expect(page.get_by_role("searchbox", name="Search what is on this computer")).to_be_focused()
        first, second, third = page.locator(".model-open").all()[:3]
        first.focus()
        for key, focused in (("ArrowRight", second), ("ArrowRight", third), ("Home", first)):
            page.keyboard.press(key)
            expect(focused).to_be_focused()
        page.keyboard.press("ArrowDown")
        columns = page.evaluate(
            "getComputedStyle(document.querySelector('.models-grid')).gridTemplateColumns.split(' ').length"
        )
        below = page.locator(".model-open").nth(columns)
        expect(below).to_be_focused()
        assert page.locator(".model-open[tabindex='0']").count() == 1  # the grid is one stop of the Tab key
        page.keyboard.press("Enter")
        expect(details(page).locator("h3")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator(".model-details")).to_be_hidden()
        expect(below).to_be_focused()
        assert page.evaluate("window.heard") == []


def test_a_file_that_comes_is_shown_without_a_reload(visit: Open, bench: Bench) -> None:
    with visit() as page:
        bench.cards.append(row("lora", "fresh", title="Fresh"))
        bench.news.changed()
        expect(card(page, "Fresh")).to_be_visible()
        until(page, lambda: len(bench.of("shelf")) >= 2)


def test_only_a_window_in_sight_holds_a_connection(visit: Open, bench: Bench) -> None:
    look = """state => {
        Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    with visit() as page:
        until(page, lambda: bench.listening == 1)
        page.evaluate(look, "hidden")
        until(page, lambda: bench.listening == 0)
        bench.cards.append(row("lora", "meanwhile", title="Meanwhile"))
        bench.news.changed()
        page.evaluate(look, "visible")
        expect(card(page, "Meanwhile")).to_be_visible()


def test_without_models_of_ones_own_the_page_says_where_they_go(visit: Open, bench: Bench) -> None:
    bench.cards = [one for one in cards() if not one["own"]]
    with visit() as page:
        empty = page.locator(".models-none")
        expect(empty).to_contain_text("/home/ann/darkroom/models")
        expect(empty).to_contain_text("--models")
        expect(empty).to_contain_text("checkpoints")
        expect(card(page, "Storybook")).to_be_visible()
        empty.get_by_role("link", name="fetch a model").click()
        expect(page.get_by_role("tab", name="Fetch")).to_have_attribute("aria-selected", "true")


def test_a_model_is_fetched_paused_resumed_and_shown(visit: Open, bench: Bench) -> None:
    bench.answers["estimate"] = ESTIMATE
    with visit() as page:
        page.get_by_role("tab", name="Fetch").click()
        known_card = page.locator(".fetch-card").filter(has_text="Stable Diffusion XL").first
        known_card.get_by_role("button", name="Fetch").click()
        expect(known_card).to_contain_text("6.9 GB; 38 GB free.")
        expect(known_card).to_contain_text("/home/ann/.cache/huggingface/hub")
        known_card.get_by_role("button", name="Fetch it").click()
        until(page, lambda: bench.of("start") == [{"id": "sdxl-base", "sort": "model"}])
        bench.states = [state("sdxl-base", "running", id="sdxl-base", title="Stable Diffusion XL")]
        bench.fetches.changed()
        download = page.locator(".fetch-row")
        expect(download).to_contain_text("2.1 of 6.9 GB · 41 MB/s · 2 min left")
        expect(download.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "30")
        expect(known_card).to_contain_text("Being fetched")
        download.get_by_role("button", name="Pause").click()
        until(page, lambda: bench.of("steer") == [{"key": "sdxl-base", "deed": "pause"}])
        bench.states = [{**bench.states[0], "phase": "paused"}]
        bench.fetches.changed()
        expect(download).to_contain_text("2.1 of 6.9 GB · paused")
        download.get_by_role("button", name="Resume").click()
        until(page, lambda: bench.of("steer")[1:] == [{"key": "sdxl-base", "deed": "resume"}])
        bench.cards.append(row("checkpoint", "xl", title="Stable Diffusion XL"))
        bench.states = [{**bench.states[0], "phase": "done"}]
        bench.news.changed()
        bench.fetches.changed()
        download.get_by_role("button", name="Show").click()
        expect(details(page).locator("h3")).to_have_text("Stable Diffusion XL")


def test_a_token_is_asked_for_sent_once_and_kept_nowhere(visit: Open, bench: Bench) -> None:
    wanted = {**ESTIMATE, "wants_token": True, "sentence": "6.9 GB; 38 GB free. It wants an access token."}
    bench.answers["estimate"] = wanted
    secret = "hf_thisisasecret"
    with visit() as page:
        page.get_by_role("tab", name="Fetch").click()
        gated = page.locator(".fetch-card").filter(has_text="3.5")
        expect(gated).to_contain_text("asks for a token")
        gated.get_by_role("button", name="Fetch").click()
        token = gated.get_by_label("Access token for Stable Diffusion 3.5")
        expect(token).to_be_focused()
        assert token.get_attribute("type") == "password"
        assert token.get_attribute("autocomplete") == "off"
        token.fill(secret)
        bench.answers["estimate"] = ESTIMATE
        page.keyboard.press("Enter")
        expect(gated.get_by_label("Access token")).to_have_count(0)
        gated.get_by_role("button", name="Fetch it").click()
        until(page, lambda: len(bench.of("start")) == 1)
        assert bench.of("start")[0]["token"] == secret
        assert bench.of("start")[0]["remember"] is False
        bench.states = [
            state("sd35", "failed", id="sd35", message="The hub refused the token.", wants_token=True)
        ]
        bench.fetches.changed()
        failed = page.locator(".fetch-row")
        expect(failed.get_by_role("alert")).to_have_text("The hub refused the token.")
        failed.get_by_label("Access token for Sd35").fill(secret)
        failed.get_by_label("Keep it on this computer").check()
        failed.get_by_role("button", name="Try again").click()
        until(page, lambda: len(bench.of("steer")) == 1)
        assert bench.of("steer")[0] == {"key": "sd35", "deed": "resume", "token": secret, "remember": True}
        expect(failed.get_by_label("Access token for Sd35")).to_have_value("")
        kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, location.href])")
        assert secret not in kept + page.content()


def test_what_cannot_be_fetched_is_said_beside_it(visit: Open, bench: Bench) -> None:
    bench.answers["estimate"] = {
        "problem": "The hub has nothing called nobody/nothing: look at the spelling."
    }
    with visit() as page:
        page.get_by_role("tab", name="Fetch").click()
        page.get_by_label("Hub id or address").fill("nobody/nothing")
        page.keyboard.press("Enter")
        expect(page.locator(".fetch-found").get_by_role("alert")).to_contain_text("look at the spelling")
        assert bench.of("estimate") == [{"id": "nobody/nothing"}]
        full = {**ESTIMATE, "fits": False, "sentence": "It needs 6.9 GB, but only 2.1 GB are free."}
        bench.answers["estimate"] = full
        page.locator(".fetch-found").get_by_role("button", name="Try again").click()
        expect(page.locator(".fetch-found").get_by_role("alert")).to_contain_text("only 2.1 GB are free")
        expect(page.locator(".fetch-found").get_by_role("button", name="Fetch it")).to_be_hidden()


def test_a_thousand_cards_are_drawn_only_where_they_are_seen(visit: Open, bench: Bench) -> None:
    bench.cards = [row("lora", f"file-{at:04}", title=f"File {at}") for at in range(1000)]
    with visit() as page:
        expect(page.locator(".model-card")).to_have_count(1000)
        drawn = page.evaluate(
            """[...document.querySelectorAll('.model-card .model-line')].filter((line) =>
                line.checkVisibility({ contentVisibilityAuto: true })).length"""
        )
        assert 6 <= drawn < 200
        page.get_by_role("searchbox", name="Search what is on this computer").fill("file 999")
        assert titles(page) == ["File 999"]


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize("width", [1360, 390])
def test_axe_finds_nothing_serious_and_nothing_sticks_out(
    visit: Open, bench: Bench, width: int, light: bool
) -> None:
    bench.answers["estimate"] = {**ESTIMATE, "wants_token": True}
    bench.states = [
        state("one", "running", title=LONG_NAME),
        state("two", "failed", message="The connection was lost at 2.1 GB: resume it.", wants_token=True),
    ]
    with visit(width, 844, light) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert violations(page) == []
        page.locator(".model-open").filter(has_text="very long").click()
        assert violations(page) == []
        assert page.evaluate("document.querySelector('.model-sheet').scrollWidth") <= width
        page.click(".model-close")
        page.get_by_role("tab", name="Fetch").click()
        expect(page.locator(".fetch-row")).to_have_count(2)
        page.locator(".fetch-card").filter(has_text="3.5").get_by_role("button", name="Fetch").click()
        expect(page.get_by_label("Access token for Stable Diffusion 3.5")).to_be_visible()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_narrow_window_has_one_column_and_a_sheet(visit: Open, bench: Bench) -> None:
    with visit(390, 844) as page:
        places = [one.bounding_box() for one in page.locator(".model-card").all()[:3]]
        assert len({place["x"] for place in places if place}) == 1
        page.get_by_role("button", name="Ann", exact=True).click()
        sheet = page.locator("dialog.model-over")
        expect(sheet).to_be_visible()
        page.keyboard.press("Escape")
        expect(sheet).to_be_hidden()
        expect(page.get_by_role("button", name="Ann", exact=True)).to_be_focused()
