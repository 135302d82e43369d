"""What scrubbing a recorded run costs in a real headless Chromium, all lanes in sight, and opening one."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from launch import find_browser
from tests.benchmarks.figure import Figure
from tests.support.browser import launched
from tests.support.films import Films, bench_app
from tests.support.served import serving

STEPS = 50
ROUNDS = 5

# A step is all that its input event does, and the layout that it leaves behind.
SCRUBBED = """(steps) => {
    const slider = document.querySelector('.explore-strip .scrub'), times = [];
    for (let step = 0; step < steps; step += 1) {
        const began = performance.now();
        slider.value = step;
        slider.dispatchEvent(new Event('input', { bubbles: true }));
        document.body.getBoundingClientRect();
        times.push(performance.now() - began);
    }
    return times;
}"""
OPENING = """async ([run, steps]) => {
    const began = performance.now();
    document.dispatchEvent(new CustomEvent('darkroom:explore', { detail: { run } }));
    const there = () => document.querySelectorAll('.explore-strip .frame canvas').length === steps;
    while (!there()) await new Promise(requestAnimationFrame);
    return performance.now() - began;
}"""


def scrubbing(data: Path) -> Iterator[Figure]:
    """A step of the hand over a film of 50 steps with every lane chosen; from a click to the whole strip. The
    films are drawn beforehand: what the engine needs to make one is not in it."""
    films = Films(data)
    runs = [films.add(f"{turn:016x}", STEPS - turn % 2, "a boat") for turn in range(ROUNDS)]
    films.add("f" * 16, 3, "what is open before")
    with serving(bench_app(films)) as address, launched(str(find_browser())) as chromium:
        page = chromium.new_page(viewport={"width": 1360, "height": 860})
        page.goto(address)
        page.wait_for_selector(".lane-button:visible")
        for button in page.locator(".lane-button:visible").all():
            if button.get_attribute("aria-pressed") == "false":
                button.click()
        opening = [float(page.evaluate(OPENING, [run, STEPS - turn % 2])) for turn, run in enumerate(runs)]
        page.wait_for_function("document.querySelectorAll('.lane-state:not(:empty)').length === 2")
        times = sorted(time for _ in range(ROUNDS) for time in page.evaluate(SCRUBBED, STEPS))
    detail = f"95% within {times[int(len(times) * 0.95)]:.1f} ms, six lanes"
    yield Figure("a step while scrubbing 50 steps", statistics.median(times), 10, " ms", detail)
    detail = f"{min(opening):.0f}-{max(opening):.0f} ms"
    yield Figure("opening a run of 50 steps, in the browser", statistics.median(opening), 500, " ms", detail)
