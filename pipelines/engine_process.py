"""The engine in a process of its own, and the proxy of it that the page holds.

A fault in a native library or the system's out-of-memory killer then takes down the engine, not the
page: the proxy starts it anew and says so to the worker, which goes on with the job from its film. It is no
multiprocessing child, because that would import the page's main module, and gradio with it, into the engine.
"""

from __future__ import annotations

import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from pipelines.engine import LOOKS, STARTING, Emit, EngineDied, EngineSettings, LocalEngine, Tell
from pipelines.events import Cancelled, EngineState, Failed, Finished, Paused
from pipelines.request import GenerationRequest

ROOT = Path(__file__).resolve().parent.parent
ATTEMPTS = 2
"""How often a start that fails is tried."""

SECONDS, SECONDS_LOOKING = 60, 600
"""How long an answer is waited for: a large model on a processor takes minutes for a step."""


class StartFailed(EngineDied):
    """The engine's process ended before it was up."""


class EngineProcess:
    """An `Engine` whose work is done by `python -m pipelines.engine_process`."""

    apart = True

    def __init__(self, settings: EngineSettings):
        self.settings = settings
        self._tell: Tell = lambda state: None
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._send_lock = threading.Lock()
        self._up = False
        self._failed_starts = 0
        self._closing = False
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._run: tuple[str, queue.SimpleQueue[Any]] | None = None
        self._calls: dict[str, Future[Any]] = {}

    @property
    def pid(self) -> int | None:
        """Process id of the engine as it runs now."""
        return self._process.pid if self._process else None

    def start(self, tell: Tell) -> None:
        self._tell = tell
        self._spawn()

    def _spawn(self) -> None:
        self._tell(STARTING)
        key = secrets.token_bytes(32)
        listener = Listener(authkey=key)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DIFFUSERS_VERBOSITY": "error",
        }
        command = [sys.executable, "-m", "pipelines.engine_process", str(listener.address)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
        assert process.stdin is not None
        process.stdin.write(key.hex().encode() + b"\n")
        process.stdin.flush()
        with self._lock:
            self._process = process
        threading.Thread(target=self._serve, args=(listener, process), name="engine", daemon=True).start()

    def _serve(self, listener: Listener, process: subprocess.Popen[bytes]) -> None:
        """Reads what one engine process tells until it ends, then starts the next."""
        # A process that dies before it connects would leave accept() waiting for ever.
        threading.Thread(target=_wake_after, args=(process, listener.address), daemon=True).start()
        try:
            connection = listener.accept()
            listener.close()
            connection.send(self.settings)
            with self._lock:
                self._connection = connection
            while True:
                self._take(*connection.recv())
        except (EOFError, OSError, AuthenticationError):
            listener.close()
            self._after_death(process.wait())

    def _take(self, kind: str, *values: Any) -> None:
        if kind == "state":
            (state,) = values
            if state.ready or state.fault:
                with self._changed:
                    self._failed_starts, self._up = 0, True
                    self._changed.notify_all()
            self._tell(state)
        elif kind == "event":
            job_id, event = values
            run = self._run
            if run and run[0] == job_id:
                run[1].put(event)
        elif kind == "answer":
            call_id, fault, value = values
            future = self._calls.pop(call_id)
            future.set_exception(fault) if fault else future.set_result(value)

    def _after_death(self, code: int) -> None:
        with self._changed:
            death = EngineDied(_ending(code)) if self._up else StartFailed(_ending(code))
            self._failed_starts += 0 if self._up else 1
            self._up, self._connection = False, None
            calls, self._calls = list(self._calls.values()), {}
            run, gave_up = self._run, self._failed_starts >= ATTEMPTS
        for future in calls:
            future.set_exception(death)
        if self._closing:
            pass
        elif gave_up:
            self._tell(EngineState(False, _could_not_start(death), fault=True))
        else:
            self._spawn()
        if run:
            run[1].put(death)
            with self._changed:
                self._changed.notify_all()

    def run(self, job_id: str, request: GenerationRequest, emit: Emit) -> None:
        inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._run = (job_id, inbox)
        try:
            if self._failed_starts >= ATTEMPTS:  # given up before: a new job is worth new tries
                self._failed_starts = 0
                self._spawn()
            while not self._up:
                with self._changed:
                    self._changed.wait_for(lambda: self._up or not inbox.empty())
                if not self._up:
                    death = inbox.get()
                    if self._closing:
                        raise death
                    if self._failed_starts >= ATTEMPTS:
                        return emit(Failed(_could_not_start(death)))
            self._send("run", job_id, request)
            _until_ended(inbox, emit)
        finally:
            self._run = None

    def stop(self, job_id: str, keep: bool) -> None:
        self._send("stop", job_id, keep)

    def pause(self, job_id: str) -> None:
        self._send("pause", job_id)

    def call(self, name: str, *arguments: Any) -> Any:
        if not self._up:
            return None
        call_id, future = secrets.token_hex(8), Future[Any]()
        self._calls[call_id] = future
        self._send("call", call_id, name, arguments)
        try:
            return future.result(SECONDS_LOOKING if name in LOOKS else SECONDS)
        except EngineDied:
            return None

    def _send(self, *message: Any) -> None:
        with self._lock:
            connection = self._connection
        if connection is None:
            return
        try:
            with self._send_lock:
                connection.send(message)
        except OSError:
            return  # the engine has just died; `_serve` sees the same and takes care of the job

    def close(self) -> None:
        self._closing = True
        self._send("close")
        process = self._process
        if process is not None:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_ended(inbox: queue.SimpleQueue[Any], emit: Emit) -> None:
    """Hands on a job's events until it ends or rests. Raises `EngineDied` where the engine died before."""
    while True:
        event = inbox.get()
        if isinstance(event, StartFailed):
            continue  # of an earlier try; the engine that runs this came up after it
        if isinstance(event, EngineDied):
            raise event
        emit(event)
        if isinstance(event, Finished | Failed | Cancelled | Paused):
            return


def _wake_after(process: subprocess.Popen[bytes], address: Any) -> None:
    """Ends an accept() that still waits when the process is gone: a caller without the key makes it fail."""
    process.wait()
    try:
        Client(address).close()
    except OSError:
        return  # nobody waits there any more


def _could_not_start(death: EngineDied) -> str:
    return f"The engine could not start ({death.ending}). Its log says why."


def _ending(code: int) -> str:
    """How a process ended, in words."""
    if code == -9:
        return "killed, most likely because memory ran out"
    if code < 0:
        return f"stopped by {signal.Signals(-code).name}"
    return f"exit code {code}"


def main(address: str) -> None:
    """The engine process: connects to the page that started it and serves until the page goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the page's; the engine ends with its connection
    key = bytes.fromhex(sys.stdin.readline().strip())
    connection = Client(address, authkey=key)
    settings: EngineSettings = connection.recv()
    engine = LocalEngine(settings)
    jobs: queue.SimpleQueue[tuple[str, GenerationRequest]] = queue.SimpleQueue()
    calls: queue.SimpleQueue[tuple[str, str, tuple[Any, ...]]] = queue.SimpleQueue()
    sending = threading.Lock()

    def send(*message: Any) -> None:
        with sending:
            connection.send(message)

    def answer(call_id: str, name: str, arguments: tuple[Any, ...]) -> None:
        try:
            send("answer", call_id, None, engine.call(name, *arguments))
        except Exception as error:  # the fault is the asker's to handle; the engine goes on
            send("answer", call_id, error, None)

    def answer_all() -> None:
        while True:
            answer(*calls.get())

    def listen() -> None:
        """Only hears: whatever takes long is done elsewhere, so that a stop always comes through."""
        try:
            while True:
                kind, *values = connection.recv()
                if kind == "run":
                    jobs.put((values[0], values[1]))
                elif kind == "stop":
                    engine.stop(*values)
                elif kind == "pause":
                    engine.pause(*values)
                elif kind == "call" and values[1] in LOOKS:
                    threading.Thread(target=answer, args=values, daemon=True).start()
                elif kind == "call":
                    calls.put((values[0], values[1], values[2]))
                elif kind == "close":
                    break
        except (EOFError, OSError):
            pass  # the page is gone; nothing is left to serve
        os._exit(0)

    for work in (listen, answer_all):
        threading.Thread(target=work, daemon=True).start()
    engine.start(lambda state: send("state", state))
    while True:
        job_id, request = jobs.get()
        engine.run(job_id, request, lambda event, job_id=job_id: send("event", job_id, event))  # type: ignore[misc]


if __name__ == "__main__":
    main(sys.argv[1])
