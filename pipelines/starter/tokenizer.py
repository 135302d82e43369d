"""The tokenizer: CLIP's byte-pair encoding with a vocabulary learned from the captions.

Every byte is in it, so unknown words fall apart into letters; no prompt is ever refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from .scenes import imagine
from .words import describe

LENGTH = 77
_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"
_SPLIT = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""  # CLIP's own

# Words that people will try, so that they cost one token and not one a letter.
_COMMON = """
photo image cartoon style art cute small big large tall happy sad old young nice landscape portrait view scene
masterpiece best quality high low worst blurry ugly bad deformed text watermark detailed resolution light dark
bright colorful sunrise dawn morning summer spring autumn fall rain storm city street road river lake fire
moonlight castle cabin dog bird horse ship jumping dancing eyes face hands window door roof hat jumper sweater
top coat people children kids brown gold silver very no not without one three many few his her their he she it
this that
""".split()


def _byte_letters() -> list[str]:
    """GPT-2's printable stand-in for each of the 256 bytes, in CLIP's order."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in own]
    return [chr(byte) for byte in own] + [chr(256 + number) for number in range(len(rest))]


def _learn_merges(texts: Iterable[str]) -> list[tuple[str, str]]:
    learner = Tokenizer(models.BPE(end_of_word_suffix=_WORD_END))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix=_WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    return [(left, right) for left, right in pairs]


def train_tokenizer(folder: Path, captions: int = 20000) -> CLIPTokenizer:
    """Learns the vocabulary from `captions` drawn captions, writes it to `folder` and loads it from there."""
    rng = np.random.default_rng(5)
    texts = [describe(imagine(rng), rng).text for _ in range(captions)]
    merges = _learn_merges(texts + _COMMON * 20)
    letters = _byte_letters()
    entries = dict.fromkeys([*letters, *(letter + _WORD_END for letter in letters)])
    entries |= dict.fromkeys(first + second for first, second in merges)
    vocabulary = {entry: number for number, entry in enumerate([*entries, _START, _END])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "bos_token": _START,
        "eos_token": _END,
        "unk_token": _END,
        "pad_token": _END,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer
