"""The page in a headless Chromium: how one is launched, waited for, asked for pictures and looked over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

# What Chromium does of its own accord would look like the page's requests.
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
AXE = Path(__file__).parents[1] / "vendor" / "axe.min.js"
LONG = 100_000
"""Milliseconds that a run may take on a busy machine of two cores."""

STARTER = "starter"
"""The key of the embedded model, which the page begins with."""

Newcomer = Callable[..., AbstractContextManager[Page]]
"""The fixture `newcomer`: opens an empty page as a new visitor does."""

FOUND = "within => axe.run(within, { resultTypes: ['violations'] }).then((found) => found.violations)"


@contextmanager
def launched(path: str) -> Iterator[Browser]:
    """A Chromium, until the block ends. path: as `launch.find_browser` tells it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM)
        yield browser
        browser.close()


def ready(page: Page) -> None:
    """Waits until the engine is up and the form holds what it held before."""
    expect(page.locator("[data-state=ready]")).to_be_visible()
    restored(page)


def restored(page: Page) -> None:
    """Waits until the form holds what it held before; the engine may still be starting."""
    page.wait_for_function("document.body.dataset.restored === '1'")


def choose(page: Page, model: str) -> None:
    """Chooses one of the tiny models, whose native size is 64 x 64."""
    page.click("#model input")
    page.click(f"[role=option][aria-label^='{model} ']")
    page.wait_for_function("document.querySelector('#ask-width input').value === '64'")


def ask(page: Page, prompt: str, steps: int, **fields: str) -> None:
    page.fill("#ask-prompt textarea", prompt)
    page.fill("#ask-num_inference_steps input[type=number]", str(steps))
    for name, value in fields.items():
        page.fill(f"#ask-{name} input", value)
    page.click("#generate")


def frames(page: Page, least: int) -> None:
    """Waits until the film strip has so many frames."""
    page.wait_for_function("n => document.querySelectorAll('.frame.full').length >= n", arg=least)


def over(page: Page) -> None:
    """Waits until nothing runs."""
    page.wait_for_function("!document.body.classList.contains('running')")


def violations(page: Page, within: str = "html", *, minor: bool = False) -> list[str]:
    """What axe finds in a part of the page. minor: also what is not serious."""
    page.evaluate(AXE.read_text("utf-8"))
    return [
        f"{one['id']}: {[node['target'] for node in one['nodes']]}"
        for one in page.evaluate(FOUND, within)
        if minor or one["impact"] in ("serious", "critical")
    ]


def elsewhere(url: str, address: str) -> list[str]:
    """The request as a sentence where it leaves this program's address, else nothing."""
    return [] if url.startswith((address, "data:", "blob:")) else [f"asked {url}"]
