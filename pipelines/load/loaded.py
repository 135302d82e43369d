"""The models in memory: pipelines over shared components, loaded, swapped, and loaded ahead.

A loaded model is a thin thing, its components are what counts: two models with the same text encoder hold it
once, and a model goes when one of its components was needed no longer.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.budget import memory
from pipelines.controlnet import control_networks
from pipelines.events import Loading
from pipelines.families import FAMILIES
from pipelines.library.headers import read_header
from pipelines.load import loading, parts, quantising, spare_parts
from pipelines.load.components import Budgets, ComponentCache, DoesNotFit, Resident
from pipelines.load.crossing import Crossing
from pipelines.load.weights_cache import WeightsCache
from pipelines.preview import LatentToRGB
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from pipelines.controlnet.control import ControlSpec
    from pipelines.devices import DevicePlan
    from pipelines.library.models import ModelLibrary, ModelSpec
    from pipelines.load.parts import Blueprint
    from pipelines.request import Quantisation
    from pipelines.run import Emit

SHARE_OF_RAM = 0.8
SHARE_OF_DEVICE = 0.85
"""How much of what this machine has for us components may take; the rest is for what a run computes."""


@dataclass
class LoadedModel:
    """A base pipeline in memory with what its runs need.

    sizes: component -> bytes of its weights. keys: component -> its key in the cache; two models that share a
    component have the same.
    """

    spec: ModelSpec
    pipeline: Any
    to_rgb: LatentToRGB
    short_hash: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = self.pipeline.scheduler
        self.scheduler_config = {**own.config, "_class_name": type(own).__name__}


@dataclass(frozen=True)
class ResidentStatus:
    """What is in memory, for the page. models: keys, the last used last. budgets: bytes for components.
    told: sentences about what went wrong in the background."""

    models: tuple[str, ...]
    components: tuple[Resident, ...]
    budgets: Budgets
    told: tuple[str, ...] = ()


class LoadedModels:
    """Loads models of `library` for `plan`. data: where converted weights are kept. One thread loads for
    runs; any thread may load ahead or ask."""

    def __init__(
        self,
        library: ModelLibrary,
        plan: DevicePlan,
        data: Path,
        budgets: Callable[[], Budgets] | None = None,
    ):
        self.library, self.plan = library, plan
        self.weights = WeightsCache(data / "cache" / "weights")
        self.weights.sweep()
        one_tier = plan.device == "cpu"
        self.cache = ComponentCache(
            budgets or self._measured,
            None if one_tier else Crossing(plan.device).place,
            self._forget,
            memory.give_back,
        )
        self.loader = loading.Loader(plan, self.cache, self.weights, self.tell)
        self._models: OrderedDict[str, LoadedModel] = OrderedDict()
        self._told: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.RLock()
        self._ahead: dict[str, threading.Thread] = {}

    def load(
        self,
        spec: ModelSpec,
        emit: Emit = lambda event: None,
        vae: str = "",
        text_encoder: str = "",
        quantisation: Quantisation = "none",
    ) -> LoadedModel:
        """The model, from memory if it is there. vae, text_encoder: keys of separate ones that take the place
        of the model's own; what else it has stays where it is. quantisation: how large weights are held.

        Raises `InvalidRequest` with a sentence where it cannot be loaded; what was loaded before stays.
        """
        try:
            blueprint, taken = self._blueprint(spec, vae, text_encoder)
            place = self._place(spec, blueprint, quantisation)
            with self._lock:
                if (model := self._models.get(place)) is not None:
                    self._models.move_to_end(place)
                    return model
            emit(Loading(f"Loading {spec.title} ({spec.summary}){spare_parts.titles(taken)}."))
            model = self._load(spec, blueprint, quantisation)
        except (*loading.PROBLEMS, DoesNotFit) as problem:
            raise InvalidRequest(
                {"model": f"{spec.title} could not be loaded. {_sentence(problem)}"}
            ) from problem
        with self._lock:
            if all(self.cache.holds(key) for key in model.keys.values()):
                self._models[place] = model
        return model

    def peek(
        self, spec: ModelSpec, vae: str = "", text_encoder: str = "", quantisation: Quantisation = "none"
    ) -> LoadedModel | None:
        """The model if it is in memory; nothing is loaded, and it counts no more as used than before."""
        try:
            blueprint, _ = self._blueprint(spec, vae, text_encoder)
            place = self._place(spec, blueprint, quantisation)
        except (*loading.PROBLEMS, InvalidRequest):
            return None
        with self._lock:
            return self._models.get(place)

    def bytes_of(self, spec: ModelSpec, vae: str = "", text_encoder: str = "") -> dict[str, int]:
        """Component -> bytes of its weights as they would run, from headers alone; empty where they cannot be
        read, which loading then says."""
        try:
            blueprint, _ = self._blueprint(spec, vae, text_encoder)
            weighed = {name: part for name, part in blueprint.parts.items() if part and part.files}
            found = {name: self.loader.bytes_of(part) for name, part in weighed.items()}
        except (*loading.PROBLEMS, InvalidRequest):
            return {}
        return {name: size for name, size in found.items() if size}

    def load_control(self, spec: ControlSpec, model: LoadedModel, emit: Emit = lambda event: None) -> Any:
        """The ControlNet or adapter of `spec` for that model, from memory if it is there."""
        return self.cache.get(
            control_key(spec, model),
            lambda: self._load_control(spec, model, emit),
            _control_bytes(spec, self.plan.torch_dtype.itemsize),
            spec.title,
        )

    def _load_control(self, spec: ControlSpec, model: LoadedModel, emit: Emit) -> Any:
        emit(Loading(f"Loading the ControlNet {spec.title} ({spec.summary})."))
        with loading.LIBRARY_LOCK:  # into RAM: the cache brings it to the device
            return control_networks.load(spec, model.pipeline, self.plan.torch_dtype, "cpu")

    def preload(self, spec: ModelSpec) -> threading.Thread:
        """Loads a model in the background; a run that wants it meanwhile waits for what is still to come.
        Returns the thread that does it, the one under way if there is one."""
        with self._lock:
            thread = self._ahead.get(spec.key)
            if thread is None or not thread.is_alive():
                thread = threading.Thread(
                    target=self._load_ahead, args=(spec,), name=f"load {spec.key}", daemon=True
                )
                self._ahead[spec.key] = thread
                thread.start()
            return thread

    def tokenizer(self, spec: ModelSpec) -> Any:
        """A tokenizer of that model for its caller alone. Raises `InvalidRequest` where it has none."""
        try:
            own = spare_parts.of_file(spec) if spec.is_file else parts.of_folder(spec.path)
        except loading.PROBLEMS as problem:
            raise InvalidRequest({"model": _sentence(problem)}) from problem
        found = [part for name, part in own.parts.items() if name.startswith("tokenizer") and part]
        if not found:
            raise InvalidRequest({"model": f"{spec.title} reads no prompts."})
        return loading.small(found[0])

    def unload_all(self) -> None:
        """Lets go of every component that no run uses, and gives the memory back."""
        with self._lock:
            self._models.clear()
        self.cache.drop()
        memory.give_back()

    def status(self) -> ResidentStatus:
        with self._lock:
            models = tuple(dict.fromkeys(model.spec.key for model in self._models.values()))
            told = tuple(self._told)
        return ResidentStatus(models, self.cache.status(), self.cache.budgets(), told)

    @contextmanager
    def pinned(self, keys: Iterable[str]) -> Iterator[None]:
        """Keeps the components of those keys in memory inside, wherever they are."""
        with self.cache.pinned(keys):
            yield

    @contextmanager
    def settled(self, keys: Iterable[str]) -> Iterator[None]:
        """Keeps the components of those keys on the device inside. Raises `InvalidRequest` where it is too
        small for them."""
        keys = tuple(keys)
        with self.cache.pinned(keys):
            try:
                self.cache.to_device(keys)
            except DoesNotFit as problem:
                raise InvalidRequest({"model": str(problem)}) from problem
            yield

    def _load(self, spec: ModelSpec, blueprint: Blueprint, quantisation: Quantisation) -> LoadedModel:
        components: dict[str, Any] = {}
        keys: dict[str, str] = {}
        sizes: dict[str, int] = {}
        self.cache.check(self._bytes_of(blueprint, quantisation), spec.title)
        with ExitStack() as held:
            for name, part in blueprint.parts.items():
                components[name] = None
                if part is None:
                    continue
                key, components[name], size = self.loader.load(part, spec.title, quantisation)
                if key:
                    keys[name] = key
                    held.enter_context(self.cache.pinned([key]))
                if size:
                    sizes[name] = size
            pipeline = assembled(blueprint, components)
            to_rgb = self._to_rgb(spec, pipeline, keys.get(FAMILIES[spec.family].decoder, ""))
            return LoadedModel(spec, pipeline, to_rgb, self._short_hash(spec), sizes, keys)

    def _bytes_of(self, blueprint: Blueprint, quantisation: Quantisation) -> int:
        """What all of it takes, from the files' headers."""
        width = self.plan.torch_dtype.itemsize
        sizes: dict[str, int] = {}
        for part in blueprint.parts.values():
            if part is not None:
                size = self.loader.bytes_of(part)
                key = part.stamp() if part.files else self.loader.small_key(part)
                sizes[key] = quantising.size_after(part.name, size, width, quantisation)
        return sum(sizes.values())

    def _load_ahead(self, spec: ModelSpec) -> None:
        try:
            self.load(spec)
        except InvalidRequest as problem:
            self.tell(str(problem))

    def _blueprint(self, spec: ModelSpec, vae: str, text_encoder: str) -> tuple[Blueprint, tuple[str, ...]]:
        own = spare_parts.of_file(spec) if spec.is_file else parts.of_folder(spec.path)
        return spare_parts.completed(own, spec, self.library, vae, text_encoder)

    def _place(self, spec: ModelSpec, blueprint: Blueprint, quantisation: str) -> str:
        stamps = [f"{name} {part.stamp()}" for name, part in blueprint.parts.items() if part]
        return "\n".join([spec.key, blueprint.pipeline, quantisation, *stamps])

    def _to_rgb(self, spec: ModelSpec, pipeline: Any, key: str) -> LatentToRGB:
        kept = LatentToRGB.load(self.library.assets / "latent_rgb.json", spec.key)
        if kept is not None:
            return kept
        told = self.weights.note(f"rgb-{key}") if key else {}
        if told:
            return LatentToRGB.from_lists(told["weight"], told["bias"])
        with contextlib.suppress(DoesNotFit):  # where half precision runs at all, and faster
            self.cache.to_device([key])
        fitted = LatentToRGB.of(pipeline)
        if key:
            self.weights.keep_note(f"rgb-{key}", fitted.as_lists())
        return fitted

    def _short_hash(self, spec: ModelSpec) -> str:
        return spec.short_hash()

    def _forget(self, key: str) -> None:
        with self._lock:
            for place in [place for place, model in self._models.items() if key in model.keys.values()]:
                del self._models[place]

    def tell(self, sentence: str) -> None:
        """Keeps a sentence about the background for `status`."""
        with self._lock:
            self._told[sentence] = None
            while len(self._told) > 20:
                self._told.popitem(last=False)

    def _measured(self) -> Budgets:
        seen = memory.measure(self.plan)
        return Budgets(int(seen.device_ours * SHARE_OF_DEVICE), int(seen.ram_ours * SHARE_OF_RAM))


