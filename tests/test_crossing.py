"""Weights through the two buffers: every byte where it belongs, in the layout that it had."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pipelines.load import crossing
from pipelines.load.crossing import Crossing


class Event:
    """Counts what waits for it; on the processor a copy has arrived at once."""

    def record(self, stream: object) -> None:
        pass

    def synchronize(self) -> None:
        pass


@pytest.fixture
def across(monkeypatch: pytest.MonkeyPatch) -> Crossing:
    """A crossing with small buffers, whose device is the processor."""
    monkeypatch.setattr(torch.cuda, "Event", Event)
    stream = SimpleNamespace(synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(crossing, "LEAST", 0)
    made = Crossing("cpu")
    made._buffers = [torch.empty(1000, dtype=torch.uint8) for _ in range(2)]
    return made


def test_weights_come_whole_whatever_their_size_and_layout(across: Crossing) -> None:
    """Larger than both buffers, odd in bytes, channels last, with gaps, of no dimension, empty."""
    torch.manual_seed(0)
    last = torch.randn(8, 5, 3, 3).to(memory_format=torch.channels_last)
    given = [
        torch.randn(1700),
        torch.randint(0, 255, (77,), dtype=torch.uint8),
        last,
        torch.randn(40, 6)[:, ::2],
        torch.randn(3, 7).t(),
        torch.tensor(3.5),
        torch.empty(0),
        torch.randn(300).bfloat16(),
    ]
    for tensor, there in across._through(across._buffers or [], given):
        assert torch.equal(tensor, there) and tensor.dtype == there.dtype
        assert not there.numel() or tensor.data_ptr() != there.data_ptr()
    assert across._through(across._buffers or [], [last])[0][1].is_contiguous(
        memory_format=torch.channels_last
    )


def test_shared_weights_stay_shared_and_home_is_where_they_were(across: Crossing) -> None:
    module = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20))
    module[1].weight = module[0].weight
    values = module[0].weight.detach().clone()
    before = [tensor.data_ptr() for tensor in module.parameters()]
    across.place(module, True)
    assert module[0].weight is module[1].weight and torch.equal(module[0].weight, values)
    assert all(tensor.data_ptr() not in before for tensor in module.parameters())
    across.place(module, False)
    assert [tensor.data_ptr() for tensor in module.parameters()] == before


def test_what_is_no_module_is_left_alone(across: Crossing) -> None:
    across.place("a tokenizer", True)
