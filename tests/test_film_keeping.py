"""Recorded runs between two starts of the program: what is cleared away, and what the budget spares."""

from pathlib import Path

import pytest
import torch

from pipelines.film.recording import Recording
from pipelines.film.trajectory import STEPS, TrajectoryStore, UnknownTrajectory, new_run, run_id, step_name
from pipelines.recorder import Step


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


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_what_is_read_back_lies_in_memory_as_it_lay(tmp_path: Path, format: torch.memory_format) -> None:
    """Convolutions round otherwise where the channels lie last, and a branch would part from its parent."""
    store = TrajectoryStore(tmp_path)
    film = Recording(store, new_run(job(1), 0, request={}))
    sample = torch.randn(1, 4, 6, 8).to(memory_format=format)
    film.step(Step(0, 1.0, 1.0, 0.7, 0.7, sample, sample * 2, sample * 3, sample), None)
    film.latents(sample)
    film.close("finished")
    tensors, facts = store.read_step(film.run.id, 0)
    assert all(tensor.is_contiguous(memory_format=format) for tensor in tensors.values())
    assert torch.equal(tensors["sample"], sample) and tensors["sample"].stride() == sample.stride()
    assert torch.equal(store.read_latents(film.run.id), sample) and facts["alpha"] == 0.7
    assert store.read_latents(film.run.id).stride() == sample.stride()