def assembled(blueprint: Blueprint, components: Mapping[str, Any]) -> Any:
    """diffusers' pipeline over those components. Raises `MissingPart` for a class that diffusers lacks."""
    import diffusers

    cls = getattr(diffusers, blueprint.pipeline, None)
    if cls is None:
        raise parts.MissingPart(
            f"It is for {blueprint.pipeline}, which diffusers {diffusers.__version__} does not have."
        )
    accepted = inspect.signature(cls.__init__).parameters
    expected, _ = cls._get_signature_keys(cls)
    given = {name: value for name, value in blueprint.settings.items() if name in accepted}
    given |= {name: value for name, value in components.items() if name in accepted}
    for name in expected - given.keys():
        given[name] = None
    pipeline = cls(**given)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def control_key(spec: ControlSpec, model: LoadedModel) -> str:
    """The key in the cache of a ControlNet for that model."""
    pipe = model.pipeline
    denoiser = pipe.components.get("unet") or pipe.components.get("transformer")
    files = control_files(spec)
    seen = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    told = [spec.key, sorted(seen), type(denoiser).__name__, sorted(map(str, dict(denoiser.config).items()))]
    return f"control-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]}"


def control_files(spec: ControlSpec) -> list[Path]:
    """Its weight files; none where it is not fetched yet."""
    if spec.path is None:
        return []
    return [spec.path] if spec.path.is_file() else sorted(spec.path.glob("*.safetensors"))


def _control_bytes(spec: ControlSpec, width: int) -> int:
    """Of its weights as they run, from its headers; 0 where it is not fetched yet."""
    count = 0
    for file in control_files(spec):
        for info in read_header(file).tensors.values():
            count += math.prod(info.shape) * width
    return count


def _sentence(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.filename and not isinstance(problem, parts.MissingPart):
        return f"{problem.filename} could not be read: {problem.strerror}."
    return str(problem)
