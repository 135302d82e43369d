"""LoRAs of a run, held against plain diffusers calls, and what they leave behind: nothing."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import devices
from pipelines.events import Finished, Loading
from pipelines.library.models import ModelLibrary
from pipelines.lora.adapter_loading import identity_of
from pipelines.lora.adapter_names import original_unet_names
from pipelines.lora.adapter_slots import Limits
from pipelines.lora.adapters import Adapters, factor_at, known, wanted
from pipelines.manager import PipelineManager
from pipelines.outputs import Outputs
from pipelines.pictures import PictureStore
from pipelines.request import GenerationRequest, InvalidRequest, LoraWeight
from pipelines.run import Control
from tests.support import loras as made
from tests.support import tiny

KINDS = ("sd", "sdxl", "sd3", "flux")


def pipeline(kind: str) -> Any:
    pipe = getattr(tiny, kind)()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def original(pipe: Any) -> Any:
    return lambda name: next(original_unet_names(name, pipe.unet.config))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder: tiny models of four families, and LoRAs for them in every layout."""
    folder = tiny.save_all(tmp_path_factory.mktemp("shelf"), KINDS)
    for kind in KINDS:
        pipe = pipeline(kind)
        halves = made.halves(made.components(pipe))
        made.save(made.as_peft(halves), folder / f"loras/{kind}-peft.safetensors")
        if kind == "sd":
            made.save(made.as_kohya(halves), folder / "loras/sd-kohya.safetensors")
            made.save(made.as_old_diffusers(halves), folder / "loras/sd-old.safetensors")
        if kind == "sdxl":
            sgm = made.as_kohya(halves, rename=original(pipe))
            made.save(sgm, folder / "loras/sdxl-sgm.safetensors")
        if kind == "sd":
            for number in range(9):
                other = made.halves(made.components(pipe), seed=20 + number, size=0.2)
                made.save(made.as_peft(other), folder / f"loras/many/one {number}.v1 🎈.safetensors")
            loha = {}
            for name, layer in made.layers(pipe.unet).items():
                for half in ("w1", "w2"):
                    loha[f"lora_unet_{name.replace('.', '_')}.hada_{half}_a"] = torch.randn(
                        layer.weight.shape[0], 2
                    )
                    loha[f"lora_unet_{name.replace('.', '_')}.hada_{half}_b"] = torch.randn(
                        2, layer.weight.shape[1]
                    )
            made.save(loha, folder / "loras/sd-loha.safetensors")
            broken = made.as_peft(halves)
            next(iter(broken.values()))[0, 0] = float("nan")
            made.save(broken, folder / "loras/broken/nan.safetensors")
            short = {**made.as_peft(halves)}
            key = next(name for name in short if "to_q.lora_A" in name)
            short[key] = torch.ones(3, 5)
            made.save(short, folder / "loras/broken/shapes.safetensors")
            half = {name: part for name, part in made.as_peft(halves).items() if ".lora_B" not in name}
            made.save(half, folder / "loras/broken/halves.safetensors")
            whole = (folder / "loras/sd-peft.safetensors").read_bytes()
            (folder / "loras/broken/cut.safetensors").write_bytes(whole[:-100])
    return folder


