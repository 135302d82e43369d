"""Recorded runs between two starts of the program: what is cleared away, and what the budget spares."""

from pathlib import Path

import pytest

from pipelines.film.trajectory import STEPS, TrajectoryStore, UnknownTrajectory, new_run, run_id, step_name


def job(number: int) -> str:
    return f"{number:016x}"


def recorded(store: TrajectoryStore, number: int, size: int = 1000, **known: object) -> str:
    run = store.write(new_run(job(number), 0, **{"request": {}, "state": "finished", **known}))
    (store.folder(run.id) / STEPS / step_name(0)).write_bytes(bytes(size))
    return run.id


def test_what_a_killed_program_left_is_cleared_and_its_run_ended(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path)
    cut, whole = recorded(store, 1, state="running"), recorded(store, 2)
    part = store.folder(cut) / STEPS / f".{step_name(1)}.0a0b0c0d.part"
    part.write_bytes(b"half")
    gone = tmp_path / f".{run_id(job(3), 0)}.0a0b0c0d.gone"
    gone.mkdir()
    nameless = store.folder(run_id(job(4), 0)) / STEPS  # a branch that took steps over, and was killed then
    nameless.mkdir(parents=True)
    store.clear()
    store.settle(())
    assert not part.exists() and not gone.exists() and not nameless.parent.exists()
    assert store.get(cut).state == "failed" and "ended" in store.get(cut).note
    assert store.get(whole).state == "finished" and store.steps(whole) == 1


def test_the_budget_takes_the_trash_first_and_spares_what_is_pinned(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path)
    pinned, old, new = (recorded(store, number, 100_000) for number in (1, 2, 3))
    trashed = recorded(store, 4, 100_000)
    store.pin(pinned, True)
    store.trash(trashed)
    assert store.keep_within(350_000) == [trashed]
    assert store.keep_within(250_000) == [old]
    assert store.keep_within(0) == [new]
    assert [run.id for run in store.list()] == [pinned]
    with pytest.raises(UnknownTrajectory, match="not there any more"):
        store.get(old)
