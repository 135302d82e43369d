"""The LoRAs and LyCORIS adapters of a run: named by picker or prompt, loaded once, weighed at every step.

What a run wants is set on every component it uses and taken off after it, so models that share a text encoder
never see each other's adapters. A LoRA's part in the text encoder counts in full whatever its start, end and
curve say, since the prompt is read once.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipelines import families, refining
from pipelines.curves import value_at
from pipelines.events import Loading
from pipelines.library.addons import AddonSpec, misfit
from pipelines.lora import adapter_tags
from pipelines.lora.adapter_tags import Tag, read_tags, tag_name
from pipelines.request import InvalidRequest, LoraWeight

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipelines.events import Event
    from pipelines.library.models import ModelLibrary, ModelSpec
    from pipelines.lora.adapter_slots import Limits, Slots
    from pipelines.manager import LoadedModel
    from pipelines.request import GenerationRequest


@dataclass(frozen=True)
class Wanted:
    """One LoRA of a run. field: of the request, that named it. rank: a DyLoRA's, None for all of it."""

    addon: AddonSpec
    lora: LoraWeight
    field: str
    rank: int | None = None

    @property
    def text_weight(self) -> float:
        return self.lora.weight if self.lora.text_weight is None else self.lora.text_weight


def wanted(request: GenerationRequest, library: ModelLibrary) -> list[Wanted]:
    """The LoRAs of a request: those of the prompt, then those of the picker. One that both name counts with
    the sum of its weights. Raises `InvalidRequest` for one that there is none of."""
    _, tags = read_tags(request.prompt)
    named = [Wanted(_find(library, tag.name, "prompt"), _weighed(tag), "prompt", tag.rank) for tag in tags]
    picked = [Wanted(_find(library, lora.name, "loras"), lora, "loras") for lora in request.loras]
    return named + picked


def _weighed(tag: Tag) -> LoraWeight:
    # A tag may weigh more than the picker's range, which the constructor would refuse.
    return LoraWeight.model_construct(
        name=tag.name, weight=tag.weight, text_weight=tag.text_weight, start=0.0, end=1.0, points=()
    )


def _find(library: ModelLibrary, name: str, field: str) -> AddonSpec:
    try:
        return library.addon("lora", name)
    except InvalidRequest as unknown:
        same = [addon for addon in library.addons("lora") if tag_name(addon.key) == name]
        if len(same) == 1:
            return same[0]
        raise InvalidRequest({field: " ".join(unknown.problems.values())}) from None


def check(request: GenerationRequest, model: ModelSpec, library: ModelLibrary) -> None:
    """Raises `InvalidRequest` for LoRAs and refiners that there are none of or that do not fit the model, and
    for more clip skip than its text encoder has layers."""
    taken = families.fields_of(model)
    request = families.settled(request, model)
    if "loras" not in taken and adapter_tags.has_tags(request.prompt):
        raise InvalidRequest({"prompt": f"{model.title} takes no LoRAs: leave <lora:...> out of the prompt."})
    for one in wanted(request, library):
        if (why := misfit(one.addon, model)) is not None:
            raise InvalidRequest({one.field: f"{why} Remove it, or choose a model that it fits."})
    layers = int(model.config("text_encoder").get("num_hidden_layers") or 12)
    if request.clip_skip > layers:
        raise InvalidRequest(
            {
                "clip_skip": f"The text encoder of {model.title} has {layers} layers: choose a clip skip of "
                f"at most {layers}."
            }
        )
    refining.check(request, model, library)


