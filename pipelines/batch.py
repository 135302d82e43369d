"""A batch: one request over many pictures, which goes on where it was left.

What is done is written down by a hash of picture and settings, so a batch that is asked for again, after a
stop or a restart too, paints only what is missing.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.request import GenerationRequest

if TYPE_CHECKING:
    from pipelines.events import Picture


@dataclass(frozen=True)
class Item:
    """One picture's turn in a batch. key: of its picture. done: the files it was painted as before."""

    key: str
    request: GenerationRequest
    done: tuple[str, ...] = ()


class BatchBook:
    """The book of what batches have painted, a folder of small JSON files."""

    def __init__(self, root: Path):
        self.root = root

    def items(self, values: Mapping[str, Any], keys: Sequence[str]) -> list[Item]:
        """The turns of a batch, in order and each picture once. values: the request's, its picture aside.

        Raises `InvalidRequest` where the values make no request.
        """
        requests = [GenerationRequest.parse({**values, "image": key}) for key in dict.fromkeys(keys)]
        return [Item(str(request.image), request, self._done(request)) for request in requests]

    def note(self, item: Item, pictures: Iterable[Picture]) -> None:
        """Writes down that `item` has been painted."""
        self.root.mkdir(parents=True, exist_ok=True)
        part = self.root / f".{secrets.token_hex(8)}.part"
        part.write_text(json.dumps([picture.path for picture in pictures]), encoding="utf8")
        part.replace(self._path(item.request))

    def _done(self, request: GenerationRequest) -> tuple[str, ...]:
        """The files a request was painted as, if all of them are still there."""
        path = self._path(request)
        if not path.is_file():
            return ()
        files = tuple(json.loads(path.read_text(encoding="utf8")))
        return files if files and all(Path(file).is_file() for file in files) else ()

    def _path(self, request: GenerationRequest) -> Path:
        """By what was asked for: a random seed (-1) counts as the same each time."""
        return self.root / f"{hashlib.sha256(request.model_dump_json().encode()).hexdigest()[:32]}.json"
