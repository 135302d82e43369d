"""Random swaps among tiny models with LoRAs and ControlNets: `python -m tests.soak --swaps 200`.

Every picture is held to the first of its kind, and when all is let go of, the memory of the process is what
it was before (within 3%), and with `--device cuda` the bytes on the GPU are exactly what they were.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
MODELS = ("sd", "sd-v", "sdxl", "sd-inpaint", "sd3", "flux")
CONTROLS = {
    "sd": ("sd-canny", "sd-pose"),
    "sd-v": ("sd-canny",),
    "sdxl": ("sdxl-canny",),
    "flux": ("flux-canny",),
}
WITH_LORA = ("sd", "sd-v", "sdxl", "flux")
ROOM = 3_000_000
"""Bytes for components: one or two of the models with a ControlNet, so that many swaps evict."""
GOAL = 1.03


@dataclass(frozen=True)
class Soaked:
    """before, after: resident bytes of the process with nothing loaded. most: components' bytes at the most.
    evicted: how many components went. wrong: pictures that were not what they were the first time. left: how
    many bytes more than before are on the GPU with nothing loaded."""

    swaps: int
    before: int
    after: int
    most: int
    evicted: int
    wrong: int
    seconds: float
    left: int = 0

    @property
    def ratio(self) -> float:
        return self.after / self.before

    @property
    def met(self) -> bool:
        return self.ratio <= GOAL and not self.wrong and self.most <= ROOM and self.left == 0

    def line(self) -> str:
        met = "met" if self.met else "SHORT"
        return (
            f"{self.swaps} swaps in {self.seconds:.0f} s: {self.before / 1e6:.1f} MB before, "
            f"{self.after / 1e6:.1f} MB after, ratio {self.ratio:.4f} (goal at most {GOAL}); at most "
            f"{self.most / 1e6:.1f} of {ROOM / 1e6:.0f} MB of components, {self.evicted} evicted, "
            f"{self.wrong} wrong pictures, {self.left} bytes more on the GPU: {met}"
        )


def build(folder: Path) -> Path:
    """The models folder of the soak."""
    from tests.support import loras, tiny

    tiny.save_all(folder, MODELS)
    tiny.save_controls(folder)
    for key in WITH_LORA:
        pipe = {"sd-v": tiny.sd}.get(key, getattr(tiny, key.split("-")[0]))()
        for number in range(2):
            halves = loras.halves(loras.components(pipe), seed=number)
            loras.save(loras.as_peft(halves), folder / f"loras/{key}-{number}.safetensors")
    return folder


def soak(models: Path, data: Path, swaps: int, seed: int = 0, device: str = "cpu") -> Soaked:
    """Runs `swaps` requests, each on another model than the last. models: as `build` makes it."""
    from pipelines import devices
    from pipelines.library.models import ModelLibrary
    from pipelines.load.components import Budgets
    from pipelines.manager import PipelineManager
    from pipelines.outputs import Outputs
    from pipelines.pictures import PictureStore

    manager = PipelineManager(
        ModelLibrary([models]),
        devices.choose(device, "float32"),
        Outputs(data / "outputs"),
        PictureStore(data / "inputs"),
    )
    manager.models.cache.budgets = lambda: Budgets(ROOM, ROOM)
    gone: list[str] = []
    forget = manager.models.cache._evicted
    manager.models.cache._evicted = lambda key: (gone.append(key), forget(key))
    given = _pictures(manager)
    for model in MODELS:  # what is made once and stays: libraries' tables, kernels, buffers
        for lora in (True, False):
            _paint(manager, _request(model, given, lora, bool(CONTROLS.get(model)), 0))
    before, on_gpu = _let_go(manager), _on_gpu()
    draw = random.Random(seed)
    first: dict[Any, bytes] = {}
    wrong = most = 0
    last = ""
    began = time.perf_counter()
    for _ in range(swaps):
        model = draw.choice([key for key in MODELS if key != last])
        request = _request(
            model, given, draw.random() < 0.5, draw.random() < 0.5 and model in CONTROLS, draw.randrange(2)
        )
        painted = _paint(manager, request)
        wrong += first.setdefault(request, painted) != painted
        most = max(most, sum(one.bytes for one in manager.status().components))
        last = model
    taken = time.perf_counter() - began
    after = _let_go(manager)
    return Soaked(swaps, before, after, most, len(gone), wrong, taken, _on_gpu() - on_gpu)


def _pictures(manager: Any) -> dict[str, str]:
    import io

    import numpy as np
    from PIL import Image

    keys = {}
    for name, seed in (("image", 1), ("map", 2)):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        keys[name] = manager.store.put(buffer.getvalue()).key
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    buffer = io.BytesIO()
    mask.convert("RGB").save(buffer, "PNG")
    keys["mask"] = manager.store.put(buffer.getvalue()).key
    return keys


def _request(model: str, given: dict[str, str], lora: bool, control: bool, variant: int) -> Any:
    from tests.support import tiny

    more: dict[str, Any] = {}
    if lora and model in WITH_LORA:
        more["loras"] = [{"name": f"{model}-{variant}", "weight": 0.7}]
    if control:
        names = CONTROLS[model]
        more["controls"] = [{"model": names[variant % len(names)], "map_image": given["map"]}]
    if model == "sd-inpaint":
        more |= {"image": given["image"], "mask_image": given["mask"], "strength": 1.0}
    return tiny.request(model=model, num_inference_steps=2, scheduler="Euler", seed=variant, **more)


def _paint(manager: Any, request: Any) -> bytes:
    from PIL import Image

    from pipelines.run import Control

    path = Path(manager.run(request, lambda event: None, Control()).pictures[0].path)
    with Image.open(path) as picture:
        pixels = picture.tobytes()
    path.unlink()
    return pixels


def _let_go(manager: Any) -> int:
    """Resident bytes of this process with nothing loaded."""
    import psutil

    manager.unload_all()
    return int(psutil.Process().memory_info().rss)


def _on_gpu() -> int:
    """Bytes of this process's tensors on the GPU; 0 without one."""
    import torch

    return torch.cuda.memory_allocated()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library_logging in (diffusers_logging, transformers_logging):
        library_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as place:
        models, data = build(Path(place) / "models"), Path(place) / "data"
        soaked = soak(models, data, options.swaps, options.seed, options.device)
    print(soaked.line())
    return int(not soaked.met)


if __name__ == "__main__":
    sys.exit(main())
