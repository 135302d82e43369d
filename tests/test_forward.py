"""The forward process: pictures are noised by diffusers' own arithmetic, bit for bit, on every schedule."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import checks, devices, schedulers
from pipelines.film import forward
from pipelines.film.forward import Noising, Schedules
from pipelines.library.models import ModelLibrary
from pipelines.manager import PipelineManager
from pipelines.outputs import Outputs
from pipelines.pictures import PictureStore
from pipelines.request import GenerationRequest
from pipelines.run import Control

STEPS = 6


@pytest.fixture(scope="module")
def manager(tiny_controls: Path, tmp_path_factory: pytest.TempPathFactory) -> PipelineManager:
    return PipelineManager(
        ModelLibrary([tiny_controls], assets=tiny_controls / "no assets"),
        devices.choose("cpu", "float32"),
        Outputs(tmp_path_factory.mktemp("outputs")),
        PictureStore(tmp_path_factory.mktemp("data") / "inputs"),
    )


def plain(sampler: str, config: dict[str, Any], kind: str) -> Any:
    import diffusers

    row = schedulers.SAMPLERS[sampler]
    given = {name: value for name, value in config.items() if name != "_class_name"}
    settings = schedulers.settings(sampler, "Automatic", kind)  # type: ignore[arg-type]
    if row.flow_overrides and kind == "flow":
        settings["flow_shift"] = config["shift"]
    made = getattr(diffusers, str(row.class_name(kind))).from_config(given, **settings)  # type: ignore[arg-type]
    made.set_timesteps(STEPS)
    return made


@pytest.mark.parametrize("model", ["sd", "sd3"])
def test_every_schedule_noises_as_diffusers_does(manager: PipelineManager, model: str) -> None:
    import torch

    loaded = Schedules.of(manager.load(model))
    names = [name for name in checks.samplers_of(loaded.spec) if name in schedulers.SAMPLERS]
    assert len(names) > 15 or model == "sd3"
    draw = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=draw)
    for name in names:
        ours = Noising(loaded, name, "Automatic", STEPS)
        theirs = plain(name, dict(loaded.config), loaded.spec.kind)
        assert 4 <= len(ours.timesteps) <= 2 * STEPS, name
        levels = ours.levels()
        ratios = [sigma / alpha if alpha else np.inf for alpha, sigma in levels]
        assert ratios == sorted(ratios, reverse=True) and ratios[0] > 5 * ratios[-1], name  # ever less noise
        for time, (alpha, sigma) in zip(ours.timesteps, levels):
            if hasattr(theirs, "scale_noise"):
                theirs._step_index = None  # a scheduler is as fresh as it is in a run
                expected = theirs.scale_noise(clean, time.reshape(1), noise)
            else:
                expected = theirs.add_noise(clean, noise, time.reshape(1))
            seen = ours.add(clean, noise, time)
            assert torch.equal(seen, expected), name
            assert torch.allclose(seen, alpha * clean + sigma * noise, atol=1e-4 * max(1, sigma)), name


def test_all_schedules_are_told_and_agree_at_a_timestep(manager: PipelineManager) -> None:
    """What is kept at a timestep is the model's own: schedules differ in the timesteps that they walk."""
    loaded = manager.load("sd")
    lines = forward.levels(Schedules.of(loaded), checks.samplers_of(loaded.spec), STEPS)
    pairs = {(line["sampler"], line["schedule"]) for line in lines}
    offered = {(name, one) for name, row in schedulers.SAMPLERS.items() for one in row.schedules}
    assert pairs - {(schedulers.OWN, "Automatic")} == offered
    kept = loaded.pipeline.scheduler.alphas_cumprod
    for line in lines:
        assert [share for share, *_ in line["levels"]] == sorted({share for share, *_ in line["levels"]})
        if line["sampler"] in ("DDIM", "DDPM", "Euler", "PLMS") and line["schedule"] == "Automatic":
            for _, time, share, snr in line["levels"]:
                assert share == pytest.approx(float(kept[int(time)]), abs=1e-4)
                assert 10**snr == pytest.approx(share / (1 - share), rel=1e-3)


@pytest.mark.parametrize(
    ("model", "worlds"), [("sd", {"pixels", "latents"}), ("flux", {"pixels", "latents"})]
)
def test_a_picture_goes_from_itself_to_noise(manager: PipelineManager, model: str, worlds: set[str]) -> None:
    request = GenerationRequest(prompt="a", model=model, width=64, height=64, scheduler="Euler", seed=3)
    job = {"sd": "a", "flux": "b"}[model] * 16
    manager.run(request, lambda event: None, Control(), job)
    store = manager.store
    file = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), [200, 60, 60], np.uint8)).save(file, "PNG")
    key = store.put(file.getvalue()).key
    steps = manager.films.noised(f"{job}-0", key, "Euler", "Automatic", STEPS)
    own = manager.films.noised(f"{job}-0", "", "Euler", "Automatic", STEPS)
    assert own[-1]["lanes"]["pixels"] != steps[-1]["lanes"]["pixels"]
    assert len(steps) == STEPS and {*steps[0]["lanes"]} == worlds
    shown = [np.asarray(Image.open(io.BytesIO(step["lanes"]["pixels"]))).astype(float) for step in steps]
    far = [float(np.abs(one - [200, 60, 60]).mean()) for one in shown]
    assert far == sorted(far, reverse=True) and far[-1] < 60 < far[0]
    assert [step["alpha_bar"] for step in steps] == sorted(step["alpha_bar"] for step in steps)


@pytest.mark.parametrize("model", ["sdxl", "sd3", "flux"])
def test_every_sampler_of_a_model_has_its_line(manager: PipelineManager, model: str) -> None:
    loaded = Schedules.of(manager.load(model))
    offered = checks.samplers_of(loaded.spec)
    lines = forward.levels(loaded, offered, STEPS)
    assert {line["sampler"] for line in lines} == set(offered)
    for line in lines:
        kept = [share for *_, share, _ in line["levels"]]
        assert kept == sorted(kept) and kept[0] < 0.1 and kept[-1] > 0.4, line["sampler"]
