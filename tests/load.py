"""Many clients at once over the real HTTP interface: none lost, each served in its order, nobody starves,
memory flat, and the page still answers.

`python -m tests.load` runs the program itself with 50 clients and 1,000 jobs of 2 steps on a tiny model;
tests/test_load.py has the short form.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from pipelines.request import GenerationRequest

STEPS, SIDE = 2, 64
ANSWER = 0.2
"""Seconds in which the page answers under load, but for one answer of twenty."""
GROWTH = 60
"""MB that the page may grow from its tenth part of the jobs to the last."""
PROBE = 0.1
"""Seconds between two looks at the page."""
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Told:
    """What was told to the clients, and what was measured meanwhile."""

    endings: dict[str, Any] = field(default_factory=dict)
    """By prompt: whether it succeeded, and the paths or the sentence."""
    answers: list[float] = field(default_factory=list)
    """Seconds of each look at the page."""
    memory: list[float] = field(default_factory=list)
    """MB of the page's process at each look, where that is known."""
    submitted: float = 0.0
    seconds: float = 0.0

    @property
    def p95(self) -> float:
        return statistics.quantiles(self.answers, n=20)[-1] if len(self.answers) > 1 else 0.0


async def drive(address: str, clients: int, jobs: int, pid: int | None = None, model: str = "sd") -> Told:
    """Every client asks for all of its jobs at once and waits for them, as a script or a page does: by
    Gradio's queue, with one stream for all that it asked."""
    told = Told()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=httpx.Timeout(600), limits=limits) as http:
        config = (await http.get("/config")).json()
        function = next(one["id"] for one in config["dependencies"] if one["api_name"] == "paint")
        began = time.perf_counter()
        looking = asyncio.create_task(_look(address, told, pid))
        await asyncio.gather(*(_client(http, told, function, n, jobs, model, began) for n in range(clients)))
        told.seconds = time.perf_counter() - began
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    return told


def prompt_of(client: int, job: int) -> str:
    """What the n-th client asks for."""
    return f"client {client:02} job {job:03}"


async def _client(
    http: httpx.AsyncClient, told: Told, function: int, client: int, jobs: int, model: str, began: float
) -> None:
    session = f"load{client:02}"
    waiting: dict[str, str] = {}
    for job in range(jobs):
        body = {"data": _values(prompt_of(client, job), model), "fn_index": function, "session_hash": session}
        answer = await http.post("/gradio_api/queue/join", json=body)
        answer.raise_for_status()
        waiting[answer.json()["event_id"]] = prompt_of(client, job)
    told.submitted = max(told.submitted, time.perf_counter() - began)
    async with http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        async for line in stream.aiter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                prompt = waiting.pop(message["event_id"])
                told.endings[prompt] = message["success"], message["output"].get("data") or message["output"]
                if not waiting:
                    return


def _values(prompt: str, model: str) -> list[Any]:
    given = {"prompt": prompt, "model": model, "num_inference_steps": STEPS, "width": SIDE, "height": SIDE}
    request = GenerationRequest(**given).model_dump(mode="json")
    return [request[name] for name in GenerationRequest.model_fields]


async def _look(address: str, told: Told, pid: int | None) -> None:
    """Asks for the page again and again, as a new visitor would."""
    import psutil

    process = psutil.Process(pid) if pid else None
    async with httpx.AsyncClient(base_url=address, timeout=30) as http:
        while True:
            began = time.perf_counter()
            (await http.get("/")).raise_for_status()
            told.answers.append(time.perf_counter() - began)
            if process is not None:
                told.memory.append(process.memory_info().rss / 1e6)
            await asyncio.sleep(PROBE)


