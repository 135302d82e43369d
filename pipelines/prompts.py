"""From a prompt with attention brackets to the embeddings that a pipeline is called with.

A prompt without brackets that fits into one chunk gives, bit for bit, what diffusers' `encode_prompt` gives.

compel was weighed and does not fit: it moves each token away from the embedding of the empty prompt,
blends in whole prompts with the words left out below weight 1, breaks long prompts at sentences and reads
`x++`; people come with prompts tuned to the webui's rule, `emphasised` below, and would get other pictures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.lora.embeddings import Vocabulary
from pipelines.prompt_syntax import has_weights, notes_on, own_words, parse_weights, plain

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.prompt_memory import PromptMemory

WRAP = 20
"""A phrase that began at most this many tokens before a chunk's end moves on whole (the webui's default)."""

_CHUNK = 75
_NO_EMBEDDING = re.compile(r"\bembedding:([\w.-]+)", re.IGNORECASE)


class Chunk(NamedTuple):
    """What one run of a text encoder reads: BOS, up to 75 tokens, EOS and padding, and each one's weight."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


class TokenCount(NamedTuple):
    """Tokens used, and how many the chunks begun would hold; as text "14/75"."""

    used: int
    limit: int

    def __str__(self) -> str:
        return f"{self.used}/{self.limit}"


@dataclass(frozen=True)
class Encoded:
    """kwargs: for the pipeline's call. notes: a sentence for each part of the prompt that was left out."""

    kwargs: dict[str, Any]
    notes: tuple[str, ...] = field(default=())


def chunk_length(tokenizer: Any) -> int:
    """Tokens that one chunk holds beside BOS and EOS: 75 for CLIP, fewer for a smaller text encoder."""
    return int(min(tokenizer.model_max_length, _CHUNK + 2)) - 2


def chunk(
    text: str,
    tokenizer: Any,
    convert: Callable[[str], str] | None = None,
    vocabulary: Vocabulary | None = None,
) -> list[Chunk]:
    """The prompt in chunks of `chunk_length` tokens, at least one, padded as diffusers pads them.

    BREAK begins a new chunk. Where a chunk is full, a phrase begun after a comma within its last `WRAP`
    tokens moves on whole. convert: applied to each text before it is tokenized. vocabulary: embeddings that
    the text may name; their vectors are negative ids, and stay together in one chunk.
    """
    ends = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    length = chunk_length(tokenizer)
    filled = _filled(text, tokenizer, convert, vocabulary or Vocabulary())
    return [_framed(ids, weights, length, *ends) for ids, weights in filled]


def count_tokens(text: str, tokenizer: Any, vocabulary: Vocabulary | None = None) -> TokenCount:
    """Tokens as the webui shows them, 14/75 or 80/150: every chunk but the last counts as full."""
    chunks, length = _filled(text, tokenizer, None, vocabulary or Vocabulary()), chunk_length(tokenizer)
    return TokenCount(length * (len(chunks) - 1) + len(chunks[-1][0]), length * len(chunks))


def _framed(ids: Sequence[int], weights: Sequence[float], length: int, bos: int, eos: int, pad: int) -> Chunk:
    padding = length - len(ids)
    return Chunk((bos, *ids, eos, *[pad] * padding), (1.0, *weights, 1.0, *[1.0] * padding))


def _filled(
    text: str, tokenizer: Any, convert: Callable[[str], str] | None, vocabulary: Vocabulary
) -> list[tuple[list[int], list[float]]]:
    """Token ids and weights of each chunk, without BOS, EOS and padding."""
    length = chunk_length(tokenizer)
    comma = _comma(tokenizer)
    spans = parse_weights(own_words(text))
    texts = [convert(span.text) if convert else span.text for span in spans]
    read = [tokens(text, tokenizer, vocabulary) for text in texts]
    chunks: list[tuple[list[int], list[float]]] = []
    ids: list[int] = []
    weights: list[float] = []
    phrase = 0  # where the phrase after the last comma begins; 0 without a comma in this chunk

    def finish(at: int) -> None:
        nonlocal ids, weights, phrase
        chunks.append((ids[:at], weights[:at]))
        ids, weights, phrase = ids[at:], weights[at:], 0

    for span, span_ids in zip(spans, read):
        if span.new_chunk:
            finish(len(ids))
        for group in span_ids:
            if ids and len(group) > 1 and len(ids) + len(group) > length:
                finish(len(ids))
            for token in group:
                if len(ids) == length:
                    wrap = token != comma and phrase > 0 and length - phrase < WRAP
                    finish(phrase if wrap else length)
                ids.append(token)
                weights.append(span.weight)
                if token == comma and len(ids) > 1:
                    phrase = len(ids)
    if ids or not chunks:
        finish(len(ids))
    return chunks


