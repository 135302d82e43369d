"""What stands around Gradio's application: the page's frame and its static files.

The styles are put into the page itself: those given to Gradio arrive with its JavaScript, after a flash of
an unstyled page.
"""

from __future__ import annotations

from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.components.base import ASSETS_URL

STYLES = (
    *"tokens gradio layout stage painter pose units loras models fetch".split(),
    *"explore branch gallery viewer tabs".split(),
)

HEAD = (
    '<meta name="color-scheme" content="dark light">'
    "<script>document.documentElement.dataset.theme = localStorage.getItem('darkroom.theme') || 'dark'"
    "</script>"
    f'<link rel="preload" href="{ASSETS_URL}/fonts/inter-latin.woff2" as="font" crossorigin>'
    + "".join(f'<link rel="stylesheet" href="{ASSETS_URL}/css/{name}.css">' for name in STYLES)
    + f'<script type="module" src="{ASSETS_URL}/js/page.js"></script>'
)

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
"""No request leaves the machine, whatever a library would like; Gradio's templates need eval."""


class Assets(StaticFiles):
    """This program's static files; a browser asks each time whether they changed, as after an update."""

    def file_response(self, *given: Any, **named: Any) -> Response:
        response = super().file_response(*given, **named)
        response.headers["Cache-Control"] = "no-cache"
        return response


class Frame:
    """Adds the policy to every answer and HEAD to the page."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        is_page = scope["path"] == "/" and scope["method"] == "GET"
        if is_page:  # to be read here, so not compressed
            headers = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
            scope = {**scope, "headers": headers}
        await self.app(scope, receive, _Page(send) if is_page else _Headers(send))


class _Headers:
    def __init__(self, send: Send):
        self.send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = POLICY
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "no-referrer"
        await self.send(message)


class _Page(_Headers):
    """Holds the page back until it is whole, and puts HEAD in front of what its <head> has."""

    start: Message
    body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        self.body += message.get("body", b"")
        if message.get("more_body"):
            return
        body = self.body.replace(b"<head>", b"<head>" + HEAD.encode(), 1)
        headers = MutableHeaders(scope=self.start)
        if "content-length" in headers:
            headers["Content-Length"] = str(len(body))
        await super().__call__(self.start)
        await self.send({"type": "http.response.body", "body": body})
