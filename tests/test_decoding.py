"""A VAE that runs out of memory: what is tried in which order, that it is said, and that latents are kept.

The VAE is a real tiny one whose decoder's forward raises what torch raises, a given number of times.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from pipelines.budget import decoding
from pipelines.devices import DevicePlan
from pipelines.library.models import ASSETS
from tests.support import tiny

CPU = DevicePlan("cpu", "float32", False, "")
GPU = DevicePlan("cuda", "float32", False, "")  # nothing is moved to it here: only off it, to the processor


@contextmanager
def running_out(module: Any, times: int) -> Iterator[list[tuple[int, ...]]]:
    """`module` raises out of memory in its first calls; gives the shapes that it was called with."""
    seen: list[tuple[int, ...]] = []

    def refuse(_: Any, args: tuple[Any, ...]) -> None:
        seen.append(tuple(args[0].shape))
        if len(seen) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    handle = module.register_forward_pre_hook(refuse)
    try:
        yield seen
    finally:
        handle.remove()


def run(pipe: Any, **changes: Any) -> Any:
    call = {"width": 64, "height": 64, "num_inference_steps": 2, "output_type": "np"} | changes
    pipe.set_progress_bar_config(disable=True)
    return pipe("a house", generator=torch.Generator().manual_seed(1), **call).images[0]


MAKERS = {"sd": tiny.sd, "sdxl": tiny.sdxl, "flux": tiny.flux}


@pytest.fixture(scope="module", params=MAKERS)
def pipe(request: pytest.FixtureRequest) -> Any:
    return MAKERS[request.param]()


def test_nothing_changes_where_memory_suffices(pipe: Any):
    plain, told = run(pipe), []
    before = dict(pipe.vae.__dict__)
    with decoding.guarded(pipe, CPU, told.append):
        assert np.array_equal(run(pipe), plain)
    assert not told
    assert pipe.vae.__dict__ == before


@pytest.mark.parametrize(
    ("plan", "times", "how"),
    [(CPU, 1, "in tiles"), (CPU, 2, "in small tiles"), (GPU, 1, "in tiles"), (GPU, 2, "on the processor")],
    ids=lambda value: getattr(value, "device", str(value)),
)
def test_it_falls_back_by_itself_and_says_so(pipe: Any, plan: DevicePlan, times: int, how: str):
    plain, told = run(pipe), []
    before = dict(pipe.vae.__dict__)
    weights = {name: tensor.data_ptr() for name, tensor in pipe.vae.named_parameters()}
    with running_out(pipe.vae.decoder, times) as shapes, decoding.guarded(pipe, plan, told.append):
        found = run(pipe)
    assert told == [f"Memory ran out while a picture was decoded: it was decoded {how} instead."]
    assert found.shape == plain.shape
    assert np.isfinite(found).all()
    assert shapes[times][-1] <= shapes[0][-1]
    assert pipe.vae.__dict__.keys() == before.keys() and not pipe.vae.use_tiling
    assert weights == {name: tensor.data_ptr() for name, tensor in pipe.vae.named_parameters()}
    assert np.array_equal(run(pipe), plain)


def test_tiles_show_the_same_picture_as_the_whole():
    """The embedded model's VAE on a drawn picture, in tiles of half its size; measured: 34 dB alike."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(ASSETS / "starter/vae")
    with Image.open(ASSETS / "examples/cottage.png") as file:
        pixels = np.asarray(file.convert("RGB").resize((384, 384)), np.float32) / 127.5 - 1
    with torch.no_grad():
        latents = vae.encode(torch.from_numpy(pixels).permute(2, 0, 1)[None]).latent_dist.mean
        whole = vae.decode(latents).sample
        with decoding.tiled(vae, 192):
            assert vae.use_tiling
            tiles = vae.decode(latents).sample
    assert not vae.use_tiling
    assert tiles.shape == whole.shape
    difference = ((tiles - whole) ** 2 / 4).mean()
    assert difference > 0
    assert -10 * difference.log10() > 28


