"""Hashes by which the field names models, VAEs and LoRAs, read off the files once and then remembered."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from pathlib import Path

from pipelines.library.records import FileRecords

_BLOCK = 1 << 20


def file_hash(path: Path, records: FileRecords | None = None, digits: int = 10) -> str:
    """First hex digits of a file's SHA-256: 10 are a model's or VAE's hash, 12 an embedding's. Reads the
    whole file the first time."""
    return _remembered(path, "sha256", records)[:digits]


def lora_hash(path: Path, records: FileRecords | None = None) -> str:
    """First 12 hex digits of the SHA-256 over what follows a safetensors file's header; of another file, over
    all of it. What a LoRA's metadata says (sshs_model_hash) goes before it, see identify."""
    return _remembered(path, "sha256 of tensors", records)[:12]


def known(path: Path, what: str, records: FileRecords | None) -> str:
    """A file's "sha256" or "sha256 of tensors" where it was read before, else "": reads nothing."""
    try:
        told = path.stat()
    except OSError:
        return ""
    return str((records and records.get(path, told.st_size, told.st_mtime_ns, what)) or "")


def joint_hash(paths: Iterable[Path], records: FileRecords | None = None) -> str:
    """First 10 hex digits of the SHA-256 over several files, one after the other (a folder's shards)."""
    files = list(paths)
    if records is None or not files:
        return _joint(files)[:10]
    told = [file.stat() for file in files]
    state = (sum(one.st_size for one in told), max(one.st_mtime_ns for one in told))
    known = records.get(files[0].parent, *state, "sha256")
    if known is None:
        known = _joint(files)
        records.put(files[0].parent, *state, "sha256", known)
        records.save()
    return str(known)[:10]


def _joint(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        _feed(digest, file, 0)
    return digest.hexdigest()


def _remembered(path: Path, what: str, records: FileRecords | None) -> str:
    told = path.stat()
    known = records.get(path, told.st_size, told.st_mtime_ns, what) if records else None
    if known is None:
        digest = hashlib.sha256()
        _feed(digest, path, _header_end(path) if what == "sha256 of tensors" else 0)
        known = digest.hexdigest()
        if records is not None:
            records.put(path, told.st_size, told.st_mtime_ns, what, known)
            records.save()
    return str(known)


def _header_end(path: Path) -> int:
    if path.suffix.lower() not in (".safetensors", ".sft"):
        return 0
    with path.open("rb") as stream:
        start = stream.read(8)
    return 8 + int(struct.unpack("<Q", start)[0]) if len(start) == 8 else 0


def _feed(digest: hashlib._Hash, path: Path, begin: int) -> None:
    with path.open("rb") as stream:
        stream.seek(begin)
        while block := stream.read(_BLOCK):
            digest.update(block)
