"""Components from diffusers folders: what is made of them equals diffusers' own, and is shared by content."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipelines import devices
from pipelines.library.models import ModelLibrary
from pipelines.load import parts, skeletons
from pipelines.load.components import Budgets
from pipelines.load.crossing import Crossing
from pipelines.load.loaded import LoadedModels
from pipelines.manager import PipelineManager
from pipelines.outputs import Outputs
from pipelines.pictures import PictureStore
from pipelines.request import InvalidRequest
from pipelines.run import Control
from tests.support import tiny

FAMILIES = ("sd", "sd-v", "sd-inpaint", "sdxl", "sd3", "flux")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_all(tmp_path_factory.mktemp("models"), FAMILIES)


Make = Callable[..., LoadedModels]


@pytest.fixture
def make(models: Path, tmp_path: Path) -> Make:
    """Loaders over a models folder; they share a data folder, like two starts of the program."""

    def make(dtype: str = "float32", folder: Path | None = None, ram: int = 10**9) -> LoadedModels:
        library = ModelLibrary([folder or models])
        plan = devices.choose("cpu", dtype)
        return LoadedModels(library, plan, tmp_path / "data", lambda: Budgets(ram, ram))

    return make


def load(loaded: LoadedModels, key: str, **more: Any) -> Any:
    return loaded.load(loaded.library.find(key), **more)


def assert_same(ours: Any, theirs: Any) -> None:
    """Values, number formats and buffers of a module."""
    mine, other = ours.state_dict(), theirs.state_dict()
    assert mine.keys() == other.keys()
    for name, tensor in other.items():
        assert mine[name].dtype == tensor.dtype and torch.equal(mine[name], tensor), name
    buffers = dict(ours.named_buffers())
    for name, buffer in theirs.named_buffers():
        assert torch.equal(buffers[name], buffer) and buffers[name].dtype == buffer.dtype, name
    assert not ours.training


@pytest.mark.parametrize(
    ("dtype", "families"),
    [("float32", ("sd", "sd3")), ("bfloat16", ("sdxl", "sd-inpaint", "flux")), ("float16", ("flux",))],
)
def test_every_component_is_what_diffusers_loads(
    make: Make, models: Path, dtype: str, families: tuple[str, ...]
) -> None:
    for _ in range(2):  # converted first, from the cache on disk then
        loaded = make(dtype)
        for family in families:
            model = load(loaded, family)
            plain = diffusers.DiffusionPipeline.from_pretrained(
                models / family, dtype=getattr(torch, dtype), use_safetensors=True
            )
            assert type(model.pipeline) is type(plain)
            assert model.pipeline.components.keys() == plain.components.keys()
            for name, theirs in plain.components.items():
                ours = model.pipeline.components[name]
                assert type(ours) is type(theirs)
                if isinstance(theirs, torch.nn.Module):
                    assert_same(ours, theirs)
                    held = {one.data_ptr(): one.nbytes for one in theirs.state_dict().values()}
                    assert model.sizes[name] == sum(held.values())
            for name, value in plain.config.items():
                if not name.startswith("_") and not isinstance(value, tuple | list):
                    assert model.pipeline.config[name] == value, name


def test_components_of_the_same_content_are_held_once(make: Make, models: Path) -> None:
    loaded = make()
    first, second = load(loaded, "sd"), load(loaded, "sd-v")
    assert first.pipeline is not second.pipeline and first.scheduler_config != second.scheduler_config
    for name in ("unet", "vae", "text_encoder"):
        assert getattr(first.pipeline, name) is getattr(second.pipeline, name)
    one, two = first.pipeline.tokenizer, second.pipeline.tokenizer
    assert one.backend_tokenizer is two.backend_tokenizer
    one.padding_side = "left"  # as some pipelines do
    assert two.padding_side == "right"
    other = load(loaded, "sd-inpaint")
    assert other.pipeline.vae is first.pipeline.vae and other.pipeline.unet is not first.pipeline.unet
    held = sum(one.bytes for one in loaded.status().components)
    assert held < 1.5 * sum(first.sizes.values()) + sum(other.sizes.values())


def test_the_same_weights_with_another_config_are_another_component(
    make: Make, models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    shutil.copytree(models / "sd", folder / "sd")
    shutil.copytree(models / "sd", folder / "scaled")
    config = folder / "scaled/vae/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "scaling_factor": 0.5}))
    told = folder / "scaled/unet/config.json"
    told.write_text(json.dumps({**json.loads(told.read_text()), "_diffusers_version": "0.1"}))
    loaded = make(folder=folder)
    one, other = load(loaded, "sd").pipeline, load(loaded, "scaled").pipeline
    assert one.vae is not other.vae and other.vae.config.scaling_factor == 0.5
    assert one.unet is other.unet, "who wrote a config does not count"


def test_a_file_that_changes_is_read_anew(make: Make, models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(models / "sd", folder / "sd")
    loaded = make("bfloat16", folder)
    before = load(loaded, "sd")
    assert load(loaded, "sd") is before
    file = folder / "sd/unet/diffusion_pytorch_model.safetensors"
    state = load_file(file)
    state["conv_out.bias"] += 1
    save_file(state, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)
    after = load(loaded, "sd")
    assert after.pipeline.unet is not before.pipeline.unet and after.pipeline.vae is before.pipeline.vae
    assert torch.equal(after.pipeline.unet.conv_out.bias, state["conv_out.bias"].bfloat16())


def test_weights_in_shards_variants_and_pickles(make: Make, models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    expected = load(make(), "sd").pipeline.unet
    pipe = diffusers.DiffusionPipeline.from_pretrained(models / "sd")
    pipe.save_pretrained(folder / "sharded", max_shard_size="20KB")
    pipe.save_pretrained(folder / "pickled", safe_serialization=False)
    pipe.to(torch.float16).save_pretrained(folder / "half", variant="fp16")
    pipe.save_pretrained(folder / "both", variant="fp16", max_shard_size="10KB")
    assert len(list((folder / "sharded/unet").glob("*.safetensors"))) > 2
    assert len(list((folder / "both/unet").glob("*fp16*.safetensors"))) > 2
    assert list((folder / "pickled/unet").glob("*.bin"))
    loaded = make(folder=folder)
    assert_same(load(loaded, "sharded").pipeline.unet, expected)
    assert_same(load(loaded, "pickled").pipeline.unet, expected)
    halved = {name: tensor.half().float() for name, tensor in expected.state_dict().items()}
    for key in ("half", "both"):
        ours = load(loaded, key).pipeline.unet.state_dict()
        assert all(torch.equal(ours[name], tensor) for name, tensor in halved.items())
    assert load(loaded, "half").pipeline.unet is load(loaded, "both").pipeline.unet
    next(iter(sorted((folder / "sharded/unet").glob("*.safetensors")))).unlink()
    with pytest.raises(InvalidRequest, match=r"of the .* files of its weights"):
        load(loaded, "sharded")


def test_names_of_older_libraries_are_understood(make: Make, models: Path, tmp_path: Path) -> None:
    """Attention in VAEs was named otherwise, and CLIP's layers had a prefix more."""
    folder = tmp_path / "models"
    shutil.copytree(models / "sd", folder / "old")
    file = folder / "old/vae/diffusion_pytorch_model.safetensors"
    renames = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, tensor in load_file(file).items():
        for new, old in renames.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        state[name] = tensor
    save_file(state, file, {"format": "pt"})
    file = folder / "old/text_encoder/model.safetensors"
    save_file({f"text_model.{name}": tensor for name, tensor in load_file(file).items()}, file)
    model, plain = load(make(folder=folder), "old"), load(make(), "sd")
    assert_same(model.pipeline.vae, plain.pipeline.vae)
    assert_same(model.pipeline.text_encoder, plain.pipeline.text_encoder)


