"""Puts an adapter file onto the components of a pipeline: all of it or, where something is wrong, nothing."""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.library.headers import UnreadableFile
from pipelines.lora.adapter_deltas import BrokenAdapter, Delta
from pipelines.lora.adapter_files import AdapterFile, check_finite, cut_to, deltas_of, read_adapter
from pipelines.lora.adapter_names import LayerNames, Target
from pipelines.lora.adapter_slots import Held, Layout, Limits, Slots


def identity_of(path: Path, rank: int | None = None) -> str:
    """What a loaded adapter is known by: a file's place and state, so that a changed file is loaded anew.

    Also peft's name for it, whatever the file is called: letters and digits alone, of one length.
    """
    state = path.stat()
    told = f"{path.resolve()}|{state.st_mtime_ns}|{state.st_size}|{rank}"
    return "a" + hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:15]


def adaptable(pipeline: Any) -> dict[str, Any]:
    """The components of a pipeline that adapters change: its denoiser and its text encoders."""
    import torch

    return {
        name: component
        for name, component in pipeline.components.items()
        if (name in ("unet", "transformer") or name.startswith("text_encoder"))
        and isinstance(component, torch.nn.Module)
    }


class AdapterLoader:
    """Loads one file onto those components of a pipeline that do not hold it yet.

    slots: of every component by its name. in_use: adapters that must stay. Raises `BrokenAdapter` and
    `UnreadableFile`; then every component is as it was.
    """

    def __init__(self, pipeline: Any, slots: Mapping[str, Slots], in_use: Collection[str], limits: Limits):
        self.pipeline, self.in_use, self.limits = pipeline, in_use, limits
        self.components = adaptable(pipeline)
        self.slots = {name: slots[name] for name in self.components}

    @functools.cached_property
    def _names(self) -> LayerNames:
        return LayerNames(self.components)

    def load(self, path: Path, identity: str, rank: int | None = None) -> int:
        """Loads the file under that identity. Returns how many of its layers this model does not have."""
        file = read_adapter(path)
        if rank is not None:
            return self._as_deltas(cut_to(file, rank), identity)
        if not file.plain:
            return self._as_deltas(file, identity)
        try:
            return self._by_diffusers(file, identity)
        except BrokenAdapter:
            raise
        except Exception as problem:
            # diffusers raises a dozen sorts of errors at keys it does not know. What it cannot read may
            # still be known here; what is not is refused with the reason found here.
            if file.odd:
                raise BrokenAdapter(f"diffusers cannot read it ({_first_line(problem)})") from problem
            return self._as_deltas(file, identity)

    # --------------------------------------------------------------------------------------- LyCORIS

    def _as_deltas(self, file: AdapterFile, identity: str) -> int:
        if file.odd:
            raise BrokenAdapter("it holds parts that no LoRA or LyCORIS adapter has")
        deltas, unknown = deltas_of(file, self._names)
        if not deltas:
            raise BrokenAdapter("none of its layers is one of this model's")
        by_component: dict[str, list[Delta]] = {name: [] for name in self.components}
        for delta in deltas:
            by_component[delta.target.component].append(delta)
        for name, made in by_component.items():
            slots = self.slots[name]
            if identity in slots.held:
                continue
            size = sum(delta.bytes for delta in made)
            slots.room_for(size, None, self.in_use, self.limits)
            device = _device_of(self.components[name])
            slots.put(identity, Held(deltas=tuple(delta.to(device) for delta in made), bytes=size))
        return len(unknown)

    # -------------------------------------------------------------------------------------- diffusers

    def _by_diffusers(self, file: AdapterFile, identity: str) -> int:
        missing = {name: slots for name, slots in self.slots.items() if identity not in slots.held}
        for key, parts in file.layers.items():
            check_finite(key, parts)
        targets = self._targets(file)
        held: dict[str, Held] = {}
        for name, slots in missing.items():
            mine = targets.get(name, {})
            layout = layout_of(mine) if self._swappable(file) else None
            size = sum(tensor.nbytes for parts in mine.values() for tensor in parts.values())
            slot = slots.room_for(size, layout, self.in_use, self.limits)
            if slot:
                _swap(slots.layers_of(slot), slot, mine)
                slots.put(identity, Held(slot, bytes=size, layout=layout))
            else:
                held[name] = Held(identity, bytes=size, layout=layout)
        if not held:
            return 0
        try:
            with _quiet():
                self._call_diffusers(file, held, identity)
            found = self._found(held, identity)
        except BaseException:
            for name in held:
                self.slots[name].delete(identity)
            raise
        count = sum(len(layers) for layers in found.values())
        known = sum(len(targets.get(name, {})) for name in held)
        if count < known and not file.odd:  # layers whose names diffusers does not translate
            for name in held:
                self.slots[name].delete(identity)
            return self._as_deltas(file, identity)
        if not count and len(held) == len(self.components):
            raise BrokenAdapter("none of its layers is one of this model's")
        for name, layers in found.items():
            self.slots[name].put(identity, held[name] if layers else Held())
        if file.odd or len(held) < len(self.components):
            return 0
        return max(0, sum(max(1, len(self._names.find(key))) for key in file.layers) - count)

    def _call_diffusers(self, file: AdapterFile, wanting: Collection[str], identity: str) -> None:
        """The pipeline's own `load_lora_weights`, kept from components that hold the adapter already."""
        if not hasattr(self.pipeline, "load_lora_weights"):
            raise BrokenAdapter("this kind of model takes no LoRA in diffusers")
        modules = {id(self.components[name]) for name in wanting}
        loader = copy.copy(self.pipeline)

        def guarded(load: Any) -> Any:
            signature = inspect.signature(load)

            @functools.wraps(load)
            def called(*args: Any, **kwargs: Any) -> None:
                given = signature.bind(*args, **kwargs).arguments
                if any(id(one) in modules for one in given.values()):
                    load(*args, **kwargs)

            return called

        for method in [name for name in dir(loader) if name.startswith("load_lora_into_")]:
            setattr(loader, method, guarded(getattr(loader, method)))
        source: Any = str(file.path) if file.path.suffix == ".safetensors" else dict(file.tensors)
        for name in wanting:
            self.slots[name].changed()
        loader.load_lora_weights(source, adapter_name=identity, use_safetensors=True)

    def _found(self, wanting: Collection[str], identity: str) -> dict[str, list[Any]]:
        """peft's layers of each component with the adapter just loaded, held against the layers' shapes."""
        found = {}
        for name in wanting:
            self.slots[name].changed()
            found[name] = self.slots[name].layers_of(identity)
            for layer in found[name]:
                down, up = layer.lora_A[identity].weight, layer.lora_B[identity].weight
                ins, outs = layer.in_features, layer.out_features
                if down.is_meta or up.is_meta:
                    raise BrokenAdapter("a layer has only one half of its LoRA")
                if down.shape[1] != ins or up.shape[0] != outs or down.shape[0] != up.shape[1]:
                    raise BrokenAdapter("the shape of a layer does not fit this model's")
        return found

    def _targets(self, file: AdapterFile) -> dict[str, dict[Target, Mapping[str, Any]]]:
        """The file's parts by component and layer, as far as their names are known here."""
        targets: dict[str, dict[Target, Mapping[str, Any]]] = {}
        for key, parts in file.layers.items():
            for target in self._names.find(key):
                targets.setdefault(target.component, {})[target] = parts
        return targets

    def _swappable(self, file: AdapterFile) -> bool:
        """Whether alphas are told by the tensors alone, and shapes say all."""
        return not file.odd and "lora_adapter_metadata" not in file.metadata


