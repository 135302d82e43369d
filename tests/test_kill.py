"""The short form of tests.kill: what ends with the program goes on in the next, to the same picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kill import run


@pytest.mark.slow
def test_a_program_that_is_killed_three_times_loses_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    result = run(tmp_path, 3, seed=1, told=told.append)
    assert result.times == 3 and result.accepted and result.met, result.line()
