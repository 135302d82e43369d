"""The text half of the model: a small CLIP text encoder, taught the scenes' vocabulary before any picture.

Minutes of guessing scenes from captions spare the denoiser an hour of learning what words mean.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .learning import learning_rate
from .scenes import imagine
from .tokenizer import LENGTH
from .words import ATTRIBUTES, attributes, describe

WIDTH = 160


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained encoder of token ids (n, 77) to (n, 77, 160)."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Ids of `texts`, int64 (n, 77), padded and cut as the pipeline does."""
    return tokenizer(
        texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
    ).input_ids


class _Quiz(nn.Module):
    """One learned question for each attribute, asked of the encoder's output by attention."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.questions = nn.Parameter(torch.randn(len(ATTRIBUTES), WIDTH) * 0.3)
        self.keys, self.values = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.answers = nn.ModuleList(nn.Linear(WIDTH, len(options)) for options in ATTRIBUTES.values())

    def forward(self, ids: Tensor) -> list[Tensor]:
        """Ids (n, 77) to one (n, options) of logits for each attribute."""
        hidden = self.encoder(ids).last_hidden_state
        weights = (self.questions @ self.keys(hidden).transpose(1, 2) / WIDTH**0.5).softmax(-1)
        found = weights @ self.values(hidden)
        return [answer(found[:, i]) for i, answer in enumerate(self.answers)]


def train_text(work: Path, device: str, minutes: float, steps: int = 1 << 40, batch: int = 48) -> None:
    """Teaches a text encoder to tell a scene's attributes by its caption; writes `work`/text_encoder."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    quiz = _Quiz(new_text_encoder(tokenizer)).to(device)
    optimiser = torch.optim.AdamW(quiz.parameters(), 1.2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    rng = np.random.default_rng(3)
    pool = [scene for scene in (imagine(rng) for _ in range(12000)) if not scene.held_out]
    start, step, right = time.monotonic(), 0, torch.zeros(len(ATTRIBUTES))
    while (share := max((time.monotonic() - start) / (minutes * 60), step / steps)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(1.2e-3, step, share, warmup=50, hold=0.2)
        scenes = [pool[i] for i in rng.integers(0, len(pool), batch)]
        truth = [attributes(scene) for scene in scenes]
        ids = tokens(tokenizer, [describe(scene, rng).text for scene in scenes]).to(device)
        used = int((ids == tokenizer.eos_token_id).int().argmax(1).max()) + 1
        ids = ids[:, :used]  # attention looks back only: padding changes nothing before it
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            answers = quiz(ids)
        loss, hits = torch.zeros((), device=device), []
        for (name, options), logits in zip(ATTRIBUTES.items(), answers, strict=True):
            wanted = torch.tensor([options.index(values[name]) for values in truth], device=device)
            loss = loss + F.cross_entropy(logits.float(), wanted) / len(ATTRIBUTES)
            hits.append((logits.argmax(1) == wanted).float().mean().cpu())
        right = 0.95 * right + 0.05 * torch.stack(hits)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(quiz.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 200 == 0:
            marks = " ".join(f"{name} {value:.2f}" for name, value in zip(ATTRIBUTES, right, strict=True))
            print(f"text step {step} {share:.0%} loss {loss.item():.3f}  {marks}", flush=True)
    partial = work / "text_encoder.partial"
    quiz.encoder.save_pretrained(partial)
    if (work / "text_encoder").exists():
        shutil.rmtree(work / "text_encoder")
    partial.rename(work / "text_encoder")
