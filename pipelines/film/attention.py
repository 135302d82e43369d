"""Where a word acts: how much each place of the picture listened to each token, in one denoiser call.

Nothing is kept while pictures are made. A step that is looked at is run once more: the run is replayed up to
it, and the one call of its denoiser is listened to (Hertz et al., 2022; Tang et al., 2022). Listening changes
nothing: attention is computed as ever, and beside it softmax(Q K^T / sqrt d), averaged over the heads, for
the half that hears the prompt. In joint attention a place also listens to the picture; its shares are those
of the text alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.film.looking import Look, Looking, request_of
from pipelines.film.reading import READINGS, Reading, places, unread
from pipelines.film.replay import Replay
from pipelines.film.without import words
from pipelines.latents import rows_and_columns
from pipelines.run import GenerationCancelled
from pipelines.turn import CannotLook

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.film.trajectory import RunInfo, TrajectoryStore
    from pipelines.recorder import Step

MOST_LAYERS = 16
"""Layers beyond are put together with their neighbours."""

_AT_ONCE = 1 << 24
"""Numbers that are computed at once."""


@dataclass(frozen=True)
class Layer:
    """How a layer, or several of one block, listened. shares: (rows, columns, tokens), 1 at each place."""

    title: str
    shares: Tensor


@dataclass
class Heard:
    """What was heard of one step.

    words: places of each word's tokens. same: whether the step came to what was recorded, bit for bit.
    """

    layers: Sequence[Layer] = ()
    words: Sequence[tuple[int, ...]] = ()
    same: bool = False


class _Enough(GenerationCancelled):
    """Ends a run whose step was heard."""


@dataclass
class Ear:
    """Listens to one call of a denoiser: that of step `step`, where text and picture stand as `reading` says.

    size: of the picture in pixels. tokens: of the text, and spots: places of the picture, in joint attention.
    groups: block of layers -> which are told as one; heard: the sum of each, and of how many layers.
    """

    reading: Reading
    step: int
    size: tuple[int, int]
    tokens: int
    spots: int
    groups: dict[str, int] = field(default_factory=dict)
    heard: dict[int, tuple[Tensor, int]] = field(default_factory=dict)

    def listening(self, index: int, denoiser: Any) -> AbstractContextManager[Any]:
        """Listens inside, if it is the call that is meant: the first of its step, which hears the prompt."""
        return self._listening(denoiser) if index == self.step and not self.heard else nullcontext()

    @contextmanager
    def _listening(self, denoiser: Any) -> Iterator[None]:
        with ExitStack() as held:
            now: list[str] = []
            meant = [(name, module) for name, module in denoiser.named_modules() if self._meant(name, module)]
            blocks = sorted(dict.fromkeys(_block(name) for name, _ in meant), key=_side)
            together = max(1, math.ceil(len(blocks) / MOST_LAYERS))
            self.groups |= {block: number // together for number, block in enumerate(blocks)}
            for name, module in meant:
                enter, leave = _marks(name, now)
                held.callback(module.register_forward_pre_hook(enter).remove)
                held.callback(module.register_forward_hook(leave).remove)
            held.enter_context(_mode(lambda *given: self._take(now[-1], *given) if now else None))
            yield

    def _meant(self, name: str, module: Any) -> bool:
        listens = hasattr(module, "to_q") or hasattr(module, "to_qkv_mlp_proj")
        return listens and re.search(self.reading.named, name) is not None

    def _take(self, name: str, query: Tensor, key: Tensor, mask: Any, scale: Any) -> None:
        filled = self.spots + -self.spots % self.reading.full
        ways = {
            "cross": (slice(None), slice(None)),
            "image first": (slice(self.spots), slice(filled, filled + self.tokens)),
            "text first": (slice(self.tokens, self.tokens + self.spots), slice(self.tokens)),
            "beside": (slice(None), slice(self.tokens)),
        }
        image, text = ways[self.reading.layers]
        spots = query.shape[-2] if self.reading.layers == "beside" else self.spots
        if self.reading.layers != "cross" and key.shape[-2] < spots + self.tokens:
            return  # a layer in which the picture listens to itself alone
        group = self.groups[_block(name)]
        total, count = self.heard.get(group, (0, 0))
        sample = 0 if len(query) == 3 else self.reading.sample  # instruct-pix2pix takes three
        self.heard[group] = total + shares(query, key, image, text, mask, scale, sample), count + 1

    def layers(self) -> list[Layer]:
        """What was heard, from the first layer to the last, at most `MOST_LAYERS`."""
        found = []
        for group, (total, count) in sorted(self.heard.items()):
            rows, columns = rows_and_columns(len(total), *self.size)
            blocks = [block for block, one in self.groups.items() if one == group]
            title = _title(blocks, list(self.groups).index(blocks[0]))
            found.append(Layer(title, (total / count).reshape(rows, columns, -1)))
        return found


def shares(
    query: Tensor,
    key: Tensor,
    image: slice,
    text: slice,
    mask: Any = None,
    scale: float | None = None,
    sample: int = -1,
) -> Tensor:
    """(places, tokens): how much of what each place hears of the text comes of which token; each place's sum
    is 1.

    query, key: (samples, heads, sequence, width), of which `image` and `text` are meant. mask: as attention
    takes it. sample: the one that hears the prompt.
    """
    import torch

    q, k = query[sample, :, image].float(), key[sample].float()
    if len(k) != len(q):  # several heads share a key
        k = k.repeat_interleave(len(q) // len(k), 0)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if mask is not None:
        mask = mask.expand(len(query), len(q), query.shape[-2], key.shape[-2])[sample][:, image]
    found = []
    step = max(1, _AT_ONCE // (k.shape[0] * k.shape[1]))
    for start in range(0, q.shape[1], step):
        part = slice(start, start + step)
        scores = q[:, part] @ k.transpose(1, 2) * scale
        if mask is not None and mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask[:, part], -math.inf)
        elif mask is not None:
            scores = scores + mask[:, part]
        found.append(scores.softmax(-1)[..., text].mean(0))
    heard = torch.cat(found)
    return (heard / heard.sum(-1, keepdim=True).clamp_min(1e-20)).cpu()


def listen(store: TrajectoryStore, look: Looking, id: str, step: int) -> Heard:
    """What was heard in a step of a recorded run.

    Raises `UnknownTrajectory`, and `CannotLook` with a sentence where words reach the model in no way that
    can be seen.
    """
    run = store.get(id)
    tensors, _ = store.read_step(id, step)
    prompt = [request_of(run).prompt[start:end] for start, end in _spans(run)]
    heard = Heard()

    def see(look: Look) -> None:
        import torch

        painter = look.run
        ear = _ear(look, run, step, tensors["sample"])
        shape = tuple(run.about.get("output_shape") or ())
        start = None if step else tensors["sample"]
        painter.replay = Replay(store, id, step, store.steps(id), shape, start)

        def stepped(done: Step) -> None:
            if done.index == step:
                heard.same = torch.equal(done.model_output.cpu(), tensors["model_output"])
                raise _Enough

        painter.watch, painter.looked = ear.listening, stepped
        try:
            look.paint()
        except _Enough:
            heard.layers = ear.layers()
            heard.words = places(prompt, ear.reading.texts(look))

    look(request_of(run).model_copy(update={"compiled": False}), run.index, see)
    if not heard.layers:
        raise CannotLook(
            "In this step no layer listened to the words of the prompt: a refiner that takes over reads them "
            "by itself. Look at an earlier step."
        )
    return heard


def _ear(look: Look, run: RunInfo, step: int, sample: Tensor) -> Ear:
    family = look.run.model.family
    if why := unread(family):
        raise CannotLook(why)
    reading = READINGS[family]
    tokens = 0 if reading.layers == "cross" else sum(text.length for text in reading.texts(look))
    spots = sample.shape[1]
    if sample.dim() == 4:
        config = getattr(look.run.pipe, look.run.family.denoiser).config
        patch = int(config.get("patch_size") or (config.get("all_patch_size") or (1,))[0])
        spots = (sample.shape[2] // patch) * (sample.shape[3] // patch)
    return Ear(reading, step, run.size, tokens, spots)


def told(run: RunInfo, heard: Heard) -> dict[str, Any]:
    """What was heard, for the page: "words" (start, end and whether it was read), "layers" (title, rows,
    columns, and for each word its peak: the largest share at any place), "same", and "maps", a byte for each
    layer, word, row and column: the share as 255ths of the peak."""
    import torch

    maps, layers = [], []
    for layer in heard.layers:
        by_word = [layer.shares[..., list(word)].sum(-1) for word in heard.words]
        stacked = torch.stack(by_word) if by_word else layer.shares.new_zeros(0, *layer.shares.shape[:2])
        peaks = stacked.flatten(1).amax(1) if by_word else stacked.new_zeros(0)
        scaled = stacked / peaks.clamp_min(1e-20)[:, None, None]
        maps.append((scaled * 255).round().to(torch.uint8).numpy().tobytes())
        rows, columns = layer.shares.shape[:2]
        layers.append({"title": layer.title, "rows": rows, "columns": columns, "peaks": peaks.tolist()})
    spans = zip(_spans(run), heard.words)
    return {
        "words": [{"start": start, "end": end, "read": bool(word)} for (start, end), word in spans],
        "layers": layers,
        "same": heard.same,
        "maps": b"".join(maps),
    }


def _spans(run: RunInfo) -> list[tuple[int, int]]:
    return words(request_of(run).prompt)


# ---------------------------------------------------------------------------------------------- names, hooks


def _block(name: str) -> str:
    """What a layer is part of: "down_blocks.1.attentions.0", "transformer_blocks.7"."""
    parts = name.split(".")
    cut = parts.index("transformer_blocks") if "transformer_blocks" in parts[1:] else len(parts) - 1
    return ".".join(parts[:cut])


_SIDES: Mapping[str, str] = {"down_blocks": "Down", "mid_block": "Middle", "up_blocks": "Up"}
"""A UNet's sides, in the order in which they run."""


