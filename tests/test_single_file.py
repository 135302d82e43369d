"""Single files load without network to the very pipeline that they were made from, and say what they lack."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines import devices
from pipelines.library.headers import Header, TensorInfo, read_header
from pipelines.library.identify import Identity, identify
from pipelines.library.models import ModelLibrary
from pipelines.load import packed_tokenizers, single_file, single_file_weights
from pipelines.load.components import Budgets
from pipelines.load.loaded import LoadedModels
from pipelines.load.parts import Part
from pipelines.load.skeletons import skeleton
from pipelines.request import InvalidRequest
from tests.support import single_files, tiny
from tests.support.plain import as_ours
from tests.test_loading import assert_same

WITHOUT_T5 = {"text_encoder_3": None, "tokenizer_3": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """checkpoints/ as single files, and beside it plain/ with the folders that they were made from."""
    place = tmp_path_factory.mktemp("single")
    for name in single_files.ARCHITECTURES:
        pipe = single_files.build(name)
        pipe.save_pretrained(place / "plain" / name)
        single_files.save(pipe, place / "models/checkpoints" / f"{name}.safetensors", name)
    return place


def loaded(models: Path, data: Path, dtype: str = "float32") -> LoadedModels:
    return LoadedModels(
        ModelLibrary([models]), devices.choose("cpu", dtype), data, lambda: Budgets(10**9, 10**9)
    )


@pytest.fixture(scope="module")
def ours(folder: Path) -> LoadedModels:
    return loaded(folder / "models", folder / "data")


def load(models: LoadedModels, key: str, **more: Any) -> Any:
    return models.load(models.library.find(key), **more)


def plain(folder: Path, name: str) -> Any:
    more = WITHOUT_T5 if name == "sd3" else {}
    return diffusers.DiffusionPipeline.from_pretrained(folder / "plain" / name, **more)


@pytest.mark.parametrize("name", single_files.ARCHITECTURES)
def test_a_single_file_is_the_pipeline_it_was_made_from(folder: Path, ours: LoadedModels, name: str) -> None:
    pipe, expected = load(ours, name).pipeline, as_ours(plain(folder, name))
    assert type(pipe) is type(expected)
    for component, theirs in expected.components.items():
        mine = pipe.components[component]
        if isinstance(theirs, torch.nn.Module):
            assert_same(mine, theirs)
        elif theirs is None:
            assert mine is None, component
        elif "tokenizer" in component:
            words = ["a photo of a cat, 4k", "naïve café", "!"]
            given = {"padding": "max_length", "max_length": 77, "truncation": True}
            assert mine(words, **given).input_ids == theirs(words, **given).input_ids
    wanted = dict(expected.scheduler.config)
    for key in (
        "beta_start",
        "beta_schedule",
        "prediction_type",
        "timestep_spacing",
        "shift",
        "use_dynamic_shifting",
    ):
        assert pipe.scheduler.config.get(key) == wanted.get(key), key


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl", "sd3", "flux"])
def test_pictures_equal_those_from_the_folder(folder: Path, ours: LoadedModels, name: str) -> None:
    def paint(pipe: Any) -> Any:
        pipe.set_progress_bar_config(disable=True)
        return pipe(
            "a red house",
            width=64,
            height=64,
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(1),
            output_type="np",
        ).images[0]

    model, expected = load(ours, name).pipeline, as_ours(plain(folder, name))
    assert np.array_equal(paint(model), paint(expected))


@pytest.mark.parametrize("suffix", [".ckpt", ".pt"])
def test_pickled_checkpoints_are_the_same(
    folder: Path, ours: LoadedModels, tmp_path: Path, suffix: str
) -> None:
    state = load_file(folder / "models/checkpoints/sd1.safetensors")
    place = tmp_path / f"models/checkpoints/pickled{suffix}"
    place.parent.mkdir(parents=True)
    torch.save({"state_dict": state, "global_step": 7, "epoch": np.float64(1)}, place)
    model = load(loaded(tmp_path / "models", tmp_path / "data"), "pickled")
    for name in ("unet", "vae", "text_encoder"):
        assert_same(getattr(model.pipeline, name), getattr(load(ours, "sd1").pipeline, name))


def test_a_folder_and_a_file_of_one_model_share_its_components(folder: Path, tmp_path: Path) -> None:
    both = tmp_path / "models"
    both.mkdir()
    (both / "checkpoints").symlink_to(folder / "models/checkpoints")
    (both / "plain").symlink_to(folder / "plain")
    models = loaded(both, tmp_path / "data", "bfloat16")
    file = load(models, "sdxl")
    spec = next(one for one in models.library.list() if one.path.is_dir() and one.path.name == "sdxl")
    same = models.load(spec)
    assert (
        file.pipeline.unet is same.pipeline.unet
        and file.pipeline.text_encoder_2 is same.pipeline.text_encoder_2
    )


# ------------------------------------------------------------------------------- published architectures

Published = tuple[str, str, Identity]
PUBLISHED: Mapping[str, tuple[str, Identity]] = {
    "sd1": ("unet", Identity("checkpoint", "SD", text_width=768)),
    "sd2": ("unet", Identity("checkpoint", "SD", text_width=1024)),
    "sdxl": ("unet", Identity("checkpoint", "SDXL", text_width=2048)),
    "sdxl-refiner": ("unet", Identity("checkpoint", "SDXL", "refiner", text_width=1280)),
    "sd3": ("transformer", Identity("checkpoint", "SD3", text_width=4096)),
    "flux": ("transformer", Identity("checkpoint", "Flux", text_width=4096)),
}
PARAMETERS = {  # millions, as their authors tell them
    "sd1": 860,
    "sd2": 866,
    "sdxl": 2567,
    "sdxl-refiner": 2260,
    "sd3": 2085,
    "flux": 11901,
}
ENCODERS = {"clip-l": 123, "clip-h": 340, "clip-g": 695, "t5": 4762}


def empty(architecture: str, component: str, config: Mapping[str, Any] | None = None) -> Any:
    index = json.loads((single_file.CONFIGS / architecture / "model_index.json").read_text())
    told = config or json.loads((single_file.CONFIGS / architecture / component / "config.json").read_text())
    return skeleton(Part(component, *index[component], told))


def millions(module: Any) -> int:
    tied = set(getattr(module, "all_tied_weights_keys", None) or ())
    return round(sum(one.numel() for name, one in module.state_dict().items() if name not in tied) / 1e6)


def header_of(tensors: Mapping[str, Any]) -> Header:
    return Header(
        {name: TensorInfo("F16", tuple(one.shape), 2 * one.numel()) for name, one in tensors.items()}
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_configs_have_the_published_sizes_and_are_read_off_the_header(name: str) -> None:
    """Written from public facts; the number of parameters is one, and what the header of such a file shows
    gives the same config again."""
    component, identity = PUBLISHED[name]
    module = empty(name, component)
    assert millions(module) == PARAMETERS[name]
    named = {
        "unet": single_files.unet,
        "transformer": {"sd3": single_files.sd3, "flux": single_files.flux}.get(name),
    }
    with torch.device("meta"):
        tensors = {f"model.diffusion_model.{key}": one for key, one in named[component](module).items()}  # type: ignore[misc]
    told = single_file.config_from(header_of(tensors), identity, component)
    again = empty(name, component, told)
    shapes = {key: tuple(one.shape) for key, one in module.state_dict().items()}
    assert {key: tuple(one.shape) for key, one in again.state_dict().items()} == shapes
    heads = "attention_head_dim" if component == "unet" else "num_attention_heads"
    assert (
        told[heads] == json.loads((single_file.CONFIGS / name / component / "config.json").read_text())[heads]
    )


@pytest.mark.parametrize(
    ("architecture", "component", "encoder"),
    [
        ("sd1", "text_encoder", "clip-l"),
        ("sd2", "text_encoder", "clip-h"),
        ("sdxl", "text_encoder_2", "clip-g"),
        ("flux", "text_encoder_2", "t5"),
    ],
)
def test_the_text_encoders_have_the_published_sizes(architecture: str, component: str, encoder: str) -> None:
    assert millions(empty(architecture, component)) == ENCODERS[encoder]


def test_flux_is_named_as_diffusers_names_it() -> None:
    """At the published width diffusers' own conversion tells what ours must be, name by name."""
    from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers

    module = empty("flux", "transformer")
    with torch.device("meta"):
        tensors = single_files.flux(module)
        mine = single_file_weights.flux(tensors, module)
        theirs = convert_flux_transformer_checkpoint_to_diffusers(dict(tensors))
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.items()}
    assert {name: tuple(tensor.shape) for name, tensor in mine.items()} == shapes


