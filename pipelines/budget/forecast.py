"""What a run will need before it begins: memory at the peak and time, in one sentence.

Time comes from runs that were measured on this machine, carried over to other sizes and steps by their
multiply-adds; before there are any, from the machine's matrix rate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from pipelines.budget import footprint, offload, working
from pipelines.budget.memory import amount
from pipelines.budget.speeds import Speed, Speeds
from pipelines.events import Event, PictureDone, StepEvent
from pipelines.schedulers import SAMPLERS

if TYPE_CHECKING:
    from pipelines.budget.memory import Memory
    from pipelines.devices import DevicePlan
    from pipelines.library.models import ModelSpec
    from pipelines.request import GenerationRequest

__all__ = ["Forecast", "Speed", "Speeds", "Stopwatch", "evaluations", "forecast"]

EFFICIENCY = 0.35
"""Share of the machine's matrix rate that whole networks reach, by the measured runs of SD 1.5's."""
READ_RATE = 1.0e9
"""Bytes a second at which components are loaded, until a load was measured here."""


@dataclass(frozen=True)
class Forecast:
    """bytes_needed: on the device at the peak. bytes_there: what this program may use of it. seconds: of the
    whole run, None where nothing is known. sentence: both, and the offload, for the page.

    measured: whether the time comes from runs on this machine at this size or around it; else it is a rough
    estimate, and said to be "about" so long.
    """

    bytes_needed: int
    bytes_there: int
    seconds: float | None
    sentence: str
    measured: bool = False


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of a run's parts: one evaluation of the denoiser with all that leads it, and what a
    picture takes beside them (decoding, and encoding where it begins with a picture)."""

    evaluation: float
    around: float
    evaluations: int


def forecast(
    model: ModelSpec,
    request: GenerationRequest,
    plan: DevicePlan,
    memory: Memory,
    history: Speeds,
    *,
    sizes: Mapping[str, int] | None = None,
    to_load: int = 0,
) -> Forecast:
    """The forecast of a request. sizes: component -> bytes as they run (ControlNets' too); the model's own
    without. to_load: bytes of them that are not in memory yet."""
    held = dict(sizes) if sizes else {"unet": model.bytes}
    chosen = offload.choose(held, request, model, plan, memory)
    there = memory.device_ours
    seconds, measured = duration(model, request, plan, history, chosen, to_load)
    said = [f"Needs {_of(chosen.bytes_needed, there)}"]
    if seconds is not None:
        said[0] += f", {'' if measured else 'about '}{spoken(seconds)}"
    sentence = said[0]
    if chosen.mode != "resident" or chosen.tiled or not chosen.fits:
        sentence += f"; {chosen.sentence[:1].lower()}{chosen.sentence[1:].rstrip('.')}"
    return Forecast(chosen.bytes_needed, there, seconds, sentence + ".", measured)


def duration(
    model: ModelSpec,
    request: GenerationRequest,
    plan: DevicePlan,
    history: Speeds,
    chosen: offload.Offload,
    to_load: int = 0,
) -> tuple[float | None, bool]:
    """(seconds of the whole run, whether runs of about this size were measured); None: nothing is known."""
    cost = cost_of(model, request)
    key = key_of(model, request, plan, chosen)
    loading = to_load / (history.read_rate or READ_RATE)
    known = history.of(key, cost.evaluation, cost.around)
    if known is not None:
        each = cost.evaluations * known.evaluation + known.around
        seconds = loading + known.text + request.pictures * each
        return seconds, history.covers(key, cost.evaluation)
    rate = history.matrix_rate(plan)
    if not rate or not cost.evaluation:
        return None, False
    macs = cost.evaluations * cost.evaluation + cost.around
    return loading + request.pictures * macs / (rate * EFFICIENCY), False


def cost_of(model: ModelSpec, request: GenerationRequest) -> Cost:
    """What the request costs by its model's configurations."""
    _, config = working.denoiser_config(model)
    vae = model.config("vae")
    scale = footprint.vae_scale(vae) if vae else 1
    rows, columns = request.height // scale, request.width // scale
    text = footprint.text_tokens(model.family)
    once = around = 0.0
    if config:
        weights = model.bytes / 2 if model.bytes else 0
        once = footprint.denoiser(config, rows, columns, text=text, weights=weights).macs
        led = footprint.controlnet(config, rows, columns, text=text).macs if request.controls else 0.0
        once = (once + led * len(request.controls)) * working.samples(model, request)
    if vae:
        around = footprint.decode(vae, request.height, request.width).macs
        if request.image is not None:
            around += footprint.encode(vae, request.height, request.width).macs
    return Cost(once, around, evaluations(request))


