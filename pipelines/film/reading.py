"""Where a prompt's words stand among the tokens that a denoiser listens to, by family, as rows of a table.

Words are found again by their tokens: each is tokenized alone and looked for in the prompt's own tokens, from
where the one before it ended. What a model never read (cut off, a tag) is found nowhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pipelines import prompts
from pipelines.turn import CannotLook

if TYPE_CHECKING:
    from pipelines.film.looking import Look

Layers = Literal["cross", "image first", "text first", "beside"]
"""How layers listen: to the text alone, to picture and text in one sequence, in that order, or to the text
and then to the picture while the picture alone listens."""


@dataclass(frozen=True)
class Text:
    """The tokens of one text encoder. ids: with their places in the sequence, without beginning, end and
    padding. read: tokenizes a word alone. length: places that it takes in the sequence. spaced: a word has
    other tokens after a space than at the beginning."""

    ids: Sequence[tuple[int, int]]
    read: Callable[[str], Sequence[int]]
    length: int
    spaced: bool = False


@dataclass(frozen=True)
class Reading:
    """How a family's denoiser hears words.

    named: what the names of the layers that listen hold, a regular expression. sample: which of a call's
    samples hears the prompt. full: the picture's places are filled up to a multiple of so many.
    """

    layers: Layers
    texts: Callable[[Look], Sequence[Text]]
    named: str = ""
    sample: int = -1
    full: int = 1


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


def _encoder(
    look: Look, name: str, length: int, first: int = 0, spaced: bool = False, cleaned: bool = False
) -> Text:
    """What the tokenizer called `name` makes of the prompt, cut at `length`, its places from `first` on.
    cleaned: it is read in small letters."""
    tokenizer = getattr(look.run.pipe, name)
    prompt = _prompt(look, cleaned)
    special = set(tokenizer.all_special_ids)
    given = tokenizer(prompt, truncation=True, max_length=length, verbose=False)["input_ids"]
    ids = [(token, first + place) for place, token in enumerate(given) if token not in special]

    def read(word: str) -> Sequence[int]:
        given = tokenizer(word.lower() if cleaned else word, verbose=False)["input_ids"]
        return [token for token in given if token not in special]

    return Text(ids, read, length, spaced)


def _prompt(look: Look, cleaned: bool = False) -> str:
    prompt = str(look.words.get("prompt", ""))
    return prompt.lower().strip() if cleaned else prompt


def _framed(look: Look, frame: str, length: int, dropped: int = 0, cleaned: bool = False) -> Text:
    """As `_encoder`, of a prompt that stands in a frame of other words, at "{}". dropped: tokens at the
    beginning that the denoiser is not told of. Its length is that of what was read, without padding."""
    tokenizer = look.run.pipe.tokenizer
    prompt = _prompt(look, cleaned)
    before, _, after = frame.rpartition("{}")

    def read_whole(text: str) -> Sequence[int]:
        found = tokenizer(text, truncation=True, max_length=length, verbose=False)["input_ids"]
        return found  # type: ignore[no-any-return]

    def shared(text: str) -> int:
        """How many tokens a beginning has in common with the whole: some tokenizers end every text."""
        pairs = enumerate(zip(read_whole(text), given))
        return next(
            (at for at, (one, other) in pairs if one != other), min(len(read_whole(text)), len(given))
        )

    given = read_whole(before + prompt + after)
    special = set(tokenizer.all_special_ids)
    meant = range(shared(before.rstrip(" ")), shared(before + prompt))
    ids = [(given[at], at - dropped) for at in meant if given[at] not in special and at >= dropped]

    def read(word: str) -> Sequence[int]:
        given = tokenizer(word.lower() if cleaned else word, verbose=False)["input_ids"]
        return [token for token in given if token not in special]

    return Text(ids, read, len(given) - dropped, spaced=True)


def _asked(look: Look, thinking: bool) -> str:
    """The frame that a chat model's template puts around a prompt."""
    message = [{"role": "user", "content": "{}"}]
    return str(
        look.run.pipe.tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
    )


