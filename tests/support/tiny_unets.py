"""Tiny pipelines around a UNet: pixels without words, edits, depth, consistency, Kandinsky, DeepFloyd IF."""

from __future__ import annotations

from typing import Any

from tests.support import tiny
from tests.support.tiny_parts import linear, part, seeded


def unconditional(name: str = "DDPMPipeline", size: int = 64) -> Any:
    """A pixel-space model of size x size pixels."""
    import diffusers

    unet = part(
        "UNet2DModel",
        sample_size=size,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    )
    scheduler = "DDIMScheduler" if name == "DDIMPipeline" else "DDPMScheduler"
    return getattr(diffusers, name)(unet=unet, scheduler=getattr(diffusers, scheduler)())


def _widened(base: Any, channels: int) -> Any:
    """The UNet of `base` with another number of input channels."""
    from diffusers import UNet2DConditionModel

    config = {key: value for key, value in base.unet.config.items() if not key.startswith("_")}
    return seeded(UNet2DConditionModel.from_config, {**config, "in_channels": channels})


def pix2pix() -> Any:
    from diffusers import StableDiffusionInstructPix2PixPipeline

    base = tiny.sd()
    return StableDiffusionInstructPix2PixPipeline(
        **{**base.components, "unet": _widened(base, 8)}, requires_safety_checker=False
    )


def pix2pix_xl() -> Any:
    from diffusers import StableDiffusionXLInstructPix2PixPipeline

    base = tiny.sdxl()
    parts = {k: v for k, v in base.components.items() if k not in ("image_encoder", "feature_extractor")}
    return StableDiffusionXLInstructPix2PixPipeline(**{**parts, "unet": _widened(base, 8)})


def depth() -> Any:
    from diffusers import StableDiffusionDepth2ImgPipeline
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    base = tiny.sd()
    config = DPTConfig(
        backbone_config=None,
        is_hybrid=False,
        image_size=32,
        patch_size=16,
        num_channels=3,
        hidden_size=16,
        num_hidden_layers=4,
        backbone_out_indices=(0, 1, 2, 3),
        num_attention_heads=4,
        intermediate_size=16,
        hidden_act="gelu",
        neck_hidden_sizes=[4, 4, 4, 4],
        fusion_hidden_size=4,
        reassemble_factors=[4, 2, 1, 0.5],
    )
    keep = ("vae", "text_encoder", "tokenizer", "scheduler")
    return StableDiffusionDepth2ImgPipeline(
        **{name: base.components[name] for name in keep},
        unet=_widened(base, 5),
        depth_estimator=seeded(DPTForDepthEstimation, config),
        feature_extractor=DPTImageProcessor(size={"height": 32, "width": 32}),
    )


def lcm() -> Any:
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler, UNet2DConditionModel

    base = tiny.sd()
    config = {key: value for key, value in base.unet.config.items() if not key.startswith("_")}
    unet = seeded(UNet2DConditionModel.from_config, {**config, "time_cond_proj_dim": 32})
    parts = {**base.components, "unet": unet, "scheduler": LCMScheduler(**tiny.BETAS)}
    return LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)


def sd2() -> Any:
    """SD with SD 2's traits: v prediction, a wider text, heads by width, linear projections."""
    from diffusers import UNet2DConditionModel

    base = tiny.sd("v_prediction")
    config = {key: value for key, value in base.unet.config.items() if not key.startswith("_")}
    config |= {"attention_head_dim": (2, 4), "use_linear_projection": True}
    base.unet = seeded(UNet2DConditionModel.from_config, config)
    return base


def kandinsky22(name: str = "KandinskyV22CombinedPipeline") -> Any:
    """The combined pipeline: a prior that makes an image embedding of the prompt, and its decoder."""
    import diffusers
    from diffusers import UnCLIPScheduler
    from transformers import (
        CLIPImageProcessor,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    unet = part(
        "UNet2DConditionModel",
        in_channels=9 if "Inpaint" in name else 4,
        out_channels=8,
        addition_embed_type="image",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(8, 16),
        layers_per_block=1,
        encoder_hid_dim=32,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=16,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
        class_embed_type=None,
        norm_num_groups=2,
        sample_size=16,
    )
    prior = part(
        "PriorTransformer",
        num_attention_heads=2,
        attention_head_dim=12,
        embedding_dim=32,
        num_layers=1,
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        image_size=224,
        projection_dim=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=1,
        patch_size=112,
    )
    return getattr(diffusers, name)(
        unet=unet,
        scheduler=linear("DDPMScheduler", clip_sample=False, variance_type="learned_range"),
        movq=_movq(),
        prior_prior=prior,
        prior_image_encoder=seeded(CLIPVisionModelWithProjection, vision),
        prior_text_encoder=seeded(CLIPTextModelWithProjection, tiny._clip_config(projection_dim=32)),
        prior_tokenizer=tiny.clip_tokenizer(),
        prior_scheduler=UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", num_train_timesteps=1000,
            clip_sample_range=10.0,
        ),
        prior_image_processor=CLIPImageProcessor(crop_size=224, size={"shortest_edge": 224}),
    )  # fmt: skip


def _movq(blocks: int = 2) -> Any:
    plain = blocks - 1
    return part(
        "VQModel",
        block_out_channels=[32] * blocks,
        down_block_types=["DownEncoderBlock2D"] * plain + ["AttnDownEncoderBlock2D"],
        up_block_types=["AttnUpDecoderBlock2D"] + ["UpDecoderBlock2D"] * plain,
        layers_per_block=1,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
        latent_channels=4,
    )


def kandinsky3() -> Any:
    from diffusers import Kandinsky3Pipeline

    unet = part(
        "Kandinsky3UNet",
        in_channels=4,
        time_embedding_dim=4,
        groups=2,
        attention_head_dim=4,
        layers_per_block=2,
        block_out_channels=(8, 8),
        cross_attention_dim=8,
        encoder_hid_dim=32,
    )
    return Kandinsky3Pipeline(
        unet=unet,
        scheduler=linear("DDPMScheduler"),
        movq=_movq(4),
        text_encoder=tiny._t5(),
        tokenizer=tiny.t5_tokenizer(),
    )


def deepfloyd() -> Any:
    from diffusers import IFPipeline

    unet = part(
        "UNet2DConditionModel",
        sample_size=64,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        in_channels=3,
        out_channels=6,
        cross_attention_dim=32,
        encoder_hid_dim=32,
        attention_head_dim=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
        norm_num_groups=2,
    )
    return IFPipeline(
        unet=unet,
        scheduler=linear("DDPMScheduler", variance_type="learned_range", thresholding=True),
        text_encoder=tiny._t5(),
        tokenizer=tiny.t5_tokenizer(),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
