"""The joint reader: a small network that finds the eighteen joints of the person in a picture.

It is what says whether a drawn figure took the pose it was asked for, so it is trained on drawn scenes only.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .canvas import SIZE
from .data import posed_pictures
from .learning import Course, Team, optimisers
from .reader import spoil
from .vae import to_tensor

WEIGHTS = Path(__file__).resolve().parents[2] / "assets" / "starter_joints.safetensors"
_SIDE = 128  # pictures are read at this size
_GRID = 32  # and joints looked for on a grid of this


def _block(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1), nn.GroupNorm(8, outside), nn.SiLU())


class JointReader(nn.Module):
    """Pictures (n, 3, 128, 128) in -1..1 to logits over the places of 18 joints, (n, 18, 32, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(_block(3, 24, 2), _block(24, 48, 2), _block(48, 48))  # 32
        self.middle = nn.Sequential(_block(48, 96, 2), _block(96, 96))  # 16
        self.coarse = nn.Sequential(_block(96, 128, 2), _block(128, 128), _block(128, 96))  # 8
        self.join_middle = _block(192, 96)
        self.join_fine = nn.Sequential(_block(144, 96), _block(96, 64))
        self.answer = nn.Conv2d(64, 18, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        up = nn.functional.interpolate
        middle = self.join_middle(torch.cat([middle, up(coarse, scale_factor=2)], 1))
        logits: Tensor = self.answer(self.join_fine(torch.cat([fine, up(middle, scale_factor=2)], 1)))
        return logits


def places(logits: Tensor) -> Tensor:
    """The expected place of each joint, (n, 18, 2) of x, y in pixels of a 256-pixel picture (Nibali et al.,
    Numerical Coordinate Regression with Convolutional Neural Networks, 2018)."""
    chances = logits.float().flatten(2).softmax(-1).view_as(logits)
    cells = (torch.arange(_GRID, device=logits.device) + 0.5) * (SIZE / _GRID)
    return torch.stack([(chances.sum(2) * cells).sum(-1), (chances.sum(3) * cells).sum(-1)], -1)


def train_joints(team: Team, work: Path, minutes: float, steps: int = 1 << 40, batch: int = 32) -> None:
    """Trains the joint reader on spoiled posed pictures; the course is called `joints`."""
    shards, joints = posed_pictures(work)
    small = np.concatenate(
        [
            np.stack([cv2.resize(p, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for p in shard])
            for shard in shards
        ]
    )
    truth = torch.from_numpy(np.concatenate(joints)).float()
    reader = JointReader().to(team.device)
    optims = optimisers(
        reader.named_parameters(), 2e-3, lambda name, w: w.shape[1] > 3 and "answer" not in name
    )
    course = Course("joints", work, team, reader, optims, minutes, steps, longest=0.98)
    rng = np.random.default_rng([course.step, team.rank])
    cells = (torch.arange(_GRID, device=team.device) + 0.5) * (SIZE / _GRID)
    while not course.over:
        rate = course.set_rate(2e-3, hold=0.3)
        chosen = rng.integers(0, len(small), batch)
        x = to_tensor(np.stack([spoil(small[i], rng) for i in chosen]), team.device)
        wanted = truth[torch.from_numpy(chosen)].to(team.device)
        with team.autocast():
            logits = reader(x)
        # A bell of 6 pixels around each joint says where to look, the expected place says how exactly.
        across = torch.exp(-((cells - wanted[..., :1]) ** 2) / 72)
        down = torch.exp(-((cells - wanted[..., 1:]) ** 2) / 72)
        bell = (down.unsqueeze(-1) * across.unsqueeze(-2)).flatten(2)
        bell = bell / bell.sum(-1, keepdim=True).clamp(min=1e-6)
        told = -(bell * logits.float().flatten(2).log_softmax(-1)).sum(-1).mean()
        off = (places(logits) - wanted).abs().mean()
        course.descend(told + 0.2 * off)
        if team.leads and course.step % 100 == 0:
            print(
                f"joints step {course.step} {course.share:.0%} off {off.item():.2f} px  rate {rate:.1e}",
                flush=True,
            )


def finish_joints(work: Path, path: Path = WEIGHTS) -> None:
    """Writes the averaged weights in half precision to `path`."""
    saved = torch.load(work / "checkpoints" / "joints-0.pt", map_location="cpu", weights_only=True)
    save_file({name: value.half().contiguous() for name, value in saved["average"].items()}, path)
    path.chmod(0o644)  # safetensors writes for the owner alone


@lru_cache(maxsize=2)
def load_joint_reader(path: Path = WEIGHTS) -> JointReader:
    """The trained reader. Raises FileNotFoundError where its weights are missing."""
    if not path.exists():
        raise FileNotFoundError(f"the joint reader's weights are missing: {path}")
    reader = JointReader()
    reader.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return reader.eval()


@torch.no_grad()
def read_joints(images: list[Image.Image | np.ndarray], path: Path = WEIGHTS) -> np.ndarray:
    """Where the joints of the one person in each picture are: float (n, 18, 2) of x, y on a 256-pixel side.

    images: RGB, any size, uint8 where arrays. A picture without a person gives places of no meaning.
    """
    arrays = [np.asarray(i.convert("RGB") if isinstance(i, Image.Image) else i) for i in images]
    small = [cv2.resize(array, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for array in arrays]
    found: np.ndarray = places(load_joint_reader(path)(to_tensor(np.stack(small)))).numpy()
    return found