def _sequence(look: Look) -> int:
    """How many tokens a call takes of its text encoder."""
    return int(_default(look.run.pipe.__call__, "max_sequence_length"))


def _default(method: Callable[..., object], name: str) -> Any:
    return inspect.signature(method).parameters[name].default


def _aura_flow(look: Look) -> Sequence[Text]:
    """Behind what the denoiser has learnt to write its own notes into."""
    notes = int(look.run.pipe.transformer.register_tokens.shape[1])
    return [Text((), lambda word: (), notes), _encoder(look, "tokenizer", _sequence(look), notes)]


def _cogview4(look: Look) -> Sequence[Text]:
    """Filled up in front to a multiple of 16."""
    text = _framed(look, "{}", _sequence(look))
    filling = -text.length % 16
    ids = [(token, place + filling) for token, place in text.ids]
    return [replace(text, ids=ids, length=text.length + filling)]


def _pixart(look: Look) -> Sequence[Text]:
    return [_encoder(look, "tokenizer", _sequence(look), cleaned=True)]


def _lumina(look: Look) -> Sequence[Text]:
    """Filled up to a multiple of 8, on the side that its tokenizer fills."""
    pipe = look.run.pipe
    length = int(pipe.max_sequence_length)
    given = pipe.tokenizer(_prompt(look, cleaned=True), truncation=True, max_length=length, verbose=False)
    first = -len(given["input_ids"]) % 8 if pipe.tokenizer.padding_side == "left" else 0
    return [_encoder(look, "tokenizer", length, first, spaced=True, cleaned=True)]


def _lumina2(look: Look) -> Sequence[Text]:
    frame = f"{look.run.pipe.system_prompt} <Prompt Start> {{}}"
    return [_framed(look, frame, _sequence(look))]


def _qwen_image(look: Look) -> Sequence[Text]:
    pipe = look.run.pipe
    if getattr(pipe, "processor", None) is not None:
        raise CannotLook(
            "Where words act cannot be seen in this model: it reads them together with the picture that it "
            "edits, among whose places Darkroom does not tell them apart yet."
        )
    dropped = int(pipe.prompt_template_encode_start_idx)
    length = int(pipe.tokenizer_max_length) + dropped
    return [_framed(look, pipe.prompt_template_encode, length, dropped)]


def _flux2(look: Look) -> Sequence[Text]:
    """Filled up behind."""
    if not hasattr(look.run.pipe.tokenizer, "chat_template") or hasattr(
        look.run.pipe.tokenizer, "image_processor"
    ):
        raise CannotLook(
            "Where words act cannot be seen in this model: its text encoder reads words and pictures in one, "
            "among which Darkroom does not tell them apart yet."
        )
    length = _sequence(look)
    return [replace(_framed(look, _asked(look, thinking=False), length), length=length)]


def _sana(look: Look) -> Sequence[Text]:
    """Behind an instruction, of which only the first token is told."""
    pipe = look.run.pipe
    instruction = "\n".join(_default(pipe.__call__, "complex_human_instruction"))
    dropped = len(pipe.tokenizer.encode(instruction)) - 2
    return [_framed(look, f"{instruction}{{}}", _sequence(look) + dropped, dropped, cleaned=True)]


def _hunyuan(look: Look) -> Sequence[Text]:
    """BERT, then T5."""
    return [_encoder(look, "tokenizer", 77), _encoder(look, "tokenizer_2", 256, 77)]


def _stable_diffusion_3(look: Look) -> Sequence[Text]:
    """Both CLIPs side by side, then T5."""
    clip = int(look.run.pipe.tokenizer_max_length)
    texts = [_encoder(look, "tokenizer", clip)]
    if getattr(look.run.pipe, "tokenizer_3", None) is not None:
        return [*texts, _encoder(look, "tokenizer_3", _sequence(look), clip)]
    return [*texts, Text((), lambda word: (), _sequence(look))]  # zeros stand in its place


