"""What a GPU is asked for: models at their real size brought to it and swapped on it, steps as they are and
compiled, LoRAs swapped in without compiling anew. Wall time; nothing is measured where there is no CUDA GPU.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipelines.request import GenerationRequest
from tests.benchmarks import loras
from tests.benchmarks.figure import Figure
from tests.benchmarks.models import build, modules

SIDES = {"sd1": 512, "sdxl": 1024}
COPIED = 1 << 30
DEVICE = "cuda"


def gpu(data: Path) -> Iterator[Figure]:
    """SD 1.5."""
    yield from _measured("sd1", data, ("A", "B"))


def gpu_xl(data: Path) -> Iterator[Figure]:
    """SDXL, one model: it is three times as large."""
    yield from _measured("sdxl", data, ("A",))


def _measured(architecture: str, data: Path, names: tuple[str, ...]) -> Iterator[Figure]:
    import torch

    if DEVICE == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA GPU here: nothing of one is measured.")
        return
    from pipelines import devices

    dtype = devices.choose(DEVICE).torch_dtype
    for seed, name in enumerate(names):
        build(architecture, data / "models" / name, dtype, seed)
    manager = _manager(data)
    models = manager.models
    loaded = [manager.load(name) for name in names]
    yield from _swaps(models, loaded)
    yield from _steps(manager, architecture, loaded[0])
    yield from _runs(manager, SIDES[architecture])


def _manager(data: Path) -> Any:
    from pipelines import devices
    from pipelines.library.models import ModelLibrary
    from pipelines.library.records import FileRecords
    from pipelines.manager import PipelineManager
    from pipelines.outputs import Outputs
    from pipelines.pictures import PictureStore

    library = ModelLibrary([data / "models"], records=FileRecords(data / "library.db"))
    outputs, store = Outputs(data / "outputs"), PictureStore(data / "own/inputs")
    return PipelineManager(library, devices.choose(DEVICE), outputs, store)


def wall(
    action: Callable[[], object], between: Callable[[], object] = lambda: None, rounds: int = 5
) -> float:
    """Median seconds of an action until the GPU is done with it, after one that does not count (with no more
    `rounds` it does)."""
    import torch

    taken = []
    for _ in range(rounds + 1):
        between()
        torch.cuda.synchronize()
        began = time.perf_counter()
        action()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:] or taken)


def _bandwidth() -> tuple[float, float]:
    """Bytes a second that this machine copies to the GPU: from page-locked memory, and from other."""
    import torch

    plain = torch.empty(COPIED, dtype=torch.uint8).fill_(1)
    locked, there = plain.pin_memory(), torch.empty_like(plain, device=DEVICE)
    fast = wall(lambda: there.copy_(locked, non_blocking=True))
    return COPIED / fast, COPIED / wall(lambda: there.copy_(plain))


def _swaps(models: Any, loaded: list[Any]) -> Iterator[Figure]:
    from pipelines.load.components import Budgets

    fast, slow = _bandwidth()
    first, *others = loaded
    size = sum(first.sizes.values())
    models.cache.budgets = lambda: Budgets(int(size * 1.2), 10 * size)

    def swap(model: Any) -> Callable[[], None]:
        def swapped() -> None:
            again = models.load(model.spec)
            with models.settled(again.keys.values()):
                pass

        return swapped

    def away() -> None:
        for model in others:
            swap(model)()
        models.cache.from_device(first.keys.values())

    took = wall(swap(first), away)
    detail = (
        f"{took * 1000:.0f} ms for {size / 1e9:.2f} GB: {size / took / 1e9:.1f} GB/s, the machine copies "
        f"{fast / 1e9:.1f} GB/s from page-locked memory and {slow / 1e9:.1f} GB/s from other"
    )
    yield Figure("swap from RAM / copying its bytes page-locked", took * fast / size, 1.5, detail=detail)
    yield Figure("swap from RAM / copying its bytes as they lie", took * slow / size, 1.5, detail=detail)
    away()
    plainly = wall(lambda: [one.data.to(DEVICE, non_blocking=True) for one in _weights(first)])
    detail = f"{plainly * 1000:.0f} ms with tensor.to, one after the other"
    yield Figure("swap from RAM / moving each weight plainly", took / plainly, 1, detail=detail)
    models.cache.budgets = lambda: Budgets(10 * size, 10 * size)
    for model in loaded:
        swap(model)()
    back = wall(lambda: [swap(model)() for model in loaded]) / len(loaded)
    yield Figure("swap to a model that is on the GPU", back * 1000, 10, " ms")


def _weights(model: Any) -> list[Any]:
    return [tensor for module in modules(model.pipeline) for tensor in module.parameters()]


def _steps(manager: Any, architecture: str, model: Any) -> Iterator[Figure]:
    """A guided step of the model as it is, and compiled; and what a LoRA's swap does to what is compiled."""
    import torch

    from pipelines.load import compiling

    side = SIDES[architecture]
    told: list[str] = []
    compiler = compiling.Compiler(told.append)
    with manager.models.settled(model.keys.values()):
        step = _step(model.pipeline.unet, side // 8)
        eager = wall(step, rounds=20)
        detail = f"{1 / eager:.1f} it/s, {side} x {side}, {manager.plan.dtype}, two pictures a step"
        yield Figure(f"a guided step of {architecture}, as it is", eager * 1000, math.inf, " ms", detail)
        rate = _matrix_rate(manager.plan.torch_dtype)
        yield from _share_of_peak(model.pipeline.unet, side // 8, eager, rate, "as it is")
        began = time.perf_counter()
        with compiler.used(model.pipeline, "resident", told.append):
            step()
        compiler.wait()
        taken = time.perf_counter() - began
        before = _compiled_frames()
        with compiler.used(model.pipeline, "resident", told.append):
            compiled = wall(step, rounds=20)
        goal = 8.0 if architecture == "sd1" else math.inf
        detail = f"{1 / compiled:.1f} it/s; {taken:.0f} s in the background; {told[-1]}"
        yield Figure(f"a guided step of {architecture}, compiled", compiled * 1000, goal, " ms", detail)
        yield from _share_of_peak(model.pipeline.unet, side // 8, compiled, rate, "compiled")
        anew = _compiled_frames() - before
        yield Figure("compiled anew in the run's own thread", anew, 0, " frames")
    yield from _loras(manager, model, side)
    torch.cuda.empty_cache()


def _runs(manager: Any, side: int) -> Iterator[Figure]:
    """Whole runs, from the request to the kept picture: as they are, beside the compiling, and compiled."""
    from pipelines.run import Control

    plain = GenerationRequest(prompt="a house", model="A", width=side, height=side, seed=1)
    wanted = plain.model_copy(update={"compiled": True})

    def run(request: GenerationRequest, rounds: int) -> float:
        return wall(lambda: manager.run(request, lambda event: None, Control()), rounds=rounds)

    usual = run(plain, 3)
    beside = run(wanted, 0)
    manager.compiler.wait()
    compiled = run(wanted, 3)
    detail = (
        f"{compiled:.2f} s against {usual:.2f} s for {plain.num_inference_steps} steps at {side} x {side}"
    )
    detail += f", {beside:.2f} s beside the compiling"
    yield Figure("a run, compiled / as it is", compiled / usual, 1, detail=detail)


def _step(unet: Any, side: int) -> Callable[[], None]:
    import torch

    place: dict[str, Any] = {"device": DEVICE, "dtype": unet.dtype}
    latents, time_ = torch.randn(2, 4, side, side, **place), torch.tensor(500, device=DEVICE)
    words = torch.randn(2, 77, unet.config.cross_attention_dim, **place)
    added: dict[str, Any] = {}
    if unet.config.addition_embed_type == "text_time":
        pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        added["added_cond_kwargs"] = {
            "text_embeds": torch.zeros(2, pooled, **place),
            "time_ids": torch.zeros(2, 6, **place),
        }

    def run() -> None:
        with torch.no_grad():
            unet(latents, time_, encoder_hidden_states=words, return_dict=False, **added)

    return run


def _matrix_rate(dtype: Any) -> float:
    """Operations a second of a large matrix product."""
    import torch

    side = 8192
    left, right = (torch.randn(side, side, device=DEVICE, dtype=dtype) for _ in range(2))
    return 2 * side**3 / wall(lambda: left @ right, rounds=10)


def _share_of_peak(unet: Any, side: int, seconds: float, rate: float, how: str) -> Iterator[Figure]:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counted:
        _step(unet, side)()
    operations = counted.get_total_flops()
    share = seconds * rate / operations
    detail = (
        f"{operations / 1e12:.2f} TFLOP at {operations / seconds / 1e12:.0f} TFLOP/s; a matrix product runs "
        f"at {rate / 1e12:.0f}"
    )
    yield Figure(f"a step, {how} / its operations at the matrix peak", share, math.inf, detail=detail)


def _compiled_frames() -> int:
    from torch._dynamo.utils import counters

    return int(counters["frames"]["total"])


def _loras(manager: Any, model: Any, side: int) -> Iterator[Figure]:
    """Two LoRAs of one make, each in the place of the other, under a compiled denoiser."""
    from pipelines.load import compiling
    from pipelines.lora.adapters import Adapters

    first, second = loras.files(model.pipeline, manager.library.folders[0], 2)
    manager.library.list()
    adapters, compiler = Adapters(manager.library), compiling.Compiler()
    step = _step(model.pipeline.unet, side // 8)
    steps: list[float] = []

    def used(name: str, weight: float) -> float:
        """Milliseconds until the LoRA is on."""
        request = GenerationRequest(prompt="a", model="A", loras=[{"name": name, "weight": weight}])
        with ExitStack() as held:
            active = adapters.active(model, request, compiled=True)
            switch = wall(lambda: held.enter_context(active), rounds=0)
            with compiler.used(model.pipeline, "resident", lambda sentence: None):
                steps.append(wall(step, rounds=5) * 1000)
        return switch * 1000

    with manager.models.settled(model.keys.values()):
        load = used(first, 1.0)
        compiler.wait()
        used(first, 1.0)
        before = _compiled_frames()
        swaps = [used(second, 1.0)]
        weight = used(second, 0.4)
        swaps += [used(first, 0.8), used(second, 0.6)]
        anew = _compiled_frames() - before
    layers = len(adapters.slots(model.pipeline.unet).layers())
    detail = f"{min(swaps):.0f} to {max(swaps):.0f} ms, {layers} layers of the UNet; first load {load:.0f} ms"
    yield Figure("hot swap of a LoRA on the GPU, compiled", statistics.median(swaps), 80, " ms", detail)
    yield Figure("a LoRA's weight changed, compiled", weight, 10, " ms")
    detail = f"steps of {', '.join(f'{one:.1f}' for one in steps)} ms, the first not compiled"
    yield Figure("compiled anew for other LoRAs and weights", anew, 0, " frames", detail)
