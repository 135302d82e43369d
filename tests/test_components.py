"""The component cache: budgets, the order of going, pins, both tiers, threads that want the same thing."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pipelines.load.components import Budgets, ComponentCache, DoesNotFit


class Loads:
    """Makes components, and writes down what was in the cache when each was made."""

    def __init__(self, cache: ComponentCache):
        self.cache, self.made, self.most = cache, [], 0

    def get(self, key: str, size: int) -> Any:
        def load() -> Any:
            self.made.append(key)
            self.most = max(self.most, self.cache.bytes)
            return object()

        return self.cache.get(key, load, size)


def keys(cache: ComponentCache) -> list[str]:
    return [one.key for one in cache.status()]


def cache_of(ram: int, device: int = 0, **more: Any) -> ComponentCache:
    return ComponentCache(lambda: Budgets(device or ram, ram), **more)


def test_the_least_recently_used_goes_first_and_before_the_new_one_is_loaded() -> None:
    gone: list[str] = []
    freed: list[int] = []
    cache = cache_of(100, evicted=gone.append, freed=lambda lingering: freed.append(cache.bytes))
    loads = Loads(cache)
    a = loads.get("a", 40)
    loads.get("b", 40)
    assert loads.get("a", 40) is a and loads.made == ["a", "b"]
    loads.get("c", 30)
    assert gone == ["b"] and keys(cache) == ["a", "c"]
    assert loads.most <= 100 and freed == [40]


def test_what_is_in_use_stays_and_too_much_is_refused_with_nothing_lost() -> None:
    cache = cache_of(100)
    loads = Loads(cache)
    loads.get("a", 60)
    loads.get("b", 30)
    with cache.pinned(["a"]):
        with pytest.raises(DoesNotFit, match=r"needs .* of memory, and .* can be made free"):
            loads.get("c", 50)
        assert keys(cache) == ["a", "b"], "nothing goes for what would not fit even then"
        loads.get("d", 40)
        assert keys(cache) == ["a", "d"]
        cache.drop()
        assert keys(cache) == ["a"]
    cache.drop()
    assert keys(cache) == [] and cache.bytes == 0


def test_room_that_is_reserved_counts() -> None:
    cache = cache_of(100)
    loads = Loads(cache)
    loads.get("a", 60)
    with cache.reserved(70):
        assert keys(cache) == [] and cache.bytes == 70
        with pytest.raises(DoesNotFit):
            loads.get("b", 40)
    loads.get("b", 40)


def test_a_load_that_fails_leaves_no_trace() -> None:
    cache = cache_of(100)

    def fail() -> Any:
        raise OSError("cut off")

    with pytest.raises(OSError, match="cut off"):
        cache.get("a", fail, 50)
    assert cache.bytes == 0
    assert Loads(cache).get("a", 100) is not None


def test_two_threads_that_want_one_component_load_it_once() -> None:
    cache = cache_of(100)
    began, may_end = threading.Event(), threading.Event()
    made: list[object] = []
    got: list[Any] = []

    def load() -> Any:
        made.append(object())
        began.set()
        may_end.wait(10)
        return made[-1]

    threads = [
        threading.Thread(target=lambda: got.append(cache.get("a", load, 10)), daemon=True) for _ in range(4)
    ]
    threads[0].start()
    assert began.wait(10)
    for thread in threads[1:]:
        thread.start()
    other = Loads(cache).get("b", 10)  # nobody else waits
    may_end.set()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1 and got == made * 4 and other is not None


def test_the_device_holds_its_budget_and_what_leaves_it_stays_in_ram() -> None:
    moved: list[tuple[str, bool]] = []
    places: dict[int, str] = {}

    def move(value: Any, there: bool) -> None:
        moved.append((places[id(value)], there))

    cache = cache_of(1000, device=100, move=move)
    loads = Loads(cache)
    for key, size in (("a", 60), ("b", 30), ("c", 50), ("d", 200)):
        places[id(loads.get(key, size))] = key
    cache.to_device(["a", "b"])
    cache.to_device(["a", "b"])
    assert moved == [("a", True), ("b", True)], "what is there is not moved again"
    cache.to_device(["c"])
    assert moved[2:] == [("a", False), ("c", True)], "room is made before, by no more than is needed"
    where = {one.key: one.where for one in cache.status()}
    assert where == {"a": "ram", "b": "device", "c": "device", "d": "ram"}
    with pytest.raises(DoesNotFit, match="on the device"):
        cache.to_device(["d"])
    with cache.pinned(["b", "c"]), pytest.raises(DoesNotFit):
        cache.to_device(["a"])
    cache.from_device(["b", "c"])
    assert {one.where for one in cache.status()} == {"ram"}
