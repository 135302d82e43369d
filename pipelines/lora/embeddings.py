"""Textual inversions (Gal et al., 2022): vectors that stand for a name in the prompt.

They are put in where the text encoder looks its tokens up, while it runs: neither the tokenizer nor the table
of tokens grows, so models that share them never see an embedding that was not asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.library.headers import UnreadableFile
from pipelines.lora.adapter_tags import tag_name
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.library.addons import AddonSpec
    from pipelines.library.models import ModelLibrary

_MOST_VECTORS = 256
_SIDES = (("clip_l", "clip_g"), ("emb_params",))


@dataclass(frozen=True)
class Embedding:
    """What a file gives each text encoder in turn: vectors (count, width). hash: the file's, 12 hex."""

    name: str
    sides: tuple[Tensor, ...]
    hash: str

    @property
    def count(self) -> int:
        """Tokens that it takes in a prompt."""
        return int(self.sides[0].shape[0])


def read_embedding(path: Path, name: str) -> Embedding:
    """The embedding in a file of the webui's, kohya's or diffusers' layout, on the CPU.

    Raises `UnreadableFile` for what is none, is damaged, or would execute something.
    """
    from safetensors.torch import load

    from pipelines.library.headers import read_header
    from pipelines.load.pickles import load_tensors
    from pipelines.lora.adapter_files import is_finite

    pickled = read_header(path).format == "pickle"
    data = path.read_bytes()
    tensors = load_tensors(path) if pickled else load(data)
    found = next(([tensors[one] for one in names] for names in _SIDES if tensors.keys() >= set(names)), None)
    if found is None and len(tensors) == 1:
        found = list(tensors.values())  # under the token's own name, or "*"
    sides = tuple(one.detach().reshape(-1, one.shape[-1]) for one in found or () if one.dim() in (1, 2))
    counts = {len(side) for side in sides}
    if (
        not sides
        or len(sides) != len(found or ())
        or len(counts) != 1
        or not 0 < max(counts) <= _MOST_VECTORS
    ):
        raise UnreadableFile(f"The file {path.name} holds no embedding.")
    if not all(is_finite(side) for side in sides):
        raise UnreadableFile(f"The embedding {name} holds values that are no numbers; download it again.")
    return Embedding(name, sides, hashlib.sha256(data).hexdigest()[:12])


class Vocabulary:
    """The embeddings that a prompt may name, each by its file's name; files are read when they are named.

    widths: of the vectors that each text encoder in turn looks up, None where only tokens are counted. A
    vector's place in a prompt is marked by a negative token id, good for this vocabulary.
    """

    def __init__(self, specs: Sequence[AddonSpec] = (), widths: Sequence[int] | None = None):
        self.widths = widths
        self._specs: dict[str, AddonSpec] = {}
        for spec in specs:
            for called in (spec.name, spec.key):
                self._specs.setdefault(called.lower(), spec)
        self._read: dict[str, Embedding | None] = {}
        self._marks: dict[str, list[int]] = {}
        self._vectors: list[tuple[Embedding, int]] = []
        self.used: dict[str, Embedding] = {}
        self.notes: list[str] = []

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        names = sorted(self._specs, key=len, reverse=True)
        if not names:
            return None
        alternatives = "|".join(re.escape(name) for name in names)
        return re.compile(
            rf"(?<!\w)(?:embedding:({alternatives})(?:\.(?:safetensors|pt|bin))?|({alternatives}))(?!\w)",
            re.IGNORECASE,
        )

    def knows(self, name: str) -> bool:
        """Whether a name, with its file's ending or without, is one of an embedding."""
        bare = re.sub(r"\.(safetensors|pt|bin)$", "", name.lower())
        return any(called == bare or called.rpartition("/")[2] == bare for called in self._specs)

    def split(self, text: str) -> Iterator[str | list[int]]:
        """The text in turns with the marks of the embeddings that it names."""
        place = 0
        for found in self._pattern.finditer(text) if self._pattern else ():
            marks = self._marks_of((found[1] or found[2]).lower())
            if marks is None:
                continue
            yield text[place : found.start()]
            yield marks
            place = found.end()
        yield text[place:]

    def _marks_of(self, name: str) -> list[int] | None:
        spec = self._specs[name]
        if spec.key in self._marks:
            return self._marks[spec.key]
        embedding = self._embedding(spec)
        if embedding is None:
            return None
        first = len(self._vectors)
        self._vectors += [(embedding, number) for number in range(embedding.count)]
        self._marks[spec.key] = [-1 - first - number for number in range(embedding.count)]
        self.used[tag_name(spec.key)] = embedding
        return self._marks[spec.key]

    def _embedding(self, spec: AddonSpec) -> Embedding | None:
        if spec.key in self._read:
            return self._read[spec.key]
        try:
            embedding: Embedding | None = read_embedding(spec.path, spec.name)
        except (UnreadableFile, OSError) as problem:
            if self.widths is None:
                self._read[spec.key] = None
                return None
            raise InvalidRequest({"prompt": f"{problem} Leave {spec.name!r} out of the prompt."}) from problem
        if embedding is not None and self.widths is not None:
            # SDXL's refiner has the second of the two text encoders alone.
            embedding = replace(embedding, sides=embedding.sides[-len(self.widths) :])
            widths = [side.shape[1] for side in embedding.sides]
            if widths != list(self.widths):
                wide = " and ".join(map(str, widths))
                self.notes.append(
                    f"The embedding {spec.name} is made for text {wide} wide, not for this model: its name "
                    "was read as plain words."
                )
                embedding = None
        self._read[spec.key] = embedding
        return embedding

    @property
    def state(self) -> tuple[str, ...]:
        """What the embeddings used so far are, for remembered prompts."""
        return tuple(f"{name}:{one.hash}" for name, one in self.used.items())

    @contextlib.contextmanager
    def placed(self, encoder: Any, side: int, ids: Sequence[int], filler: int) -> Iterator[list[int]]:
        """The ids with marks replaced by `filler`, whose looked-up vectors are those of the embeddings while
        the block runs. side: which of the text encoders it is, from 0."""
        marks = {place: -1 - token for place, token in enumerate(ids) if token < 0}
        if not marks:
            yield list(ids)
            return

        def put(module: Any, inputs: Any, output: Tensor) -> Tensor:
            output = output.clone()
            for place, number in marks.items():
                embedding, row = self._vectors[number]
                output[0, place] = embedding.sides[side][row].to(output)
            return output

        handle = encoder.get_input_embeddings().register_forward_hook(put)
        try:
            yield [filler if place in marks else token for place, token in enumerate(ids)]
        finally:
            handle.remove()


def hashes(used: Mapping[str, Embedding]) -> dict[str, str]:
    """The generation text of the embeddings that a prompt used: {"TI hashes": ...}, or nothing."""
    told = ", ".join(f"{name}: {one.hash}" for name, one in used.items())
    return {"TI hashes": told} if told else {}


def vocabulary_of(pipe: Any, library: ModelLibrary) -> Vocabulary:
    """The embeddings that a pipeline's prompts may name. Only CLIP text encoders look vectors up by name."""
    from pipelines.prompts import clip_encoders

    encoders = clip_encoders(pipe)
    if not encoders:
        return Vocabulary()
    widths = [encoder.config.hidden_size for _, encoder in encoders]
    return Vocabulary(library.addons("embedding"), widths)
