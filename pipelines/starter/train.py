"""Makes the embedded model anew: `python -m pipelines.starter.train`, stage after stage, from nothing.

Every stage goes on where it was interrupted; what a finished stage wrote is not made twice.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from transformers import CLIPTokenizer

from . import control, denoiser, fewer, joints, paths, pixels, reader, styles, text, vae
from .adapters import load_adapter
from .canvas import SIZE
from .data import draw_posed_shard, draw_shard, held_out_scenes, picture_path, pictures
from .learning import Budget, in_team
from .scenes import paint
from .tokenizer import train_tokenizer

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def start_from(model: Path, work: Path) -> None:
    """Lays out a finished `model` in `work` as if its stages had just been run, so that `unet` and `polish`
    train it on. Raises FileNotFoundError when `model` lacks a part."""
    for part in ("tokenizer", "text_encoder", "vae", "unet"):
        if not (work / part).exists():
            shutil.copytree(model / part, work / part)


def _on_gpu(options: argparse.Namespace) -> bool:
    return options.device != "cpu"


def draw(options: argparse.Namespace) -> None:
    """Draws the training pictures."""
    with ProcessPoolExecutor(options.workers) as pool:
        for number, _ in enumerate(pool.map(partial(draw_shard, options.work), range(options.shards)), 1):
            print(f"draw: {number} of {options.shards} shards", flush=True)


def tokenize(options: argparse.Namespace) -> None:
    """Learns the tokenizer's vocabulary."""
    if not (options.work / "tokenizer").exists():
        entries = len(train_tokenizer(options.work / "tokenizer"))
        print(f"tokenizer: {entries} entries", flush=True)


def teach_text(options: argparse.Namespace) -> None:
    """Teaches the text encoder the scenes' vocabulary."""
    if not (options.work / "text_encoder").exists():
        text.train_text(options.work, options.device, options.text_minutes, options.steps)


def teach_vae(options: argparse.Namespace) -> None:
    """Trains the autoencoder and folds its latents' scale in."""
    if not (options.work / "vae").exists():
        batch = 64 if _on_gpu(options) else 8
        limits = (options.vae_minutes, options.steps)
        in_team(options.workers, options.device, vae.train_vae, options.work, *limits, batch, options.compile)
        vae.finish_vae(options.work)


def _encode_some(work: Path, device: str, first: int, stride: int) -> None:
    if device == "cpu":
        torch.set_num_threads(1)
    model = AutoencoderKL.from_pretrained(work / "vae").to(device).eval()
    for number in range(first, len(pictures(work)), stride):
        shard = pictures(work)[number]
        vae.encode_shard(model, shard, work, number)
        print(f"encode: shard {number}", flush=True)


def encode(options: argparse.Namespace) -> None:
    """Turns the drawn pictures into latents."""
    if options.workers == 1:
        _encode_some(options.work, options.device, 0, 1)
        return
    with ProcessPoolExecutor(options.workers) as pool:
        shares = range(options.workers)
        jobs = [pool.submit(_encode_some, options.work, "cpu", share, options.workers) for share in shares]
        for job in jobs:
            job.result()


def teach_unet(options: argparse.Namespace) -> None:
    """Trains the denoiser."""
    batch = options.batch or (512 if _on_gpu(options) else 32)
    limits = (options.unet_minutes, options.steps)
    in_team(
        options.workers, options.device, denoiser.train_unet, options.work, *limits, batch, options.compile
    )


def polish(options: argparse.Namespace) -> None:
    """Trains the decoder a while longer; latents and denoiser stay as they are."""
    limits = (options.polish_minutes, options.steps)
    batch = 64 if _on_gpu(options) else 8
    in_team(
        options.workers, options.device, vae.polish_decoder, options.work, *limits, batch, options.compile
    )
    vae.finish_decoder(options.work)


def teach_reader(options: argparse.Namespace) -> None:
    """Trains the attribute reader that measures the model."""
    in_team(1, options.device, reader.train_reader, options.work, options.reader_minutes, options.steps)
    reader.finish_reader(options.work, options.reader)


