"""Tiny pipelines around a transformer, with their own kinds of text encoders."""

from __future__ import annotations

from typing import Any

from tests.support import tiny
from tests.support.tiny_parts import (
    CHAT,
    SMALL,
    bert_tokenizer,
    flow,
    gemma_tokenizer,
    language_model,
    linear,
    part,
    qwen_tokenizer,
    qwen_vl,
    seeded,
    vae,
)


def pixart(name: str = "PixArtSigmaPipeline") -> Any:
    import diffusers

    transformer = part(
        "PixArtTransformer2DModel",
        sample_size=32,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        norm_num_groups=1,
        use_additional_conditions=False,
    )
    return getattr(diffusers, name)(
        transformer=transformer,
        vae=vae(blocks=2),
        scheduler=linear("DPMSolverMultistepScheduler"),
        text_encoder=tiny._t5(),
        tokenizer=tiny.t5_tokenizer(),
    )


def _dc() -> Any:
    return part(
        "AutoencoderDC",
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )


def sana(name: str = "SanaPipeline") -> Any:
    import diffusers

    sprint = name != "SanaPipeline"
    transformer = part(
        "SanaTransformer2DModel",
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=32,
        sample_size=32,
        guidance_embeds=sprint,
        qk_norm="rms_norm_across_heads" if sprint else None,
    )
    sprint_scheduler = diffusers.SCMScheduler()
    return getattr(diffusers, name)(
        transformer=transformer,
        vae=_dc(),
        scheduler=sprint_scheduler if sprint else flow(shift=7.0),
        text_encoder=language_model("Gemma2Model"),
        tokenizer=gemma_tokenizer(),
    )


def lumina() -> Any:
    from diffusers import LuminaPipeline

    transformer = part(
        "LuminaNextDiT2DModel",
        sample_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=16,
        num_layers=2,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        ffn_dim_multiplier=None,
        norm_eps=1e-5,
        learn_sigma=True,
        qk_norm=True,
        cross_attention_dim=32,
        scaling_factor=1.0,
    )
    return LuminaPipeline(
        transformer=transformer,
        vae=vae(blocks=4),
        scheduler=flow(),
        text_encoder=language_model("GemmaModel"),
        tokenizer=gemma_tokenizer(padding_side="right"),  # it makes nothing of rows that begin with padding
    )


def lumina2() -> Any:
    from diffusers import Lumina2Pipeline

    transformer = part(
        "Lumina2Transformer2DModel",
        sample_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=24,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=2,
        scaling_factor=1.0,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(512, 128, 128),
        cap_feat_dim=32,
    )
    return Lumina2Pipeline(
        transformer=transformer,
        vae=vae(blocks=4, shift_factor=0.1159, scaling_factor=0.3611),
        scheduler=flow(),
        text_encoder=language_model("Gemma2Model"),
        tokenizer=gemma_tokenizer(),
    )


def z_image() -> Any:
    from diffusers import ZImagePipeline

    transformer = part(
        "ZImageTransformer2DModel",
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        qk_norm=True,
        cap_feat_dim=32,
        axes_dims=[8, 4, 4],
        axes_lens=[512, 64, 64],
    )
    return ZImagePipeline(
        transformer=transformer,
        vae=vae(blocks=2, shift_factor=0.1159, scaling_factor=0.3611),
        scheduler=flow(shift=3.0),
        text_encoder=language_model("Qwen3Model"),
        tokenizer=qwen_tokenizer(),
    )


def flux2_klein(name: str = "Flux2KleinPipeline") -> Any:
    import diffusers

    transformer = part(
        "Flux2Transformer2DModel",
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32 * 3,
        timestep_guidance_channels=16,
        axes_dims_rope=[4, 4, 4, 4],
        guidance_embeds=False,
    )
    kl = part(
        "AutoencoderKLFlux2",
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
        sample_size=32,
    )
    return getattr(diffusers, name)(
        transformer=transformer,
        vae=kl,
        scheduler=flow(),
        text_encoder=language_model("Qwen3ForCausalLM", num_hidden_layers=28),
        tokenizer=qwen_tokenizer(),
        is_distilled=False,
    )


