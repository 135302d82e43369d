"""Fixtures of tests that fetch: a hub in miniature, fetchers that ask it, and waiting for what they tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from pipelines.fetch import transfer
from pipelines.fetch.fetch_states import FetchState
from pipelines.fetch.fetching import Fetcher
from tests.support.hub import TinyHub

WAIT = 60
"""Seconds within which anything here has happened on the slowest machine."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TinyHub]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf/token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "hf/stored_tokens"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transfer, "WAITS", (0.01,) * 3)
    monkeypatch.setattr("pipelines.fetch.fetching.TOLD_EVERY", 0.0)
    with TinyHub().running() as tiny:
        yield tiny


Make = Callable[..., Fetcher]


@pytest.fixture
def make(hub: TinyHub, tmp_path: Path) -> Iterator[Make]:
    made: list[Fetcher] = []

    def build(**options: Any) -> Fetcher:
        told = {"cache": tmp_path / "cache", "endpoint": hub.address, "rows": (), **options}
        made.append(Fetcher(tmp_path / "models", tmp_path / "data", **told))
        return made[-1]

    yield build
    hub.go.set()
    for fetcher in made:
        fetcher.close()


def until(fetcher: Fetcher, key: str, true: Callable[[FetchState], bool] | str) -> FetchState:
    """The first state of that fetch of which `true` holds (or that is in that phase), told by `watch`."""

    async def look() -> FetchState:
        async with asyncio.timeout(WAIT):
            async for states in fetcher.watch():
                for state in states:
                    if state.key == key and (state.phase == true if isinstance(true, str) else true(state)):
                        return state
        raise AssertionError("the fetcher stopped telling")

    return asyncio.run(look())


def fetched(fetcher: Fetcher, id: str, **options: Any) -> FetchState:
    key = fetcher.start(id, **options)
    state = until(fetcher, key, lambda state: state.phase in ("done", "failed"))
    assert state.phase == "done", state.message
    return state
