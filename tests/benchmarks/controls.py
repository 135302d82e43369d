"""What control costs: a led run against plain diffusers, and the maps against a step."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines import schedulers
from pipelines.controlnet import poses
from pipelines.library.models import ASSETS
from pipelines.request import ControlUnit, GenerationRequest
from tests.benchmarks.figure import Figure, in_turns
from tests.benchmarks.runs import PROMPT, _manager

STEPS = 20


def _unit(**shown: Any) -> ControlUnit:
    return ControlUnit(model="storybook-pose", **shown)


def _standing() -> tuple[Any, ...]:
    return tuple(poses.presets()[0].poses)


def led_run(data: Path) -> Iterator[Figure]:
    """A run led by one ControlNet, with its map, previews and kept picture, against the bare pipeline's."""
    import torch
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
    from PIL import Image

    from pipelines.run import Control

    manager = _manager(data)
    model = manager.load("starter")
    drawn = Image.fromarray(poses.draw_poses(_standing(), 256, 256))
    dtype = manager.plan.torch_dtype
    network = ControlNetModel.from_pretrained(ASSETS / "controlnets" / "storybook-pose", dtype=dtype)
    plain = StableDiffusionControlNetPipeline.from_pretrained(
        ASSETS / "starter", controlnet=network, dtype=dtype
    ).to(manager.plan.device)
    plain.set_progress_bar_config(disable=True)
    if manager.plan.channels_last:
        plain.vae.to(memory_format=torch.channels_last)
    request = GenerationRequest(
        prompt=PROMPT, seed=1, num_inference_steps=STEPS, controls=(_unit(pose=_standing()),)
    )

    def bare() -> None:
        config = model.scheduler_config
        plain.scheduler = schedulers.build("DPM++ 2M", "Automatic", config, kind="diffusion", seed=1)
        plain(
            PROMPT,
            image=drawn,
            num_inference_steps=STEPS,
            guidance_scale=request.guidance_scale,
            generator=torch.Generator().manual_seed(1),
        )

    def ours() -> None:
        manager.run(request, lambda event: None, Control())

    theirs, program = in_turns(9, bare, ours)
    detail = f"{program:.3f} s against {theirs:.3f} s, {STEPS} steps of the embedded model and pose network"
    yield Figure("led run with previews / bare ControlNet loop", program / theirs, 1.02, detail=detail)


def maps(data: Path) -> Iterator[Figure]:
    """Making a map, from the stored picture to the map that is followed, against one led, guided step."""
    import numpy as np
    from PIL import Image

    from pipelines.events import StepEvent
    from pipelines.run import Control

    manager = _manager(data)
    rough = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)

    def stored(side: int) -> str:
        buffer = io.BytesIO()
        Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "PNG")
        return manager.store.put(buffer.getvalue()).key

    led = GenerationRequest(
        prompt=PROMPT, seed=1, num_inference_steps=STEPS, controls=(_unit(pose=_standing()),)
    )
    times: list[float] = []

    def note(event: Any) -> None:
        if isinstance(event, StepEvent):
            times.append(event.seconds)

    for _ in range(2):  # the first one loads
        times.clear()
        manager.run(led, note, Control())
    step = float(np.median(np.diff(times)))
    units = [
        (f"canny at {side}", _unit(preprocessor="canny", image=stored(side)), side) for side in (512, 1024)
    ]
    units.append(("a drawn pose at 512", _unit(pose=_standing()), 512))
    for name, unit, side in units:
        (taken,) = in_turns(9, lambda unit=unit, side=side: manager.showing.control_map(unit, side, side))
        detail = f"{taken * 1000:.1f} ms of {step * 1000:.0f} ms, one led step of the embedded model at 256"
        yield Figure(f"{name} / one step", taken / step, 1, detail=detail)
