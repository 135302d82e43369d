"""The forecast: multiply-adds against torch's own count, speeds kept and carried over, and its sentence."""

import json
import re
import sys
import timeit
from pathlib import Path
from subprocess import run as run_process
from typing import Any

import pytest
import torch

from pipelines.budget import footprint, forecast, offload
from pipelines.budget.forecast import Stopwatch
from pipelines.budget.memory import Memory
from pipelines.budget.speeds import Speed, Speeds
from pipelines.devices import DevicePlan
from pipelines.events import Picture, PictureDone, StepEvent
from pipelines.library.models import ModelLibrary, ModelSpec
from tests.support import tiny

CPU = DevicePlan("cpu", "float32", False, "")
GPU = DevicePlan("cuda", "bfloat16", False, "")
ROOM = Memory(12_000_000_000, 12_000_000_000, 64_000_000_000, 60_000_000_000)


def config_of(module: Any) -> dict[str, Any]:
    return {**module.config, "_class_name": type(module).__name__}


def counted(call: Any) -> float:
    """torch's count of multiply-adds."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        call()
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("size", [(64, 64), (96, 40)], ids=str)
def test_multiply_adds_are_those_that_torch_counts(size: tuple[int, int]):
    height, width = size
    empty = torch.empty
    with torch.device("meta"):
        unet = tiny.sd().unet
        found = footprint.denoiser(config_of(unet), height, width, text=77)
        said = counted(lambda: unet(empty(1, 4, height, width), empty(1), empty(1, 77, 32)))
        assert found.macs == pytest.approx(said, rel=0.01)

        vae = tiny.sd().vae
        pixels = (height * 2, width * 2)
        assert footprint.vae_scale(config_of(vae)) == 2
        decoded = counted(lambda: vae.decode(empty(1, 4, height, width)))
        assert footprint.decode(config_of(vae), *pixels).macs == pytest.approx(decoded, rel=0.01)
        encoded = counted(lambda: vae.encode(empty(1, 3, *pixels)))
        assert footprint.encode(config_of(vae), *pixels).macs == pytest.approx(encoded, rel=0.01)

        flux = tiny.flux().transformer
        places = height * width // 4
        said = counted(
            lambda: flux(
                empty(1, places, 8),
                empty(1, 77, 32),
                empty(1, 32),
                empty(1),
                empty(places, 3),
                empty(77, 3),
            )
        )
        found = footprint.denoiser(config_of(flux), height, width, text=77)
        assert found.macs == pytest.approx(said, rel=0.05)


def test_real_architectures_cost_what_torch_counted_for_them():
    """Counted on the meta device with FlopCounterMode: too slow to be done here each time."""
    sd = {
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "cross_attention_dim": 768,
    }
    vae = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2}
    assert footprint.denoiser(sd, 64, 64, text=77).macs == pytest.approx(402e9, rel=0.005)
    assert footprint.denoiser(sd, 128, 128, text=77).macs == pytest.approx(2337e9, rel=0.005)
    assert footprint.decode(vae, 512, 512).macs == pytest.approx(1257e9, rel=0.005)
    assert footprint.encode(vae, 1024, 1024).macs == pytest.approx(2439e9, rel=0.005)


@pytest.fixture(scope="module")
def spec(tiny_models: Path) -> ModelSpec:
    return ModelLibrary([tiny_models]).find("sd")


# -------------------------------------------------------------------------------- speeds, carried over


def test_a_speed_is_found_again_and_carried_over_to_other_sizes():
    speeds = Speeds()
    assert speeds.of(("a",), 100, 10) is None
    speeds.note(("a",), 100, 10, Speed(1.0, 0.5, 0.1))
    assert speeds.of(("a",), 100, 10) == Speed(1.0, 0.5, 0.1)
    assert speeds.of(("a",), 200, 20) == Speed(2.0, 1.0, 0.1)
    assert speeds.of(("b",), 100, 10) is None


def test_between_two_sizes_the_time_lies_on_their_line():
    """A part of a step's time does not depend on its size: 2 s of it here."""
    speeds = Speeds()
    for size in (100.0, 400.0):
        speeds.note(("a",), size, size, Speed(2 + size / 100, size / 50, 0.1))
    for size in (150.0, 250.0, 390.0, 800.0, 60.0):
        found = speeds.of(("a",), size, size)
        assert found is not None
        assert found.evaluation == pytest.approx(2 + size / 100)
        assert found.around == pytest.approx(size / 50)


def test_odd_measurements_never_tell_nothing_or_less():
    speeds = Speeds()
    speeds.note(("a",), 100, 10, Speed(3.0, 1.0, 0.1))
    speeds.note(("a",), 200, 20, Speed(1.0, 1.0, 0.1))  # the larger one was faster
    for size in (1.0, 50.0, 150.0, 10_000.0):
        found = speeds.of(("a",), size, size)
        assert found is not None and found.evaluation > 0 and found.around > 0