def _side(block: str) -> int:
    """Sorts blocks as they run; those of other models stand in that order already."""
    return next((number for number, side in enumerate(_SIDES) if block.startswith(side)), 0)


def _title(blocks: Sequence[str], first: int) -> str:
    """What layers are called: by their side of a UNet, else by their number."""
    side, *numbers = [part for part in blocks[0].split(".") if part != "attentions"]
    if side in _SIDES and len(blocks) == 1:
        if side == "mid_block":
            return _SIDES[side]
        block, *layer = (int(number) + 1 for number in numbers)
        return " ".join([_SIDES[side], ".".join(map(str, (block, *layer)))])
    last = first + len(blocks)
    return f"Block {last}" if len(blocks) == 1 else f"Blocks {first + 1} to {last}"


def _marks(name: str, now: list[str]) -> tuple[Any, Any]:
    """Hooks that keep the layers that are being computed in `now`."""

    def enter(module: Any, given: Any) -> None:
        now.append(name)

    def leave(module: Any, given: Any, found: Any) -> None:
        now.pop()

    return enter, leave


def _mode(take: Any) -> AbstractContextManager[Any]:
    """Hands every call of torch's attention inside to `take`: query, key, mask, scale."""
    import torch
    from torch.overrides import TorchFunctionMode

    attention = torch.nn.functional.scaled_dot_product_attention
    names = ("query", "key", "value", "attn_mask")

    class Listening(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            found = function(*args, **kwargs)
            if function is attention:
                given = {**dict(zip(names, args)), **kwargs}
                take(given["query"], given["key"], given.get("attn_mask"), given.get("scale"))
            return found

    return Listening()
