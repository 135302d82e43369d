"""Measures the embedded model's ControlNets: `python -m pipelines.starter.evaluate_control [--json FILE]`.

Maps and captions come from held-out drawn scenes. Each is painted twice from one seed, with and without its
ControlNet. Edges are judged by Canny itself, poses by the joint reader, whose own error on drawn scenes is
said first, and what the captions ask for by the attribute reader.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionPipeline
from PIL import Image

from . import joints as joint_reader
from . import reader
from .control import FOLDERS, KINDS, pose_map
from .data import held_out_scenes, posed_scenes
from .evaluate import GUIDANCE, MODEL, STEPS, generate, grid, load_model, score
from .evaluate import KINDS as ASKED_KINDS
from .scenes import Scene, paint
from .words import Caption, describe

CONTROLS = MODEL.parent / "controlnets"
NEAR = 10.0  # pixels within which a joint is where it was asked for
MOST = 16  # joints of the eighteen that have to be near for a figure to have taken the pose
_TOLERANCE = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))  # two pixels to each side
_ROW = 4  # triples of map, led and unled picture in a row of the sheet


@dataclass(frozen=True)
class Task:
    """A control map with the caption to paint by it, and the drawn truth: joints float (18, 2) for a pose."""

    caption: Caption
    map: Image.Image
    drawn: np.ndarray
    joints: np.ndarray | None = None


def canny(pixels: np.ndarray) -> np.ndarray:
    """The edges that are asked for and looked for: Canny at 100 and 200, uint8 (h, w) of 0 and 255."""
    return cv2.Canny(pixels, 100, 200)


def _wording(scene: Scene, rng: np.random.Generator) -> Caption:
    caption = describe(scene, rng)
    while len(caption.asked) < 2:
        caption = describe(scene, rng)
    return caption


def tasks(kind: str, count: int, seed: int = 17) -> list[Task]:
    """`count` tasks from held-out scenes for the ControlNet `kind`, "edge" or "pose"."""
    rng = np.random.default_rng([25, seed])
    scenes = held_out_scenes(count, seed) if kind == "edge" else posed_scenes(99, count, held_out=True)
    found = []
    for scene in scenes:
        picture = paint(scene)
        joints = picture.joints if kind == "pose" else None
        lines = canny(picture.pixels) if joints is None else pose_map(joints)
        shown = Image.fromarray(lines).convert("RGB")
        found.append(Task(_wording(scene, rng), shown, picture.pixels, joints))
    return found


def edge_scores(images: list[Image.Image], wanted: list[Task]) -> np.ndarray:
    """Precision, recall and F-score of the pictures' edges against their maps, float (n, 3): an edge counts
    when the other has one within two pixels."""
    rows = []
    for image, task in zip(images, wanted, strict=True):
        made, asked = canny(np.asarray(image)) > 0, np.asarray(task.map)[..., 0] > 0
        near_made, near_asked = (cv2.dilate(part.astype(np.uint8), _TOLERANCE) > 0 for part in (made, asked))
        precision = near_asked[made].mean() if made.any() else float(not asked.any())
        recall = near_made[asked].mean() if asked.any() else float(not made.any())
        both = precision + recall
        rows.append((precision, recall, 2 * precision * recall / both if both else 0.0))
    return np.array(rows)


def pose_scores(read: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """How well joints `read` keep to those `wanted`, both float (n, 18, 2) in pixels; shares in percent.

    A figure took the pose when its joints are within 10 pixels on average and 16 of 18 each are. Looser is
    the average alone, stricter that every joint is within 10 pixels.
    """
    apart = np.linalg.norm(read - wanted, axis=-1)
    near = (apart <= NEAR).sum(1)
    middle = apart.mean(1) <= NEAR
    return {
        "took the pose": _percent(middle & (near >= MOST)),
        "mean within 10 px": _percent(middle),
        "all joints within 10 px": _percent(near == 18),
        "joints within 10 px": _percent(apart <= NEAR),
        "mean error px": round(float(apart.mean()), 2),
        "median error px": round(float(np.median(apart)), 2),
    }


def _percent(hits: np.ndarray) -> float:
    return round(100 * float(np.mean(hits)), 1)


def reader_error(count: int = 200, weights: Path = joint_reader.WEIGHTS, seed: int = 98) -> dict[str, float]:
    """The joint reader's own error on `count` held-out drawn scenes, as in pose_scores."""
    read, truth = [], []
    scenes = posed_scenes(seed, count, held_out=True)
    for start in range(0, count, 50):
        drawn = [paint(scene) for scene in scenes[start : start + 50]]
        read.append(joint_reader.read_joints([picture.pixels for picture in drawn], weights))
        truth += [picture.joints for picture in drawn if picture.joints is not None]
    return pose_scores(np.concatenate(read), np.stack(truth))


