"""A branch with nothing changed is the run it left, bit for bit: every sampler, task and helper, at any step.

What is changed counts from the step of the branch on, and from no step before.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import devices, schedulers
from pipelines.film.compare import parts_at
from pipelines.film.trajectory import TrajectoryStore
from pipelines.library.models import ModelLibrary
from pipelines.manager import PipelineManager
from pipelines.outputs import Outputs
from pipelines.pictures import PictureStore
from pipelines.run import Control
from tests.support import loras, tiny
from tests.support.led import picture
from tests.test_manager_pictures import wide_sd3
from tests.test_refining import sd_other, xl_refiner

STEPS = 5


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def mask(left: int, right: int, value: int = 255) -> Image.Image:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[16:48, left:right] = value
    pixels[16:48, right - 4 : right] //= 2
    return Image.fromarray(pixels)


@dataclass
class Bench:
    """A manager whose runs are recorded, and the pictures that its requests name."""

    manager: PipelineManager
    shown: Mapping[str, str]
    count: int = 0
    pictures: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def films(self) -> TrajectoryStore:
        return self.manager.films.store

    def run(self, **asked: Any) -> str:
        """The id of a recorded run; names of `shown` stand for its pictures."""
        self.count += 1
        job = f"{self.count:016x}"
        given = {"num_inference_steps": STEPS, **asked}
        for name in ("image", "mask_image"):
            if name in given:
                given[name] = self.shown[given[name]]
        finished = self.manager.run(tiny.request(**given).resolved(), lambda event: None, Control(), job=job)
        self.pictures[f"{job}-0"] = np.asarray(Image.open(finished.pictures[0].path))
        return f"{job}-0"

    def branch(self, parent: str, step: int, **asked: Any) -> str:
        return self.run(**asked, branch={"trajectory": parent, "step": step})

    def held(self, parent: str, child: str) -> None:
        """Asserts that the two are one run: every step, the finished latents, and the picture."""
        assert self.films.steps(parent) == self.films.steps(child) > 0
        assert parts_at(self.films, parent, child) is None
        assert torch.equal(*(self.films.read_latents(id) for id in (parent, child)))
        assert np.array_equal(self.pictures[parent], self.pictures[child])

    def unit(self, **changes: Any) -> dict[str, Any]:
        return {"model": "sd-canny", "map_image": self.shown["map"], **changes}


@pytest.fixture(scope="module")
def bench(tiny_controls: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    more, data = tmp_path_factory.mktemp("more"), tmp_path_factory.mktemp("data")
    xl_refiner().save_pretrained(more / "xl-refiner")
    sd_other().save_pretrained(more / "sd-other")
    wide_sd3().save_pretrained(more / "sd3-16")
    halves = loras.halves(loras.components(tiny.sd()))
    loras.save(loras.as_peft(halves), more / "loras/ink.safetensors")
    store = PictureStore(data / "in")
    shown = {
        "photo": picture(9),
        "map": picture(3),
        "other map": picture(4),
        "mask": mask(16, 48),
        "wider": mask(4, 60),
    }
    plan = devices.choose("cpu", "float32")
    manager = PipelineManager(ModelLibrary([tiny_controls, more]), plan, Outputs(data / "out"), store)
    return Bench(manager, {name: store.put(png(one)).key for name, one in shown.items()})


INPAINT = {"image": "photo", "mask_image": "mask"}
CASES: dict[str, dict[str, Any]] = {
    "text": {"negative_prompt": "fog"},
    "without guidance": {"guidance_scale": 1},
    "image": {"image": "photo", "strength": 0.8},
    "inpaint": {**INPAINT, "strength": 1},
    "inpaint from latent noise": {**INPAINT, "masked_content": "latent noise", "strength": 0.8},
    "inpaint softly": {**INPAINT, "soft_inpainting": True, "strength": 0.8},
    "inpaint the area alone": {**INPAINT, "inpaint_area": "only masked", "mask_padding": 8},
    "inpaint beyond the border": {"image": "photo", "extend_right": 32},
    "inpaint by a model made for it": {**INPAINT, "model": "sd-inpaint", "strength": 1},
    "variation": {"subseed": 4, "subseed_strength": 0.3},
    "control": {"units": [{}, {"model": "sd-pose", "control_guidance_start": 0.4}]},
    "control softly": {**INPAINT, "units": [{"controlnet_conditioning_scale": 0.6}], "soft_inpainting": True},
    "lora": {"loras": [{"name": "ink", "weight": 0.7, "start": 0.3, "end": 0.8}]},
    "lora on a curve": {"loras": [{"name": "ink", "weight": 0.7, "points": [[0, 0], [0.5, 1], [1, 0.2]]}]},
    "refiner": {"refiner": "sd-other", "refiner_switch_at": 0.5},
    "SDXL": {"model": "sdxl"},
    "SDXL image": {"model": "sdxl", "image": "photo", "strength": 0.8},
    "SDXL inpaint softly": {**INPAINT, "model": "sdxl", "soft_inpainting": True},
    "SDXL refiner": {"model": "sdxl", "refiner": "xl-refiner", "refiner_switch_at": 0.6},
    "SD3": {"model": "sd3"},
    "SD3 image": {"model": "sd3", "image": "photo", "strength": 0.8},
    "SD3 inpaint": {**INPAINT, "model": "sd3-16", "strength": 0.8},
    "Flux": {"model": "flux"},
    "Flux image": {"model": "flux", "image": "photo", "strength": 0.8},
    "Flux inpaint": {**INPAINT, "model": "flux", "strength": 0.8},
    "Flux control": {"model": "flux", "units": [{"model": "flux-canny"}]},
}
FLOWING = ("SD3", "Flux")


def asked(bench: Bench, name: str) -> dict[str, Any]:
    given = dict(CASES[name])
    units = given.pop("units", ())
    return {**given, "controls": [bench.unit(**unit) for unit in units]} if units else given


@pytest.mark.parametrize("name", CASES)
def test_a_branch_with_nothing_changed_is_the_run_itself(bench: Bench, name: str) -> None:
    """By a multistep sampler or one that draws noise at every step, in turns; every sampler comes below."""
    taken = ("DPM++ 2M", "Euler a")[list(CASES).index(name) % 2]
    given = {**asked(bench, name), "scheduler": "Euler" if name.startswith(FLOWING) else taken}
    parent = bench.run(**given)
    for step in sorted({1, bench.films.steps(parent) - 1}):
        bench.held(parent, bench.branch(parent, step, **given))


@pytest.mark.parametrize("sampler", schedulers.names("diffusion"))
def test_every_sampler_goes_on_as_it_would_have(bench: Bench, sampler: str) -> None:
    parent = bench.run(scheduler=sampler)
    middle = bench.films.steps(parent) // 2 + 1
    bench.held(parent, bench.branch(parent, middle, scheduler=sampler))


FLOW = [(model, name) for model in ("sd3", "flux") for name in schedulers.names("flow")]


# diffusers' Heun cannot follow Flux's schedule, which is told before a run.
@pytest.mark.parametrize(("model", "sampler"), [pair for pair in FLOW if pair != ("flux", "Heun")])
def test_every_sampler_of_flow_models_goes_on_as_it_would_have(
    bench: Bench, model: str, sampler: str
) -> None:
    parent = bench.run(model=model, scheduler=sampler)
    bench.held(parent, bench.branch(parent, 2, model=model, scheduler=sampler))


def test_a_branch_of_a_branch_is_exact_too(bench: Bench) -> None:
    parent = bench.run(scheduler="DPM++ 2M")
    child = bench.branch(parent, 2, scheduler="DPM++ 2M", prompt="a boat")
    bench.held(child, bench.branch(child, 2, scheduler="DPM++ 2M", prompt="a boat"))
    bench.held(child, bench.branch(child, 4, scheduler="DPM++ 2M", prompt="a boat"))


# ------------------------------------------------------------------------------------ what is changed


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("model", "first"), [("sd", 3), ("sd-inpaint", 2)])
def test_another_mask_counts_from_its_step_on(
    bench: Bench, sampler: str, soft: bool, model: str, first: int
) -> None:
    """A model made for inpainting sees the mask in the step itself, others are held to it after the step."""
    given = {"model": model, "scheduler": sampler, "image": "photo", "strength": 1, "soft_inpainting": soft}
    parent = bench.run(**given, mask_image="mask")
    child = bench.branch(parent, 2, **given, mask_image="wider")
    assert parts_at(bench.films, parent, child) == first
    photo = np.asarray(picture(9))
    outside = np.asarray(mask(4, 60)) == 0
    # The blur of the mask's edge reaches four pixels and their tail beyond it.
    far = np.ones_like(outside)
    far[4:60, :] = False
    assert np.array_equal(bench.pictures[child][outside & far], photo[outside & far])
    seam = ~outside & (np.asarray(mask(16, 48)) == 0)
    assert not np.array_equal(bench.pictures[parent][seam], bench.pictures[child][seam])


CHANGED: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "weaker": ([{}], [{"controlnet_conditioning_scale": 0.4}]),
    "off": ([{}], []),
    "on": ([], [{}]),
    "another map": ([{}], [{"map_image": "other map"}]),
    "a second one": ([{}], [{}, {"model": "sd-pose"}]),
}


@pytest.mark.parametrize("name", CHANGED)
def test_changed_control_units_count_from_their_step_on(bench: Bench, name: str) -> None:
    before, after = (
        [
            bench.unit(
                **{
                    key: bench.shown.get(value, value) if key == "map_image" else value
                    for key, value in unit.items()
                }
            )
            for unit in units
        ]
        for units in CHANGED[name]
    )
    parent = bench.run(scheduler="Euler a", controls=before)
    child = bench.branch(parent, 2, scheduler="Euler a", controls=after)
    assert parts_at(bench.films, parent, child) == 2
    bench.held(child, bench.branch(child, 3, scheduler="Euler a", controls=after))
