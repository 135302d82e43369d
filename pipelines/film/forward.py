"""The forward process: a picture noised along a sampler's schedule, and how much of it each schedule leaves.

Everything is what diffusers' own `add_noise` makes of it (`scale_noise` of flow matching): levels are read
off by noising a one and a zero.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pipelines import schedulers
from pipelines.families import FAMILIES, tasks_of
from pipelines.film import looking
from pipelines.preview import encoded, jpeg
from pipelines.request import GenerationRequest, InvalidRequest

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from pipelines.film.trajectory import RunInfo
    from pipelines.library.models import ModelLibrary, ModelSpec
    from pipelines.load.loaded import LoadedModel
    from pipelines.run import PictureRun

SHOWN = 512
"""Pixels a side at which a picture is shown being noised, at most."""


def request_of(run: RunInfo, library: ModelLibrary) -> GenerationRequest:
    """A run's request without all that noising asks for nothing of."""
    request = looking.request_of(run).model_copy(update=looking.WITHOUT_HELP)
    if "text2image" in tasks_of(library.find(request.model)):
        return request.model_copy(update=looking.WITHOUT_PICTURE)
    return request


@dataclass(frozen=True)
class Schedules:
    """What a model's schedules are made from. config: of its own scheduler, with its class."""

    spec: ModelSpec
    config: Mapping[str, Any]

    @classmethod
    def of(cls, model: LoadedModel) -> Self:
        return cls(model.spec, model.scheduler_config)


