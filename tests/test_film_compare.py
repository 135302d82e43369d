"""Two runs compared: where they part is told to the bit, and a run differs from itself by exactly nothing."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pipelines.film.compare import compare, parts_at
from pipelines.film.trajectory import RunInfo, TrajectoryStore, UnknownTrajectory, new_run, step_name
from pipelines.preview import LatentToRGB

A, B = "a" * 16, "b" * 16
SHAPE = (1, 4, 8, 8)
TO_RGB = LatentToRGB(torch.full((4, 3), 0.1), torch.full((3,), 0.5))


def develop(run: RunInfo, latents: torch.Tensor) -> Image.Image:
    return TO_RGB(latents[0])


Film = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path) -> TrajectoryStore:
    return TrajectoryStore(tmp_path / "trajectories")


def record(
    store: TrajectoryStore, job: str, steps: int, change: Any = None, shape: Any = SHAPE, **more: Any
) -> str:
    """A run of made-up steps; change: (index, tensor's name, what it becomes)."""
    run = dataclasses.replace(new_run(job, 0, request={"prompt": "x"}, total=steps, state="finished"), **more)
    store.write(run)
    draw = torch.Generator().manual_seed(1)
    for index in range(steps):
        names = ("sample", "model_output", "pred_original_sample")
        tensors = {name: torch.randn(shape, generator=draw) for name in names}
        if change is not None and index == change[0]:
            tensors[change[1]] = change[2](tensors[change[1]])
        save_file(tensors, store.folder(run.id) / "steps" / step_name(index))
    return run.id


def one_bit(tensor: torch.Tensor) -> torch.Tensor:
    bits = tensor.clone().view(torch.int32)
    bits.flatten()[37] ^= 1
    return bits.view(torch.float32)


def test_a_run_differs_from_itself_by_exactly_nothing(store: TrajectoryStore) -> None:
    a = record(store, A, 4)
    told = compare(store, a, a, develop)
    assert told["parts"] is None and told["common"] == 4
    assert [step["difference"] for step in told["steps"]] == [0.0] * 4
    assert all(step["same"] and step["second"] is None and step["map"] is None for step in told["steps"])


def test_equal_runs_in_files_of_their_own_part_nowhere(store: TrajectoryStore) -> None:
    a, b = record(store, A, 4), record(store, B, 4)
    assert parts_at(store, a, b) is None
    assert compare(store, a, b, develop)["parts"] is None


@pytest.mark.parametrize("name", ["sample", "model_output", "pred_original_sample"])
def test_one_bit_of_any_tensor_is_where_they_part(store: TrajectoryStore, name: str) -> None:
    a, b = record(store, A, 4), record(store, B, 4, (2, name, one_bit))
    told = compare(store, a, b, develop)
    assert told["parts"] == parts_at(store, a, b) == 2
    assert [step["same"] for step in told["steps"]] == [True, True, False, True]


def test_the_sign_of_zero_counts_and_nan_equals_itself(store: TrajectoryStore) -> None:
    a = record(store, A, 2, (0, "sample", lambda one: torch.zeros_like(one)))
    b = record(store, B, 2, (0, "sample", lambda one: -torch.zeros_like(one)))
    assert parts_at(store, a, b) == 0
    c = record(store, "c" * 16, 2, (1, "sample", lambda one: one * float("nan")))
    assert (
        parts_at(store, c, record(store, "d" * 16, 2, (1, "sample", lambda one: one * float("nan")))) is None
    )


def test_difference_and_psnr_are_what_they_are_called(store: TrajectoryStore) -> None:
    a, b = record(store, A, 1), record(store, B, 1, (0, "pred_original_sample", lambda one: one * 1.5))
    [step] = compare(store, a, b, develop)["steps"]
    assert step["difference"] == pytest.approx(0.5, rel=1e-5)
    x0 = store.read_step(a, 0)[0]["pred_original_sample"]
    shown = [torch.tensor(np.asarray(develop(store.get(a), one))).double() for one in (x0, x0 * 1.5)]
    error = float(((shown[0] - shown[1]) ** 2).mean())
    assert step["psnr"] == pytest.approx(10 * torch.log10(torch.tensor(255**2 / error)).item(), rel=1e-4)
    assert step["map"][:2] == step["second"][:2] == b"\xff\xd8"


def test_steps_that_a_branch_shares_are_not_read(store: TrajectoryStore, monkeypatch: Any) -> None:
    a, b = record(store, A, 3), record(store, B, 3, (2, "sample", one_bit))
    for index in range(2):
        shared = store.folder(b) / "steps" / step_name(index)
        shared.unlink()
        os.link(store.folder(a) / "steps" / step_name(index), shared)
    read: list[tuple[str, int]] = []
    real = store.read_step
    monkeypatch.setattr(store, "read_step", lambda id, index: read.append((id, index)) or real(id, index))
    assert compare(store, a, b, develop)["parts"] == 2
    assert [index for id, index in read if id == b] == [2]


def test_runs_of_other_lengths_and_sizes_are_compared_as_far_as_they_go(store: TrajectoryStore) -> None:
    a, b = record(store, A, 5), record(store, B, 3)
    told = compare(store, a, b, develop)
    assert (told["parts"], told["common"]) == (None, 3)
    told = compare(store, a, record(store, "c" * 16, 2, shape=(1, 4, 4, 8)), develop)
    assert (
        told["parts"] == 0 and told["steps"][0]["difference"] is None and told["steps"][0]["psnr"] is not None
    )


def test_finished_pictures_are_compared_pixel_by_pixel(store: TrajectoryStore, tmp_path: Path) -> None:
    picture = Image.new("RGB", (10, 10), (10, 20, 30))
    picture.save(tmp_path / "a.png")
    picture.putpixel((3, 3), (11, 20, 30))
    picture.save(tmp_path / "b.png")
    a = record(store, A, 1, picture=str(tmp_path / "a.png"))
    b = record(store, B, 1, picture=str(tmp_path / "b.png"))
    told = compare(store, a, b, develop)["picture"]
    assert told["share"] == pytest.approx(0.01) and not told["same"] and told["psnr"] > 60
    told = compare(store, a, a, develop)["picture"]
    assert told["same"] and told["share"] == 0 and told["psnr"] is None
    (tmp_path / "b.png").unlink()
    assert compare(store, a, b, develop)["picture"] is None


def test_a_run_that_is_gone_is_told_in_a_sentence(store: TrajectoryStore) -> None:
    a = record(store, A, 2)
    with pytest.raises(UnknownTrajectory, match="not there any more"):
        compare(store, a, f"{B}-0", develop)
    b = record(store, B, 2, (1, "sample", one_bit))
    cut = store.folder(b) / "steps" / step_name(1)
    cut.write_bytes(cut.read_bytes()[:50])
    with pytest.raises(UnknownTrajectory, match="cut"):
        compare(store, a, b, develop)
