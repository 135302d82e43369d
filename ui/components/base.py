"""What this project's own components share.

Gradio writes a .pyi file beside the source of every component class it sees defined; type checkers would
read those copies instead of the source, so classes here are made by a metaclass that leaves this out.
"""

from __future__ import annotations

import json
import time
from abc import ABCMeta
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import gradio as gr
from gradio.component_meta import ComponentMeta

from ui.client import CLIENT, client_in

ASSETS_URL = "darkroom"
"""Where assets/css, js, fonts and img are served, relative to the page."""

Asked = dict[str, Any]
Answer = dict[str, Any]
Ask = Callable[[Asked], Answer]
"""What a component's script asks the server: JSON for JSON, {"problem": sentence} if nothing came of it."""


def listed(payload: Any, name: str) -> list[Mapping[str, Any]]:
    """The objects in the list `name` of a value that a page sent, as JSON or as text of it; none where there
    is no such list."""
    if isinstance(payload, str):
        try:
            payload = json.loads(payload)
        except ValueError:
            return []
    found = payload.get(name) if isinstance(payload, Mapping) else None
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


class WithoutStub(ComponentMeta):
    """Makes a component class without its .pyi; for classes that add neither events nor an __init__."""

    def __new__(mcs, name: str, bases: tuple[type, ...], members: dict[str, Any]) -> Any:
        return ABCMeta.__new__(mcs, name, bases, members)


class Scripted(gr.HTML, metaclass=WithoutStub):
    """A component that a module of assets/js draws and runs; its value is whatever JSON the two agree on."""

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


def sent(value: dict[str, Any]) -> str:
    """A value that an event streams to a `Scripted`.

    Gradio sends each value of a stream as the difference to the one before, and its page may lose or swap
    the first ones on a busy machine; every later difference then fails. A text that begins differently each
    time has no differences but "all of it", which needs nothing of what came before.
    """
    return json.dumps({"at": time.monotonic_ns(), **value})


def script(module: str, *events: str) -> dict[str, str]:
    """Arguments of gr.HTML that hand the element to `mount` of `module`, which may trigger `events`.

    The template stays empty on purpose: Gradio compiles it anew at each change of the value. A value comes
    as it is, as `sent` made it, or (where the first one was lost) as the difference that holds it.
    """
    address = f"new URL('{ASSETS_URL}/js/{module}', document.baseURI)"
    names = ", ".join(f"'{event}'" for event in events)
    return {
        "html_template": "<div></div>",
        "js_on_load": f"""
            const root = element.firstElementChild, events = [{names}];
            const told = (value) => Array.isArray(value) ? told(value[0]?.[2])
                : typeof value === 'string' ? JSON.parse(value || '{{}}') : value;
            const mounted = import({address}).then((module) =>
                module.mount({{ root, props, trigger, server, events }}));
            const show = () => mounted.then((part) => part.show(told(props.value)));
            watch('value', show);
            show();
        """,
    }


def named(name: str, answer: Ask) -> Ask:
    """A function of that name: by it the page calls, and Gradio marks the function, which no method bears."""

    def ask(asked: Asked) -> Answer:
        return answer(asked)

    ask.__name__ = name
    return ask


def asked_by(name: str, answer: Ask) -> Callable[..., Awaitable[Answer]]:
    """As `named`; what is asked then says by whom, whatever the page sent in that place (`ui.client`)."""

    async def ask(asked: Asked, visitor: gr.Request) -> Answer:
        question = await visitor.json()  # for such questions Gradio gives the request as it came
        client = client_in(question["session_hash"])
        return await anyio.to_thread.run_sync(answer, {**asked, CLIENT: client})

    ask.__name__ = name
    return ask
