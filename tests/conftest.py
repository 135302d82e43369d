"""What all tests share: no network, small models, and where the browser is."""

import os
from pathlib import Path

import pytest

from launch import NO_BROWSER, find_browser
from pipelines import arithmetic
from tests.support import tiny

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