def layout_of(parts: Mapping[Target, Mapping[str, Any]]) -> Layout | None:
    """The layout of a LoRA's layers, None where one is not a LoRA of its own."""
    if not parts or any(target.rows or not {"down", "up"} <= each.keys() for target, each in parts.items()):
        return None
    if any(each.keys() - {"down", "up", "alpha"} for each in parts.values()):
        return None
    return frozenset(
        (target.name, tuple(each["down"].shape), tuple(each["up"].shape)) for target, each in parts.items()
    )


def _swap(layers: list[Any], name: str, parts: Mapping[Target, Mapping[str, Any]]) -> None:
    """Puts a LoRA of the same layers and shapes in the place of the one of that name, as peft's hot swap does
    for denoisers: nothing is injected, and what was compiled stays so."""
    by_layer = {id(target.module): each for target, each in parts.items()}
    for layer in layers:
        each = by_layer[id(layer.get_base_layer())]
        for half, tensor in ((layer.lora_A, each["down"]), (layer.lora_B, each["up"])):
            weight = half[name].weight
            if weight.device.type == "cpu":
                weight.data = tensor.to(weight.dtype)  # the mapped file itself; copying costs a fault a page
            else:
                weight.data.copy_(tensor)  # where it was: compiled graphs may know the address
        layer.lora_alpha[name] = float(each["alpha"]) if "alpha" in each else layer.r[name]


def _device_of(component: Any) -> Any:
    device = next(component.parameters()).device
    return "cpu" if device.type == "meta" else device


@contextmanager
def _quiet() -> Iterator[None]:
    """The libraries log and warn of what is told here in sentences, or is as it should be."""
    from transformers.utils import logging as transformers_logging

    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [logger.level for logger in loggers]
    bars = transformers_logging.is_progress_bar_enabled()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="peft")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


__all__ = ["AdapterLoader", "BrokenAdapter", "UnreadableFile", "adaptable", "identity_of", "layout_of"]
