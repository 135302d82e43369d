"""Headers of weights files: read exactly; hostile ones refused in a sentence, at once, in little memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.library.headers import TensorInfo, UnreadableFile, amount, read_header
from tests.support import weights

SHAPES = {"a.weight": (2, 3), "b": (), "empty": (0, 4)}


def refused(path: Path, *words: str) -> str:
    with pytest.raises(UnreadableFile) as caught:
        read_header(path)
    sentence = str(caught.value)
    assert sentence.endswith((".", "?")) and len(sentence) < 400 and sentence.isprintable()
    assert all(word in sentence for word in words), sentence
    return sentence


def memory() -> float:
    """Megabytes of memory that this process has held at most; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most / 1e3


def with_header(path: Path, told: Any, body: bytes = b"") -> Path:
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


# --------------------------------------------------------------------------------------- safetensors


def test_names_shapes_formats_and_metadata_are_read(tmp_path: Path) -> None:
    header = read_header(weights.save(tmp_path / "x.safetensors", SHAPES, "BF16", {"who": "me"}))
    assert header.tensors == {
        "a.weight": TensorInfo("BF16", (2, 3), 12),
        "b": TensorInfo("BF16", (), 2),
        "empty": TensorInfo("BF16", (0, 4), 0),
    }
    assert (header.metadata, header.format, list(header.tensors)) == (
        {"who": "me"},
        "safetensors",
        list(SHAPES),
    )


def test_what_safetensors_writes_is_read_as_it_reads_it(tmp_path: Path) -> None:
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    kinds = (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.bool)
    save_file({str(kind): torch.zeros(2, 3).to(kind) for kind in kinds}, path, {"format": "pt"})
    header = read_header(path)
    with safe_open(path, "pt") as opened:
        for name, info in header.tensors.items():
            part = opened.get_slice(name)
            assert (info.dtype, list(info.shape)) == (part.get_dtype(), part.get_shape())
            assert info.bytes == opened.get_tensor(name).nbytes


def test_a_file_that_is_cut_off_says_how_much_is_missing(tmp_path: Path) -> None:
    path = weights.save(tmp_path / "x.safetensors", {"a": (1000, 1000)})
    os.truncate(path, path.stat().st_size - 1_500_000)
    refused(path, "x.safetensors is cut off", "should hold 2 MB", "holds 500 kB", "Fetch it again")
    os.truncate(path, 20)
    refused(path, "cut off in its header")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 2]}}, "another size than its shape"),
        ({"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 4]}}, "number format that is not known"),
        ({"a": {"dtype": ["F16"], "shape": [2], "data_offsets": [0, 4]}}, "number format that is not known"),
        ({"a": {"dtype": "F16", "shape": [-2], "data_offsets": [0, 4]}}, "impossible shape"),
        ({"a": {"dtype": "F16", "shape": [True], "data_offsets": [0, 2]}}, "impossible shape"),
        ({"a": {"dtype": "F16", "shape": [2.0], "data_offsets": [0, 4]}}, "impossible shape"),
        ({"a": {"dtype": "F16", "shape": [2**62] * 4, "data_offsets": [0, 4]}}, "another size"),
        ({"a": {"dtype": "F16", "shape": [1] * 99, "data_offsets": [0, 2]}}, "impossible shape"),
        ({"a": {"dtype": "F16", "shape": [2], "data_offsets": [4, 0]}}, "impossible shape or place"),
        ({"a": {"dtype": "F16", "shape": [2], "data_offsets": [0]}}, "impossible shape or place"),
        ({"a": {"dtype": "F16", "shape": [2], "data_offsets": [2, 6]}}, "overlap or leave gaps"),
        ({"a": 3}, "has no description"),
        ({"__metadata__": {"a": 1}}, "metadata that is not text"),
        ([1, 2], "without a table"),
        (b'{"a": NaN}', "not what safetensors writes"),
        (b'{"a": 1, "a": 2}', "not what safetensors writes"),
        (b'{"\xff": 1}', "not what safetensors writes"),
        (b'{"a":' + b"[" * 200_000, "damaged"),
        (b'{"a":{"dtype":"F16","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}', "damaged"),
    ],
)
def test_headers_that_contradict_themselves_are_refused(tmp_path: Path, told: Any, words: str) -> None:
    sentence = refused(with_header(tmp_path / "x.safetensors", told, b"\0\0\0\0"))
    assert words in sentence or "nested without end" in sentence


def test_tensors_may_not_overlap_and_nothing_may_follow_them(tmp_path: Path) -> None:
    one = {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}
    refused(with_header(tmp_path / "x.safetensors", {"a": one, "b": one}, b"\0" * 4), "overlap")
    refused(with_header(tmp_path / "x.safetensors", {"a": one}, b"\0" * 5000), "goes on for 5 kB")


