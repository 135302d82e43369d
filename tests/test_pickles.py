"""Pickled weights: tensors alone are read, whatever would run is refused by its name and never runs."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.library.headers import UnreadableFile
from pipelines.load import pickles


class Payload:
    """A pickle of this calls `function` when it is loaded."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def hostile(folder: Path) -> dict[str, tuple[Any, str]]:
    """Name -> (what would write `folder`/ran, what it calls)."""
    ran = folder / "ran"
    return {
        "a shell command": (Payload(os.system, f"touch {ran}"), "posix.system"),
        "eval": (Payload(eval, f"open({str(ran)!r}, 'w')"), "eval"),
        "open": (Payload(open, str(ran), "w"), "open"),
        "an attribute": (Payload(getattr, os, "system"), "getattr"),
    }


@pytest.mark.parametrize("case", ["a shell command", "eval", "open"])
@pytest.mark.parametrize("layout", ["zip", "stream", "bare"])
def test_a_payload_is_named_and_never_runs(tmp_path: Path, case: str, layout: str) -> None:
    payload, name = hostile(tmp_path)[case]
    told = {"state_dict": {"a": torch.ones(3)}, "callbacks": payload}
    path = tmp_path / "model.ckpt"
    if layout == "bare":
        path.write_bytes(pickle.dumps(payload, protocol=2))
    else:
        torch.save(told, path, _use_new_zipfile_serialization=layout == "zip")
    assert any(name in one for one in pickles.unsafe_names(path))
    with pytest.raises(pickles.UnsafePickle, match="was not opened") as problem:
        pickles.load_tensors(path)
    assert any(name in one for one in problem.value.names) and name in str(problem.value)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(payload))  # it would have
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_read_from_the_layouts_of_trainings(tmp_path: Path, zipped: bool) -> None:
    weights = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}
    layouts: dict[str, Any] = {
        "plain": weights,
        "lightning": {
            "state_dict": weights,
            "epoch": 3,
            "lr": np.float64(0.1),
            "optimizer_states": [{"step": 1}],
        },
        "esrgan": {"params_ema": weights},
        "parameter": {name: torch.nn.Parameter(one) for name, one in weights.items()},
    }
    for name, told in layouts.items():
        path = tmp_path / f"{name}.pt"
        torch.save(told, path, _use_new_zipfile_serialization=zipped)
        assert pickles.unsafe_names(path) == []
        found = pickles.load_tensors(path)
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[key], one) for key, one in weights.items())


def test_what_is_no_checkpoint_is_told_in_a_sentence(tmp_path: Path) -> None:
    good = tmp_path / "good.pt"
    torch.save({"a": torch.ones(1000)}, good)
    whole = good.read_bytes()
    for name, data in {
        "empty": b"",
        "text": b"<html>not found</html>",
        "cut": whole[: len(whole) // 2],
        "head": whole[:100],
        "zeros": b"\0" * 500,
    }.items():
        path = tmp_path / f"{name}.pt"
        path.write_bytes(data)
        with pytest.raises(UnreadableFile, match=f"{name}.pt"):
            pickles.load_tensors(path)
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(UnreadableFile, match="holds no weights"):
        pickles.load_tensors(tmp_path / "none.pt")


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        with opened.open("archive/data/0", "w") as stream:
            for _ in range(60):
                stream.write(b"\0" * 1_000_000)
    for read in (pickles.load_tensors, pickles.unsafe_names):
        with pytest.raises(UnreadableFile, match=r"unpacks to 60,0.* bytes"):
            read(path)
