"""Control networks: found, told apart, refused in time, and led by exactly as diffusers leads."""

from __future__ import annotations

import inspect
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.controlnet import control
from pipelines.controlnet.control import NO_PIPELINE, ControlLibrary, ControlSpec, control_kwargs, view
from pipelines.controlnet.control_files import Sizes, residual_widths
from pipelines.controlnet.control_networks import OCCURRENCE, own
from pipelines.controlnet.preprocessors import PREPROCESSORS
from pipelines.library.models import ASSETS, ModelLibrary
from pipelines.request import ControlUnit, GenerationRequest, InvalidRequest
from tests.support import tiny
from tests.support.led import call, picture, unit

TASKS = ("text2image", "image2image", "inpaint")
NETWORKS = {
    "sd": {"controlnet": ("sd-canny", "sd-pose")},
    "sd-adapted": {"controlnet": ("sd-canny", "sd-pose"), "adapter": ("sd-adapter", "sd-adapter")},
    "sdxl": {
        "controlnet": ("sdxl-canny", "sdxl-canny"),
        "union": ("sdxl-union", "sdxl-union"),
        "adapter": ("sdxl-adapter", "sdxl-adapter"),
    },
    "sd3": {"controlnet": ("sd3-canny", "sd3-canny")},
    "flux": {"controlnet": ("flux-canny", "flux-canny"), "union": ("flux-union", "flux-union")},
}
FAMILY = {"sd": "SD", "sd-adapted": "SD", "sdxl": "SDXL", "sd3": "SD3", "flux": "Flux"}
CELLS = [
    (model, task, sort)
    for model, task in itertools.product(NETWORKS, TASKS)
    for sort in NETWORKS[model]
    if (FAMILY[model], task, sort) not in NO_PIPELINE
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    return tiny.save_controls(
        tiny.save_all(models, ("sd", "sdxl", "sd-inpaint", "sd-adapted", "sd3", "flux"))
    )


@pytest.fixture(scope="module")
def library(folder: Path) -> ControlLibrary:
    return ControlLibrary([folder], assets=folder / "no assets")


@pytest.fixture(scope="module")
def models(folder: Path) -> ModelLibrary:
    return ModelLibrary([folder])


@pytest.fixture(scope="module")
def bases(folder: Path) -> dict[str, Any]:
    from diffusers import DiffusionPipeline

    found = {}
    for name in NETWORKS:
        found[name] = DiffusionPipeline.from_pretrained(folder / name, local_files_only=True)
        found[name].set_progress_bar_config(disable=True)
    return found


@pytest.fixture(scope="module")
def loaded(library: ControlLibrary, bases: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {
        spec.key: control.load(spec, bases[spec.key.split("-")[0]], torch.float32, "cpu")
        for spec in library.list()
    }


PLAIN = {
    ("sd", "text2image", "controlnet"): ("StableDiffusionControlNetPipeline", "image"),
    ("sd", "image2image", "controlnet"): ("StableDiffusionControlNetImg2ImgPipeline", "control_image"),
    ("sd", "inpaint", "controlnet"): ("StableDiffusionControlNetInpaintPipeline", "control_image"),
    ("sdxl", "text2image", "controlnet"): ("StableDiffusionXLControlNetPipeline", "image"),
    ("sdxl", "image2image", "controlnet"): ("StableDiffusionXLControlNetImg2ImgPipeline", "control_image"),
    ("sdxl", "inpaint", "controlnet"): ("StableDiffusionXLControlNetInpaintPipeline", "control_image"),
    ("sdxl", "text2image", "union"): ("StableDiffusionXLControlNetUnionPipeline", "control_image"),
    ("sdxl", "image2image", "union"): ("StableDiffusionXLControlNetUnionImg2ImgPipeline", "control_image"),
    ("sdxl", "inpaint", "union"): ("StableDiffusionXLControlNetUnionInpaintPipeline", "control_image"),
    ("sd3", "text2image", "controlnet"): ("StableDiffusion3ControlNetPipeline", "control_image"),
    **{
        ("flux", task, sort): (name, "control_image")
        for sort in ("controlnet", "union")
        for task, name in {
            "text2image": "FluxControlNetPipeline",
            "image2image": "FluxControlNetImg2ImgPipeline",
            "inpaint": "FluxControlNetInpaintPipeline",
        }.items()
    },
}
"""Cell -> diffusers' pipeline class and its argument for the map, written out by hand."""


# -------------------------------------------------------------------------------------- the same as diffusers


@pytest.mark.parametrize(("model", "task", "sort"), [cell for cell in CELLS if cell in PLAIN])
@pytest.mark.parametrize("count", [1, 2])
def test_a_led_picture_is_diffusers_own(
    model: str,
    task: str,
    sort: str,
    count: int,
    bases: dict[str, Any],
    loaded: dict[str, Any],
    library: ControlLibrary,
) -> None:
    import diffusers
    import torch

    base, keys = bases[model], NETWORKS[model][sort][:count]
    networks, specs = [loaded[key] for key in keys], [library.find(key) for key in keys]
    units = [
        unit(controlnet_conditioning_scale=0.9, control_guidance_end=0.7),
        unit(preprocessor="depth_midas", control_guidance_start=0.3),
    ][:count]
    maps = [picture(1), picture(2)][:count]

    pipe = view(base, task, networks, type(base.scheduler).from_config(base.scheduler.config))
    pipe.set_progress_bar_config(disable=True)
    ours = pipe(**call(task, model), **control_kwargs(pipe, units, maps, specs)).images

    name, argument = PLAIN[model, task, sort]
    assert type(pipe).__name__ == name
    cls = getattr(diffusers, name)
    parts = {**base.components, "scheduler": type(base.scheduler).from_config(base.scheduler.config)}
    accepted = inspect.signature(cls.__init__).parameters
    extra = {"requires_safety_checker": False} if model == "sd" else {}
    plain = cls(
        **{key: part for key, part in parts.items() if key in accepted},
        controlnet=networks[0] if count == 1 else networks,
        **extra,
    )
    plain.set_progress_bar_config(disable=True)
    led: dict[str, Any] = {argument: maps[0]} if count == 1 else {argument: maps}
    led |= (
        {"controlnet_conditioning_scale": 0.9, "control_guidance_end": 0.7}
        if count == 1
        else {
            "controlnet_conditioning_scale": [0.9, 1.0],
            "control_guidance_start": [0.0, 0.3],
            "control_guidance_end": [0.7, 1.0],
        }
    )
    modes = {("sdxl", "union"): [3, 1], ("flux", "union"): [0, 2]}.get((model, sort))
    if modes:
        led["control_mode"] = modes[0] if count == 1 else modes
    elif model == "flux" and count == 2:
        led["control_mode"] = [None, None]
    torch.manual_seed(0)  # where diffusers draws the latents of SD3's maps from
    theirs = plain(**call(task, model), **led).images
    np.testing.assert_array_equal(ours, theirs)

    other = [picture(5), picture(6)][:count]
    pipe = view(base, task, networks, type(base.scheduler).from_config(base.scheduler.config))
    pipe.set_progress_bar_config(disable=True)
    changed = pipe(**call(task, model), **control_kwargs(pipe, units, other, specs)).images
    assert not np.array_equal(ours, changed), "the map leads nothing"


@pytest.mark.parametrize("model", ["sd-adapted", "sdxl"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_an_adapted_picture_is_diffusers_own(
    model: str,
    count: int,
    guidance: float,
    bases: dict[str, Any],
    loaded: dict[str, Any],
    library: ControlLibrary,
) -> None:
    import diffusers

    base, key = bases[model], NETWORKS[model]["adapter"][0]
    maps, units = [picture(1), picture(2)][:count], [unit(controlnet_conditioning_scale=0.5), unit()][:count]
    scheduler = type(base.scheduler)
    usual = call("text2image", model) | {"guidance_scale": guidance, "output_type": "latent"}
    pipe = view(base, "text2image", [loaded[key]] * count, scheduler.from_config(base.scheduler.config))
    ours = pipe(**usual, **control_kwargs(pipe, units, maps, [library.find(key)] * count)).images

    parts = {**base.components, "scheduler": scheduler.from_config(base.scheduler.config)}
    parts.pop("image_encoder", None)
    second = tiny.sdxl_adapter() if model == "sdxl" else tiny.sd_adapter()
    led: Any = loaded[key] if count == 1 else diffusers.MultiAdapter([loaded[key], second])
    if model == "sdxl":
        plain = diffusers.StableDiffusionXLAdapterPipeline(**parts, adapter=led)
    else:
        plain = diffusers.StableDiffusionAdapterPipeline(**parts, adapter=led, requires_safety_checker=False)
    usual["generator"].manual_seed(3)
    theirs = plain(
        **usual,
        image=maps[0] if count == 1 else maps,
        adapter_conditioning_scale=0.5 if count == 1 else [0.5, 1.0],
    ).images
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert not base.unet._forward_pre_hooks, "the hook is the view's own"


@pytest.mark.parametrize("task", TASKS)
def test_adapters_lead_every_task_beside_controlnets(
    task: str, bases: dict[str, Any], loaded: dict[str, Any], library: ControlLibrary
) -> None:
    base, keys = bases["sd-adapted"], ("sd-adapter", "sd-canny")
    networks, specs = [loaded[key] for key in keys], [library.find(key) for key in keys]

    def paint(*scales: float) -> np.ndarray:
        units = [unit(controlnet_conditioning_scale=scale) for scale in scales]
        pipe = view(base, task, networks, type(base.scheduler).from_config(base.scheduler.config))
        pipe.set_progress_bar_config(disable=True)
        extra = control_kwargs(pipe, units, [picture(1), picture(2)], specs)
        return np.asarray(pipe(**call(task, "sd"), **extra).images)

    both, first, second, none = paint(1, 1), paint(1, 0), paint(0, 1), paint(0, 0)
    assert len({image.tobytes() for image in (both, first, second, none)}) == 4
    pipe = view(base, task, (), type(base.scheduler).from_config(base.scheduler.config))
    pipe.set_progress_bar_config(disable=True)
    np.testing.assert_allclose(none, pipe(**call(task, "sd")).images, atol=1e-5)


def test_an_adapters_window_is_counted_like_a_controlnets(
    bases: dict[str, Any], loaded: dict[str, Any], library: ControlLibrary
) -> None:
    base = bases["sd-adapted"]

    def paint(networks: list[Any], *windows: tuple[float, float]) -> np.ndarray:
        units = [unit(control_guidance_start=start, control_guidance_end=end) for start, end in windows]
        pipe = view(base, "text2image", networks, type(base.scheduler).from_config(base.scheduler.config))
        specs = [library.find("sd-adapter")] * len(units)
        usual = call("text2image", "sd") | {"num_inference_steps": 4}
        return np.asarray(
            pipe(**usual, **control_kwargs(pipe, units, [picture(1)] * len(units), specs)).images
        )

    adapter = loaded["sd-adapter"]
    whole, never = paint([adapter], (0, 1)), paint([adapter], (0.9, 1))
    halves = paint([adapter, adapter], (0, 0.5), (0.5, 1))
    np.testing.assert_array_equal(whole, halves)
    np.testing.assert_array_equal(never, paint([]))
    assert not np.array_equal(whole, paint([adapter], (0, 0.5)))


# ------------------------------------------------------------------------------------------- which views are


@pytest.mark.parametrize("model", NETWORKS)
@pytest.mark.parametrize("task", TASKS)
def test_the_table_of_missing_pipelines_is_diffusers_own(
    model: str, task: str, bases: dict[str, Any], loaded: dict[str, Any]
) -> None:
    import diffusers

    automatic = getattr(diffusers, {"text2image": "AutoPipelineForText2Image",
                                    "image2image": "AutoPipelineForImage2Image",
                                    "inpaint": "AutoPipelineForInpainting"}[task])  # fmt: skip
    network = loaded[NETWORKS[model]["controlnet"][0]]
    if (FAMILY[model], task, "controlnet") in NO_PIPELINE:
        with pytest.raises(ValueError, match="AutoPipeline can't find a pipeline"):
            automatic.from_pipe(bases[model], controlnet=network)
        with pytest.raises(InvalidRequest, match="diffusers has no pipeline for"):
            view(bases[model], task, [network])
    else:
        assert automatic.from_pipe(bases[model], controlnet=network).controlnet is network
        assert view(bases[model], task, [network]).controlnet is network
    assert type(view(bases[model], task)) is type(automatic.from_pipe(bases[model]))
    if (FAMILY[model], task, "adapter") in NO_PIPELINE:
        with pytest.raises(InvalidRequest, match="diffusers has no pipeline for"):
            view(bases[model], task, [loaded["sd-adapter"]])


def test_diffusers_still_cannot_view_a_union(bases: dict[str, Any], loaded: dict[str, Any]) -> None:
    """The day from_pipe knows unions, their table in control_networks can go."""
    from diffusers import AutoPipelineForText2Image

    found = AutoPipelineForText2Image.from_pipe(bases["sdxl"], controlnet=loaded["sdxl-union"])
    assert "Union" not in type(found).__name__


def test_no_pipeline_of_sd_takes_a_union(bases: dict[str, Any], loaded: dict[str, Any]) -> None:
    import diffusers

    assert not [name for name in dir(diffusers) if name.startswith("StableDiffusionControlNetUnion")]
    for task in TASKS:
        with pytest.raises(InvalidRequest, match=r"no pipeline for .* on SD with a union"):
            view(bases["sd"], task, [loaded["sdxl-union"]])


@pytest.mark.parametrize(("model", "task", "sort"), CELLS)
def test_a_view_shares_every_component(
    model: str, task: str, sort: str, bases: dict[str, Any], loaded: dict[str, Any]
) -> None:
    base = bases[model]
    pipe = view(base, task, [loaded[key] for key in NETWORKS[model][sort]])
    for name, part in base.components.items():
        if part is None or (sort, name) == ("adapter", "unet") or (model, name) == ("sd3", "vae"):
            continue
        if name in pipe.components:
            assert pipe.components[name] is part, name
    if sort == "adapter":
        assert pipe.unet.conv_in is base.unet.conv_in
    if model == "sd3":
        assert pipe.vae.encoder is base.vae.encoder


@pytest.mark.parametrize("task", TASKS)
def test_flux_takes_unions_beside_plain_ones(
    task: str, bases: dict[str, Any], loaded: dict[str, Any], library: ControlLibrary
) -> None:
    keys = ("flux-canny", "flux-union")
    pipe = view(bases["flux"], task, [loaded[key] for key in keys])
    pipe.set_progress_bar_config(disable=True)
    units, maps = [unit(), unit(preprocessor="depth_midas")], [picture(1), picture(2)]
    extra = control_kwargs(pipe, units, maps, [library.find(key) for key in keys])
    assert extra["control_mode"] == [None, 2]
    assert np.isfinite(pipe(**call(task, "flux"), **extra).images).all()


def test_an_inpainting_checkpoint_is_led_too(folder: Path, loaded: dict[str, Any]) -> None:
    from diffusers import DiffusionPipeline

    base = DiffusionPipeline.from_pretrained(folder / "sd-inpaint", local_files_only=True)
    pipe = view(base, "inpaint", [loaded["sd-canny"]])
    assert type(pipe).__name__ == "StableDiffusionControlNetInpaintPipeline"
    pipe.set_progress_bar_config(disable=True)
    spec = ControlSpec("x", "X", None, Sizes("SD", "controlnet", 32, (4,)), "")
    assert pipe(**call("inpaint", "sd"), **control_kwargs(pipe, [unit()], [picture()], [spec])).images.size


def test_one_network_for_two_units_has_two_handles(loaded: dict[str, Any]) -> None:
    network = loaded["sd-canny"]
    first, second = own([network, network])
    assert first is network and second is not network
    assert second.__dict__[OCCURRENCE] == 1 and OCCURRENCE not in first.__dict__
    assert second.conv_in is network.conv_in and second._forward_hooks is network._forward_hooks


# --------------------------------------------------------------------------------------------- the catalogue


def test_the_library_lists_what_there_is(library: ControlLibrary) -> None:
    found = {spec.key: (spec.family, spec.sort) for spec in library.list()}
    assert found == {
        "sd-canny": ("SD", "controlnet"),
        "sd-pose": ("SD", "controlnet"),
        "sd-adapter": ("SD", "adapter"),
        "sdxl-adapter": ("SDXL", "adapter"),
        "sdxl-canny": ("SDXL", "controlnet"),
        "sdxl-union": ("SDXL", "union"),
        "sd3-canny": ("SD3", "controlnet"),
        "flux-canny": ("Flux", "controlnet"),
        "flux-union": ("Flux", "union"),
    }
    assert library.find("sd-canny").suits == ("canny",)
    assert library.find("sd-pose").suits[0] == "openpose"
    assert library.find("sdxl-union").suits == () and library.find("sdxl-union").title == "Sdxl union"


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("control_v11p_sd15_canny", "canny"),
        ("storybook-edge", "canny"),
        ("control_v11p_sd15_softedge", "softedge_hed"),
        ("controlnet-openpose-sdxl-1.0", "openpose"),
        ("control_v11p_sd15s2_lineart_anime", "lineart_anime"),
        ("control_v11f1p_sd15_depth", "depth_midas"),
        ("control_v11p_sd15_normalbae", "normal_bae"),
        ("MistoLine", "lineart"),
        ("control_v11f1e_sd15_tile", "none"),
        ("controlnet-union-sdxl-1.0", None),
        ("something", None),
    ],
)
def test_names_tell_which_maps_suit(name: str, first: str | None) -> None:
    found = control.suited(name)
    assert (found[0] if found else None) == first
    assert set(found) <= set(PREPROCESSORS)


def test_networks_are_found_where_people_put_them(folder: Path, tmp_path: Path) -> None:
    import shutil

    source = folder / "ControlNet" / "sd-canny"
    for place in ("ControlNet/author/deep-canny", "here-canny"):
        shutil.copytree(source, tmp_path / place)
    (tmp_path / "ControlNet/half").mkdir()
    shutil.copy(source / "config.json", tmp_path / "ControlNet/half")  # its weights are still on their way
    shutil.copy(source / "diffusion_pytorch_model.safetensors", tmp_path / "ControlNet/single.safetensors")
    (tmp_path / "ControlNet/notes.txt").write_text("no model")
    (tmp_path / "ControlNet/lora.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (tmp_path / "ControlNet/broken.safetensors").write_bytes(b"nothing")
    tiny.save_all(tmp_path, ("sd",))
    keys = [spec.key for spec in ControlLibrary([tmp_path], assets=tmp_path / "none").list()]
    assert keys == ["author/deep-canny", "here-canny", "single"]


def test_the_embedded_ones_come_first_and_fit_the_embedded_model_only(
    folder: Path, tmp_path: Path, models: ModelLibrary
) -> None:
    import torch
    from diffusers import ControlNetModel, UNet2DConditionModel

    starter = models.find("starter")
    unet = UNet2DConditionModel.from_config(starter.folder / "unet")
    torch.manual_seed(0)
    made = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 32, 64))
    made.save_pretrained(tmp_path / "controlnets" / "storybook-edge", safe_serialization=True)
    library = ControlLibrary([folder], assets=tmp_path)
    first = library.list()[0]
    assert (first.key, first.title, first.suits) == ("storybook-edge", "Storybook edge", ("canny",))
    control.matches(first, starter, library)
    with pytest.raises(
        InvalidRequest, match=r"Storybook edge is made for SD with text 160 wide, but sd is SD"
    ):
        control.matches(first, models.find("sd"), library)


@pytest.mark.parametrize("path", sorted((ASSETS / "controlnets").glob("*/")), ids=lambda path: path.name)
def test_embedded_networks_fit_the_embedded_model(path: Path, models: ModelLibrary) -> None:
    import torch
    from diffusers import DiffusionPipeline

    library, starter = ControlLibrary([]), models.find("starter")
    spec = library.find(path.name)
    control.matches(spec, starter, library)
    assert spec.suits
    base = DiffusionPipeline.from_pretrained(starter.folder, dtype=torch.float32, local_files_only=True)
    base.set_progress_bar_config(disable=True)
    network = control.load(spec, base, torch.float32, "cpu")
    pipe = view(base, "text2image", [network], type(base.scheduler).from_config(base.scheduler.config))
    pipe.set_progress_bar_config(disable=True)
    led = [
        pipe(**call("text2image", "sd"), **control_kwargs(pipe, [unit()], [picture(seed)], [spec])).images
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(led[0], led[1])
    assert led[0].shape == (1, 64, 64, 3) and not np.array_equal(led[1], led[2])


def test_a_network_that_is_not_there_is_named_with_those_that_are(library: ControlLibrary) -> None:
    with pytest.raises(InvalidRequest, match=r"no ControlNet called 'nope'\. There are flux-canny") as caught:
        library.find("nope")
    assert list(caught.value.problems) == ["controls"]
    for bad in ("../../etc/passwd", "a/b/c", "", "..", "a/../b", "/etc/passwd"):
        with pytest.raises(InvalidRequest):
            library.find(bad)


def test_a_hub_id_that_cannot_be_fetched_says_where_to_get_it(
    library: ControlLibrary, models: ModelLibrary, bases: dict[str, Any]
) -> None:
    import torch

    spec = library.find("lllyasviel/control_v11p_sd15_canny")
    assert spec.path is None and spec.suits == ("canny",)
    control.matches(spec, models.find("sd"), library)
    with pytest.raises(InvalidRequest) as caught:
        control.load(spec, bases["sd"], torch.float32, "cpu")
    sentence = caught.value.problems["controls"]
    assert "https://huggingface.co/lllyasviel/control_v11p_sd15_canny" in sentence
    assert "ControlNet subfolder" in sentence


def test_a_network_for_other_models_is_refused_with_those_that_fit(
    library: ControlLibrary, models: ModelLibrary
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        control.matches(library.find("sdxl-canny"), models.find("sd"), library)
    sentence = caught.value.problems["controls"]
    assert sentence.startswith("Sdxl canny is made for SDXL, but sd is SD.")
    assert sentence.endswith("Choose one of: sd-adapter, sd-canny, sd-pose.")
    for key, model in (
        ("sd-adapter", "sd"),
        ("sdxl-union", "sdxl"),
        ("sd3-canny", "sd3"),
        ("flux-canny", "flux"),
    ):
        control.matches(library.find(key), models.find(model), library)
    control.matches(library.find("sd-canny"), models.find("sd-inpaint"), library)


def test_sizes_are_those_of_the_published_ones() -> None:
    sd = {"_class_name": "UNet2DConditionModel", "cross_attention_dim": 768}
    assert residual_widths(sd) == (320,) * 4 + (640,) * 3 + (1280,) * 5
    sdxl = {"block_out_channels": [320, 640, 1280], "layers_per_block": 2}
    assert len(residual_widths(sdxl)) == 9


# ------------------------------------------------------------------------------------------------ at submit


def checked(
    library: ControlLibrary, models: ModelLibrary, model: str, *units: ControlUnit, **more: Any
) -> str:
    """What `check` says; empty where it agrees."""
    request = GenerationRequest(prompt="a house", model=model, controls=units, **more)
    try:
        control.check(request, models.find(model), library)
    except InvalidRequest as error:
        assert list(error.problems) == ["controls"]
        return error.problems["controls"]
    return ""


def test_what_cannot_run_is_refused_before_it_runs(library: ControlLibrary, models: ModelLibrary) -> None:
    shown: dict[str, Any] = {"image": "0" * 32}

    def said(model: str, *units: ControlUnit, **more: Any) -> str:
        return checked(library, models, model, *units, **more)

    assert said("sd") == ""
    assert said("sd", unit()) == ""
    assert said("sd", unit(), unit(model="sd-adapter"), **shown) == ""
    assert said("sdxl", unit(model="sdxl-union")) == ""
    assert "There is no ControlNet called 'x'" in said("sd", unit(model="x"))
    assert "no preprocessor called 'x'. There are none, invert, canny" in said("sd", unit(preprocessor="x"))
    assert "made for SDXL" in said("sd", unit(model="sdxl-canny"))
    refused = said("sd3", unit(model="sd3-canny"), **shown)
    assert "no pipeline for image to image on SD3 with a ControlNet, which Sd3 canny is" in refused
    assert said("sd3", unit(model="sd3-canny")) == ""
    assert "must be balanced" in said("flux", unit(model="flux-canny", control_mode="prompt"))
    assert said("sd", unit(control_mode="prompt")) == ""
    told = said("sdxl", unit(model="sdxl-union", preprocessor="none", map_image="0" * 32))
    assert "must be told which one this is" in told
    assert "Shuffle is of no sort" in said("sdxl", unit(model="sdxl-union", preprocessor="shuffle"))
    pose = ((0.5, 0.5), (0.4, 0.4), *[None] * 16)
    assert said("sdxl", unit(model="sdxl-union", preprocessor="none", image=None, pose=(pose,))) == ""
    mixed = said("sdxl", unit(model="sdxl-union"), unit(model="sdxl-canny"))
    assert "cannot lead the same run" in mixed


# ----------------------------------------------------------------------------------------------- single files


def saved(state: dict[str, Any], path: Path) -> ControlSpec:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return ControlLibrary([path.parent.parent], assets=path.parent / "none").find(path.stem)


def assert_same(network: Any, other: Any) -> None:
    ours, theirs = network.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name].numpy(), tensor.numpy(), err_msg=name)


@pytest.mark.parametrize(
    "key", ["sd-canny", "sdxl-canny", "sdxl-union", "sd3-canny", "flux-canny", "flux-union"]
)
def test_single_files_in_diffusers_layout(
    key: str, tmp_path: Path, bases: dict[str, Any], loaded: dict[str, Any], library: ControlLibrary
) -> None:
    import torch

    network, base = loaded[key], bases[key.split("-")[0]]
    spec = saved(network.state_dict(), tmp_path / "ControlNet" / "one.safetensors")
    assert spec.sizes == library.find(key).sizes
    assert_same(control.load(spec, base, torch.float32, "cpu"), network)


def test_adapters_as_single_files_in_both_layouts(tmp_path: Path, bases: dict[str, Any]) -> None:
    import torch
    from diffusers import T2IAdapter

    torch.manual_seed(0)
    network = T2IAdapter(channels=[4, 8], num_res_blocks=2, downscale_factor=8).eval()
    spec = saved(network.state_dict(), tmp_path / "ControlNet" / "one.safetensors")
    assert (spec.family, spec.sort, spec.sizes and spec.sizes.widths) == ("SD", "adapter", (4, 8))
    assert_same(control.load(spec, bases["sd"], torch.float32, "cpu"), network)

    flat = {}
    for name, tensor in network.state_dict().items():
        parts = name.split(".")
        if parts[1] != "body":
            flat[".".join(parts[1:])] = tensor
        elif parts[3] == "in_conv":
            flat[f"body.{2 * int(parts[2])}.in_conv.{parts[4]}"] = tensor
        else:
            flat[f"body.{2 * int(parts[2]) + int(parts[4])}.{'.'.join(parts[5:])}"] = tensor
    spec = saved(flat, tmp_path / "ControlNet" / "two.safetensors")
    assert (spec.family, spec.sort, spec.sizes and spec.sizes.widths) == ("SD", "adapter", (4, 8))
    assert_same(control.load(spec, bases["sd"], torch.float32, "cpu"), network)


@pytest.mark.parametrize("model", ["sd", "sdxl"])
@pytest.mark.parametrize("prefix", ["control_model.", ""])
def test_a_single_file_in_the_original_layout(
    model: str, prefix: str, tmp_path: Path, bases: dict[str, Any]
) -> None:
    import torch
    from diffusers import ControlNetModel

    torch.manual_seed(0)
    unet = bases[model].unet
    network = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 4, 8, 8))
    state = {prefix + name: tensor for name, tensor in original_layout(network).items()}
    spec = saved(state, tmp_path / "ControlNet" / "old.safetensors")
    assert (spec.family, spec.sort) == (FAMILY[model], "controlnet")
    assert spec.sizes and spec.sizes.text == unet.config.cross_attention_dim
    assert spec.sizes.widths == residual_widths(unet.config)
    assert_same(control.load(spec, bases[model], torch.float32, "cpu"), network)


