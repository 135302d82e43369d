"""The attribute reader: a small network that tells a picture's time, ground, things, colours and pose.

It is what the tests of meaning trust, so it is trained on drawn scenes only, never on generated ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .data import pictures, shard_scenes
from .learning import Course, Team, optimisers
from .vae import to_tensor
from .words import ATTRIBUTES, attributes

WEIGHTS = Path(__file__).resolve().parents[2] / "assets" / "starter_reader.safetensors"
_SIDE = 128  # pictures are read at this size


class Reader(nn.Module):
    """Pictures (n, 3, 128, 128) in -1..1 to a dict of logits (n, options), one entry for each attribute."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inside, outside, stride in (
            (3, 24, 2),
            (24, 48, 2),
            (48, 96, 2),
            (96, 96, 1),
            (96, 128, 2),
            (128, 128, 1),
        ):
            layers += [nn.Conv2d(inside, outside, 3, stride, 1), nn.GroupNorm(8, outside), nn.SiLU()]
        self.see = nn.Sequential(*layers)
        self.gather = nn.Conv2d(128, 16, 1)
        self.think = nn.Sequential(nn.Linear(16 * 64 + 256, 256), nn.SiLU())
        self.answers = nn.ModuleDict(
            {name.replace(" ", "_"): nn.Linear(256, len(options)) for name, options in ATTRIBUTES.items()}
        )

    def thoughts(self, x: Tensor) -> Tensor:
        """What the answers are told from: (n, 256), for pictures as forward takes them."""
        seen = self.see(x)  # (n, 128, 8, 8)
        where = self.gather(seen).flatten(1)
        thought: Tensor = self.think(torch.cat([where, seen.mean((2, 3)), seen.amax((2, 3))], 1))
        return thought

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        thought = self.thoughts(x)
        return {name: self.answers[name.replace(" ", "_")](thought) for name in ATTRIBUTES}


def spoil(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`pixels` (h, w, 3) uint8 as a generator might make it: blurred, shifted in tone, a little noisy."""
    out: np.ndarray = pixels.astype(np.float32)
    if rng.random() < 0.6:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.4, 1.8))
    if rng.random() < 0.3:
        small = cv2.resize(out, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        out = cv2.resize(small, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    out = out * rng.uniform(0.95, 1.05, 3) + rng.uniform(-6, 6)
    if rng.random() < 0.5:
        rough = rng.normal(0, rng.uniform(2, 10), (16, 16, 3)).astype(np.float32)
        out += cv2.resize(rough, pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(out, 0, 255).astype(np.uint8)


def train_reader(team: Team, work: Path, minutes: float, steps: int = 1 << 40, batch: int = 48) -> None:
    """Trains the reader on spoiled drawn pictures; the course is called `reader`."""
    shards = pictures(work)
    small = np.concatenate(
        [
            np.stack([cv2.resize(p, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for p in shard])
            for shard in shards
        ]
    )
    numbers = sorted(int(path.stem) for path in (work / "pictures").glob("*.npy"))
    truth = [attributes(scene) for number in numbers for scene in shard_scenes(number, len(shards[0]))]
    targets = {
        name: torch.tensor([options.index(values[name]) for values in truth])
        for name, options in ATTRIBUTES.items()
    }
    reader = Reader().to(team.device)
    optims = optimisers(
        reader.named_parameters(), 2e-3, lambda name, w: w.shape[1] > 3 and "answers" not in name
    )
    course = Course("reader", work, team, reader, optims, minutes, steps, longest=0.98)
    rng = np.random.default_rng([course.step, team.rank])
    while not course.over:
        rate = course.set_rate(2e-3, hold=0.3)
        chosen = rng.integers(0, len(small), batch)
        x = to_tensor(np.stack([spoil(small[i], rng) for i in chosen]), team.device)
        with team.autocast():
            answers = reader(x)
        picked = torch.from_numpy(chosen)
        losses = [F.cross_entropy(answers[n].float(), targets[n][picked].to(team.device)) for n in ATTRIBUTES]
        course.descend(sum(losses) / len(losses))
        if team.leads and course.step % 200 == 0:
            print(f"reader step {course.step} {course.share:.0%} loss {sum(losses).item() / len(losses):.4f} "
                  f"rate {rate:.1e}", flush=True)  # fmt: skip


def finish_reader(work: Path, path: Path = WEIGHTS) -> None:
    """Writes the averaged weights in half precision to `path`."""
    saved = torch.load(work / "checkpoints" / "reader-0.pt", map_location="cpu", weights_only=True)
    save_file({name: value.half().contiguous() for name, value in saved["average"].items()}, path)


@lru_cache(maxsize=2)
def load_reader(path: Path = WEIGHTS) -> Reader:
    """The trained reader. Raises FileNotFoundError where its weights are missing."""
    if not path.exists():
        raise FileNotFoundError(f"the attribute reader's weights are missing: {path}")
    reader = Reader()
    reader.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return reader.eval()


def as_read(images: Sequence[Image.Image | np.ndarray]) -> Tensor:
    """Pictures (RGB, any size, uint8 where arrays) as the reader takes them: float (n, 3, 128, 128)."""
    arrays = [
        np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image) for image in images
    ]
    small = []
    for array in arrays:
        way = cv2.INTER_AREA if array.shape[0] >= _SIDE else cv2.INTER_CUBIC
        small.append(cv2.resize(array, (_SIDE, _SIDE), interpolation=way))
    return to_tensor(np.stack(small))


@torch.no_grad()
def read_many(images: list[Image.Image | np.ndarray], path: Path = WEIGHTS) -> list[dict[str, str]]:
    """The attributes seen in each picture (RGB, any size, uint8 where arrays), named as in ATTRIBUTES."""
    answers = load_reader(path)(as_read(images))
    picks = {name: logits.argmax(1).tolist() for name, logits in answers.items()}
    return [{name: ATTRIBUTES[name][picks[name][i]] for name in ATTRIBUTES} for i in range(len(images))]


def read_attributes(image: Image.Image | np.ndarray) -> dict[str, str]:
    """The attributes seen in one picture: `{"time": "night", "house": "red", "boat": "none", ...}`.

    Names and values are those of `words.ATTRIBUTES`; a thing's value is its colour (a tree's its kind).
    """
    return read_many([image])[0]
