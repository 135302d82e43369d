"""The Explore tab's part of the page: one component, whose regions are modules of assets/js.

Scrubbing asks the server nothing. assets/js/explore.js says what the regions share, ui.explore collects what
they ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ui.components.base import Ask, Scripted, asked_by, script


def explorer(asks: Mapping[str, Ask], elem_id: str, routes: str, **options: Any) -> Scripted:
    """The component; it has no value of its own.

    asks: verb -> what answers it. routes: where the tab's own routes are, relative to the page.
    """
    return Scripted(
        value={},
        routes=routes,
        elem_id=elem_id,
        elem_classes=["plain"],
        server_functions=[asked_by(verb, answer) for verb, answer in asks.items()],
        apply_default_css=False,
        **script("explore.js"),
        **options,
    )
