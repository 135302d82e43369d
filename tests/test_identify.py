"""What a file is: told of every family and layout from names and shapes, against diffusers' own classes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.library import denoisers, identify, identify_metadata
from pipelines.library.headers import Header, TensorInfo
from pipelines.library.identify import Identity, identify_header
from tests.support import loras, single_files, tiny, weights

Shapes = dict[str, tuple[int, ...]]


def header(shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str] | None = None) -> Header:
    return Header({name: TensorInfo("F16", shape, 2) for name, shape in shapes.items()}, metadata or {})


def told(shapes: Mapping[str, tuple[int, ...]], name: str = "", **metadata: str) -> Identity:
    found = identify_header(header(shapes, metadata), name)
    assert found is not None
    return found


def shapes_of(library: str, name: str, **config: Any) -> Shapes:
    """Names and shapes of a class's own state dict at its published size, without any memory for it."""
    import importlib

    from accelerate import init_empty_weights

    cls = getattr(importlib.import_module(library), name)
    with init_empty_weights():
        made = cls(cls.config_class(**config)) if library == "transformers" else cls(**config)
    return {key: tuple(value.shape) for key, value in made.state_dict().items()}


def shapes(module: Any) -> Shapes:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


# -------------------------------------------------------------------------------------------- denoisers

DENOISERS = {
    "SD3Transformer2DModel": ("SD3", 4096, 1152, "flow"),
    "FluxTransformer2DModel": ("Flux", 4096, 3072, "flow"),
    "Flux2Transformer2DModel": ("Flux.2", 15360, 6144, "flow"),
    "ChromaTransformer2DModel": ("Chroma", 4096, 3072, "flow"),
    "AuraFlowTransformer2DModel": ("AuraFlow", 2048, None, "flow"),
    "PixArtTransformer2DModel": ("PixArt", None, 1152, "epsilon"),
    "SanaTransformer2DModel": ("Sana", 2304, 2240, "flow"),
    "Lumina2Transformer2DModel": ("Lumina 2", 1024, 2304, "flow"),
    "ZImageTransformer2DModel": ("Z-Image", 2560, 3840, "flow"),
    "QwenImageTransformer2DModel": ("Qwen-Image", 3584, 3072, "flow"),
    "CogView4Transformer2DModel": ("CogView4", 4096, None, "flow"),
    "Kandinsky3UNet": ("Kandinsky 3", 4096, None, "epsilon"),
    "UNet2DConditionModel": ("SD", 1280, 320, "epsilon"),
    "UNet2DModel": ("Unconditional", None, 224, "epsilon"),
    "WanTransformer3DModel": ("Wan", None, None, "flow"),
    "HunyuanVideoTransformer3DModel": ("HunyuanVideo", None, None, "flow"),
    "LTXVideoTransformer3DModel": ("LTX", None, None, "flow"),
}


@pytest.mark.parametrize("name", DENOISERS)
def test_denoisers_in_diffusers_layout_are_told(name: str) -> None:
    found = told(shapes_of("diffusers", name))
    assert (found.family, found.text_width, found.width, found.prediction) == DENOISERS[name]
    assert found.sort == "diffusion model" and len(found.holds) == 1
    assert identify.needed(found) == () or "vae" in identify.needed(found)


ORIGINALS = {
    "sd3": "SD3",
    "flux": "Flux",
    "flux2": "Flux.2",
    "chroma": "Chroma",
    "auraflow": "AuraFlow",
    "lumina2": "Lumina 2",
    "z-image-turbo": "Z-Image",
    "qwen-image-2.1": "Qwen-Image 2.1",
    "krea2": "Krea2",
    "hidream": "HiDream",
    "wan": "Wan",
    "hunyuan-video": "HunyuanVideo",
    "mochi-1-preview": "Mochi",
    "ltx2": "LTX2",
}


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_authors_names_are_those_that_diffusers_converts(name: str) -> None:
    from diffusers.loaders.single_file_utils import CHECKPOINT_KEY_NAMES

    marks = CHECKPOINT_KEY_NAMES[name]
    alternatives = [[marks]] if isinstance(marks, str) else [[mark] for mark in marks]
    if name == "auraflow":
        alternatives = [list(marks)]  # there diffusers asks for all of them
    if name == "ltx2":
        alternatives = alternatives[:1]  # the others are its VAEs'
    for names in alternatives:
        assert told(dict.fromkeys(names, (64, 64))).family == ORIGINALS[name]


