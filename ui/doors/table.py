"""Gradio's addresses that are open here, as rows; every other one is closed, also those of a later Gradio.

Left out on purpose are those that fetch from other machines (proxy=, file=http...), run programs
(process_recording), keep or edit files (deep_link, vibe-...) or tell more than the page needs (monitoring,
token, runs). The program's own routes need no row: what the application has is open, for who is let in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

READ = ("GET", "HEAD")
JSON_BYTES = 8 << 20
"""The longest question: a prompt has at most 20,000 characters, but a gallery a hundred thousand ids."""
FILE_BYTES = 100 << 20
"""The largest file that is taken in."""
ENVELOPE = 1 << 16
"""What a form adds around its file."""


@dataclass(frozen=True)
class Door:
    """path: a pattern for the whole path, without a slash at its end. public: also for those who have not
    given the password yet. most: bytes that may be sent."""

    path: str
    methods: tuple[str, ...] = READ
    public: bool = False
    most: int = JSON_BYTES


API = "/gradio_api"
_NAME = "[A-Za-z0-9_-]{1,64}"
SESSION = re.compile("[A-Za-z0-9_-]{1,64}")

GRADIO = (
    Door("/", public=True),
    Door("/(assets|static|svelte)/.{1,200}", public=True),
    Door(r"/(theme\.css|favicon\.ico|manifest\.json|robots\.txt)", public=True),
    Door("/login", ("POST",), public=True, most=ENVELOPE),
    Door("/logout"),
    Door("/config"),
    Door(f"{API}/login_check", public=True),
    Door(f"{API}/(info|startup-events|app_id)"),
    Door(rf"{API}/theme\.css", public=True),
    Door(f"{API}/heartbeat/{_NAME}"),
    Door(f"{API}/file=/?.{{1,1000}}"),
    Door(f"{API}/upload", ("POST",), most=FILE_BYTES + ENVELOPE),
    Door(f"{API}/upload_progress"),
    Door(f"{API}/queue/join", ("POST",)),
    Door(f"{API}/queue/data"),
    Door(f"{API}/(cancel|reset)", ("POST",)),
    Door(f"{API}/component_server", ("POST",)),
    Door(f"{API}/run/{_NAME}", ("POST",)),
    Door(f"{API}/call/(v2/)?{_NAME}", ("POST",)),
    Door(f"{API}/call/(v2/)?{_NAME}/{_NAME}"),
)

OWN = Door("", ("GET", "HEAD", "POST", "PUT", "DELETE"), most=FILE_BYTES + ENVELOPE)
"""What every route of the program's own is: behind the password, and no larger than a file."""
FILM_BYTES = 2 << 30
"""The largest film that is taken in: its latents are as many as its steps."""
LARGE = {"/darkroom/explore/import": FILM_BYTES}
"""The program's own routes that take more than a file."""
OWN_STILL = Door("", public=True)
"""The program's styles, scripts and fonts."""


def gradios(path: str) -> Door | None:
    """The row for a path, None where nothing is open."""
    bare = path.rstrip("/") or "/"
    return next((door for door in GRADIO if re.fullmatch(door.path, bare)), None)
