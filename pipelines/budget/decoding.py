"""The VAE in a run: in tiles where that is wanted, and surviving where memory runs out, latents never lost.

As it is, then in tiles, then on the processor; if even that fails, the finished latents are kept as a file.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.budget.memory import give_back, is_out_of_memory

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.devices import DevicePlan

TILE = 512
"""Pixels a side of a tile, at most: a VAE's own tiles may be as large as the picture."""
SMALL_TILE = 256

Tell = Callable[[str], None]


class LatentsKept(Exception):
    """A picture could not be decoded for want of memory; `path` holds its latents. `str()` is a sentence."""

    def __init__(self, path: Path):
        self.path = path
        super().__init__(
            "The picture was finished, but there was not enough memory to decode it, not even in tiles. Its "
            f"latents are kept in {path}. Close other programs that use memory, or choose a smaller size."
        )


# ----------------------------------------------------------------------------------------------- in tiles


@contextmanager
def tiled(vae: Any, side: int = TILE) -> Iterator[None]:
    """Lets `vae` work in tiles of at most `side` pixels inside, and leaves it as it was afterwards.

    A kind that has no tiles in diffusers works whole."""
    if not hasattr(vae, "use_tiling"):
        yield
        return
    before = {name: value for name, value in vae.__dict__.items() if name.startswith(("tile_", "use_tiling"))}
    try:
        vae.enable_tiling()
        _shrink(vae, side)
        yield
    finally:
        vae.__dict__.update(before)