@pytest.mark.parametrize(
    ("identity", "key", "value"),
    [
        (
            Identity("checkpoint", "SD", text_width=1024, prediction="v_prediction"),
            "prediction_type",
            "v_prediction",
        ),
        (Identity("checkpoint", "SD", text_width=1024, prediction="epsilon"), "prediction_type", "epsilon"),
        (Identity("checkpoint", "SDXL", prediction="v_prediction"), "prediction_type", "v_prediction"),
        (Identity("checkpoint", "Flux"), "use_dynamic_shifting", False),
    ],
)
def test_the_schedule_follows_what_the_file_says(identity: Identity, key: str, value: Any) -> None:
    assert single_file.config_from(Header({}), identity, "scheduler")[key] == value


def test_flux_dev_shifts_by_size_and_zero_snr_is_noticed() -> None:
    dev = header_of({"guidance_in.in_layer.weight": torch.empty(1, 1)})
    assert single_file.config_from(dev, Identity("checkpoint", "Flux"), "scheduler")["use_dynamic_shifting"]
    zero = header_of({"ztsnr": torch.empty(0)})
    xl = Identity("checkpoint", "SDXL", prediction="v_prediction")
    assert single_file.config_from(zero, xl, "scheduler")["rescale_betas_zero_snr"]


def test_sd2s_widths_tell_768_pixels() -> None:
    v = Identity("checkpoint", "SD", text_width=1024, prediction="v_prediction")
    assert single_file.config_from(Header({}), v, "unet")["sample_size"] == 96


