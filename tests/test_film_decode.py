"""A recorded run shown again by its own pipeline: to the bit what was kept, also after a restart."""

from __future__ import annotations

import collections
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pipelines
from pipelines.events import Failed, Finished, StepEvent
from pipelines.film.compare import parts_at
from pipelines.film.develop import grid
from pipelines.request import GenerationRequest
from pipelines.schedulers import OWN
from pipelines.turn import Busy, Turn
from pipelines.worker import Worker
from tests.support import tiny, tiny_families

SMALL: dict[str, Any] = {
    "prompt": "a red house",
    "width": 64,
    "height": 64,
    "num_inference_steps": 3,
    "seed": 3,
}
SAMPLERS: dict[str, dict[str, Any]] = {
    **{kind: {"scheduler": "Euler"} for kind in ("sd3", "flux", "flux2-klein")},
    **{kind: {"scheduler": "DDPM"} for kind in ("ddpm", "kandinsky22")},
    "sana-sprint": {"scheduler": OWN},
}
KINDS = ("starter", "sdxl", "sd3", "flux", "flux2-klein", "sana-sprint", "kandinsky22", "ddpm")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_families.save(tmp_path_factory.mktemp("models"), KINDS[1:])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def opened(data: Path, *models: Path) -> Worker:
    return pipelines.open(data, models=models, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def worker(data: Path, models: Path) -> Iterator[Worker]:
    with opened(data, models) as worker:
        yield worker


def run(worker: Worker, **asked: Any) -> str:
    """The id of a finished run."""
    job = worker.submit(GenerationRequest.parse({**SMALL, **asked}))
    [ending] = collections.deque(worker.follow(job), maxlen=1)
    assert isinstance(ending, Finished), ending.message if isinstance(ending, Failed) else ending
    return f"{job}-0"


def png(drawn: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(drawn).save(file, "PNG")
    return file.getvalue()


def pixels(png: bytes | Path) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png) if isinstance(png, bytes) else png).convert("RGB"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_run_decodes_to_the_very_picture_that_was_kept(
    worker: Worker, data: Path, models: Path, kind: str
) -> None:
    id = run(worker, model=kind, **SAMPLERS.get(kind, {}))
    kept = pixels(Path(worker.trajectories.get(id).picture))
    assert np.array_equal(pixels(worker.engine.call("decode", id, 0, "picture")), kept)
    last = worker.trajectories.steps(id) - 1
    seen = pixels(worker.engine.call("decode", id, last, "x0"))
    assert seen.shape == kept.shape
    assert not np.array_equal(pixels(worker.engine.call("decode", id, 0, "x_t")), seen)


def test_runs_decode_alike_after_a_restart_each_by_its_own_vae(tmp_path: Path, models: Path) -> None:
    vae = tiny.sd().vae
    with torch.no_grad():
        for weight in vae.decoder.conv_out.parameters():
            weight.mul_(-1)
    vae.save_pretrained(tmp_path / "models" / "vae" / "mirrored")
    tiny.sd().save_pretrained(tmp_path / "models" / "sd")
    folders, kept = [models, tmp_path / "models"], {}
    with opened(tmp_path / "data", *folders) as worker:
        for kind, own in [("sd", ""), ("sd", "mirrored"), *((kind, "") for kind in KINDS[:4])]:
            id = run(worker, model=kind, vae=own, **SAMPLERS.get(kind, {}))
            kept[id] = pixels(Path(worker.trajectories.get(id).picture))
    plain, mirrored, *_ = kept.values()
    assert not np.array_equal(plain, mirrored)
    with opened(tmp_path / "data", *folders) as worker:
        worker.generate("x", model="sd", width=64, height=64, num_inference_steps=1)
        for id, picture in kept.items():
            assert np.array_equal(pixels(worker.engine.call("decode", id, 0, "picture")), picture)


def test_an_inpainted_run_decodes_into_its_picture_after_a_restart(tmp_path: Path, models: Path) -> None:
    with opened(tmp_path, models) as worker:
        image = worker.store.put(png(np.random.default_rng(0).integers(0, 255, (96, 80, 3), np.uint8)))
        hole = np.zeros((96, 80, 3), np.uint8)
        hole[40:80, 30:70] = 255
        mask = worker.store.put(png(hole))
        id = run(worker, image=image.key, mask_image=mask.key, inpaint_area="only masked")
        kept = pixels(Path(worker.trajectories.get(id).picture))
    with opened(tmp_path, models) as worker:
        worker.generate("x", width=64, height=64, num_inference_steps=1)
        assert np.array_equal(pixels(worker.engine.call("decode", id, 0, "picture")), kept)
        assert pixels(worker.engine.call("decode", id, 1, "x0")).shape == (64, 64, 3)


@pytest.mark.parametrize(("kind", "step"), [("starter", 0), ("starter", 1), ("flux", 1)])
def test_painting_counts_where_it_is_and_nothing_else_changes(worker: Worker, kind: str, step: int) -> None:
    asked = {"model": kind, **SAMPLERS.get(kind, {})}
    parent = run(worker, **asked)
    plain = worker.engine.call("decode", parent, step, "x0")
    there = pixels(plain).copy()
    there[:, :16] = 255 - there[:, :16]
    keys = [worker.store.put(one).key for one in (plain, png(there))]

    def branched(painted: str) -> str:
        branch = {"trajectory": parent, "step": step, "painted": painted, "painted_on": keys[0]}
        return run(worker, **asked, branch=branch)

    assert parts_at(worker.trajectories, parent, branched(keys[0])) is None
    child = branched(keys[1])
    assert parts_at(worker.trajectories, parent, child) == step
    info = worker.trajectories.get(child)
    old, new = (
        grid(info, worker.trajectories.read_step(id, step)[0]["sample"].float()) for id in (parent, child)
    )
    edge = old.shape[-1] // 4 + 1  # a quarter was painted, and the latents beside it listen
    changed = (old != new).any(0)
    assert changed[:, : edge - 1].all() and not changed[:, edge + 1 :].any()


def test_where_a_step_begins_with_noise_alone_painting_is_refused_in_a_sentence(worker: Worker) -> None:
    asked = {"model": "flux", **SAMPLERS["flux"]}
    parent = run(worker, **asked)
    key = worker.store.put(worker.engine.call("decode", parent, 0, "x0")).key
    branch = {"trajectory": parent, "step": 0, "painted": key}
    job = worker.submit(GenerationRequest.parse({**SMALL, **asked, "branch": branch}))
    [ending] = collections.deque(worker.follow(job), maxlen=1)
    assert isinstance(ending, Failed) and "noise alone" in ending.problems["branch"]


# ------------------------------------------------------------------------------------------------- turns


def test_a_look_waits_for_the_gap_between_jobs_and_says_when_there_is_none() -> None:
    turn, held, done = Turn(patience=0.05), threading.Event(), threading.Event()

    def job() -> None:
        with turn.job():
            held.set()
            done.wait(10)

    thread = threading.Thread(target=job)
    thread.start()
    held.wait(10)
    with pytest.raises(Busy, match="being painted"), turn.look():
        pass
    turn.patience = 10
    order: list[str] = []

    def look(name: str, way: Any) -> None:
        with way():
            order.append(name)

    waiting = []
    for name, way in (("look", turn.look), ("job", turn.job)):
        waiting.append(threading.Thread(target=look, args=(name, way)))
        waiting[-1].start()
        while len(turn._waiting) < len(waiting) + 1:
            pass
    done.set()
    for one in (thread, *waiting):
        one.join(10)
    assert order == ["look", "job"]


def test_a_look_that_was_put_off_comes_in_before_the_next_job() -> None:
    turn, order = Turn(patience=0.01), []
    with turn.job(), pytest.raises(Busy), turn.look():
        pass

    def job() -> None:
        with turn.job():
            order.append("job")

    thread = threading.Thread(target=job)
    thread.start()
    turn.patience = 10
    for _ in range(2):
        with turn.look():
            order.append("look")
    thread.join(10)
    began = time.monotonic()
    with turn.job():  # nobody was put off any more
        order.append("job")
    assert order == ["look", "look", "job", "job"] and time.monotonic() - began < 0.5


def test_no_look_touches_a_pipeline_while_a_job_runs_on_it(worker: Worker) -> None:
    id = run(worker)
    kept = pixels(Path(worker.trajectories.get(id).picture))
    seen: list[np.ndarray] = []
    looks: list[threading.Thread] = []
    for event in worker.stream(GenerationRequest.parse({**SMALL, "num_inference_steps": 12, "seed": 9})):
        if isinstance(event, StepEvent) and event.step in (1, 2, 3):
            looks.append(
                threading.Thread(
                    target=lambda: seen.append(pixels(worker.engine.call("decode", id, 0, "picture")))
                )
            )
            looks[-1].start()
    for look in looks:
        look.join(30)
    assert len(seen) == 3 and all(np.array_equal(one, kept) for one in seen)
