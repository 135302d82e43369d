"""What of a model stays on the device in a run: chosen by need, put on for the run and taken off again.

resident: everything. components: text encoders, denoiser and VAE take turns. groups: blocks of layers follow
one another, fetched ahead where the device has streams. sequential: layer by layer, slowest and smallest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines.budget import working
from pipelines.budget.memory import amount, is_out_of_memory

if TYPE_CHECKING:
    from torch import nn

    from pipelines.budget.memory import Memory
    from pipelines.devices import DevicePlan
    from pipelines.library.models import ModelSpec
    from pipelines.request import GenerationRequest, OffloadMode

Result = TypeVar("Result")

ORDER: tuple[OffloadMode, ...] = ("resident", "components", "groups", "sequential")
"""From the fastest to the one that needs least."""

HEADROOM = 0.05
"""Share of the device that is left alone: allocators split memory into pieces that do not all fit."""

REFINER = "refiner_"
"""What the names of a refiner's own components begin with, beside the model's."""

TILED_FROM = 1536 * 1536
"""Pixels above which the VAE always works in tiles: untiled its numbers alone would take gigabytes."""


@dataclass(frozen=True)
class Offload:
    """mode: one of `ORDER`. tiled: whether the VAE works in tiles. sentence: which and why, for the page.

    bytes_needed: on the device at the peak, by estimate. fits: whether that is there.
    """

    mode: OffloadMode
    tiled: bool
    sentence: str
    bytes_needed: int = 0
    fits: bool = True


def choose(
    sizes: Mapping[str, int],
    request: GenerationRequest,
    model: ModelSpec,
    plan: DevicePlan,
    memory: Memory,
) -> Offload:
    """The fastest way that fits. sizes: component -> bytes of its weights, ControlNets' included.

    What the request asks for wins over what would be chosen, and the sentence says whether it fits.
    """
    if plan.device == "cpu" and plan.channels_last:
        # A VAE that is rearranged when it is loaded lies in RAM beside the pages of its mapped file.
        sizes = {**sizes, "vae": 2 * sizes.get("vae", 0)}
    there = int(memory.device_ours * (1 - HEADROOM))
    work = working.of(model, request, plan)
    large = request.width * request.height > TILED_FROM
    modes: tuple[OffloadMode, ...]
    if plan.device == "cpu":
        modes = ("resident",)
    elif request.offload == "auto":
        modes = ORDER
    else:
        modes = (request.offload,)
    tried = [(mode, tiled) for mode in modes for tiled in ((True,) if large else (False, True))]
    # Tiles leave faint traces in the picture, turns do not: turns first. Blocks and layers cost far more time
    # than tiles do.
    if len(modes) > 1 and not large:
        tried.sort(key=lambda way: (ORDER.index(way[0]) >= 2, way[1], ORDER.index(way[0])))
    needs = {way: needed(sizes, *way, work) for way in tried}
    fitting = [way for way in tried if needs[way] <= there]
    way = fitting[0] if fitting else min(tried, key=needs.__getitem__)
    whole = needed(sizes, "resident", large, work)
    found = Offload(way[0], way[1], "", needs[way], bool(fitting))
    return replace(found, sentence=_sentence(found, whole, sizes, request, plan, there, large))


def needed(sizes: Mapping[str, int], mode: OffloadMode, tiled: bool, work: working.Working) -> int:
    """Bytes on the device at the peak of a run."""
    decoding = work.decode_tiled if tiled else work.decode
    painting = sum(size for name, size in sizes.items() if _phase(name) == "denoiser")
    vae = sizes.get("vae", 0)
    alone = [
        size + (work.denoise if name.startswith(REFINER) else 0)
        for name, size in sizes.items()
        if _phase(name) not in ("denoiser", "vae")
    ]
    if mode == "resident":
        return sum(sizes.values()) + max(work.denoise, decoding)
    if mode == "components":
        return max([painting + work.denoise, vae + decoding, *alone])
    share = work.group_share if mode == "groups" else work.layer_share
    return round(max(painting * share + work.denoise, decoding, share * max(alone, default=0)))


def _phase(name: str) -> str:
    """What of a pipeline is needed at the same time has the same phase."""
    if name.startswith(("unet", "transformer", "controlnet", "adapter")):
        return "denoiser"
    return name


def _sentence(
    found: Offload,
    whole: int,
    sizes: Mapping[str, int],
    request: GenerationRequest,
    plan: DevicePlan,
    there: int,
    large: bool,
) -> str:
    device = {"cuda": "the GPU", "mps": "the GPU"}.get(plan.device.split(":")[0], "the processor")
    texts = [name for name in sizes if name.startswith("text_encoder")]
    words = "the text encoders" if len(texts) > 1 else "the text encoder"
    denoiser = next((name for name in sizes if name.startswith("transformer")), "UNet")
    ways: Mapping[str, str] = {
        "resident": f"Everything stays on {device}",
        "components": f"{_upper(words)} will be offloaded, taking turns with {denoiser} and VAE on {device}",
        "groups": f"The {denoiser} will be brought to {device} block by block",
        "sequential": f"The {denoiser} will be brought to {device} layer by layer, which is slow",
    }
    said = ways[found.mode]
    if plan.device == "cpu":
        asked = request.offload not in ("auto", "resident")
        said = "Everything stays in memory" + (
            ": models run on the processor here, where offloading saves nothing" if asked else ""
        )
    elif request.offload != "auto":
        said += ", as asked for"
    elif found.mode != "resident":
        said += f": all at once needs {amount(whole)} and {amount(there)} are there"
    if found.tiled:
        why = "at this size" if large else "to save memory"
        said += f"; the picture is decoded in tiles {why}"
    if not found.fits:
        said += f". This needs about {amount(found.bytes_needed)} and {amount(there)} are there: it may fail"
    return said + "."


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def stronger(offload: Offload, plan: DevicePlan) -> Offload | None:
    """The next way that needs less, for a run that ran out of memory. None after the last, and on the
    processor once the picture is tiled."""
    if plan.device != "cpu" and offload.mode != ORDER[-1]:
        mode = ORDER[ORDER.index(offload.mode) + 1]
        return replace(offload, mode=mode, tiled=True, sentence=_AGAIN[mode])
    if not offload.tiled:
        return replace(offload, tiled=True, sentence=_AGAIN["tiled"])
    return None


_AGAIN: Mapping[str, str] = {
    "components": "The components take turns on the device now",
    "groups": "The denoiser is brought to the device block by block now",
    "sequential": "The denoiser is brought to the device layer by layer now, which is slow",
    "tiled": "What was not in use was let go of, and the picture is decoded in tiles now",
}


def surviving(
    paint: Callable[[Offload], Result],
    first: Offload,
    plan: DevicePlan,
    tell: Callable[[str], None],
    let_go: Callable[[], None],
) -> Result:
    """What `paint` gives; after running out of memory once more by the next stronger way.

    tell: takes the sentence that says so. let_go: frees what no run needs, called before the second try.
    """
    try:
        return paint(first)
    except Exception as error:
        again = stronger(first, plan) if is_out_of_memory(error) else None
        if again is None:
            raise
    # Outside of the handler: the error's traceback holds the failed run's tensors.
    let_go()
    tell(f"Memory ran out during the run. {again.sentence}, and the run was begun anew.")
    return paint(again)


# ------------------------------------------------------------------------------------------------ the hooks


def apply(
    pipe: Any,
    offload: Offload,
    plan: DevicePlan,
    others: Sequence[nn.Module] = (),
    refiner: Any = None,
) -> AbstractContextManager[None]:
    """Puts the hooks of `offload` on the components of `pipe`, on `others` (ControlNets, adapters) and what
    else the pipeline `refiner` has. Leaves them afterwards exactly as they were: no hook, every tensor the
    same object in the same place, tiling off. Views share them all by reference.

    Enter it after LoRAs are on the components, and once for all pictures of a run.
    """
    return _applied(pipe, offload, plan, others, refiner)


@contextmanager
def _applied(
    pipe: Any, offload: Offload, plan: DevicePlan, others: Sequence[nn.Module], refiner: Any
) -> Iterator[None]:
    import torch

    from pipelines.budget.decoding import tiled

    named = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    more = {f"controlnet_{index}": network for index, network in enumerate(others)}
    if refiner is not None:
        more |= {f"{REFINER}{name}": part for name, part in refiner.components.items()}
    for name, part in more.items():
        if isinstance(part, torch.nn.Module) and all(part is not other for other in named.values()):
            named[name] = part
    with ExitStack() as undo:
        if offload.tiled and "vae" in named:
            undo.enter_context(tiled(named["vae"]))
        if offload.mode != "resident":
            kept = _Kept(named.values())
            undo.callback(kept.put_back)
            if offload.mode != "components":
                for name in [name for name, part in named.items() if type(part).__name__ in _ASKED_WHERE]:
                    kept.bring(named.pop(name), plan.device)
            _PUT_ON[offload.mode](named, plan.device, kept)
            if plan.device.split(":")[0] == "cuda":  # what was fetched ahead may still be on its way
                undo.callback(torch.cuda.synchronize, plan.device)
        yield


_ASKED_WHERE = frozenset({"T2IAdapter", "MultiAdapter"})
"""Networks whose inputs are brought to where they say they are, which layers on their own do not know. They
are small, run once and stay on the device."""

_HOOKED = ("forward", "_old_forward", "_hf_hook", "_diffusers_hook")
"""Attributes by which accelerate's and diffusers' hooks sit on a module."""
_NOTHING = object()


class _Kept:
    """Modules as they were: their hooks, their tensors and where those were. All are in RAM from now on."""

    def __init__(self, modules: Any):
        self.tensors: dict[Any, tuple[Any, Any]] = {}
        self.parts: list[tuple[Any, dict[str, Any], dict[str, Any], dict[str, Any]]] = []
        seen: set[int] = set()
        for module in modules:
            for part in module.modules():
                if id(part) in seen:
                    continue
                seen.add(id(part))
                hooks = {name: part.__dict__.get(name, _NOTHING) for name in _HOOKED}
                self.parts.append((part, dict(part._parameters), dict(part._buffers), hooks))
                for tensor in [*part._parameters.values(), *part._buffers.values()]:
                    if tensor is not None and tensor not in self.tensors:
                        place = tensor.device
                        tensor.data = tensor.data.to("cpu")
                        self.tensors[tensor] = (place, tensor.data)

    def bring(self, module: Any, device: Any) -> None:
        """Moves a module's tensors to `device`; those that go back to RAM are the ones that were there."""
        import torch

        home = torch.device(device).type == "cpu"
        for tensor in [*module.parameters(), *module.buffers()]:
            kept = self.tensors.get(tensor)
            if home:
                tensor.data = kept[1] if kept is not None else tensor.data.to("cpu")
            elif tensor.device.type == "cpu":
                tensor.data = tensor.data.to(device, non_blocking=True)

    def put_back(self) -> None:
        for part, parameters, buffers, hooks in self.parts:
            part._parameters.update(parameters)
            part._buffers.update(buffers)
            for name, value in hooks.items():
                if value is not _NOTHING:
                    part.__dict__[name] = value
                else:
                    part.__dict__.pop(name, None)
        for tensor, (place, data) in self.tensors.items():
            tensor.data = data if place.type == "cpu" else data.to(place)
        self.tensors.clear()