def write_model(work: Path, folder: Path) -> None:
    """Writes tokenizer, autoencoder and averaged denoiser to `folder` as a Stable Diffusion pipeline in half
    precision."""
    network = denoiser.load_denoiser(work)
    network.unet.register_to_config(sample_size=SIZE // 8)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(work / "vae"),
        text_encoder=network.text,
        tokenizer=CLIPTokenizer.from_pretrained(work / "tokenizer"),
        unet=network.unet,
        scheduler=DDIMScheduler(**denoiser.NOISE, clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes for the owner alone
    for config in folder.rglob("config.json"):  # a path of the machine that trained is nobody's business
        settings = json.loads(config.read_text(encoding="utf-8"))
        settings.pop("_name_or_path", None)
        if "dtype" in settings:  # transformers loads in the dtype named here, diffusers in float32
            settings["dtype"] = "float32"
        config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_colours(work: Path, path: Path) -> None:
    """Fits the latents' linear preview and puts it into the JSON file `path` under `starter`."""
    pixels = np.stack([paint(scene).pixels for scene in held_out_scenes(96, seed=9)])
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known["starter"] = vae.fit_colours(AutoencoderKL.from_pretrained(work / "vae").eval(), pixels)
    path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


def export(options: argparse.Namespace) -> None:
    """Writes the finished model to its place."""
    write_model(options.work, options.out)
    write_colours(options.work, options.out.parent / "latent_rgb.json")
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"export: {options.out}, {size / 1e6:.1f} MB", flush=True)


def _finished(options: argparse.Namespace) -> Path:
    """The model that ControlNets are made for. Exits where there is none yet."""
    if not (options.out / "model_index.json").exists():
        raise SystemExit(
            f"no finished model in {options.out}: run the stage 'export' first, or name one by --out"
        )
    return options.out


def _pose_some(work: Path, model: Path, device: str, numbers: list[int]) -> None:
    if device == "cpu":
        torch.set_num_threads(1)
    autoencoder = AutoencoderKL.from_pretrained(model / "vae", torch_dtype=torch.float32).to(device).eval()
    for number in numbers:
        draw_posed_shard(work, number)
        shard = np.load(picture_path(work / "posed", number), mmap_mode="r")
        vae.encode_shard(autoencoder, shard, work / "posed", number)
        print(f"posed: shard {number}", flush=True)


def pose(options: argparse.Namespace) -> None:
    """Draws people in poses of every kind, and encodes them with the finished model's autoencoder."""
    model = _finished(options)
    shares = [list(range(first, options.posed_shards, options.workers)) for first in range(options.workers)]
    if options.workers == 1:
        _pose_some(options.work, model, options.device, shares[0])
        return
    with ProcessPoolExecutor(options.workers) as pool:
        for job in [pool.submit(_pose_some, options.work, model, "cpu", share) for share in shares]:
            job.result()


def teach_joints(options: argparse.Namespace) -> None:
    """Trains the joint reader that measures poses."""
    limits = (options.joints_minutes, options.steps, options.batch or 32)
    in_team(options.workers, options.device, joints.train_joints, options.work, *limits)
    joints.finish_joints(options.work, options.joints)


def teach_control(options: argparse.Namespace) -> None:
    """Trains ControlNets by edge and by pose for the finished model, from what encode and posed wrote."""
    model = _finished(options)
    batch = options.batch or (256 if _on_gpu(options) else 24)
    for kind in control.KINDS:
        what = (options.work, model, kind, options.control_minutes, options.steps, batch, options.compile)
        in_team(options.workers, options.device, control.train_control, *what)


def export_control(options: argparse.Namespace) -> None:
    """Writes the finished ControlNets to their place."""
    for kind in control.KINDS:
        folder = options.controlnets / control.FOLDERS[kind]
        control.finish_control(options.work, _finished(options), kind, folder)
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"export-control: {folder}, {size / 1e6:.1f} MB", flush=True)


def _budget(options: argparse.Namespace, minutes: float) -> Budget:
    return Budget(minutes, options.batch or (256 if _on_gpu(options) else 16), options.steps, options.compile)


def _walk_some(work: Path, model: Path, device: str, numbers: list[int], count: int) -> None:
    if device == "cpu":
        torch.set_num_threads(1)
    network = paths.load_network(model).to(device)
    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
    for number in numbers:
        paths.walk_shard(network, tokenizer, work, number, count)
        print(f"paths: shard {number}", flush=True)


def walk_paths(options: argparse.Namespace) -> None:
    """Walks the finished model's paths from noise to picture, for the few-step LoRA."""
    model = _finished(options)
    shares = [list(range(first, options.paths, options.workers)) for first in range(options.workers)]
    if options.workers == 1:
        _walk_some(options.work, model, options.device, shares[0], options.path_shard)
        return
    with ProcessPoolExecutor(options.workers) as pool:
        what = (options.work, model, "cpu")
        for job in [pool.submit(_walk_some, *what, share, options.path_shard) for share in shares]:
            job.result()


def teach_fewer(options: argparse.Namespace) -> None:
    """Trains the few-step LoRA on what paths wrote."""
    what = (options.work, _finished(options), _budget(options, options.fewer_minutes))
    in_team(options.workers, options.device, fewer.train_fewer, *what)


def teach_styles(options: argparse.Namespace) -> None:
    """Puts drawn pictures through each style's filter, and trains its LoRA on them."""
    model = _finished(options)
    autoencoder = AutoencoderKL.from_pretrained(model / "vae", torch_dtype=torch.float32)
    autoencoder.to(options.device).eval()
    for style in styles.FILTERS:
        for number in range(min(options.style_shards, len(pictures(options.work)))):
            styles.encode_style(autoencoder, options.work, style, number)
            print(f"{style}: shard {number}", flush=True)
        what = (options.work, model, style, _budget(options, options.style_minutes))
        in_team(options.workers, options.device, styles.train_style, *what)


def teach_pixels(options: argparse.Namespace) -> None:
    """Trains the unconditional model of small pictures on what draw wrote."""
    in_team(
        options.workers,
        options.device,
        pixels.train_pixels,
        options.work,
        _budget(options, options.pixels_minutes),
    )


