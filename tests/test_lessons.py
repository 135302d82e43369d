"""The lessons as data: every run can be painted and is found again, every step moves what is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipelines import checks
from pipelines.controlnet.control import ControlLibrary
from pipelines.library.models import STARTER, ModelLibrary
from pipelines.request import GenerationRequest
from tests.support.films import Films
from ui.explore import lessons

ROOT = Path(__file__).resolve().parent.parent
LANES = {"x_t", "x0", "noise", "change", "guidance", "channels"}
STEPS = [(lesson["key"], step) for lesson in lessons.told()["lessons"] for step in lesson["steps"]]


@pytest.mark.parametrize("name", lessons.told()["runs"])
def test_every_run_of_a_lesson_can_be_painted_by_the_embedded_model(name: str) -> None:
    request, library = lessons.request_of(name), ModelLibrary()
    assert request.model == STARTER and request.seed >= 0
    checks.check(request, library.find(STARTER), ControlLibrary((), library.assets, library))


def test_there_are_five_lessons_of_a_few_steps() -> None:
    told = lessons.told()["lessons"]
    assert [lesson["key"] for lesson in told] == ["noise", "latents", "guidance", "ddim", "control"]
    assert all(3 <= len(lesson["steps"]) <= 6 and lesson["title"] and lesson["about"] for lesson in told)


@pytest.mark.parametrize(("lesson", "step"), STEPS, ids=[f"{key}: {step['title']}" for key, step in STEPS])
def test_every_step_moves_what_is_there(lesson: str, step: dict[str, Any]) -> None:
    runs, regions = lessons.told()["runs"], (ROOT / "assets/js/explore-regions.js").read_text("utf-8")
    allowed = {"title", "text", "run", "step", "lanes", "play", "compare", "look"}
    assert set(step) <= allowed and step["title"] and 60 < len(step["text"]) < 320
    total = lessons.request_of(step["run"]).num_inference_steps
    assert 0 <= step["step"] < total and set(step["lanes"]) <= LANES
    guided = lessons.request_of(step["run"]).guidance_scale > 1
    assert guided or "guidance" not in step["lanes"]
    if "look" in step:
        assert f"name: '{step['look']}'" in regions
    if "compare" in step:
        pair = step["compare"]
        assert pair["first"] in runs and pair["second"] in runs and pair["view"] in ("pair", "wipe", "map")
        assert step["run"] in (pair["first"], pair["second"])
    assert all(int(number) <= total for number in re.findall(r"[Aa]t step (\d+)", step["text"]))


def test_a_run_is_found_once_it_is_whole_and_painted_where_it_is_not(tmp_path: Path) -> None:
    films = Films(tmp_path)
    worker: Any = films
    first = lessons.lesson_run(worker, {"run": "With the pose"})
    assert first["job"] and films.asked == [lessons.request_of("With the pose")]
    asked = GenerationRequest.model_dump(films.asked[0], mode="json", exclude_defaults=True)
    films.trajectories.change(first["run"], request=asked, state="running")
    folder = films.trajectories.folder(first["run"]) / "steps"
    for index in range(6):
        (folder / f"{index:05d}.safetensors").touch()
    assert "job" in lessons.lesson_run(worker, {"run": "With the pose"})
    films.trajectories.change(first["run"], state="finished")
    assert lessons.lesson_run(worker, {"run": "With the pose"}) == {"run": first["run"]}
    films.trajectories.trash(first["run"])
    assert "job" in lessons.lesson_run(worker, {"run": "With the pose"})
    assert "problem" in lessons.lesson_run(worker, {"run": "no such"})
