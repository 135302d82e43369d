"""A few kills of what writes films; the long form is `python -m tests.filmkill --times 100`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.skipif(sys.platform == "win32", reason="there a process cannot be forked")
def test_what_a_kill_leaves_of_films_is_whole() -> None:
    """In a process of its own: one that has other threads had better not be forked."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.filmkill", "--times", "6"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert ended.stdout.rstrip().endswith("met")
