"""The other families at tiny size: diffusers' real pipelines and text encoders, random weights, built in memory.

`MAKERS` maps a key to what builds the model. Everything is seeded, as in tiny.py.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.support import tiny

LETTERS = string.ascii_letters + string.digits + " .,!?:;()[]{}<>|_-'\"\n/*#"
CHAT = "{% for m in messages %}<|im_start|>{{ m['role'] }} {{ m['content'] }}<|im_end|>{% endfor %}"


def seeded(build: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What `build` makes with torch's generator at 0, in evaluation mode where it is a module."""
    import torch

    torch.manual_seed(0)
    made = build(*args, **kwargs)
    return made.eval() if isinstance(made, torch.nn.Module) else made


def grown(network: Any) -> Any:
    """`network` with small random weights where a fresh one has zeros: else it would do nothing."""
    import torch

    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            if not weight.any():
                weight.copy_(torch.randn(weight.shape, generator=drawn) * 0.1)
    return network.eval()


# ------------------------------------------------------------------------------------ what reads the prompt


def qwen_tokenizer() -> Any:
    """Byte-level letters without merges, with a chat template."""
    from transformers import Qwen2Tokenizer

    shown = {" ": "Ġ", "\n": "Ċ"}
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|image_pad|>", "<|video_pad|>"]
    tokens = [*special, *(shown.get(letter, letter) for letter in LETTERS)]
    tokenizer = Qwen2Tokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    tokenizer.chat_template = CHAT
    return tokenizer


def gemma_tokenizer() -> Any:
    from transformers import GemmaTokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokens = [*special, "▁", *(letter for letter in LETTERS if letter != " ")]
    return GemmaTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])


def bert_tokenizer() -> Any:
    from transformers import BertTokenizer

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*special, *LETTERS, *("##" + letter for letter in string.ascii_lowercase)]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return BertTokenizer(vocab=vocab, model_max_length=77)


SMALL: Mapping[str, Any] = {
    "vocab_size": 200,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


def language_model(name: str, **changes: Any) -> Any:
    """transformers' model of that name at tiny size, with its own configuration class."""
    import transformers

    cls = getattr(transformers, name)
    return seeded(cls, cls.config_class(**{**SMALL, **changes}))


def qwen_vl(**changes: Any) -> Any:
    """Qwen 2.5 VL, whose picture tower is as small as its language model."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default", "rope_theta": 1e6}
    text = {**SMALL, "rope_scaling": rope, "rope_parameters": rope, "hidden_size": 16, "head_dim": 8}
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 16,
        "patch_size": 14,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        vision_start_token_id=3,
        vision_end_token_id=4,
        image_token_id=5,
        video_token_id=6,
        **changes,
    )
    return seeded(Qwen2_5_VLForConditionalGeneration, config)


def vae(channels: int = 4, blocks: int = 2, **changes: Any) -> Any:
    """An AutoencoderKL that shrinks by 2 for every block but the last."""
    from diffusers import AutoencoderKL

    return seeded(
        AutoencoderKL,
        block_out_channels=[4] * blocks,
        down_block_types=["DownEncoderBlock2D"] * blocks,
        up_block_types=["UpDecoderBlock2D"] * blocks,
        latent_channels=channels,
        norm_num_groups=1,
        **changes,
    )


def flow(**changes: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**changes)


def linear(name: str, **changes: Any) -> Any:
    import diffusers

    return getattr(diffusers, name)(beta_start=0.0001, beta_end=0.02, beta_schedule="linear", **changes)


def part(name: str, **config: Any) -> Any:
    """diffusers' model of that name, seeded, with no layer left at zero."""
    import diffusers

    return grown(seeded(getattr(diffusers, name), **config))


# ------------------------------------------------------------------------------------------------ pipelines


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
    tokenizer = gemma_tokenizer()
    tokenizer.padding_side = "right"  # Gemma makes nothing of rows that begin with padding
    return LuminaPipeline(
        transformer=transformer,
        vae=vae(blocks=4),
        scheduler=flow(),
        text_encoder=language_model("GemmaModel"),
        tokenizer=tokenizer,
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


MAKERS: Mapping[str, Callable[[], Any]] = {
    "sd1": tiny.sd,
    "sd2": sd2,
    "sdxl": tiny.sdxl,
    "sd3": tiny.sd3,
    "flux": tiny.flux,
    "sd-inpaint": tiny.sd_inpaint,
    "ddpm": unconditional,
    "ddim": lambda: unconditional("DDIMPipeline"),
    "pix2pix": pix2pix,
    "pix2pix-xl": pix2pix_xl,
    "depth": depth,
    "lcm": lcm,
    "flux-fill": flux_fill,
    "flux-kontext": flux_kontext,
    "flux2-klein": flux2_klein,
    "chroma": chroma,
    "z-image": z_image,
    "qwen-image": qwen_image,
    "qwen-edit": qwen_edit,
    "pixart-alpha": lambda: pixart("PixArtAlphaPipeline"),
    "pixart-sigma": pixart,
    "sana": sana,
    "sana-sprint": lambda: sana("SanaSprintPipeline"),
    "aura-flow": aura_flow,
    "hunyuan": hunyuan,
    "lumina": lumina,
    "lumina2": lumina2,
    "cogview3": cogview3,
    "cogview4": cogview4,
    "kandinsky22": kandinsky22,
    "kandinsky22-inpaint": lambda: kandinsky22("KandinskyV22InpaintCombinedPipeline"),
    "kandinsky3": kandinsky3,
    "if": deepfloyd,
}
"""Key of a tiny model -> what builds it."""


def save(folder: Path, names: Iterable[str] = tuple(MAKERS)) -> Path:
    """Writes the tiny models of those names into `folder` and returns it: a models folder."""
    for name in names:
        MAKERS[name]().save_pretrained(folder / name, safe_serialization=True)
    return folder
