"""Loads components: an empty module, and weights mapped from disk in the number format that runs here.

The first time a component is seen its weights are converted where they must be, hashed and looked through;
what was found is remembered, and afterwards a load maps the file and hands its tensors to the module.
"""

from __future__ import annotations

import copy
import errno
import hashlib
import inspect
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.library.headers import UnreadableFile, read_header
from pipelines.load import packed_tokenizers, pickles, quantising
from pipelines.load.parts import MissingPart, Part
from pipelines.load.single_file import TOKENIZERS
from pipelines.load.skeletons import Skeletons, class_of, skeleton, text_config
from pipelines.load.weights_cache import BadWeights, Record, WeightsCache, digest, read_tensors

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pipelines.devices import DevicePlan
    from pipelines.load.components import ComponentCache
    from pipelines.request import Quantisation

LIBRARY_LOCK = threading.RLock()
"""Held where a library's own loader builds modules without weights: for that it changes torch for the whole
process, so that two at a time, or one beside a LoRA's injection, would spoil each other."""

PROBLEMS = (BadWeights, MissingPart, UnreadableFile, OSError)
"""What loading raises for files that cannot be used."""

_PACKED = 30_000_000
"""Bytes that a tokenizer from assets takes, about; CLIP's less, T5's somewhat more."""
_UNFOLDED = 8
"""How many times as large as its files a tokenizer is in memory, about."""


class Loader:
    """Brings components into a `ComponentCache`. tell: takes sentences about what could not be kept."""

    def __init__(
        self,
        plan: DevicePlan,
        cache: ComponentCache,
        weights: WeightsCache,
        tell: Callable[[str], None] = lambda sentence: None,
    ):
        self.plan, self.cache, self.weights, self.tell = plan, cache, weights, tell
        self._empty = Skeletons()
        self._small_keys: dict[str, str] = {}
        self._first: dict[str, threading.Lock] = {}
        self._first_lock = threading.Lock()

    def load(self, part: Part, title: str = "", quantisation: Quantisation = "none") -> tuple[str, Any, int]:
        """(key in the cache, the component, bytes of its weights); from memory if it is there.

        quantisation: how large ones are held, see quantising.

        Raises `PROBLEMS` for files that cannot be used, `DoesNotFit` where memory is too small.
        """
        what = f"{title or part.where} ({part.name})"
        if not part.files:
            if "Tokenizer" not in part.class_name:
                return "", small(part), 0
            key = self.small_key(part)
            shared = self.cache.get(key, lambda: small(part), small_bytes(part), what)
            return key, copy.copy(shared), 0  # pipelines set on which side theirs pads; its tables are shared
        dtype = self.plan.torch_dtype
        rearranged, stamp = self._rearranges(part), self._stamp(part)
        record, state = self._known(part, stamp, dtype, what)
        ending = quantising.key(part.name, record.bytes, quantisation)
        size = quantising.size_after(part.name, record.bytes, dtype.itemsize, quantisation)
        key = f"{record.content}-{_config_hash(part)}{ending}"
        opened: Mapping[str, Tensor] | None = state

        def make() -> Any:
            nonlocal opened
            empty = self._empty.of(part)
            if opened is None:
                opened = self.weights.open(record.content) if record.stored else read_state(part, empty)[0]
            if rearranged and record.stored:
                opened = _turned(opened, (0, 3, 1, 2))
            module = assemble(part, empty, opened)
            opened = None
            if ending:
                quantising.quantise(module, quantisation)
            return module

        return key, self.cache.get(key, make, size, what), size

    def small_key(self, part: Part) -> str:
        """Of a tokenizer by its content, so that models with the same one share it; looked at once."""
        stamp = part.stamp()
        if stamp not in self._small_keys:
            self._small_keys[stamp] = small_key(part)
        return self._small_keys[stamp]

    def bytes_of(self, part: Part) -> int:
        """Bytes of a component's weights as they run here, from its headers alone."""
        if not part.files:
            return small_bytes(part)
        if (record := self.weights.recall(self._stamp(part))) is not None:
            return record.bytes
        width = self.plan.torch_dtype.itemsize
        total = 0
        for file in part.files:
            if is_pickle(file):
                total += file.stat().st_size
                continue
            for info in read_header(file).tensors.values():
                count = 1
                for side in info.shape:
                    count *= side
                total += count * (width if info.dtype.startswith(("F", "BF")) else 1)
        return total

    def _stamp(self, part: Part) -> str:
        return part.stamp(self.plan.dtype, "channels last" if self._rearranges(part) else "")

    def _rearranges(self, part: Part) -> bool:
        return part.name == "vae" and self.plan.channels_last

    def _known(
        self, part: Part, stamp: str, dtype: torch.dtype, what: str
    ) -> tuple[Record, Mapping[str, Tensor] | None]:
        """What is known of a part, found out at its first load. The tensors come with it where they are in
        memory and nowhere else."""
        if (record := self.weights.recall(stamp)) is not None:
            return record, None
        with self._first_lock:
            lock = self._first.setdefault(stamp, threading.Lock())
        with lock:
            if (record := self.weights.recall(stamp)) is not None:
                return record, None
            with self.cache.reserved(self.bytes_of(part), what):
                record, state = self._find_out(part, dtype)
            self.weights.remember(stamp, record)
            return record, state

    def _find_out(self, part: Part, dtype: torch.dtype) -> tuple[Record, Mapping[str, Tensor] | None]:
        state, dtypes, as_it_is = native(part, dtype)
        if self._rearranges(part) and (turned := _turned(state, (0, 2, 3, 1))) is not state:
            # Kept in the order in which convolutions run fastest, so that a load need not copy it.
            state = {name: tensor.contiguous() for name, tensor in turned.items()}
            as_it_is = False
        size = sum(tensor.numel() * dtypes[name].itemsize for name, tensor in state.items())
        if as_it_is:
            return Record(digest(state, dtypes), size, stored=False), None
        try:
            content, size = self.weights.store(state, dtypes)
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
                raise
            self.tell(
                f"The converted weights of {part.where} could not be kept on disk ({problem.strerror}): it "
                "runs, and is converted again next time."
            )
            changed = {name: tensor.to(dtypes[name]).contiguous() for name, tensor in state.items()}
            return Record(digest(changed, dtypes), size, stored=True), changed
        return Record(content, size, stored=True), None