def test_what_is_no_file_of_weights_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"")
    refused(path, "is empty")
    path.write_text("<!doctype html><title>Sign in</title>" * 9)
    refused(path, "web page")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    refused(path, "never fetched")
    path.write_bytes(b"nothing")
    refused(path, "not a safetensors file")
    (tmp_path / "folder.safetensors").mkdir()
    refused(tmp_path / "folder.safetensors", "is a folder or a device")
    refused(tmp_path / "gone.safetensors", "cannot be read")
    (tmp_path / "loop.safetensors").symlink_to(tmp_path / "loop.safetensors")
    refused(tmp_path / "loop.safetensors", "cannot be read")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.safetensors")
    refused(tmp_path / "x.safetensors", "is a folder or a device")


@pytest.mark.parametrize("claim", [10 * 10**9, 2**63, 2**64 - 1])
def test_a_header_of_ten_gigabytes_is_not_read(tmp_path: Path, claim: int) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as stream:
        stream.write(claim.to_bytes(8, "little") + b"{")
        stream.truncate(12 * 10**9)  # a hole: the length is no lie
    before = memory()
    refused(path, "claims a header of")
    assert memory() - before < 50


def test_names_of_files_are_made_printable_and_short(tmp_path: Path) -> None:
    path = tmp_path / ("a\nb\u202e" + "💡é" * 35 + ".safetensors")
    path.write_bytes(b"nothing")
    sentence = refused(path, "a?b?", "…")
    assert len(sentence) < 140


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 900), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4
    ),
    cut=st.integers(0, 400),
    sort=st.sampled_from(["safetensors", "gguf", "ckpt", "pt"]),
)
def test_mutated_files_are_read_or_refused(
    tmp_path: Path, changes: list[tuple[int, bytes]], cut: int, sort: str
) -> None:
    path = tmp_path / f"x.{sort}"
    data = bytearray(_GOOD[sort])
    for place, value in changes:
        place %= len(data)
        data[place : place + len(value)] = value
    path.write_bytes(bytes(data[: len(data) - cut % len(data)]))
    try:
        header = read_header(path)
    except UnreadableFile as problem:
        assert len(str(problem)) < 600
    else:
        assert sum(info.bytes for info in header.tensors.values()) < 10**7 or header.format == "pickle"


# ------------------------------------------------------------------------------------------- pickles


def test_pickles_are_read_in_both_of_torchs_formats(tmp_path: Path) -> None:
    import torch

    state = OrderedDict(a=torch.zeros(2, 3, dtype=torch.float16), b=torch.nn.Parameter(torch.zeros(4)))
    state["view"] = torch.zeros(6, 6)[:2, 1:]
    state["f8"] = torch.zeros(3, dtype=torch.float8_e4m3fn)
    for new in (True, False):
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / "x.ckpt", _use_new_zipfile_serialization=new)
        header = read_header(tmp_path / "x.ckpt")
        assert header.shapes == {name: tuple(value.shape) for name, value in state.items()}
        assert [info.dtype for info in header.tensors.values()] == ["F16", "F32", "F32", "F8_E4M3"]
        assert header.format == "pickle" and header.tensors["a"].bytes == 12


def test_what_is_in_a_file_counts_and_not_its_ending(tmp_path: Path) -> None:
    import torch

    torch.save({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
    assert read_header(tmp_path / "x.safetensors").format == "pickle"
    weights.save(tmp_path / "x.ckpt", SHAPES)
    assert read_header(tmp_path / "x.ckpt").format == "safetensors"


class Payload:
    def __init__(self, *call: Any):
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("new", [True, False])
def test_a_pickle_that_would_run_something_is_refused_by_name(tmp_path: Path, new: bool) -> None:
    import torch

    mark = tmp_path / "mark"
    told = {"a": torch.zeros(2), "b": Payload(os.mkdir, str(mark)), "c": Payload(eval, "1")}
    torch.save(told, tmp_path / "x.ckpt", _use_new_zipfile_serialization=new)
    sentence = refused(tmp_path / "x.ckpt", "would run", "builtins.eval", ".mkdir", "safetensors")
    assert not mark.exists() and "2 more" not in sentence
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Payload(os.mkdir, str(mark))))
    refused(tmp_path / "bare.pt", ".mkdir")
    assert not mark.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02r\xff\xff\xff\x7f.",  # the memo's place two billion, which C's unpickler makes room for
        b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"a.",  # a text of a terabyte
        b"\x80\x02]" + b"q\x00h\x00h\x00\x86" * 100_000 + b".",  # tuples within tuples
        b"\x80\x02c" + b"a" * 10_000 + b"\nb\n.",  # an endless name
        b"(" * 100_000 + b".",
        b"\x80\x02" + b"I" + b"9" * 90_000 + b"\n.",
        b"\x80\x02\x82\x01.",  # an extension's code
        b"\x80\x05\x97.",  # a buffer that was never handed over
        b"",
        b".",
        b"\x80\x02}.",
    ],
)
def test_pickles_that_would_take_for_ever_are_refused_at_once(tmp_path: Path, program: bytes) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(program or b"\0")
    held, began = memory(), time.process_time()
    refused(path)
    assert time.process_time() - began < 5 and memory() - held < 100


