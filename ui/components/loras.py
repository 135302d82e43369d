"""The LoRAs of a run: which are on, how strongly, and over which of the steps.

What a hand does is done in the browser (assets/js/loras.js); those there are come with the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pipelines.request import MOST_LORAS, LoraWeight
from ui.components.base import Scripted, WithoutStub, listed, script
from ui.components.units import described


class Loras(Scripted, metaclass=WithoutStub):
    """The panel; `preprocess` gives what the request's field `loras` takes.

    Its value: {"loras", "available", "fields", "most"}, each of them or only some; what a value does not
    name stays as it was. A LoRA is LoraWeight's fields and "on". `available`: rows of "key", "title",
    "summary", "words" (trigger words), "weight" (to begin with), "settings" (request fields that suit it),
    "told" (the same in words) and "unfit" (why it does not go with the model, or "").
    """

    still: Mapping[str, Any] = MappingProxyType({})
    """What never changes of the value: it goes along with every part, as with the control units."""

    def preprocess(self, payload: Any) -> list[dict[str, Any]]:
        """Fields of the LoRAs that are on."""
        return [_fields(one) for one in listed(payload, "loras") if one.get("on", True)]

    def postprocess(self, value: Any) -> Any:
        """LoRAs (or their fields) as the page shows them; the rest as it is."""
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, Mapping):
            return {**self.still, **value}
        return {**self.still, "loras": [_shown(one) for one in value]}


def loras(elem_id: str) -> Loras:
    """The component. Events: `changed`, after each change; `suited`, when one that was added wants other
    settings of the run, or they are set back: the value then has "suit", request fields by name."""
    still = {
        "fields": {name: described(name, field) for name, field in LoraWeight.model_fields.items()},
        "most": MOST_LORAS,
    }
    panel = Loras(
        value={"loras": [], "available": [], **still},
        elem_id=elem_id,
        elem_classes=["plain", "loras", "field"],
        apply_default_css=False,
        **script("loras.js", "changed", "suited"),
    )
    panel.still = still
    return panel


def _shown(one: Any) -> dict[str, Any]:
    given = one.model_dump(mode="json") if isinstance(one, LoraWeight) else dict(one)
    return {"on": bool(given.get("on", True)), **_fields(given)}


def _fields(one: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one[name] for name in LoraWeight.model_fields if name in one}
