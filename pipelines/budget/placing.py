"""Where a run's components are while it runs: chosen, forecast, put on, and chosen anew when memory runs out.

Between the models that are in memory (`loaded`) and the painting of a request (`manager`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.budget import forecast as forecasting
from pipelines.budget import memory, offload
from pipelines.budget.forecast import Forecast, Stopwatch
from pipelines.budget.speeds import Speeds
from pipelines.budget.working import WIDTHS
from pipelines.events import Event, Finished
from pipelines.library.headers import UnreadableFile, read_header
from pipelines.load import quantising

if TYPE_CHECKING:
    from pipelines.devices import DevicePlan
    from pipelines.library.models import ModelSpec
    from pipelines.load.loaded import LoadedModel, LoadedModels
    from pipelines.request import GenerationRequest

Paint = Callable[[offload.Offload, ExitStack, Stopwatch, list[str]], Finished]
"""Paints a request: (how, what is entered stays until its components are released, told of its events, notes
for the page) -> its ending."""


class Placing:
    """Knows this machine's memory and speed. data: where measured speeds are kept. clock: what runs are timed
    by, in seconds."""

    def __init__(
        self,
        plan: DevicePlan,
        models: LoadedModels,
        data: Path,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.plan, self.models, self.clock = plan, models, clock
        self.speeds = Speeds(data / "speeds.json")
        self.latents = data / "latents"
        self._sizes: dict[tuple[Any, ...], tuple[dict[str, int], int]] = {}

    def check(self, request: GenerationRequest) -> None:
        """Raises `InvalidRequest` where this machine cannot hold weights as the request wants them."""
        quantising.check(request.quantisation, self.plan.device)

    def measure(self) -> None:
        """Measures this machine's matrix rate, once for ever, so that a first forecast can tell a time."""
        if self.speeds.matrix_rate(self.plan) is None:
            self.speeds.note_matrix_rate(self.plan, forecasting.measured_rate(self.plan))

    def run(
        self,
        request: GenerationRequest,
        model: LoadedModel,
        keys: Sequence[str],
        networks: Sequence[Any],
        paint: Paint,
        refiner: LoadedModel | None = None,
    ) -> Finished:
        """Paints by the way that fits, after running out of memory once more by the next one; tells both in
        the ending's notes, and keeps what it took for the next forecast.

        keys: of all components in the cache. networks: ControlNets and adapters.
        """
        shared = set(model.keys.values())
        sizes = dict(model.sizes) | {f"controlnet_{index}": _bytes(one) for index, one in enumerate(networks)}
        if refiner is not None:
            own = {name: size for name, size in refiner.sizes.items() if refiner.keys[name] not in shared}
            sizes |= {f"{offload.REFINER}{name}": size for name, size in own.items()}
        first = offload.choose(sizes, request, model.spec, self.plan, memory.measure(self.plan))
        notes = [first.sentence] if _worth_telling(first, request) else []
        watch = Stopwatch(self.clock)

        def once(way: offload.Offload) -> Finished:
            with ExitStack() as held:
                settled = self.models.settled(keys) if way.mode == "resident" else self._waiting(keys)
                held.enter_context(settled)
                watch.start()
                found = paint(way, held, watch, notes)
            if way is first and not found.stopped:
                forecasting.note(self.speeds, watch, model.spec, request, self.plan, way)
            return found

        with self.models.pinned(keys):  # also between two tries, when everything else goes
            found = offload.surviving(once, first, self.plan, notes.append, self.models.unload_all)
        return replace(found, notes=(*found.notes, *dict.fromkeys(notes)))

    @contextmanager
    def _waiting(self, keys: Iterable[str]) -> Iterator[None]:
        """Keeps those components in RAM inside and nothing else of ours on the device: hooks bring them."""
        cache = self.models.cache
        with cache.pinned(keys):
            cache.from_device([one.key for one in cache.status() if one.where == "device"])
            yield

    def loading(self, load: Callable[[], LoadedModel]) -> LoadedModel:
        """What `load` gives; keeps how fast its bytes came."""
        before = {one.key for one in self.models.status().components}
        began = self.clock()
        loaded = load()
        taken = self.clock() - began
        new = [size for name, size in loaded.sizes.items() if loaded.keys.get(name) not in before]
        self.speeds.note_load(sum(new), taken)
        return loaded

    def forecast(
        self, request: GenerationRequest, spec: ModelSpec, controls: Sequence[Sequence[Path]] = ()
    ) -> Forecast:
        """What the request will need. controls: the weight files of each ControlNet."""
        sizes, to_load = self._foreseen(request, spec)
        extra = {f"controlnet_{index}": self._file_bytes(files) for index, files in enumerate(controls)}
        return forecasting.forecast(
            spec,
            request,
            self.plan,
            memory.measure(self.plan),
            self.speeds,
            sizes=sizes | extra,
            to_load=to_load,
        )

    def _foreseen(self, request: GenerationRequest, spec: ModelSpec) -> tuple[dict[str, int], int]:
        """(component -> bytes as they run, bytes that are not in memory) of the request's model."""
        loaded = self.models.peek(spec, request.vae, request.text_encoder, request.quantisation)
        if loaded is not None:
            return dict(loaded.sizes), 0
        stamp = (spec.key, request.vae, request.text_encoder, spec.bytes)
        if stamp not in self._sizes:
            found = self.models.bytes_of(spec, request.vae, request.text_encoder)
            self._sizes[stamp] = (found, sum(found.values()))
        sizes, total = self._sizes[stamp]
        width = WIDTHS[self.plan.dtype]
        held = {
            name: quantising.size_after(name, size, width, request.quantisation)
            for name, size in sizes.items()
        }
        return held, total

    def _file_bytes(self, files: Sequence[Path]) -> int:
        """Of a network's weights as they run."""
        total = 0
        for file in files:
            seen = file.stat()
            stamp = (file, seen.st_size, seen.st_mtime_ns)
            if stamp not in self._sizes:
                self._sizes[stamp] = ({}, _weights_of(file) * WIDTHS[self.plan.dtype])
            total += self._sizes[stamp][1]
        return total


def _weights_of(file: Path) -> int:
    """How many numbers a file holds; by its size where its header cannot be read."""
    try:
        tensors: Mapping[str, Any] = read_header(file).tensors
    except UnreadableFile:
        return file.stat().st_size // 2
    count = 0
    for info in tensors.values():
        numbers = 1
        for side in info.shape:
            numbers *= side
        count += numbers
    return count


def _bytes(network: Any) -> int:
    return sum(tensor.nbytes for tensor in [*network.parameters(), *network.buffers()])


def _worth_telling(way: offload.Offload, request: GenerationRequest) -> bool:
    return way.mode != "resident" or way.tiled or not way.fits or request.offload not in ("auto", "resident")


def both(*listeners: Callable[[Event], None]) -> Callable[[Event], None]:
    """One listener that passes an event on to all, in order."""

    def heard(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return heard
