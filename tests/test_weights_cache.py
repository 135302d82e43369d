"""Converted weights on disk: one entry for one content, within a budget, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines import devices
from pipelines.library.headers import read_header
from pipelines.library.models import ModelLibrary
from pipelines.load import weights_cache
from pipelines.load.components import Budgets
from pipelines.load.loaded import LoadedModels
from pipelines.load.weights_cache import BadWeights, Record, WeightsCache, digest, read_tensors
from tests.support import tiny
from tests.test_loading import assert_same


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "b.weight": torch.randn(3, 5, generator=draw),
        "a.weight": torch.randn(7, generator=draw),
        "scalar": torch.tensor(2.5),
        "ids": torch.arange(9),
        "flag": torch.tensor([True, False]),
    }


def halved(given: dict[str, torch.Tensor]) -> dict[str, torch.dtype]:
    return {name: torch.bfloat16 if one.is_floating_point() else one.dtype for name, one in given.items()}


def test_what_is_stored_comes_back_in_the_format_it_runs_in(tmp_path: Path) -> None:
    cache, given = WeightsCache(tmp_path), state()
    content, size = cache.store(given, halved(given))
    back = cache.open(content)
    assert back.keys() == given.keys()
    for name, tensor in given.items():
        wanted = tensor.bfloat16() if tensor.is_floating_point() else tensor
        assert back[name].dtype == wanted.dtype and torch.equal(back[name], wanted), name
    header = read_header(cache.file(content))  # a whole file by our own strict reader
    assert sum(info.bytes for info in header.tensors.values()) == size
    assert all(one.data_ptr() % one.element_size() == 0 for one in back.values())
    assert list(tmp_path.glob("writing-*")) == []


def test_one_content_is_kept_once_whatever_it_was_made_from(tmp_path: Path) -> None:
    cache, given = WeightsCache(tmp_path), state()
    doubled = {
        name: one.double() if one.is_floating_point() else one for name, one in reversed(given.items())
    }
    first, size = cache.store(given, halved(given))
    second, _ = cache.store(doubled, halved(given))
    assert first == second == digest({n: t.to(halved(given)[n]) for n, t in given.items()}, halved(given))
    assert cache.bytes == cache.file(first).stat().st_size >= size
    other = state()
    other["a.weight"][0] += 1
    assert cache.store(other, halved(other))[0] != first


def test_the_least_recently_used_go_when_the_budget_is_full(tmp_path: Path) -> None:
    given = [state(seed) for seed in range(3)]
    one = WeightsCache(tmp_path).store(given[0], halved(given[0]))[0]
    size = WeightsCache(tmp_path).bytes
    cache = WeightsCache(tmp_path, budget=2 * size + 10)
    two, _ = cache.store(given[1], halved(given[1]))
    os.utime(cache.file(two), (1, 1))
    mapped = cache.open(two)  # used: now `one` is the oldest
    os.utime(cache.file(one), (2, 2))
    three, _ = cache.store(given[2], halved(given[2]))
    assert not cache.file(one).is_file() and cache.file(two).is_file() and cache.file(three).is_file()
    cache._budget = 10
    with pytest.raises(OSError, match="do not fit into"):
        cache.store(given[0], halved(given[0]))
    shutil.rmtree(tmp_path / two)
    assert torch.equal(mapped["ids"], given[1]["ids"]), "what is in use outlives its file"


def test_records_are_forgotten_with_their_weights_and_when_damaged(tmp_path: Path) -> None:
    cache, given = WeightsCache(tmp_path), state()
    content, size = cache.store(given, halved(given))
    cache.remember("stamp", Record(content, size, stored=True))
    cache.remember("other", Record("elsewhere", 5, stored=False))
    assert WeightsCache(tmp_path).recall("stamp") == Record(content, size, stored=True)
    assert cache.recall("other") == Record("elsewhere", 5, stored=False)
    shutil.rmtree(tmp_path / content)
    assert cache.recall("stamp") is None and cache.recall("never") is None
    for text in (
        "",
        "{",
        "[]",
        '{"content": 1}',
        json.dumps({"content": "x", "bytes": "y", "stored": 1, "format": 1}),
    ):
        (tmp_path / "known/other.json").write_text(text)
        assert cache.recall("other") is None, text


def test_values_that_are_no_numbers_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    for value in (float("nan"), float("inf")):
        given = state()
        given["b.weight"][1, 2] = value
        with pytest.raises(BadWeights, match=r"1 of the 15 values of b\.weight are no numbers"):
            WeightsCache(tmp_path).store(given, halved(given))
    large = {"a": torch.full((4000,), 3e4)}  # its sum is larger than float16's numbers, its values are not
    WeightsCache(tmp_path).store(large, {"a": torch.float16})
    with pytest.raises(BadWeights, match="no numbers"):
        WeightsCache(tmp_path).store({"a": torch.full((2,), 7e4)}, {"a": torch.float16})
    assert len(list(tmp_path.glob("*"))) == 1


def test_what_a_crash_left_is_swept_away(tmp_path: Path) -> None:
    gone = 2**22 + 17  # above the highest process number of Linux
    (tmp_path / f"writing-{gone}-1").mkdir(parents=True)
    (tmp_path / f"writing-{gone}-1/weights.safetensors").write_bytes(b"half")
    other = tmp_path / f"writing-{os.getppid()}-1"  # of a process that lives
    other.mkdir()
    cache = WeightsCache(tmp_path)
    cache.remember("a", Record("x", 1, stored=False))
    (tmp_path / f"known/writing-{gone}-1-a.json").write_text("{")
    cache.sweep()
    assert sorted(path.name for path in tmp_path.glob("*")) == ["known", other.name]
    assert [path.name for path in (tmp_path / "known").glob("*")] == ["a.json"]


def test_an_interrupted_write_is_never_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, given = WeightsCache(tmp_path), state()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights_cache.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        cache.store(given, halved(given))
    assert list(tmp_path.glob("*")) == []


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_all(tmp_path_factory.mktemp("models"), ("sd",))


def loaded(models: Path, data: Path) -> LoadedModels:
    plan = devices.choose("cpu", "bfloat16")
    return LoadedModels(ModelLibrary([models]), plan, data, lambda: Budgets(10**9, 10**9))


def test_a_second_start_maps_what_the_first_converted(models: Path, tmp_path: Path) -> None:
    first = loaded(models, tmp_path)
    spec = first.library.find("sd")
    expected = first.load(spec).pipeline
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache/weights").glob("*/*.safetensors")}
    assert len(files) == 3
    again = loaded(models, tmp_path).load(spec).pipeline
    for name in ("unet", "vae", "text_encoder"):
        assert_same(getattr(again, name), getattr(expected, name))
    assert set((tmp_path / "cache/weights").glob("*/*.safetensors")) == set(files)
    for file in files:  # damaged or gone: converted anew
        shutil.rmtree(file.parent)
    third = loaded(models, tmp_path).load(spec).pipeline
    assert_same(third.unet, expected.unet)


def test_weights_that_run_as_they_are_stored_are_not_copied(models: Path, tmp_path: Path) -> None:
    plan = devices.choose("cpu", "float32")
    own = LoadedModels(ModelLibrary([models]), plan, tmp_path, lambda: Budgets(10**9, 10**9))
    model = own.load(own.library.find("sd"))
    unet = model.pipeline.unet
    kept = list((tmp_path / "cache/weights").glob("*/*.safetensors"))
    assert [file.parent.name for file in kept] == [model.keys["vae"].split("-")[0]], (
        "it is laid out otherwise"
    )
    held = read_tensors([models / "sd/unet/diffusion_pytorch_model.safetensors"])
    assert torch.equal(unet.conv_in.weight, held["conv_in.weight"])


def test_a_full_disk_costs_speed_and_nothing_else(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    expected = loaded(models, tmp_path / "roomy")
    spec = expected.library.find("sd")
    unet = expected.load(spec).pipeline.unet
    own = loaded(models, tmp_path / "full")
    monkeypatch.setattr(weights_cache.os, "fsync", full)
    assert_same(own.load(spec).pipeline.unet, unet)
    told = own.status().told
    assert any("could not be kept on disk (No space left on device)" in sentence for sentence in told)
    own.unload_all()
    assert_same(own.load(spec).pipeline.unet, unet)
