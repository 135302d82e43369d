"""The tab bar. Unlike gr.Tabs it leaves every tab's part in the page, so a painting outlives the turn."""

from __future__ import annotations

from collections.abc import Sequence

from ui.components.base import Scripted, script
from ui.tabs import Tab


def tab_bar(tabs: Sequence[Tab]) -> Scripted:
    """The component; its value is {"tabs": [{key, title}], "tab": the key of the open one}.

    The open tab is also in the page's address and on its body, where the styles look for it. Event: `turned`.
    """
    return Scripted(
        value={"tabs": [{"key": tab.key, "title": tab.title} for tab in tabs], "tab": tabs[0].key},
        elem_id="tabs",
        elem_classes=["plain"],
        apply_default_css=False,
        render=False,
        **script("tabs.js", "turned"),
    )
