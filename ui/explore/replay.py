"""A recorded run as one HTML file that plays it: opened from disk, without a network, by any browser.

The page's own scripts show it, put into the file as one. What a person typed stands in the file as data,
and a policy lets nothing run but that one script and lets nothing be asked of anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.film.trajectory import RunInfo
from pipelines.film.tree import wanted
from pipelines.request import GenerationRequest
from ui.explore.film import packed

ASSETS = Path(__file__).resolve().parent.parent.parent / "assets"
ENTRY = "replay"
STYLES = ("tokens", "gradio", "stage", "explore", "replay")
FACE = "inter-latin.woff2"

_IMPORT = re.compile(r"^import \{ ([\w, ]+) \} from '\./([\w-]+)\.js';\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
_FONT = re.compile(r"@font-face \{[^}]*\}\n", re.DOTALL)

_LEFT_OUT = ("prompt", "negative_prompt", "image", "mask_image", "branch", "model", "width", "height")
_ALWAYS = ("scheduler", "num_inference_steps", "guidance_scale", "seed")


def replay(
    run: RunInfo,
    row: Mapping[str, Any],
    film: Mapping[str, Any],
    full: Sequence[bytes],
    picture: bytes | None,
) -> bytes:
    """The file. row: the run as the page takes it. full: each step's predicted picture, decoded, as JPEG;
    empty where none was. picture: the finished one, as JPEG."""
    shown = {name: row[name] for name in ("id", "prompt", "name", "model", "created", "total", "state")}
    data: dict[str, Any] = {
        "film": _text(packed({**film, "run": shown})),
        "full": [_text(jpeg) for jpeg in full],
        "picture": _text(picture) if picture else "",
        "prompt": str(wanted(run).get("prompt", "")),
        "negative": str(wanted(run).get("negative_prompt", "")),
        "settings": settings(run),
        "note": run.note,
    }
    script, style = bundled(ENTRY), styles()
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data: blob:; "
        "font-src data:; base-uri 'none'; form-action 'none'"
    )
    title = html.escape(run.name or data["prompt"] or "A recorded run")
    # The policy comes first: it counts from where it stands.
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="dark light">
<title>{title}</title>
<style>{style}</style>
</head>
<body class="gradio-container" data-tab="explore">
<noscript>This film is played by a script, which this browser does not run.</noscript>
<script type="application/json" id="data">{_inert(data)}</script>
<script type="module">{script}</script>
</body>
</html>
""".encode()


def settings(run: RunInfo) -> list[tuple[str, str]]:
    """What the run was made with: (what it is called, value)."""
    values, fields = wanted(run), GenerationRequest.model_fields
    told = [("Model", run.model_title or str(values.get("model", "")))]
    told.append(("Size", f"{values.get('width')} × {values.get('height')}"))
    for name, field in fields.items():
        value = values.get(name)
        if name in _LEFT_OUT or not (
            name in _ALWAYS or value != field.get_default(call_default_factory=True)
        ):
            continue
        if value not in (None, "", [], ()):
            told.append((str(field.title), _told(name, value)))
    if run.parent is not None:
        told.append(("Branched off", f"at step {run.parent_step + 1} of another run"))
    return told


def _told(name: str, value: Any) -> str:
    if name == "loras":
        return ", ".join(f"{one['name']} {one.get('weight', 1):g}" for one in value)
    if name == "controls":
        return ", ".join(f"{one['model']} {one['controlnet_conditioning_scale']:g}" for one in value)
    if name == "guidance_points":
        return ", ".join(f"{height:g} at {share:.0%}" for share, height in value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def bundled(entry: str) -> str:
    """A module of assets/js and all that it imports as one script, each in a scope of its own."""
    parts: dict[str, str] = {}

    def take(name: str) -> None:
        if name in parts:
            return
        text = (ASSETS / "js" / f"{name}.js").read_text("utf-8")
        for _, other in _IMPORT.findall(text):
            take(other)
        given = ", ".join(found[1] for found in _EXPORT.findall(text))
        text = _IMPORT.sub(
            lambda found: f"const {{ {found[1].replace(' as ', ': ')} }} = {_scope(found[2])};\n", text
        )
        text = _EXPORT.sub(lambda found: found[1], text)
        if re.search(r"^\s*(?:import|export)\b|\bimport\(|</script", text, re.MULTILINE):
            raise ValueError(f"{name}.js cannot be put into one file: it imports or exports in another way")
        parts[name] = f"const {_scope(name)} = (() => {{\n{text}\nreturn {{ {given} }};\n}})();\n"

    take(entry)
    return "".join(parts.values())


def styles() -> str:
    """The styles that a replay needs; the face of its letters is in them."""
    texts = [(ASSETS / "css" / f"{name}.css").read_text("utf-8") for name in STYLES]
    face = base64.b64encode((ASSETS / "fonts" / FACE).read_bytes()).decode()
    font = f"@font-face{{font-family:Inter;src:url(data:font/woff2;base64,{face});font-weight:100 900}}\n"
    return font + _FONT.sub("", "".join(texts))


def _scope(name: str) -> str:
    return f"in_{name.replace('-', '_')}"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _inert(data: Any) -> str:
    """JSON that ends no element and begins no comment, whatever is in it."""
    return json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
