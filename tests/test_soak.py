"""A short soak; the long one is `python -m tests.soak --swaps 200`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_memory_returns_and_pictures_stay_after_many_swaps() -> None:
    """In a process of its own: what other tests hold would hide what the swaps do."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.soak", "--swaps", "20"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert ended.stdout.rstrip().endswith("met")