_TWICE = frozenset({"Heun", "DPM2", "DPM2 a", "DPM++ SDE"})
"""Samplers that ask the denoiser twice a step, but for the last."""


def evaluations(request: GenerationRequest) -> int:
    """How often the denoiser is asked for one picture."""
    steps = request.steps_run
    if request.scheduler in _TWICE and request.scheduler in SAMPLERS:
        return 2 * steps - 1
    return steps + 1 if request.scheduler == "PLMS" and request.image is None else steps


def key_of(
    model: ModelSpec, request: GenerationRequest, plan: DevicePlan, chosen: offload.Offload
) -> tuple[str, ...]:
    """What runs must have in common for one's speed to tell the other's; sizes and steps are carried over."""
    sort = "tiled" if chosen.tiled else "whole"
    loras = "loras" if request.loras else "plain"
    task = "image" if request.image is not None else "text"
    guided = f"{working.samples(model, request)} samples, {len(request.controls)} controls"
    where = f"{plan.device} {plan.dtype} {request.quantisation}{' compiled' if request.compiled else ''}"
    return model.key, where, chosen.mode, sort, loras, task, guided


def _of(needed: int, there: int) -> str:
    """ "9.1 of 12 GB"; little of much as "91 MB of 12 GB"."""
    total = f"{there / 1e9:.0f} GB" if there >= 9.95e9 else amount(there)
    if needed < 0.95e9 <= there:
        return f"{amount(needed)} of {total}"
    return f"{amount(needed).split()[0]} of {total}"


def spoken(seconds: float) -> str:
    """ "0.4 s", "14 s", "3 min 20 s", "2 h 10 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


# ------------------------------------------------------------------------------------------- measuring a run


@dataclass
class Stopwatch:
    """Listens to a run's events and times its parts. clock: seconds, as time.perf_counter."""

    clock: Callable[[], float] = time.perf_counter
    began: float = 0.0
    text: float = 0.0
    pictures: list[list[float]] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    def start(self) -> None:
        """The model is there, the run begins."""
        self.began = self.clock()

    def encoded(self) -> None:
        """The prompt is encoded; pictures follow."""
        self.text = self.clock() - self.began

    def __call__(self, event: Event) -> None:
        """Takes note of an event; others than steps and finished pictures are passed over."""
        if isinstance(event, StepEvent):
            while len(self.pictures) <= event.picture:
                self.pictures.append([])
            self.pictures[event.picture].append(self.clock())
        elif isinstance(event, PictureDone):
            self.ended.append(self.clock())

    def speed(self) -> Speed | None:
        """Seconds of an evaluation, of all else of a picture, and of the text; None before a picture of two
        steps is done. The median over steps, so that a machine that was busy once does not count."""
        gaps: list[float] = []
        rest: list[float] = []
        start = self.began + self.text
        for steps, end in zip(self.pictures, self.ended):
            if len(steps) >= 2:
                each = median(later - before for before, later in pairwise(steps))
                gaps.append(each)
                rest.append(max(0.0, steps[0] - start - each) + end - steps[-1])
            start = end
        if not gaps:
            return None
        return Speed(median(gaps), median(rest), self.text)


def note(
    history: Speeds,
    watch: Stopwatch,
    model: ModelSpec,
    request: GenerationRequest,
    plan: DevicePlan,
    chosen: offload.Offload,
) -> None:
    """Keeps what a finished run took. Nothing is kept of a run that was stopped early or had one step."""
    speed = watch.speed()
    if speed is None:
        return
    cost = cost_of(model, request)
    history.note(key_of(model, request, plan, chosen), cost.evaluation, cost.around, speed)


def measured_rate(plan: DevicePlan) -> float:
    """Multiply-adds a second of large matrices in the plan's format on its device; takes a few tens of
    milliseconds."""
    import torch

    side = 1024 if plan.device == "cpu" else 4096
    a = torch.randn(side, side).to(plan.device, plan.torch_dtype)

    def once() -> float:
        began = time.perf_counter()
        float((a @ a).sum())  # a number back on the processor: devices answer before they are done
        return time.perf_counter() - began

    with torch.no_grad():
        once()
        fastest = min(once() for _ in range(3))
    return math.floor(side**3 / fastest)