def original_layout(network: Any) -> dict[str, Any]:
    """A ControlNet's weights under the names of its authors' code (lllyasviel/ControlNet, cldm)."""
    resnet = {
        "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
    }  # fmt: skip
    layers = network.config.layers_per_block
    moved = {}
    for name, tensor in network.state_dict().items():
        parts = name.split(".")
        match parts:
            case ["conv_in", kind]:
                to = f"input_blocks.0.0.{kind}"
            case ["time_embedding", layer, kind]:
                to = f"time_embed.{0 if layer.endswith('1') else 2}.{kind}"
            case ["add_embedding", layer, kind]:
                to = f"label_emb.0.{0 if layer.endswith('1') else 2}.{kind}"
            case ["controlnet_cond_embedding", "conv_in", kind]:
                to = f"input_hint_block.0.{kind}"
            case ["controlnet_cond_embedding", "conv_out", kind]:
                to = f"input_hint_block.14.{kind}"
            case ["controlnet_cond_embedding", "blocks", index, kind]:
                to = f"input_hint_block.{2 * int(index) + 2}.{kind}"
            case ["controlnet_down_blocks", index, kind]:
                to = f"zero_convs.{index}.0.{kind}"
            case ["controlnet_mid_block", kind]:
                to = f"middle_block_out.0.{kind}"
            case ["mid_block", "resnets", index, layer, kind]:
                to = f"middle_block.{2 * int(index)}.{resnet[layer]}.{kind}"
            case ["mid_block", "attentions", "0", *rest]:
                to = f"middle_block.1.{'.'.join(rest)}"
            case ["down_blocks", block, "resnets", index, layer, kind]:
                to = f"input_blocks.{1 + int(block) * (layers + 1) + int(index)}.0.{resnet[layer]}.{kind}"
            case ["down_blocks", block, "attentions", index, *rest]:
                to = f"input_blocks.{1 + int(block) * (layers + 1) + int(index)}.1.{'.'.join(rest)}"
            case ["down_blocks", block, "downsamplers", "0", "conv", kind]:
                to = f"input_blocks.{(int(block) + 1) * (layers + 1)}.0.op.{kind}"
            case _:
                raise AssertionError(name)
        moved[to] = tensor
    return moved


def test_a_file_of_other_layers_is_refused_with_a_sentence(
    tmp_path: Path, bases: dict[str, Any], loaded: dict[str, Any]
) -> None:
    import torch

    state = dict(loaded["sd-canny"].state_dict())
    del state["time_embedding.linear_1.weight"]
    spec = saved(state, tmp_path / "ControlNet" / "cut.safetensors")
    with pytest.raises(
        InvalidRequest, match=r"cut.safetensors does not have the layers of a ControlNetModel"
    ):
        control.load(spec, bases["sd"], torch.float32, "cpu")
