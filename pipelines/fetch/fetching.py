"""The fetcher: brings models onto this disk one after the other, on a thread of its own, and says how far it
is.

Access tokens stay in memory (or in huggingface_hub's own store, where the person asks for that): they are in
no state, no message and not in the file that remembers fetches over a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from traceback import format_tb
from typing import Any

from pipelines.fetch import catalogue, fetch_plan, hub, reaching
from pipelines.fetch.catalogue import CatalogueRow
from pipelines.fetch.fetch_places import Places
from pipelines.fetch.fetch_plan import Plan
from pipelines.fetch.fetch_run import Run
from pipelines.fetch.fetch_states import (
    Entry,
    Estimate,
    FetchState,
    Speed,
    estimate,
    read_book,
    write_book,
)
from pipelines.fetch.hub import Address, Hub
from pipelines.fetch.problems import FetchProblem
from pipelines.fetch.transfer import Brake, Damaged, Stopped

_LOG = logging.getLogger(__name__)

TOLD_EVERY = 0.2
"""Seconds between two reports of progress."""


@dataclass
class _Fetch:
    """One fetch as the fetcher holds it. want: what the person wants of it."""

    address: Address
    row: CatalogueRow | None
    state: FetchState
    sort: str = ""
    pickles: bool = False
    plan: Plan | None = None
    token: str = field(default="", repr=False)
    remember: bool = False
    brake: Brake = field(default_factory=Brake)
    speed: Speed = field(default_factory=Speed)


class Fetcher:
    """Fetches into `models` and the Hugging Face cache; every method may be called from any thread.

    data: the program's data folder, where `downloads.json` remembers what was under way. cache, endpoint:
    where the hub's cache and the hub are, None for what the environment says. on_done: told when something
    has come.
    """

    def __init__(
        self,
        models: Path,
        data: Path,
        *,
        cache: Path | None = None,
        endpoint: str | None = None,
        rows: Iterable[CatalogueRow] | None = None,
        on_done: Callable[[FetchState], None] | None = None,
    ):
        self.places = Places(Path(models), cache)
        self.hub = Hub(endpoint)
        self.catalogue = tuple(catalogue.read() if rows is None else rows)
        self._book = Path(data) / "downloads.json"
        self._on_done = on_done
        self._wake = threading.Condition(threading.RLock())
        self._fetches: dict[str, _Fetch] = {}
        self._watchers: list[Callable[[], None]] = []
        self._token = ""
        self._closed = False
        self._told = 0.0
        self._thread: threading.Thread | None = None
        for entry in read_book(self._book, self.places):
            if (fetch := self._recalled(entry)) is not None:
                self._fetches[fetch.state.key] = fetch

    # What there is to fetch

    def rows(self) -> list[dict[str, Any]]:
        """The catalogue, ready for JSON: each row's fields; its "state": "there", "not there" or the phase of
        the fetch that is under way; and its "library_key", the key of the model or add-on once it is
        there."""
        with self._wake:
            phases = {key: fetch.state.phase for key, fetch in self._fetches.items()}
        found = []
        for row in self.catalogue:
            phase = phases.get(row.key, "done")
            state = phase if phase != "done" else "there" if self.places.holds(row) else "not there"
            key = self.places.library_key(row)
            found.append({**row.model_dump(mode="json"), "state": state, "library_key": key})
        return found

    def estimate(self, id: str, token: str = "", *, sort: str = "", pickles: bool = False) -> Estimate:
        """What fetching `id` would bring; asks the servers, which can take seconds. Raises `FetchProblem`."""
        address, row = self._understood(id)
        with self._no_secrets(token, address.token):
            plan = self._plan(address, row, token, sort, pickles)
            wants_token = plan.gated and not (token or self._token or self.hub.signed_in())
        return estimate(plan, self.places, wants_token=wants_token)

    def signed_in(self) -> bool:
        """Whether an access token for the hub is known: HF_TOKEN, huggingface_hub's store, or one typed
        before."""
        return bool(self._token) or self.hub.signed_in()

    # What is wanted

    def start(
        self, id: str, token: str = "", *, remember: bool = False, sort: str = "", pickles: bool = False
    ) -> str:
        """Puts a fetch into the queue and returns its key; the same id again resumes it.

        token: for this hub or site; remember: keep it in huggingface_hub's store. sort: what the file is,
        where the person knows better than its header. pickles: take files that are pickles too. Raises
        `FetchProblem` for what names nothing; what goes wrong later is told by the state.
        """
        address, row = self._understood(id)
        key = row.key if row else address.id
        if sort and sort not in fetch_plan.FOLDERS:
            raise FetchProblem(f"There is no sort called {sort[:40]!r}: {', '.join(fetch_plan.FOLDERS)}.")
        with self._wake:
            old = self._fetches.get(key)
            if old is not None and old.state.phase in ("waiting", "running"):
                return key
            title = row.title if row else address.id.rstrip("/").rpartition("/")[2]
            state = FetchState(key, id if row else address.id, title, row.sort if row else sort, "waiting")
            fetch = _Fetch(
                address, row, state, sort, pickles, token=token or address.token, remember=remember
            )
            if old is not None and old.state.phase in ("paused", "failed") and old.pickles == pickles:
                fetch.plan = old.plan
            self._queue(fetch)
        return key

    def pause(self, key: str) -> None:
        """Stops a fetch at once; what has come is kept. One that has ended is left alone."""
        with self._wake:
            fetch = self._known(key)
            if fetch.state.phase in ("waiting", "running"):
                fetch.brake.pull()
                self._change(fetch, phase="paused", speed=0.0, seconds_left=None, message="Paused.")

    def resume(self, key: str, token: str = "", *, remember: bool = False) -> None:
        """Puts a paused or failed fetch into the queue again; it goes on with what has come."""
        with self._wake:
            fetch = self._known(key)
            if fetch.state.phase in ("paused", "failed"):
                again = replace(fetch, token=token or fetch.token, remember=remember, brake=Brake())
                self._queue(again)

    def cancel(self, key: str) -> None:
        """Takes a fetch off the list and throws away what has come of it; what is done stays on the disk."""
        with self._wake:
            fetch = self._known(key)
            fetch.brake.pull()
            del self._fetches[key]
            self._remember()
            # The thread that runs it throws the rest away once it has let go of the file.
            if fetch.state.phase in ("waiting", "paused", "failed") and fetch.plan:
                self.places.discard(fetch.plan)
        self._notify()

    # What happens

    def states(self) -> tuple[FetchState, ...]:
        """Every fetch on the list, in the order of the queue."""
        with self._wake:
            return tuple(fetch.state for fetch in self._fetches.values())

    async def watch(self) -> AsyncIterator[tuple[FetchState, ...]]:
        """The present states, then anew after each change (progress at most five times a second)."""
        loop, wake = asyncio.get_running_loop(), asyncio.Event()

        def notify() -> None:
            if not loop.is_closed():  # a server that shuts down leaves its watchers behind
                loop.call_soon_threadsafe(wake.set)

        with self._wake:
            self._watchers.append(notify)
        try:
            told: tuple[FetchState, ...] | None = None
            while True:
                wake.clear()
                states = self.states()
                if states != told:
                    told = states
                    yield states
                    continue
                await wake.wait()
        finally:
            with self._wake:
                self._watchers.remove(notify)

    def close(self) -> None:
        """Ends the thread; what was under way is found paused at the next start."""
        with self._wake:
            self._closed = True
            for fetch in self._fetches.values():
                fetch.brake.pull()
            self._wake.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=reaching.TIMEOUT)

    # How it is done

    def _understood(self, id: str) -> tuple[Address, CatalogueRow | None]:
        row = next((row for row in self.catalogue if row.key == id), None)
        if row is not None:
            return Address(repo=row.id, revision=row.revision, file=row.file), row
        return hub.parse(id, self.hub.endpoint), None

    def _known(self, key: str) -> _Fetch:
        if key not in self._fetches:
            raise FetchProblem(f"Nothing called {key[:80]!r} is being fetched.")
        return self._fetches[key]

    def _plan(self, address: Address, row: CatalogueRow | None, token: str, sort: str, pickles: bool) -> Plan:
        given = token or address.token or ("" if address.url else self._token)
        return fetch_plan.make(address, self.hub, row=row, token=given, sort=sort, pickles=pickles)

    def _queue(self, fetch: _Fetch) -> None:
        """Puts it at the queue's end and has a thread to run it."""
        self._fetches.pop(fetch.state.key, None)
        self._fetches[fetch.state.key] = fetch
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._work, name="fetcher", daemon=True)
            self._thread.start()
        self._change(fetch, phase="waiting", message="Waiting for its turn.", wants_token=False, speed=0.0)
        self._wake.notify_all()

    def _next(self) -> _Fetch | None:
        with self._wake:
            while not self._closed:
                for fetch in self._fetches.values():
                    if fetch.state.phase == "waiting":
                        self._change(fetch, phase="running", message="Asking what there is.")
                        return fetch
                self._wake.wait()
        return None

    def _work(self) -> None:
        while (fetch := self._next()) is not None:
            try:
                with self._no_secrets(fetch.token):
                    self._run(fetch)
            except Stopped:
                with self._wake:
                    cancelled = self._fetches.get(fetch.state.key) is None
                if cancelled and fetch.plan:
                    self.places.discard(fetch.plan)
            except FetchProblem as error:
                self._fail(fetch, str(error), error.wants_token)
            except OSError as error:
                self._fail(fetch, f"It could not be written: {error.strerror or type(error).__name__}.")
            except Exception as error:  # the thread outlives whatever a server answers
                # Where it happened, without the error's own words: those could hold a token.
                _LOG.error("fetching: %s\n%s", type(error).__name__, "".join(format_tb(error.__traceback__)))
                self._fail(fetch, f"Fetching ended in an error of the program ({type(error).__name__}).")

    def _run(self, fetch: _Fetch) -> None:
        if fetch.plan is None:
            plan = self._plan(fetch.address, fetch.row, fetch.token, fetch.sort, fetch.pickles)
            if plan.gated and not (fetch.token or self.signed_in()):
                raise hub.gated(plan.repo, known=False)
            fetch.plan = plan
        plan = fetch.plan
        fetch.brake.check()
        if fetch.token and plan.repo and fetch.remember:
            self.hub.sign_in(fetch.token)
        if fetch.row is not None and self.places.holds(fetch.row) and plan.place == "models":
            return self._finish(fetch, "It is there already.")
        run = Run(
            plan,
            self.places,
            self.hub,
            fetch.brake,
            progress=lambda done: self._progress(fetch, done),
            again=lambda sentence: self._tell(fetch, message=sentence, speed=0.0, seconds_left=None),
            known=bool(fetch.token) or self.signed_in(),
            token=fetch.token or (self._token if plan.repo else ""),
        )
        run.check_room()
        told = {"title": plan.title, "sort": plan.sort, "total_bytes": plan.bytes}
        self._tell(fetch, done_bytes=run.here, message="Fetching.", **told)
        self._remember()
        fetch.speed = Speed()
        try:
            plan = fetch.plan = run.carry_out()
        except Damaged:
            fetch.plan = None  # the next try asks anew what there is
            raise
        if fetch.token and plan.repo:
            self._token = fetch.token  # it has opened something: later fetches need not ask for it
        with self._wake:
            fetch.brake.check()  # from here on a pause comes too late
            self.places.finish(plan)
        self._finish(
            fetch, "Fetched and checked." if _checked(plan) else "Fetched; nobody told its checksum."
        )

    def _finish(self, fetch: _Fetch, message: str) -> None:
        sort = fetch.plan.sort if fetch.plan else fetch.state.sort
        total = fetch.state.total_bytes or fetch.state.done_bytes
        told: dict[str, Any] = {
            "phase": "done",
            "sort": sort,
            "done_bytes": total,
            "total_bytes": total,
            "speed": 0.0,
            "seconds_left": None,
            "message": message,
        }
        try:
            if self._on_done is not None:  # first, so that who sees "done" finds it in the library
                self._on_done(replace(fetch.state, **told))
        finally:
            self._change(fetch, **told)

    def _fail(self, fetch: _Fetch, message: str, wants_token: bool = False) -> None:
        for secret in (fetch.token, fetch.address.token, self._token):
            message = message.replace(secret, "…") if secret else message
        with self._wake:
            if self._fetches.get(fetch.state.key) is fetch and fetch.state.phase == "running":
                if wants_token:
                    fetch.token = ""
                self._change(
                    fetch,
                    phase="failed",
                    speed=0.0,
                    seconds_left=None,
                    message=message,
                    wants_token=wants_token,
                )

    @contextlib.contextmanager
    def _no_secrets(self, *secrets: str) -> Iterator[None]:
        """No sentence that leaves here holds a token, whatever a server put into it."""
        try:
            yield
        except FetchProblem as error:
            told = str(error)
            for secret in (*secrets, self._token):
                told = told.replace(secret, "…") if secret else told
            raise FetchProblem(told, error.wants_token) from None

    def _progress(self, fetch: _Fetch, done: int) -> None:
        now = time.monotonic()
        speed = fetch.speed.at(now, done)
        if now - self._told < TOLD_EVERY:
            return
        self._told = now
        total = fetch.state.total_bytes
        left = (total - done) / speed if speed and total else None
        self._tell(fetch, done_bytes=done, speed=speed, seconds_left=left, message="Fetching.")

    def _tell(self, fetch: _Fetch, **told: Any) -> None:
        """As `_change`, but nothing of a fetch that has been paused or cancelled meanwhile."""
        with self._wake:
            if fetch.state.phase == "running":
                self._change(fetch, **told)

    def _change(self, fetch: _Fetch, **told: Any) -> None:
        with self._wake:
            before = fetch.state
            fetch.state = replace(fetch.state, **told)
            if fetch.state.phase != before.phase:
                self._remember()
        self._notify()

    def _notify(self) -> None:
        with self._wake:
            watchers = list(self._watchers)
        for notify in watchers:
            notify()

    # Over a restart

    def _remember(self) -> None:
        """Writes down what is not done, without tokens."""
        with self._wake:
            fetches = [fetch for fetch in self._fetches.values() if fetch.state.phase != "done"]
            write_book(self._book, [Entry(fetch.state, fetch.pickles, fetch.plan) for fetch in fetches])

    def _recalled(self, entry: Entry) -> _Fetch | None:
        """The fetch that was written down; None where the catalogue has dropped its row."""
        try:
            address, row = self._understood(entry.state.id)
        except FetchProblem:
            return None
        return _Fetch(address, row, entry.state, entry.state.sort, entry.pickles, entry.plan)


def _checked(plan: Plan) -> bool:
    return all(item.checksum for item in plan.items if not item.text)
