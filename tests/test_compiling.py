"""Compiled blocks: made ready beside the runs, found ready by them, and gone where nobody asked.

By torch's backend "eager", which traces as every other does and compiles nothing: a test has no minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from pipelines.devices import DevicePlan
from pipelines.library.models import ModelLibrary
from pipelines.load import compiling
from pipelines.load.compiling import Compiler
from pipelines.lora.adapters import Adapters
from pipelines.manager import PipelineManager
from pipelines.outputs import Outputs
from pipelines.pictures import PictureStore
from pipelines.run import Control
from tests.support import loras, tiny


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny.sd()


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def call(pipe: Any, side: int = 32) -> Any:
    draw = torch.Generator().manual_seed(0)
    latents, words = torch.randn(2, 4, side, side, generator=draw), torch.randn(2, 77, 32, generator=draw)
    with torch.no_grad():
        return pipe.unet(latents, torch.tensor(5), encoder_hidden_states=words, return_dict=False)[0]


def frames() -> int:
    return int(counters["frames"]["total"])


def test_a_first_run_goes_on_as_it_is_and_the_next_finds_it_compiled(pipe: Any) -> None:
    told: list[str] = []
    notes: list[str] = []
    compiler = Compiler(told.append, backend="eager")
    plain = call(pipe)
    with compiler.used(pipe, "resident", notes.append):
        assert torch.equal(call(pipe), plain)
    compiler.wait()
    assert notes == ["The model is being compiled in the background; until then it runs as it is."]
    assert told and told[0].startswith("The model was compiled in")
    before = frames()
    with compiler.used(pipe, "resident", notes.append), torch.compiler.set_stance("fail_on_recompile"):
        found = call(pipe)
        assert all(block._compiled_call_impl is not None for block in compiling.blocks_of(pipe.unet))
    assert frames() == before and len(notes) == 1
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)
    assert all(block._compiled_call_impl is None for block in compiling.blocks_of(pipe.unet))
    assert torch.equal(call(pipe), plain) and not pipe.unet._forward_pre_hooks


def test_another_size_is_compiled_apart(pipe: Any) -> None:
    notes: list[str] = []
    compiler = Compiler(backend="eager")
    for side in (32, 16, 16):
        with compiler.used(pipe, "resident", notes.append):
            call(pipe, side)
        compiler.wait()
    assert len(notes) == 2


def test_a_lora_in_the_place_of_another_and_its_weight_compile_nothing_anew(tmp_path: Path) -> None:
    pipe = tiny.sd()
    pipe.unet.eval()
    for seed, name in enumerate(("one", "two")):
        made = loras.halves(loras.components(pipe), seed=seed)
        loras.save(loras.as_kohya(made, alpha=1.0 + seed), tmp_path / f"loras/{name}.safetensors")
    library = ModelLibrary([tmp_path])
    adapters, compiler = Adapters(library), Compiler(backend="eager")
    spec = SimpleNamespace(title="Tiny", key="tiny", family="SD", text_width=32)
    model: Any = SimpleNamespace(spec=spec, pipeline=pipe)

    def used(name: str, weight: float, **compiled: bool) -> Any:
        request = tiny.request(loras=[{"name": name, "weight": weight}])
        with adapters.active(model, request, **compiled):
            if not compiled:
                return call(pipe)
            with compiler.used(pipe, "resident", lambda sentence: None):
                return call(pipe)

    used("one", 1.0, compiled=True)
    compiler.wait()
    used("one", 1.0, compiled=True)
    before = frames()
    with torch.compiler.set_stance("fail_on_recompile"):
        found = {(name, weight): used(name, weight, compiled=True) for name, weight in
                 (("two", 1.0), ("two", 0.3), ("one", 0.5))}  # fmt: skip
    assert frames() == before
    for (name, weight), picture in found.items():
        torch.testing.assert_close(picture, used(name, weight), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found["two", 1.0], found["two", 0.3])


def test_what_cannot_be_compiled_says_so_and_runs(pipe: Any) -> None:
    notes: list[str] = []
    told: list[str] = []

    def breaks(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler here\nand more")

    compiler = Compiler(told.append, backend=breaks)  # type: ignore[arg-type]
    plain = call(pipe)
    for _ in range(2):
        with compiler.used(pipe, "resident", notes.append):
            assert torch.equal(call(pipe), plain)
        compiler.wait()
    assert "could not be compiled and ran as it is" in notes[1] and "no compiler here" in notes[1]
    assert len(told) == 1


@pytest.mark.parametrize("mode", ["components", "groups", "sequential"])
def test_weights_that_come_and_go_are_not_compiled(pipe: Any, mode: Any) -> None:
    notes: list[str] = []
    compiler = Compiler(backend="eager")
    with compiler.used(pipe, mode, notes.append):
        call(pipe)
    assert notes == ["The model was not compiled: its weights do not stay on the device (Memory)."]
    compiler.wait()
    assert frames() == 0 or not pipe.unet._forward_pre_hooks


def test_a_request_that_wants_it_says_when_it_is_ready(tmp_path: Path, tiny_models: Path) -> None:
    """Through the whole engine: the first run notes that it is under way, the second runs compiled."""
    plan = DevicePlan("cpu", "float32", True, "")
    outputs, store = Outputs(tmp_path / "outputs"), PictureStore(tmp_path / "inputs")
    manager = PipelineManager(ModelLibrary([tiny_models]), plan, outputs, store)
    manager.compiler = Compiler(manager.models.tell, backend="eager")
    request = tiny.request(compiled=True, num_inference_steps=2)
    first = manager.run(request, lambda event: None, Control())
    manager.compiler.wait()
    before = frames()
    with torch.compiler.set_stance("fail_on_recompile"):
        second = manager.run(request, lambda event: None, Control())
    assert frames() == before > 0
    under_way = "The model is being compiled in the background; until then it runs as it is."
    assert under_way in first.notes and under_way not in second.notes
    assert any(told.startswith("The model was compiled in") for told in manager.status().told)
    unet = manager.load(request.model).pipeline.unet
    assert all(block._compiled_call_impl is None for block in compiling.blocks_of(unet))