def _components(named: Mapping[str, Any], device: str, kept: _Kept) -> None:
    from accelerate.hooks import ModelHook, add_hook_to_module
    from accelerate.utils import send_to_device

    class Turn(ModelHook):  # type: ignore[misc]
        """Brings its module to the device before it runs, and what is of another phase back to RAM.

        accelerate's own hook knows the one module before it, in a fixed order, and leaves the last one on
        the device; pictures that begin with a picture ask the VAE first.
        """

        no_grad = False

        def __init__(self, name: str):
            self.phase, self.execution_device = _phase(name), device

        def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            for name, other in named.items():
                if _phase(name) != self.phase and name in there:
                    kept.bring(other, "cpu")
                    there.discard(name)
            own = next(name for name, other in named.items() if other is module)
            if own not in there:
                kept.bring(module, device)
                there.add(own)
            return send_to_device(args, device), send_to_device(kwargs, device)

    there: set[str] = set()
    for name, module in named.items():
        add_hook_to_module(module, Turn(name))


def _groups(named: Mapping[str, Any], device: str, kept: _Kept) -> None:
    import psutil
    from diffusers.hooks import apply_group_offloading

    streams = device.split(":")[0] == "cuda"
    spare = psutil.virtual_memory().available / 2
    for name, module in named.items():
        size = sum(tensor.nbytes for tensor in [*module.parameters(), *module.buffers()])
        blocks = _phase(name.removeprefix(REFINER)) == "denoiser" and hasattr(module, "config")
        apply_group_offloading(
            module,
            onload_device=device,
            offload_device="cpu",
            offload_type="block_level" if blocks else "leaf_level",
            num_blocks_per_group=1 if blocks else None,
            # What runs many times learns its order and fetches ahead; the rest runs once.
            use_stream=streams and blocks,
            record_stream=streams and blocks,
            # Pinned once, weights cross at full speed, but take RAM a second time; else they are as they go.
            low_cpu_mem_usage=streams and blocks and size > spare,
        )


def _sequential(named: Mapping[str, Any], device: str, kept: _Kept) -> None:
    from accelerate import cpu_offload

    for module in named.values():
        cpu_offload(module, device, offload_buffers=True)


_PUT_ON: Mapping[str, Callable[[Mapping[str, Any], str, _Kept], None]] = {
    "components": _components,
    "groups": _groups,
    "sequential": _sequential,
}