def test_measurements_of_one_setting_are_averaged():
    speeds = Speeds()
    for seconds in (1.0, 2.0):
        speeds.note(("a",), 100, 10, Speed(seconds, seconds, seconds))
    assert speeds.of(("a",), 100, 10) == Speed(1.5, 1.5, 1.5)


def test_speeds_are_kept_on_disk_and_come_back(tmp_path: Path):
    file = tmp_path / "new" / "speeds.json"
    speeds = Speeds(file)
    speeds.note(("a", "b"), 100, 10, Speed(1.0, 0.5, 0.1))
    speeds.note_matrix_rate(CPU, 5e10)
    speeds.note_load(100_000_000, 0.5)
    speeds.note_load(10, 5.0)  # too small to tell anything
    again = Speeds(file)
    assert again.of(("a", "b"), 100, 10) == Speed(1.0, 0.5, 0.1)
    assert again.matrix_rate(CPU) == 5e10 and again.matrix_rate(GPU) is None
    assert again.read_rate == 200_000_000
    assert [path.name for path in file.parent.iterdir()] == ["speeds.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"runs": {"a": [[1]]}, "matrix_rates": {}, "read_rate": null}',
        '{"runs": {"a": [[1, 1, NaN, 1, 1]]}, "matrix_rates": {}, "read_rate": null}',
        '{"runs": {"a": [[1, 1, -1, 1, 1]]}, "matrix_rates": {}, "read_rate": null}',
    ],
)
def test_a_broken_file_is_begun_anew(tmp_path: Path, text: str):
    file = tmp_path / "speeds.json"
    file.write_text(text)
    speeds = Speeds(file)
    assert speeds.of(("a",), 1, 1) is None
    speeds.note(("a",), 1, 1, Speed(1.0, 1.0, 1.0))
    assert json.loads(file.read_text())["runs"]["a"] == [[1, 1, 1.0, 1.0, 1.0]]


def test_the_file_does_not_grow_without_end(tmp_path: Path):
    from pipelines.budget import speeds as module

    speeds = Speeds()
    for index in range(module.MOST_KEPT + 50):
        speeds.note((str(index),), 1, 1, Speed(1.0, 1.0, 1.0))
    assert speeds.of(("0",), 1, 1) is None
    assert speeds.of((str(module.MOST_KEPT + 49),), 1, 1) is not None


# --------------------------------------------------------------------------------------- the stopwatch


def _step(step: int, picture: int) -> StepEvent:
    return StepEvent(step, 4, picture, 2, 0.0, None, b"", 0.0, 1)


def test_the_parts_of_a_run_are_timed():
    now = [100.0]
    watch = Stopwatch(clock=lambda: now[0])
    watch.start()
    now[0] += 0.25
    watch.encoded()
    for picture in range(2):
        now[0] += 0.5  # what comes before the first step
        for step in range(4):
            now[0] += 7.0 if (picture, step) == (0, 2) else 1.0  # once, something else kept the machine busy
            watch(_step(step + 1, picture))
        now[0] += 2.0  # decoding
        watch(PictureDone(Picture("", 1, 64, 64, "", b""), picture))
    assert watch.speed() == Speed(1.0, 2.5, 0.25)


def test_a_run_of_one_step_tells_no_speed():
    watch = Stopwatch()
    watch.start()
    watch(_step(1, 0))
    watch(PictureDone(Picture("", 1, 64, 64, "", b""), 0))
    assert watch.speed() is None


# ---------------------------------------------------------------------------------------- the forecast


def noted(spec: ModelSpec, request: Any, plan: DevicePlan, speed: Speed) -> Speeds:
    speeds = Speeds()
    cost = forecast.cost_of(spec, request)
    key = forecast.key_of(spec, request, plan, offload.Offload("resident", False, ""))
    speeds.note(key, cost.evaluation, cost.around, speed)
    return speeds


def test_a_setting_that_was_measured_is_told_exactly(spec: ModelSpec):
    request = tiny.request(num_inference_steps=10, num_images_per_prompt=3)
    speeds = noted(spec, request, CPU, Speed(0.5, 1.0, 2.0))
    found = forecast.forecast(spec, request, CPU, ROOM, speeds)
    assert found.seconds == pytest.approx(2.0 + 3 * (10 * 0.5 + 1.0))
    assert found.measured
    more = forecast.forecast(spec, request.model_copy(update={"num_inference_steps": 20}), CPU, ROOM, speeds)
    assert more.seconds == pytest.approx(2.0 + 3 * (20 * 0.5 + 1.0))
    assert ", 20 s" in found.sentence
    larger = forecast.forecast(
        spec, request.model_copy(update={"width": 256, "height": 256}), CPU, ROOM, speeds
    )
    assert larger.seconds and not larger.measured
    assert ", about " in larger.sentence


