"""The adapters that one component of a model holds: which are loaded, and how strongly each counts now.

LoRAs lie in peft's layers, as diffusers loads them; LyCORIS adapters are hooks beside the layers. With none
active every layer gives what it gives without any, bit for bit.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.lora.adapter_deltas import Delta, Hook

Layout = frozenset[tuple[str, tuple[int, ...], tuple[int, ...]]]
"""(layer, shape of its down, shape of its up) of every layer of a LoRA."""


@dataclass(frozen=True)
class Held:
    """One adapter on one component. name: peft's for it, "" where it is made of `deltas` or has no part
    here. layout: of a LoRA that another of equal shapes may be swapped into."""

    name: str = ""
    deltas: tuple[Delta, ...] = ()
    bytes: int = 0
    layout: Layout | None = None


class Slots:
    """The adapters on one component, least recently used first. Does not keep the component alive."""

    def __init__(self, component: Any):
        self._component = weakref.ref(component)
        self.held: OrderedDict[str, Held] = OrderedDict()
        self._layers: list[Any] | None = None
        self._set: tuple[tuple[str, float], ...] | None = ()
        self._hooks: dict[int, Hook] = {}
        self.compiled = False
        """Whether weights are tensors that compiled layers read, where numbers would be built into them."""

    @property
    def bytes(self) -> int:
        return sum(held.bytes for held in self.held.values())

    @property
    def component(self) -> Any:
        component = self._component()
        if component is None:
            raise RuntimeError("The component of these adapters is gone.")
        return component

    def layers(self) -> list[Any]:
        """peft's layers of the component, those of adapters that are gone included."""
        if self._layers is None:
            from peft.tuners.tuners_utils import BaseTunerLayer

            self._layers = [part for part in self.component.modules() if isinstance(part, BaseTunerLayer)]
        return self._layers

    def layers_of(self, name: str) -> list[Any]:
        return [layer for layer in self.layers() if name in getattr(layer, "lora_A", ())]

    def changed(self) -> None:
        """Must be told after layers were added or taken away: what is active is no longer known."""
        self._layers = self._set = None

    def put(self, identity: str, held: Held) -> None:
        self.held[identity] = held
        self.held.move_to_end(identity)

    def set(self, weights: Sequence[tuple[str, float]]) -> None:
        """Makes exactly these adapters count, by identity, in this order. 0 is the same as leaving it out."""
        wanted = tuple((identity, weight) for identity, weight in weights if weight and identity in self.held)
        for identity, _ in wanted:
            self.held.move_to_end(identity)
        if wanted == self._set:
            return
        self._set_layers([(self.held[one].name, weight) for one, weight in wanted if self.held[one].name])
        self._set_hooks([(delta, weight) for one, weight in wanted for delta in self.held[one].deltas])
        self._set = wanted

    def _set_layers(self, weights: Sequence[tuple[str, float]]) -> None:
        """What peft's enable_adapters, set_adapter and set_scale come to, without the walk over all weights
        to say which are to be trained: that makes up nine tenths of a switch, and nothing is trained here."""
        names = [name for name, _ in weights]
        for layer in self.layers():
            state = layer.__dict__  # a module's own attributes: nn.Module's way to set them is slow
            state["_disable_adapters"] = not names
            state["_active_adapter"] = names
            for name, weight in weights:
                layer.set_scale(name, weight)
        if self.compiled and names:
            self._scales_as_tensors(names)

    def _scales_as_tensors(self, names: Sequence[str]) -> None:
        import torch

        places = [(layer.scaling, name) for layer in self.layers() for name in names if name in layer.scaling]
        device = next(self.component.parameters()).device
        scales = torch.tensor([float(scaling[name]) for scaling, name in places], device=device)
        for (scaling, name), scale in zip(places, scales.unbind()):
            scaling[name] = scale

    def _set_hooks(self, deltas: Sequence[tuple[Delta, float]]) -> None:
        by_layer: dict[int, list[tuple[Delta, float]]] = {}
        for delta, weight in deltas:
            by_layer.setdefault(id(delta.target.module), []).append((delta, weight))
        for layer in [layer for layer in self._hooks if layer not in by_layer]:
            self._hooks.pop(layer).remove()
        for layer, active in by_layer.items():
            if layer not in self._hooks:
                self._hooks[layer] = Hook(active[0][0].target.module)
            self._hooks[layer].active = active

    def remove(self, identity: str) -> None:
        """Takes an adapter off the component for good."""
        held = self.held.pop(identity, None)
        if held is None:
            return
        self.set([(one, weight) for one, weight in self._set or () if one != identity])
        if held.name:
            self.delete(held.name)

    def delete(self, name: str) -> None:
        """Deletes peft's adapter of that name, also one that was loaded by half."""
        component = self.component
        self.changed()
        for layer in self.layers():
            layer._active_adapter = []  # else peft would make another one active
            layer.delete_adapter(name)
        configs = getattr(component, "peft_config", None)
        if configs is not None:
            configs.pop(name, None)
            if not configs:
                del component.peft_config
                component._hf_peft_config_loaded = False
        self.changed()
        self.set(())

    def room_for(self, needed: int, layout: Layout | None, in_use: Collection[str], limits: Limits) -> str:
        """Takes adapters off, least recently used first, until one of `needed` bytes fits in; those `in_use`
        stay. Returns peft's name of one left in place for the new one to be swapped into, or ""."""
        for identity in [one for one in self.held if one not in in_use]:
            if len(self.held) < limits.number and self.bytes + needed <= limits.bytes:
                return ""
            held = self.held[identity]
            if held.name and layout is not None and held.layout == layout:
                name = held.name
                self.set([(one, weight) for one, weight in self._set or () if one != identity])
                del self.held[identity]
                return name
            self.remove(identity)
        return ""


@dataclass(frozen=True)
class Limits:
    """How many adapters a component holds, and how many bytes they may have together."""

    number: int = 24
    bytes: int = 2 << 30