class Noising:
    """A scheduler made ready for `steps` steps, asked for nothing but noise. Raises `InvalidRequest` as
    `schedulers.check`, and where it noises nothing."""

    def __init__(self, model: Schedules, sampler: str, schedule: str, steps: int):
        import numpy as np

        kind = model.spec.kind
        self.scheduler = schedulers.build(sampler, schedule, model.config, kind=kind, seed=0)
        self._add = getattr(self.scheduler, "scale_noise", None) or getattr(self.scheduler, "add_noise", None)
        if self._add is None:
            raise InvalidRequest({"scheduler": f"{sampler} of {model.spec.title} noises no picture."})
        told: dict[str, Any] = {}
        if FAMILIES[model.spec.family].hands_levels and _takes(self.scheduler, "sigmas"):
            told["sigmas"] = np.linspace(1.0, 1 / steps, steps)  # as diffusers' pipelines hand them on
        if self.scheduler.config.get("use_dynamic_shifting"):
            told["mu"] = float(self.scheduler.config.get("max_shift") or 1.15)  # that of a large picture
        self.scheduler.set_timesteps(
            **({"num_inference_steps": steps} if "sigmas" not in told else {}), **told
        )
        self.flow = self._add.__name__ == "scale_noise"

    @property
    def timesteps(self) -> list[Tensor]:
        """The timestep of each step; those that a sampler of second order tries out in between are none."""
        order = int(getattr(self.scheduler, "order", 1))
        every = list(self.scheduler.timesteps)
        if order > 1:
            every = every[::order]
        return [one for at, one in enumerate(every) if not at or one != every[at - 1]]

    def add(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """x_t, by diffusers, in the scheduler's own scale; of several timesteps where there are several."""
        if self.flow:
            import torch

            return torch.cat([self._scaled(*each) for each in zip(clean, timestep.reshape(-1), noise)])
        return self._add(clean, noise, timestep.reshape(-1))  # type: ignore[misc]

    def _scaled(self, clean: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        self.scheduler._step_index = None  # Heun's class noises for ever to where it was first asked to
        return self._add(clean[None], timestep.reshape(1), noise[None])  # type: ignore[misc]

    def levels(self) -> list[tuple[float, float]]:
        """(alpha, sigma) of x_t = alpha * x0 + sigma * noise for each of `timesteps`."""
        import torch

        times = torch.stack([time.reshape(()) for time in self.timesteps])
        one, none = torch.ones(len(times), 1, 1, 1), torch.zeros(len(times), 1, 1, 1)
        alphas, sigmas = (self.add(a, b, times).flatten().tolist() for a, b in ((one, none), (none, one)))
        return list(zip(alphas, sigmas))


def _takes(scheduler: Any, name: str) -> bool:
    return name in inspect.signature(scheduler.set_timesteps).parameters


def kept(alpha: float, sigma: float) -> tuple[float, float | None]:
    """(alpha-bar, log10 of the signal-to-noise ratio) of a level, whatever the scheduler's scale; the ratio
    None where one of the two is nothing."""
    share = alpha**2 / (alpha**2 + sigma**2)
    return share, 2 * math.log10(alpha / sigma) if alpha > 0 and sigma > 0 else None


def levels(model: Schedules, samplers: tuple[str, ...], steps: int) -> list[dict[str, Any]]:
    """Every sampler with every schedule that it takes on a model: "sampler", "schedule", and "levels": (share
    of the steps done, timestep, alpha-bar, log10 SNR) of each step. What cannot noise is left out."""
    found = []
    for name in samplers:
        row = schedulers.SAMPLERS.get(name)
        offered = row.schedules if row is not None and model.spec.kind == "diffusion" else ("Automatic",)
        for schedule in offered:
            most = row.most_steps if row is not None else None
            try:
                noising = Noising(model, name, schedule, min(steps, most or steps))
            except (InvalidRequest, ValueError):  # a schedule that this number of steps does not suit
                continue
            times = noising.timesteps
            levels = [
                (at / len(times), float(time), *kept(*level))
                for at, (time, level) in enumerate(zip(times, noising.levels()))
            ]
            found.append({"sampler": name, "schedule": schedule, "levels": levels})
    return found


def noised(noising: Noising, run: PictureRun, picture: Image) -> list[dict[str, Any]]:
    """A picture at each step of a schedule: "index", "timestep", "sigma" (noise over signal), "alpha_bar",
    "snr" (log10) and "lanes": JPEGs of the noised "pixels" and, where the model has a VAE, "latents".

    run: whose pipeline encodes, and whose seed draws the noise of both worlds. Shown is x_t over its own
    scale, as the film shows it.
    """
    import numpy as np
    import torch
    from PIL import Image as images

    from pipelines.preview import LatentToRGB

    small = picture.copy()
    small.thumbnail((SHOWN, SHOWN))
    worlds: dict[str, tuple[Tensor, Any]] = {"pixels": (_tensor(small) * 2 - 1, LatentToRGB.of_pixels())}
    if run.family.decoder:
        vae = getattr(run.pipe, run.family.decoder)
        pixels = _tensor(picture).to(run.pipe._execution_device, vae.dtype)
        with torch.no_grad():
            worlds["latents"] = (encoded(vae, pixels).float().cpu(), run.to_rgb)
    seed = run.request.seed_of(run.index)
    steps_told = []
    for index, (time, (alpha, sigma)) in enumerate(zip(noising.timesteps, noising.levels())):
        share, snr = kept(alpha, sigma)
        lanes = {}
        for name, (clean, to_rgb) in worlds.items():
            draw = torch.Generator("cpu").manual_seed(seed)
            noise = torch.randn(clean.shape, generator=draw)
            seen = noising.add(clean, noise, time)[0] / (alpha**2 + sigma**2) ** 0.5
            if name == "pixels":
                shown = ((seen / 2 + 0.5).clamp(0, 1) * 255).byte().permute(1, 2, 0)
                lanes[name] = jpeg(images.fromarray(np.asarray(shown)), quality=80)
            else:
                lanes[name] = jpeg(to_rgb(seen))
        steps_told.append(
            {
                "index": index,
                "timestep": float(time),
                "sigma": sigma / alpha if alpha else None,
                "alpha_bar": share,
                "snr": snr,
                "lanes": lanes,
            }
        )
    return steps_told


def _tensor(picture: Image) -> Tensor:
    """RGB as (1, 3, h, w) in 0..1."""
    import numpy as np
    import torch

    pixels = np.asarray(picture.convert("RGB"), np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]
