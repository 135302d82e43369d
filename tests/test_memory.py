"""Memory: what is measured, limits of containers in both versions, and which errors mean that it ran out."""

from pathlib import Path

import psutil
import pytest
import torch

from pipelines.budget import memory
from pipelines.budget.memory import Limit, Memory
from pipelines.devices import DevicePlan

CPU = DevicePlan("cpu", "float32", False, "")


def _write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_what_there_is_agrees_with_the_system():
    there = memory.measure(CPU)
    assert 0 < there.ram_available <= there.ram_total <= psutil.virtual_memory().total
    assert (there.device_total, there.device_free) == (there.ram_total, there.ram_available)
    assert there.device_ours == min(there.ram_total, there.ram_available + there.ram_own)


def test_what_this_process_takes_is_its_own_and_comes_back():
    before = memory.measure(CPU)
    held = bytearray(b"x" * 300_000_000)
    during = memory.measure(CPU)
    assert during.ram_own - before.ram_own > 280_000_000
    del held
    memory.give_back()
    assert memory.measure(CPU).ram_own - before.ram_own < 30_000_000


def test_a_container_of_version_2_limits_what_there_is(tmp_path: Path):
    root, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text("0::/app/web\n")
    _write(root, memory__max="max\n")
    _write(
        root / "app", memory__max="8000\n", memory__high="max\n", memory__current="5000\n", memory__stat=""
    )
    _write(
        root / "app/web",
        memory__max="max\n",
        memory__high="6000\n",
        memory__current="3000\n",
        memory__stat="anon 2000\ninactive_file 900\n",
    )
    assert memory.limits(root, own) == [Limit(6000, 2100), Limit(8000, 5000)]


def test_a_container_of_version_1_limits_what_there_is(tmp_path: Path):
    root, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text("9:name=systemd:/\n4:cpu,memory:/job\n3:cpuset:/\n0::/\n")
    stated = {"memory__limit_in_bytes": "5000", "memory__usage_in_bytes": "1000"}
    _write(root / "memory", memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes="70000")
    _write(root / "memory/job", **stated, memory__stat="total_inactive_file 400\n")
    assert memory.limits(root, own) == [Limit(5000, 600)]


@pytest.mark.parametrize(
    "line", ["0::/../../host/path", "0::/not/shown/here", "4:memory:/host/docker/0123"], ids=str
)
def test_inside_a_container_the_hosts_path_leads_to_the_own_group(tmp_path: Path, line: str):
    """Docker shows the host's path in /proc and mounts the container's own group at the top."""
    root, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text(line + "\n")
    _write(root, memory__max="7000", memory__current="100")
    _write(root / "memory", memory__limit_in_bytes="7000", memory__usage_in_bytes="100")
    assert memory.limits(root, own) == [Limit(7000, 100)]


@pytest.mark.parametrize("text", ["", "nonsense", "0::/", "x:y", "4:memory:/"], ids=repr)
def test_odd_or_missing_control_groups_are_no_limit(tmp_path: Path, text: str):
    own = tmp_path / "own"
    own.write_text(text)
    assert memory.limits(tmp_path / "nothing", own) == []
    _write(tmp_path / "odd", memory__max="-5", memory__current="\x00")
    assert memory.limits(tmp_path / "odd", own) == []
    assert memory.limits(tmp_path / "odd", tmp_path / "missing") == []


def test_a_limit_bounds_the_measured_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "limits", lambda: [Limit(1_000_000, 400_000), Limit(2_000_000, 0)])
    there = memory.measure(CPU)
    assert (there.ram_total, there.ram_available) == (1_000_000, 600_000)
    assert there.ram_ours <= there.ram_total


def test_ours_is_never_more_than_the_whole():
    assert Memory(10, 8, 100, 90, 5, 50).device_ours == 10
    assert Memory(10, 8, 100, 90, 5, 50).ram_ours == 100
    assert Memory(10, 3, 100, 20, 2, 30).device_ours == 5


def test_out_of_memory_is_told_from_other_errors():
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 5 bytes."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ):
        assert memory.is_out_of_memory(error), error
    for error in (RuntimeError("shape mismatch"), ValueError("out of memory"), KeyError("x")):
        assert not memory.is_out_of_memory(error), error


def test_torchs_own_refusal_on_this_machine_counts():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert memory.is_out_of_memory(refused.value)


def test_amounts_are_said_shortly():
    assert [memory.amount(n) for n in (9_130_000_000, 999_000_000, 820_400_000, 3)] == [
        "9.1 GB",
        "1.0 GB",
        "820 MB",
        "1 MB",
    ]