def native(part: Part, dtype: torch.dtype) -> tuple[Mapping[str, Tensor], Mapping[str, torch.dtype], bool]:
    """(a part's tensors, the formats they run in, whether the files hold them just so)."""
    if part.convert is None and _by_library(part):
        module = _from_library(part, dtype)
        state = values(module)
        return state, {name: tensor.dtype for name, tensor in state.items()}, False
    empty = skeleton(part)
    state, renamed_only = read_state(part, empty)
    dtypes = {name: running_dtype(name, tensor, empty, dtype) for name, tensor in state.items()}
    same = all(tensor.dtype == dtypes[name] for name, tensor in state.items())
    return state, dtypes, same and renamed_only


def running_dtype(name: str, tensor: Tensor, module: Any, dtype: torch.dtype) -> torch.dtype:
    """The format of one weight: `dtype` for real numbers, but float32 where the module's class wants it."""
    import torch

    if not tensor.is_floating_point():
        return tensor.dtype
    kept = set(getattr(module, "_keep_in_fp32_modules_strict", None) or ())
    if dtype == torch.float16:
        kept |= set(getattr(module, "_keep_in_fp32_modules", None) or ())
    return torch.float32 if kept.intersection(name.split(".")) else dtype


def read_state(part: Part, empty: Any) -> tuple[dict[str, Tensor], bool]:
    """(the tensors that `empty` wants, by its names; whether they are the file's own, not made from them).

    Raises `BadWeights` where one is missing or of another shape.
    """
    found: dict[str, Tensor] = {}
    for file in part.files:
        if is_pickle(file):
            found |= pickles.load_tensors(file)
        else:
            read_header(file)  # says in a sentence what is wrong with it, which the library does not
            found |= read_tensors([file])
    there = {tensor.untyped_storage().data_ptr() for tensor in found.values()}
    pickled = any(is_pickle(file) for file in part.files)
    state = part.convert(found, empty) if part.convert else found
    wanted = empty.state_dict()
    state = _renamed(state, wanted)
    tied = set(getattr(empty, "all_tied_weights_keys", None) or ())
    missing = [name for name in wanted if name not in state and name not in tied]
    if missing:
        raise BadWeights(
            f"{part.where} lacks {missing[0]} and {len(missing) - 1} more of the {len(wanted)} weights of "
            f"its {part.name}: it is not what it seems, or was cut. Take another copy of it."
        )
    state = {name: state[name] for name in wanted if name in state}
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise BadWeights(
                f"{part.where} has {name} of the shape {_shape(tensor)}, where its config says "
                f"{_shape(wanted[name])}: weights and config do not belong together."
            )
    own = all(one.untyped_storage().data_ptr() in there and one.is_contiguous() for one in state.values())
    return state, own and not pickled


