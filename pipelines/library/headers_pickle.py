"""The names and shapes in a pickled checkpoint (.ckpt, .pt, .pth, .bin), told without carrying it out.

A pickle is a program. Its instructions are read one by one and followed on paper: what would make a tensor is
noted with its shape, what would call anything else is noted by name and refused. No class is imported, no
function called, no number of the weights read. Torch-free: the page asks it too.
"""

from __future__ import annotations

import math
import pickletools
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from pipelines.bounded import Bounded, pickle_in_zip
from pipelines.library.headers import MOST_HEADER, MOST_SIDES, Header, TensorInfo, UnreadableFile, shown

_MOST_STEPS = 2_000_000
_MOST_NAMES = 200_000
_LONGEST_NAME = 500
_MAGIC = 0x1950A86A20F9469CFC6C
"""The first of the pickles in a file of torch's oldest format."""

_STORAGES: Mapping[str, tuple[str, int]] = {
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "DoubleStorage": ("F64", 8),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "UntypedStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
}
_DTYPES: Mapping[str, tuple[str, int]] = {
    "float32": ("F32", 4),
    "float16": ("F16", 2),
    "bfloat16": ("BF16", 2),
    "float8_e4m3fn": ("F8_E4M3", 1),
    "float8_e5m2": ("F8_E5M2", 1),
    "uint8": ("U8", 1),
    "int8": ("I8", 1),
    "int64": ("I64", 8),
}
_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
_PARAMETERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")
_HARMLESS = frozenset(
    [
        *(f"torch._utils.{name}" for name in (*_TENSORS, *_PARAMETERS, "_rebuild_meta_tensor_no_storage")),
        *(f"torch.{name}" for name in (*_STORAGES, *_DTYPES)),
        *(f"torch.storage.{name}" for name in (*_STORAGES, "TypedStorage", "_load_from_bytes")),
        *("torch.Size", "torch.device", "torch.Tensor", "torch.nn.parameter.Parameter", "torch.float64"),
        *("torch.int32", "torch.int16", "torch.bool", "torch._tensor._rebuild_from_type_v2"),
        *("collections.OrderedDict", "collections.defaultdict", "collections.Counter"),
        *("builtins.set", "__builtin__.set", "builtins.dict", "__builtin__.dict", "builtins.list"),
        # What trainings left beside the weights: notes on their progress.
        *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "_codecs.encode"),
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "lightning_fabric.utilities.data.AttributeDict",
    ]
) - {"torch.storage._load_from_bytes"}
"""What a checkpoint may name; nothing of it is called here either."""

NESTED = ("state_dict", "model", "module", "params_ema", "params", "ema")
"""Keys under which trainings put the tensors, beside their optimizer's and their settings."""


@dataclass(frozen=True)
class _Named:
    """A class or function that the pickle names, "module.name"."""

    name: str


@dataclass(frozen=True)
class _Storage:
    dtype: str
    size: int


class _Unknown:
    """A value that says nothing about weights."""


class _Mark:
    """Where a list of arguments begins on the stack."""


def read(path: Path, stream: BinaryIO, size: int) -> Header:
    """The names and shapes in the pickled file in `stream`. Raises `UnreadableFile`, naming what the pickle
    would call if it would call anything but the making of tensors."""
    paper = _Paper()
    try:
        if stream.read(4) == b"PK\x03\x04":
            told = paper.follow(pickle_in_zip(stream, size, MOST_HEADER))
        else:
            stream.seek(0)
            told = _from_stream(paper, Bounded(stream, min(size, MOST_HEADER)))
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error) as problem:
        _refuse(path, paper)
        raise UnreadableFile(
            f"{shown(path)} is no file of weights that torch wrote, or it is damaged ({str(problem)[:100]})."
        ) from None
    _refuse(path, paper)
    tensors = _flat(told)
    if not tensors:
        raise UnreadableFile(f"{shown(path)} holds no weights.")
    return Header(tensors, {}, "pickle")


