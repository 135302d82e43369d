"""A recorded run as small pictures: what each step was given, predicted and changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipelines.film.trajectory import RunInfo, TrajectoryStore
from pipelines.latents import as_grid

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

STILL = 0.01
"""A step that changes x0 by less than this share leaves the picture as it is."""


def film(store: TrajectoryStore, id: str, develop: Callable[[RunInfo, Tensor], Image]) -> dict[str, Any]:
    """{"run", "steps", "still_from"}. Raises `UnknownTrajectory`.

    A step: index, timestep, sigma, guidance_norm (L2 of what guidance adds, None without it), change (L2 of
    x0 to the previous step's, relative), lanes (JPEG by name: x_t, x0, noise, change, guidance) and channels.
    """
    from pipelines.preview import jpeg

    run = store.get(id)
    steps: list[dict[str, Any]] = []
    before: Tensor | None = None
    for index in range(store.steps(id)):
        tensors, facts = store.read_step(id, index)
        sample, x0 = tensors["sample"].float(), tensors["pred_original_sample"].float()
        alpha, noise = facts["alpha"], facts["noise"]
        drawn = (sample - alpha * x0) / noise if noise else sample * 0
        lanes = {
            "x_t": jpeg(develop(run, sample / (alpha**2 + noise**2) ** 0.5)),
            "x0": jpeg(develop(run, x0)),
            "noise": jpeg(develop(run, drawn)),
            "change": jpeg(_heat(grid(run, x0 - before if before is not None else x0 * 0))),
        }
        pull = None
        if "conditional" in tensors:
            guided = tensors["conditional"].float() - tensors["unconditional"].float()
            pull = float(guided.norm())
            lanes["guidance"] = jpeg(_heat(grid(run, guided)))
        change = None if before is None else float((x0 - before).norm() / before.norm())
        steps.append(
            {
                "index": index,
                "timestep": facts["timestep"],
                "sigma": facts["sigma"],
                "guidance_norm": pull,
                "change": change,
                "lanes": lanes,
                "channels": jpeg(_channels(grid(run, x0))),
            }
        )
        before = x0
    return {"run": asdict(run), "steps": steps, "still_from": still_from([step["change"] for step in steps])}


def still_from(changes: list[float | None]) -> int | None:
    """The step from which on each changed x0 by less than `STILL`; None where the last one did not."""
    first = None
    for index in reversed(range(len(changes))):
        change = changes[index]
        if change is None or change >= STILL:
            break
        first = index
    return first


def grid(run: RunInfo, latents: Tensor) -> Tensor:
    """The latents of a recorded run's picture, in whatever layout its pipeline held them, as (c, h, w)."""
    about = run.about
    return as_grid(latents, about.get("layout", "grid"), *run.size, about.get("scale", 1.0))[0]


def _heat(latents: Tensor) -> Image:
    """How much there is at each place, over the channels: dark to amber."""
    from PIL import Image

    strength = latents.abs().mean(0)
    most = float(strength.max())
    share = strength / most if most else strength
    colours = (share[..., None] * share.new_tensor([1.0, 0.63, 0.3])).mul(255).byte()
    return Image.fromarray(colours.numpy())


def _channels(latents: Tensor) -> Image:
    """The channels side by side, each from its darkest to its brightest."""
    import torch
    from PIL import Image

    low, high = latents.amin((1, 2), keepdim=True), latents.amax((1, 2), keepdim=True)
    grey = ((latents - low) / (high - low).clamp_min(1e-6) * 255).byte()
    return Image.fromarray(torch.cat(list(grey[:4]), 1).numpy()).convert("RGB")
