"""Guidance and control weights that follow a curve: one that is level is the plain run, bit for bit, and what
a curve says counts at the steps at which it says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import checks, devices, families, schedulers
from pipelines.curves import Following, value_at
from pipelines.library.models import ModelLibrary
from pipelines.manager import PipelineManager
from pipelines.metadata import parse, write
from pipelines.outputs import Outputs
from pipelines.pictures import PictureStore
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.run import Control
from tests.support import tiny as tiny_models
from tests.support.led import picture

LEVEL = [[0.0, 4.0], [0.97, 4.0], [1.0, 9.0]]
"""4 at every step that there is; the peak lies where no step begins."""
FADING = [[0.0, 4.0], [1.0, 1.0]]


@pytest.fixture(scope="module")
def storybook(tmp_path_factory: pytest.TempPathFactory) -> PipelineManager:
    return _manager(ModelLibrary([]), tmp_path_factory)


@pytest.fixture(scope="module")
def tiny(tiny_controls: Path, tmp_path_factory: pytest.TempPathFactory) -> PipelineManager:
    guided = tmp_path_factory.mktemp("guided")
    tiny_models.flux(guided=True).save_pretrained(guided / "flux-guided", safe_serialization=True)
    library = ModelLibrary([tiny_controls, guided], assets=tiny_controls / "no assets")
    return _manager(library, tmp_path_factory)


def _manager(library: ModelLibrary, folders: pytest.TempPathFactory) -> PipelineManager:
    return PipelineManager(
        library,
        devices.choose("cpu", "float32"),
        Outputs(folders.mktemp("outputs")),
        PictureStore(folders.mktemp("data") / "inputs"),
    )


def painted(manager: PipelineManager, **fields: Any) -> np.ndarray:
    usual = {"prompt": "a red house", "seed": 5, "width": 64, "height": 64, "num_inference_steps": 3}
    request = GenerationRequest.parse({**usual, **fields})
    finished = manager.run(request, lambda event: None, Control())
    return np.asarray(Image.open(finished.pictures[0].path))


def test_a_line_is_what_its_points_say() -> None:
    line = [(0.25, 2.0), (0.75, 4.0)]
    assert [value_at(line, share) for share in (0, 0.25, 0.5, 0.75, 1)] == [2, 2, 3, 4, 4]
    assert value_at([], 0.5) == 1 and value_at([(0.5, 3.0)], 0.1) == value_at([(0.5, 3.0)], 0.9) == 3


def test_a_guidance_that_follows_is_compared_by_its_peak() -> None:
    scale = Following(9.0)
    scale.now = 1.0
    assert scale > 1 and scale * 3 == 3 and scale + 1 == 2


@pytest.mark.parametrize("sampler", schedulers.names("diffusion"))
def test_a_level_curve_is_the_plain_run_for_every_sampler(storybook: PipelineManager, sampler: str) -> None:
    plain = painted(storybook, scheduler=sampler, guidance_scale=4)
    assert np.array_equal(plain, painted(storybook, scheduler=sampler, guidance_points=LEVEL))
    assert not np.array_equal(plain, painted(storybook, scheduler=sampler, guidance_points=FADING))


@pytest.mark.parametrize(
    ("model", "sampler"),
    [
        ("sdxl", "Euler a"),
        ("sdxl", "DPM++ 2M"),
        ("sdxl", "Heun"),
        ("sd3", "Euler"),
        ("sd3", "Heun"),
        ("flux-guided", "Euler"),
        ("flux-guided", "DPM++ 2M"),
    ],
)
def test_a_level_curve_is_the_plain_run_for_every_family(
    tiny: PipelineManager, model: str, sampler: str
) -> None:
    plain = painted(tiny, model=model, scheduler=sampler, guidance_scale=4)
    assert np.array_equal(plain, painted(tiny, model=model, scheduler=sampler, guidance_points=LEVEL))
    assert not np.array_equal(plain, painted(tiny, model=model, scheduler=sampler, guidance_points=FADING))


def test_a_curve_of_one_is_guidance_off(storybook: PipelineManager) -> None:
    level = painted(storybook, guidance_points=[[0.3, 1]])
    assert np.array_equal(painted(storybook, guidance_scale=1), level)


def test_each_step_is_guided_as_strongly_as_the_curve_says(storybook: PipelineManager) -> None:
    """The scale of each step, worked out from what the denoiser said and what went on."""
    request = GenerationRequest.parse(
        {
            "prompt": "a red house in the snow",
            "seed": 3,
            "num_inference_steps": 6,
            "guidance_points": [[0, 8], [0.5, 2], [1, 1]],
        }
    )
    storybook.run(request, lambda event: None, Control(), "a" * 16)
    store = storybook.films.store
    found = []
    for index in range(6):
        tensors, _ = store.read_step(f"{'a' * 16}-0", index)
        pull = (tensors["conditional"] - tensors["unconditional"]).flatten()
        went = (tensors["model_output"] - tensors["unconditional"]).flatten()
        found.append(float(went @ pull / (pull @ pull)))
    expected = [value_at(request.guidance_points, index / 6) for index in range(6)]
    assert np.allclose(found, expected, atol=1e-3)


def test_a_branch_with_another_curve_is_the_run_that_had_it_from_the_start(
    storybook: PipelineManager,
) -> None:
    usual = {"prompt": "a red house", "seed": 5, "width": 64, "height": 64, "num_inference_steps": 4}
    parent = GenerationRequest.parse({**usual, "guidance_scale": 4})
    storybook.run(parent, lambda event: None, Control(), "b" * 16)
    changed = {"guidance_scale": 4, "guidance_points": [[0.25, 4], [0.5, 9], [1, 2]]}
    branch = {"trajectory": f"{'b' * 16}-0", "step": 2}
    branched = painted(storybook, **usual, **changed, branch=branch)
    assert np.array_equal(branched, painted(storybook, **usual, **changed))
    assert not np.array_equal(branched, painted(storybook, **usual, guidance_scale=4))


@pytest.mark.parametrize(
    ("model", "network"),
    [
        ("sd", "sd-canny"),
        ("sdxl", "sdxl-canny"),
        ("sdxl", "sdxl-union"),
        ("sd3", "sd3-canny"),
        ("flux", "flux-canny"),
        ("sd-adapted", "sd-adapter"),
    ],
)
@pytest.mark.parametrize("count", [1, 2])
def test_a_units_level_curve_is_its_weight(
    tiny: PipelineManager, model: str, network: str, count: int
) -> None:
    key = tiny.store.put(_png()).key

    def led(*units: tuple[float, Any]) -> np.ndarray:
        one = {"model": network, "preprocessor": "canny", "image": key}
        controls = [
            {**one, "controlnet_conditioning_scale": weight, "points": line} for weight, line in units
        ]
        sampler = "Euler" if model in ("sd3", "flux") else "DPM++ 2M"
        return painted(tiny, model=model, scheduler=sampler, guidance_scale=4, controls=controls)

    rest: list[tuple[float, Any]] = [(0.5, ())] * (count - 1)
    half = led(*rest, (0.5, ()))
    assert np.array_equal(half, led(*rest, (1.0, [[0.2, 0.5], [0.97, 0.5], [1, 2]])))
    assert not np.array_equal(half, led(*rest, (0.5, [[0, 2], [1, 0]])))
    assert np.array_equal(led(*rest, (0.0, ())), led(*rest, (0.5, [[0, 0], [1, 0]])))


def _png() -> bytes:
    import io

    buffer = io.BytesIO()
    picture(4).save(buffer, "PNG")
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------------- eta


@pytest.mark.parametrize(
    ("model", "sampler"),
    [("sd", "DDIM"), ("sd", "TCD"), ("sd", schedulers.OWN), ("sdxl", "DDIM"), ("sdxl", "TCD")],
)
def test_eta_is_diffusers_eta(tiny: PipelineManager, tiny_controls: Path, model: str, sampler: str) -> None:
    import diffusers
    import torch

    from tests.support.plain import as_ours

    pipe = as_ours(diffusers.DiffusionPipeline.from_pretrained(tiny_controls / model))
    pipe.set_progress_bar_config(disable=True)
    cls = {"DDIM": "DDIMScheduler", "TCD": "TCDScheduler"}.get(sampler, "DDIMScheduler")
    pipe.scheduler = getattr(diffusers, cls).from_config(pipe.scheduler.config)
    expected = pipe(
        "a red house",
        width=64,
        height=64,
        num_inference_steps=3,
        guidance_scale=4.0,
        eta=0.7,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    given = {"model": model, "scheduler": sampler, "guidance_scale": 4}
    assert np.array_equal(np.asarray(expected), painted(tiny, eta=0.7, **given))
    assert not np.array_equal(painted(tiny, **given), painted(tiny, eta=0.7, **given))


def test_eta_is_refused_where_no_step_takes_it(tiny: PipelineManager) -> None:
    with pytest.raises(InvalidRequest, match=r"Euler a takes no eta.*choose DDIM or TCD"):
        painted(tiny, model="sd", scheduler="Euler a", eta=0.5)
    with pytest.raises(InvalidRequest, match="Model's own takes no eta"):
        painted(tiny, model="sdxl", scheduler=schedulers.OWN, eta=0.5)


def test_families_that_take_eta_have_pipelines_that_do() -> None:
    import inspect

    import diffusers

    for name, row in families.PIPELINES.items():
        views = [getattr(diffusers, view).__call__ for view in row.views.values()]
        told = all("eta" in inspect.signature(call).parameters for call in views)
        assert ("eta" in row.takes) == (told and row.kind == "diffusion"), name


# ---------------------------------------------------------------------------------------- request and text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"guidance_points": [[0.5, 3], [0.5, 4]]}, "must come one after the other"),
        ({"guidance_points": [[0, 0.5]]}, "guidance must be between 1 and 30"),
        ({"guidance_points": [[1.5, 3]]}, "points of a share .0 to 1. and a guidance"),
        ({"guidance_points": "up"}, "points of a share"),
        ({"guidance_points": [[i / 20, 3] for i in range(17)]}, "may have 16 points; 17 were given"),
        ({"eta": 1.5}, "Eta must be between 0 and 1; 1.5 was given"),
        ({"controls": [{"model": "m", "image": "0" * 32, "points": [[0, 3]]}]}, "between 0 and 2"),
    ],
)
def test_what_is_no_curve_is_told_in_a_sentence(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        GenerationRequest.parse({"prompt": "a", **fields})


def test_curves_and_eta_survive_the_generation_text() -> None:
    unit = {"model": "m", "image": "0" * 32, "points": [[0, 1], [0.5, 0.25]]}
    request = GenerationRequest.parse(
        {
            "prompt": "a house",
            "seed": 1,
            "scheduler": "DDIM",
            "eta": 0.35,
            "guidance_points": [[0, 8], [0.625, 2.5]],
            "controls": [unit],
        }
    )
    text = write(request, picture=0, model_title="m", model_hash=None, version="1")
    assert "Eta DDIM: 0.35" in text and "Weight Curve: 0/1 0.5/0.25" in text
    fields = parse(text)
    assert fields["eta"] == 0.35 and fields["guidance_points"] == request.guidance_points
    plain = parse(
        write(
            request.model_copy(update={"eta": 0.0, "guidance_points": ()}),
            picture=0,
            model_title="m",
            model_hash=None,
            version="1",
        )
    )
    assert plain["eta"] == 0.0 and plain["guidance_points"] == ()


def test_the_samplers_that_take_eta_are_offered_by_checks(tiny: PipelineManager) -> None:
    takers = [name for name in checks.samplers_of(tiny.library.find("sd")) if schedulers.takes_eta(name)]
    assert takers == ["DDIM", "TCD"]
