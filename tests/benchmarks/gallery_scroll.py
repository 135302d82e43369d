"""What scrolling a gallery of very many pictures costs in a real headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator

from launch import find_browser
from tests.benchmarks.figure import Figure
from tests.support.browser import launched

LEAST = 50
"""Frames a second that are wanted."""
FRAMES = 240
HANDS = (
    ("slowly", 20),
    ("as fast as one can look", 80),
    ("with a flung finger", 400),
    ("by the scroll bar, through all of them", 12_000),
)
"""Pixels a frame."""

SCROLLED = """async ([pixels, frames]) => {
    const grid = document.querySelector('.gallery-scroll'), at = [];
    grid.scrollTop = 0;
    for (let frame = 0; frame <= frames; frame += 1) {
        at.push(await new Promise(requestAnimationFrame));
        grid.scrollTop += pixels;
    }
    return at.slice(1).map((time, frame) => time - at[frame]);
}"""
REST = "() => [...document.querySelectorAll('.gallery-cell img')].every((one) => one.complete && one.src)"
NODES = "document.querySelectorAll('.gallery-scroll *').length"


def scrolling(address: str, count: int) -> Iterator[Figure]:
    """Frames of the screen while the grid is scrolled. address: of a page whose gallery has `count` pictures;
    small pictures are made and fetched as they come into sight."""
    with launched(str(find_browser())) as chromium:
        page = chromium.new_page(viewport={"width": 1360, "height": 860})
        page.goto(f"{address}/#gallery")
        page.wait_for_selector(f".gallery-cell[aria-setsize='{count}'] img[src]", timeout=60_000)
        for hand, pixels in HANDS:
            page.wait_for_function(REST)
            gaps = sorted(page.evaluate(SCROLLED, [pixels, FRAMES]))
            mean = sum(gaps) / len(gaps)
            slow = gaps[int(len(gaps) * 0.95)]
            detail = f"{1000 / mean:.0f} frames/s, 95% within {slow:.0f} ms, {page.evaluate(NODES)} nodes"
            yield Figure(f"a frame, {count:,} scrolled {hand}", mean, 1000 / LEAST, " ms", detail)