def known(fields: Mapping[str, Any], library: ModelLibrary) -> tuple[dict[str, Any], list[str]]:
    """What a generation text tells, held against the library, with a sentence for what there is none of here.

    LoRAs that are unknown go back into the prompt as tags; an unknown VAE or refiner is left out.
    """
    settled, notes = dict(fields), []
    here: list[Mapping[str, Any]] = []
    gone: list[Mapping[str, Any]] = []
    for lora in fields.get("loras", ()):
        try:
            here.append({**lora, "name": _find(library, str(lora.get("name", "")), "loras").key})
        except InvalidRequest as problem:
            gone.append(lora)
            notes.append(f"{problem} It stays in the prompt.")
    if "loras" in fields:
        settled["loras"] = here
    if gone:
        settled["prompt"] = adapter_tags.put_back(str(fields.get("prompt", "")), gone)
    if fields.get("vae"):
        try:
            settled["vae"] = library.addon("vae", _bare(str(fields["vae"]))).key
        except InvalidRequest as problem:
            settled["vae"] = ""
            notes.append(f"{problem} The model's own is used.")
    if fields.get("refiner"):
        key = _model_called(_bare(str(fields["refiner"])), library)
        settled["refiner"] = key
        if not key:
            notes.append(f"There is no model called {fields['refiner'][:60]!r}: the refiner was left out.")
    return settled, notes


def _bare(name: str) -> str:
    return name.removesuffix(".safetensors").removesuffix(".ckpt").removesuffix(".pt")


def hashes(request: GenerationRequest, library: ModelLibrary) -> dict[str, str]:
    """The generation text of a request's separate VAE beside its name: {"VAE hash": ...}, or nothing."""
    digits = library.addon("vae", request.vae).hash if request.vae else ""
    return {"VAE hash": digits} if digits else {}


def _model_called(name: str, library: ModelLibrary) -> str:
    """The key of the one model of that key, title or file name; "" where there is none."""
    specs = library.list()
    for called in (
        lambda one: (one.key,),
        lambda one: (one.title, one.key.rpartition("/")[2], one.path.stem),
    ):
        found = {one.key for one in specs if name in called(one)}
        if len(found) == 1:
            return found.pop()
    return ""


def factor_at(lora: LoraWeight, index: int, total: int) -> float:
    """What multiplies a LoRA's weight in step `index` of `total`: 0 before its start and from its end on,
    else its curve, both at the share of the steps that are done when the step begins."""
    share = index / total if total else 0.0
    if share < lora.start or (share >= lora.end and lora.end < 1):
        return 0.0
    return value_at(lora.points, share)


@dataclass
class ActiveAdapters:
    """What a run's adapters come to. prompt, negative_prompt: without tags. notes: sentences for the person.
    extras: generation text by key. text_state: what they do to the text encoders, for remembered prompts."""

    prompt: str
    negative_prompt: str
    notes: tuple[str, ...] = ()
    extras: Mapping[str, str] = field(default_factory=dict)
    text_state: tuple[tuple[str, float], ...] = ()
    _loras: Sequence[tuple[str, Wanted]] = ()
    _denoisers: Sequence[Slots] = ()

    def at_step(self, index: int, total: int) -> None:
        """Sets the weights that hold for step `index` (from 0) of `total`; cheap where none changes."""
        if index >= total > 0:
            return
        weights: dict[str, float] = {}
        for identity, one in self._loras:
            weight = one.lora.weight * factor_at(one.lora, index, total)
            weights[identity] = weights.get(identity, 0.0) + weight
        for slots in self._denoisers:
            slots.set(tuple(weights.items()))


