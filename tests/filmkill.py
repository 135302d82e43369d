"""Kills what writes films, at random moments: `python -m tests.filmkill --times 100`.

A process records runs, branches off them, names, trashes and deletes them, and gets a SIGKILL somewhere in
it. What is found then must be whole: every run that is listed reads to its last step as it was recorded, the
tree holds each run once, and after the sweep of a start nothing half written is left and none is running.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEPS = 6
SHAPE = (1, 4, 16, 16)
LONGEST = 0.12
"""Seconds after which a kill comes at the latest: some twenty runs are recorded in them."""


@dataclass
class Killed:
    """What was found after each kill. broken: sentences on what was not whole."""

    times: int
    seconds: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    @property
    def met(self) -> bool:
        return not self.broken and self.seen["kills"] == self.times

    def line(self) -> str:
        seen = self.seen
        told = (
            f"{seen['kills']} kills in {self.seconds:.0f} s: {seen['runs']} runs and {seen['steps']} steps "
            f"read back, {seen['cut']} runs cut short and marked, {seen['parts']} half-written files and "
            f"{seen['gone']} half-deleted folders swept away, {len(self.broken)} broken"
        )
        return "\n".join([*self.broken, f"{told}: {'met' if self.met else 'SHORT'}"])


def tensors_of(run: str, index: int) -> dict[str, Any]:
    """What step `index` of a run holds; a branch's is its own from where it branched."""
    import torch

    draw = torch.Generator().manual_seed(int(run[:15], 16) + index)
    return {name: torch.randn(SHAPE, generator=draw) for name in ("sample", "model_output", "x0")}


def write_for_ever(root: Path, seed: int, begun: Any) -> None:
    """Records, branches, names, trashes and deletes until it is killed."""
    from pipelines.film.recording import Recording, take_over
    from pipelines.film.trajectory import TrajectoryStore, new_run
    from pipelines.recorder import Step

    choose, store = random.Random(seed), TrajectoryStore(root)
    kept: list[str] = []
    while True:
        parent = choose.choice(kept) if kept and choose.random() < 0.6 else None
        taken = choose.randrange(1, STEPS) if parent else 0
        known = {"parent": parent, "parent_step": taken, "total": STEPS}
        run = new_run(f"{choose.getrandbits(64):016x}", 0, request={"prompt": "killed"}, **known)
        if parent:
            take_over(store, parent, run.id, taken)
        film = Recording(store, run, taken)
        begun.set()
        for index in range(taken, STEPS):
            held = tensors_of(run.id, index)
            sample, output, x0 = held.values()
            film.step(Step(index, 1.0, 1.0, 0.7, 0.7, sample, output, x0, sample), (output, output))
        film.latents(held["x0"])
        film.close("finished")
        store.change(run.id, picture="somewhere.png")
        kept.append(run.id)
        if choose.random() < 0.3:
            store.rename(choose.choice(kept), "a name")
        if choose.random() < 0.2:
            store.trash(kept.pop(choose.randrange(len(kept))))
            store.empty_trash()


def look(root: Path, found: Killed) -> None:
    """Holds what a kill left against what must be there, before and after the sweep of a start."""
    from pipelines.film.trajectory import TrajectoryStore
    from pipelines.film.tree import trees

    store = TrajectoryStore(root)
    listed = store.list()
    folders = {path.name for path in root.iterdir() if not path.name.startswith(".")}
    nameless = folders - {run.id for run in listed}  # killed between its folder and its description
    for run in listed:
        _whole(store, run, found)
    found.seen["parts"] += len(list(root.rglob(".*.part")))
    found.seen["gone"] += len(list(root.glob(".*.gone")))
    store.clear()
    store.settle(())
    left = [path for path in root.rglob(".*") if path.name.endswith((".part", ".gone"))]
    found.broken += [f"left over: {path.name}" for path in left]
    after = TrajectoryStore(root).list()
    found.broken += [f"still running: {run.id}" for run in after if not run.ended]
    if {run.id for run in after} != {run.id for run in listed}:
        found.broken.append("the sweep lost or made runs")
    nodes = [node.id for tree in trees(after) for node, _ in tree.walk() if node.run is not None]
    if sorted(nodes) != sorted(run.id for run in after):
        found.broken.append("the tree does not hold each run once")
    found.broken += [f"a folder without a run: {name}" for name in nameless if (root / name).exists()]


def _whole(store: Any, run: Any, found: Killed) -> None:
    import torch

    count = store.steps(run.id)
    found.seen["runs"] += 1
    found.seen["cut"] += run.state == "running"
    if run.ended and count != STEPS:
        found.broken.append(f"{run.id} is {run.state} with {count} steps")
    for index in range(count):
        tensors, facts = store.read_step(run.id, index)
        found.seen["steps"] += 1
        if facts["alpha"] != 0.7 or not torch.isfinite(tensors["sample"]).all():
            found.broken.append(f"step {index} of {run.id} is not what was recorded")
        elif index >= run.parent_step and not torch.equal(
            tensors["sample"], tensors_of(run.id, index)["sample"]
        ):
            found.broken.append(f"step {index} of {run.id} holds something else")
    if run.ended:
        store.read_latents(run.id)
    json.dumps(run.request)


def kill(times: int, seed: int = 0) -> Killed:
    """So many kills at random moments, each in a folder of its own."""
    import torch

    import pipelines.film.recording  # noqa: F401 (imported before the processes are forked)

    torch.set_num_threads(1)
    forked, choose, found = multiprocessing.get_context("fork"), random.Random(seed), Killed(times)
    began = time.perf_counter()
    for number in range(times):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            begun = forked.Event()
            writer = forked.Process(target=write_for_ever, args=(root, seed + number, begun), daemon=True)
            writer.start()
            if not begun.wait(60):
                raise TimeoutError("the writer did not begin within a minute")
            writer.join(choose.uniform(0, LONGEST))
            writer.kill()
            writer.join()
            found.seen["kills"] += writer.exitcode == -9
            try:
                look(root, found)
            except LookupError as problem:
                found.broken.append(f"kill {number}: {problem}")
    found.seconds = time.perf_counter() - began
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.filmkill", description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = kill(options.times, options.seed)
    print(found.line())
    return 0 if found.met else 1


if __name__ == "__main__":
    sys.exit(main())
