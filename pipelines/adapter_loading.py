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

from pipelines.adapter_deltas import BrokenAdapter, Delta
from pipelines.adapter_files import AdapterFile, cut_to, deltas_of, is_finite, read_adapter
from pipelines.adapter_names import LayerNames, Target
from pipelines.adapter_slots import Held, Layout, Limits, Slots
from pipelines.headers import UnreadableFile


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
        deltas, unknown = deltas_of(file, LayerNames(self.components))
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
        targets = self._targets(file)
        names: dict[str, str] = {}
        swapped: set[str] = set()
        for name, slots in missing.items():
            mine = targets.get(name, {})
            layout = layout_of(mine) if name in ("unet", "transformer") and self._swappable(file) else None
            size = sum(tensor.nbytes for parts in mine.values() for tensor in parts.values())
            slot = slots.room_for(size, layout, self.in_use, self.limits)
            names[name] = slot or identity
            if slot:
                swapped.add(name)
        try:
            with _quiet():
                self._call_diffusers(file, names, swapped)
            found = self._found(names)
            held = {
                name: Held(
                    names[name] if layers else "",
                    bytes=sum(_bytes(layer, names[name]) for layer in layers),
                    layout=layout_of(targets.get(name, {})) if self._swappable(file) else None,
                )
                for name, layers in found.items()
            }
            for name in swapped:
                _tell_alphas(found[name], names[name], targets[name])
        except BaseException:
            for name, slots in missing.items():
                slots.delete(names[name])
            raise
        count = sum(len(layers) for layers in found.values())
        expected = self._expected(file, missing, targets)
        if count < expected and not file.odd:
            known = sum(len(parts) for name, parts in targets.items() if name in missing)
            if known > count:  # layers whose names diffusers does not translate
                for name, slots in missing.items():
                    slots.delete(names[name])
                return self._as_deltas(file, identity)
        if not count and not any(identity in slots.held for slots in self.slots.values()):
            raise BrokenAdapter("none of its layers is one of this model's")
        for name, slots in missing.items():
            slots.put(identity, held[name])
        return max(0, expected - count) if not file.odd else 0

    def _call_diffusers(self, file: AdapterFile, names: Mapping[str, str], swapped: set[str]) -> None:
        """The pipeline's own `load_lora_weights`, kept from components that hold the adapter already, and
        told for each under which name, and whether into one that is there."""
        if not hasattr(self.pipeline, "load_lora_weights"):
            raise BrokenAdapter("this kind of model takes no LoRA in diffusers")
        by_module = {id(self.components[name]): name for name in names}
        loader = copy.copy(self.pipeline)

        def guarded(load: Any) -> Any:
            signature = inspect.signature(load)

            @functools.wraps(load)
            def called(*args: Any, **kwargs: Any) -> None:
                given = signature.bind(*args, **kwargs).arguments
                part = next((by_module[id(one)] for one in given.values() if id(one) in by_module), None)
                if part is None:
                    return
                kwargs["adapter_name"] = names[part]
                kwargs["hotswap"] = part in swapped
                load(*args, **kwargs)

            return called

        for method in [name for name in dir(loader) if name.startswith("load_lora_into_")]:
            setattr(loader, method, guarded(getattr(loader, method)))
        source: Any = str(file.path) if file.path.suffix == ".safetensors" else dict(file.tensors)
        for slots in self.slots.values():
            slots.changed()
        loader.load_lora_weights(source, adapter_name="default", use_safetensors=True)

    def _found(self, names: Mapping[str, str]) -> dict[str, list[Any]]:
        """peft's layers of each component with the adapter just loaded, held against the layers' shapes."""
        found = {}
        for component, name in names.items():
            self.slots[component].changed()
            found[component] = self.slots[component].layers_of(name)
            for layer in found[component]:
                down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
                ins, outs = layer.in_features, layer.out_features
                if down.is_meta or up.is_meta:
                    raise BrokenAdapter("a layer has only one half of its LoRA")
                if down.shape[1] != ins or up.shape[0] != outs or down.shape[0] != up.shape[1]:
                    raise BrokenAdapter("the shape of a layer does not fit this model's")
                if not (is_finite(down.detach()) and is_finite(up.detach())):
                    raise BrokenAdapter("it holds values that are no numbers (NaN or infinite)")
        return found

    def _targets(self, file: AdapterFile) -> dict[str, dict[Target, Mapping[str, Any]]]:
        """The file's parts by component and layer, as far as their names are known here."""
        names = LayerNames(self.components)
        targets: dict[str, dict[Target, Mapping[str, Any]]] = {}
        for key, parts in file.layers.items():
            for target in names.find(key):
                targets.setdefault(target.component, {})[target] = parts
        return targets

    def _expected(
        self, file: AdapterFile, missing: Collection[str], targets: Mapping[str, Mapping[Target, Any]]
    ) -> int:
        """How many layers should have been loaded: the known ones that were missing, and those unknown."""
        if len(missing) < len(self.components):
            return sum(len(parts) for name, parts in targets.items() if name in missing)
        known = LayerNames(self.components)
        return sum(max(1, len(known.find(key))) for key in file.layers)

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


def _tell_alphas(layers: list[Any], name: str, parts: Mapping[Target, Mapping[str, Any]]) -> None:
    """A swap changes a layer's scaling, but not the alpha from which a weight is worked out later."""
    by_layer = {id(target.module): each for target, each in parts.items()}
    for layer in layers:
        each = by_layer[id(layer.get_base_layer())]
        layer.lora_alpha[name] = float(each["alpha"]) if "alpha" in each else layer.r[name]


def _bytes(layer: Any, name: str) -> int:
    return sum(
        weight.numel() * weight.element_size()
        for part in (layer.lora_A[name], layer.lora_B[name])
        for weight in part.parameters()
    )


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
