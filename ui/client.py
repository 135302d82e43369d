"""Who asks: what the queue is fair between.

A visit to the page is a client, and so is a script's connection. Gradio's own name of it opens its stream of
answers to whoever knows it, so what is kept and shown of it is a digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import gradio as gr

CLIENT = "client"
"""What of a question to a component's function says who asks it; the server puts it there."""


def client_of(visitor: gr.Request) -> str:
    """A short text, the same for all that one visit asks; empty where nothing tells visits apart."""
    return client_in(visitor.session_hash)


def client_in(session: Any) -> str:
    """As `client_of`, for Gradio's own name of a visit."""
    return hashlib.sha256(str(session).encode()).hexdigest()[:12] if session else ""


def asker(asked: Mapping[str, Any]) -> str:
    """Who asked a question to a function made by `ui.components.base.asked_by`."""
    return str(asked.get(CLIENT, ""))
