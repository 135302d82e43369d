"""Offload: which way is chosen and said, and that hooks change no bit of a picture and leave nothing."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.budget import offload
from pipelines.budget.memory import Memory
from pipelines.budget.offload import ORDER, Offload
from pipelines.devices import DevicePlan
from pipelines.library.models import ModelLibrary, ModelSpec
from pipelines.load import quantising
from tests.support import tiny
from tests.support.plain import as_ours

CPU = DevicePlan("cpu", "float32", False, "")
GPU = DevicePlan("cuda", "bfloat16", False, "")
GB = 1_000_000_000

SDXL = {"unet": 5.1, "text_encoder": 0.25, "text_encoder_2": 1.4, "vae": 0.17}
FLUX = {"transformer": 23.8, "text_encoder": 0.25, "text_encoder_2": 9.5, "vae": 0.17}


def sizes(of: Mapping[str, float]) -> dict[str, int]:
    return {name: int(amount * GB) for name, amount in of.items()}


def there(amount: float) -> Memory:
    return Memory(int(amount * GB), int(amount * GB), 64 * GB, 64 * GB)


class Spec(ModelSpec):
    """A model of which only its configurations count here."""

    def config(self, component: str) -> dict[str, Any]:
        return _CONFIGS[self.family].get(component, {})


_VAE = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "sample_size": 1024}
_CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "SDXL": {
        "vae": _VAE,
        "unet": {
            "block_out_channels": [320, 640, 1280],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "transformer_layers_per_block": [1, 2, 10],
            "cross_attention_dim": 2048,
        },
    },
    "Flux": {
        "vae": {**_VAE, "latent_channels": 16},
        "transformer": {
            "_class_name": "FluxTransformer2DModel",
            "num_layers": 19,
            "num_single_layers": 38,
            "attention_head_dim": 128,
            "num_attention_heads": 24,
        },
    },
}


def spec(family: str) -> ModelSpec:
    return Spec("x", family, "", Path("x"), family)


def chosen(
    family: str, of: Mapping[str, float], amount: float, plan: DevicePlan = GPU, **changes: Any
) -> Offload:
    request = tiny.request(**{"width": 1024, "height": 1024} | changes)
    return offload.choose(sizes(of), request, spec(family), plan, there(amount))


@pytest.mark.parametrize(
    ("family", "of", "amount", "mode"),
    [
        ("SDXL", SDXL, 24, "resident"),
        ("SDXL", SDXL, 8, "components"),
        ("SDXL", SDXL, 5, "groups"),
        ("SDXL", SDXL, 3.4, "sequential"),
        ("Flux", FLUX, 48, "resident"),
        ("Flux", FLUX, 32, "components"),
        ("Flux", FLUX, 16, "groups"),
        ("Flux", FLUX, 6, "groups"),
    ],
)
def test_the_fastest_way_that_fits_is_chosen(family, of, amount, mode):
    found = chosen(family, of, amount)
    assert found.mode == mode
    assert found.fits and found.bytes_needed <= amount * GB


def test_less_memory_never_gives_a_larger_way():
    ways = [chosen("SDXL", SDXL, amount / 2) for amount in range(60, 2, -1)]
    places = [ORDER.index(way.mode) for way in ways]
    assert places == sorted(places)
    assert set(places) == {0, 1, 2, 3}
    needs = [way.bytes_needed for way in ways if way.fits]
    assert needs == sorted(needs, reverse=True)


def test_the_sentence_says_which_and_why():
    assert chosen("SDXL", SDXL, 24).sentence == "Everything stays on the GPU."
    said = chosen("SDXL", SDXL, 8).sentence
    assert said.startswith("The text encoders will be offloaded, taking turns with UNet and VAE on the GPU: ")
    assert said.endswith("GB are there.")
    assert "block by block" in chosen("SDXL", SDXL, 5).sentence
    assert "layer by layer, which is slow" in chosen("SDXL", SDXL, 3.4).sentence
    assert "it may fail" in chosen("SDXL", SDXL, 0.5).sentence
    assert not chosen("SDXL", SDXL, 0.5).fits


def test_what_was_asked_for_wins_and_is_said():
    for mode in ORDER:
        found = chosen("SDXL", SDXL, 24, offload=mode)
        assert found.mode == mode
        assert "as asked for" in found.sentence
    short = chosen("SDXL", SDXL, 6, offload="resident")
    assert short.mode == "resident" and not short.fits
    assert "as asked for" in short.sentence and "it may fail" in short.sentence


def test_on_the_processor_everything_stays_and_it_is_said():
    assert chosen("SDXL", SDXL, 24, CPU).sentence == "Everything stays in memory."
    asked = chosen("SDXL", SDXL, 24, CPU, offload="groups")
    assert asked.mode == "resident"
    assert "where offloading saves nothing" in asked.sentence
    assert "it may fail" in chosen("SDXL", SDXL, 4, CPU).sentence


def test_tiles_come_where_memory_needs_them_and_above_a_size():
    assert not chosen("SDXL", SDXL, 80).tiled
    large = chosen("SDXL", SDXL, 80, width=2048, height=2048)
    assert large.tiled and "in tiles at this size" in large.sentence
    short = chosen("SDXL", {**SDXL, "unet": 1.0}, 2.3, offload="components")
    assert short.tiled and "in tiles to save memory" in short.sentence
    # On the processor, tiles are all that saves memory.
    assert chosen("SDXL", SDXL, 10.5, CPU).tiled
    assert not chosen("SDXL", SDXL, 20, CPU).tiled


def test_controlnets_count_and_run_beside_the_denoiser():
    plain = chosen("SDXL", SDXL, 10)
    led = chosen("SDXL", {**SDXL, "controlnet_0": 2.5}, 10)
    assert led.bytes_needed > plain.bytes_needed or ORDER.index(led.mode) > ORDER.index(plain.mode)


def test_the_next_stronger_way():
    way = Offload("resident", False, "")
    modes = []
    while (way_again := offload.stronger(way, GPU)) is not None:
        assert way_again.tiled and way_again.sentence
        way = way_again
        modes.append(way.mode)
    assert modes == ["components", "groups", "sequential"]
    once = offload.stronger(Offload("resident", False, ""), CPU)
    assert once is not None and once.tiled and once.mode == "resident"
    assert offload.stronger(once, CPU) is None


def test_a_run_that_runs_out_of_memory_is_begun_anew_once():
    tried: list[Offload] = []
    told: list[str] = []
    freed: list[int] = []

    def paint(way: Offload) -> str:
        tried.append(way)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return "painted"

    first = Offload("resident", False, "")
    assert offload.surviving(paint, first, GPU, told.append, lambda: freed.append(1)) == "painted"
    assert [way.mode for way in tried] == ["resident", "components"]
    assert freed == [1]
    assert told == [
        "Memory ran out during the run. The components take turns on the device now, "
        "and the run was begun anew."
    ]


def test_a_second_failure_and_other_errors_are_raised():
    def always(way: Offload) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def broken(way: Offload) -> None:
        raise KeyError("x")

    told: list[str] = []
    with pytest.raises(torch.OutOfMemoryError):
        offload.surviving(always, Offload("groups", True, ""), GPU, told.append, lambda: None)
    assert len(told) == 1
    with pytest.raises(torch.OutOfMemoryError):
        offload.surviving(always, Offload("sequential", True, ""), GPU, told.append, lambda: None)
    with pytest.raises(KeyError):
        offload.surviving(broken, Offload("resident", False, ""), GPU, told.append, lambda: None)
    assert len(told) == 1


# ------------------------------------------------------------------------------------------------ the hooks


def state_of(pipe: Any) -> list[Any]:
    """All that must be as it was: objects, addresses, strides, places and attributes of every module."""
    found: list[Any] = []
    for name, part in sorted(pipe.components.items()):
        if not isinstance(part, torch.nn.Module):
            continue
        for path, module in part.named_modules():
            found.append((name, path, id(module), sorted(module.__dict__), module.__dict__.get("forward")))
            for kind in (module._parameters, module._buffers):
                for key, tensor in kind.items():
                    if tensor is not None:
                        found.append((key, id(tensor), tensor.data_ptr(), tensor.stride(), tensor.device))
    return found


def run(pipe: Any, seed: int = 1) -> Any:
    pipe.set_progress_bar_config(disable=True)
    call = {"width": 64, "height": 64, "num_inference_steps": 2, "output_type": "np"}
    return pipe("a house", generator=torch.Generator().manual_seed(seed), **call).images[0]


MAKERS = {"sd": tiny.sd, "sdxl": tiny.sdxl, "flux": tiny.flux}


@pytest.fixture(scope="module", params=MAKERS)
def pipe(request: pytest.FixtureRequest) -> Any:
    made = MAKERS[request.param]()
    as_ours(made)
    return made


@pytest.fixture(scope="module")
def resident(pipe: Any) -> Any:
    return run(pipe)


@pytest.mark.parametrize("mode", ORDER)
def test_every_way_gives_the_same_bits_and_leaves_everything_as_it_was(mode: str, pipe: Any, resident: Any):
    before = state_of(pipe)
    with offload.apply(pipe, Offload(mode, False, ""), CPU):
        during = state_of(pipe)
        assert (during == before) == (mode == "resident")
        assert np.array_equal(run(pipe), resident)
    assert state_of(pipe) == before
    assert np.array_equal(run(pipe), resident)


@pytest.mark.parametrize("mode", ["components", "groups"])
def test_an_error_in_the_run_leaves_everything_as_it_was_too(mode: str):
    pipe = tiny.sd()
    before, wanted = state_of(pipe), run(pipe)
    with pytest.raises(KeyError), offload.apply(pipe, Offload(mode, True, ""), CPU):
        run(pipe)
        raise KeyError
    assert state_of(pipe) == before
    assert np.array_equal(run(pipe), wanted)


@pytest.mark.parametrize("mode", ORDER[1:])
def test_quantised_weights_are_offloaded_like_any(mode: str):
    pipe = tiny.flux()
    assert quantising.quantise(pipe.transformer, "int8")
    wanted = run(pipe)
    before = state_of(pipe)
    with offload.apply(pipe, Offload(mode, False, ""), CPU):
        assert np.array_equal(run(pipe), wanted)
    assert state_of(pipe) == before


def test_tiles_are_on_inside_and_off_afterwards():
    pipe = tiny.sd()
    with offload.apply(pipe, Offload("resident", True, ""), CPU):
        assert pipe.vae.use_tiling
    assert not pipe.vae.use_tiling


def test_components_take_turns(monkeypatch: pytest.MonkeyPatch):
    """The order of moves in an image to image run, where the VAE comes first and last."""
    from diffusers import AutoPipelineForImage2Image
    from PIL import Image

    base = tiny.sd()
    pipe = AutoPipelineForImage2Image.from_pipe(base, torch_dtype=None)
    pipe.set_progress_bar_config(disable=True)
    names = {id(part): name for name, part in base.components.items()}
    moves: list[str] = []
    bring = offload._Kept.bring

    def watched(kept: Any, module: Any, device: Any) -> None:
        moves.append(names[id(module)])
        bring(kept, module, device)

    monkeypatch.setattr(offload._Kept, "bring", watched)
    with offload.apply(base, Offload("components", False, ""), CPU):
        pipe("a house", Image.new("RGB", (64, 64)), num_inference_steps=3, strength=0.7)
    # Each comes once, and goes when another phase begins: text, picture in, painting, picture out.
    assert moves == ["text_encoder", "text_encoder", "vae", "vae", "unet", "unet", "vae"]


@pytest.mark.parametrize(
    ("control", "mode"),
    [
        ("sd-canny", "components"),
        ("sd-canny", "groups"),
        ("sd-adapter", "components"),
        ("sd-adapter", "sequential"),
    ],
)
def test_control_networks_are_offloaded_with_the_denoiser(mode: str, control: str, tiny_controls: Path):
    from PIL import Image

    from pipelines.controlnet.control import ControlLibrary
    from pipelines.controlnet.control_networks import control_kwargs, load, view

    library = ModelLibrary([tiny_controls])
    spec = ControlLibrary([tiny_controls], library.assets, library).find(control)
    base = tiny.sd(attentive_first="adapter" in control)
    network = load(spec, base, torch.float32, "cpu")
    key = "0" * 32
    unit = tiny.request(controls=[{"model": control, "map_image": key}]).controls[0]
    drawn = Image.effect_noise((64, 64), 80).convert("RGB")

    def led() -> Any:
        pipe = view(base, "text2image", [network])
        pipe.set_progress_bar_config(disable=True)
        call = control_kwargs(pipe, [unit], [drawn], [spec])
        call |= {"width": 64, "height": 64, "num_inference_steps": 2, "output_type": "np"}
        return pipe("a house", generator=torch.Generator().manual_seed(1), **call).images[0]

    wanted = led()
    before = state_of(base)
    with offload.apply(base, Offload(mode, False, ""), CPU, [network]):
        assert np.array_equal(led(), wanted)
    assert state_of(base) == before
    assert np.array_equal(led(), wanted)


def test_a_lora_that_is_on_is_offloaded_with_its_module():
    from peft import LoraConfig

    pipe = tiny.sd()
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    wanted = run(pipe)
    for mode in ORDER[1:]:
        with offload.apply(pipe, Offload(mode, False, ""), CPU):
            assert np.array_equal(run(pipe), wanted), mode


def test_a_plan_is_not_changed_by_choosing():
    plan = replace(GPU)
    chosen("SDXL", SDXL, 8, plan)
    assert plan == GPU
