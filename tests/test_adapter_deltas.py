"""LyCORIS adapters beside a layer give what the same layer gives with the difference in its weight."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.lora.adapter_deltas import BrokenAdapter, Hook
from pipelines.lora.adapter_files import deltas_of, is_finite, read_adapter
from pipelines.lora.adapter_names import LayerNames, original_unet_names
from tests.support import loras, tiny


class Denoiser(torch.nn.Module):
    """One layer of every kind that adapters change."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(6, 8)
        self.square = torch.nn.Linear(8, 8, bias=False)
        self.conv = torch.nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.point = torch.nn.Conv2d(4, 6, 1)
        self.group = torch.nn.GroupNorm(2, 4)
        self.norm = torch.nn.LayerNorm(6)


SHAPES = {
    "linear": (5, 6),
    "square": (5, 8),
    "conv": (2, 4, 8, 8),
    "point": (2, 4, 8, 8),
    "group": (2, 4, 8, 8),
    "norm": (5, 6),
}


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


def kron(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The Kronecker product of the channels, written out: W[a*c+b, i*n+j, h, w] = F[a, i] S[b, j, h, w]."""
    whole = torch.einsum("ai,bj...->abij...", first, second)
    out, into = first.shape[0] * second.shape[0], first.shape[1] * second.shape[1]
    return whole.reshape(out, into, *second.shape[2:])


def adapted(weight: torch.Tensor, kind: str) -> tuple[dict[str, torch.Tensor], torch.Tensor, Any]:
    """(tensors of the file, the weight with the difference in it, the same for the bias)."""
    out, into, *kernel = weight.shape if weight.dim() > 1 else (weight.shape[0], 1)
    bias = None
    alpha = torch.tensor(3.0)
    if kind == "lora":
        down, up = drawn(2, into, *kernel), drawn(out, 2, *[1] * len(kernel))
        parts = {"lora_down.weight": down, "lora_up.weight": up, "alpha": alpha}
        difference = (up.reshape(out, 2) @ down.reshape(2, -1)).reshape(weight.shape) * 1.5
    elif kind == "locon":
        down, mid, up = drawn(2, into, 1, 1), drawn(2, 2, *kernel), drawn(out, 2, 1, 1)
        parts = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up, "alpha": alpha}
        # The three convolutions one after the other, as the paper has it.
        difference = torch.einsum("on,nmhw,mi->oihw", up[:, :, 0, 0], mid, down[:, :, 0, 0]) * 1.5
    elif kind == "loha":
        rest = into * torch.Size(kernel).numel()
        a, b, c, d = drawn(out, 2), drawn(2, rest), drawn(out, 2), drawn(2, rest)
        parts = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d, "alpha": alpha}
        difference = ((a @ b) * (c @ d)).reshape(weight.shape) * 1.5
    elif kind == "loha tucker":
        a, b, c, d = drawn(2, out), drawn(2, into), drawn(2, out), drawn(2, into)
        t, u = drawn(2, 2, *kernel), drawn(2, 2, *kernel)
        parts = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d, "alpha": alpha}
        parts |= {"hada_t1": t, "hada_t2": u}
        sides = [torch.einsum("pqhw,po,qi->oihw", core, x, y) for core, x, y in ((t, a, b), (u, c, d))]
        difference = sides[0] * sides[1] * 1.5
    elif kind == "lokr":
        first, a, b = drawn(2, 2), drawn(out // 2, 3), drawn(3, into // 2, *kernel)
        parts = {"lokr_w1": first, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": alpha}
        second = (a @ b.reshape(3, -1)).reshape(out // 2, into // 2, *kernel)
        difference = kron(first, second) * 1.0  # 3 / rank 3
    elif kind == "lokr whole":
        first, second = drawn(2, 2), drawn(out // 2, into // 2, *kernel)
        parts = {"lokr_w1": first, "lokr_w2": second, "alpha": alpha}
        difference = kron(first, second)  # no rank, so no alpha either
    elif kind == "lokr tucker":
        a, b, core = drawn(3, out // 2), drawn(3, into // 2), drawn(3, 3, *kernel)
        w1a, w1b = drawn(2, 3), drawn(3, 2)
        parts = {"lokr_w1_a": w1a, "lokr_w1_b": w1b, "lokr_w2_a": a, "lokr_w2_b": b, "lokr_t2": core}
        difference = kron(w1a @ w1b, torch.einsum("pqhw,po,qi->oihw", core, a, b))
    elif kind == "full":
        difference, bias = drawn(*weight.shape), drawn(out)
        parts = {"diff": difference, "diff_b": bias}
    elif kind == "bias":
        difference, bias = torch.zeros_like(weight), drawn(out)
        parts = {"diff_b": bias}
    elif kind == "norm":
        difference, bias = drawn(*weight.shape), drawn(out)
        parts = {"w_norm": difference, "b_norm": bias}
    elif kind == "ia3 in":
        by = drawn(into)
        parts = {"weight": by.reshape(1, -1), "on_input": torch.tensor(True)}
        difference = weight * by.reshape(1, -1, *[1] * len(kernel))
    elif kind == "ia3 out":
        by = drawn(out)
        parts = {"weight": by.reshape(-1, 1), "on_input": torch.tensor(False)}
        difference = weight * by.reshape(-1, 1, *[1] * len(kernel))
    elif kind in ("dora in", "dora out"):
        down, up = drawn(2, into, *kernel), drawn(out, 2, *[1] * len(kernel))
        changed = weight + (up.reshape(out, 2) @ down.reshape(2, -1)).reshape(weight.shape) * 1.5
        side = 1 if kind == "dora in" else 0
        rest = [each for each in range(weight.dim()) if each != side]
        norms = torch.linalg.vector_norm(changed, dim=rest, keepdim=True)
        magnitude = drawn(*norms.shape).abs() + 0.5
        parts = {"lora_down.weight": down, "lora_up.weight": up, "alpha": alpha, "dora_scale": magnitude}
        difference = magnitude * changed / norms - weight
    else:
        raise AssertionError(kind)
    return parts, difference, bias


CASES = [
    *[
        (layer, kind)
        for layer in ("linear", "conv")
        for kind in ("loha", "lokr", "lokr whole", "full", "bias")
    ],
    *[(layer, kind) for layer in ("linear", "square", "conv") for kind in ("dora in", "dora out")],
    *[(layer, kind) for layer in ("linear", "square", "point") for kind in ("ia3 in", "ia3 out")],
    *[("conv", kind) for kind in ("lora", "locon", "loha tucker", "lokr tucker")],
    ("point", "lora"),
    ("group", "norm"),
    ("norm", "norm"),
]


def write(path: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    return loras.save(tensors, path)


@pytest.mark.parametrize(("layer", "kind"), CASES)
def test_beside_the_layer_is_as_in_its_weight(layer: str, kind: str, tmp_path: Path) -> None:
    torch.manual_seed(CASES.index((layer, kind)))
    model = Denoiser().double()
    module = model.get_submodule(layer)
    parts, difference, bias = adapted(module.weight.detach(), kind)
    if kind == "dora in":  # as files have it where the sides are alike in number
        assert parts["dora_scale"].shape[0] == 1
    file = write(tmp_path / "a.safetensors", {f"unet.{layer}.{name}": part for name, part in parts.items()})
    (delta,), unknown = deltas_of(read_adapter(file), LayerNames({"unet": model}))
    assert not unknown

    merged = copy.deepcopy(module)
    with torch.no_grad():
        merged.weight += difference * 0.7
        if bias is not None and merged.bias is not None:
            merged.bias += bias.flatten() * 0.7
    x = drawn(*SHAPES[layer])
    base = module(x)
    hook = Hook(module)
    hook.active = [(delta, 0.7)]
    beside = module(x)
    hook.remove()
    torch.testing.assert_close(beside, merged(x), rtol=1e-5, atol=1e-5)
    assert float((beside - base).abs().max().detach()) > 0.1
    assert torch.equal(module(x), base)


def test_two_on_one_layer_add_up(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = Denoiser().double()
    deltas = []
    merged = copy.deepcopy(model.linear)
    for kind, weight in (("loha", 0.5), ("dora out", -0.3), ("ia3 out", 0.2)):
        parts, difference, _ = adapted(model.linear.weight.detach(), kind)
        tensors = {f"lycoris_linear.{name}": part for name, part in parts.items()}
        file = write(tmp_path / f"{kind}.safetensors", tensors)
        deltas.append((deltas_of(read_adapter(file), LayerNames({"unet": model}))[0][0], weight))
        merged.weight.data += difference * weight
    hook = Hook(model.linear)
    hook.active = deltas
    x = drawn(5, 6)
    torch.testing.assert_close(model.linear(x), merged(x), rtol=1e-5, atol=1e-5)


def test_half_precision_keeps_small_products(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Denoiser()
    parts = {
        name: drawn(*shape).half() * 1e-3 for name, shape in zip(("hada_w1_a", "hada_w2_a"), [(8, 2)] * 2)
    }
    parts |= {name: drawn(2, 6).half() * 1e-2 for name in ("hada_w1_b", "hada_w2_b")}
    file = write(tmp_path / "a.safetensors", {f"unet.linear.{name}": part for name, part in parts.items()})
    ((delta, *_), _) = deltas_of(read_adapter(file), LayerNames({"unet": model.half()}))
    wide = {name: part.double() for name, part in parts.items()}
    want = (wide["hada_w1_a"] @ wide["hada_w1_b"]) * (wide["hada_w2_a"] @ wide["hada_w2_b"])
    made = delta.weight(torch.float16)
    assert made is not None
    torch.testing.assert_close(made.double(), want, rtol=1e-3, atol=0)


def test_original_names_are_those_of_the_checkpoints() -> None:
    """Against diffusers' own conversion of whole checkpoints from that layout."""
    unet = tiny.sdxl().unet
    made = {name: list(original_unet_names(name, unet.config)) for name, _ in unet.named_modules()}
    for name, original in (
        ("conv_in", "input_blocks.0.0"),
        ("down_blocks.0.resnets.1.conv1", "input_blocks.2.0.in_layers.2"),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
        ("down_blocks.1.attentions.0.norm", "input_blocks.4.1.norm"),
        ("mid_block.attentions.0.proj_in", "middle_block.1.proj_in"),
        ("mid_block.resnets.1.time_emb_proj", "middle_block.2.emb_layers.1"),
        ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv"),
        ("up_blocks.1.resnets.2.conv_shortcut", "output_blocks.5.0.skip_connection"),
        ("add_embedding.linear_2", "label_emb.0.2"),
    ):
        assert made[name] == [original]
    leaves = {name for name, module in unet.named_modules() if hasattr(module, "weight")}
    assert len({original for name in leaves for original in made[name]}) == len(leaves)


def test_flux_layers_under_the_original_names(tmp_path: Path) -> None:
    """One difference over query, key and value gives each of them its rows."""
    torch.manual_seed(0)
    transformer = tiny.flux().transformer
    width = transformer.transformer_blocks[0].attn.to_q.weight.shape[0]
    whole = torch.randn(3 * width, width)
    mlp = transformer.single_transformer_blocks[0].proj_mlp.weight.shape[0]
    single = torch.randn(3 * width + mlp, width)
    tensors = {
        "diffusion_model.double_blocks.0.txt_attn.qkv.diff": whole,
        "lora_unet_single_blocks_0_linear1.diff": single,
    }
    deltas, unknown = deltas_of(
        read_adapter(write(tmp_path / "a.safetensors", tensors)), LayerNames({"transformer": transformer})
    )
    assert not unknown
    made = {delta.target.name: delta.weight() for delta in deltas}
    assert len(made) == 7
    want = {
        "transformer_blocks.0.attn.add_k_proj": whole[width : 2 * width],
        "single_transformer_blocks.0.attn.to_v": single[2 * width : 3 * width],
        "single_transformer_blocks.0.proj_mlp": single[3 * width :],
    }
    for name, rows in want.items():
        assert torch.equal(made[name], rows)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"unet.linear.hada_w1_a": (8, 2)}, "shape"),
        ({"unet.linear.diff": (8, 7)}, "shape"),
        ({"unet.linear.lokr_w1": (2, 2), "unet.linear.lokr_w2": (4, 4)}, "shape"),
        ({"unet.linear.oft_blocks": (2, 4, 4)}, "OFT"),
        ({"unet.linear.alpha": ()}, "no layers"),
    ],
)
def test_what_makes_no_adapter_is_told(tensors: dict[str, Any], words: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a.safetensors", {name: torch.ones(shape) for name, shape in tensors.items()})
    with pytest.raises(BrokenAdapter, match=words):
        deltas_of(read_adapter(file), LayerNames({"unet": Denoiser()}))


def test_values_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    difference = torch.ones(8, 6)
    difference[3, 3] = float("nan")
    file = write(tmp_path / "a.safetensors", {"unet.linear.diff": difference})
    with pytest.raises(BrokenAdapter, match="no numbers"):
        deltas_of(read_adapter(file), LayerNames({"unet": Denoiser()}))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_finite_is_told_by_bits(dtype: torch.dtype) -> None:
    info = torch.finfo(dtype)
    numbers = torch.tensor([0.0, -0.0, 1.5, -2.0, info.max, info.min, info.tiny, -info.tiny]).to(dtype)
    numbers[4], numbers[5] = info.max, info.min
    assert is_finite(numbers)
    for odd in (float("inf"), float("-inf"), float("nan"), -float("nan")):
        for place in range(len(numbers)):
            wrong = numbers.clone()
            wrong[place] = odd
            assert not is_finite(wrong)
