"""The ControlNets that can be chosen, and whether a request's control units, its model and its task fit.

What is here reads small files only and is asked in the page; what loads and runs is in control_networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.controlnet.control_curves import follow_curves
from pipelines.controlnet.control_files import HUB, Sizes, Sort, misfit, sizes_of, sizes_of_model
from pipelines.controlnet.control_networks import (
    NO_PIPELINE,
    control_kwargs,
    load,
    no_pipeline,
    union_mode,
    view,
)
from pipelines.controlnet.detectors import PREPROCESSORS, control_map
from pipelines.library.headers import amount
from pipelines.library.models import ASSETS, ModelLibrary
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from pipelines.library.addons import AddonSpec
    from pipelines.library.models import ModelSpec
    from pipelines.request import ControlUnit, GenerationRequest

__all__ = [
    "HUB",
    "NO_PIPELINE",
    "ControlLibrary",
    "ControlSpec",
    "check",
    "control_kwargs",
    "control_map",
    "follow_curves",
    "load",
    "matches",
    "suited",
    "view",
]

SUITS: Mapping[str, tuple[str, ...]] = {
    "canny": ("canny",),
    "softedge": ("softedge_hed", "softedge_pidinet", "teed"),
    "edge": ("canny",),
    "pose": ("openpose", "openpose_full", "dwpose"),
    "depth": ("depth_midas", "depth_leres", "depth_zoe"),
    "anime": ("lineart_anime",),
    "lineart": ("lineart", "lineart_coarse", "lineart_standard"),
    "line": ("lineart", "anyline", "teed", "lineart_standard"),
    "hed": ("softedge_hed", "softedge_pidinet", "teed"),
    "sketch": ("scribble_pidinet", "scribble_hed"),
    "scribble": ("scribble_hed", "scribble_pidinet"),
    "mlsd": ("mlsd",),
    "normal": ("normal_bae",),
    "seg": ("segment_sam",),
    "shuffle": ("shuffle",),
    "face": ("mediapipe_face",),
    "tile": ("none",),
    "blur": ("none",),
}
"""Word in a ControlNet's name -> preprocessors that make its maps; the first word that is found counts."""


@dataclass(frozen=True)
class ControlSpec:
    """One control network that can be asked for by its `key`.

    title and summary: for people ("Storybook edge", "SD, 9 MB"). path: a diffusers folder or a .safetensors
    file; None for one on the hub that was never fetched, of which the sizes are not known either.
    suits: preprocessors whose maps it follows, guessed from its name; empty where it may follow any.
    """

    key: str
    title: str
    path: Path | None
    sizes: Sizes | None
    summary: str
    suits: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """ "SD", "SDXL", "SD3", "Flux", or "" where it is not known yet."""
        return self.sizes.family if self.sizes else ""

    @property
    def sort(self) -> Sort:
        return self.sizes.sort if self.sizes else "controlnet"


class ControlLibrary:
    """The control networks among the add-ons that `models` finds; looks at the disk each time."""

    def __init__(self, folders: Iterable[Path], assets: Path = ASSETS, models: ModelLibrary | None = None):
        self.models = models or ModelLibrary(folders, assets)

    def list(self) -> list[ControlSpec]:
        """Every usable one: the embedded ones first, then by title."""
        found = [*self.models.addons("controlnet"), *self.models.addons("adapter")]
        specs = [(one.source != "embedded", _spec(one.key, one.path, self._sizes(one))) for one in found]
        return [spec for _, spec in sorted(specs, key=lambda one: (one[0], one[1].title.lower()))]

    def _sizes(self, addon: AddonSpec) -> Sizes:
        """The sizes of a network, read off its header once and then remembered."""
        sizes = sizes_of(addon.path, self.models.records)
        assert sizes is not None, addon.key  # else it would not be of this sort
        return sizes

    def find(self, key: str) -> ControlSpec:
        """The one with that key, or the one on the hub for a key "owner/name" that is not here.

        Raises `InvalidRequest` naming those that there are.
        """
        there = {spec.key: spec for spec in self.list()}
        if key in there:
            return there[key]
        if _is_hub_id(key):
            return _on_hub(key)
        names = ", ".join(there) or "none: put one into the models folder's ControlNet subfolder"
        raise InvalidRequest(
            {
                "controls": f"There is no ControlNet called {key[:60]!r}. There are {names}; "
                'one of huggingface.co is named "owner/name".'
            }
        )


