"""The page's door to the picture store: what the painters and the control units ask of the server.

A picture comes in by Gradio's own upload, which asks for the password where there is one, and is then taken
into the store; a path that names anything but a fresh upload is refused.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gradio.utils import get_upload_folder

from pipelines.metadata import UnreadablePicture
from pipelines.pictures import PictureStore, Stored

Answer = dict[str, Any]

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
    uploads = Path(get_upload_folder()).resolve()
    path = Path(str(asked.get("path") if isinstance(asked, dict) else "")).resolve()
    if not path.is_relative_to(uploads) or not path.is_file():
        return {"problem": "The picture did not arrive: try it once more."}
    try:
        return shown(store.put(path))
    except UnreadablePicture as problem:
        return {"problem": str(problem)}
    finally:
        path.unlink(missing_ok=True)
