"""The tokenizers of CLIP and T5 from assets, for single files, which bring none."""

from __future__ import annotations

import base64
import json
import lzma
from pathlib import Path
from typing import Any

CLIP_MERGES = 48_894
"""49,408 tokens less 256 bytes, the same at the end of a word, start and end of text."""


def clip(folder: Path, pad_token: str) -> Any:
    """CLIP's tokenizer (Radford et al., 2021). pad_token: "<|endoftext|>", or "!" for the encoders of
    open_clip, whose padding is token 0."""
    from transformers import AddedToken, CLIPTokenizer

    text = lzma.decompress((folder / "clip-merges.txt.xz").read_bytes()).decode()
    merges = [tuple(line.split(" ")) for line in text.split("\n")]
    signs = _byte_signs()
    words = [*signs, *(f"{sign}</w>" for sign in signs), *("".join(pair) for pair in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)},
        merges=merges,
        pad_token=AddedToken(pad_token, normalized=False, special=True),
        model_max_length=77,
    )


def t5(folder: Path) -> Any:
    """T5's tokenizer (Raffel et al., 2020), 32,100 pieces."""
    from transformers import T5Tokenizer

    told = json.loads(lzma.decompress((folder / "t5.json.xz").read_bytes()))
    return T5Tokenizer(
        vocab=[(piece, score) for piece, score in told["vocab"]],
        _spm_precompiled_charsmap=base64.b64decode(told["charsmap"]),
        model_max_length=512,
    )


def _byte_signs() -> list[str]:
    """A printable sign for each byte, in the order of GPT-2's vocabulary: printable ones stand for
    themselves, the others follow from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]
