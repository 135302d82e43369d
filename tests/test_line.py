"""The order of waiting jobs: nobody is lost, nobody twice, nobody starves, whatever is done to the line."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from pipelines.line import LATER, NEXT, NORMAL, Line, NotWaiting, Place

CLIENTS = ("ann", "ben", "eve")


def line_of(*jobs: str) -> Line:
    """Jobs called by their client's letter and a number, added in that order."""
    line = Line()
    for job in jobs:
        line.add(job, job[0])
    return line


def drained(line: Line) -> list[str]:
    found = []
    while (job := line.take()) is not None:
        found.append(job)
    return found


def test_one_client_is_served_in_the_order_of_asking() -> None:
    assert drained(line_of("a1", "a2", "a3")) == ["a1", "a2", "a3"]


def test_a_client_of_many_jobs_lets_one_of_few_in_between() -> None:
    line = line_of("a1", "a2", "a3", "a4", "b1", "c1", "b2")
    assert line.order() == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_the_turn_of_the_one_whose_job_runs_is_over() -> None:
    line = line_of("a1", "a2")
    assert line.take() == "a1"
    line.add("b1", "b")
    line.add("a3", "a")
    assert drained(line) == ["b1", "a2", "a3"]


def test_a_job_is_moved_where_the_hand_puts_it_and_takes_on_the_priority_there() -> None:
    line = line_of("a1", "a2", "a3", "a4")
    line.move("a4", before="a2")
    line.move("a1", after="a3")
    assert line.order() == ["a4", "a2", "a3", "a1"]
    line.prioritise("a3", NEXT)
    line.move("a1", before="a3")
    assert line.place("a1").priority == NEXT
    line.move("a1")
    assert line.order() == ["a3", "a4", "a2", "a1"]
    assert line.place("a1").priority == NORMAL


def test_priorities_run_before_and_after_all_others() -> None:
    line = line_of("a1", "b1", "a2")
    line.prioritise("a1", LATER)
    line.add("b2", "b")
    line.prioritise("a2", NEXT)
    line.prioritise("b2", NEXT)
    assert drained(line) == ["b2", "a2", "b1", "a1"]


def test_held_jobs_keep_their_place_and_a_paused_line_gives_nothing() -> None:
    line = line_of("a1", "a2", "a3")
    line.hold("a1")
    assert (line.peek(), line.ahead("a3")) == ("a2", 1)
    line.paused = True
    assert line.take() is None
    line.paused = False
    assert line.take() == "a2"
    line.hold("a1", False)
    assert drained(line) == ["a1", "a3"]


def test_an_interrupted_job_comes_back_to_the_front() -> None:
    line = line_of("a1", "b1")
    line.prioritise("b1", NEXT)
    line.add_first("c1", "c")
    assert line.order() == ["c1", "b1", "a1"]


def test_what_does_not_wait_cannot_be_moved() -> None:
    line = line_of("a1", "a2")
    for deed in (
        lambda: line.move("a9", before="a1"),
        lambda: line.move("a1", before="a9"),
        lambda: line.prioritise("a9", NEXT),
        lambda: line.hold("a9"),
        lambda: line.remove("a9"),
    ):
        with pytest.raises(NotWaiting):
            deed()
    with pytest.raises(ValueError, match="twice"):
        Line([Place("a1"), Place("a1")])
    with pytest.raises(ValueError, match="waits already"):
        line.add("a1", "a")
    with pytest.raises(ValueError, match="priority"):
        line.add("a3", "a", priority=7)
    assert line.order() == ["a1", "a2"]


def test_a_place_that_was_halved_too_often_is_dealt_anew() -> None:
    line = line_of("a1", "a2", "a3")
    for _ in range(200):
        line.move("a3", after="a1")
        line.move("a2", after="a1")
    assert line.order() == ["a1", "a2", "a3"]
    ranks = [place.rank for place in line.places()]
    assert ranks == sorted(set(ranks))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2)), min_size=1, max_size=60))