def ldm(
    text: int = 768, channels: int = 4, label: int | None = None, encoders: str = "", vae: bool = True
) -> Shapes:
    """A checkpoint in CompVis' layout, with the tensors that tell one from another."""
    unet = {
        "input_blocks.0.0.weight": (320, channels, 3, 3),
        "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight": (320, text),
        "out.2.weight": (4, 320, 3, 3),
    }
    if label:
        unet["label_emb.0.0.weight"] = (1280, label)
    made = {f"model.diffusion_model.{name}": shape for name, shape in unet.items()}
    if vae:
        made |= {f"first_stage_model.{name}": shape for name, shape in VAE.items()}
    for place in encoders.split():
        made[f"{place}.weight"] = (64, 64)
    return made


VAE = {"decoder.conv_in.weight": (512, 4, 3, 3), "decoder.mid.block_1.conv1.weight": (512, 512, 3, 3)}
CLIP_1 = "cond_stage_model.transformer.text_model.x"
CLIP_2 = "cond_stage_model.model.transformer.x"
NOOB: Shapes = {"v_pred": (), "ztsnr": ()}
CLIP_XL = "conditioner.embedders.0.transformer.x conditioner.embedders.1.model.x"


@pytest.mark.parametrize(
    ("made", "name", "expected"),
    [
        (ldm(encoders=CLIP_1), "", ("SD", "", 768, "epsilon")),
        (ldm(channels=9, encoders=CLIP_1), "", ("SD", "inpaint", 768, "epsilon")),
        (ldm(channels=8, encoders=CLIP_1), "", ("SD", "edit", 768, "epsilon")),
        (ldm(1024, encoders=CLIP_2), "v2-1_768-ema-pruned", ("SD", "", 1024, "v_prediction")),
        (ldm(1024, encoders=CLIP_2), "v2-1_512-ema-pruned", ("SD", "", 1024, "epsilon")),
        (ldm(1024, encoders=CLIP_2), "512-base-ema", ("SD", "", 1024, "epsilon")),
        (ldm(1024, encoders=CLIP_2), "sd_turbo", ("SD", "", 1024, "epsilon")),
        (ldm(1024, channels=9, encoders=CLIP_2), "512-inpainting-ema", ("SD", "inpaint", 1024, "epsilon")),
        (ldm(1024, channels=5, encoders=CLIP_2), "512-depth-ema", ("SD", "depth", 1024, "epsilon")),
        (ldm(1024, channels=7, encoders=CLIP_2), "x4-upscaler-ema", ("SD", "upscale", 1024, "epsilon")),
        (ldm(2048, label=2816, encoders=CLIP_XL), "", ("SDXL", "", 2048, "epsilon")),
        (ldm(2048, channels=9, label=2816, encoders=CLIP_XL), "", ("SDXL", "inpaint", 2048, "epsilon")),
        (ldm(2048, channels=8, label=2816, encoders=CLIP_XL), "", ("SDXL", "edit", 2048, "epsilon")),
        (
            ldm(1280, label=2560, encoders="conditioner.embedders.0.model.x"),
            "sd_xl_refiner_1.0",
            ("SDXL", "refiner", 1280, "epsilon"),
        ),
        (ldm(2048, label=2816, encoders=CLIP_XL) | NOOB, "", ("SDXL", "", 2048, "v_prediction")),
        (ldm(64, label=80, encoders=CLIP_XL), "a tiny one", ("SDXL", "", 64, "epsilon")),
    ],
)
def test_checkpoints_and_their_variants_are_told(
    made: Shapes, name: str, expected: tuple[str, str, int, str]
) -> None:
    found = told(made, name)
    assert (found.family, found.variant, found.text_width, found.prediction) == expected
    assert found.sort == "checkpoint" and {"unet", "vae"} < found.holds and identify.needed(found) == ()
    assert found.format == "original"