def with_control(pipe: StableDiffusionPipeline, folder: Path) -> StableDiffusionControlNetPipeline:
    """`pipe` led by the ControlNet in `folder`, sharing its parts. Raises OSError where none is there."""
    control = ControlNetModel.from_pretrained(folder, torch_dtype=pipe.unet.dtype).to(pipe.device)
    led = StableDiffusionControlNetPipeline.from_pipe(pipe, controlnet=control)
    led.set_progress_bar_config(disable=True)
    return led


def judge(
    kind: str, images: list[Image.Image], wanted: list[Task], weights: dict[str, Path]
) -> dict[str, Any]:
    """What the pictures keep of their maps and captions. weights: of "joints" and "attributes"."""
    if kind == "edge":
        means = edge_scores(images, wanted).mean(0)
        result: dict[str, Any] = {
            name: round(float(mean), 3)
            for name, mean in zip(("precision", "recall", "F"), means, strict=True)
        }
    else:
        read = joint_reader.read_joints(list(images), weights["joints"])
        result = dict(
            pose_scores(read, np.stack([task.joints for task in wanted if task.joints is not None]))
        )
    tally = score([task.caption for task in wanted], images, weights["attributes"])
    asked = {name: tally[name] for name in ASKED_KINDS if name in tally}
    found, total = (sum(pair[i] for pair in asked.values()) for i in (0, 1))
    result["prompt followed"] = {
        "overall": round(100 * found / total, 1),
        **{name: round(100 * hit / of, 1) for name, (hit, of) in asked.items()},
    }
    result["prompt asked"] = {"overall": total, **{name: of for name, (_, of) in asked.items()}}
    return result


def measure(
    pipe: StableDiffusionPipeline,
    kind: str,
    folder: Path,
    wanted: list[Task],
    weights: dict[str, Path],
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    weight: float = 1.0,
) -> tuple[dict[str, Any], list[Image.Image]]:
    """`judge` of the pictures with and without the ControlNet in `folder`, and a sheet's pictures: map, with,
    without, for each task."""
    texts, seeds = [task.caption.text for task in wanted], list(range(7000, 7000 + len(wanted)))
    maps = [task.map for task in wanted]
    led = generate(with_control(pipe, folder), texts, seeds, guidance, steps=steps, maps=maps, weight=weight)
    free = generate(pipe, texts, seeds, guidance, steps=steps)
    result: dict[str, Any] = {
        "with": judge(kind, led, wanted, weights),
        "without": judge(kind, free, wanted, weights),
    }
    if kind == "edge":
        result["drawings"] = judge(kind, [Image.fromarray(task.drawn) for task in wanted], wanted, weights)
        result["ratio"] = round(result["with"]["F"] / max(result["without"]["F"], 1e-9), 2)
    return result, [image for triple in zip(maps, led, free, strict=True) for image in triple]


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that is measured, as plain data; says it as it goes."""
    weights = {"joints": options.joints, "attributes": options.reader}
    result: dict[str, Any] = {
        "pictures": options.pictures,
        "steps": options.steps,
        "guidance": options.guidance,
        "weight": options.weight,
    }
    if "pose" in options.kinds:
        result["joint reader"] = reader_error(options.drawn, options.joints)
        print(f"joint reader on {options.drawn} held-out drawn scenes: {result['joint reader']}", flush=True)
    pipe = load_model(options.model, options.device)
    sheet: list[Image.Image] = []
    for kind in options.kinds:
        found, pictures = measure(
            pipe, kind, options.controlnets / FOLDERS[kind], tasks(kind, options.pictures), weights,
            options.steps, options.guidance, options.weight,
        )  # fmt: skip
        result[kind] = found
        for name, value in found.items():
            print(f"{kind} {name}: {value}", flush=True)
        sheet += pictures[: 3 * _ROW * 4]
    if options.grid:
        grid(sheet, 3 * _ROW).save(options.grid)
    return result


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.starter.evaluate_control",
        description="Measures the embedded model's ControlNets on held-out drawn scenes.",
    )
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--controlnets", type=Path, default=CONTROLS, help="the folder with both of them")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument(
        "--joints", type=Path, default=joint_reader.WEIGHTS, help="the joint reader's weights"
    )
    parser.add_argument("--reader", type=Path, default=reader.WEIGHTS, help="the attribute reader's weights")
    parser.add_argument("--pictures", type=int, default=60, help="of each kind, with and without control")
    parser.add_argument(
        "--drawn", type=int, default=200, help="drawn scenes for the joint reader's own error"
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--weight", type=float, default=1.0, help="how much the ControlNet counts, 0-2")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--grid", type=Path, help="write map, led and unled pictures here side by side")
    options = parser.parse_args(arguments)
    result = evaluate(options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
