"""The sampler table agrees with diffusers, and what does not fit is refused with a sentence."""

from __future__ import annotations

import inspect

import diffusers
import pytest

from pipelines import schedulers
from pipelines.request import GenerationRequest, InvalidRequest
from tests.support.tiny import BETAS

CONFIG = {
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "timestep_spacing": "leading",
    **BETAS,
}
SWITCHES = {"Karras": "use_karras_sigmas", "Exponential": "use_exponential_sigmas", "Beta": "use_beta_sigmas"}


@pytest.mark.parametrize("name", schedulers.SAMPLERS)
def test_schedules_offered_are_those_the_class_can(name: str) -> None:
    row = schedulers.SAMPLERS[name]
    takes = inspect.signature(getattr(diffusers, row.diffusion).__init__).parameters
    for schedule, switch in SWITCHES.items():
        assert (schedule in row.schedules) == (switch in takes)
    if row.most_steps is None:
        assert ("Uniform" in row.schedules) == ("timestep_spacing" in takes)


@pytest.mark.parametrize("name", schedulers.SAMPLERS)
def test_every_offered_pair_builds_with_its_settings(name: str) -> None:
    row = schedulers.SAMPLERS[name]
    for schedule in row.schedules:
        built = schedulers.build(name, schedule, CONFIG, kind="diffusion", seed=3)
        assert type(built).__name__ == row.diffusion
        assert built.config.prediction_type == "v_prediction"
        for key, value in schedulers.settings(name, schedule).items():
            assert built.config[key] == value
        for steps in (1, 2, 7):
            built.set_timesteps(steps)
            assert len(built.timesteps) >= steps


def test_automatic_follows_the_field() -> None:
    assert schedulers.settings("DPM++ 2M", "Automatic")["use_karras_sigmas"] is True
    assert schedulers.settings("DPM2", "Automatic")["use_karras_sigmas"] is True
    assert schedulers.settings("DPM++ 3M SDE", "Automatic")["use_exponential_sigmas"] is True
    assert schedulers.settings("Euler", "Automatic") == {}


def test_building_leaves_the_models_configuration_alone() -> None:
    config = dict(CONFIG)
    schedulers.build("UniPC", "Karras", config, kind="diffusion", seed=0)
    assert config == CONFIG


@pytest.mark.parametrize(
    ("sampler", "schedule", "kind", "field", "words"),
    [
        ("Fast", "Automatic", "diffusion", "scheduler", "no sampler called 'Fast'"),
        ("DPM++ 2S a", "Automatic", "diffusion", "scheduler", "Nearest to it"),
        ("Euler", "Wavy", "diffusion", "schedule", "no schedule called 'Wavy'"),
        ("DDIM", "Karras", "diffusion", "schedule", "DDIM cannot use the Karras schedule"),
        ("PLMS", "Automatic", "flow", "scheduler", "does not work with this model"),
        ("Euler", "Karras", "flow", "schedule", "It takes Automatic"),
    ],
)
def test_what_does_not_fit_is_refused(sampler: str, schedule: str, kind: str, field: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        schedulers.build(sampler, schedule, CONFIG, kind=kind, seed=0)  # type: ignore[arg-type]
    assert words in refused.value.problems[field]


def test_too_many_steps_for_a_consistency_sampler_are_refused() -> None:
    request = GenerationRequest(prompt="a", scheduler="LCM", num_inference_steps=60)
    with pytest.raises(InvalidRequest, match="at most 50 steps; 60 were asked for"):
        schedulers.check_request(request, "diffusion")