def test_copies_upon_copies_are_counted(tmp_path: Path) -> None:
    """OrderedDict(list) copies the list: a list of 5,000, copied 100,000 times, would take minutes."""
    listed = b"(" + b"K\x01K\x02\x86" * 5000 + b"l"
    again = b"ccollections\nOrderedDict\nh\x00\x85R0"
    (tmp_path / "x.pt").write_bytes(b"\x80\x02" + listed + b"q\x00" + again * 100_000 + b".")
    began = time.process_time()
    refused(tmp_path / "x.pt", "goes on without end")
    assert time.process_time() - began < 10


def test_zip_bombs_are_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb, bomb.open("x/data.pkl", "w") as stream:
        for _ in range(100):
            stream.write(bytes(1 << 20))
    before = memory()
    refused(path, "unpacks to more")
    assert memory() - before < 70  # of 100 unpacked
    with zipfile.ZipFile(path, "w") as other:
        other.writestr("a.txt", "no model")
    refused(path, "a zip file without weights")
    path.write_bytes(path.read_bytes()[:40])
    refused(path, "cut off")


# ---------------------------------------------------------------------------------------------- GGUF


def gguf(tensors: dict[str, tuple[tuple[int, ...], int]], metadata: dict[str, Any] | None = None) -> bytes:
    """A GGUF file; tensors: name -> (shape, ggml's number of the format)."""
    sizes = {0: (1, 4), 1: (1, 2), 8: (32, 34), 12: (256, 144)}

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata or {}))
    for name, value in (metadata or {}).items():
        head += text(name)
        if isinstance(value, str):
            head += struct.pack("<I", 8) + text(value)
        elif isinstance(value, int):
            head += struct.pack("<II", 4, value)
        elif value and isinstance(value[0], str):
            head += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        else:
            head += struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)
    offset = 0
    for name, (shape, kind) in tensors.items():
        head += text(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *reversed(shape)) + struct.pack("<IQ", kind, offset)
        count = 1
        for side in shape:
            count *= side
        offset += count // sizes[kind][0] * sizes[kind][1]
    return head + bytes(-len(head) % 32) + bytes(offset)


def test_gguf_files_are_read_in_torchs_order_of_sides(tmp_path: Path) -> None:
    told = {
        "general.architecture": "flux",
        "words": ["a", "b"] * 50,
        "general.alignment": 32,
        "more": [1] * 20,
    }
    told["comfy.gguf.orig_shape.c"] = [4, 2, 8, 4]
    data = gguf({"a.weight": ((3, 512), 12), "b": ((5,), 0), "c": ((1, 256), 1)}, told)
    (tmp_path / "x.gguf").write_bytes(data)
    header = read_header(tmp_path / "x.gguf")
    assert header.tensors == {
        "a.weight": TensorInfo("Q4_K", (3, 512), 864),
        "b": TensorInfo("F32", (5,), 20),
        "c": TensorInfo("F16", (4, 2, 8, 4), 512),
    }
    assert header.metadata["general.architecture"] == "flux" and header.format == "gguf"


def test_gguf_files_that_lie_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    good = gguf({"a": ((4, 256), 12)}, {"k": "v"})
    for bad, word in (
        (good[:-100], "cut off"),
        (good[:30], "cannot be read"),
        (good[:4] + struct.pack("<I", 77) + good[8:], "version"),
        (good[:8] + struct.pack("<Q", 2**60) + good[16:], "entries"),
        (good[:24] + struct.pack("<Q", 2**50) + good[32:], "longer than"),
        (gguf({"a": ((3, 100), 1)}).replace(struct.pack("<IQ", 1, 0), struct.pack("<IQ", 99, 0)), "format"),
        (b"GGUF", "cannot be read"),
    ):
        path.write_bytes(bad)
        refused(path, word)


def test_amounts_read_as_people_say_them() -> None:
    assert [amount(size) for size in (0, 999, 4100, 22_926_078, 6_938_040_682)] == [
        *("0 bytes", "999 bytes", "4 kB", "23 MB", "6.9 GB"),
    ]


def _pickled(new: bool) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"state_dict": {"a": torch.zeros(2, 3)}}, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


_TEXT, _SIZE = weights.table(SHAPES, "F16", {"a": "b"})
_GOOD = {
    "safetensors": len(_TEXT).to_bytes(8, "little") + _TEXT + bytes(_SIZE),
    "gguf": gguf({"a": ((4, 256), 12), "b": ((5,), 0)}, {"general.architecture": "flux", "c": [1, 2]}),
    "ckpt": _pickled(True),
    "pt": _pickled(False),
}