_CROSS = r"attn2$"

READINGS: Mapping[str, Reading] = MappingProxyType(
    {
        "SD": Reading("cross", _clip_chunks, _CROSS),
        "SDXL": Reading("cross", _clip_chunks, _CROSS),
        "SD3": Reading("image first", _stable_diffusion_3),
        "Flux": Reading("text first", lambda look: [_encoder(look, "tokenizer_2", _sequence(look))]),
        "Chroma": Reading("text first", lambda look: [_encoder(look, "tokenizer", _sequence(look))]),
        "PixArt": Reading("cross", _pixart, _CROSS),
        "AuraFlow": Reading("text first", _aura_flow),
        "CogView3": Reading("text first", lambda look: [_encoder(look, "tokenizer", _sequence(look))]),
        "CogView4": Reading("text first", _cogview4),
        "Qwen-Image": Reading("text first", _qwen_image),
        "Flux.2": Reading("text first", _flux2),
        "Lumina 2": Reading("text first", _lumina2, r"^layers\."),
        "Z-Image": Reading(
            "image first",
            lambda look: [_framed(look, _asked(look, thinking=True), _sequence(look))],
            r"^layers\.",
            sample=0,
            full=32,
        ),
        "Lumina": Reading(
            "cross",
            _lumina,
            _CROSS,
            sample=0,
        ),
        "Sana": Reading("cross", _sana, _CROSS),
        "Hunyuan-DiT": Reading("cross", _hunyuan, _CROSS),
        "Kandinsky 3": Reading(
            "cross", lambda look: [_encoder(look, "tokenizer", 128)], r"attentions\.[1-9]\d*\."
        ),
        "DeepFloyd IF": Reading("beside", lambda look: [_encoder(look, "tokenizer", 77, cleaned=True)]),
    }
)
"""Family (families.FAMILIES) -> how its denoiser hears words. A family is added with a row."""

_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "Kandinsky 2.2": "a first model turns the prompt into one picture embedding, and only that reaches "
        "the one that paints",
        "Unconditional": "they are told no words",
    }
)
"""Family -> why there is nothing to be seen of words."""


def unread(family: str) -> str:
    """Why nothing can be seen of where words act in models of a family; "" where it can."""
    if family in READINGS:
        return ""
    reason = _REASONS.get(family, "Darkroom does not know yet where words stand among what they listen to")
    return f"Where words act cannot be seen in {family} models: {reason}."


def places(words: Sequence[str], texts: Sequence[Text]) -> list[tuple[int, ...]]:
    """The places of each word's tokens in the sequence; none for a word that was not read."""
    found: list[tuple[int, ...]] = [() for _ in words]
    for text in texts:
        ids, begin = [token for token, _ in text.ids], 0
        for number, word in enumerate(words):
            at = _first(ids, [text.read(way) for way in _ways(word)], begin)
            if text.spaced:
                spaced = _first(ids, [text.read(f" {way}") for way in _ways(word)], begin)
                at = min((one for one in (at, spaced) if one), default=None)
            if at is not None:
                found[number] += tuple(place for _, place in text.ids[at[0] : at[1]])
                begin = at[1]
    return found


def _ways(word: str) -> Sequence[str]:
    """As it stands, and as models that clean their captions read it."""
    bare = word.replace("\\", "")
    return [bare] if bare == bare.lower() else [bare, bare.lower()]


def _first(ids: Sequence[int], ways: Sequence[Sequence[int]], begin: int) -> tuple[int, int] | None:
    """Where the first of `ways` that stands in `ids` does."""
    return next((at for wanted in ways if (at := _find(ids, wanted, begin))), None)


def _find(ids: Sequence[int], wanted: Sequence[int], begin: int) -> tuple[int, int] | None:
    """Where `wanted` stands in `ids` from `begin` on, None where it does not."""
    count = len(wanted)
    for start in range(begin, len(ids) - count + 1) if count else ():
        if list(ids[start : start + count]) == list(wanted):
            return start, start + count
    return None