def _shrink(vae: Any, side: int) -> None:
    if "tile_sample_min_size" in vae.__dict__:
        scale = max(1, vae.tile_sample_min_size // vae.tile_latent_min_size)
        vae.tile_sample_min_size = max(min(vae.tile_sample_min_size, side), 8 * scale)
        vae.tile_latent_min_size = vae.tile_sample_min_size // scale
        return
    for way in ("height", "width"):
        size, stride = f"tile_sample_min_{way}", f"tile_sample_stride_{way}"
        if getattr(vae, size, 0) <= side:
            continue
        factor = side / getattr(vae, size)
        for name in (size, stride, f"tile_latent_min_{way}"):
            if name in vae.__dict__:
                setattr(vae, name, int(getattr(vae, name) * factor))


# --------------------------------------------------------------------------------------------- surviving


def guarded(
    pipe: Any,
    plan: DevicePlan,
    tell: Tell,
    folder: Path | None = None,
    about: Mapping[str, Any] | None = None,
) -> AbstractContextManager[None]:
    """Lets `pipe`'s VAE survive running out of memory inside.

    tell: takes a sentence for each fallback that helped. folder: where latents go that could not be decoded
    at all, with `about` (the request) in the file; without one the error is raised as it is. Raises
    `LatentsKept` after they are written.
    """
    vae = getattr(pipe, "vae", None)
    return _guarded(vae, plan, tell, folder, about or {}) if vae is not None else nullcontext()


@contextmanager
def _guarded(
    vae: Any, plan: DevicePlan, tell: Tell, folder: Path | None, about: Mapping[str, Any]
) -> Iterator[None]:
    before = {name: vae.__dict__.get(name) for name in ("decode", "encode")}
    dtype = getattr(vae, "dtype", None)
    for name in before:
        if hasattr(vae, name):
            vae.__dict__[name] = _surviving(vae, name, getattr(vae, name), plan, tell, folder, about)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                vae.__dict__.pop(name, None)
            else:
                vae.__dict__[name] = value
        if dtype is not None and vae.dtype != dtype:  # SDXL decodes in float32 and was left in the middle
            vae.to(dtype)


def _surviving(
    vae: Any,
    name: str,
    call: Callable[..., Any],
    plan: DevicePlan,
    tell: Tell,
    folder: Path | None,
    about: Mapping[str, Any],
) -> Callable[..., Any]:
    done = {"decode": "decoded", "encode": "read in by the VAE"}[name]

    @functools.wraps(call)
    def survived(values: Tensor, *args: Any, **kwargs: Any) -> Any:
        problem: Exception | None = None
        for way, said in _ways(vae, plan):
            try:
                found = way(call, values, *args, **kwargs)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                # The traceback holds the tensors of the try that failed.
                problem = error.with_traceback(None)
            else:
                if said:
                    tell(f"Memory ran out while a picture was {done}: it was {done} {said} instead.")
                return found
            give_back()
        assert problem is not None
        if name == "decode" and folder is not None:
            raise LatentsKept(keep(values, folder, about)) from problem
        raise problem

    return survived


def _ways(vae: Any, plan: DevicePlan) -> list[tuple[Callable[..., Any], str]]:
    """What is tried, in order, each with how it is told of."""

    def plain(call: Callable[..., Any], values: Tensor, *args: Any, **kwargs: Any) -> Any:
        return call(values, *args, **kwargs)

    def in_tiles(call: Callable[..., Any], values: Tensor, *args: Any, **kwargs: Any) -> Any:
        with tiled(vae):
            return call(values, *args, **kwargs)

    def in_small_tiles(call: Callable[..., Any], values: Tensor, *args: Any, **kwargs: Any) -> Any:
        with tiled(vae, SMALL_TILE):
            return call(values, *args, **kwargs)

    def on_processor(call: Callable[..., Any], values: Tensor, *args: Any, **kwargs: Any) -> Any:
        with tiled(vae), _on_processor(vae) as dtype:
            found = call(values.to("cpu", dtype), *args, **kwargs)
        return found if call.__name__ == "decode" else _moved(found, values.device, values.dtype)

    ways = [(plain, ""), (in_tiles, "in tiles")]
    # Where layers are brought one by one there is no VAE to move, and where models run on the processor it is
    # there already: smaller tiles are what is left.
    if plan.device == "cpu" or _layered(vae):
        return [*ways, (in_small_tiles, "in small tiles")]
    return [*ways, (on_processor, "on the processor")]


def _layered(vae: Any) -> bool:
    return any(
        hasattr(part, "_hf_hook") or hasattr(part, "_diffusers_hook")
        for part in vae.modules()
        if part is not vae
    )


@contextmanager
def _on_processor(vae: Any) -> Iterator[Any]:
    """The VAE on the processor inside, in a number format that it computes in, which is given."""
    import torch

    kept = {tensor: tensor.data for tensor in [*vae.parameters(), *vae.buffers()]}
    # float16 is slow on a processor, or missing for some operations.
    dtype = torch.float32 if vae.dtype == torch.float16 else vae.dtype
    hook = vae.__dict__.pop("_hf_hook", None)  # it would bring the VAE back to the device
    try:
        for tensor, data in kept.items():
            tensor.data = data.to("cpu", dtype if data.is_floating_point() else data.dtype)
        yield dtype
    finally:
        for tensor, data in kept.items():
            tensor.data = data
        if hook is not None:
            vae.__dict__["_hf_hook"] = hook


def _moved(found: Any, device: Any, dtype: Any) -> Any:
    """What encoding gave, tensors and distributions inside of it on `device` in `dtype`."""
    import torch

    if isinstance(found, torch.Tensor):
        return found.to(device, dtype)
    if isinstance(found, tuple):
        return tuple(_moved(part, device, dtype) for part in found)
    if isinstance(getattr(found, "parameters", None), torch.Tensor):
        return type(found)(found.parameters.to(device, dtype))
    if isinstance(found, Mapping):
        return type(found)(**{name: _moved(part, device, dtype) for name, part in found.items()})
    return found


def keep(latents: Tensor, folder: Path, about: Mapping[str, Any]) -> Path:
    """Writes latents (as the VAE takes them) into a new safetensors file in `folder`, with `about` as JSON
    under "darkroom" in its metadata; returns its path."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    taken = 0
    while (path := folder / f"latents-{stamp}{f'-{taken}' if taken else ''}.safetensors").exists():
        taken += 1
    part = path.with_suffix(".part")
    held = {"latents": latents.detach().to("cpu").contiguous()}
    save_file(held, part, {"darkroom": json.dumps(dict(about), ensure_ascii=False, default=str)})
    os.replace(part, path)
    return path
