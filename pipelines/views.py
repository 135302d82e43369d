"""Disposable pipelines over a loaded model's components: one for every run, with schedulers of its own.

A view is made of diffusers' class for the task, which families.PIPELINES names. It shares every component and
costs milliseconds; nothing is cast, copied or loaded.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pipelines.families import PIPELINES

if TYPE_CHECKING:
    from pipelines.request import Task


def view_class(base: Any, task: Task) -> Any:
    """diffusers' class for `task` on a model loaded as `base`. Raises KeyError where the row has none."""
    import diffusers

    return getattr(diffusers, PIPELINES[type(base).__name__].views[task])


def view(base: Any, task: Task, scheduler: Any = None) -> Any:
    """A pipeline for `task` over the components of `base`, led by `scheduler` (None: by its own).

    The schedulers of further stages (a combined pipeline's prior) are made anew, since they keep state.
    """
    parts = dict(base.components)
    for name, part in parts.items():
        if name.endswith("scheduler") and name != "scheduler" and part is not None:
            parts[name] = type(part).from_config(part.config)
    if scheduler is not None:
        parts["scheduler"] = scheduler
    return made(view_class(base, task), base, parts)


def made(cls: Any, base: Any, parts: dict[str, Any]) -> Any:
    """An instance of `cls` with those components and, for what else it asks, the settings of `base`."""
    accepted = inspect.signature(cls.__init__).parameters
    shared = {**base.config, **base.components, **parts}
    return cls(**{name: value for name, value in shared.items() if name in accepted})