def tokens(text: str, tokenizer: Any, vocabulary: Vocabulary) -> list[list[int]]:
    """A text's tokens, without beginning and end, those that must stay in one chunk together."""
    groups: list[list[int]] = []
    for part in vocabulary.split(text):
        if isinstance(part, str):
            # verbose=False: it warns of prompts longer than 77 tokens, which is what chunks are for
            ids = tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
            groups += [[token] for token in ids]
        else:
            groups.append(part)
    return groups


def _comma(tokenizer: Any) -> int | None:
    found = tokenizer.convert_tokens_to_ids(",</w>")
    return None if found == tokenizer.unk_token_id else found


def encode(
    pipe: Any,
    prompt: str,
    negative_prompt: str | None,
    guidance: bool,
    *,
    clip_skip: int = 1,
    vocabulary: Vocabulary | None = None,
    memory: PromptMemory | None = None,
    state: Hashable = (),
) -> Encoded:
    """What to call `pipe` with for this prompt.

    Stable Diffusion and SDXL get `prompt_embeds` and, with `guidance`, `negative_prompt_embeds`
    (1, 77 * chunks, width), SDXL also the two pooled ones (1, width), on the pipeline's device in the text
    encoder's dtype.
    A `negative_prompt` of None means what it means to diffusers: empty, or zeros where SDXL's configuration
    says so. Other models get the plain words, and a note that weights were left out.
    clip_skip: 1 is the layer that the model was trained with, each one more a layer earlier. vocabulary: the
    embeddings that can be named. memory: keeps what text encoders gave, with `state` (active adapters) in the
    key.
    """
    notes = notes_on(prompt, negative_prompt or "")
    if not guidance and negative_prompt and negative_prompt.strip():
        notes.append("The negative prompt has no effect while guidance is 1.")
    encoders = clip_encoders(pipe)
    if not encoders:
        kwargs: dict[str, Any] = {"prompt": plain(prompt)}
        kwargs["negative_prompt"] = None if negative_prompt is None else plain(negative_prompt)
        if clip_skip > 1:
            kwargs["clip_skip"] = clip_skip - 1
        if any(has_weights(text) for text in (prompt, negative_prompt or "")):
            notes.append("This model takes no attention weights: brackets, weights and BREAK were left out.")
        return Encoded(kwargs, tuple(notes))

    import torch

    vocabulary = vocabulary or Vocabulary()
    sdxl = hasattr(pipe, "text_encoder_2")
    zeros = sdxl and negative_prompt is None and pipe.config.force_zeros_for_empty_prompt
    texts = [prompt] if not guidance or zeros else [prompt, negative_prompt or ""]
    chunked = _chunked(pipe, encoders, texts, vocabulary)
    notes += vocabulary.notes + _unknown_embeddings(texts, vocabulary)

    def embedded() -> tuple[list[Tensor], list[Tensor]]:
        with torch.no_grad():
            return _embedded(pipe, encoders, chunked, sdxl, clip_skip, vocabulary)

    if memory is None:
        embeds, pooled = embedded()
    else:
        key = (memory.encoders_of(pipe), _keyed(chunked), vocabulary.state, sdxl, clip_skip, state)
        embeds, pooled = memory.recall(key, embedded)
    if guidance and zeros:
        embeds = [*embeds, torch.zeros_like(embeds[0])]
        pooled = [*pooled, torch.zeros_like(pooled[0])]
    kwargs = dict(zip(("prompt_embeds", "negative_prompt_embeds"), embeds))
    kwargs.update(zip(("pooled_prompt_embeds", "negative_pooled_prompt_embeds"), pooled))
    return Encoded(kwargs, tuple(notes))


def _keyed(chunked: Sequence[Sequence[Sequence[Chunk]]]) -> Hashable:
    return tuple(tuple(tuple(chunks) for chunks in by_text) for by_text in chunked)


def clip_encoders(pipe: Any) -> list[tuple[Any, Any]]:
    """(tokenizer, text encoder) of each CLIP that a UNet listens to; none for every other kind of model."""
    if getattr(pipe, "unet", None) is None:
        return []
    pairs = [
        (getattr(pipe, f"tokenizer{number}", None), getattr(pipe, f"text_encoder{number}", None))
        for number in ("", "_2")
    ]
    present = [(tokenizer, encoder) for tokenizer, encoder in pairs if encoder is not None]
    clip = all(encoder.config.model_type == "clip_text_model" for _, encoder in present)
    return present if clip else []


def _chunked(
    pipe: Any, encoders: Sequence[tuple[Any, Any]], texts: Sequence[str], vocabulary: Vocabulary
) -> list[list[list[Chunk]]]:
    """The chunks of each text, by encoder."""
    convert = getattr(pipe, "maybe_convert_prompt", None)
    chunked = []
    for tokenizer, _ in encoders:
        converter = None if convert is None else lambda text, tokenizer=tokenizer: convert(text, tokenizer)
        chunked.append([chunk(text, tokenizer, converter, vocabulary) for text in texts])
    return chunked


