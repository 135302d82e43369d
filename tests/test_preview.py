"""The cheap picture of a latent: right colours, any dtype, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipelines import devices
from pipelines.preview import LatentToRGB, jpeg
from tests.support import tiny


def test_a_kept_map_is_applied(tmp_path: Path) -> None:
    file = tmp_path / "latent_rgb.json"
    file.write_text(
        json.dumps({"m": {"weight": [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], "bias": [0, 0, 0.5]}})
    )
    to_rgb = LatentToRGB.load(file, "m")
    assert to_rgb is not None
    latents = torch.zeros(4, 2, 3, dtype=torch.bfloat16)
    latents[0, 0, 0], latents[1, 1, 2], latents[2] = 1.0, 9.0, -2.0
    picture = to_rgb(latents)
    assert picture.size == (3, 2)
    assert picture.getpixel((0, 0)) == (255, 0, 0) and picture.getpixel((2, 1)) == (0, 255, 0)
    assert LatentToRGB.load(file, "other") is None
    assert LatentToRGB.load(tmp_path / "none.json", "m") is None


def test_a_fitted_map_is_the_best_linear_one() -> None:
    """A VAE that only averages and mixes colours is linear, so the fit must find it exactly."""

    class Mixing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = torch.nn.Conv2d(3, 4, 2, stride=2, bias=True)
            torch.nn.init.zeros_(self.mix.weight)
            with torch.no_grad():
                self.mix.weight[:3] = torch.tensor([[2.0, 1, 0], [0, 1, 1], [1, 0, 1]])[:, :, None, None] / 4
            self.config = type("Config", (), {"block_out_channels": [1, 1], "scaling_factor": 0.5})()

        def encode(self, pictures: torch.Tensor) -> object:
            mean = self.mix(pictures)
            return type("Encoded", (), {"latent_dist": type("Dist", (), {"mean": mean})})()

    vae = Mixing()
    to_rgb = LatentToRGB.fit(vae)
    colour = torch.tensor([0.2, 0.4, 0.8])
    with torch.no_grad():
        latent = vae.mix((colour * 2 - 1).reshape(1, 3, 1, 1).expand(1, 3, 2, 2))[0] * 0.5
    assert to_rgb(latent).getpixel((0, 0)) == (51, 102, 204)


def test_a_real_vae_can_be_fitted() -> None:
    to_rgb = LatentToRGB.fit(tiny.sd().vae)
    assert to_rgb.weight.shape == (4, 3) and bool(torch.isfinite(to_rgb.weight).all())
    assert to_rgb(torch.randn(4, 32, 32)).size == (32, 32)


def test_jpegs_are_small_and_keep_colour() -> None:
    data = jpeg(Image.new("RGB", (64, 64), (200, 30, 40)))
    assert data.startswith(b"\xff\xd8") and len(data) < 2000


def test_the_device_is_chosen_and_told() -> None:
    plan = devices.choose("cpu")
    assert plan.device == "cpu" and plan.dtype in ("float32", "bfloat16")
    assert plan.sentence.startswith("Runs on the processor in ") and plan.badge.startswith("CPU, ")
    assert devices.choose("cpu", "float32").torch_dtype is torch.float32
    assert "as asked for" in devices.choose("cpu", "float32").sentence


@pytest.mark.parametrize(
    ("device", "dtype", "words"), [("warp", "auto", "no device"), ("cpu", "int3", "no number format")]
)
def test_devices_that_are_not_there_are_refused(device: str, dtype: str, words: str) -> None:
    with pytest.raises(devices.NoSuchDevice, match=words):
        devices.choose(device, dtype)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told() -> None:
    with pytest.raises(devices.NoSuchDevice, match="torch finds no CUDA GPU here"):
        devices.choose("cuda")
