"""LoRAs beside ControlNets and T2I-Adapters: each counts as it does alone, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pipelines import devices
from pipelines.controlnet import control
from pipelines.library.models import ModelLibrary
from pipelines.manager import PipelineManager
from pipelines.outputs import Outputs
from pipelines.pictures import PictureStore
from pipelines.run import Control
from tests.support import loras as made
from tests.support import tiny


def shown() -> Image.Image:
    return Image.linear_gradient("L").resize((64, 64)).convert("RGB")


def latents(pipe: Any) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    call = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "latent"}
    found: torch.Tensor = pipe("a house", image=shown(), generator=generator, **call).images
    return found


def test_a_lora_beside_control(tiny_controls: Path, tmp_path: Path) -> None:
    import diffusers

    unet = tiny.sd().unet
    file = made.save(made.as_peft(made.halves({"unet": unet})), tmp_path / "loras/ink.safetensors")
    library = ModelLibrary([tiny_controls, tmp_path])
    plan = devices.choose("cpu", "float32")
    manager = PipelineManager(library, plan, Outputs(tmp_path / "out"), PictureStore(tmp_path / "in"))
    model = manager.load("sd")
    network = manager.load_control(manager.controls.find("sd-canny"), model)
    view = control.view(model.pipeline, "text2image", [network], model.pipeline.scheduler)
    before = latents(view)
    with manager.adapters.active(model, tiny.request(loras=[{"name": "ink", "weight": 0.6}])):
        led = latents(control.view(model.pipeline, "text2image", [network], model.pipeline.scheduler))
    plain = diffusers.StableDiffusionControlNetPipeline.from_pretrained(
        tiny_controls / "sd",
        controlnet=diffusers.ControlNetModel.from_pretrained(tiny_controls / "ControlNet/sd-canny"),
        safety_checker=None,
    )
    plain.load_lora_weights(str(file), adapter_name="x")
    plain.set_adapters("x", 0.6)
    assert torch.equal(led, latents(plain))
    assert not torch.allclose(led, before, atol=1e-2)
    assert torch.equal(before, latents(view))

    # A T2I-Adapter hooks a second handle of the same denoiser.
    other = tiny.sd(attentive_first=True).unet
    made.save(made.as_peft(made.halves({"unet": other})), tmp_path / "loras/other.safetensors")
    key = manager.store.put(_png()).key
    unit = {"model": "sd-adapter", "map_image": key}
    seen = {}
    for name, extra in {
        "neither": {},
        "control": {"controls": [unit]},
        "lora": {"loras": [{"name": "other", "weight": 0.6}]},
        "both": {"controls": [unit], "loras": [{"name": "other", "weight": 0.6}]},
        "control again": {"controls": [unit]},
    }.items():
        asked = tiny.request(model="sd-adapted", num_inference_steps=2, **extra)
        seen[name] = manager.run(asked, lambda event: None, Control()).pictures[0].preview
    assert seen["control"] == seen["control again"]
    assert len(set(seen.values())) == 4


def _png() -> bytes:
    import io

    buffer = io.BytesIO()
    shown().save(buffer, "PNG")
    return buffer.getvalue()