def export_addons(options: argparse.Namespace) -> None:
    """Writes the LoRAs and the model of pixels whose training has begun to their places."""
    model = _finished(options)
    loras = {"fewer": fewer.CARD} | {f"style-{style}": card for style, card in styles.CARDS.items()}
    for course, card in loras.items():
        if (options.work / "checkpoints" / f"{course}-0.pt").exists():
            size = load_adapter(options.work, model, course).write(options.loras / card.file, card)
            print(f"export-addons: {options.loras / card.file}, {size / 1e6:.2f} MB", flush=True)
    if (options.work / "checkpoints" / "pixels-0.pt").exists():
        size = pixels.finish_pixels(options.work, options.pixels)
        print(f"export-addons: {options.pixels}, {size / 1e6:.1f} MB", flush=True)


STAGES = {
    "draw": draw,
    "tokenizer": tokenize,
    "text": teach_text,
    "vae": teach_vae,
    "encode": encode,
    "unet": teach_unet,
    "polish": polish,
    "reader": teach_reader,
    "export": export,
    "posed": pose,
    "joints": teach_joints,
    "control": teach_control,
    "export-control": export_control,
    "paths": walk_paths,
    "few-steps": teach_fewer,
    "styles": teach_styles,
    "pixels": teach_pixels,
    "export-addons": export_addons,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.starter.train",
        description="Makes the embedded model anew. Interrupted, it goes on where it was.",
    )
    stages = [f"{name}: {stage.__doc__}" for name, stage in STAGES.items()]
    parser.add_argument("stages", nargs="*", default=["all"], metavar="stage", help="; ".join(stages))
    gpu = torch.cuda.is_available()
    parser.add_argument(
        "--work", type=Path, default=Path(".starter"), help="where data and checkpoints are kept"
    )
    parser.add_argument("--start", type=Path, help="a finished model to train on instead of from nothing")
    parser.add_argument("--out", type=Path, default=ASSETS / "starter", help="where the model is written")
    parser.add_argument(
        "--reader", type=Path, default=reader.WEIGHTS, help="where the reader's weights are written"
    )
    parser.add_argument(
        "--joints", type=Path, default=joints.WEIGHTS, help="where the joint reader's weights are written"
    )
    parser.add_argument(
        "--controlnets", type=Path, default=ASSETS / "controlnets", help="the folder for both ControlNets"
    )
    parser.add_argument("--loras", type=Path, default=ASSETS / "loras", help="the folder for the LoRAs")
    parser.add_argument(
        "--pixels",
        type=Path,
        default=ASSETS / "models" / "storybook-pixels",
        help="where the model of pixels is written",
    )
    parser.add_argument("--device", default="cuda" if gpu else "cpu")
    parser.add_argument(
        "--workers", type=int, default=0, help="training processes; default: one a core, one on a GPU"
    )
    parser.add_argument("--shards", type=int, default=40, help="of 500 pictures each")
    parser.add_argument("--posed-shards", type=int, default=16, help="of 500 pictures of people each")
    parser.add_argument("--text-minutes", type=float, default=1 if gpu else 4)
    parser.add_argument("--vae-minutes", type=float, default=8 if gpu else 60)
    parser.add_argument("--unet-minutes", type=float, default=20 if gpu else 180)
    parser.add_argument("--polish-minutes", type=float, default=3 if gpu else 20)
    parser.add_argument("--reader-minutes", type=float, default=2 if gpu else 8)
    parser.add_argument("--joints-minutes", type=float, default=2 if gpu else 5)
    parser.add_argument(
        "--control-minutes", type=float, default=20 if gpu else 45, help="for each of the two"
    )
    parser.add_argument("--paths", type=int, default=64 if gpu else 16, help="shards of paths")
    parser.add_argument("--path-shard", type=int, default=paths.SHARD, help="paths in a shard")
    parser.add_argument("--fewer-minutes", type=float, default=10 if gpu else 20)
    parser.add_argument("--style-shards", type=int, default=3, help="drawn shards a style is learned from")
    parser.add_argument("--style-minutes", type=float, default=5 if gpu else 12, help="for each style")
    parser.add_argument("--pixels-minutes", type=float, default=10 if gpu else 60)
    parser.add_argument("--steps", type=int, default=1 << 40, help="end every stage after so many steps")
    parser.add_argument("--batch", type=int, default=0, help="examples a step and worker; default: by device")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=gpu or shutil.which("g++") is not None,
        help="compile the networks (half as fast again on a CPU; needs a C++ compiler there)",
    )
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    wanted = list(STAGES) if options.stages == ["all"] else options.stages
    if unknown := [name for name in wanted if name not in STAGES]:
        parser.error(f"unknown stage {unknown[0]!r}; the stages are {', '.join(STAGES)}")
    options.work.mkdir(parents=True, exist_ok=True)
    if not options.workers:
        options.workers = (
            1
            if _on_gpu(options)
            else max(
                1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            )
        )
    if options.start:
        start_from(options.start, options.work)
    for name in wanted:
        STAGES[name](options)


if __name__ == "__main__":
    main()