def test_clips_tokenizer_is_the_published_one() -> None:
    """Ids that OpenAI's and open_clip's documentation and millions of prompts know."""
    first, second = (packed_tokenizers.clip(single_file.TOKENIZERS, pad) for pad in ("<|endoftext|>", "!"))
    assert len(first) == 49408
    assert first("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert first("hello world!").input_ids == [49406, 3306, 1002, 256, 49407]
    padded = {"padding": "max_length", "max_length": 8}
    assert first("a cat", **padded).input_ids == [49406, 320, 2368, *[49407] * 5]
    assert second("a cat", **padded).input_ids == [49406, 320, 2368, 49407, *[0] * 4]
    assert first.model_max_length == 77


def test_t5s_tokenizer_is_the_published_one() -> None:
    tokenizer = packed_tokenizers.t5(single_file.TOKENIZERS)
    assert len(tokenizer) == 32100
    assert tokenizer("translate English to German: Hello").input_ids == [13959, 1566, 12, 2968, 10, 8774, 1]
    assert tokenizer("ﬁ ½").input_ids == tokenizer("fi 1⁄2").input_ids, (
        "signs are normalised as by SentencePiece"
    )


# --------------------------------------------------------------------------------- parts from elsewhere


@pytest.fixture(scope="module")
def parts_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder as ComfyUI's: lone diffusion models, and what they lack in folders of their own."""
    place = tmp_path_factory.mktemp("comfy")
    for sub in ("diffusion_models", "vae", "text_encoders", "checkpoints"):
        (place / sub).mkdir()
    flux = plain(folder, "flux")
    save_file(_whole(single_files.flux(flux.transformer)), place / "diffusion_models/flux.safetensors")
    save_file(_whole(single_files.vae(flux.vae)), place / "vae/ae.safetensors")
    save_file(_whole(single_files.clip(flux.text_encoder)), place / "text_encoders/clip_l.safetensors")
    save_file(_whole(single_files.t5(flux.text_encoder_2)), place / "text_encoders/t5xxl.safetensors")
    other = single_files.build("sd1", seed=5)
    other.vae.config.scaling_factor = 0.18215
    save_file(_whole(single_files.vae(other.vae)), place / "vae/other.safetensors")
    save_file(_whole(single_files.clip(other.text_encoder)), place / "text_encoders/other_clip.safetensors")
    save_file(_whole(other.vae.state_dict()), place / "vae/named-by-diffusers.safetensors")
    torch.save({"state_dict": single_files.vae(other.vae)}, place / "vae/pickled.vae.pt")
    tiny.flux().vae.save_pretrained(place / "vae/two-channels")
    (place / "checkpoints/sd1.safetensors").symlink_to(folder / "models/checkpoints/sd1.safetensors")
    (place / "plain-sd1").symlink_to(folder / "plain/sd1")
    return place


def _whole(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tensor.contiguous().clone() for name, tensor in state.items()}


def test_a_lone_diffusion_model_finds_what_it_lacks(folder: Path, parts_folder: Path, tmp_path: Path) -> None:
    models = loaded(parts_folder, tmp_path)
    told: list[Any] = []
    pipe = load(models, "flux", emit=told.append, vae="ae").pipeline
    expected = plain(folder, "flux")
    for name in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        assert_same(getattr(pipe, name), getattr(expected, name))
    assert "t5xxl" in told[0].message and "clip" in told[0].message, "what was taken unasked is told"


def test_what_is_lacking_is_named(parts_folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "models/diffusion_models"
    alone.mkdir(parents=True)
    (alone / "flux.safetensors").symlink_to(parts_folder / "diffusion_models/flux.safetensors")
    models = loaded(tmp_path / "models", tmp_path / "data")
    with pytest.raises(InvalidRequest, match=r"needs a text encoder .*text_encoders subfolder"):
        load(models, "flux")


@pytest.mark.parametrize("model", ["sd1", "plain-sd1"])
@pytest.mark.parametrize("key", ["other", "named-by-diffusers", "pickled.vae"])
def test_a_separate_vae_takes_the_place_of_the_models_own(
    folder: Path, parts_folder: Path, tmp_path: Path, model: str, key: str
) -> None:
    models = loaded(parts_folder, tmp_path)
    own, other = load(models, model), load(models, model, vae=key)
    assert_same(other.pipeline.vae, single_files.build("sd1", seed=5).vae)
    assert (
        other.pipeline.unet is own.pipeline.unet and other.pipeline.text_encoder is own.pipeline.text_encoder
    )
    assert own.pipeline.vae is not other.pipeline.vae and load(models, model) is own
    assert other.pipeline.vae.config.scaling_factor == own.pipeline.vae.config.scaling_factor


def test_a_separate_text_encoder_takes_the_place_of_the_models_own(
    parts_folder: Path, tmp_path: Path
) -> None:
    models = loaded(parts_folder, tmp_path)
    own, other = load(models, "plain-sd1"), load(models, "plain-sd1", text_encoder="other_clip")
    assert_same(other.pipeline.text_encoder, single_files.build("sd1", seed=5).text_encoder)
    assert other.pipeline.unet is own.pipeline.unet
    assert other.pipeline.tokenizer.backend_tokenizer is own.pipeline.tokenizer.backend_tokenizer


@pytest.mark.parametrize(
    ("given", "field", "sentence"),
    [
        ({"vae": "two-channels"}, "vae", "latents of 2 channels, but .* paints in 4"),
        ({"vae": "nothing"}, "vae", "no VAE called 'nothing'"),
        ({"text_encoder": "t5xxl"}, "text_encoder", "32 wide, but the text encoders of .* are 64 wide"),
        ({"text_encoder": "nothing"}, "text_encoder", "no text encoder called 'nothing'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    parts_folder: Path, tmp_path: Path, given: dict[str, str], field: str, sentence: str
) -> None:
    models = loaded(parts_folder, tmp_path)
    with pytest.raises(InvalidRequest, match=sentence) as problem:
        load(models, "sd1", **given)
    assert set(problem.value.problems) == {field}


# ------------------------------------------------------------------------------------------ what is refused


def _spoiled(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def spoil(state: dict[str, Any]) -> dict[str, Any]:
        change(state)
        return state

    return spoil


UNET = "model.diffusion_model."
SPOILED: Mapping[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a layer is missing": (lambda s: s.pop(f"{UNET}middle_block.0.in_layers.2.weight"), "lacks mid_block"),
    "another shape": (
        lambda s: s.update({f"{UNET}time_embed.2.weight": torch.zeros(128, 64)}),
        "time_embedding.linear_2.weight of the shape 128 x 64",
    ),
    "no numbers": (lambda s: s[f"{UNET}out.2.weight"].fill_(float("inf")), "are no numbers"),
    "scaled eight bits": (
        lambda s: s.update({f"{UNET}out.2.scale_weight": torch.ones(1)}),
        "eight bits with scales",
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_single_files_that_cannot_be_used_say_why(folder: Path, tmp_path: Path, case: str) -> None:
    change, sentence = SPOILED[case]
    state = load_file(folder / "models/checkpoints/sd1.safetensors")
    _spoiled(change)(state)
    place = tmp_path / "models/checkpoints/bad.safetensors"
    place.parent.mkdir(parents=True)
    save_file(state, place)
    with pytest.raises(InvalidRequest, match=sentence):
        load(loaded(tmp_path / "models", tmp_path / "data"), "bad")


def test_config_of_reads_the_header_of_a_file(folder: Path) -> None:
    path = folder / "models/checkpoints/sdxl.safetensors"
    identity = identify(path)
    assert identity is not None
    assert single_file.config_of(path, identity, "unet")["block_out_channels"] == [32, 64]
    assert single_file.config_of(path, identity, "vae")["scaling_factor"] == 0.13025
    assert single_file.config_of(path, identity, "transformer") == {}
    assert single_file.config_of(path, identity, "model_index")["_class_name"] == "StableDiffusionXLPipeline"
    assert read_header(path).format == "safetensors"
