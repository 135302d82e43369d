"""Which fields mean something to the chosen model: the others leave the form, and a tab says so."""

from __future__ import annotations

from ui.components.base import Scripted, script


def taken(elem_id: str) -> Scripted:
    """The component. Its value: {"all", "fields", "eta", "tabs"}: names of all fields that may go, of those
    that stay, of the samplers that take eta, and for each tab's key why the model cannot work there, or "".
    Event: `picked`, when a VAE or text encoder was chosen elsewhere in the page; the value then has "pick",
    its field and key."""
    return Scripted(
        value={},
        elem_id=elem_id,
        elem_classes=["plain"],
        apply_default_css=False,
        **script("takes.js", "picked"),
    )
