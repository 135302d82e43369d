"""What LoRAs cost at Stable Diffusion 1.5's real size, in CPU-seconds; any weights cost the same."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipelines.library.models import ModelLibrary
from pipelines.lora.adapter_slots import Limits
from pipelines.lora.adapters import Adapters
from pipelines.request import GenerationRequest
from tests.benchmarks.figure import Figure
from tests.support import loras, tiny

_LAYERS = (
    *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
    *("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
)
RANK = 16
FILES = 6


def _pipeline() -> Any:
    """SD 1.5's UNet and text encoder at their size, never filled: nothing here runs them."""
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
        encoder = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12))
    pipe = tiny.sd()
    parts = {"unet": unet, "text_encoder": encoder}
    pipe.register_modules(
        **{name: part.to(torch.float16).to_empty(device="cpu") for name, part in parts.items()}
    )
    return pipe


def files(pipe: Any, folder: Path, count: int = FILES) -> list[str]:
    """kohya files of one layout for the pipeline, 19 MB each; their names."""
    import torch

    names = [f"lora-{number}" for number in range(count)]
    for number, name in enumerate(names):
        halves: dict[str, Any] = {}
        for part, component in loras.components(pipe).items():
            halves[part] = {
                layer: tuple(
                    torch.full(shape, 0.01 * (1 + number), dtype=torch.float16)
                    for shape in _shapes(module.weight)
                )
                for layer, module in loras.layers(component, _LAYERS).items()
            }
        loras.save(loras.as_kohya(halves, alpha=float(RANK)), folder / f"loras/{name}.safetensors")
    return names


def _shapes(weight: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    out, into, *kernel = weight.shape
    return (RANK, into, *kernel), (out, RANK, *[1] * len(kernel))


def switching(data: Path) -> Iterator[Figure]:
    """First load, hot swap, and switching and weighing LoRAs that are loaded."""
    pipe = _pipeline()
    names = files(pipe, data)
    library = ModelLibrary([data])
    spec = SimpleNamespace(title="SD 1.5", key="sd", family="SD", text_width=768)
    model: Any = SimpleNamespace(spec=spec, pipeline=pipe)

    def on(adapters: Adapters, name: str, weight: float = 1.0) -> Callable[[], None]:
        request = GenerationRequest(prompt="a", loras=[{"name": name, "weight": weight}])

        def used() -> None:
            with adapters.active(model, request):
                pass

        return used

    library.addon("lora", names[0])  # looks at the folder; models are found before they are used
    many = Adapters(library)
    firsts = [_cpu(on(many, name)) for name in names]
    layers = sum(len(many.slots(part).layers()) for part in (pipe.unet, pipe.text_encoder))
    size = (data / f"loras/{names[0]}.safetensors").stat().st_size
    bare = _pipeline()
    alone = [
        _cpu(
            lambda name=name: bare.load_lora_weights(
                str(data / f"loras/{name}.safetensors"), adapter_name=name
            )
        )
        for name in names
    ]
    told = f"{layers} layers, {size / 1e6:.0f} MB; diffusers alone {statistics.median(alone) * 1000:.0f} ms"
    yield _figure("first load of a LoRA", firsts, 0.35, told)
    resident = [_cpu(on(many, names[number % FILES])) for number in range(12)]
    yield _figure("a run's switch to a loaded LoRA, and off again", resident, 0.01)

    steps: list[float] = []
    curve = GenerationRequest(prompt="a", loras=[{"name": names[0], "points": [[0, 0.2], [1, 1]]}])
    with many.active(model, curve) as active:
        for step in range(1, 12):
            steps.append(_cpu(lambda step=step: active.at_step(step, 12)))
    yield _figure("a weight that changes with a step", steps, 0.01)
    ten = GenerationRequest(prompt="a", loras=[{"name": name, "weight": 0.1} for name in names])

    def all_on() -> None:
        with many.active(model, ten):
            pass

    yield _figure(f"a run's switch to {FILES} at once, and off again", [_cpu(all_on) for _ in range(5)], 0.01)

    fresh = _pipeline()
    model.pipeline = fresh
    few = Adapters(library, Limits(number=1))
    on(few, names[0])()
    swaps = [_cpu(on(few, name)) for name in names[1:]]
    yield _figure("hot swap of a LoRA into the place of another", swaps, 0.08)


def _figure(name: str, seconds: list[float], goal: float, detail: str = "") -> Figure:
    spread = f"{min(seconds) * 1000:.1f} to {max(seconds) * 1000:.1f} ms of CPU"
    return Figure(name, statistics.median(seconds), goal, " s", ", ".join(filter(None, (spread, detail))))


def _cpu(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began