def test_a_vaes_tiles_are_never_larger_than_asked_for():
    vae = tiny.sdxl().vae  # its own tiles have 128 pixels
    assert vae.tile_sample_min_size == 128
    with decoding.tiled(vae, 64):
        assert (vae.tile_sample_min_size, vae.tile_latent_min_size) == (64, 32)
    assert (vae.tile_sample_min_size, vae.tile_latent_min_size) == (128, 64)


@pytest.mark.parametrize("plan", [CPU, GPU], ids=["cpu", "gpu"])
def test_latents_that_cannot_be_decoded_at_all_are_kept(plan: DevicePlan, tmp_path: Path):
    pipe, told = tiny.sd(), []
    wanted = run(pipe, output_type="latent")
    folder = tmp_path / "latents"
    about = {"prompt": "ein Häuschen", "seed": 1}
    with (
        running_out(pipe.vae.decoder, 99),
        decoding.guarded(pipe, plan, told.append, folder, about),
        pytest.raises(decoding.LatentsKept) as kept,
    ):
        run(pipe)
    assert list(folder.iterdir()) == [kept.value.path]
    assert str(kept.value.path) in str(kept.value)
    assert not told
    with safe_open(kept.value.path, "pt") as file:
        latents = file.get_tensor("latents")
        assert json.loads(file.metadata()["darkroom"]) == about
    assert torch.equal(latents[0], wanted / pipe.vae.config.scaling_factor)


def test_two_in_one_second_do_not_write_over_each_other(tmp_path: Path):
    paths = {decoding.keep(torch.zeros(1, 4, 2, 2), tmp_path, {}) for _ in range(3)}
    assert len(paths) == 3
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_without_a_folder_the_error_is_the_memorys():
    pipe = tiny.sd()
    with (
        running_out(pipe.vae.decoder, 99),
        decoding.guarded(pipe, CPU, lambda sentence: None),
        pytest.raises(torch.OutOfMemoryError),
    ):
        run(pipe)


def test_other_errors_are_not_swallowed_and_nothing_is_tried_again():
    pipe = tiny.sd()
    calls = []

    def broken(_: Any, args: Any) -> None:
        calls.append(1)
        raise RuntimeError("shapes do not match")

    handle = pipe.vae.decoder.register_forward_pre_hook(broken)
    with (
        decoding.guarded(pipe, CPU, lambda sentence: None),
        pytest.raises(RuntimeError, match="shapes do not match"),
    ):
        run(pipe)
    handle.remove()
    assert len(calls) == 1


@pytest.mark.parametrize(("plan", "times"), [(CPU, 1), (CPU, 2), (GPU, 2)], ids=str)
def test_encoding_survives_too(plan: DevicePlan, times: int):
    from diffusers import AutoPipelineForImage2Image

    pipe = AutoPipelineForImage2Image.from_pipe(tiny.sd(), torch_dtype=None)
    picture = Image.effect_noise((64, 64), 60).convert("RGB")
    told: list[str] = []
    with running_out(pipe.vae.encoder, times), decoding.guarded(pipe, plan, told.append):
        found = run(pipe, image=picture, strength=0.9, num_inference_steps=3, width=None, height=None)
    assert found.shape == (64, 64, 3)
    assert len(told) == 1 and "was read in by the VAE" in told[0]


def test_half_precision_is_decoded_in_float32_on_the_processor_and_comes_back():
    pipe = tiny.sd()
    pipe.vae.half()
    told: list[str] = []
    latents = torch.randn(1, 4, 16, 16).half()
    with running_out(pipe.vae.decoder, 2), decoding.guarded(pipe, GPU, told.append), torch.no_grad():
        found = pipe.vae.decode(latents).sample
    assert found.dtype == torch.float32
    assert pipe.vae.dtype == torch.float16
    assert told[0].endswith("on the processor instead.")


def test_a_vae_left_in_another_format_by_an_error_is_brought_back():
    pipe = tiny.sdxl()
    with pytest.raises(KeyError), decoding.guarded(pipe, CPU, lambda sentence: None):
        pipe.vae.to(torch.float64)
        raise KeyError
    assert pipe.vae.dtype == torch.float32


def test_a_pipeline_without_a_vae_is_left_alone():
    class Bare:
        pass

    with decoding.guarded(Bare(), CPU, lambda sentence: None):
        pass
