"""Modules without weights: built from a class and a config, and copied from the last of the same kind."""

from __future__ import annotations

import copy
import importlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from pipelines.load.parts import MissingPart, Part


def skeleton(part: Part) -> Any:
    """The part's module without weights. Safe beside other threads: nothing of torch is changed for them."""
    cls = class_of(part)
    with _without_weights()():
        if hasattr(cls, "config_class") and hasattr(cls.config_class, "from_dict"):
            return cls(cls.config_class.from_dict(text_config(cls, part.config)))
        return cls.from_config(dict(part.config))


def class_of(part: Part) -> Any:
    """The part's class. Raises `MissingPart` for one that the libraries here do not have."""
    import diffusers

    pipelines = diffusers.pipelines
    try:
        if hasattr(pipelines, part.library):
            return getattr(getattr(pipelines, part.library), part.class_name)
        if part.library not in ("diffusers", "transformers"):
            raise AttributeError(part.library)
        return getattr(importlib.import_module(part.library), part.class_name)
    except AttributeError:
        raise MissingPart(
            f"The {part.name} of this model is a {part.class_name} of {part.library}, which diffusers "
            f"{diffusers.__version__} does not have, or which is code that came with the model; such code is "
            "not run."
        ) from None


def text_config(cls: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Some repositories hold the config of all of CLIP for its text half."""
    whole = cls.config_class.model_type == "clip_text_model" and "text_config" in config
    return dict(config["text_config"] if whole else config)


class Skeletons:
    """Empty modules by class and config: the second of a kind is copied from the first, which is several
    times as fast as building it."""

    MOST = 12

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, part: Part) -> Any:
        """A module without weights that nobody else has."""
        key = json.dumps([part.library, part.class_name, dict(part.config)], sort_keys=True, default=str)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
        if kept is None:
            kept = skeleton(part).eval()
            with self._lock:
                self._kept[key] = kept
                while len(self._kept) > self.MOST:
                    self._kept.popitem(last=False)
        return _copied(kept, {})


_SHARED = (int, float, str, bool, type(None), type)


def _plain(values: tuple[Any, ...]) -> bool:
    return all(isinstance(one, _SHARED) for one in values)


def _copied(module: Any, memo: dict[int, Any]) -> Any:
    """A copy of an empty module. As copy.deepcopy, but without looking at what never differs."""
    if id(module) in memo:
        return memo[id(module)]
    new = memo[id(module)] = module.__class__.__new__(module.__class__)
    for name, value in module.__dict__.items():
        if name == "_modules":
            made: Any = {key: None if one is None else _copied(one, memo) for key, one in value.items()}
        elif name == "_parameters":
            made = dict(value)  # meta tensors, each to be replaced
        elif name == "_buffers":
            made = {key: None if one is None else one.clone() for key, one in value.items()}
        elif isinstance(value, _SHARED) or (isinstance(value, tuple) and _plain(value)):
            made = value
        elif isinstance(value, dict | set | list) and not value:
            made = type(value)()
        else:
            made = copy.deepcopy(value, memo)
        new.__dict__[name] = made
    return new


def _without_weights() -> Any:
    """A context in which weights take no memory, while other tensors are made as always. It belongs to its
    thread, which accelerate's and torch's own ways of doing this do not, or not for buffers."""
    import torch
    from torch.overrides import TorchFunctionMode

    drawn = {torch.empty, torch.randn, torch.rand}
    inits = ("torch.nn.init", "transformers.initialization")
    filled = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.zero_, torch.Tensor.fill_}

    class WithoutWeights(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if function in drawn and kwargs.get("device") is None:
                kwargs = {**kwargs, "device": "meta"}
            elif function in filled or getattr(function, "__module__", "") in inits:
                tensor = args[0] if args else kwargs.get("tensor")
                if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                    return tensor  # there is nothing to fill
            return function(*args, **kwargs)

    return WithoutWeights
