"""What the painter costs in a real headless Chromium: sending a mask, and strokes on a large picture."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page

from launch import find_browser
from tests.benchmarks.figure import Figure
from tests.support.browser import launched
from tests.support.easel import Easel, Shelf, served

SIDES = (512, 1024, 2048)
ROUNDS = 5
BRUSH = 200  # pixels of the picture

SENT = """async (kind) => {
    const { painters } = await import(new URL('darkroom/js/painter-mount.js', document.baseURI));
    const began = performance.now();
    await painters.get(kind).flush();
    return performance.now() - began;
}"""

# Frames of the screen while the hand moves; the moves come from here, as real pointer events.
COUNT = """() => {
    window.frames_at = [];
    const frame = (now) => (window.frames_at.push(now), (window.counting = requestAnimationFrame(frame)));
    window.counting = requestAnimationFrame(frame);
}"""
COUNTED = "() => (cancelAnimationFrame(window.counting), window.frames_at)"


def painting(_: Path) -> Iterator[Figure]:
    """From asking for a painted mask to its key, by size; and frames of strokes at the largest."""
    shelf = Shelf()
    with served(shelf) as address, launched(str(find_browser())) as chromium:
        page = chromium.new_page(viewport={"width": 1360, "height": 1000})
        page.goto(address)
        easel = Easel(page, shelf, "mask")
        easel.root.wait_for()
        for side in SIDES:
            easel.give(side, side)
            times = [_send(page, easel) for _ in range(ROUNDS + 1)][1:]
            size = len(list(shelf.files.values())[-1]) / 1024
            detail = f"{min(times):.0f}-{max(times):.0f} ms, {size:.0f} KB"
            yield Figure(f"sending a mask of {side} x {side}", statistics.median(times), 1500, " ms", detail)
        yield _strokes(page, easel)


def _send(page: Page, easel: Easel) -> float:
    """Paints something wide and soft, then sends it at once."""
    easel.slide("Hardness", 0.5)
    easel.slide("Size", 1)
    easel.tool("clear")
    easel.drag((0.2, 0.3), (0.5, 0.8), (0.8, 0.3))
    return float(page.evaluate(SENT, "mask"))


def _strokes(page: Page, easel: Easel) -> Figure:
    easel.slide("Size", (BRUSH / 400) ** 0.5)
    box = easel.box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    reach = min(box["width"], box["height"]) * 0.35
    page.mouse.move(*middle)
    page.mouse.down()
    page.evaluate(COUNT)
    for turn in range(240):
        way = reach * abs((turn % 48) / 24 - 1)
        page.mouse.move(middle[0] + way - reach / 2, middle[1] + reach * ((turn % 30) / 30 - 0.5))
    at = page.evaluate(COUNTED)
    page.mouse.up()
    gaps = [after - before for before, after in itertools.pairwise(at)]
    slow = sorted(gaps)[int(len(gaps) * 0.95)]
    detail = f"{1000 / statistics.mean(gaps):.0f} frames/s, 95% within {slow:.0f} ms, brush {easel.size()} px"
    return Figure("a frame of a stroke at 2048 x 2048", statistics.mean(gaps), 33.3, " ms", detail)
