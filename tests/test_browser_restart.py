"""The whole program, killed in the middle of a run and started again, as the person at the page lives it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browser import Newcomer, ask, frames, ready

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).resolve().parent.parent
PROMPT = "a red house in the snow at night"
STEPS = 120


@contextmanager
def program(data: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """The program in a process group of its own, once it serves its page; killed at the end."""
    command = [sys.executable, "-m", "ui.app", "--data", str(data), "--port", str(port), "--no-browser"]
    started = subprocess.Popen(
        [*command, "--device", "cpu"], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert started.stdout is not None and "Darkroom is open" in started.stdout.readline()
        yield started
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def test_a_run_goes_on_in_the_page_after_the_program_was_killed(newcomer: Newcomer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    with newcomer() as page:
        with program(tmp_path, port) as started:
            page.goto(f"http://127.0.0.1:{port}")
            ready(page)
            ask(page, PROMPT, STEPS, seed="7")
            frames(page, 10)
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        with program(tmp_path, port):
            page.reload()
            ready(page)
            expect(page.locator("#stage .what")).to_contain_text("Finished, seed 7")
            assert page.locator("#stage .frame.full").count() == STEPS + 1
            # The same request again is answered from the journal: nothing is painted twice.
            page.click("#generate")
            expect(page.locator("#stage .pace")).to_contain_text("Made before")
            [picture] = (tmp_path / "outputs").glob("*/*/*.png")
            # Undisturbed, in a folder of its own, by the same settings.
        with program(tmp_path / "calm", port):
            page.reload()
            ready(page)
            page.click("#generate")
            expect(page.locator("#stage .what")).to_contain_text("Finished, seed 7")
        [calm] = (tmp_path / "calm" / "outputs").glob("*/*/*.png")
        assert picture.read_bytes() == calm.read_bytes()
