"""Which device and number format a run uses, and the sentence that tells the person why.

Chosen by what the hardware can do, never by its name: bf16 pays only where the chip multiplies bf16 matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "float32", "float16", "bfloat16")
_SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


class NoSuchDevice(ValueError):
    """A device or number format was asked for that this machine does not have."""


@dataclass(frozen=True)
class DevicePlan:
    """Where and how models run. channels_last: whether the VAE's convolutions are laid out channels last."""

    device: str
    dtype: str
    channels_last: bool
    sentence: str

    @property
    def torch_dtype(self) -> torch.dtype:
        """The number format as torch's."""
        import torch

        found = getattr(torch, self.dtype)
        assert isinstance(found, torch.dtype)
        return found

    @property
    def badge(self) -> str:
        """Device and format in a word or two, for the page's header."""
        return f"{self.device.split(':')[0].upper()}, {_SHORT[self.dtype]}"


def choose(device: str = "auto", dtype: str = "auto") -> DevicePlan:
    """The plan for this machine. device: auto, cpu, cuda, cuda:N or mps. Raises `NoSuchDevice`."""
    import torch

    if device == "auto":
        device = (
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    kind = device.split(":")[0]
    if kind == "cuda" and not torch.cuda.is_available():
        raise NoSuchDevice(
            "--device cuda was asked for, but torch finds no CUDA GPU here. Use --device auto or cpu."
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise NoSuchDevice(
            "--device mps was asked for, but this is no Mac with Metal. Use --device auto or cpu."
        )
    if kind not in ("cpu", "cuda", "mps"):
        raise NoSuchDevice(f"There is no device {device!r}. Choose auto, cpu, cuda, cuda:N or mps.")
    if dtype not in DTYPES:
        raise NoSuchDevice(f"There is no number format {dtype!r}. Choose one of {', '.join(DTYPES)}.")
    own, reason = {"cpu": _on_cpu, "cuda": _on_cuda, "mps": _on_mps}[kind](device)
    if dtype != "auto":
        own, reason = dtype, "as asked for with --dtype"
    name = (
        torch.cuda.get_device_name(device)
        if kind == "cuda"
        else {"cpu": "the processor", "mps": "Apple's GPU"}[kind]
    )
    return DevicePlan(device, own, kind != "mps", f"Runs on {name} in {own}: {reason}.")


def _on_cpu(device: str) -> tuple[str, str]:
    import torch

    # AMX multiplies bf16 tiles several times faster than float32; AVX512-bf16 alone gains nothing here.
    if torch.cpu._is_amx_tile_supported():
        return "bfloat16", "it has bf16 matrix units, which are several times faster than float32"
    return "float32", "it has no bf16 matrix units, so smaller formats would be slower"


def _on_cuda(device: str) -> tuple[str, str]:
    import torch

    if torch.cuda.get_device_capability(device) >= (8, 0):
        return "bfloat16", "it computes bf16 natively, which halves memory without float16's overflows"
    return "float16", "it has no native bf16, and float16 halves memory"


def _on_mps(device: str) -> tuple[str, str]:
    return "float16", "it halves memory against float32"