def _qwen_parts(halvings: int = 1) -> dict[str, Any]:
    transformer = part(
        "QwenImageTransformer2DModel",
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    kl = part(
        "AutoencoderKLQwenImage",
        base_dim=4,
        z_dim=4,
        dim_mult=[1] * (halvings + 1),
        num_res_blocks=1,
        temperal_downsample=[False] * halvings,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return {
        "transformer": transformer,
        "vae": kl,
        "scheduler": flow(
            base_image_seq_len=256,
            base_shift=0.5,
            max_image_seq_len=8192,
            max_shift=0.9,
            shift=1.0,
            shift_terminal=0.02,
            use_dynamic_shifting=True,
            time_shift_type="exponential",
        ),
        "text_encoder": qwen_vl(),
        "tokenizer": qwen_tokenizer(),
    }


def qwen_image() -> Any:
    from diffusers import QwenImagePipeline

    return QwenImagePipeline(**_qwen_parts())


def qwen_edit() -> Any:
    from diffusers import QwenImageEditPipeline
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    tokenizer = qwen_tokenizer()
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=56 * 56),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT,
    )
    return QwenImageEditPipeline(**_qwen_parts(4), processor=processor)


def aura_flow() -> Any:
    from diffusers import AuraFlowPipeline
    from transformers import UMT5Config, UMT5EncoderModel

    transformer = part(
        "AuraFlowTransformer2DModel",
        sample_size=32,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pos_embed_max_size=1024,
    )
    config = UMT5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    return AuraFlowPipeline(
        transformer=transformer,
        vae=vae(),
        scheduler=flow(),
        text_encoder=seeded(UMT5EncoderModel, config),
        tokenizer=tiny.t5_tokenizer(),
    )


def chroma() -> Any:
    from diffusers import ChromaPipeline

    transformer = part(
        "ChromaTransformer2DModel",
        patch_size=1,
        in_channels=8,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=[4, 4, 8],
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=16,
    )
    return ChromaPipeline(
        transformer=transformer,
        vae=tiny._flow_vae(2),
        scheduler=flow(),
        text_encoder=tiny._t5(),
        tokenizer=tiny.t5_tokenizer(),
    )


def flux_fill() -> Any:
    from diffusers import FluxFillPipeline

    base = tiny.flux()
    config = {key: value for key, value in base.transformer.config.items() if not key.startswith("_")}
    # latents (8), the masked picture's (8) and the mask, a pixel block of 2 x 2 to each of 2 x 2 patches (16)
    transformer = part("FluxTransformer2DModel", **{**config, "in_channels": 32, "out_channels": 8})
    parts = {k: v for k, v in base.components.items() if k not in ("image_encoder", "feature_extractor")}
    return FluxFillPipeline(**{**parts, "transformer": transformer})


def flux_kontext() -> Any:
    from diffusers import FluxKontextPipeline

    return FluxKontextPipeline(**tiny.flux().components)


def hunyuan() -> Any:
    from diffusers import HunyuanDiTPipeline
    from transformers import BertConfig, BertModel

    transformer = part(
        "HunyuanDiT2DModel",
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        in_channels=4,
        cross_attention_dim=32,
        cross_attention_dim_t5=32,
        pooled_projection_dim=16,
        hidden_size=24,
        activation_fn="gelu-approximate",
    )
    config = BertConfig(
        vocab_size=200,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=77,
    )
    return HunyuanDiTPipeline(
        transformer=transformer,
        vae=vae(blocks=4),
        scheduler=linear("DDPMScheduler", prediction_type="v_prediction"),
        text_encoder=seeded(BertModel, config),
        tokenizer=bert_tokenizer(),
        text_encoder_2=tiny._t5(),
        tokenizer_2=tiny.t5_tokenizer(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def cogview3() -> Any:
    from diffusers import CogVideoXDDIMScheduler, CogView3PlusPipeline

    transformer = part(
        "CogView3PlusTransformer2DModel",
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=2,
        out_channels=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=2,
        pos_embed_max_size=64,
        sample_size=32,
    )
    return CogView3PlusPipeline(
        transformer=transformer,
        vae=vae(),
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
        ),
        text_encoder=tiny._t5(),
        tokenizer=tiny.t5_tokenizer(),
    )


def cogview4() -> Any:
    from diffusers import CogView4Pipeline
    from transformers import GlmConfig, GlmModel

    transformer = part(
        "CogView4Transformer2DModel",
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=4,
        out_channels=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=4,
        pos_embed_max_size=64,
        sample_size=32,
        rope_axes_dim=(64, 64),
    )
    config = GlmConfig(**SMALL, pad_token_id=0)
    return CogView4Pipeline(
        transformer=transformer,
        vae=vae(),
        scheduler=flow(
            base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True,
            time_shift_type="linear",
        ),
        text_encoder=seeded(GlmModel, config),
        tokenizer=tiny.clip_tokenizer(),
    )  # fmt: skip
