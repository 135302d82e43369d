"""What can be told of the look without a browser: contrasts, and that nothing comes from elsewhere."""

import re
from pathlib import Path

import pytest

from ui.components.sizes import presets
from ui.theme import VALUES, Darkroom
from ui.web import HEAD, STYLES

ASSETS = Path(__file__).resolve().parent.parent / "assets"
TOKENS = (ASSETS / "css" / "tokens.css").read_text("utf-8")


def colours(look: str) -> dict[str, str]:
    rules = dict(re.findall(r"^(:root\S*) \{(.*?)^\}", TOKENS, re.S | re.M))
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", rules[":root"]))
    if look == "light":
        found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", rules[':root[data-theme="light"]']))
    return found


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("look", ["dark", "light"])
@pytest.mark.parametrize(
    ("upper", "lower", "least"),
    [
        ("text", "ground", 7),
        ("text", "panel", 7),
        ("text", "well", 7),
        ("text", "raised", 7),
        ("muted", "ground", 4.5),
        ("muted", "panel", 4.5),
        ("muted", "well", 4.5),
        ("ink", "accent", 4.5),
        ("ink", "accent-strong", 4.5),
        ("accent", "ground", 4.5),
        ("bad", "panel", 4.5),
        ("bad", "screen", 4.5),
        ("muted", "screen", 4.5),
        ("good", "panel", 4.5),
        ("accent", "panel", 3),
        ("line-strong", "panel", 3),
    ],
)
def test_contrast(look: str, upper: str, lower: str, least: float) -> None:
    named = colours(look)
    assert contrast(named[upper], named[lower]) >= least


def test_every_variable_that_is_used_is_given() -> None:
    given = set(re.findall(r"--([\w-]+):", TOKENS))
    scripts = "".join(file.read_text("utf-8") for file in (ASSETS / "js").glob("*.js"))
    given |= set(re.findall(r"['`]--([\w-]+)[':]", scripts)) | {"range_progress"}  # the last is Gradio's
    for name in STYLES:
        text = (ASSETS / "css" / f"{name}.css").read_text("utf-8")
        own = set(re.findall(r"--([\w-]+):", text))
        assert set(re.findall(r"var\(--([\w-]+)", text)) <= given | own, name
    theme = " ".join(str(value) for value in VALUES.values())
    assert set(re.findall(r"var\(--([\w-]+)", theme)) <= given


def test_nothing_is_fetched_from_elsewhere() -> None:
    for file in [*(ASSETS / "css").iterdir(), *(ASSETS / "js").iterdir()]:
        foreign = set(re.findall(r"https?://[\w.]+", file.read_text("utf-8"))) - {"http://www.w3.org"}
        assert not foreign, file.name
    assert "http" not in HEAD
    theme = Darkroom()
    assert "url(http" not in theme._get_theme_css().replace('"', "")
    assert theme._stylesheets == []


def test_each_style_sheet_and_font_is_there() -> None:
    for address in re.findall(r'(?:href|src)="darkroom/([^"]+)"', HEAD):
        assert (ASSETS / address).is_file()
    for address in re.findall(r'url\("\.\./([^"]+)"\)', TOKENS):
        assert (ASSETS / address).is_file()
    assert "SIL Open Font License" in (ASSETS / "fonts" / "LICENSE-Inter.txt").read_text("utf-8")


def test_presets_have_the_models_number_of_pixels() -> None:
    for native in (256, 512, 1024):
        for size in presets(native):
            assert size["width"] % 8 == size["height"] % 8 == 0
            assert size["width"] * size["height"] == pytest.approx(native**2, rel=0.25)
            assert size["width"] / size["height"] == pytest.approx(size["across"] / size["down"], rel=0.25)


def test_presets_keep_to_the_requests_limits() -> None:
    for native in (64, 2048):
        sides = [side for size in presets(native) for side in (size["width"], size["height"])]
        assert min(sides) >= 64
        assert max(sides) <= 2048
