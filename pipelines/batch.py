"""A batch: one request over many pictures, which goes on where it was left.

Which job took a picture's turn is in the journal from the moment that the job is, and what became of the job
too. So a batch that is asked for again, after a stop, a kill or a restart, asks only for what is missing and
waits for what is still to be painted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.journal import Journal, digest
from pipelines.request import GenerationRequest


@dataclass(frozen=True)
class Item:
    """One picture's turn in a batch.

    key: of its picture. turn: by what the journal knows it again. job: the one that has painted it or is to,
    None where it must be asked for. done: whether it is painted and its files are still there.
    """

    key: str
    request: GenerationRequest
    turn: str
    job: str | None = None
    done: bool = False


class BatchBook:
    """What batches have asked for and painted, read off the journal."""

    def __init__(self, journal: Journal):
        self.journal = journal

    def items(self, values: Mapping[str, Any], keys: Sequence[str]) -> list[Item]:
        """The turns of a batch, in order and each picture once. values: the request's, its picture aside.

        Raises `InvalidRequest` where the values make no request.
        """
        requests = [GenerationRequest.parse({**values, "image": key}) for key in dict.fromkeys(keys)]
        return [self._item(request) for request in requests]

    def _item(self, request: GenerationRequest) -> Item:
        # By what was asked for: a random seed (-1) counts as the same each time.
        turn = digest(request.model_dump(mode="json", exclude_defaults=True))
        key, entry = str(request.image), self.journal.taker(turn)
        if entry is not None and entry.open:
            return Item(key, request, turn, entry.id)
        if entry is not None and entry.state == "finished":
            pictures = self.journal.pictures(entry.id).values()
            if pictures and all(Path(one.path).is_file() for one in pictures):
                return Item(key, request, turn, entry.id, done=True)
        return Item(key, request, turn)
