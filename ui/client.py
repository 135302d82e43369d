"""Who asks: what the queue is fair between.

A visit to the page is a client, and so is a script's connection. Gradio's own name of it opens its stream of
answers to whoever knows it, so what is kept and shown of it is a digest.
"""

from __future__ import annotations

import hashlib

import gradio as gr


def client_of(visitor: gr.Request) -> str:
    """A short text, the same for all that one visit asks; empty where nothing tells visits apart."""
    session = str(visitor.session_hash or "")
    return hashlib.sha256(session.encode()).hexdigest()[:12] if session else ""