# ------------------------------------------------------------------------------------ what cannot be used


def spoil(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    state = load_file(file)
    change(state)
    save_file(state, file, {"format": "pt"})


def cut(folder: Path) -> None:
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def wrong_shape(state: dict[str, Any]) -> None:
    state["conv_out.weight"] = torch.zeros(4, 5, 3, 3)


def not_numbers(state: dict[str, Any]) -> None:
    state["conv_out.weight"][0, 0, 0, 0] = float("nan")


def without(state: dict[str, Any]) -> None:
    del state["conv_out.weight"]


@pytest.mark.parametrize(
    ("spoiled", "sentence"),
    [
        (cut, "is cut off"),
        (lambda folder: spoil(folder, wrong_shape), "conv_out.weight of the shape 4 x 5 x 3 x 3"),
        (lambda folder: spoil(folder, not_numbers), "1 of the .* values of conv_out.weight are no numbers"),
        (lambda folder: spoil(folder, without), "lacks conv_out.weight"),
        (lambda folder: (folder / "unet/config.json").write_text("{"), "unet"),
        (lambda folder: shutil.rmtree(folder / "vae"), "vae"),
    ],
)
def test_a_swap_that_fails_says_why_and_leaves_the_last_model(
    make: Make, models: Path, tmp_path: Path, spoiled: Callable[[Path], None], sentence: str
) -> None:
    folder = tmp_path / "models"
    shutil.copytree(models / "sd", folder / "good")
    shutil.copytree(models / "sd-inpaint", folder / "bad")
    loaded = make("bfloat16", folder)
    good = load(loaded, "good")
    spec = loaded.library.find("bad")  # seen in the list, and spoiled after that
    spoiled(folder / "bad")
    for _ in range(2):
        with pytest.raises(InvalidRequest, match=sentence) as problem:
            loaded.load(spec)
        assert "bad could not be loaded" in problem.value.problems["model"]
    assert load(loaded, "good") is good
    assert not list((tmp_path / "data/cache/weights").glob("writing-*"))


def test_what_is_too_large_is_refused_before_anything_goes(make: Make, models: Path) -> None:
    small = make(ram=700_000)
    model = load(small, "sd")
    with pytest.raises(InvalidRequest, match="can be made free"):
        load(small, "sd3")
    assert load(small, "sd") is model


def test_models_swap_within_a_budget_for_one(make: Make) -> None:
    loaded = make(ram=700_000)
    pictures: dict[str, Any] = {}
    for key in ("sd", "sdxl", "sd-inpaint", "sd", "sdxl"):
        model = load(loaded, key)
        assert sum(one.bytes for one in loaded.status().components) <= 700_000
        weight = model.pipeline.unet.conv_in.weight.clone()
        assert torch.equal(pictures.setdefault(key, weight), weight)
    assert "sdxl" in loaded.status().models


# ------------------------------------------------------------------------------------ in the background


def test_a_model_is_loaded_ahead_and_found_ready(make: Make) -> None:
    loaded = make("bfloat16")
    loaded.preload(loaded.library.find("sdxl")).join(60)
    assert loaded.status().models == ("sdxl",)
    told: list[Any] = []
    ready = load(loaded, "sdxl", emit=told.append)
    assert told == []
    assert_same(ready.pipeline.unet, load(make("bfloat16"), "sdxl").pipeline.unet)


def test_a_run_beside_a_load_paints_the_same_picture(models: Path, tmp_path: Path) -> None:
    manager = PipelineManager(
        ModelLibrary([models]),
        devices.choose("cpu", "bfloat16"),
        Outputs(tmp_path / "outputs"),
        PictureStore(tmp_path / "data/inputs"),
    )

    def paint() -> bytes:
        asked = tiny.request(model="sd", num_inference_steps=6, scheduler="Euler")
        ended = manager.run(asked, lambda event: None, Control())
        return Image.open(ended.pictures[0].path).tobytes()

    alone = paint()
    for other in ("sdxl", "flux", "sd3"):
        manager.preload(other)
    beside = [paint() for _ in range(2)]
    for other in ("sdxl", "flux", "sd3"):
        manager.models.preload(manager.library.find(other)).join(60)
    assert beside == [alone, alone]
    assert set(manager.status().models) == {"sd", "sdxl", "flux", "sd3"}
    assert_same(
        manager.load("sdxl").pipeline.unet,
        diffusers.UNet2DConditionModel.from_pretrained(models / "sdxl/unet", dtype=torch.bfloat16),
    )


def test_a_load_joins_the_one_under_way(make: Make) -> None:
    loaded = make("bfloat16")
    thread = loaded.preload(loaded.library.find("sd"))
    model = load(loaded, "sd")
    thread.join(60)
    unets = [one for one in loaded.status().components if one.title.endswith("(unet)")]
    assert len(unets) == 1 and load(loaded, "sd").pipeline.unet is model.pipeline.unet


def test_what_goes_wrong_in_the_background_is_told(make: Make, models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(models / "sd", folder / "bad")
    loaded = make(folder=folder)
    spec = loaded.library.find("bad")
    cut(folder / "bad")
    loaded.preload(spec).join(60)
    (sentence,) = loaded.status().told
    assert "bad could not be loaded" in sentence and "cut off" in sentence


def test_quantised_weights_are_a_component_of_their_own(make: Make) -> None:
    from pipelines.load import quantising

    loaded = make("bfloat16")
    plain = load(loaded, "sd3")
    small = load(loaded, "sd3", quantisation="int8")
    assert small.pipeline.transformer is not plain.pipeline.transformer
    assert small.pipeline.vae is plain.pipeline.vae
    assert quantising.quantisation_of(small.pipeline.transformer) == "int8"
    assert small.sizes["transformer"] < plain.sizes["transformer"]


def test_places_on_a_device_and_back_keep_the_weights() -> None:
    """Moving to the device copies, moving back gives the mapped weights again, added layers come along."""
    from torch import nn

    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    before = [tensor.data_ptr() for tensor in module.parameters()]
    cpu = Crossing("cpu")
    cpu.place(module, True)
    for tensor in module.parameters():
        tensor.data = tensor.data.clone()  # as on a device: other memory, the same values
    module.append(nn.Linear(3, 3))
    cpu.place(module, False)
    assert [tensor.data_ptr() for tensor in module.parameters()][:4] == before


def test_the_skeleton_of_a_module_is_made_without_touching_other_threads(models: Path) -> None:
    part = parts.of_folder(models / "sd").parts["text_encoder"]
    assert part is not None
    empty = skeletons.skeleton(part)
    assert all(tensor.is_meta for tensor in empty.parameters())
    assert not any(buffer.is_meta for buffer in empty.buffers())
    assert torch.empty(1).device.type == "cpu"


def test_a_model_of_the_hub_that_is_not_here_says_how_to_fetch_it(make: Make) -> None:
    with pytest.raises(
        InvalidRequest, match=r"stabilityai/sd-turbo is not on this computer\. Open the Models tab"
    ):
        load(make(), "stabilityai/sd-turbo")
    with pytest.raises(InvalidRequest, match=r"no model called 'sd-turbo'"):
        load(make(), "sd-turbo")
