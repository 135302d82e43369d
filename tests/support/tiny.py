"""Models and control networks at tiny size: the real diffusers classes with random weights, saved as folders.

Everything is seeded, so a model is the same in every run; a picture from it means nothing.
"""

from __future__ import annotations

import inspect
import string
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pipelines.request import GenerationRequest

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def clip_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    letters = string.ascii_lowercase + string.digits + ",.!?:()-'"
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=77)


def _clip_config(**changes: Any) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=1000,
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=3,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        **changes,
    )


def _vae(**changes: Any) -> Any:
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=[4, 8],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=4,
        norm_num_groups=2,
        **changes,
    ).eval()


def sd(prediction_type: str = "epsilon", *, attentive_first: bool = False) -> Any:
    """A StableDiffusionPipeline; native size 64 x 64 (VAE scale 2).

    attentive_first: attention in the first block, as in the published ones, which T2I-Adapters count on.
    """
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    down, up = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=32,
        down_block_types=down[::-1] if attentive_first else down,
        up_block_types=up[::-1] if attentive_first else up,
        attention_head_dim=4 if attentive_first else 8,
        cross_attention_dim=32,
        norm_num_groups=2,
    ).eval()
    scheduler = DDIMScheduler(
        clip_sample=False, set_alpha_to_one=False, prediction_type=prediction_type, **BETAS
    )
    return StableDiffusionPipeline(
        unet=unet,
        scheduler=scheduler,
        vae=_vae(),
        text_encoder=CLIPTextModel(_clip_config()).eval(),
        tokenizer=clip_tokenizer(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> Any:
    """A StableDiffusionXLPipeline; native size 64 x 64."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(2, 4),
        layers_per_block=2,
        sample_size=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=80,
        cross_attention_dim=64,
        norm_num_groups=1,
    ).eval()
    config = _clip_config(hidden_act="gelu", projection_dim=32)
    return StableDiffusionXLPipeline(
        unet=unet,
        scheduler=EulerDiscreteScheduler(timestep_spacing="leading", **BETAS),
        vae=_vae(sample_size=128),
        text_encoder=CLIPTextModel(config).eval(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(config).eval(),
        tokenizer_2=clip_tokenizer(),
    )


def t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    ends = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces = [*ends, *((letter, -3.0) for letter in string.ascii_lowercase)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=77)


def _t5() -> Any:
    import torch
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=100,
        d_model=32,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
    )
    return T5EncoderModel(config).eval()


def _flow_vae(channels: int) -> Any:
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=[4, 4],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=channels,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0609,
        scaling_factor=1.5035,
    ).eval()


def sd_inpaint() -> Any:
    """A StableDiffusionInpaintPipeline whose UNet has 9 channels: latent, mask and masked picture."""
    import torch
    from diffusers import StableDiffusionInpaintPipeline, UNet2DConditionModel

    base = sd()

    torch.manual_seed(0)
    # Keys with an underscore name which values are defaults, and from_config would keep those.
    config = {key: value for key, value in base.unet.config.items() if not key.startswith("_")}
    unet = UNet2DConditionModel.from_config({**config, "in_channels": 9}).eval()
    parts = {**base.components, "unet": unet}
    return StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)


def sd3() -> Any:
    """A StableDiffusion3Pipeline; native size 64 x 64 (VAE scale 2, patches of 1)."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection

    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=32,
        patch_size=1,
        in_channels=4,
        num_layers=2,  # control is added to all blocks but the last
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pooled_projection_dim=64,
        out_channels=4,
    ).eval()
    config = _clip_config(hidden_act="gelu", projection_dim=32)
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_flow_vae(4),
        text_encoder=CLIPTextModelWithProjection(config).eval(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(config).eval(),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=_t5(),
        tokenizer_3=t5_tokenizer(),
    )


def flux(guided: bool = False) -> Any:
    """A FluxPipeline; VAE scale 2, latents packed two by two. guided: guidance is an input of the
    transformer, as in FLUX.1 [dev]."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=8,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=guided,
    ).eval()
    config = _clip_config(hidden_act="gelu", projection_dim=32)
    return FluxPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_flow_vae(2),
        text_encoder=CLIPTextModel(config).eval(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=_t5(),
        tokenizer_2=t5_tokenizer(),
    )


def _grown(network: Any, seed: int) -> Any:
    """`network` with random weights where a fresh one has zeros: else it would lead nothing."""
    import torch

    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            if not weight.any():
                weight.copy_(torch.randn(weight.shape, generator=drawn) * 0.3)
    return network.eval()


def sd_controlnet(seed: int = 1) -> Any:
    """A ControlNetModel for `sd`; the map is halved once, like the latents."""
    import torch
    from diffusers import ControlNetModel

    torch.manual_seed(seed)
    network = ControlNetModel.from_unet(
        sd().unet, conditioning_embedding_out_channels=(4, 8), load_weights_from_unet=False
    )
    return _grown(network, seed)


def sdxl_controlnet(seed: int = 1) -> Any:
    """A ControlNetModel for `sdxl`."""
    import torch
    from diffusers import ControlNetModel

    torch.manual_seed(seed)
    network = ControlNetModel.from_unet(
        sdxl().unet, conditioning_embedding_out_channels=(2, 4), load_weights_from_unet=False
    )
    return _grown(network, seed)


def sdxl_union(seed: int = 1) -> Any:
    """A ControlNetUnionModel of six sorts for `sdxl`."""
    import torch
    from diffusers import ControlNetUnionModel

    unet = sdxl().unet
    accepted = inspect.signature(ControlNetUnionModel.__init__).parameters
    config = {name: value for name, value in unet.config.items() if name in accepted}
    torch.manual_seed(seed)
    network = ControlNetUnionModel(
        **config,
        conditioning_embedding_out_channels=(2, 4),
        num_control_type=6,
        num_trans_channel=2,
        num_trans_head=1,
        num_trans_layer=1,
        num_proj_channel=2,
    )
    return _grown(network, seed)


def sd3_controlnet(seed: int = 1) -> Any:
    """An SD3ControlNetModel for `sd3`."""
    import torch
    from diffusers import SD3ControlNetModel

    base = dict(sd3().transformer.config)
    accepted = inspect.signature(SD3ControlNetModel.__init__).parameters
    torch.manual_seed(seed)
    return _grown(
        SD3ControlNetModel(**{name: value for name, value in base.items() if name in accepted}), seed
    )


def flux_controlnet(seed: int = 1, num_mode: int | None = None) -> Any:
    """A FluxControlNetModel for `flux`; a union with `num_mode` sorts."""
    import torch
    from diffusers import FluxControlNetModel

    base = dict(flux().transformer.config)
    accepted = inspect.signature(FluxControlNetModel.__init__).parameters
    config = {name: value for name, value in base.items() if name in accepted}
    torch.manual_seed(seed)
    return _grown(FluxControlNetModel(**config, num_mode=num_mode), seed)


def sd_adapter(seed: int = 1) -> Any:
    """A T2IAdapter for `sd(attentive_first=True)`."""
    import torch
    from diffusers import T2IAdapter

    torch.manual_seed(seed)
    return T2IAdapter(channels=[4, 8], num_res_blocks=2, downscale_factor=2).eval()


def sdxl_adapter(seed: int = 1) -> Any:
    """A T2IAdapter for `sdxl`."""
    import torch
    from diffusers import T2IAdapter

    torch.manual_seed(seed)
    return T2IAdapter(channels=[2, 4], downscale_factor=4, adapter_type="full_adapter_xl").eval()


OLD = ("sd", "sd-v", "sdxl")


def save_all(folder: Path, names: Iterable[str] = OLD) -> Path:
    """Writes the tiny models of those names into `folder` and returns it: a models folder.

    There are sd, sd-v, sdxl, sd-inpaint, sd-adapted (which sd-adapter leads), sd3 and flux.
    """
    makers: dict[str, Callable[[], Any]] = {
        "sd": sd,
        "sd-v": lambda: sd("v_prediction"),
        "sdxl": sdxl,
        "sd-inpaint": sd_inpaint,
        "sd-adapted": lambda: sd(attentive_first=True),
        "sd3": sd3,
        "flux": flux,
    }
    for name in names:
        makers[name]().save_pretrained(folder / name, safe_serialization=True)
    return folder


def save_controls(folder: Path) -> Path:
    """Writes tiny control networks into `folder`/ControlNet and returns `folder`: a models folder."""
    made: dict[str, Any] = {
        "sd-canny": sd_controlnet(1),
        "sd-pose": sd_controlnet(2),
        "sdxl-canny": sdxl_controlnet(),
        "sdxl-union": sdxl_union(),
        "sd3-canny": sd3_controlnet(),
        "flux-canny": flux_controlnet(),
        "flux-union": flux_controlnet(2, num_mode=5),
        "sd-adapter": sd_adapter(),
        "sdxl-adapter": sdxl_adapter(),
    }
    for name, network in made.items():
        network.save_pretrained(folder / "ControlNet" / name, safe_serialization=True)
    return folder


def request(**changes: Any) -> GenerationRequest:
    """A short run on the tiny SD model."""
    usual = {
        "prompt": "a house",
        "model": "sd",
        "width": 64,
        "height": 64,
        "num_inference_steps": 3,
        "seed": 1,
    }
    return GenerationRequest.parse(usual | changes)
