"""The oracle: a denoiser that knows the picture; whatever the sampler, the predicted x0 must be it."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch

from pipelines import prediction, schedulers
from tests.support.tiny import BETAS

X0 = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def knowing_output(scheduler: Any, entered: torch.Tensor, timestep: Any, kind: str) -> torch.Tensor:
    """What a perfect model answers to the scaled sample `entered` at a (fractional) timestep."""
    if kind == "flow_prediction":
        return (entered - X0) / (float(timestep) / 1000)
    kept = scheduler.alphas_cumprod.double()
    sigmas = ((1 - kept) / kept) ** 0.5
    low = int(float(timestep))
    part = float(timestep) - low
    high = min(low + 1, len(sigmas) - 1)
    sigma = float(torch.exp((1 - part) * torch.log(sigmas[low]) + part * torch.log(sigmas[high])))
    alpha = 1 / (1 + sigma**2) ** 0.5
    noise = (entered - alpha * X0) / (sigma * alpha)
    return noise if kind == "epsilon" else alpha * noise - sigma * alpha * X0


def run_oracle(scheduler: Any, kind: str, steps: int = 6) -> list[torch.Tensor]:
    scheduler.set_timesteps(steps)
    draw = torch.Generator().manual_seed(1)
    sample = torch.randn(X0.shape, generator=draw) * float(getattr(scheduler, "init_noise_sigma", 1.0))
    found = []
    for timestep in scheduler.timesteps:
        scale = getattr(scheduler, "scale_model_input", lambda sample, timestep: sample)
        output = knowing_output(scheduler, scale(sample, timestep), timestep, kind)
        takes = inspect.signature(scheduler.step).parameters
        extra = {"generator": draw} if "generator" in takes else {}
        result = scheduler.step(output, timestep, sample, **extra)
        found.append(prediction.original_sample(scheduler, result, output, timestep, sample))
        sample = result.prev_sample
    return found


def rounds(name: str, schedule: str) -> bool:
    """Whether the schedule lies between trained timesteps, which most classes round: the oracle is off."""
    meant = schedulers.SAMPLERS[name].automatic if schedule == "Automatic" else schedule
    return meant in ("Karras", "Exponential", "Beta")


PAIRS = [
    (name, schedule, kind)
    for name, row in schedulers.SAMPLERS.items()
    for schedule in row.schedules
    for kind in ("epsilon", "v_prediction")
    if not (
        kind == "epsilon" and rounds(name, schedule)
    )  # epsilon multiplies the rounding by the noise level
]


@pytest.mark.parametrize(("name", "schedule", "kind"), PAIRS)
def test_predicted_picture_is_the_known_one(name: str, schedule: str, kind: str) -> None:
    config = {"num_train_timesteps": 1000, "prediction_type": kind, "clip_sample": False, **BETAS}
    scheduler = schedulers.build(name, schedule, config, kind="diffusion", seed=0)
    for x0 in run_oracle(scheduler, kind):
        assert (x0 - X0).abs().max() < (2e-2 if rounds(name, schedule) else 5e-5)


@pytest.mark.parametrize("name", [name for name, row in schedulers.SAMPLERS.items() if row.flow])
def test_predicted_picture_is_the_known_one_for_flow_models(name: str) -> None:
    config = {"num_train_timesteps": 1000, "shift": 3.0}
    scheduler = schedulers.build(name, "Automatic", config, kind="flow", seed=0)
    found = run_oracle(scheduler, "flow_prediction")
    whole_timesteps = scheduler.timesteps.dtype == torch.int64
    for x0 in found:
        assert (x0 - X0).abs().max() < (2e-2 if whole_timesteps else 5e-5)


def test_noise_and_picture_rebuild_the_sample() -> None:
    sample, output = torch.randn(2, 1, 4, 8, 8).unbind(0)
    alpha, sigma = torch.tensor(0.6), torch.tensor(0.8)
    for kind in ("epsilon", "v_prediction", "sample"):
        x0, noise = prediction.predict(output, sample, alpha, sigma, kind)
        assert torch.allclose(alpha * x0 + sigma * noise, sample, atol=1e-5)


def test_unknown_prediction_type_is_refused() -> None:
    with pytest.raises(ValueError, match="no prediction type 'x'"):
        prediction.predict(X0, X0, torch.tensor(1.0), torch.tensor(1.0), "x")


def test_sana_sprints_scheduler_tells_the_known_picture_and_its_noise() -> None:
    from diffusers import SCMScheduler

    scheduler = SCMScheduler()
    scheduler.set_timesteps(4, intermediate_timesteps=None)
    draw = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(1, 4, 8, 8, generator=draw) for _ in range(2))
    for timestep in scheduler.timesteps[:-1]:
        alpha, sigma = prediction.signal_and_noise(scheduler, timestep)
        sample = alpha * x0 + sigma * noise
        velocity = alpha * noise - sigma * x0  # its derivative by the angle
        output = scheduler.step(velocity, timestep, sample, generator=draw)
        found = prediction.original_sample(scheduler, output, velocity, timestep, sample)
        assert torch.allclose(found, x0, atol=1e-5)
        told = prediction.noise_level(scheduler, timestep)
        beyond = float(timestep) > math.pi / 2  # noise alone: its first angle is rounded up
        assert told == (math.inf if beyond else pytest.approx(math.tan(float(timestep)), rel=1e-3))
