"""What is refused before a run: samplers that cannot follow a flow model's schedule, told from its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines import checks
from pipelines.controlnet.control import ControlLibrary
from pipelines.library.models import ModelSpec
from pipelines.request import GenerationRequest, InvalidRequest


def flow_model(folder: Path, family: str, shifts: bool | None) -> ModelSpec:
    if shifts is not None:
        (folder / "scheduler").mkdir()
        (folder / "scheduler/scheduler_config.json").write_text(json.dumps({"use_dynamic_shifting": shifts}))
    pipeline = {"SD3": "StableDiffusion3Pipeline", "Flux": "FluxPipeline"}[family]
    return ModelSpec("flow", "Flow", family, folder, family, "flow", pipeline)


@pytest.mark.parametrize("image", [None, "0" * 32])
@pytest.mark.parametrize(
    ("family", "shifts", "heun"),
    [("SD3", None, True), ("SD3", False, True), ("SD3", True, False), ("Flux", False, False)],
)
def test_heun_is_offered_only_where_it_runs(
    tmp_path: Path, family: str, shifts: bool | None, heun: bool, image: str | None
) -> None:
    model, library = flow_model(tmp_path, family, shifts), ControlLibrary([], tmp_path)
    checks.check(GenerationRequest(prompt="a", scheduler="Euler", image=image), model, library)
    request = GenerationRequest(prompt="a", scheduler="Heun", image=image)
    if heun:
        return checks.check(request, model, library)
    with pytest.raises(InvalidRequest, match=r"cannot follow the schedule of Flow.*Choose one of") as problem:
        checks.check(request, model, library)
    assert list(problem.value.problems) == ["scheduler"]
    assert "Heun" not in problem.value.problems["scheduler"].split("Choose")[1]


@pytest.mark.parametrize(
    ("family", "offered"), [("SD3", "Euler, Heun, Model's own."), ("Flux", "Euler, Model's own.")]
)
def test_samplers_that_begin_with_a_picture_are_named(tmp_path: Path, family: str, offered: str) -> None:
    request = GenerationRequest(prompt="a", scheduler="UniPC", image="0" * 32)
    with pytest.raises(InvalidRequest, match=f"cannot begin with a picture.*Choose one of {offered}$"):
        checks.check(request, flow_model(tmp_path, family, False), ControlLibrary([], tmp_path))