def _embedded(
    pipe: Any,
    encoders: Sequence[tuple[Any, Any]],
    chunked: Sequence[Sequence[list[Chunk]]],
    sdxl: bool,
    clip_skip: int,
    vocabulary: Vocabulary,
) -> tuple[list[Tensor], list[Tensor]]:
    """Embeddings (1, tokens, width) of each text, all of one length, and SDXL's pooled ones (1, width)."""
    import torch

    count = max(len(chunks) for by_text in chunked for chunks in by_text)
    parts: list[list[Tensor]] = [[] for _ in chunked[0]]
    pooled: list[Tensor] = []
    for side, ((tokenizer, encoder), by_text) in enumerate(zip(encoders, chunked)):
        (empty,) = chunk("", tokenizer)
        filler = 0 if tokenizer.eos_token_id != 0 else 1  # an id at which no encoder looks for the end
        # Encoded once each: padding a short negative prompt repeats the empty chunk many times.
        outputs: dict[tuple[int, ...], tuple[Tensor, Tensor | None]] = {}
        for index, chunks in enumerate(by_text):
            padded = chunks + [empty] * (count - len(chunks))
            for part in padded:
                if part.ids not in outputs:
                    with vocabulary.placed(encoder, side, part.ids, filler) as ids:
                        outputs[part.ids] = _hidden(encoder, tokenizer, ids, sdxl, clip_skip)
            weighted = [emphasised(outputs[part.ids][0], part.weights) for part in padded]
            parts[index].append(torch.cat(weighted, dim=1) if count > 1 else weighted[0])
            first = outputs[padded[0].ids][1]
            if first is not None and len(pooled) <= index:
                pooled.append(first)
    # diffusers casts to the last encoder's dtype, wherever the parts were computed
    target = {"dtype": encoders[-1][1].dtype, "device": pipe._execution_device}
    return [torch.concat(part, dim=-1).to(**target) for part in parts], pooled


def _hidden(
    encoder: Any, tokenizer: Any, ids: Sequence[int], penultimate: bool, clip_skip: int
) -> tuple[Tensor, Tensor | None]:
    """Hidden states (1, tokens, width) and, of an encoder with a projection, the pooled state (1, width).

    A batch of one, in diffusers' order of operations, since another batch size rounds differently.
    SDXL counts clip skip from the last layer but one and takes the states bare, Stable Diffusion from the
    last and through the final norm.
    """
    import torch
    from diffusers.utils.torch_utils import get_module_execution_device

    device = get_module_execution_device(encoder)
    batch = torch.tensor([list(ids)], dtype=torch.long, device=device)
    if penultimate:
        output = encoder(batch, output_hidden_states=True)
        return output.hidden_states[-1 - clip_skip], output[0] if output[0].ndim == 2 else None
    mask = None
    if getattr(encoder.config, "use_attention_mask", None):
        words = list(ids).index(tokenizer.eos_token_id, 1) + 1
        mask = torch.tensor([[1] * words + [0] * (len(ids) - words)], device=device)
    if clip_skip == 1:
        return encoder(batch, attention_mask=mask)[0], None
    output = encoder(batch, attention_mask=mask, output_hidden_states=True)
    text_model = getattr(encoder, "text_model", encoder)
    return text_model.final_layer_norm(output.hidden_states[-clip_skip]), None


def emphasised(hidden: Tensor, weights: Sequence[float]) -> Tensor:
    """Hidden states (1, tokens, width) times each token's weight, with the chunk's mean restored.

    The webui's "Original" emphasis. Unweighted states are returned as they are, without any rounding.
    """
    if all(weight == 1.0 for weight in weights):
        return hidden

    import torch

    wide = hidden.float()
    scaled = wide * torch.tensor(weights, dtype=wide.dtype, device=wide.device).reshape(1, -1, 1)
    restored = scaled * (wide.mean() / scaled.mean())
    limits = torch.finfo(hidden.dtype)
    # Weights like 0 and -1 can bring the mean to nothing; then dividing by it would make everything infinite.
    usable = bool(torch.isfinite(restored).all()) and float(restored.abs().max()) <= limits.max
    return (restored if usable else scaled.clamp(limits.min, limits.max)).to(hidden.dtype)


def _unknown_embeddings(texts: Sequence[str], vocabulary: Vocabulary) -> list[str]:
    """A sentence on `embedding:name` of which there is none."""
    named = {found[1] for text in texts for found in _NO_EMBEDDING.finditer(text)}
    unknown = sorted(name for name in named if not vocabulary.knows(name))
    if not unknown:
        return []
    return [f"There is no embedding called {', '.join(unknown)[:200]}: read as plain words."]
