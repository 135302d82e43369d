"""Runs through the manager: forecast and reality, out of memory survived, quantised and offloaded."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipelines.budget import memory, offload, working
from pipelines.budget.decoding import LatentsKept
from pipelines.budget.memory import Memory
from pipelines.budget.offload import Offload
from pipelines.devices import DevicePlan
from pipelines.engine import failure
from pipelines.events import Event, Loading, StepEvent
from pipelines.library.models import ModelLibrary
from pipelines.manager import PipelineManager
from pipelines.outputs import Outputs
from pipelines.pictures import PictureStore
from pipelines.request import GenerationRequest, InvalidRequest
from pipelines.run import Control
from tests.support import tiny

CPU = DevicePlan("cpu", "float32", True, "")


def manager_in(data: Path, models: Path, plan: DevicePlan = CPU) -> PipelineManager:
    return PipelineManager(
        ModelLibrary([models]), plan, Outputs(data / "outputs"), PictureStore(data / "inputs")
    )


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> PipelineManager:
    return manager_in(tmp_path_factory.mktemp("placing"), tiny_models)


def painted(manager: PipelineManager, request: GenerationRequest) -> tuple[Any, list[Event]]:
    events: list[Event] = []
    return manager.run(request, events.append, Control()), events


def pixels(finished: Any) -> list[bytes]:
    found = []
    for picture in finished.pictures:
        with Image.open(picture.path) as file:
            found.append(file.tobytes())
    return found


@contextmanager
def running_out(module: Any, calls: range) -> Iterator[list[int]]:
    """`module` raises torch's error in those of its calls."""
    seen: list[int] = []

    def refuse(*_: Any) -> None:
        seen.append(1)
        if len(seen) - 1 in calls:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = module.register_forward_pre_hook(refuse)
    try:
        yield seen
    finally:
        handle.remove()


def test_a_forecast_comes_true(manager: PipelineManager):
    request = tiny.request(num_inference_steps=12, num_images_per_prompt=2, seed=11)
    painted(manager, request)
    told = manager.forecast(request)
    assert told.measured and told.seconds
    finished, _ = painted(manager, request.model_copy(update={"seed": 12}))
    # A tiny model on a busy machine: the benchmark holds real ones to 10%.
    assert told.seconds == pytest.approx(finished.seconds, rel=0.6, abs=0.15)
    model = manager.load("sd")
    assert told.bytes_needed > sum(model.sizes.values())


def test_it_can_be_asked_before_the_model_is_in_memory(manager: PipelineManager):
    manager.unload_all()
    before = manager.forecast(tiny.request(model="sdxl"))
    assert not manager.status().models
    manager.load("sdxl")
    after = manager.forecast(tiny.request(model="sdxl"))
    assert before.bytes_needed == pytest.approx(after.bytes_needed, rel=0.02)
    assert before.bytes_there > 0
    with pytest.raises(InvalidRequest):
        manager.forecast(tiny.request(model="nothing"))


def test_the_machine_is_measured_once(manager: PipelineManager):
    manager.placing.measure()
    rate = manager.placing.speeds.matrix_rate(CPU)
    assert rate and rate > 1e8
    manager.placing.measure()
    assert manager.placing.speeds.matrix_rate(CPU) == rate


def test_decoding_out_of_memory_becomes_a_note(manager: PipelineManager):
    request = tiny.request(seed=21)
    plain, _ = painted(manager, request)
    model = manager.load("sd")
    with running_out(model.pipeline.vae.decoder, range(1)):
        finished, _ = painted(manager, request)
    assert len(finished.pictures) == len(plain.pictures)
    assert any("decoded in tiles instead" in note for note in finished.notes)
    assert pixels(painted(manager, request)[0]) == pixels(plain)


def test_latents_that_cannot_be_decoded_are_kept_and_the_ending_says_where(manager: PipelineManager):
    request = tiny.request(seed=22, prompt="a kept house")
    model = manager.load("sd")
    with running_out(model.pipeline.vae.decoder, range(99)), pytest.raises(LatentsKept) as kept:
        painted(manager, request)
    assert kept.value.path.parent == manager.placing.latents
    told = failure(kept.value, request)
    assert str(kept.value.path) in told.message
    painted(manager, request)