def test_without_history_the_matrix_rate_gives_a_rough_time(spec: ModelSpec):
    speeds = Speeds()
    request = tiny.request()
    assert forecast.forecast(spec, request, CPU, ROOM, speeds).seconds is None
    speeds.note_matrix_rate(CPU, 1e9)
    found = forecast.forecast(spec, request, CPU, ROOM, speeds)
    assert found.seconds and not found.measured
    assert ", about " in found.sentence
    loading = forecast.forecast(spec, request, CPU, ROOM, speeds, to_load=4_000_000_000)
    assert loading.seconds == pytest.approx(found.seconds + 4.0)
    speeds.note_load(1_000_000_000, 4.0)
    slow = forecast.forecast(spec, request, CPU, ROOM, speeds, to_load=4_000_000_000)
    assert slow.seconds == pytest.approx(found.seconds + 16.0)


def test_guidance_size_and_steps_cost_what_they_cost(spec: ModelSpec):
    speeds = Speeds()
    speeds.note_matrix_rate(CPU, 1e9)

    def seconds(**changes: Any) -> float:
        found = forecast.forecast(spec, tiny.request(**changes), CPU, ROOM, speeds).seconds
        assert found is not None
        return found

    plain = seconds(num_inference_steps=20)
    assert seconds(num_inference_steps=40) > 1.8 * plain
    assert seconds(num_inference_steps=20, guidance_scale=1.0) < 0.65 * plain
    assert seconds(num_inference_steps=20, width=128, height=128) > 3.5 * plain
    assert seconds(num_inference_steps=20, num_images_per_prompt=4) == pytest.approx(4 * plain)
    assert seconds(num_inference_steps=20, scheduler="Heun") > 1.8 * plain


@pytest.mark.parametrize(
    ("scheduler", "steps", "strength", "count"),
    [
        ("Euler", 8, None, 8),
        ("Heun", 8, None, 15),
        ("DPM2", 8, None, 15),
        ("DPM++ SDE", 8, None, 15),
        ("PLMS", 8, None, 9),
        ("Euler", 8, 0.5, 4),
        ("Heun", 8, 0.5, 7),
    ],
)
def test_evaluations_are_those_that_the_samplers_make(scheduler, steps, strength, count):
    from pipelines import schedulers

    changes = {} if strength is None else {"image": "0" * 32, "strength": strength}
    request = tiny.request(scheduler=scheduler, num_inference_steps=steps, **changes)
    assert forecast.evaluations(request) == count
    if strength is None:
        made = schedulers.build(scheduler, "Automatic", {**tiny.BETAS}, kind="diffusion", seed=1)
        made.set_timesteps(steps)
        assert len(made.timesteps) == count


def test_the_sentence_says_what_is_needed_and_what_follows(spec: ModelSpec):
    speeds = Speeds()
    sizes = {"unet": 5_100_000_000, "text_encoder": 1_600_000_000, "vae": 170_000_000}
    plenty = forecast.forecast(spec, tiny.request(), GPU, ROOM, speeds, sizes=sizes)
    assert plenty.sentence == "Needs 6.9 of 12 GB."
    short = Memory(6_000_000_000, 6_000_000_000, 64_000_000_000, 60_000_000_000)
    tight = forecast.forecast(spec, tiny.request(), GPU, short, speeds, sizes=sizes)
    assert tight.sentence.startswith("Needs 5.2 of 6.0 GB; the text encoder will be offloaded")
    assert tight.bytes_needed < tight.bytes_there == 6_000_000_000
    little = {"unet": 3_000_000}
    small = forecast.forecast(spec, tiny.request(), CPU, ROOM, speeds, sizes=little)
    assert re.fullmatch(r"Needs \d\d MB of 12 GB\.", small.sentence)
    few = Memory(*[800_000_000] * 4)
    small = forecast.forecast(spec, tiny.request(), CPU, few, speeds, sizes=little)
    assert re.fullmatch(r"Needs \d\d of 800 MB\.", small.sentence)


def test_times_are_said_as_people_say_them():
    said = [forecast.spoken(seconds) for seconds in (0.42, 9.96, 14.2, 60, 200, 3600, 7800)]
    assert said == ["0.4 s", "10 s", "14 s", "1 min", "3 min 20 s", "1 h 0 min", "2 h 10 min"]


def test_it_costs_less_than_five_milliseconds(spec: ModelSpec):
    speeds = Speeds()
    speeds.note_matrix_rate(CPU, 1e9)
    request = tiny.request()
    once = min(timeit.repeat(lambda: forecast.forecast(spec, request, CPU, ROOM, speeds), number=10)) / 10
    assert once < 0.005


def test_the_page_can_import_it_without_torch():
    told = run_process(
        [
            sys.executable,
            "-c",
            "import sys, pipelines.budget.forecast, pipelines.budget.offload; print('torch' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "False"
