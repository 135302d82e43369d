"""What all tests share: no network, small models, and where the browser is."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from launch import NO_BROWSER, find_browser
from pipelines import arithmetic
from tests.support import tiny
from tests.support.browser import LONG, Newcomer, launched

# Set before any library is imported: a test that wants something from a hub fails at once, it does not wait.
for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ.setdefault(name, "1")
arithmetic.settle(os.environ)
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# What this machine has fetched from the hub is no part of any test.
os.environ["HF_HUB_CACHE"] = str(Path(__file__).parent / "no-hub-cache")


@pytest.fixture(scope="session")
def browser_path() -> str:
    """The Chromium or Chrome to drive; without one the test fails, since skipping would look like passing."""
    path = find_browser()
    if path is None:
        pytest.fail(NO_BROWSER)
    return path


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    """A Chromium for one file's tests: the loop of its own that it needs would be in other files' way."""
    with launched(browser_path) as chromium:
        yield chromium


@pytest.fixture
def troubles() -> Iterator[list[str]]:
    """Takes sentences about what went wrong in a test's pages; at its end there are none."""
    told: list[str] = []
    yield told
    assert told == []


@pytest.fixture
def newcomer(browser: Browser, troubles: list[str]) -> Newcomer:
    """Opens an empty page as a new visitor does; at the end of the test no error was thrown in it."""

    @contextmanager
    def opened(width: int = 1360, height: int = 860, **options: Any) -> Iterator[Page]:
        """options: of Playwright's `new_context`."""
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        page = context.new_page()
        page.set_default_timeout(LONG)
        expect.set_options(timeout=LONG)
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        try:
            yield page
        finally:
            context.close()

    return opened


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with tiny real models of random weights: sd, sd-v and sdxl, native size 64 x 64."""
    return tiny.save_all(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def tiny_controls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with every tiny family (sd-inpaint, sd3 and flux too) and ControlNets for them."""
    folder = tmp_path_factory.mktemp("controlled")
    tiny.save_all(folder, ("sd", "sd-adapted", "sdxl", "sd-inpaint", "sd3", "flux"))
    return tiny.save_controls(folder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Repeat which of `launch.py test`'s other checks failed, next to the result that people look at."""
    failed = os.environ.get("DARKROOM_FAILED_CHECKS")
    if failed:
        terminalreporter.write_line(f"Failed before the tests began: {failed} (see above).", red=True)