WHOLE = {
    "sd1": ("SD", "", {"text_encoder"}),
    "sd1-inpaint": ("SD", "inpaint", {"text_encoder"}),
    "sd1-edit": ("SD", "edit", {"text_encoder"}),
    "sd2": ("SD", "", {"text_encoder"}),
    "sdxl": ("SDXL", "", {"text_encoder", "text_encoder_2"}),
    "sdxl-refiner": ("SDXL", "refiner", {"text_encoder_2"}),
    "sd3": ("SD3", "", {"text_encoder", "text_encoder_2"}),
    "flux": ("Flux", "", {"text_encoder", "text_encoder_2"}),
}
PARTS = {
    **{"model.diffusion_model.": "diffusion model", "first_stage_model.": "vae", "vae.": "vae"},
    **dict.fromkeys(("cond_stage_model.transformer.", "cond_stage_model.model."), "text encoder"),
    **dict.fromkeys(
        ("text_encoders.clip_l.transformer.", "text_encoders.t5xxl.transformer."), "text encoder"
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_pipelines_in_one_file_are_told_and_so_is_each_of_their_parts(name: str) -> None:
    made = single_files.tensors_of(single_files.build(name), name)
    all_of = {key: tuple(value.shape) for key, value in made.items()}
    found, (family, variant, encoders) = told(all_of, name), WHOLE[name]
    denoiser = "transformer" if family in ("SD3", "Flux") else "unet"
    assert (found.sort, found.family, found.variant) == ("checkpoint", family, variant)
    assert found.holds == encoders | {denoiser, "vae"} and identify.needed(found) == ()
    for prefix, sort in PARTS.items():
        part = {key.removeprefix(prefix): shape for key, shape in all_of.items() if key.startswith(prefix)}
        if part:
            one = told(part)
            assert one.sort == sort and one.family == (family if sort == "diffusion model" else "")


def test_metadata_decides_what_a_model_predicts() -> None:
    for said, expected in (("v", "v_prediction"), ("epsilon", "epsilon")):
        assert told(ldm(1024), "x", **{"modelspec.prediction_type": said}).prediction == expected


def test_what_a_checkpoint_lacks_is_told() -> None:
    bare = {name.removeprefix("model.diffusion_model."): shape for name, shape in ldm(vae=False).items()}
    assert told(bare).sort == "diffusion model"
    assert identify.needed(told(bare)) == ("vae", "text_encoder")
    assert identify.needed(told(ldm(2048, label=2816))) == ("text_encoder", "text_encoder_2")
    assert identify.needed(
        told(ldm(1280, label=2560, encoders="conditioner.embedders.0.model.x", vae=False))
    ) == ("vae",)


def test_whole_transformers_hold_their_encoders_by_the_names_of_components() -> None:
    encoders = {f"text_encoders.{name}.transformer.x": (8, 8) for name in ("clip_l", "clip_g", "t5xxl")}
    sd3 = {
        "model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias": (9216,),
        "vae.x": (1,),
    }
    assert told(sd3 | encoders).holds == {
        *("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"),
    }
    del encoders["text_encoders.clip_g.transformer.x"]
    flux = {"model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale": (128,), "vae.x": (1,)}
    assert told(flux | encoders).holds == {"transformer", "vae", "text_encoder", "text_encoder_2"}
    assert identify.needed(told(flux)) == ("text_encoder", "text_encoder_2")


def test_variants_of_flux_are_told_by_channels_and_kontext_by_name() -> None:
    def flux(channels: int) -> Shapes:
        return {"double_blocks.0.img_attn.norm.key_norm.scale": (128,), "img_in.weight": (3072, channels)}

    assert [told(flux(channels)).variant for channels in (64, 384, 128)] == ["", "inpaint", "control"]
    assert told(flux(64), "flux1-kontext-dev").variant == "edit"


def test_moving_pictures_are_known_and_said_to_be() -> None:
    assert "moving pictures" in told({"head.modulation": (1, 2, 1536)}).note


# ----------------------------------------------------------------------------------------------- LoRAs

FAMILIES = {"sd": "SD", "sdxl": "SDXL", "sd3": "SD3", "flux": "Flux"}


@pytest.mark.parametrize("name", FAMILIES)
def test_loras_of_the_tiny_models_are_told_in_every_layout(name: str) -> None:
    pipe = getattr(tiny, name)()
    made = loras.halves(loras.components(pipe))
    layouts: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
        "peft": loras.as_peft,
        "kohya": loras.as_kohya,
    }
    if "unet" in made:
        layouts["diffusers"] = loras.as_old_diffusers
    for layout, arranged in layouts.items():
        found = told({key: tuple(value.shape) for key, value in arranged(made).items()})
        assert found.sort == "lora" and found.format == layout
        # 32 and 64 wide text is no published model's: there SDXL's deep attention tells the family.
        assert found.family == FAMILIES[name], (layout, found)
        assert found.text_width == {"sd": 32, "sdxl": 64}.get(name)
        assert found.holds >= ({"unet"} if "unet" in made else {"transformer"})


@pytest.mark.parametrize("layout", ["kohya", "loha", "lokr", "peft", "diffusers"])
@pytest.mark.parametrize(("width", "family"), [(768, "SD"), (1024, "SD"), (2048, "SDXL"), (160, "SD")])
def test_the_text_width_tells_for_which_unet_a_lora_is(layout: str, width: int, family: str) -> None:
    found = told(weights.lora(width, layout))
    assert (found.family, found.text_width) == (family, width)
    assert found.format == {"loha": "lycoris", "lokr": "lycoris"}.get(layout, layout)


PUBLISHED = {
    "lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q": "SDXL",
    "lora_unet_double_blocks_0_img_attn_qkv": "Flux",
    "lora_unet_single_blocks_3_linear1": "Flux",
    "transformer.single_transformer_blocks.0.attn.to_q": "Flux",
    "diffusion_model.double_blocks.0.img_attn.qkv": "Flux",
    "lora_unet_joint_blocks_0_context_block_attn_qkv": "SD3",
    "transformer.transformer_blocks.0.attn.to_q": "SD3",
    "transformer.transformer_blocks.59.img_mlp.net.0.proj": "Qwen-Image",
    "diffusion_model.layers.0.attention.to_q": "Z-Image",
    "diffusion_model.blocks.0.self_attn.q": "Wan",
    "transformer.transformer_blocks.0.ff.conv_inverted": "Sana",
}


@pytest.mark.parametrize("layer", PUBLISHED)
def test_layers_that_only_one_family_has_tell_it(layer: str) -> None:
    kohya = layer.startswith("lora_")
    down, up = ("lora_down", "lora_up") if kohya else ("lora_A", "lora_B")
    found = told({f"{layer}.{down}.weight": (4, 1536), f"{layer}.{up}.weight": (1536, 4)})
    assert (found.family, found.format) == (PUBLISHED[layer], "kohya" if kohya else "peft")


def test_metadata_names_the_family_where_the_layers_do_not() -> None:
    made = {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (4, 768)}
    made["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"] = (3072, 4)
    assert told(made).family == ""
    for said, family in (
        ("sd_v1", "SD"),
        ("sdxl_base_v1-0", "SDXL"),
        ("sd3m", "SD3"),
        ("flux1", "Flux"),
        ("flux2", "Flux.2"),
    ):
        assert told(made, ss_base_model_version=said).family == family
    assert told(made, **{"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}).family == "SDXL"
    # A LoRA for SDXL that claims to be one for SD 1: shapes cannot be wrong.
    assert told(weights.lora(2048), ss_base_model_version="sd_v1").family == "SDXL"


def test_trigger_words_are_the_authors_or_those_of_nearly_every_picture() -> None:
    tags = {"10_ann": {"ann woman": 20, "smile": 19, "park": 3}, "5_more": {"ann woman": 7, "hat": 1}}
    assert identify_metadata.trigger_words({"ss_tag_frequency": json.dumps(tags)}) == ("ann woman", "smile")
    said = {"modelspec.trigger_phrase": "ann, a\nwoman ,, ann", "ss_tag_frequency": json.dumps(tags)}
    assert identify_metadata.trigger_words(said) == ("ann", "a woman")


@pytest.mark.parametrize(
    "metadata",
    [
        {"ss_tag_frequency": "[" * 100_000},
        {"ss_tag_frequency": '{"a": {"b": "c", "d": NaN, "e": null, "f": true, "g": 1e999}}'},
        {"ss_tag_frequency": '{"a": 3}'},
        {"ss_tag_frequency": "[]"},
        {"ss_tag_frequency": "no JSON"},
        {"modelspec.trigger_phrase": "a" * 10_000_000},
        {
            "modelspec.title": "\u202e<script>" * 10_000,
            "ss_output_name": "../" * 10_000,
            "sshs_model_hash": "x" * 99,
        },
        {"darkroom": '{"model": "other", "scheduler": ["x"], "num_inference_steps": 1e999}'},
    ],
)
def test_what_strangers_write_into_metadata_does_no_harm(metadata: dict[str, str]) -> None:
    found = told(weights.lora(), **metadata)
    assert found.sort == "lora" and found.hash == "" and found.defaults == {}
    texts = [found.title, found.alias, *found.trigger_words]
    assert all(len(text) <= 200 and text.isprintable() for text in texts)


def test_metadata_of_our_own_tells_title_words_and_settings() -> None:
    suited = {"scheduler": "LCM", "num_inference_steps": 4, "guidance_scale": 1.0, "prompt": "no"}
    found = told(
        weights.lora(160), title="Four steps", trigger_words="ink, line", darkroom=json.dumps(suited)
    )
    assert (found.title, found.trigger_words) == ("Four steps", ("ink", "line"))
    assert found.defaults == {"scheduler": "LCM", "num_inference_steps": 4, "guidance_scale": 1.0}


# ------------------------------------------------------------------------------------------ other add-ons


def test_vaes_are_told_with_their_latent_channels() -> None:
    for name, expected in {
        "AutoencoderKL": ("", 4),
        "AutoencoderDC": ("Sana", 32),
        "AutoencoderKLFlux2": ("Flux.2", 32),
        "AutoencoderKLQwenImage": ("Qwen-Image", 16),
    }.items():
        found = told(shapes_of("diffusers", name))
        assert (found.sort, found.family, found.width, found.format) == ("vae", *expected, "diffusers")
    assert (told(VAE).format, told(VAE).width) == ("original", 4)
    assert told({f"first_stage_model.{name}": shape for name, shape in VAE.items()}).sort == "vae"
    assert [told(VAE, name).family for name in ("sdxl_vae", "vae-ft-mse-840000-ema-pruned")] == ["SDXL", "SD"]
    assert identify_header(header(shapes_of("diffusers", "VQModel"))) is None


def test_text_encoders_are_told_apart() -> None:
    clip_l = shapes_of(
        "transformers", "CLIPTextModel", hidden_size=768, intermediate_size=64, num_hidden_layers=1
    )
    clip_g = shapes_of(
        "transformers",
        "CLIPTextModelWithProjection",
        hidden_size=1280,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=20,
    )
    t5 = shapes_of("transformers", "T5EncoderModel", num_layers=1)
    for made, expected in (
        (clip_l, ("CLIP-L", 768)),
        (clip_g, ("CLIP-G", 1280)),
        (t5, ("T5", 512)),
        ({"text_model.encoder.layers.0.self_attn.out_proj.weight": (768, 768)}, ("CLIP-L", 768)),
        ({"transformer.resblocks.0.attn.out_proj.weight": (1024, 1024)}, ("CLIP-H", 1024)),
        ({"enc.blk.0.attn_q.weight": (4096, 4096)}, ("T5", 4096)),
        ({"model.layers.0.self_attn.q_proj.weight": (3584, 3584)}, ("language model", 3584)),
    ):
        found = told(made)
        assert found.sort == "text encoder" and (found.variant, found.text_width) == expected


def test_embeddings_are_told_by_the_width_of_their_vectors() -> None:
    for made, family, width in (
        ({"emb_params": (2, 768)}, "SD", 768),
        ({"string_to_param.*": (4, 1024)}, "SD", 1024),
        ({"<cat-toy>": (768,)}, "SD", 768),
        ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "SDXL", 2048),
    ):
        found = told(made)
        assert (found.sort, found.family, found.text_width) == ("embedding", family, width)
    for other in ({"weight": (4096, 4096)}, {"a.b": (3, 768)}, {"x": (2, 3, 4)}, {}):
        assert identify_header(header(other)) is None


def test_control_networks_and_adapters_are_told() -> None:
    for name, expected in {
        "sd_controlnet": ("controlnet", "SD", ""),
        "sdxl_union": ("controlnet", "SDXL", "union"),
        "sd3_controlnet": ("controlnet", "SD3", ""),
        "flux_controlnet": ("controlnet", "Flux", ""),
        "sd_adapter": ("adapter", "SD", ""),
        "sdxl_adapter": ("adapter", "SDXL", ""),
    }.items():
        found = told(shapes(getattr(tiny, name)()))
        # A tiny adapter unshuffles by less than the published ones, by which the families are told.
        family = found.family if found.sort == "adapter" else expected[1]
        assert (found.sort, found.family, found.variant) == (expected[0], family, expected[2])


def test_upscalers_are_told_by_the_architectures_that_people_have() -> None:
    old = {"model.0.weight": (64, 3, 3, 3), "model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)}
    new = {"conv_first.weight": (64, 3, 3, 3), "body.0.rdb1.conv1.weight": (32, 64, 3, 3)}
    compact = {"body.0.weight": (64, 3, 3, 3), "body.1.weight": (64,), "body.2.weight": (64, 64, 3, 3)}
    for made in (old, new, compact, {f"params_ema.{name}": shape for name, shape in new.items()}):
        assert told(made).sort == "upscaler"


MARKS = sorted(
    {
        *(name for row in denoisers._ROWS for names in row.marks for name in names),
        *(name for row in denoisers._ROWS for name in (*row.text, *row.inputs)),
        *(name for names in (*identify._VAE_MARKS, *identify._UPSCALERS) for name in names),
        *ldm(label=1),
        *weights.lora(),
        *weights.lora(layout="lokr"),
        *weights.lora(layout="loha"),
        *("conv_in.weight", "up_blocks.0.resnets.0.conv1.weight", "time_embedding.linear_1.weight"),
        *("controlnet_x_embedder.weight", "pos_embed_input.proj.weight", "zero_convs.0.0.weight"),
        *("body.0.resnets.0.block2.weight", "clip_l", "clip_g", "emb_params", "enc.blk.0.attn_q.weight"),
    }
)


SIDE = st.integers(0, 9)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(MARKS), st.tuples() | st.tuples(SIDE) | st.tuples(SIDE, SIDE)))
def test_no_shapes_whatever_make_it_stumble(made: Shapes) -> None:
    found = identify_header(header(made), "x")
    assert found is None or found.sort in identify.SORTS


def test_a_file_is_read_from_the_disk(tmp_path: Path) -> None:
    path = weights.save(tmp_path / "v2-1_768.safetensors", ldm(1024), "BF16", {"modelspec.title": "SD 2.1"})
    found = identify.identify(path)
    assert found is not None and (found.title, found.dtype) == ("SD 2.1", "BF16")
    assert found.prediction == "v_prediction" and found.bytes == path.stat().st_size - path_header(path)


def path_header(path: Path) -> int:
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")
