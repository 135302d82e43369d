"""What stands around Gradio's application: the page's frame and its static files.

The styles are put into the page itself: those given to Gradio arrive with its JavaScript, after a flash of
an unstyled page.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.components.base import ASSETS_URL

STYLES = (
    *"tokens gradio layout stage painter pose units loras curves models fetch".split(),
    *"explore branch words lab share lessons gallery viewer queue tabs".split(),
)

HEAD = (
    '<meta name="color-scheme" content="dark light">'
    "<script>document.documentElement.dataset.theme = localStorage.getItem('darkroom.theme') || 'dark'"
    "</script>"
    f'<link rel="preload" href="{ASSETS_URL}/fonts/inter-latin.woff2" as="font" crossorigin>'
    + "".join(f'<link rel="stylesheet" href="{ASSETS_URL}/css/{name}.css">' for name in STYLES)
    + f'<script type="module" src="{ASSETS_URL}/js/page.js"></script>'
)

PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self'; connect-src 'self' data: blob:; "
    "manifest-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""No request leaves the machine, whatever a library would like, and no script runs that did not come with the
page. Gradio's templates need eval, and it writes styles into the page."""

POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""Every other answer: a picture or a text that is opened by itself does nothing at all."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), "
    "hid=(), microphone=(), midi=(), payment=(), serial=(), usb=()",
}
_SCRIPT = re.compile(rb"<script(?=[\s>])")


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
        self.policy = POLICY

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            headers["Content-Security-Policy"] = self.policy
        await self.send(message)


class _Page(_Headers):
    """Holds the page back until it is whole, puts HEAD in front of what its <head> has, and marks its scripts
    as its own by a word that nobody can know before."""

    start: Message
    body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        if message["type"] != "http.response.body":
            return  # what a test's client is told of templates
        self.body += message.get("body", b"")
        if message.get("more_body"):
            return
        nonce = secrets.token_urlsafe(16)
        self.policy = PAGE_POLICY.format(nonce=nonce)
        body = self.body.replace(b"<head>", b"<head>" + HEAD.encode(), 1)
        body = _SCRIPT.sub(b'<script nonce="%s"' % nonce.encode(), body)
        headers = MutableHeaders(scope=self.start)
        headers["Cache-Control"] = "no-store"
        if "content-length" in headers:
            headers["Content-Length"] = str(len(body))
        await super().__call__(self.start)
        await self.send({"type": "http.response.body", "body": body})
