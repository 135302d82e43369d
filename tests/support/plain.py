"""diffusers' own pipelines as the oracle of pictures, set up as the program sets up its own."""

from typing import Any


def as_ours(pipe: Any) -> Any:
    """The pipeline with its VAE laid out, and its weights frozen, as the manager has them.

    Both choose among kernels that round differently in the last bit: channels_last for convolutions, and
    `requires_grad` for products (`should_fold` in torch's matmul asks for it, with or without gradients).
    """
    import torch

    for name, part in pipe.components.items():
        if not isinstance(part, torch.nn.Module):
            continue
        part.requires_grad_(False)
        if name == "vae" and type(part).__name__ != "AutoencoderKLQwenImage":  # of five dimensions
            part.to(memory_format=torch.channels_last)
    return pipe
