"""What the program adds to a run, against plain diffusers in the same process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.request import GenerationRequest
from tests.benchmarks.figure import Figure, in_turns

PROMPT = "a red house in the snow at night"


def _manager(data: Path) -> Any:
    from pipelines import devices
    from pipelines.library.models import ModelLibrary
    from pipelines.manager import PipelineManager
    from pipelines.outputs import Outputs
    from pipelines.pictures import PictureStore

    return PipelineManager(
        ModelLibrary(), devices.choose(), Outputs(data / "outputs"), PictureStore(data / "inputs")
    )


def overhead(data: Path) -> Iterator[Figure]:
    """A run with previews and a kept picture, against the bare pipeline's call."""
    import torch

    from pipelines import schedulers
    from pipelines.run import Control

    manager = _manager(data)
    model = manager.load("starter")
    request = GenerationRequest(prompt=PROMPT, seed=1)

    def bare() -> None:
        config = model.scheduler_config
        pipe = model.pipeline
        pipe.scheduler = schedulers.build("DPM++ 2M", "Automatic", config, kind="diffusion", seed=1)
        pipe(
            PROMPT,
            width=request.width,
            height=request.height,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            generator=torch.Generator().manual_seed(1),
        )

    def ours() -> None:
        manager.run(request, lambda event: None, Control())

    plain, program = in_turns(9, bare, ours)
    detail = f"{program:.3f} s against {plain:.3f} s, 20 steps of the embedded model"
    yield Figure("run with previews / bare diffusers loop", program / plain, 1.02, detail=detail)


def preview_cost(data: Path) -> Iterator[Figure]:
    """Latents to RGB as a share of one guided step of a UNet of SD 1.5's size (random weights)."""
    import torch
    from diffusers import UNet2DConditionModel

    from pipelines import devices
    from pipelines.preview import LatentToRGB, jpeg

    plan = devices.choose()
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    unet = unet.to_empty(device=plan.device).to(plan.torch_dtype).eval()
    for weight in unet.parameters():
        torch.nn.init.normal_(weight.data, std=0.01)
    latents = torch.randn(2, 4, 64, 64, device=plan.device, dtype=plan.torch_dtype)
    words = torch.randn(2, 77, 768, device=plan.device, dtype=plan.torch_dtype)
    to_rgb = LatentToRGB(torch.randn(4, 3), torch.rand(3))

    def step() -> None:
        with torch.no_grad():
            unet(latents, 500, words).sample.float().sum().item()

    def show() -> None:
        for _ in range(20):  # one is too short to time
            jpeg(to_rgb(latents[0]))

    whole, shown = in_turns(3, step, show)
    share = shown / 20 / whole * 100
    detail = f"{shown / 20 * 1000:.2f} ms with its JPEG, of {whole:.2f} s"
    yield Figure("latents to RGB / one step, SD 1.5's size at 512", share, 0.5, "%", detail)


def first_preview(data: Path) -> Iterator[Figure]:
    """Submitting to the worker until the first preview arrives, against text encoding plus one step."""
    import pipelines
    from pipelines import prompts, schedulers
    from pipelines.events import StepEvent

    manager = _manager(data)
    model = manager.load("starter")
    request = GenerationRequest(prompt=PROMPT, seed=1)
    pipe = model.pipeline
    pipe.scheduler = schedulers.build(
        "DPM++ 2M", "Automatic", model.scheduler_config, kind="diffusion", seed=1
    )

    class Enough(Exception):
        pass

    def stop(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        raise Enough

    def bare() -> None:
        words = prompts.encode(pipe, request.prompt, None, guidance=True).kwargs
        try:
            pipe(**words, width=256, height=256, num_inference_steps=20, callback_on_step_end=stop)
        except Enough:
            return

    with pipelines.open(data, process=True) as worker:
        for _ in worker.stream(request):
            continue

        bare()
        plain, program = [], []
        for _ in range(15):
            began = time.perf_counter()
            bare()
            plain.append(time.perf_counter() - began)
            began = time.perf_counter()
            job = worker.submit(request)
            for event in worker.follow(job):
                if isinstance(event, StepEvent) and event.step == 1:
                    program.append(time.perf_counter() - began)
                    worker.stop(job)
    least, taken = statistics.median(plain), statistics.median(program)
    detail = f"{taken * 1000:.0f} ms against {least * 1000:.0f} ms"
    yield Figure("submit to first preview / text encoding + one step", taken / least, 1.05, detail=detail)
