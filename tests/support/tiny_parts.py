"""What the tiny families share: tokenizers built in memory, small language models, VAEs and schedulers."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from typing import Any

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


def gemma_tokenizer(**options: Any) -> Any:
    from transformers import GemmaTokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokens = [*special, "▁", *(letter for letter in LETTERS if letter != " ")]
    return GemmaTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], **options)


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
