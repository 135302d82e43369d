"""The look that Gradio's own components take on, in the variables of assets/css/tokens.css.

Dark and light are told apart there alone, so Gradio's own dark variants are left out here.
"""

from __future__ import annotations

from typing import Any

from gradio.themes import Base, sizes

GROUND, PANEL, WELL, LINE = "var(--ground)", "var(--panel)", "var(--well)", "var(--line)"
TEXT, MUTED, ACCENT, INK, NONE = "var(--text)", "var(--muted)", "var(--accent)", "var(--ink)", "none"
CLEAR = "transparent"

VALUES: dict[str, Any] = {
    "body_background_fill": GROUND,
    "body_text_color": TEXT,
    "body_text_color_subdued": MUTED,
    "body_text_size": "14px",
    "background_fill_primary": PANEL,
    "background_fill_secondary": WELL,
    "border_color_primary": LINE,
    "border_color_accent": ACCENT,
    "border_color_accent_subdued": LINE,
    "color_accent": ACCENT,
    "color_accent_soft": "var(--glow)",
    "link_text_color": ACCENT,
    "link_text_color_active": ACCENT,
    "link_text_color_hover": ACCENT,
    "link_text_color_visited": ACCENT,
    "shadow_drop": NONE,
    "shadow_drop_lg": "var(--lift)",
    "shadow_inset": NONE,
    "block_background_fill": CLEAR,
    "block_border_width": "0px",
    "block_border_color": CLEAR,
    "block_info_text_color": MUTED,
    "block_info_text_size": "12px",
    "block_label_background_fill": CLEAR,
    "block_label_border_width": "0px",
    "block_label_text_color": MUTED,
    "block_label_text_size": "13px",
    "block_label_text_weight": "400",
    "block_title_background_fill": CLEAR,
    "block_title_border_width": "0px",
    "block_title_padding": "0",
    "block_title_text_color": MUTED,
    "block_title_text_size": "13px",
    "block_title_text_weight": "400",
    "block_padding": "0",
    "block_radius": "var(--round)",
    "block_shadow": NONE,
    "container_radius": "var(--round)",
    "panel_background_fill": CLEAR,
    "panel_border_width": "0px",
    "layout_gap": "8px",
    "form_gap_width": "0px",
    "section_header_text_size": "13px",
    "section_header_text_weight": "400",
    "input_background_fill": WELL,
    "input_background_fill_focus": WELL,
    "input_background_fill_hover": WELL,
    "input_border_color": LINE,
    "input_border_color_focus": ACCENT,
    "input_border_color_hover": "var(--line-strong)",
    "input_border_width": "1px",
    "input_padding": "7px 10px",
    "input_placeholder_color": MUTED,
    "input_radius": "var(--round-small)",
    "input_shadow": NONE,
    "input_shadow_focus": NONE,
    "input_text_size": "14px",
    "input_text_weight": "400",
    "error_background_fill": PANEL,
    "error_border_color": "var(--bad)",
    "error_border_width": "1px",
    "error_icon_color": "var(--bad)",
    "error_text_color": "var(--bad)",
    "loader_color": ACCENT,
    "slider_color": ACCENT,
    "stat_background_fill": ACCENT,
    "prose_text_size": "14px",
    "prose_text_weight": "400",
    "accordion_text_color": TEXT,
    "button_border_width": "1px",
    "button_transform_active": NONE,
    "button_transform_hover": NONE,
    "button_transition": "background-color 120ms, border-color 120ms, color 120ms",
    "button_large_padding": "0 16px",
    "button_large_radius": "var(--round)",
    "button_large_text_size": "14px",
    "button_large_text_weight": "600",
    "button_primary_background_fill": ACCENT,
    "button_primary_background_fill_hover": "var(--accent-strong)",
    "button_primary_border_color": CLEAR,
    "button_primary_border_color_hover": CLEAR,
    "button_primary_shadow": NONE,
    "button_primary_shadow_active": NONE,
    "button_primary_shadow_hover": NONE,
    "button_primary_text_color": INK,
    "button_primary_text_color_hover": INK,
    "button_secondary_background_fill": PANEL,
    "button_secondary_background_fill_hover": "var(--raised)",
    "button_secondary_border_color": LINE,
    "button_secondary_border_color_hover": "var(--line-strong)",
    "button_secondary_shadow": NONE,
    "button_secondary_shadow_active": NONE,
    "button_secondary_shadow_hover": NONE,
    "button_secondary_text_color": TEXT,
    "button_secondary_text_color_hover": TEXT,
}


class Darkroom(Base):
    """Gradio's bare theme with this program's variables in it; asks no server for fonts."""

    def __init__(self) -> None:
        super().__init__(
            spacing_size=sizes.spacing_md,
            radius_size=sizes.radius_md,
            text_size=sizes.text_md,
            font=("Inter", "system-ui", "sans-serif"),
            font_mono=("ui-monospace", "Menlo", "Consolas", "monospace"),
        )
        self.name = "darkroom"
        unknown = [name for name in VALUES if not hasattr(self, name)]
        if unknown:
            raise ValueError(f"this Gradio's theme has no variables called {', '.join(unknown)}")
        for name in [name for name in vars(self) if name.endswith("_dark")]:
            delattr(self, name)
        for name, value in VALUES.items():
            setattr(self, name, value)
