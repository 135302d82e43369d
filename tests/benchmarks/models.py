"""Loading and swapping models at their real size: SD 1.5 and SDXL with random weights, since speed does not
depend on them. Ratios within one run, in CPU-seconds where nothing else is said: the machine may be busy.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.figure import Figure

ROUNDS = 3


def build(architecture: str, folder: Path, dtype: Any, seed: int) -> Path:
    """A diffusers folder of an architecture in assets/configs with random weights in `dtype`."""
    import torch
    from safetensors.torch import save_file

    from pipelines.load import packed_tokenizers, single_file
    from pipelines.load.parts import Part
    from pipelines.load.skeletons import skeleton

    shutil.copytree(single_file.CONFIGS / architecture, folder)
    index = json.loads((folder / "model_index.json").read_text())
    drawn = (torch.randn(1 << 20, generator=torch.Generator().manual_seed(seed)) * 0.02).to(dtype)
    for name, value in index.items():
        if not isinstance(value, list) or value[0] is None or name == "scheduler":
            continue
        if name.startswith("tokenizer"):
            pad = json.loads((folder / name / "tokenizer_config.json").read_text())["pad_token"]
            packed_tokenizers.clip(single_file.TOKENIZERS, pad).save_pretrained(folder / name)
            continue
        empty = skeleton(Part(name, *value, json.loads((folder / name / "config.json").read_text())))
        state = {}
        for key, tensor in empty.state_dict().items():
            whole = drawn.repeat(tensor.numel() // len(drawn) + 1)[: tensor.numel()]
            state[key] = (torch.ones_like(whole) if "norm" in key and "weight" in key else whole).reshape(
                tensor.shape
            )
        stem = "diffusion_pytorch_model" if value[0] == "diffusers" else "model"
        save_file(state, folder / name / f"{stem}.safetensors", {"format": "pt"})
        del state
    return folder


def loader(models: Path, data: Path, ram: int | None = None) -> Any:
    from pipelines import devices
    from pipelines.library.models import ModelLibrary
    from pipelines.library.records import FileRecords
    from pipelines.load.components import Budgets
    from pipelines.load.loaded import LoadedModels

    library = ModelLibrary([models], records=FileRecords(data / "library.db"))
    budgets = None if ram is None else lambda: Budgets(ram, ram)
    return LoadedModels(library, devices.choose(), data, budgets)


def modules(pipeline: Any) -> list[Any]:
    import torch

    return [one for one in pipeline.components.values() if isinstance(one, torch.nn.Module)]


def touch(pipeline: Any) -> int:
    """Reads every byte of a pipeline's weights once."""
    import torch

    total = 0
    for module in modules(pipeline):
        for tensor in module.state_dict().values():
            flat = tensor.detach()
            if not flat.is_contiguous():  # a VAE's convolutions: their channels lie last
                flat = flat.permute(0, 2, 3, 1)
            flat = flat.reshape(-1).view(torch.uint8)
            total += int(flat[: len(flat) // 8 * 8].view(torch.int64).sum())
    return total


def touch_files(files: list[Path]) -> int:
    """The same of files that are mapped, without modules and their tensors."""
    import torch

    total = 0
    for file in files:
        count = file.stat().st_size // 8
        total += int(torch.from_file(str(file), shared=False, size=count, dtype=torch.int64).sum())
    return total


def cpu(action: Callable[[], object]) -> float:
    """CPU-seconds of this process, in user code and in the kernel."""
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF)
    action()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def median(rounds: int, action: Callable[[], object], between: Callable[[], object] = gc.collect) -> float:
    taken = []
    for _ in range(rounds):
        between()
        taken.append(cpu(action))
    return statistics.median(taken)


def models(data: Path) -> Iterator[Figure]:
    """SD 1.5."""
    yield from _measured("sd1", data, ("A", "B"))


def models_xl(data: Path) -> Iterator[Figure]:
    """SDXL, one model: it is three times as large."""
    yield from _measured("sdxl", data, ("A",))


def _measured(architecture: str, data: Path, names: tuple[str, ...]) -> Iterator[Figure]:
    import torch
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library_logging in (diffusers_logging, transformers_logging):
        library_logging.disable_progress_bar()
    for seed, name in enumerate(names):
        build(architecture, data / "models" / name, torch.float16, seed)
    own = loader(data / "models", data / "own")
    spec = own.library.find("A")
    size = sum(file.stat().st_size for file in spec.weights)
    kind = f"{architecture} in fp16 on disk, {own.plan.dtype} here"

    def first() -> None:
        touch(own.load(spec).pipeline)

    def converting() -> None:
        touch(DiffusionPipeline.from_pretrained(spec.path, dtype=own.plan.torch_dtype, use_safetensors=True))

    DiffusionPipeline.from_pretrained(spec.path, use_safetensors=True)  # imports what it needs
    once = cpu(first)
    stored = sorted((data / "own/cache/weights").glob("*/*.safetensors")) or list(spec.weights)
    held = sum(own.load(spec).sizes.values())
    converted = median(ROUNDS, converting)

    # Room for one of them: what a swap puts away and what it shares (the tokenizer) is part of it.
    room = int(held * 1.1) + 50_000_000
    tight = loader(data / "models", data / "own", room)
    if len(names) > 1:
        tight.load(tight.library.find("B"))
    took: list[float] = []

    def warm() -> None:
        began = time.process_time()
        model = tight.load(spec)
        took.append(time.process_time() - began)
        touch(model.pipeline)

    def away() -> None:
        tight.load(tight.library.find("B")) if len(names) > 1 else tight.unload_all()

    whole = median(2 * ROUNDS, warm, away)
    swap = statistics.median(took)
    tight.unload_all()
    touched = median(ROUNDS, lambda: touch_files(stored))
    detail = (
        f"{kind}: {whole:.2f} s, of which {swap:.2f} s before anything is read; converting {converted:.2f} s"
    )
    yield Figure("warm swap / converting load by diffusers", whole / converted, 1 / 8, detail=detail)
    detail = f"{whole:.2f} s against {touched:.2f} s for {held / 1e9:.2f} GB, all of it read in both"
    yield Figure("warm swap / touching its bytes", whole / touched, 1.3, detail=detail)
    detail = (
        f"{once:.2f} s with hashing, looking for NaN, writing {held / 1e9:.2f} GB, fitting the preview's map"
    )
    yield Figure("first load ever / converting load by diffusers", once / converted, 4, detail=detail)
    yield _cold(data, spec, own, stored)
    yield _peak(data, architecture, held)
    model = own.load(spec)
    for name in names[1:]:
        own.load(own.library.find(name))
    back = _milliseconds(lambda: own.load(spec))
    yield Figure("swap back to a resident model", back, 50, " ms", f"{held / 1e9:.2f} GB stay where they are")
    yield from _views(model)
    yield from _steps(own, model)
    detail = f"{size / 1e9:.2f} GB on disk"
    yield Figure(
        "bytes of the native cache / of the files",
        sum(f.stat().st_size for f in stored) / size,
        1.01,
        detail=detail,
    )


def _cold(data: Path, spec: Any, own: Any, stored: list[Path]) -> Figure:
    """Wall seconds, with the files out of the page cache before each."""

    def forget() -> None:
        own.unload_all()
        for file in stored:
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    loads, reads = [], []
    for _ in range(ROUNDS):
        forget()
        began = time.perf_counter()
        touch(own.load(spec).pipeline)
        loads.append(time.perf_counter() - began)
        forget()
        began = time.perf_counter()
        touch_files(stored)
        reads.append(time.perf_counter() - began)
    load, read = statistics.median(loads), statistics.median(reads)
    size = sum(file.stat().st_size for file in stored) / 1e9
    return Figure(
        "cold load / reading its bytes, wall time",
        load / read,
        1.5,
        detail=f"{load:.2f} s against {read:.2f} s for {size:.2f} GB, out of the page cache",
    )


_PEAK = """
import sys
from pathlib import Path
from tests.benchmarks import models

def lines():
    told = Path("/proc/self/status").read_text().splitlines()
    rows = [one.split() for one in told if one.startswith(("VmHWM", "VmRSS"))]
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}

own = models.loader(Path(sys.argv[1]), Path(sys.argv[2]))
import diffusers.pipelines.auto_pipeline, torch
spec = own.library.find("A")
own.loader  # all is imported
from pipelines.load.loaded import assembled
import diffusers, transformers
diffusers.StableDiffusionPipeline, diffusers.StableDiffusionXLPipeline, diffusers.UNet2DConditionModel
Path("/proc/self/clear_refs").write_text("5")
before = lines()["VmRSS"]
models.touch(own.load(spec).pipeline)
print("PEAK", lines()["VmHWM"] - before)
"""


def _peak(data: Path, architecture: str, held: int) -> Figure:
    """In a process of its own: its highest resident memory above what it had before the load."""
    command = [sys.executable, "-W", "ignore", "-c", _PEAK, str(data / "models"), str(data / "own")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    peak = int(told.split("PEAK")[1])
    detail = f"{peak / 1e9:.2f} GB for {held / 1e9:.2f} GB of weights, all read"
    return Figure("peak memory of a warm load / components' bytes", peak / held, 1.2, detail=detail)


def _milliseconds(action: Callable[[], object], rounds: int = 15) -> float:
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        action()
        taken.append(time.process_time() - began)
    return statistics.median(taken) * 1000


def _views(model: Any) -> Iterator[Figure]:
    import torch

    from pipelines import schedulers
    from pipelines.painting import pipeline_for
    from pipelines.request import GenerationRequest

    texts = GenerationRequest(prompt="a house", model="A", scheduler="Euler")
    shown = texts.model_copy(update={"image": "0" * 32})
    before = {name: (part.dtype, id(part)) for name, part in _parts(model.pipeline).items()}

    def there_and_back() -> None:
        for request in (texts, shown):
            view = pipeline_for(request, model, 1)
            assert {name: (part.dtype, id(part)) for name, part in _parts(view).items()} == before
            assert all(isinstance(part, torch.nn.Module) for part in _parts(view).values())

    each = _milliseconds(there_and_back) / 2
    yield Figure(
        "task switch", each, 5, " ms", "text to image and back; the same components, dtype unchanged"
    )
    config = model.scheduler_config
    names = ("Euler", "DPM++ 2M", "UniPC")

    def change() -> None:
        for name in names:
            schedulers.build(name, "Automatic", config, kind=model.spec.kind, seed=1)

    yield Figure("scheduler swap", _milliseconds(change) / len(names), 3, " ms")


def _least(rounds: int, *actions: Callable[[], object]) -> list[float]:
    """Least CPU-seconds of each action, taken in turns after one that does not count: what others do on the
    machine makes the same work dearer, never cheaper."""
    taken: list[list[float]] = [[] for _ in actions]
    for count in range(rounds + 1):
        for action, times in zip(actions, taken, strict=True):
            seconds = cpu(action)
            if count:
                times.append(seconds)
    return [min(times) for times in taken]


def _parts(pipeline: Any) -> dict[str, Any]:
    return {
        name: getattr(pipeline, name) for name in ("unet", "vae", "text_encoder") if hasattr(pipeline, name)
    }


def _steps(own: Any, model: Any) -> Iterator[Figure]:
    """A step of ours against diffusers' own loading, and bf16 against float32 where the CPU has the units."""
    import torch
    from diffusers import UNet2DConditionModel

    plan, ours = own.plan, model.pipeline.unet
    width = ours.config.cross_attention_dim
    more: dict[str, Any] = {}
    if ours.config.addition_embed_type == "text_time":
        pooled = ours.config.projection_class_embeddings_input_dim - 6 * ours.config.addition_time_embed_dim
        more = {"text_embeds": torch.zeros(2, pooled), "time_ids": torch.zeros(2, 6)}

    def step(unet: Any, side: int) -> Callable[[], None]:
        place: dict[str, Any] = {"device": unet.device, "dtype": unet.dtype}
        latents, words = torch.randn(2, 4, side, side, **place), torch.randn(2, 77, width, **place)
        added = {"added_cond_kwargs": {name: one.to(**place) for name, one in more.items()}} if more else {}

        def run() -> None:
            with torch.no_grad():
                unet(latents, 500, words, **added).sample.float().sum().item()

        return run

    plain = UNet2DConditionModel.from_pretrained(model.spec.path / "unet", dtype=plan.torch_dtype)
    bare, program = _least(5, step(plain, 32), step(ours, 32))
    detail = f"{program:.2f} s against {bare:.2f} s, 256 x 256, guided, {plan.dtype}"
    yield Figure("a step of a swapped-in UNet / of diffusers' own load", program / bare, 1.02, detail=detail)
    del plain
    if plan.dtype != "bfloat16" or plan.device != "cpu":
        return
    exact = UNet2DConditionModel.from_pretrained(model.spec.path / "unet", dtype=torch.float32)
    slow, fast = _least(3, step(exact, 64), step(ours, 64))
    detail = f"{fast:.2f} s against {slow:.2f} s at 512 x 512; {slow / fast:.2f} times as fast"
    yield Figure("a step in bf16 / in float32, on the CPU", fast / slow, 1 / 3.2, detail=detail)
