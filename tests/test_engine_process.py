"""The engine as a process: killed, starved of memory or left by its page, no job is left without an end."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import pipelines
from pipelines.engine_process import ROOT, EngineProcess
from pipelines.events import Cancelled, Failed, Finished, Loading, StepEvent
from pipelines.worker import Worker
from tests.support.tiny import request


@pytest.fixture(scope="module")
def worker(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    data = tmp_path_factory.mktemp("data")
    with pipelines.open(data, models=[tiny_models], device="cpu", dtype="float32", process=True) as worker:
        yield worker


def engine(worker: Worker) -> EngineProcess:
    assert isinstance(worker.engine, EngineProcess)
    return worker.engine


def test_a_killed_engine_comes_up_again_and_finishes_the_job_alike(worker: Worker) -> None:
    wanted = request(num_inference_steps=40)
    calm = list(worker.stream(wanted))[-1]
    events, killed = [], False
    job = worker.submit(wanted)
    for event in worker.follow(job):
        events.append(event)
        if isinstance(event, StepEvent) and event.step == 5 and not killed:
            killed = True
            os.kill(engine(worker).pid or 0, signal.SIGKILL)
    assert killed and isinstance(event, Finished) and isinstance(calm, Finished)
    told = [event.message for event in events if isinstance(event, Loading)]
    assert "The engine ended (killed" in told[0] and "goes on from its film" in told[0]
    assert worker.book.entry(worker.job(job)).deaths == 1
    assert [event.step for event in events if isinstance(event, StepEvent)] == [*range(1, 41)]
    first, second = (Path(ending.pictures[0].path).read_bytes() for ending in (calm, event))
    assert first == second


def test_a_job_that_kills_every_engine_fails_and_the_next_one_runs(worker: Worker) -> None:
    job = worker.submit(request(num_inference_steps=150))
    died = 0
    for event in worker.follow(job):
        if isinstance(event, StepEvent) and died == worker.job(job).deaths:
            died += 1
            os.kill(engine(worker).pid or 0, signal.SIGKILL)
    assert died == 2 and isinstance(event, Failed) and "memory ran out" in event.message
    assert worker.job(job).state == "set_aside" and "set aside" in event.message
    assert isinstance(list(worker.stream(request()))[-1], Finished)


def test_not_enough_memory_is_a_sentence(worker: Worker) -> None:
    list(worker.stream(request()))
    process = psutil.Process(engine(worker).pid)
    used = process.memory_info().vms
    process.rlimit(psutil.RLIMIT_AS, (used + 200_000_000, psutil.RLIM_INFINITY))
    ending = list(worker.stream(request(width=2048, height=2048, num_inference_steps=1)))[-1]
    process.rlimit(psutil.RLIMIT_AS, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
    assert isinstance(ending, Failed)
    assert "not enough memory for a picture of 2048 x 2048" in ending.message
    assert isinstance(list(worker.stream(request()))[-1], Finished)


def test_tokens_are_counted_across(worker: Worker) -> None:
    list(worker.stream(request()))
    assert worker.count_tokens("sd", "cat").used == 3


def test_a_stop_is_heard_while_a_look_waits_for_its_turn(worker: Worker) -> None:
    seen = worker.submit(request())
    collections.deque(worker.follow(seen), maxlen=0)
    looked: list[bytes] = []
    look = threading.Thread(target=lambda: looked.append(worker.engine.call("decode", f"{seen}-0", 0, "x0")))
    job = worker.submit(request(num_inference_steps=150))
    for event in worker.follow(job):
        if isinstance(event, StepEvent) and event.step == 2:
            look.start()
            worker.stop(job)
    assert isinstance(event, Cancelled)
    look.join(30)
    assert looked[0].startswith(b"\x89PNG")


def test_the_engine_goes_with_its_page(tiny_models: Path, tmp_path: Path) -> None:
    script = (
        "import pipelines, sys\n"
        f"worker = pipelines.open({str(tmp_path)!r}, models=[{str(tiny_models)!r}], process=True)\n"
        "worker.generate('a', model='sd', width=64, height=64, num_inference_steps=1)\n"
        "assert 'torch' not in sys.modules\n"
        "print(worker.engine.pid, flush=True)\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    try:
        psutil.Process(int(done.stdout.split()[-1])).wait(timeout=20)
    except psutil.NoSuchProcess:
        pass
