"""The Gallery tab's part of the page: one component, whose parts are modules of assets/js (see gallery.js).

It asks the tab's own routes (ui.gallery), not Gradio's queue, and hears of changes by the page's one stream.
What has a picture painted is asked of the component, which knows which page asks.
"""

from __future__ import annotations

from typing import Any

from ui.components.base import Ask, Scripted, asked_by, script


def gallery_view(elem_id: str, routes: str, verify: Ask, **options: Any) -> Scripted:
    """The component; it has no value of its own.

    verify: {"id"} -> {"job"}, or {"problem": sentence}. routes: where the tab's own routes are, relative to
    the page. Event: `reuse` (data: text, the generation text of a picture whose settings the form takes).
    """
    return Scripted(
        value={},
        routes=routes,
        elem_id=elem_id,
        elem_classes=["plain"],
        server_functions=[asked_by("verify", verify)],
        apply_default_css=False,
        **script("gallery.js", "reuse"),
        **options,
    )