def _refuse(path: Path, paper: _Paper) -> None:
    if paper.foreign:
        named = sorted(paper.foreign)
        more = f" and {len(named) - 5} more" if len(named) > 5 else ""
        raise UnreadableFile(
            f"{shown(path)} was not opened: it is a pickle that would run {', '.join(named[:5])}{more}, and "
            "weights need none of that. Take a .safetensors file of this model instead."
        )


def _from_stream(paper: _Paper, bounded: Bounded) -> Any:
    first = paper.follow(bounded)
    if first != _MAGIC:
        return first
    paper.follow(bounded)  # the protocol's number
    paper.follow(bounded)  # what the machine was
    return paper.follow(bounded)


class _Paper:
    """Follows a pickle's instructions on paper. foreign: what it would call that makes no tensors."""

    def __init__(self) -> None:
        self.foreign: set[str] = set()
        self.steps = 0

    def follow(self, stream: Bounded) -> Any:
        """The value that one pickle would make, of tensors only their shapes."""
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        for opcode, argument, _ in pickletools.genops(cast(IO[bytes], stream)):
            self.steps += 1
            if self.steps > _MOST_STEPS:
                raise ValueError("it goes on without end")
            if opcode.name == "STOP":
                return self.stack.pop()
            self._step(opcode.name, argument)
        raise ValueError("it ends too early")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(_VALUES[name])
        elif name in _PLAIN:
            stack.append(argument)
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_Mark)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in _MADE:
            stack.append(_MADE[name](self._marked()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            if len(stack) < count:
                raise ValueError("it takes what is not there")
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("APPEND", "APPENDS", "ADDITEMS", "SETITEM", "SETITEMS"):
            self._fill(name)
        elif name in _CALLS:
            _CALLS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"its instruction {name} has no place in weights")

    def _marked(self) -> list[Any]:
        found: list[Any] = []
        while (value := self.stack.pop()) is not _Mark:
            found.append(value)
        return found[::-1]

    def _fill(self, name: str) -> None:
        several = name in ("APPENDS", "ADDITEMS", "SETITEMS")
        values = (
            self._marked() if several else [self.stack.pop() for _ in range(1 + (name == "SETITEM"))][::-1]
        )
        whole = self.stack[-1]
        if name in ("SETITEM", "SETITEMS"):
            if isinstance(whole, dict):
                # Other keys, tuples above all, may take for ever to hash; weights have none.
                whole.update(
                    (key, value) for key, value in zip(values[::2], values[1::2]) if type(key) in _KEYS
                )
        elif isinstance(whole, list):
            whole.extend(values)

    def _name(self, argument: Any) -> None:
        module, _, name = str(argument).partition(" ")
        self._note(module, name)

    def _stack_name(self, argument: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._note(module if isinstance(module, str) else "?", name if isinstance(name, str) else "?")

    def _note(self, module: str, name: str) -> None:
        if len(module) + len(name) > _LONGEST_NAME:
            raise ValueError("a class with an endless name")
        named = _Named(f"{module}.{name}")
        if named.name not in _HARMLESS:
            plain = named.name.replace("__builtin__.", "builtins.")
            self.foreign.add("".join(sign if sign.isprintable() else "?" for sign in plain[:80]))
        self.stack.append(named)

    def _inst(self, argument: Any) -> None:
        self._marked()
        self._name(argument)
        self.stack[-1] = _Unknown()

    def _obj(self, argument: Any) -> None:
        self._marked()
        self.stack.append(_Unknown())

    def _call(self, argument: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        # What is copied counts as steps: a list that is copied a million times must not take for ever.
        parts = arguments if isinstance(arguments, tuple) else ()
        self.steps += sum(len(one) for one in parts if isinstance(one, list | tuple))
        self.stack.append(_called(called, arguments if isinstance(arguments, tuple) else ()))

    def _new(self, argument: Any) -> None:
        self._call(argument)

    def _new_named(self, argument: Any) -> None:
        self.stack.pop()
        self._call(argument)

    def _build(self, argument: Any) -> None:
        self.stack.pop()  # an object's state: it says nothing about shapes

    def _drop(self, argument: Any) -> None:
        self.stack.pop()

    def _drop_marked(self, argument: Any) -> None:
        self._marked()

    def _twice(self, argument: Any) -> None:
        self.stack.append(self.stack[-1])

    def _kept(self, argument: Any) -> None:
        told = self.stack.pop()
        storage: Any = _Unknown()
        if (
            isinstance(told, tuple)
            and len(told) >= 2
            and told[0] == "storage"
            and isinstance(told[1], _Named)
        ):
            row = _STORAGES.get(told[1].name.rpartition(".")[2])
            storage = _Storage(*row) if row else storage
        self.stack.append(storage)


def _called(called: Any, arguments: tuple[Any, ...]) -> Any:
    name = called.name if isinstance(called, _Named) else ""
    short = name.rpartition(".")[2]
    if name.startswith("torch._utils.") and short in _TENSORS and len(arguments) >= 3:
        storage, shape = arguments[0], arguments[2]
        if isinstance(storage, _Storage):
            dtype = (storage.dtype, storage.size)
            if short == "_rebuild_tensor_v3":
                named = next((one for one in arguments[6:7] if isinstance(one, _Named)), None)
                dtype = _DTYPES.get(named.name.rpartition(".")[2] if named else "", dtype)
            return _tensor(dtype, shape)
    if name.startswith("torch._utils.") and short in _PARAMETERS and arguments:
        return arguments[0]
    if name == "torch.Size" and arguments:
        return arguments[0]
    if name in ("collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict"):
        pairs = arguments[0] if arguments and isinstance(arguments[0], list) else []
        return {
            pair[0]: pair[1]
            for pair in pairs
            if isinstance(pair, list | tuple) and len(pair) == 2 and type(pair[0]) in _KEYS
        }
    return _Unknown()


def _tensor(dtype: tuple[str, int], shape: Any) -> TensorInfo:
    sides = shape if isinstance(shape, tuple | list) else None
    if sides is None or len(sides) > MOST_SIDES:
        raise ValueError("a tensor of an impossible shape")
    if not all(type(side) is int and 0 <= side < 2**63 for side in sides):
        raise ValueError("a tensor of an impossible shape")
    return TensorInfo(dtype[0], tuple(sides), math.prod(sides) * dtype[1])


def _flat(told: Any) -> dict[str, TensorInfo]:
    """The tensors in what a checkpoint holds: those of its state, or two levels deep by joined names."""
    if not isinstance(told, dict):
        return {}
    for key in NESTED:
        inner = told.get(key)
        if isinstance(inner, dict) and any(isinstance(value, TensorInfo) for value in inner.values()):
            told = inner
            break
    found: dict[str, TensorInfo] = {}
    for name, value in told.items():
        within = value.items() if isinstance(value, dict) else [("", value)]
        for inner_name, inner in within:
            if isinstance(inner, TensorInfo) and len(found) < _MOST_NAMES and _short(name, inner_name):
                found[f"{name}.{inner_name}" if inner_name else str(name)] = inner
    return found


def _short(*names: Any) -> bool:
    return all(type(name) is not str or len(name) <= _LONGEST_NAME for name in names)


_KEYS = (str, int)
_PLAIN = frozenset(
    "BININT BININT1 BININT2 INT LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_VALUES: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: Mapping[str, Any] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": _Unknown,
}
_MADE: Mapping[str, Any] = {
    "TUPLE": tuple,
    "LIST": list,
    "DICT": lambda values: {
        key: value for key, value in zip(values[::2], values[1::2]) if type(key) in _KEYS
    },
    "FROZENSET": lambda values: _Unknown(),
}
_CALLS: Mapping[str, Any] = {
    "GLOBAL": _Paper._name,
    "STACK_GLOBAL": _Paper._stack_name,
    "INST": _Paper._inst,
    "OBJ": _Paper._obj,
    "REDUCE": _Paper._call,
    "NEWOBJ": _Paper._new,
    "NEWOBJ_EX": _Paper._new_named,
    "BUILD": _Paper._build,
    "POP": _Paper._drop,
    "DUP": _Paper._twice,
    "POP_MARK": _Paper._drop_marked,
    "BINPERSID": _Paper._kept,
}
