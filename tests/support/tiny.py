"""Stable Diffusion and SDXL at tiny size: the real diffusers classes with random weights, saved as folders.

Everything is seeded, so a model is the same in every run; a picture from it means nothing.
"""

from __future__ import annotations

import string
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


def sd(prediction_type: str = "epsilon") -> Any:
    """A StableDiffusionPipeline; native size 64 x 64 (VAE scale 2)."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
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


def save_all(folder: Path) -> Path:
    """Writes every tiny model into `folder` (sd, sd-v, sdxl) and returns it: a models folder."""
    for name, make in {"sd": sd, "sd-v": lambda: sd("v_prediction"), "sdxl": sdxl}.items():
        make().save_pretrained(folder / name, safe_serialization=True)
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