def test_nobody_waits_for_more_than_one_job_of_each_other_client_per_job_of_their_own(
    asked: list[tuple[str, int]],
) -> None:
    """Whoever asks, and however many jobs are taken in between (the number): before a client's own n-th
    waiting job at most n + 1 jobs of any other client run."""
    line, count = Line(), Counter[str]()
    ahead: dict[str, int] = {}
    passed: dict[str, Counter[str]] = {}

    def take() -> None:
        if (job := line.take()) is None:
            return
        limit, others = ahead.pop(job), passed.pop(job)
        assert all(others[client] <= limit for client in "abcd" if client != job[0]), (job, others)
        for counted in passed.values():
            counted[job[0]] += 1

    for client, taken in asked:
        count[client] += 1
        job = f"{client}{count[client]}"
        ahead[job] = sum(one[0] == client for one in line.order()) + 2
        passed[job] = Counter()
        line.add(job, client)
        for _ in range(taken):
            take()
    while line.peek():
        take()
    assert not ahead


class Everything(RuleBasedStateMachine):
    """Everything that can be done to a line, in any order, against a plain account of what must be so."""

    waiting = Bundle("waiting")

    def __init__(self) -> None:
        super().__init__()
        self.line = Line()
        self.kept: dict[str, Place] = {}
        self.there: dict[str, str] = {}
        self.taken: list[str] = []
        self.touched: set[str] = set()
        self.number = 0

    @rule(target=waiting, client=st.sampled_from(CLIENTS), held=st.booleans())
    def add(self, client: str, held: bool) -> str:
        self.number += 1
        job = f"{client}-{self.number:04}"
        before = self.line.order()
        self.line.add(job, client, held=held)
        assert [one for one in self.line.order() if one != job] == before  # nobody else is moved
        self.there[job] = client
        if held:
            self.touched.add(job)
        return job

    @rule()
    def take(self) -> None:
        first = next((place.job for place in self.line.places() if not place.held), None)
        job = self.line.take()
        assert job == (None if self.line.paused else first)
        if job is not None:
            self.gone(job)
            self.taken.append(job)

    @rule(job=consumes(waiting))
    def withdraw(self, job: str) -> None:
        if job in self.there:
            self.line.remove(job)
            self.gone(job)

    @rule(job=waiting, other=waiting, before=st.booleans())
    def move(self, job: str, other: str, before: bool) -> None:
        if job in self.there and other in self.there:
            self.line.move(job, **{"before" if before else "after": other})
            order = self.line.order()
            assert job == other or order.index(other) - order.index(job) == (1 if before else -1)
            self.touched.add(job)

    @rule(job=waiting, level=st.sampled_from((NEXT, NORMAL, LATER)))
    def prioritise(self, job: str, level: int) -> None:
        if job in self.there:
            self.line.prioritise(job, level)
            self.touched.add(job)

    @rule(job=waiting, held=st.booleans())
    def hold(self, job: str, held: bool) -> None:
        if job in self.there:
            self.line.hold(job, held)
            self.touched.add(job)

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.line.paused = paused

    @rule()
    def keep(self) -> None:
        """What is kept of each change makes the same line again, as after a restart."""
        self.kept |= {place.job: place for place in self.line.changes()}
        again = Line(self.kept.values(), paused=self.line.paused)
        assert again.places() == self.line.places()

    @precondition(lambda self: self.line.peek())
    @rule()
    def interrupt(self) -> None:
        job = self.line.take()
        assert job is not None
        self.line.add_first(job, self.there[job])
        assert self.line.order()[0] == job
        self.touched.add(job)

    def gone(self, job: str) -> None:
        del self.there[job]
        self.kept.pop(job, None)

    @invariant()
    def all_wait_once(self) -> None:
        assert Counter(self.line.order()) == Counter(list(self.there))
        assert len(self.line) == len(self.there)

    @invariant()
    def priorities_stand_together(self) -> None:
        keys = [(-place.priority, place.rank) for place in self.line.places()]
        assert keys == sorted(set(keys))

    @invariant()
    def a_clients_jobs_keep_their_order_unless_a_hand_moved_them(self) -> None:
        run = defaultdict(list)
        for job in [*self.taken, *self.line.order()]:
            if job not in self.touched:
                run[job.partition("-")[0]].append(job)
        assert all(jobs == sorted(jobs) for jobs in run.values())


TestEverything = Everything.TestCase
TestEverything.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
