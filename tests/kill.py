"""Kills the program at random moments while it paints: `python -m tests.kill --times 200`.

The worker and its engine are two processes over one data folder, as in the program. Each start accepts some
jobs of all kinds and is killed with everything that belongs to it (SIGKILL) while it starts, loads, paints or
writes. In the end every job that was ever accepted must have become the picture of an undisturbed run, byte
for byte and once, the journal must be whole, and nothing half written may be left.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parent.parent
JOBS_A_START = 2
LONGEST = 120.0
"""Seconds that a start may take to its first step on a busy machine."""


@dataclass
class Killed:
    """times: starts that were killed; painting: those of them that were killed after a step was seen.
    accepted: jobs. lost: those that did not end in their picture, each with what became of it. wrong:
    pictures that were not those of the undisturbed run. extra: pictures too many. left: files half written.
    """

    times: int = 0
    painting: int = 0
    accepted: int = 0
    pictures: int = 0
    seconds: float = 0.0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    extra: int = 0
    left: list[str] = field(default_factory=list)
    journal: str = ""

    @property
    def met(self) -> bool:
        return not (self.lost or self.wrong or self.extra or self.left) and self.journal == "ok"

    def line(self) -> str:
        return (
            f"killed {self.times} times in {self.seconds:.0f} s, {self.painting} of them while painting: "
            f"{self.accepted} jobs accepted, {self.pictures} pictures, {len(self.lost)} lost "
            f"{self.lost[:3]}, {len(self.wrong)} wrong {self.wrong[:3]}, {self.extra} too many, "
            f"{len(self.left)} files half written {self.left[:3]}, journal {self.journal}: "
            f"{'met' if self.met else 'SHORT'}"
        )


# ----------------------------------------------------------------------------------------- the program


def program(data: Path, orders: list[dict[str, Any]], drain: bool) -> None:
    """What is killed: accepts the orders, tells which, and paints; with `drain` until nothing waits."""
    import pipelines
    from pipelines.events import StepEvent
    from pipelines.request import GenerationRequest

    def tell(*words: object) -> None:
        print(*words, flush=True)

    with pipelines.open(data, device="cpu", dtype="float32", process=True) as worker:
        for order in orders:
            job = worker.submit(GenerationRequest.parse(order["request"]))
            tell("accepted", job, order["kind"])
        while running := worker.running():
            for event in worker.follow(running[0]):
                if isinstance(event, StepEvent):
                    tell("step")
        if not drain:
            tell("idle")
            threading.Event().wait()


@dataclass
class Start:
    """One start of the program, in a process group of its own."""

    data: Path
    orders: list[dict[str, Any]]
    drain: bool = False
    accepted: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stepped = threading.Event()
        command = [sys.executable, "-m", "tests.kill", "--program", str(self.data)]
        words = [*command, *(["--drain"] if self.drain else [])]
        self.process = subprocess.Popen(
            words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(self.orders))
        self.process.stdin.close()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            match line.split():
                case ["accepted", job, kind]:
                    self.accepted[job] = kind
                case ["step"] | ["idle"]:
                    self.stepped.set()

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join()

    def ended(self) -> int:
        code = self.process.wait()
        self.reader.join()
        return code


# ------------------------------------------------------------------------------------------ the orders


def orders(data: Path, parent: str) -> list[dict[str, Any]]:
    """A job of each kind on the embedded model."""
    import numpy as np
    from PIL import Image

    from pipelines.pictures import PictureStore

    store = PictureStore(data / "inputs")
    Image.linear_gradient("L").convert("RGB").resize((128, 128)).save(data / "image.png")
    mask = np.zeros((128, 128), np.uint8)
    mask[30:90, 30:90] = 255
    Image.fromarray(mask).save(data / "mask.png")
    image, masked = (store.put(data / f"{name}.png").key for name in ("image", "mask"))
    common = {"prompt": "a red house in the snow at night", "width": 128, "height": 128, "seed": 5}
    kinds: dict[str, dict[str, Any]] = {
        "text": {"num_inference_steps": 20},
        "sde": {"num_inference_steps": 16, "scheduler": "DPM++ 2M SDE"},
        "heun": {"num_inference_steps": 9, "scheduler": "Heun"},
        "large": {"num_inference_steps": 10, "width": 256, "height": 256},
        "batch": {"num_inference_steps": 6, "num_images_per_prompt": 3},
        "image": {"num_inference_steps": 20, "image": image, "strength": 0.8},
        "inpaint": {"num_inference_steps": 14, "image": image, "mask_image": masked, "strength": 1.0},
        "variation": {"num_inference_steps": 12, "subseed": 9, "subseed_strength": 0.3},
    }
    if parent:
        kinds["branch"] = {
            "num_inference_steps": 20,
            "prompt": "a blue house in the snow at night",
            "branch": {"trajectory": parent, "step": 6, "noise_seed": 4},
        }
    return [{"kind": kind, "request": {**common, **values}} for kind, values in kinds.items()]


def pictures(data: Path) -> dict[str, list[str]]:
    """The hash of each picture of each job, in order."""
    found: dict[str, list[str]] = {}
    for job, path in _rows(data, "SELECT job, path FROM pictures ORDER BY job, picture"):
        file = Path(path)
        found.setdefault(job, []).append(
            hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else f"{file.name} is not there"
        )
    return found


def _rows(data: Path, sql: str) -> list[Any]:
    with sqlite3.connect(data / "journal.sqlite") as database:
        return database.execute(sql).fetchall()


def run(data: Path, times: int, seed: int, told: Any = print, minutes: float = 1e6) -> Killed:
    """Kills `times` starts over `data`, an empty folder, or as many as there are in so many minutes, and
    looks at what came of it."""
    chance, result, began = random.Random(seed), Killed(), time.monotonic()
    # Undisturbed, in the same folder: branches leave from a run of these.
    first = Start(data, orders(data, "")[:1], drain=True)
    assert first.ended() == 0
    [(parent, _)] = first.accepted.items()
    kinds = orders(data, f"{parent}-0")
    calmly = Start(data, kinds, drain=True)
    assert calmly.ended() == 0
    painted = pictures(data)
    calm = {kind: painted[job] for job, kind in calmly.accepted.items()}
    told(f"undisturbed: {len(calm)} kinds, {sum(map(len, calm.values()))} pictures")
    accepted: dict[str, str] = {}
    for number in range(times):
        if time.monotonic() - began > 60 * minutes:
            break
        start = Start(data, [chance.choice(kinds) for _ in range(JOBS_A_START)])
        if chance.random() < 0.2:
            start.stepped.wait(chance.uniform(0, 6))  # while it starts
        else:
            assert start.stepped.wait(LONGEST), "no step within two minutes"
            threading.Event().wait(chance.uniform(0, 1.2))
        result.painting += start.stepped.is_set()
        start.kill()
        accepted |= start.accepted
        result.times += 1
        if (number + 1) % 10 == 0:
            told(f"{number + 1} kills, {len(accepted)} jobs accepted, {time.monotonic() - began:.0f} s")
    last = Start(data, [], drain=True)
    assert last.ended() == 0, "the last start did not end well"
    painted = pictures(data)
    states = dict(_rows(data, "SELECT id, state FROM jobs"))
    for job, kind in accepted.items():
        if states.get(job) != "finished":
            result.lost.append(f"{kind} {job}: {states.get(job, 'not in the journal')}")
        elif painted.get(job) != calm[kind]:
            result.wrong.append(f"{kind} {job}")
    result.accepted, result.pictures = len(accepted), sum(map(len, painted.values()))
    files = list((data / "outputs").glob("*/*/*"))
    # Jobs whose acceptance could not be told any more are painted too: all that the journal knows count.
    result.extra = len(files) - result.pictures
    result.left = [
        str(file.relative_to(data))
        for pattern in ("*.part", "*.partial", "*.gone", "picture.png")
        for file in data.rglob(pattern)
    ]
    [(result.journal,)] = _rows(data, "PRAGMA integrity_check")
    result.seconds = time.monotonic() - began
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="how many starts are killed (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the jobs (default: 0)")
    parser.add_argument("--minutes", type=float, default=1e6, help="to stop at the latest after")
    parser.add_argument("--program", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--drain", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.program is not None:
        program(asked.program, json.loads(sys.stdin.read()), asked.drain)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        result = run(
            Path(folder), asked.times, asked.seed, lambda line: print(line, flush=True), asked.minutes
        )
    print(result.line())
    return 0 if result.met else 1


if __name__ == "__main__":
    raise SystemExit(main())
