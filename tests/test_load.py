"""The short form of `python -m tests.load`: several clients at once over the real HTTP interface."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pipelines
from tests import load
from tests.support.served import served


def test_clients_at_once_lose_nothing_and_are_served_in_turn(tmp_path: Path, tiny_models: Path) -> None:
    data = tmp_path / "data"
    with pipelines.open(data, models=[tiny_models]) as worker, served(worker, data) as address:
        told = asyncio.run(load.drive(address, clients=5, jobs=4))
    assert load.faults(told, data, clients=5, jobs=4) == []
    assert told.answers