@pytest.fixture(scope="module")
def manager(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> PipelineManager:
    data = tmp_path_factory.mktemp("data")
    plan = devices.choose("cpu", "float32")
    return PipelineManager(ModelLibrary([shelf]), plan, Outputs(data / "out"), PictureStore(data / "in"))


@pytest.fixture(autouse=True)
def clean(manager: PipelineManager) -> Iterator[None]:
    """After each test every model is what it was before: nothing counts, nothing is left switched on."""
    yield
    for slots in manager.adapters._slots.values():
        assert slots._set == ()
        assert not slots._hooks
        assert all(layer.disable_adapters for layer in slots.layers())


def request(model: str = "sd", **changes: Any) -> GenerationRequest:
    return tiny.request(model=model, num_inference_steps=2, **changes)


def latents(pipe: Any, **changes: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    call = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "latent", **changes}
    found: torch.Tensor = pipe("a house", generator=generator, **call).images
    return found


def painted(manager: PipelineManager, asked: GenerationRequest) -> tuple[np.ndarray, Finished, list[Any]]:
    events: list[Any] = []
    finished = manager.run(asked, events.append, Control())
    return np.asarray(Image.open(finished.pictures[0].path)), finished, events


FILES = [
    *[(kind, f"{kind}-peft") for kind in KINDS],
    *[("sd", "sd-kohya"), ("sd", "sd-old"), ("sdxl", "sdxl-sgm")],
]


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_a_lora_is_diffusers_own_and_leaves_nothing(
    kind: str, name: str, manager: PipelineManager, shelf: Path
) -> None:
    model = manager.load(kind)
    base = latents(model.pipeline)
    with manager.adapters.active(model, request(kind, loras=[{"name": name, "weight": 0.7}])) as active:
        assert not active.notes
        changed = latents(model.pipeline)
    plain = pipeline(kind)
    plain.load_lora_weights(str(shelf / f"loras/{name}.safetensors"), adapter_name="x")
    plain.set_adapters("x", 0.7)
    assert torch.equal(changed, latents(plain))
    assert not torch.allclose(changed, base, atol=1e-2)
    assert torch.equal(latents(model.pipeline), base)


def test_weights_of_text_and_picture_apart(manager: PipelineManager, shelf: Path) -> None:
    model = manager.load("sd")
    lora = {"name": "sd-kohya", "weight": -0.5, "text_weight": 1.5}
    with manager.adapters.active(model, request(loras=[lora, {"name": "sd-peft", "weight": 0.25}])):
        changed = latents(model.pipeline)
    plain = pipeline("sd")
    for name in ("kohya", "peft"):
        plain.load_lora_weights(str(shelf / f"loras/sd-{name}.safetensors"), adapter_name=name)
    plain.set_adapters(["kohya", "peft"], [{"unet": -0.5, "text_encoder": 1.5}, 0.25])
    assert torch.equal(changed, latents(plain))


def test_prompt_and_picker_say_the_same(manager: PipelineManager, shelf: Path) -> None:
    """The picture of a tag is the picture of the picker's, and both are the plain call's."""
    tagged, finished, _ = painted(manager, request(prompt="a house<lora:sd-kohya:0.5:0.8>"))
    picked, other, _ = painted(
        manager,
        request(loras=[{"name": "sd-kohya", "weight": 0.8, "text_weight": 0.5}]),
    )
    named, _, _ = painted(manager, request(prompt="a house<lyco:sd-kohya:unet=0.8:te=0.5>"))
    assert np.array_equal(tagged, picked)
    assert np.array_equal(tagged, named)
    digits = manager.library.addon("lora", "sd-kohya").hash
    assert len(digits) == 12
    for one in (finished, other):
        assert f'Lora hashes: "sd-kohya: {digits}"' in one.pictures[0].parameters
        assert "<lora:sd-kohya:0.5:0.8>" in one.pictures[0].parameters
    base, _, _ = painted(manager, request())
    assert not np.array_equal(tagged, base)


def test_one_in_both_adds_up(manager: PipelineManager) -> None:
    model = manager.load("sd")
    both = request(prompt="a house <lora:sd-peft:0.3>", loras=[{"name": "sd-peft", "weight": 0.4}])
    with manager.adapters.active(model, both) as active:
        assert active.prompt == "a house "
        changed = latents(model.pipeline)
    with manager.adapters.active(model, request(loras=[{"name": "sd-peft", "weight": 0.7}])):
        assert torch.equal(changed, latents(model.pipeline))


def test_ten_at_once(manager: PipelineManager, shelf: Path) -> None:
    model = manager.load("sd")
    base = latents(model.pipeline)
    names = ["sd-peft", *[f"many/one {number}.v1 🎈" for number in range(9)]]
    asked = [{"name": name, "weight": 0.1 * (1 + place)} for place, name in enumerate(names)]
    with manager.adapters.active(model, request(loras=asked)):
        changed = latents(model.pipeline)
    plain = pipeline("sd")
    for place, name in enumerate(names):
        plain.load_lora_weights(str(shelf / f"loras/{name}.safetensors"), adapter_name=f"n{place}")
    plain.set_adapters([f"n{place}" for place in range(10)], [one["weight"] for one in asked])
    assert torch.equal(changed, latents(plain))
    assert torch.equal(latents(model.pipeline), base)


def test_lycoris_beside_lora(manager: PipelineManager, shelf: Path) -> None:
    """A LoHa counts beside a LoRA in either order of loading, and leaves nothing."""
    from safetensors.torch import load_file

    model = manager.load("sd")
    base = latents(model.pipeline)
    asked = request(loras=[{"name": "sd-loha", "weight": 0.3}, {"name": "sd-old", "weight": 0.6}])
    with manager.adapters.active(model, asked):
        changed = latents(model.pipeline)
    assert torch.equal(latents(model.pipeline), base)

    plain = pipeline("sd")
    parts = load_file(shelf / "loras/sd-loha.safetensors")
    with torch.no_grad():
        for name, layer in made.layers(plain.unet).items():
            key = f"lora_unet_{name.replace('.', '_')}.hada"
            sides = [parts[f"{key}_{half}_a"] @ parts[f"{key}_{half}_b"] for half in ("w1", "w2")]
            layer.weight += 0.3 * sides[0] * sides[1]
    plain.load_lora_weights(str(shelf / "loras/sd-old.safetensors"), adapter_name="x")
    plain.set_adapters("x", 0.6)
    torch.testing.assert_close(changed, latents(plain), rtol=1e-3, atol=1e-3)


def test_loaded_once(manager: PipelineManager) -> None:
    _, _, first = painted(manager, request(loras=[{"name": "many/one 8.v1 🎈", "weight": 0.5}]))
    _, _, again = painted(manager, request(loras=[{"name": "many/one 8.v1 🎈", "weight": 0.9}]))
    told = [event.message for event in again if isinstance(event, Loading)]
    assert not told
    assert sum(isinstance(event, Loading) for event in first) <= 2


# ------------------------------------------------------------------------------------- over the steps


def test_share_of_the_steps() -> None:
    lora = LoraWeight(name="a", start=0.25, end=0.75, points=((0.25, 0.0), (0.5, 1.0), (0.75, -1.0)))
    assert [factor_at(lora, step, 8) for step in range(8)] == [0, 0, 0.0, 0.5, 1.0, 0.0, 0, 0]
    plain = LoraWeight(name="a")
    assert {factor_at(plain, step, 5) for step in range(5)} == {1.0}


def test_weights_change_over_the_steps(manager: PipelineManager, shelf: Path) -> None:
    """Against diffusers with its weights set anew in its own callback."""
    curve = {"name": "sd-peft", "weight": 0.8, "text_weight": 0, "points": [[0, 1], [0.5, 0.5], [1, 0.5]]}
    late = {"name": "sd-old", "weight": 0.6, "start": 0.5}
    model = manager.load("sd")
    with manager.adapters.active(model, request(loras=[curve, late])) as active:
        active.at_step(0, 4)

        def follow(pipe: Any, index: int, timestep: Any, tensors: Any) -> Any:
            active.at_step(index + 1, 4)
            return tensors

        changed = latents(model.pipeline, num_inference_steps=4, callback_on_step_end=follow)

    plain = pipeline("sd")
    for name in ("peft", "old"):
        plain.load_lora_weights(str(shelf / f"loras/sd-{name}.safetensors"), adapter_name=name)

    def weigh(step: int) -> None:
        first = 0.8 * (1 - step * 0.25 if step < 2 else 0.5)
        names = ["peft", "old"] if step >= 2 else ["peft"]
        plain.unet.set_adapters(names, [first, 0.6][: len(names)])

    def plainly(pipe: Any, index: int, timestep: Any, tensors: Any) -> Any:
        weigh(index + 1)
        return tensors

    plain.set_adapters(["peft"], [{"unet": 1, "text_encoder": 0}])
    weigh(0)
    want = latents(plain, num_inference_steps=4, callback_on_step_end=plainly)
    assert torch.equal(changed, want)


def test_a_curve_begins_anew_with_each_picture(manager: PipelineManager) -> None:
    late = {"name": "sd-peft", "weight": 0.8, "end": 0.5}
    events: list[Any] = []
    finished = manager.run(request(loras=[late], num_images_per_prompt=2), events.append, Control())
    alone, _, _ = painted(manager, request(loras=[late], seed=2))
    assert np.array_equal(np.asarray(Image.open(finished.pictures[1].path)), alone)


# ----------------------------------------------------------------------------------------- hot swap


def test_a_lora_of_equal_shapes_takes_the_place_of_another(manager: PipelineManager, shelf: Path) -> None:
    model = manager.load("sd")
    few = Adapters(manager.library, Limits(number=1))
    pipe = pipeline("sd")
    model = type(model)(model.spec, pipe, model.to_rgb, model.short_hash)
    names = ["many/one 0.v1 🎈", "many/one 1.v1 🎈"]
    for name in names:
        with few.active(model, request(loras=[{"name": name, "weight": 0.5}])):
            swapped = latents(pipe)
    slots = few.slots(pipe.unet)
    (identity,) = slots.held
    assert identity == identity_of(shelf / f"loras/{names[1]}.safetensors")
    assert slots.held[identity].name == identity_of(shelf / f"loras/{names[0]}.safetensors")

    plain = pipeline("sd")
    plain.load_lora_weights(str(shelf / f"loras/{names[1]}.safetensors"), adapter_name="x")
    plain.set_adapters("x", 0.5)
    assert torch.equal(swapped, latents(plain))


def test_a_swap_tells_alphas(manager: PipelineManager, tmp_path: Path) -> None:
    pipe = pipeline("sd")
    halves = made.halves({"unet": pipe.unet})
    for name, alpha in (("first", 1.0), ("second", 6.0)):
        made.save(made.as_kohya(halves, alpha), tmp_path / f"loras/{name}.safetensors")
    loaded = manager.load("sd")
    model = type(loaded)(loaded.spec, pipe, loaded.to_rgb, loaded.short_hash)
    few = Adapters(ModelLibrary([tmp_path]), Limits(number=1))
    for name in ("first", "second"):
        with few.active(model, request(loras=[{"name": name, "weight": 0.5}])):
            swapped = latents(pipe)
    plain = pipeline("sd")
    plain.load_lora_weights(str(tmp_path / "loras/second.safetensors"), adapter_name="x")
    plain.set_adapters("x", 0.5)
    assert torch.equal(swapped, latents(plain))


def test_what_is_not_used_goes_first(manager: PipelineManager) -> None:
    pipe = pipeline("sd")
    loaded = manager.load("sd")
    model = type(loaded)(loaded.spec, pipe, loaded.to_rgb, loaded.short_hash)
    base = latents(pipe)
    few = Adapters(manager.library, Limits(number=2))
    for names in (["sd-peft", "sd-loha"], ["sd-old", "sd-loha"], ["sd-old", "sd-kohya"]):
        with few.active(model, request(loras=[{"name": name} for name in names])):
            pass
        assert {manager.library.addon("lora", name).path for name in names} == {
            manager.library.addon("lora", name).path
            for name in ("sd-peft", "sd-loha", "sd-old", "sd-kohya")
            if identity_of(manager.library.addon("lora", name).path) in few.slots(pipe.unet).held
        }
    assert torch.equal(latents(pipe), base)


# ------------------------------------------------------------------------------------------ broken ones


@pytest.mark.parametrize("name", ["nan", "shapes", "halves", "cut"])
@pytest.mark.parametrize("field", ["loras", "prompt"])
def test_a_broken_one_is_told_and_changes_nothing(name: str, field: str, manager: PipelineManager) -> None:
    model = manager.load("sd")
    base = latents(model.pipeline)
    good = {"name": "sd-old", "weight": 0.5}
    asked = (
        request(loras=[good, {"name": f"broken/{name}"}])
        if field == "loras"
        else request(prompt=f"a house <lora:broken/{name}:1>", loras=[good])
    )
    with pytest.raises(InvalidRequest) as told, manager.adapters.active(model, asked):
        raise AssertionError("A broken LoRA was taken.")
    assert list(told.value.problems) == [field]
    assert name in told.value.problems[field] or "called" in told.value.problems[field]
    assert torch.equal(latents(model.pipeline), base)
    with manager.adapters.active(model, request(loras=[good])):
        assert not torch.equal(latents(model.pipeline), base)


def test_unknown_and_misfitting_ones_are_told(manager: PipelineManager) -> None:
    from pipelines.lora.adapters import check

    library, spec = manager.library, manager.library.find("sd")
    with pytest.raises(InvalidRequest) as told:
        check(request(loras=[{"name": "sd-kohia"}]), spec, library)
    assert "sd-kohya" in told.value.problems["loras"]
    with pytest.raises(InvalidRequest) as told:
        check(request(prompt="a <lora:sd-kohia:1>"), spec, library)
    assert "sd-kohya" in told.value.problems["prompt"]
    for written in ("<lora:sd-peft:strong>", "<lora:>", "<lora:sd-peft:1:1:1:1>", "<lora:sd-peft:99>"):
        with pytest.raises(InvalidRequest) as told:
            check(request(prompt=f"a {written}"), spec, library)
        assert "<lora" in told.value.problems["prompt"]
    with pytest.raises(InvalidRequest) as told:
        check(request(loras=[{"name": "sdxl-sgm"}]), spec, library)
    assert "SDXL" in told.value.problems["loras"]


def test_a_file_that_changed_is_loaded_anew(manager: PipelineManager, tmp_path: Path) -> None:
    pipe = pipeline("sd")
    loaded = manager.load("sd")
    model = type(loaded)(loaded.spec, pipe, loaded.to_rgb, loaded.short_hash)
    few = Adapters(ModelLibrary([tmp_path]))
    seen = []
    for seed in (1, 2):
        made.save(made.as_peft(made.halves({"unet": pipe.unet}, seed=seed)), tmp_path / "loras/a.safetensors")
        os.utime(tmp_path / "loras/a.safetensors", ns=(seed * 10**9, seed * 10**9))
        with few.active(model, request(loras=[{"name": "a"}])):
            seen.append(latents(pipe))
    assert not torch.equal(*seen)


# -------------------------------------------------------------------------- shared parts, other add-ons


def test_models_that_share_a_text_encoder_do_not_see_each_others(manager: PipelineManager) -> None:
    one = manager.load("sd")
    pipe = pipeline("sd")
    pipe.register_modules(text_encoder=one.pipeline.text_encoder)
    other = type(one)(one.spec, pipe, one.to_rgb, one.short_hash)
    base = latents(pipe)
    with manager.adapters.active(one, request(loras=[{"name": "sd-kohya"}])):
        pass
    assert torch.equal(latents(pipe), base)
    with manager.adapters.active(other, request(loras=[{"name": "sd-kohya", "weight": 0.4}])):
        shared = latents(pipe)
    with manager.adapters.active(one, request(loras=[{"name": "sd-kohya", "weight": 0.4}])):
        assert torch.equal(latents(one.pipeline), shared)


def test_a_negative_prompt_has_no_loras(manager: PipelineManager) -> None:
    model = manager.load("sd")
    with manager.adapters.active(model, request(negative_prompt="bad <lora:sd-peft:1>")) as active:
        assert active.negative_prompt == "bad "
        assert "negative" in " ".join(active.notes)


def test_a_dylora_can_be_cut(manager: PipelineManager, tmp_path: Path) -> None:
    """`dyn=2` is the LoRA of the first two dimensions at the whole's scale."""
    pipe = pipeline("sd")
    halves = made.halves({"unet": pipe.unet}, rank=4)
    made.save(made.as_kohya(halves, alpha=2.0), tmp_path / "loras/whole.safetensors")
    cut = {"unet": {name: (down[:2], up[:, :2]) for name, (down, up) in halves["unet"].items()}}
    made.save(made.as_kohya(cut, alpha=1.0), tmp_path / "loras/cut.safetensors")
    library = ModelLibrary([tmp_path])
    loaded = manager.load("sd")
    model = type(loaded)(loaded.spec, pipe, loaded.to_rgb, loaded.short_hash)
    few = Adapters(library)
    seen = []
    for text in ("a <lora:whole:0.5:0.5:2>", "a <lora:cut:0.5>", "a <lora:whole:0.5>"):
        with few.active(model, request(prompt=text)):
            seen.append(latents(pipe))
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(seen[0], seen[2], atol=1e-2)


def test_names_that_are_no_identifiers(manager: PipelineManager) -> None:
    found = wanted(request(prompt="a <lora:one 3.v1 🎈:0.5>"), manager.library)
    assert found[0].addon.key == "many/one 3.v1 🎈"


def test_header_of_ten_gigabytes(manager: PipelineManager, tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras/huge.safetensors").write_bytes(struct.pack("<Q", 10 << 30) + b"{}" * 50)
    with pytest.raises(InvalidRequest):
        wanted(request(loras=[{"name": "huge"}]), ModelLibrary([tmp_path]))


def test_what_a_text_tells_is_held_against_the_library(manager: PipelineManager) -> None:
    told = {
        "prompt": "a house",
        "loras": [{"name": "sd-peft", "weight": 0.5}, {"name": "gone", "weight": 0.7}],
    }
    fields, notes = known(told, manager.library)
    assert fields["loras"] == [{"name": "sd-peft", "weight": 0.5}]
    assert fields["prompt"] == "a house <lora:gone:0.7>"
    assert "gone" in notes[0]
