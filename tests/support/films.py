"""Films for the page, drawn here: the shape of the engine's answers without an engine."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
from fastapi import FastAPI
from PIL import Image

from pipelines.film.trajectory import RunInfo, TrajectoryStore, UnknownTrajectory, new_run
from pipelines.request import GenerationRequest
from tests.support.bench import framed, with_page
from ui import explore
from ui.components.explore import explorer
from ui.components.tabs import tab_bar
from ui.tabs import TABS

SIDE = 64


def jpeg(pixels: np.ndarray) -> bytes:
    """Pixels in 0..1, with or without colours, as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def film(steps: int, *, still_from: int | None = None, guided: bool = True) -> dict[str, Any]:
    """The answer to "film" of a run of so many steps; every frame tells its step by its grey value."""
    noise = np.random.default_rng(0).random((SIDE, SIDE, 3))
    told = []
    for index in range(steps):
        share = (index + 1) / steps
        clean = np.full((SIDE, SIDE, 3), share)
        lanes = {
            "x_t": jpeg(clean * share + noise * (1 - share)),
            "x0": jpeg(clean),
            "noise": jpeg(noise),
            "change": jpeg(np.full((SIDE, SIDE, 3), 1 - share)),
        }
        if guided:
            lanes["guidance"] = jpeg(np.full((SIDE, SIDE, 3), [1 - share, 0.4, 0]))
        told.append(
            {
                "index": index,
                "timestep": 999.0 * (1 - index / steps),
                "sigma": 14.6 * (1 - index / steps) ** 3,
                "guidance_norm": 3.0 * (1 - share) + 1 if guided else None,
                "change": None if index == 0 else 0.4 * (1 - index / steps) ** 2,
                "lanes": lanes,
                "channels": jpeg(np.full((SIDE, SIDE), share)),
            }
        )
    return {"run": {}, "steps": told, "still_from": still_from}


class Films:
    """What the Explore tab needs of a worker: recorded runs, and an engine that draws their films."""

    def __init__(self, data: Path):
        self.trajectories = TrajectoryStore(data / "trajectories")
        self.store = SimpleNamespace(root=data / "inputs")
        self.engine = self
        self.keeps_films = True
        self.films: dict[str, dict[str, Any]] = {}
        self.decoded: list[tuple[str, int, str]] = []
        self.data = data
        self.asked: list[GenerationRequest] = []

    def add(self, job: str, steps: int, prompt: str, **about: Any) -> str:
        """A recorded run of so many steps: its id."""
        kept = {name: about.pop(name) for name in ("still_from", "guided") if name in about}
        run = new_run(job, 0, request={"prompt": prompt}, model_title="Storybook", total=steps)
        run = replace(run, **{"state": "finished", "picture": str(self._picture(job)), **about})
        self.trajectories.write(run)
        self.films[run.id] = film(steps, **kept)
        return run.id

    def info(self, id: str) -> RunInfo:
        """What is recorded of a run."""
        return self.trajectories.get(id)

    def call(self, name: str, id: str, *rest: Any) -> Any:
        """The engine's answers."""
        if id not in self.films:
            raise UnknownTrajectory(
                "The recorded run is not there any more: it was deleted, or never recorded."
            )
        if name == "film":
            return self.films[id]
        step, what = rest
        self.decoded.append((id, step, what))
        return jpeg(np.full((256, 256, 3), [0.2, 0.5, 0.9]))

    def submit(self, request: GenerationRequest, client: str = "") -> str:
        """Takes a request; its run has begun at once."""
        self.asked.append(request)
        job = f"{len(self.asked):016x}"
        self.add(job, 6, request.prompt)
        return job

    def models(self) -> list[Any]:
        """No model: nothing is painted here."""
        return []

    def _picture(self, job: str) -> Path:
        folder = self.data / "outputs"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (256, 256), f"#{job[:6]}").save(folder / f"{job}.png")
        return folder / f"{job}.png"


def bench_app(worker: Any) -> FastAPI:
    """A page with the Explore tab alone. worker: films, or a worker that has some."""
    with gr.Blocks(fill_width=True) as blocks:
        tab_bar([tab for tab in TABS if tab.key == "explore"]).render()
        with (
            gr.Row(elem_id="bench"),
            gr.Column(elem_id="work"),
            gr.Column(elem_classes=["pane", "in-explore"]),
        ):
            explorer(explore.asks(worker), "explore", explore.URL)
    app = framed()
    explore.add_routes(app, worker)
    return with_page(app, blocks)


PROMPT = "a red house at night, snow"
PARTED = 8


class Pairs(Films):
    """Films that can be compared: those that differ in their ids part at one step."""

    def call(self, name: str, id: str, *rest: Any) -> Any:
        if name != "compare":
            return super().call(name, id, *rest)
        frames, other = self.films[id]["steps"], rest[0]
        steps = []
        for index, frame in enumerate(frames):
            same = index < PARTED or id == other
            step = {"index": index, "first": frame["lanes"]["x0"], "same": same}
            step |= {"second": None if same else jpeg(np.ones((8, 8, 3))), "psnr": None if same else 20.0}
            step |= {"map": None if same else jpeg(np.ones((8, 8, 3))), "difference": 0.0 if same else 0.25}
            steps.append(step)
        same = id == other
        picture = {"same": same, "share": 0.0 if same else 0.43, "psnr": None if same else 17.0}
        whole = {"parts": None if same else PARTED, "common": len(steps), "steps": steps}
        return {**whole, "picture": {**picture, "map": jpeg(np.zeros((8, 8, 3)))}}


def related(made: Films) -> None:
    """Adds three runs of 20 steps: "a"*16, and two that branched off it, by another word ("b") and by another
    guidance ("c")."""
    request = {"prompt": PROMPT, "seed": 7, "loras": [{"name": "storybook-ink", "weight": 0.8}]}
    first = made.add("a" * 16, 20, PROMPT, request=request, created=1.0)
    by_day = {**request, "prompt": PROMPT.replace("night", "noon")}
    made.add("b" * 16, 20, PROMPT, request=by_day, parent=first, parent_step=8, created=2.0)
    made.add(
        "c" * 16,
        20,
        PROMPT,
        request={**request, "guidance_scale": 9},
        parent=first,
        parent_step=4,
        created=3.0,
    )
