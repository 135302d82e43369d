"""What the gallery costs with very many pictures: first page, searching, noticing what is new, scrolling."""

from __future__ import annotations

import json
import os
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from pipelines.gallery.gallery import INDEX, Gallery
from pipelines.gallery.search import Question
from pipelines.library.models import ModelLibrary
from pipelines.pictures import PictureStore
from pipelines.worker import Worker
from tests.benchmarks.figure import Figure
from tests.benchmarks.gallery_scroll import scrolling
from tests.support import many_pictures
from tests.support.served import served

COUNT = int(os.environ.get("GALLERY_PICTURES", "100000"))
FIRST_PAGE, SEARCH = 300.0, 150.0
"""Milliseconds, the goals; over HTTP from the running page's server."""
ASKED = (
    ("a word of one picture", {"q": f"take{COUNT // 2}"}),
    ("a word of a fifth of them", {"q": "lighthouse"}),
    ("a word of all of them", {"q": "detailed"}),
    ("two words and the beginning of a third", {"q": "red castle sno"}),
    ("a phrase without a word", {"q": '"golden robot" -sea'}),
    ("two letters", {"q": "re"}),
    ("a word with a model and a sampler", {"q": "boat", "model": "Model C", "sampler": "Euler a"}),
    ("a LoRA", {"lora": "lora7"}),
    ("a month", {"from": "2025-03-01", "to": "2025-03-31"}),
    ("the last page, by seed", {"sort": "seed", "offset": COUNT - 200}),
    ("the middle", {"offset": COUNT // 2}),
)


def gallery(data: Path) -> Iterator[Figure]:
    """A gallery of `COUNT` pictures (100,000) whose index begins empty."""
    many_pictures.fill(data / "outputs", COUNT)
    with Worker(_Still(), ModelLibrary([]), PictureStore(data / "inputs")) as worker:
        seconds = _timed(lambda: _scanned(worker, data))
        each = f"{seconds / COUNT * 1e6:.0f} µs a picture, {(data / INDEX).stat().st_size / 1e6:.0f} MB"
        yield Figure(f"index of {COUNT:,} pictures from nothing", seconds, float("inf"), " s", each)
        seconds = _timed(lambda: _scanned(worker, data))
        yield Figure("a start with nothing new", seconds, 5, " s")
        with served(worker, data) as address:
            ask = _Asking(f"{address}/darkroom/gallery")
            yield _figure("first page", [ask.anew("list", limit=200) for _ in range(5)], FIRST_PAGE)
            yield _figure("all filters with their counts", [ask.anew("facets") for _ in range(5)], FIRST_PAGE)
            for what, asked in ASKED:
                yield _figure(f"search: {what}", [ask.anew("list", **asked) for _ in range(5)], SEARCH)
            again = [_timed(lambda: ask("list", q="detailed", offset=200 * page)) for page in range(5)]  # noqa: B023
            yield _figure("the next pages of a search", again, 50)
            one = data / "outputs/text2image/2025-01-01"
            times = [_noticed(ask, one / f"{number}.png", number) for number in range(COUNT, COUNT + 5)]
            yield _figure("a picture written until it is listed", times, 2000)
            yield from scrolling(address, COUNT + len(times))


def _scanned(worker: Worker, data: Path) -> None:
    """A start of the program, until its folders are gone through."""
    gallery = Gallery(data, worker.store, worker.trajectories)
    gallery.open()
    gallery.scanned.wait()
    found = gallery.index.count(Question())
    gallery.close()
    if found != COUNT:
        raise RuntimeError(f"{found} pictures were found of {COUNT}.")


def _noticed(ask: _Asking, path: Path, number: int) -> float:
    path.with_name("x.part").write_bytes(
        many_pictures.png(f"noticed{number}\nSteps: 1, Seed: 1, Size: 8x8", number)
    )

    def until() -> None:
        path.with_name("x.part").rename(path)
        while not ask("list", q=f"noticed{number}")["total"]:
            time.sleep(0.02)

    return _timed(until)


def _figure(name: str, times: list[float], goal: float) -> Figure:
    worst = f"worst of {len(times)}: {max(times) * 1000:.0f} ms"
    return Figure(name, statistics.median(times) * 1000, goal, " ms", worst)


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


class _Asking:
    """Asks the gallery's routes as a page does."""

    def __init__(self, address: str):
        self.address = address
        self.star = False

    def anew(self, what: str, **asked: Any) -> float:
        """Seconds that a question takes after something has changed, so that nothing is remembered."""
        self.star = not self.star
        change = {"ids": [self("list", limit=1)["entries"][0]["id"]], "star": self.star}
        headers = {"Content-Type": "application/json"}
        body = json.dumps(change).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.address}/change", body, headers)).close()
        return _timed(lambda: self(what, **asked))

    def __call__(self, what: str, **asked: Any) -> Any:
        with urllib.request.urlopen(f"{self.address}/{what}?{urlencode(asked)}") as answer:
            return json.loads(answer.read())


class _Still:
    """An engine that nobody asks anything."""

    apart = True

    def start(self, tell: Any) -> None: ...

    def run(self, job_id: str, request: Any, emit: Any, *more: Any) -> None: ...

    def stop(self, job_id: str, keep: bool) -> None: ...

    def pause(self, job_id: str) -> None: ...

    def call(self, name: str, *arguments: Any) -> Any: ...

    def close(self) -> None: ...
