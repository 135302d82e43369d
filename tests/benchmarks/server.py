"""What the running program costs: from start to served page, and when nobody does anything."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.benchmarks.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = "import gradio, torch, diffusers; from diffusers import StableDiffusionPipeline"
IDLE_SECONDS = 20


def startup(data: Path) -> Iterator[Figure]:
    """CPU-seconds of the page's process until it is served, against importing everything first."""
    floor = _cpu_seconds("import gradio")
    everything = _cpu_seconds(EVERYTHING)
    with _program(data) as (page, seconds):
        spent = sum(page.cpu_times()[:2])
    detail = f"{spent:.1f} CPU-s (served after {seconds:.1f} s) of {everything:.1f}; gradio alone {floor:.1f}"
    yield Figure("start to served page / importing everything", spent / everything, 0.4, detail=detail)


def idle(data: Path) -> Iterator[Figure]:
    """CPU share of page and engine together while nothing is asked of them."""
    with _program(data) as (page, _):
        _wait_until_calm(page)
        before = _spent(page)
        time.sleep(IDLE_SECONDS)
        share = (_spent(page) - before) / IDLE_SECONDS * 100
    yield Figure("idle program, share of a core", share, 2.5, "%", f"over {IDLE_SECONDS} s")


def _cpu_seconds(code: str) -> float:
    """CPU time of a Python process that runs `code`; the second of two, when its files are cached."""
    for _ in range(2):
        began = psutil.Process().cpu_times()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        ended = psutil.Process().cpu_times()
    return ended.children_user + ended.children_system - began.children_user - began.children_system


@contextlib.contextmanager
def _program(data: Path) -> Iterator[tuple[psutil.Process, float]]:
    """The program on a free port, once its page is served; and how long that took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "ui.app", "--no-browser", "--port", str(port), "--data", str(data)]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while not _served(port):
            if process.poll() is not None or time.perf_counter() - began > 120:
                raise RuntimeError(f"The program did not serve its page (exit code {process.returncode}).")
            time.sleep(0.05)
        yield psutil.Process(process.pid), time.perf_counter() - began
    finally:
        process.terminate()
        process.wait()


def _served(port: int) -> bool:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False


def _spent(page: psutil.Process) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in [page, *page.children(recursive=True)])


def _wait_until_calm(page: psutil.Process) -> None:
    """Until the engine has come up: less than a tenth of a core over three seconds."""
    for _ in range(40):
        before = _spent(page)
        time.sleep(3)
        if _spent(page) - before < 0.3:
            return
    raise RuntimeError("The program did not come to rest within two minutes.")