def faults(told: Told, data: Path, clients: int, jobs: int) -> list[str]:
    """What is not as it must be, in sentences; empty where all is."""
    found = []
    prompts = [prompt_of(client, job) for client in range(clients) for job in range(jobs)]
    lost = [prompt for prompt in prompts if not told.endings.get(prompt, (False,))[0]]
    if lost:
        found.append(f"{len(lost)} jobs had no picture, as {lost[0]!r}: {told.endings.get(lost[0])}.")
    missing = [
        prompt for prompt in prompts if prompt not in lost and not Path(_path(told.endings[prompt])).is_file()
    ]
    if missing:
        found.append(f"{len(missing)} pictures are not on disk.")
    with sqlite3.connect(data / "journal.sqlite") as journal:
        rows = journal.execute("SELECT request, client, state FROM jobs ORDER BY started, number").fetchall()
    if Counter(row[2] for row in rows) != {"finished": clients * jobs}:
        found.append(f"The journal has {Counter(row[2] for row in rows)}.")
    by_client: dict[str, list[str]] = {}
    lead, begun, there = 0, Counter[str](), Counter[str]()
    for request, client, _ in rows:
        by_client.setdefault(client, []).append(json.loads(request)["prompt"])
        begun[client] += 1
        if len(begun) == clients:  # from when all have come
            there = there or Counter(begun)
            counts = [begun[one] - there[one] for one in begun]
            lead = max(lead, max(counts) - min(counts))
    jumbled = [client for client, asked in by_client.items() if asked != sorted(asked)]
    if jumbled:
        found.append(
            f"{len(jumbled)} clients were not served in their order, as {by_client[jumbled[0]][:5]}."
        )
    if len(by_client) != clients:
        found.append(f"{len(by_client)} clients were told apart.")
    if lead > 2:
        found.append(f"A client was served {lead} jobs ahead of another.")
    return found


def _path(ending: tuple[bool, Any]) -> str:
    return str(ending[1][0][0])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program with many clients; exit status 1 where something is not as it must be."""
    from tests.support import tiny

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=20, help="of each client")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        models = tiny.save_all(Path(folder) / "models", ("sd",))
        data = Path(folder) / "data"
        with socket.create_server(("127.0.0.1", 0)) as door:
            port = door.getsockname()[1]
        command = [sys.executable, "-m", "ui.app", "--no-browser", "--port", str(port)]
        command += ["--data", str(data), "--models", str(models)]
        program = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            assert program.stdout is not None
            print(program.stdout.readline().strip())
            address = f"http://127.0.0.1:{port}"
            asyncio.run(drive(address, 1, 1))  # engine and model are up
            told = asyncio.run(drive(address, options.clients, options.jobs, program.pid))
        finally:
            program.terminate()
            program.wait()
        return _report(told, data, options.clients, options.jobs)


def _report(told: Told, data: Path, clients: int, jobs: int) -> int:
    with sqlite3.connect(data / "journal.sqlite") as journal:
        journal.execute("DELETE FROM jobs WHERE number = 1")  # the one that brought the engine up
    found = faults(told, data, clients, jobs)
    count = clients * jobs
    print(f"{count} jobs of {clients} clients: asked in {told.submitted:.1f} s, done in {told.seconds:.1f} s")
    print(
        f"GET / under load ({len(told.answers)} times): p95 {told.p95 * 1e3:.0f} ms, "
        f"median {statistics.median(told.answers) * 1e3:.0f} ms, longest {max(told.answers) * 1e3:.0f} ms"
    )
    tenth = told.memory[len(told.memory) // 10]
    grown = told.memory[-1] - tenth
    print(f"the page's memory: {tenth:.0f} MB after a tenth of the time, {told.memory[-1]:.0f} MB at the end")
    if told.p95 > ANSWER:
        found.append(f"The page answered in {told.p95 * 1e3:.0f} ms (p95), more than {ANSWER * 1e3:.0f} ms.")
    if grown > GROWTH:
        found.append(f"The page's process grew by {grown:.0f} MB, more than {GROWTH} MB.")
    print("\n".join(found) if found else "none lost, order kept, nobody starved")
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