def test_out_of_memory_in_a_step_begins_anew_once_and_says_so(manager: PipelineManager):
    """The second of two pictures fails: the first one is kept and not painted twice."""
    request = tiny.request(seed=23, num_images_per_prompt=2)
    plain, _ = painted(manager, request)
    model = manager.load("sd")
    with running_out(model.pipeline.unet, range(4, 5)) as calls:
        finished, events = painted(manager, request)
    assert len(calls) == 3 + 2 + 3
    assert any(note.startswith("Memory ran out during the run.") for note in finished.notes)
    assert len(finished.pictures) == 2
    assert pixels(finished)[0] == pixels(plain)[0]  # the second is decoded in tiles, to save memory
    assert [event.picture for event in events if isinstance(event, StepEvent)] == [0, 0, 0, 1, 1, 1, 1]


def test_out_of_memory_again_ends_the_run_and_the_next_one_works(manager: PipelineManager):
    request = tiny.request(seed=24)
    model = manager.load("sd")
    with running_out(model.pipeline.unet, range(99)), pytest.raises(torch.OutOfMemoryError) as error:
        painted(manager, request)
    assert "not enough memory" in failure(error.value, request).message
    assert painted(manager, request)[0].pictures


@pytest.mark.parametrize("mode", offload.ORDER[1:])
def test_a_run_that_is_offloaded_gives_the_same_bits(
    manager: PipelineManager, mode: str, monkeypatch: pytest.MonkeyPatch
):
    """The way is chosen as where a GPU is too small for the model; the hooks run on the processor."""
    request = tiny.request(seed=25, num_images_per_prompt=2)
    plain, _ = painted(manager, request)
    choose = offload.choose
    gpu = DevicePlan("cuda", "float32", True, "")

    def as_on_a_gpu(sizes: Any, asked: Any, model: Any, plan: Any, there: Any) -> offload.Offload:
        return choose(sizes, asked.model_copy(update={"offload": mode}), model, gpu, there)

    monkeypatch.setattr(offload, "choose", as_on_a_gpu)
    finished, _ = painted(manager, request)
    assert pixels(finished) == pixels(plain)
    assert any("as asked for" in note for note in finished.notes)


@pytest.mark.parametrize("mode", offload.ORDER[1:])
def test_soft_inpainting_too_gives_the_same_bits(
    manager: PipelineManager, mode: str, monkeypatch: pytest.MonkeyPatch
):
    """It asks the VAE by itself, before the pipeline does, and holds the latents of every step."""
    shown = {"image": Image.effect_noise((64, 64), 90), "mask_image": Image.new("L", (64, 64), 128)}
    keys = {}
    for name, picture in shown.items():
        file = io.BytesIO()
        picture.convert("RGB").save(file, "PNG")
        keys[name] = manager.store.put(file.getvalue()).key
    request = tiny.request(seed=28, soft_inpainting=True, strength=0.9, **keys)
    plain, _ = painted(manager, request)
    monkeypatch.setattr(offload, "choose", lambda *_: Offload(mode, False, "Offloaded."))
    finished, _ = painted(manager, request)
    assert pixels(finished) == pixels(plain)
    assert "Offloaded." in finished.notes


def test_quantised_weights_are_other_components_and_smaller(manager: PipelineManager):
    request = tiny.request(model="starter", seed=26, width=128, height=128)
    plain, _ = painted(manager, request)
    quantised, events = painted(manager, request.model_copy(update={"quantisation": "int8"}))
    assert any(isinstance(event, Loading) for event in events)
    assert pixels(quantised) != pixels(plain)
    whole = manager.load("starter")
    small = manager.load("starter", quantisation="int8")
    assert small.sizes["unet"] < 0.3 * whole.sizes["unet"]
    assert small.keys["unet"] != whole.keys["unet"]
    assert small.pipeline.vae is whole.pipeline.vae
    assert pixels(painted(manager, request)[0]) == pixels(plain)
    before = manager.forecast(request).bytes_needed
    assert manager.forecast(request.model_copy(update={"quantisation": "int8"})).bytes_needed < before


def test_what_is_asked_for_in_vain_is_said(manager: PipelineManager):
    finished, _ = painted(manager, tiny.request(seed=27, offload="groups"))
    assert any("where offloading saves nothing" in note for note in finished.notes)


def test_tiles_come_by_themselves_where_memory_is_short(
    manager: PipelineManager, monkeypatch: pytest.MonkeyPatch
):
    request = tiny.request(model="starter", width=1024, height=1024)
    model = manager.load("starter")
    work = working.of(model.spec, request, CPU)
    assert work.decode > max(work.denoise, work.decode_tiled)
    room = int((sum(model.sizes.values()) + work.decode - 1) / (1 - offload.HEADROOM))
    monkeypatch.setattr(memory, "measure", lambda plan: Memory(room, room, room, room))
    assert "decoded in tiles to save memory" in manager.forecast(request).sentence
