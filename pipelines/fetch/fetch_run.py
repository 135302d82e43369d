"""One plan carried out: every file brought and checked, and told what it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pipelines.fetch import fetch_plan, hub, transfer
from pipelines.fetch.fetch_places import Places
from pipelines.fetch.fetch_plan import Item, Plan
from pipelines.fetch.fetch_states import MARGIN, no_room
from pipelines.fetch.hub import Hub
from pipelines.fetch.problems import FetchProblem
from pipelines.fetch.transfer import Brake, Damaged, Source, Stopped


@dataclass(frozen=True)
class Run:
    """What carrying out `plan` takes. known: the hub knows this person, by `token` or by its own store.

    progress: given the bytes of the whole plan that are here, after each block. again: given a sentence
    before each wait for another try.
    """

    plan: Plan
    places: Places
    hub: Hub
    brake: Brake
    progress: Callable[[int], None]
    again: Callable[[str], None]
    known: bool
    token: str = field(default="", repr=False)

    @property
    def here(self) -> int:
        """Bytes of the plan that are on this disk already."""
        return sum(self.places.here(self.plan, item) for item in self.plan.items)

    def check_room(self) -> None:
        """Raises `FetchProblem` where the disk has no room for what is missing."""
        left, free = max(0, self.plan.bytes - self.here), self.places.free(self.plan)
        if left + MARGIN > free:
            raise FetchProblem(no_room(left, free))

    def carry_out(self) -> Plan:
        """Brings what is missing; returns the plan, with the sort that the file's header tells where nobody
        knew it. Raises `Stopped`, and `FetchProblem` with what has come kept, unless it is damaged."""
        for item in self.plan.items:
            self.brake.check()
            if not self.places.whole(self.plan, item).is_file():
                self._bring(item)
        alone = self.plan.place == "models" and not self.plan.folder
        return self._identified() if alone else self.plan

    def _bring(self, item: Item) -> None:
        part = self.places.part(self.plan, item)
        if item.text:
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(item.text, encoding="utf8")
        else:
            self._transfer(item)
        os.replace(part, self.places.whole(self.plan, item))

    def _transfer(self, item: Item) -> None:
        plan = self.plan
        others = sum(self.places.here(plan, other) for other in plan.items if other != item)
        headers = self.hub.headers(self.token) if plan.repo else fetch_plan.url_headers(self.token)
        try:
            transfer.fetch(
                Source(item.url, item.size, item.checksum, headers, self.hub.host),
                self.places.part(plan, item),
                lambda have: self.progress(others + have),
                self.brake,
                self.again,
            )
        except (Stopped, Damaged):
            raise
        except Exception as error:
            if plan.repo:
                raise hub.problem(error, plan.repo, plan.revision, self.known) from None
            raise fetch_plan.url_problem(error, bool(self.token)) from None

    def _identified(self) -> Plan:
        """A file that cannot be read is thrown away."""
        from pipelines.library.headers import UnreadableFile
        from pipelines.library.identify import identify

        try:
            found = identify(self.places.whole(self.plan, self.plan.items[0]))
        except UnreadableFile as error:
            self.places.discard(self.plan)
            raise FetchProblem(f"What came is no model and has been thrown away. {error}") from None
        if found is None or self.plan.sort:
            return self.plan
        return replace(self.plan, sort=found.sort)
