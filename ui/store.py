"""The page's door to the picture store: what the painters and the control units ask of the server.

A picture comes in by Gradio's own upload, which asks for the password where there is one, and is then taken
into the store; a path that names anything but a fresh upload is refused.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gradio.utils import get_upload_folder

from pipelines.metadata import UnreadablePicture
from pipelines.pictures import PictureStore, Stored

Answer = dict[str, Any]

_HASH = re.compile(r"[0-9a-f]{64}")

UPLOAD_SECONDS, PART_SECONDS = 86_400, 600
"""How long an upload waits to be kept, and a half sent one for its next piece."""
UPLOADS_BYTES = 2 << 30
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
    """Takes a fresh upload into the store: {"path"}, with perhaps the key of the picture "on" which it was
    painted -> the picture, or {"problem": sentence}."""
    path = _upload(asked.get("path") if isinstance(asked, dict) else None)
    if path is None:
        return {"problem": "The picture did not arrive: try it once more."}
    try:
        on = asked.get("on")
        return shown(store.put(path, on if isinstance(on, str) else ""))
    except UnreadablePicture as problem:
        return {"problem": str(problem)}
    except OSError as problem:
        return {"problem": f"The picture could not be kept: {problem.strerror or problem}."}
    finally:
        path.unlink(missing_ok=True)


def sweep_uploads() -> None:
    """Deletes uploads that nobody asked to keep: those of yesterday, parts that their senders left half sent,
    and the oldest where they have come to be too many."""
    now, total = time.time(), 0
    files = [(path.stat(), path) for path in Path(get_upload_folder()).rglob("*") if path.is_file()]
    for stat, path in sorted(files, key=lambda found: -found[0].st_mtime):
        total += stat.st_size
        is_part = path.parent == Path(get_upload_folder())
        if total > UPLOADS_BYTES or now - stat.st_mtime > (PART_SECONDS if is_part else UPLOAD_SECONDS):
            path.unlink(missing_ok=True)


def is_upload(path: Any) -> bool:
    """Whether a path is one that an upload is answered with; its file may be gone meanwhile."""
    if not isinstance(path, str) or "\0" in path or len(path) > 4096:
        return False
    uploads = Path(get_upload_folder())
    try:
        inside = Path(path).relative_to(uploads).parts
    except ValueError:
        return False
    return len(inside) == 2 and ".." not in inside and _HASH.fullmatch(inside[0]) is not None


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
