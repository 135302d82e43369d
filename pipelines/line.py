"""Which waiting job runs next: first come, first served."""

from __future__ import annotations

from pipelines.journal import Journal


class Line:
    """The order of the waiting jobs. A worker asks `next` whenever it is free, holding its lock, and `order`
    to tell each waiting job how many run before it; nothing else of a worker knows how jobs are ordered."""

    def __init__(self, journal: Journal):
        self.journal = journal

    def next(self) -> str | None:
        """The waiting job that runs next; None where none is to run now."""
        return next(iter(self.order()), None)

    def order(self) -> list[str]:
        """The waiting jobs in the order in which they would run."""
        return self.journal.waiting_ids()
