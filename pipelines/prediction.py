"""The picture and the noise that a model's output stands for, for every scheduler that diffusers has.

Every scheduler writes its sample as `alpha * x0 + sigma * noise`, each in a scale of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Prediction(NamedTuple):
    """pred_original_sample (x0) and pred_noise, both shaped like the sample, in float32."""

    pred_original_sample: Tensor
    pred_noise: Tensor


def is_flow(scheduler: Any) -> bool:
    """Whether the scheduler walks a flow (x = (1 - s) x0 + s noise) rather than a diffusion."""
    return bool(scheduler.config.get("use_flow_sigmas", False)) or "prediction_type" not in scheduler.config


def signal_and_noise(scheduler: Any, timestep: Any) -> tuple[Tensor, Tensor]:
    """(alpha, sigma) of the sample that the scheduler's last step began with, both scalars.

    Call it after `scheduler.step`: schedulers with sigmas have advanced `step_index` by one by then.
    The four scales: alphas_cumprod (DDPM, arXiv:2006.11239), rectified flow (arXiv:2209.03003),
    variance exploding and variance preserving (arXiv:2011.13456, in the form of arXiv:2206.00364).
    """
    import torch

    if scheduler.config.get("prediction_type") == "trigflow":  # its timesteps are angles (arXiv:2410.11081)
        angle = torch.as_tensor(timestep).float().flatten()[0]
        return torch.cos(angle), torch.sin(angle)
    if getattr(scheduler, "step_index", None) is None or not hasattr(scheduler, "sigmas"):
        kept = scheduler.alphas_cumprod[int(timestep)].float()
        return kept**0.5, (1 - kept) ** 0.5
    sigma = scheduler.sigmas[scheduler.step_index - 1].float()
    if is_flow(scheduler):
        return 1 - sigma, sigma
    if float(scheduler.init_noise_sigma) > 1:
        return torch.ones_like(sigma), sigma
    alpha = 1 / (sigma**2 + 1) ** 0.5
    return alpha, sigma * alpha


def predict(
    model_output: Tensor, sample: Tensor, alpha: Tensor, sigma: Tensor, prediction_type: str
) -> Prediction:
    """x0 and noise from a model's output. All tensors of one shape; alpha and sigma scalars.

    prediction_type: epsilon, v_prediction (arXiv:2202.00512), sample or flow_prediction; ValueError else.
    """
    output, x = model_output.float(), sample.float()
    alpha, sigma = alpha.to(x.device), sigma.to(x.device)
    if prediction_type == "epsilon":
        x0 = (x - sigma * output) / alpha
    elif prediction_type == "v_prediction":
        power = alpha**2 + sigma**2
        x0 = (alpha * x - sigma * power**0.5 * output) / power
    elif prediction_type == "sample":
        x0 = output
    elif prediction_type == "flow_prediction":
        x0 = x - sigma * output
    else:
        raise ValueError(f"There is no prediction type {prediction_type!r}.")
    return Prediction(x0, (x - alpha * x0) / sigma)


def original_sample(
    scheduler: Any, step_output: Any, model_output: Tensor, timestep: Any, sample: Tensor
) -> Tensor:
    """x0 as predicted at the step that just ran: the scheduler's own where it tells, else by `predict`."""
    for name in ("pred_original_sample", "denoised"):
        told = getattr(step_output, name, None)
        if told is not None:
            return told
    alpha, sigma = signal_and_noise(scheduler, timestep)
    kind = "flow_prediction" if is_flow(scheduler) else scheduler.config["prediction_type"]
    return predict(model_output, sample, alpha, sigma, kind).pred_original_sample


def noise_level(scheduler: Any, timestep: Any) -> float:
    """sigma / alpha of the step that just ran: noise over signal, the same quantity for every scheduler."""
    alpha, sigma = signal_and_noise(scheduler, timestep)
    return float(sigma / alpha) if float(alpha) > 0 else float("inf")