def matches(spec: ControlSpec, model: ModelSpec, library: ControlLibrary | None = None) -> None:
    """Raises `InvalidRequest` where `spec` is made for another kind of model, naming those of `library` that
    fit. What is not on the disk yet is looked at when it is loaded."""
    if spec.sizes is None or (why := misfit(spec.sizes, sizes_of_model(model))) is None:
        return
    fitting = [one.key for one in (library.list() if library else []) if _fits(one, model)]
    way_out = (
        f"Choose one of: {', '.join(fitting)}."
        if fitting
        else "Choose another model, or none of its control."
    )
    raise InvalidRequest(
        {"controls": f"{spec.title} is made for {why[0]}, but {model.title} is {why[1]}. {way_out}"}
    )


def check(request: GenerationRequest, model: ModelSpec, library: ControlLibrary) -> None:
    """Raises `InvalidRequest` with a sentence where the request's control units cannot be run on `model`:
    an unknown network or preprocessor, one for other models, a task diffusers has no pipeline for, or units
    that do not go together. Reads small files only."""
    if not request.controls:
        return
    specs = [library.find(unit.model) for unit in request.controls]
    for unit, spec in zip(request.controls, specs):
        if unit.preprocessor not in PREPROCESSORS:
            raise _off(
                f"There is no preprocessor called {unit.preprocessor!r}. "
                f"There are {', '.join(PREPROCESSORS)}."
            )
        matches(spec, model, library)
        if (model.family, request.task, spec.sort) in NO_PIPELINE:
            raise no_pipeline(model.family, request.task, spec.sort, spec.title)
        _check_unit(unit, spec, model)
    sorts = {spec.sort for spec in specs} - {"adapter"}
    if model.family == "SDXL" and len(sorts) > 1:
        raise _off(
            "Union ControlNets and plain ones cannot lead the same run: diffusers has a pipeline for either. "
            "Use the union for all of the units, or for none."
        )


def _check_unit(unit: ControlUnit, spec: ControlSpec, model: ModelSpec) -> None:
    if unit.control_mode != "balanced" and model.family not in ("SD", "SDXL"):
        raise _off(
            f"The control mode must be balanced for {model.title}: the others weigh a UNet's skip "
            f"connections, which {model.family} models do not have."
        )
    if spec.sort == "union" and union_mode(unit, model.family) is None:
        raise _off(
            f"{spec.title} follows maps of several sorts and must be told which one this is: choose the "
            "preprocessor that makes such maps, also for a map that is ready. "
            + (
                f"{PREPROCESSORS[unit.preprocessor].title} is of no sort it knows."
                if unit.preprocessor != "none"
                else ""
            )
        )


def suited(name: str) -> tuple[str, ...]:
    """Preprocessors for a ControlNet of that name; empty for a name that tells nothing, and for unions."""
    plain = name.lower().replace("-", "").replace("_", "")
    if "union" in plain:
        return ()
    return next((keys for word, keys in SUITS.items() if word in plain), ())


def _spec(key: str, path: Path, sizes: Sizes) -> ControlSpec:
    files = [path] if path.is_file() else list(path.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    name = key.split("/")[-1]
    title = name.replace("-", " ").replace("_", " ")
    return ControlSpec(
        key, title[:1].upper() + title[1:], path, sizes, f"{sizes.family}, {amount(size)}", suited(name)
    )


def _has_weights(path: Path) -> bool:
    return path.is_file() or any(path.glob("*.safetensors"))


def _is_hub_id(key: str) -> bool:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    if key.count("/") != 1 or ".." in key:
        return False
    try:
        validate_repo_id(key)
    except HFValidationError:
        return False
    return True


def _on_hub(key: str) -> ControlSpec:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(key, "config.json")
    name = key.split("/")[-1]
    if isinstance(config, str):
        folder = Path(config).parent
        if (sizes := sizes_of(folder)) is not None and _has_weights(folder):
            return _spec(key, folder, sizes)
    return ControlSpec(key, name, None, None, "from huggingface.co", suited(name))


def _fits(spec: ControlSpec, model: ModelSpec) -> bool:
    return spec.sizes is not None and misfit(spec.sizes, sizes_of_model(model)) is None


def _off(sentence: str) -> InvalidRequest:
    return InvalidRequest({"controls": sentence.strip()})
