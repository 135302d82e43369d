"""What may be in a question to one of Gradio's doors, told before Gradio sees it.

Gradio looks things up by what a client sends and answers a miss with an error of its own making (500); it
takes addresses of other machines for files, and files for what a client calls one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ui import store
from ui.doors.limits import DEEPEST, TooMuch, depth
from ui.doors.table import API, SESSION

if TYPE_CHECKING:
    from gradio import Blocks


_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""Half of a character beyond the first 65,536, as JSON writes it."""


class Refused(TooMuch):
    """A question that is answered with a status of 4xx and a sentence."""


def parsed(body: bytes) -> Any:
    """The question in a body. Raises `Refused` for what is no JSON, or nested too deep to be read."""
    if depth(body) > DEEPEST:
        raise Refused(400, f"The request is nested too deep: {DEEPEST} levels are the most.")
    try:
        question = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "The request is no JSON.") from None
    if _HALF.search(body):
        try:
            json.dumps(question, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise Refused(400, "The request holds half a character, which no file can keep.") from None
    return question


def check(path: str, body: bytes, blocks: Blocks) -> None:
    """Raises `Refused` where a question to the Gradio door `path` is none that the page could ask."""
    question = parsed(body)
    if not isinstance(question, dict):
        raise Refused(400, "The request must be an object.")
    _paths(question)
    name = path.rstrip("/").removeprefix(API)
    if name == "/component_server":
        _server(question, blocks)
    elif name == "/queue/join" or name.startswith("/run/"):
        _event(question, blocks, needs_session=name == "/queue/join")
    elif name.startswith("/call/"):
        _call(question, name, blocks)
    elif name in ("/cancel", "/reset"):
        _text(question, "event_id")
        if name == "/cancel":
            _session(question)
            if not _whole(question.get("fn_index")):
                raise Refused(422, "fn_index must be a whole number.")


def check_stream(path: str, query: Mapping[str, str], blocks: Blocks) -> None:
    """Raises `Refused` where nothing is told to the session, or of the event, that a stream is asked for:
    Gradio would begin an answer and break it off."""
    queue, name = blocks._queue, path.rstrip("/").removeprefix(API)
    if name == "/queue/data":
        known = query.get("session_hash", "") in queue.pending_messages_per_session
    elif name.startswith("/call/"):
        event = name.rpartition("/")[2]
        waiting = (event in events for events in queue.pending_event_ids_session.values())
        known = event in queue.event_ids_to_events or any(waiting)
    else:
        return
    if not known:
        raise Refused(404, "Nothing is told under this name (any more).")


def _paths(question: Any) -> None:
    """A path in a question names a fresh upload of this program, or the question is refused."""
    for found in _objects(question):
        if "path" in found and not store.is_upload(found["path"]):
            raise Refused(400, "A file is named that was not uploaded here: send it once more.")


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _objects(one)


def _server(question: Mapping[str, Any], blocks: Blocks) -> None:
    _session(question)
    component, name = question.get("component_id"), question.get("fn_name")
    block = blocks.blocks.get(component) if _whole(component) else None
    answer = getattr(block, name, None) if isinstance(name, str) and name.isidentifier() else None
    if not getattr(answer, "_is_server_fn", False):
        raise Refused(404, "There is nothing of that name to ask.")
    if not isinstance(question.get("data"), dict):
        raise Refused(422, "data must be an object.")


def _event(question: Mapping[str, Any], blocks: Blocks, needs_session: bool) -> None:
    if needs_session or question.get("session_hash") is not None:
        _session(question)
    index = question.get("fn_index")
    function = blocks.fns.get(index) if _whole(index) else None
    if function is None:
        raise Refused(404, "There is no such event.")
    given = question.get("data")
    if not isinstance(given, list) or len(given) != len(function.inputs):
        raise Refused(422, f"data must be a list of {len(function.inputs)}.")
    if not isinstance(question.get("event_data"), dict | None):
        raise Refused(422, "event_data must be an object.")


def _call(question: Mapping[str, Any], name: str, blocks: Blocks) -> None:
    called = name.rpartition("/")[2]
    functions = (one for one in blocks.fns.values() if one.api_visibility != "private")
    function = next((one for one in functions if one.api_name == called), None)
    if function is None:
        raise Refused(404, "There is no such endpoint.")
    if question.get("session_hash") is not None:
        _session(question)
    if name.startswith("/call/v2/"):
        known = {*_parameters(function), "session_hash"}
        strange = [one for one in question if one not in known]
        if strange:
            raise Refused(422, f"{strange[0][:40]!r} is no parameter of this endpoint.")
    elif not isinstance(question.get("data"), list) or len(question["data"]) > len(function.inputs):
        raise Refused(422, f"data must be a list of at most {len(function.inputs)}.")


def _parameters(function: Any) -> list[str]:
    import inspect

    return list(inspect.signature(function.fn).parameters)


def _session(question: Mapping[str, Any]) -> None:
    session = question.get("session_hash")
    if not isinstance(session, str) or not re.fullmatch(SESSION, session):
        raise Refused(422, "session_hash must be 1 to 64 letters, digits, - or _.")


def _text(question: Mapping[str, Any], name: str) -> None:
    value = question.get(name)
    if not isinstance(value, str) or len(value) > 100:
        raise Refused(422, f"{name} must be a short text.")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