def _renamed(state: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """transformers 5.6 took the prefix "text_model." off CLIP's text encoder; files have it or not."""
    if all(name in state for name in wanted):
        return dict(state)
    stripped = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    added = {f"text_model.{name}": tensor for name, tensor in state.items()}
    for other in (stripped, added):
        if sum(name in other for name in wanted) > sum(name in state for name in wanted):
            return other
    return dict(state)


def assemble(part: Part, empty: Any, state: Mapping[str, Tensor]) -> Any:
    """The module with those tensors, which it takes as they are: none is copied."""
    from torch.nn import Parameter

    for prefix, module in empty.named_modules():
        before = f"{prefix}." if prefix else ""
        for name in module._parameters:
            if (tensor := state.get(f"{before}{name}")) is not None:
                module._parameters[name] = Parameter(tensor, requires_grad=False)
        for name in module._buffers:
            if (tensor := state.get(f"{before}{name}")) is not None:
                module._buffers[name] = tensor
    if hasattr(empty, "tie_weights"):
        empty.tie_weights()
    held = [*empty.named_parameters(), *empty.named_buffers()]
    left = [name for name, value in held if value.is_meta]
    if left:
        raise BadWeights(f"{part.where} lacks {left[0]} and {len(left) - 1} more weights.")
    return empty.eval() if empty.training else empty


def values(module: Any) -> dict[str, Tensor]:
    """All that makes a module what it is beside its config: its state, and real numbers in buffers that are
    not part of that."""
    found = {name: tensor.detach() for name, tensor in module.state_dict().items()}
    for name, buffer in module.named_buffers():
        if buffer.is_floating_point():
            found.setdefault(name, buffer)
    return found


def is_pickle(file: Path) -> bool:
    return file.suffix.lower() in (".bin", ".ckpt", ".pt", ".pth")


def small(part: Part) -> Any:
    """A tokenizer, scheduler or processor, from its folder, or a packed one (see single_file)."""
    if part.folder is None:
        return class_of(part).from_config(dict(part.config))
    if part.folder == TOKENIZERS:
        packed = packed_tokenizers
        return (
            packed.clip(part.folder, part.config["pad_token"])
            if "CLIP" in part.class_name
            else packed.t5(part.folder)
        )
    return class_of(part).from_pretrained(part.folder, local_files_only=True)


def small_key(part: Part) -> str:
    """Hash over a tokenizer's files."""
    hashed = hashlib.sha256(f"{part.class_name} {json.dumps(part.config, sort_keys=True)}".encode())
    files = part.folder.iterdir() if part.folder else ()
    for file in sorted(one for one in files if one.is_file()):
        hashed.update(f"{file.name} {file.stat().st_size} ".encode() + file.read_bytes())
    return hashed.hexdigest()[:32]


def small_bytes(part: Part) -> int:
    """About what a tokenizer takes in memory; 0 for a scheduler or processor, of which there are few."""
    if "Tokenizer" not in part.class_name or part.folder is None:
        return 0
    if part.folder == TOKENIZERS:
        return _PACKED
    return _UNFOLDED * sum(file.stat().st_size for file in part.folder.iterdir() if file.is_file())


def _by_library(part: Part) -> bool:
    """Whether a folder's weights are left to the library's own loader at their first load: where its class
    has rules of its own about names and formats."""
    cls, empty = class_of(part), skeleton(part)
    if part.library == "diffusers" and getattr(cls, "_keep_in_fp32_modules", None):
        return True
    stored = set(empty.state_dict())
    if any(buffer.is_floating_point() and name not in stored for name, buffer in empty.named_buffers()):
        return True
    if any(is_pickle(file) for file in part.files):
        return False
    held = {name for file in part.files for name in read_header(file).tensors}
    tied = set(getattr(empty, "all_tied_weights_keys", None) or ())
    named = _renamed(dict.fromkeys(held), stored)  # type: ignore[arg-type]
    return part.folder is not None and any(name not in named and name not in tied for name in stored)


def _from_library(part: Part, dtype: torch.dtype) -> Any:
    cls = class_of(part)
    with LIBRARY_LOCK:
        module, told = cls.from_pretrained(
            part.folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=part.files[0].suffix == ".safetensors",
            variant=part.variant or None,
            output_loading_info=True,
        )
    missing = sorted(told.get("missing_keys") or ())
    if missing:
        raise BadWeights(
            f"{part.where} lacks {missing[0]} and {len(missing) - 1} more weights of its {part.name}: it is "
            "not what its config says. Fetch it again."
        )
    return module


def _config_hash(part: Part) -> str:
    """Of what a config changes in how a module computes, with the class's own values for what it leaves out;
    who wrote it, when and where does not count."""
    cls = class_of(part)
    if hasattr(cls, "config_class") and hasattr(cls.config_class, "from_dict"):
        told = cls.config_class.from_dict(text_config(cls, part.config)).to_dict()
    else:
        usual = inspect.signature(cls.__init__).parameters
        told = {name: part.config.get(name, one.default) for name, one in usual.items() if name != "self"}
    passed = {"dtype", "torch_dtype", "transformers_version", "architectures", "attn_implementation"}
    told = {name: value for name, value in told.items() if not name.startswith("_") and name not in passed}
    text = json.dumps([part.class_name, told], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _shape(tensor: Any) -> str:
    return " x ".join(str(side) for side in tensor.shape) or "1"


def _turned(state: Mapping[str, Tensor], order: tuple[int, ...]) -> Mapping[str, Tensor]:
    """The weights of two-dimensional convolutions with their sides in another order; the same `state` where
    there are three-dimensional ones, for which torch has no such layout."""
    if any(tensor.dim() > 4 for tensor in state.values()):
        return state
    return {name: one.permute(order) if one.dim() == 4 else one for name, one in state.items()}