class Adapters:
    """Loads adapters and keeps them with the components that hold them; one run at a time."""

    def __init__(self, library: ModelLibrary, limits: Limits | None = None):
        from pipelines.lora.adapter_slots import Limits

        self.library = library
        self.limits = limits or Limits()
        self._left: dict[tuple[str, str], int] = {}
        self._slots: weakref.WeakKeyDictionary[Any, Slots] = weakref.WeakKeyDictionary()

    def slots(self, component: Any) -> Slots:
        """The adapters of a component."""
        from pipelines.lora.adapter_slots import Slots

        if component not in self._slots:
            self._slots[component] = Slots(component)
        return self._slots[component]

    @contextlib.contextmanager
    def active(
        self,
        model: LoadedModel,
        request: GenerationRequest,
        emit: Callable[[Event], None] = lambda event: None,
        *,
        fitting: bool = False,
        compiled: bool = False,
    ) -> Iterator[ActiveAdapters]:
        """The request's adapters on the model's components, as its first step wants them; none after it.

        fitting: LoRAs that do not fit the model are left out (a refiner's). compiled: the denoiser's layers
        may be compiled, so a LoRA is put in the place of another of its shapes and none is kept beside it:
        nothing is compiled anew. Raises `InvalidRequest` for a
        LoRA that there is none of, that is broken or that does not fit; the model is then as it was.
        """
        from pipelines.lora.adapter_loading import adaptable

        loras = wanted(request, self.library)
        if fitting:
            loras = [one for one in loras if misfit(one.addon, model.spec) is None]
        slots = {name: self.slots(part) for name, part in adaptable(model.pipeline).items()}
        for name, each in slots.items():
            each.compiled = compiled and not name.startswith("text_encoder")
        try:
            identities, notes = self._load_all(model, loras, slots, emit, compiled)
            pairs = list(zip(identities, loras))
            texts: dict[str, float] = {}
            for identity, one in pairs:
                texts[identity] = texts.get(identity, 0.0) + one.text_weight
            for name, each in slots.items():
                if name.startswith("text_encoder"):
                    each.set(tuple(texts.items()))
            active = ActiveAdapters(
                prompt=adapter_tags.without_tags(request.prompt),
                negative_prompt=adapter_tags.without_tags(request.negative_prompt),
                notes=(*notes, *_negative_note(request.negative_prompt)),
                extras=_extras(loras),
                text_state=tuple((identity, weight) for identity, weight in texts.items() if weight),
                _loras=pairs,
                _denoisers=[each for name, each in slots.items() if not name.startswith("text_encoder")],
            )
            active.at_step(0, 1)
            yield active
        finally:
            for each in slots.values():
                each.set(())

    def _load_all(
        self,
        model: LoadedModel,
        loras: Sequence[Wanted],
        slots: Mapping[str, Slots],
        emit: Callable[[Event], None],
        compiled: bool,
    ) -> tuple[list[str], list[str]]:
        """The identities of the LoRAs, loaded where they were not, and what there is to say of them."""
        from pipelines.load.loading import LIBRARY_LOCK
        from pipelines.lora.adapter_loading import AdapterLoader, BrokenAdapter, UnreadableFile, identity_of

        try:
            identities = [identity_of(one.addon.path, one.rank) for one in loras]
        except OSError as problem:
            raise InvalidRequest({"loras": f"A LoRA's file cannot be read: {problem}."}) from problem
        notes = []
        limits = replace(self.limits, number=len(loras)) if compiled else self.limits
        for identity, one in zip(identities, loras):
            if all(identity in each.held for each in slots.values()):
                continue
            emit(Loading(f"Loading the LoRA {one.addon.title}."))
            loader = AdapterLoader(model.pipeline, slots, set(identities), limits)
            try:
                with LIBRARY_LOCK:
                    left = loader.load(one.addon.path, identity, one.rank)
            except UnreadableFile as problem:
                raise InvalidRequest({one.field: str(problem)}) from problem
            except BrokenAdapter as problem:
                why = f"The LoRA {one.addon.title} cannot be used with {model.spec.title}: {problem}."
                raise InvalidRequest({one.field: f"{why} Remove it, or download it again."}) from problem
            self._left[identity, model.spec.key] = left
        for identity, one in zip(identities, loras):
            if left := self._left.get((identity, model.spec.key), 0):
                notes.append(
                    f"{left} layers of the LoRA {one.addon.title} are none of {model.spec.title}'s: left out."
                )
        return identities, notes


def _negative_note(negative: str) -> list[str]:
    if not adapter_tags.has_tags(negative):
        return []
    return ["A LoRA in the negative prompt does nothing: name it in the prompt, with a weight below 0."]


def _extras(loras: Sequence[Wanted]) -> dict[str, str]:
    told = {tag_name(one.addon.key): one.addon.hash for one in loras}
    return {"Lora hashes": ", ".join(f"{name}: {digits}" for name, digits in told.items())} if told else {}
