"""The storybook's ControlNets, by edge and by pose: their maps of drawn scenes, and how they are trained.

A ControlNet starts as a copy of the denoiser's first half; the denoiser itself stays as it is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from pipelines.controlnet.poses import draw_poses

from .canvas import SIZE
from .data import picture_path, posed_scenes, shard_scenes
from .denoiser import NOISE, velocity_lesson
from .learning import Course, Team, optimisers
from .scenes import Scene
from .text import tokens
from .words import describe

KINDS = ("edge", "pose")
FOLDERS = {kind: f"storybook-{kind}" for kind in KINDS}
CARDS = {
    "edge": {"title": "Storybook edge", "suits": ["canny"]},
    "pose": {"title": "Storybook pose", "suits": ["pose"]},
}
"""What each folder's card.json tells the program: a name for people and the maps that it follows."""

EMBEDDING = (8, 16, 32, 64)  # channels of the layers that look at the map

_PEAK = 1.5e-3
_UNPROMPTED = 0.25  # the map alone must do, too
_NEAR = {"edge": 0.0, "pose": 4.0}  # how much more an error counts near the map's lines: arms are few pixels


def edge_map(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Canny's edges of `pixels`, uint8 (256, 256, 3), at thresholds that a person might choose."""
    low = rng.uniform(40, 140)
    edges = cv2.Canny(pixels, low, low * rng.uniform(1.6, 2.4))
    return np.repeat(edges[..., None], 3, axis=2)


def pose_map(joints: np.ndarray) -> np.ndarray:
    """The skeleton of `joints`, float (18, 2) in pixels, as controlnet-aux draws it; uint8 (256, 256, 3)."""
    return draw_poses([[(x / SIZE, y / SIZE) for x, y in joints]], SIZE, SIZE)


class ControlLessons:
    """Latents with a caption and a control map, drawn anew each time they are shown."""

    def __init__(self, kind: str, work: Path, tokenizer: CLIPTokenizer, seed: list[int]) -> None:
        """Raises FileNotFoundError where nothing has been encoded for `kind`, "edge" or "pose"."""
        self.tokenizer, self.rng = tokenizer, np.random.default_rng(seed)
        self.scenes: list[Scene] = []
        latents: list[Tensor] = []
        sources: list[np.ndarray] = []
        for path in sorted((_place(kind, work) / "latents").glob("*.npy")):
            latents.append(torch.from_numpy(np.load(path)))
            count = len(latents[-1])
            number = int(path.stem)
            think: Callable[[int, int], list[Scene]] = shard_scenes if kind == "edge" else posed_scenes
            self.scenes += think(number, count)
            if kind == "edge":
                sources.append(np.load(picture_path(work, number), mmap_mode="r"))
            else:
                sources.append(np.load(work / "posed" / "joints" / path.name))
        if not latents:
            stage = "encode" if kind == "edge" else "posed"
            raise FileNotFoundError(f"no latents under {_place(kind, work)}: run the stage {stage!r} first")
        self.latents = torch.cat(latents)
        self.kind, self.sources = kind, sources
        self.starts = np.cumsum([0] + [len(part) for part in latents])

    def map_of(self, number: int) -> np.ndarray:
        """The control map of lesson `number`, uint8 (256, 256, 3)."""
        shard = int(np.searchsorted(self.starts, number, side="right")) - 1
        source = self.sources[shard][number - self.starts[shard]]
        return edge_map(np.asarray(source), self.rng) if self.kind == "edge" else pose_map(source)

    def __call__(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents float (count, 4, h, w), token ids int64 (count, 77), maps float (count, 3, H, W) in 0-1."""
        rng = self.rng
        chosen = rng.integers(0, len(self.latents), count)
        texts = ["" if rng.random() < _UNPROMPTED else describe(self.scenes[i], rng).text for i in chosen]
        maps = torch.from_numpy(np.stack([self.map_of(int(i)) for i in chosen]))
        latents = self.latents[torch.from_numpy(chosen)].float()
        return latents, tokens(self.tokenizer, texts), maps.permute(0, 3, 1, 2).float() / 255


def _place(kind: str, work: Path) -> Path:
    return work if kind == "edge" else work / "posed"


class Controlled(nn.Module):
    """ControlNet, frozen UNet and frozen text encoder as one network."""

    def __init__(self, control: ControlNetModel, unet: UNet2DConditionModel, text: CLIPTextModel) -> None:
        super().__init__()
        self.control, self.unet, self.text = control, unet.requires_grad_(False), text.requires_grad_(False)

    def forward(self, noisy: Tensor, times: Tensor, ids: Tensor, maps: Tensor) -> Tensor:
        """As the denoiser, led by `maps` (n, 3, 8h, 8w) in 0-1."""
        words = self.text(ids).last_hidden_state
        down, middle = self.control(noisy, times, words, maps, return_dict=False)
        return self.unet(
            noisy,
            times,
            words,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]


def beside_lines(maps: Tensor) -> Tensor:
    """Which latents lie on or next to a line of `maps` (n, 3, 8h, 8w): 1 or 0, float (n, 1, h, w)."""
    lines = nn.functional.max_pool2d(maps.amax(1, keepdim=True), 8)
    return (nn.functional.max_pool2d(lines, 3, stride=1, padding=1) > 0.1).float()


def _is_matrix(name: str, weight: nn.Parameter) -> bool:
    # The layers that start at zero grow by AdamW: Muon would set them to full strength in its first step.
    grown = ("embedding", "conv_in", "controlnet_down_blocks", "controlnet_mid_block")
    return not any(part in name for part in grown)


def train_control(
    team: Team, work: Path, model: Path, kind: str, minutes: float, steps: int, batch: int, compiled: bool
) -> None:
    """Trains the ControlNet `kind` ("edge" or "pose") for the pipeline in `model`; the course is called
    `control-KIND`.

    Zhang et al., Adding Conditional Control to Text-to-Image Diffusion Models, 2023. Timesteps are drawn
    more often the noisier they are: that is where a map decides what goes where.
    """
    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
    text = CLIPTextModel.from_pretrained(model / "text_encoder", dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32)
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=EMBEDDING)
    network = Controlled(control, unet, text)
    for part in (network.unet, network.control):
        part.set_attn_processor(AttnProcessor())  # on a CPU its backward pass outruns SDPA's
    network.to(team.device, memory_format=torch.channels_last)
    network.train()
    optims = optimisers(network.control.named_parameters(), _PEAK, _is_matrix)
    course = Course(f"control-{kind}", work, team, network.control, optims, minutes, steps, longest=0.99)
    lessons = ControlLessons(kind, work, tokenizer, seed=[course.step, team.rank])
    call = torch.compile(network, dynamic=False) if compiled else network
    kept = DDIMScheduler(**NOISE).alphas_cumprod.to(team.device)
    running = None
    while not course.over:
        rate = course.set_rate(_PEAK, hold=0.35)
        latents, ids, maps = (part.to(team.device) for part in lessons(batch))
        times = (torch.rand(batch, device=team.device).sqrt() * len(kept)).long().clamp(max=len(kept) - 1)
        noisy, velocity = velocity_lesson(latents, times, kept)
        with team.autocast():
            guess = call(noisy.contiguous(memory_format=torch.channels_last), times, ids, maps)
        error = (guess.float() - velocity).pow(2).mean(1, keepdim=True)
        course.descend((error * (1 + _NEAR[kind] * beside_lines(maps))).mean())
        plain = error.mean().item()
        running = plain if running is None else 0.98 * running + 0.02 * plain
        if team.leads and course.step % 25 == 0:
            print(
                f"control {kind} step {course.step} {course.clock / 60:.1f} of {minutes:g} min  "
                f"velocity error {running:.4f}  rate {rate:.1e}  {course.step * batch * team.size} pictures",
                flush=True,
            )


def finish_control(work: Path, model: Path, kind: str, folder: Path) -> None:
    """Writes the averaged weights of `kind` in half precision to `folder`, as diffusers reads them, with a
    card for the program. A folder that is there already is replaced whole."""
    unet = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32)
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=EMBEDDING)
    saved = torch.load(work / "checkpoints" / f"control-{kind}-0.pt", map_location="cpu", weights_only=True)
    control.load_state_dict(saved["average"])
    beside = folder.with_name(folder.name + ".partial")
    control.to(torch.float16).save_pretrained(beside, safe_serialization=True)
    config = beside / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings.pop("_name_or_path", None)  # a path of the machine that trained is nobody's business
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (beside / "card.json").write_text(json.dumps(CARDS[kind]) + "\n", encoding="utf-8")
    for path in beside.iterdir():
        path.chmod(0o644)  # safetensors writes for the owner alone
    if folder.exists():
        shutil.rmtree(folder)
    beside.rename(folder)
