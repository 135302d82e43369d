"""Shards of drawn pictures and of their latents on disk, read through memory maps.

A shard's scenes follow from its number alone, so the captions' scenes are thought up again, never stored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .scenes import Scene, imagine, paint

SHARD = 500  # scenes in a shard


def shard_scenes(number: int, count: int = SHARD) -> list[Scene]:
    """The training scenes of shard `number`; held-out combinations are passed over."""
    rng = np.random.default_rng([20, number])
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = imagine(rng)
        if not scene.held_out:
            scenes.append(scene)
    return scenes


def posed_scenes(number: int, count: int = SHARD, held_out: bool = False) -> list[Scene]:
    """Scenes with a person, most of them in a pose that has no name: what pose control is learned from, or
    with `held_out` measured on."""
    rng = np.random.default_rng([23, number])
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = imagine(rng, free_poses=0.75)
        if scene.person and scene.held_out == held_out:
            scenes.append(scene)
    return scenes


def held_out_scenes(count: int, seed: int = 7) -> list[Scene]:
    """`count` scenes whose combination of attributes no training shard holds."""
    rng = np.random.default_rng([21, seed])
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = imagine(rng)
        if scene.held_out:
            scenes.append(scene)
    return scenes


def write_array(array: np.ndarray, path: Path) -> None:
    """np.save by way of a temporary file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.save(file, array)
    partial.replace(path)


def picture_path(work: Path, number: int) -> Path:
    return work / "pictures" / f"{number:04d}.npy"


def latent_path(work: Path, number: int) -> Path:
    return work / "latents" / f"{number:04d}.npy"


def latent_paths(work: Path) -> list[Path]:
    """Every encoded shard, in the order of their numbers."""
    return sorted((work / "latents").glob("*.npy"))


def draw_shard(work: Path, number: int, count: int = SHARD) -> None:
    """Draws the `count` pictures of shard `number`, uint8 (count, 256, 256, 3), unless they are there."""
    path = picture_path(work, number)
    if not path.exists():
        write_array(np.stack([paint(scene).pixels for scene in shard_scenes(number, count)]), path)


def pictures(work: Path) -> list[np.ndarray]:
    """Every drawn shard, uint8 (500, 256, 256, 3), as memory maps in the order of their numbers.

    Raises FileNotFoundError when nothing has been drawn.
    """
    paths = sorted((work / "pictures").glob("*.npy"))
    if not paths:
        raise FileNotFoundError(f"no drawn pictures under {work}: run the stage 'draw' first")
    return [np.load(path, mmap_mode="r") for path in paths]


def draw_posed_shard(work: Path, number: int, count: int = SHARD) -> None:
    """Draws posed shard `number`: pictures as in draw_shard and joints float (count, 18, 2), unless there."""
    place = work / "posed"
    if not (place / "joints" / f"{number:04d}.npy").exists():
        painted = [paint(scene) for scene in posed_scenes(number, count)]
        write_array(np.stack([picture.pixels for picture in painted]), picture_path(place, number))
        write_array(
            np.stack([picture.joints for picture in painted if picture.joints is not None]),
            place / "joints" / f"{number:04d}.npy",
        )


def posed_pictures(work: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Every posed shard's pictures and joints, as draw_posed_shard wrote them.

    Raises FileNotFoundError when none has been drawn.
    """
    paths = sorted((work / "posed" / "joints").glob("*.npy"))
    if not paths:
        raise FileNotFoundError(f"no posed pictures under {work}: run the stage 'posed' first")
    return [np.load(picture_path(work / "posed", int(p.stem)), mmap_mode="r") for p in paths], [
        np.load(path) for path in paths
    ]
