"""The components of models that are in memory: least recently used go first, and never more than the budget.

Two tiers: RAM, where every component has its weights, and the device, where those of a run are copied to. On
the processor they are one. What a run uses is pinned; room is made before anything is loaded or moved.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipelines.budget.memory import amount


class DoesNotFit(MemoryError):
    """A component is larger than what can be made free; `str()` is a sentence."""


@dataclass(frozen=True)
class Budgets:
    """Bytes that components may take. device: the same number as `ram` where models run on the processor."""

    device: int
    ram: int


@dataclass(frozen=True)
class Resident:
    """One component in memory, for the page. where: "ram" or "device". bytes: of its weights."""

    key: str
    title: str
    bytes: int
    where: str
    in_use: bool


@dataclass
class _Entry:
    value: Any
    size: int
    title: str
    pins: int = 0
    on_device: bool = False


class ComponentCache:
    """Components by key. Every method may be called from any thread; two that want the same one load it once.

    budgets: asked each time room is needed, since the machine is shared. move: brings a component to the
    device (True) or back (False); None where RAM and device are one. evicted: told each key that went.
    freed: called after something went, to give the memory back to the system; told whether something of it
    is still held, by a cycle or by someone else.
    """

    def __init__(
        self,
        budgets: Callable[[], Budgets],
        move: Callable[[Any, bool], None] | None = None,
        evicted: Callable[[str], None] = lambda key: None,
        freed: Callable[[bool], None] = lambda lingering: None,
    ):
        self.budgets, self._move, self._evicted, self._freed = budgets, move, evicted, freed
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._coming: dict[str, int] = {}
        self._changed = threading.Condition(threading.RLock())
        self._moving = threading.RLock()

    def get(self, key: str, load: Callable[[], Any], size: int, title: str = "") -> Any:
        """The component of that key; `load` makes it where it is not there, after room for `size` bytes was
        made. Raises `DoesNotFit` where that cannot be, and whatever `load` raises."""
        with self._changed:
            while key in self._coming:
                self._changed.wait()
            if (entry := self._entries.get(key)) is not None:
                self._entries.move_to_end(key)
                return entry.value
            self._make_room(size, title)
            self._coming[key] = size
        try:
            value = load()
        except BaseException:
            with self._changed:
                del self._coming[key]
                self._changed.notify_all()
            raise
        with self._changed:
            del self._coming[key]
            self._entries[key] = _Entry(value, size, title)
            self._changed.notify_all()
        return value

    def check(self, size: int, title: str = "") -> None:
        """Raises `DoesNotFit` where `size` bytes would not fit even if all that is not in use went."""
        with self._changed:
            held = sum(entry.size for entry in self._entries.values() if entry.pins)
            self._refuse_above(self.budgets().ram, held, size, title)

    @contextmanager
    def reserved(self, size: int, title: str = "") -> Iterator[None]:
        """Keeps `size` bytes free for what is read inside. Raises `DoesNotFit`."""
        place = f"reserved {threading.get_ident()}"
        with self._changed:
            self._make_room(size, title)
            self._coming[place] = self._coming.get(place, 0) + size
        try:
            yield
        finally:
            with self._changed:
                self._coming[place] -= size
                if not self._coming[place]:
                    del self._coming[place]
                self._changed.notify_all()

    @contextmanager
    def pinned(self, keys: Iterable[str]) -> Iterator[None]:
        """Holds the components of those keys inside; those that are not there are passed over."""
        with self._changed:
            held = [self._entries[key] for key in keys if key in self._entries]
            for entry in held:
                entry.pins += 1
        try:
            yield
        finally:
            with self._changed:
                for entry in held:
                    entry.pins -= 1
                self._changed.notify_all()

    def to_device(self, keys: Iterable[str]) -> None:
        """Brings those components to the device, where they are not; others leave it first, the least
        recently used before. Raises `DoesNotFit`. Pin them before."""
        if self._move is None:
            return
        with self._moving:
            with self._changed:
                coming = [self._entries[key] for key in dict.fromkeys(keys) if key in self._entries]
                wanted = [entry for entry in coming if not entry.on_device]
                need = sum(entry.size for entry in wanted)
                leaving = self._to_leave_device(need, coming)
            for entry in leaving:
                self._move(entry.value, False)
                entry.on_device = False
            if leaving:
                self._freed(False)
            for entry in wanted:
                self._move(entry.value, True)
                entry.on_device = True

    def from_device(self, keys: Iterable[str]) -> None:
        """Brings those components back to RAM."""
        if self._move is None:
            return
        with self._moving:
            with self._changed:
                entries = [self._entries[key] for key in keys if key in self._entries]
            for entry in entries:
                if entry.on_device:
                    self._move(entry.value, False)
                    entry.on_device = False

    def drop(self, keys: Iterable[str] | None = None) -> None:
        """Lets go of those components, of all without `keys`; what is in use stays."""
        with self._changed:
            self._drop_all(list(self._entries) if keys is None else keys)

    def holds(self, key: str) -> bool:
        return key in self._entries

    def status(self) -> tuple[Resident, ...]:
        """What there is, the least recently used first."""
        with self._changed:
            return tuple(
                Resident(key, entry.title, entry.size, "device" if entry.on_device else "ram", entry.pins > 0)
                for key, entry in self._entries.items()
            )

    @property
    def bytes(self) -> int:
        """Of all components together, with those that are being loaded."""
        with self._changed:
            held = sum(entry.size for entry in self._entries.values())
            return held + sum(self._coming.values())

    def _make_room(self, size: int, title: str) -> None:
        budget = self.budgets().ram
        idle = [key for key, entry in self._entries.items() if not entry.pins]
        going: list[str] = []
        left = self.bytes
        for key in idle:
            if left + size <= budget:
                break
            going.append(key)
            left -= self._entries[key].size
        self._refuse_above(budget, left, size, title)  # nothing goes for what would not fit even then
        self._drop_all(going)

    def _refuse_above(self, budget: int, held: int, size: int, title: str) -> None:
        if held + size > budget:
            raise DoesNotFit(
                f"{title or 'It'} needs {amount(size)} of memory, and {amount(max(0, budget - held))} can be "
                "made free. Choose a smaller model or a smaller number format, or close other programs."
            )

    def _drop_all(self, keys: Iterable[str]) -> None:
        going = [key for key in keys if key in self._entries and not self._entries[key].pins]
        if going:
            watched = [ref for key in going if (ref := self._drop(key)) is not None]
            self._freed(any(ref() is not None for ref in watched))

    def _drop(self, key: str) -> weakref.ref[Any] | None:
        entry = self._entries[key]
        if entry.on_device and self._move is not None:
            self._move(entry.value, False)
        del self._entries[key]
        self._evicted(key)
        with contextlib.suppress(TypeError):  # not all things can be watched
            return weakref.ref(entry.value)
        return None

    def _to_leave_device(self, need: int, coming: list[_Entry]) -> list[_Entry]:
        budget = self.budgets().device
        there = [entry for entry in self._entries.values() if entry.on_device]
        left = sum(entry.size for entry in there)
        leaving = []
        for entry in there:
            if left + need <= budget:
                break
            if not entry.pins and entry not in coming:
                leaving.append(entry)
                left -= entry.size
        if left + need > budget:
            raise DoesNotFit(
                f"This needs {amount(need)} on the device, and {amount(max(0, budget - left))} can be made "
                "free there. Choose a smaller model, or let components wait in RAM (Memory: components)."
            )
        return leaving
