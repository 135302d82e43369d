"""Where a prompt's words stand among the tokens that a denoiser listens to, by family, as rows of a table.

Words are found again by their tokens: each is tokenized alone and looked for in the prompt's own tokens, from
where the one before it ended. What a model never read (cut off, a tag) is found nowhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from pipelines import prompts

if TYPE_CHECKING:
    from pipelines.film.looking import Look

Layers = Literal["cross", "image first", "text first"]
"""How layers listen: to the text alone (attn2), or to picture and text in one sequence, in that order."""


@dataclass(frozen=True)
class Text:
    """The tokens of one text encoder. ids: with their places in the sequence, without beginning, end and
    padding. read: tokenizes a word alone. length: places that it takes in the sequence."""

    ids: Sequence[tuple[int, int]]
    read: Callable[[str], Sequence[int]]
    length: int


@dataclass(frozen=True)
class Reading:
    """How a family's denoiser hears words."""

    layers: Layers
    texts: Callable[[Look], Sequence[Text]]


def _clip_chunks(look: Look) -> Sequence[Text]:
    """Both of SDXL's text encoders stand side by side in every token."""
    pipe, vocabulary = look.run.pipe, look.vocabulary
    tokenizer, _ = prompts.clip_encoders(pipe)[0]
    convert = getattr(pipe, "maybe_convert_prompt", None)
    converted = None if convert is None else lambda text: convert(text, tokenizer)
    chunks = prompts.chunk(look.prompt, tokenizer, converted, vocabulary)
    ends = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    width = prompts.chunk_length(tokenizer) + 2
    ids = [
        (token, number * width + place)
        for number, chunk in enumerate(chunks)
        for place, token in enumerate(chunk.ids)
        if token not in ends
    ]

    def read(word: str) -> Sequence[int]:
        return [token for group in prompts.tokens(word, tokenizer, vocabulary) for token in group]

    return [Text(ids, read, width * len(chunks))]


def _encoder(look: Look, name: str, length: int, first: int = 0) -> Text:
    """What the tokenizer called `name` makes of the prompt, cut at `length`, its places from `first` on."""
    tokenizer = getattr(look.run.pipe, name)
    prompt = str(look.words.get("prompt", ""))
    special = set(tokenizer.all_special_ids)
    given = tokenizer(prompt, truncation=True, max_length=length, verbose=False)["input_ids"]
    ids = [(token, first + place) for place, token in enumerate(given) if token not in special]

    def read(word: str) -> Sequence[int]:
        return [token for token in tokenizer(word, verbose=False)["input_ids"] if token not in special]

    return Text(ids, read, length)


def _sequence(look: Look) -> int:
    """How many tokens a call takes of its T5."""
    return int(inspect.signature(look.run.pipe.__call__).parameters["max_sequence_length"].default)


def _stable_diffusion_3(look: Look) -> Sequence[Text]:
    """Both CLIPs side by side, then T5."""
    clip = int(look.run.pipe.tokenizer_max_length)
    texts = [_encoder(look, "tokenizer", clip)]
    if getattr(look.run.pipe, "tokenizer_3", None) is not None:
        return [*texts, _encoder(look, "tokenizer_3", _sequence(look), clip)]
    return [*texts, Text((), lambda word: (), _sequence(look))]  # zeros stand in its place


READINGS: Mapping[str, Reading] = MappingProxyType(
    {
        "SD": Reading("cross", _clip_chunks),
        "SDXL": Reading("cross", _clip_chunks),
        "SD3": Reading("image first", _stable_diffusion_3),
        "Flux": Reading("text first", lambda look: [_encoder(look, "tokenizer_2", _sequence(look))]),
        "Chroma": Reading("text first", lambda look: [_encoder(look, "tokenizer", _sequence(look))]),
        "PixArt": Reading("cross", lambda look: [_encoder(look, "tokenizer", _sequence(look))]),
    }
)
"""Family (families.FAMILIES) -> how its denoiser hears words. A family is added with a row."""


def unread(family: str) -> str:
    """Why nothing can be seen of where words act in models of a family; "" where it can."""
    if family in READINGS:
        return ""
    return (
        f"Where words act cannot be seen in {family} models: words do not reach a picture one by one, or "
        "not in a way that Darkroom reads yet."
    )


def places(words: Sequence[str], texts: Sequence[Text]) -> list[tuple[int, ...]]:
    """The places of each word's tokens in the sequence; none for a word that was not read."""
    found: list[tuple[int, ...]] = [() for _ in words]
    for text in texts:
        ids, begin = [token for token, _ in text.ids], 0
        for number, word in enumerate(words):
            at = next((at for wanted in _ways(word) if (at := _find(ids, text.read(wanted), begin))), None)
            if at is not None:
                found[number] += tuple(place for _, place in text.ids[at[0] : at[1]])
                begin = at[1]
    return found


def _ways(word: str) -> Sequence[str]:
    """As it stands, and as models that clean their captions read it."""
    bare = word.replace("\\", "")
    return [bare] if bare == bare.lower() else [bare, bare.lower()]


def _find(ids: Sequence[int], wanted: Sequence[int], begin: int) -> tuple[int, int] | None:
    """Where `wanted` stands in `ids` from `begin` on, None where it does not."""
    count = len(wanted)
    for start in range(begin, len(ids) - count + 1) if count else ():
        if list(ids[start : start + count]) == list(wanted):
            return start, start + count
    return None
