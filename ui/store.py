"""The page's door to the picture store: what the painters and the control units ask of the server.

A picture comes in by Gradio's own upload, which asks for the password where there is one, and is then taken
into the store; a path that names anything but a fresh upload is refused.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gradio.utils import get_upload_folder

from pipelines.metadata import UnreadablePicture
from pipelines.pictures import PictureStore, Stored

Answer = dict[str, Any]

_HASH = re.compile(r"[0-9a-f]{64}")

EXAMPLES = Path(__file__).resolve().parent.parent / "assets" / "examples"


def shown(stored: Stored) -> Answer:
    """A stored picture as the page's scripts want it."""
    return {
        "key": stored.key,
        "width": stored.width,
        "height": stored.height,
        "url": f"gradio_api/file={quote(stored.shown.as_posix())}",
        "notes": list(stored.notes),
    }


def examples(store: PictureStore) -> list[Answer]:
    """The pictures that come with the program, each with a "title"; none where nothing can be written."""
    try:
        return [
            {"title": path.stem.capitalize(), **shown(store.put(path))}
            for path in sorted(EXAMPLES.glob("*.png"))
        ]
    except OSError as problem:
        print(f"The example pictures are left out: {problem}", file=sys.stderr)
        return []


def picture_of(store: PictureStore, key: Any) -> Answer | None:
    """The stored picture with that key for the page; None where there is none (any more)."""
    if not isinstance(key, str):
        return None
    try:
        return shown(store.stored(key))
    except UnreadablePicture:
        return None


def keep(store: PictureStore, asked: Any) -> Answer:
    """Takes a fresh upload into the store: {"path"} -> the picture, or {"problem": sentence}."""
    path = _upload(asked.get("path") if isinstance(asked, dict) else None)
    if path is None:
        return {"problem": "The picture did not arrive: try it once more."}
    try:
        return shown(store.put(path))
    except UnreadablePicture as problem:
        return {"problem": str(problem)}
    except OSError as problem:
        return {"problem": f"The picture could not be kept: {problem.strerror or problem}."}
    finally:
        path.unlink(missing_ok=True)


def _upload(path: Any) -> Path | None:
    """The uploaded file with that path, None for everything else: what is kept is deleted afterwards.

    Gradio puts uploads into folders called by their hash. Whatever else may lie in its folder, which a
    setting can place anywhere, is not one.
    """
    if not isinstance(path, str):
        return None
    try:
        uploads, found = Path(get_upload_folder()).resolve(), Path(path).resolve()
        inside = found.relative_to(uploads).parts if found.is_file() else ()
    except (OSError, ValueError, RuntimeError):  # no path at all, outside, or links in a circle
        return None
    return found if len(inside) > 1 and _HASH.fullmatch(inside[0]) else None
