"""Single files as blueprints, and components from elsewhere: separate VAEs and text encoders, which take the
place of a model's own or fill the gaps of a lone diffusion model (ComfyUI's diffusion_models folder)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.library.addons import misfit
from pipelines.library.headers import Header, UnreadableFile, read_header, read_json, shown
from pipelines.library.identify import identify_header
from pipelines.load import single_file
from pipelines.load.parts import Blueprint, MissingPart, Part, weights_in
from pipelines.load.single_file_weights import clip, converter, vae
from pipelines.request import InvalidRequest

if TYPE_CHECKING:
    from pipelines.library.addons import AddonSpec
    from pipelines.library.identify import Identity
    from pipelines.library.models import ModelLibrary, ModelSpec

SEPARATOR = "+"
"""Between the keys in a request's `text_encoder`, where a model takes several."""
OPTIONAL = frozenset({("sd3", "text_encoder_3")})
"""(architecture, component) that diffusers does without: SD 3's T5, which long prompts gain from."""
_OWN_NAMES: Mapping[str, tuple[str, ...]] = {
    "flux": ("ae", "flux"),
    "sd3": ("sd3",),
    "sdxl": ("sdxl", "xl"),
    "sd1": ("mse", "ema", "sd"),
    "sd2": ("mse", "ema", "sd"),
}
"""Architecture -> what the names of its VAE's files have in them, where several would fit."""


def of_file(spec: ModelSpec) -> Blueprint:
    """What a single file holds; components that it lacks are left out, see `completed`.

    Raises `UnreadableFile` and `MissingPart` with a sentence.
    """
    path = spec.path
    header = read_header(path)
    identity = spec.identity or identify_header(header, path.stem)
    architecture = single_file.architecture(identity, header.shapes) if identity else ""
    if identity is None or not architecture:
        raise MissingPart(
            f"{shown(path)} is of a family that is read from diffusers' folders alone. Fetch its folder."
        )
    _refuse(path, header, identity)
    index = single_file.config_from(header, identity, "model_index")
    # A refiner's class says that it wants to know how beautiful a picture is.
    pipeline = index["_class_name"] if identity.variant == "refiner" else spec.pipeline
    parts: dict[str, Part | None] = {}
    settings: dict[str, Any] = {}
    for name, value in index.items():
        if name.startswith("_"):
            continue
        if not isinstance(value, list):
            settings[name] = value
        else:
            parts[name] = _part(path, header, identity, architecture, name, *value) if value[0] else None
    for one, name in OPTIONAL:
        if one == architecture and parts.get(name) is None:
            parts[name.replace("text_encoder", "tokenizer")] = None
    return Blueprint(pipeline, settings, parts)


def _refuse(path: Path, header: Header, identity: Identity) -> None:
    if identity.variant == "depth":
        raise MissingPart(
            f"{shown(path)} paints by depth, and the part of it that measures depth is only read from a "
            "diffusers folder. Fetch stable-diffusion-2-depth as a folder."
        )
    if header.format == "gguf":
        raise MissingPart(f"{shown(path)} is a GGUF file, which is not read yet. Take a .safetensors file.")
    if identity.format == "diffusers":
        raise MissingPart(
            f"{shown(path)} is a denoiser in diffusers' layout without its config. Take its whole folder."
        )
    if any(name.endswith((".scale_weight", ".weight_scale", "scaled_fp8")) for name in header.tensors):
        raise MissingPart(
            f"{shown(path)} holds weights in eight bits with scales beside them, which are not read. Take "
            "the 16-bit file; Quantisation makes it as small."
        )


def _part(
    path: Path, header: Header, identity: Identity, architecture: str, name: str, library: str, cls: str
) -> Part | None:
    if name == "scheduler":
        return Part(name, library, cls, single_file.config_from(header, identity, name))
    if name.startswith("tokenizer"):
        return _tokenizer(architecture, name)
    if not _holds(header, architecture, name):
        return None
    try:
        config = single_file.config_from(header, identity, name)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as problem:
        raise UnreadableFile(
            f"{shown(path)} has a {name} that is built like none that is known ({problem})."
        ) from problem
    convert = converter(architecture, name)
    return Part(name, library, cls, config, (path,), convert=convert, layout=f"{architecture}/{name}")


def _tokenizer(architecture: str, name: str) -> Part:
    config = read_json(single_file.CONFIGS / architecture / name / "tokenizer_config.json")
    return Part(name, "transformers", config["tokenizer_class"], config, folder=single_file.TOKENIZERS)


def _holds(header: Header, architecture: str, name: str) -> bool:
    if name in ("unet", "transformer"):
        return True
    if name == "vae":
        return any(one.startswith(single_file.VAE[:2]) for one in header.tensors)
    if single_file.T5_NAMES.get(architecture) == name:
        place = single_file.T5_PLACE
    else:
        place = single_file.CLIP_PLACES[architecture][name]
    return any(one.startswith(place) for one in header.tensors)


# --------------------------------------------------------------------------------- from other files


def completed(
    blueprint: Blueprint, spec: ModelSpec, library: ModelLibrary, vae_key: str, encoder_keys: str
) -> tuple[Blueprint, tuple[str, ...]]:
    """The blueprint with the VAE and the text encoders of those keys, and, where it still lacks some, with
    those in the models folders that fit; also what was taken without being asked for, by title.

    Raises `InvalidRequest` for ones that do not fit and `MissingPart` where one is not to be had.
    """
    parts = dict(blueprint.parts)
    base = _base(spec)
    taken: list[str] = []
    if vae_key:
        parts["vae"] = _vae_part(library.addon("vae", vae_key), spec, parts.get("vae"), base)
    for key in (one.strip() for one in encoder_keys.split(SEPARATOR) if one.strip()):
        part = _encoder_part(library.addon("text encoder", key), spec, parts, base)
        parts[part.name] = part
        tokenizer = part.name.replace("text_encoder", "tokenizer")
        if spec.is_file and parts.get(tokenizer) is None:
            parts[tokenizer] = _tokenizer(_architecture(spec), tokenizer)
    if spec.is_file:
        architecture = _architecture(spec)
        for name in _lacking(parts, architecture):
            found = _found(name, spec, library, parts, base)
            if found is None:
                raise MissingPart(_lack(spec, name))
            parts[name], title = found
            taken.append(title)
    return replace(blueprint, parts=parts), tuple(taken)


def _architecture(spec: ModelSpec) -> str:
    assert spec.identity is not None
    return single_file.architecture(spec.identity, read_header(spec.path).shapes)


def _base(spec: ModelSpec) -> Mapping[str, Mapping[str, Any]]:
    """Configs of what a single file may lack, as its architecture has them; empty for folders."""
    if not spec.is_file or spec.identity is None:
        return {}
    folder = single_file.CONFIGS / _architecture(spec)
    names = [place.parent.name for place in folder.glob("*/config.json")]
    return {name: spec.config(name) for name in names}


def _lacking(parts: Mapping[str, Part | None], architecture: str) -> list[str]:
    """Components that the architecture has and the blueprint has not."""
    index = read_json(single_file.CONFIGS / architecture / "model_index.json")
    wanted = [name for name, value in index.items() if isinstance(value, list) and value[0]]
    return [
        name
        for name in wanted
        if parts.get(name) is None
        and not name.startswith("tokenizer")
        and (architecture, name) not in OPTIONAL
    ]


def _lack(spec: ModelSpec, name: str) -> str:
    what = {"vae": "a VAE"}.get(name, "a text encoder")
    folder = "vae" if name == "vae" else "text_encoders"
    return (
        f"{spec.title} is a diffusion model alone and needs {what} ({name}) of its family: put one into the "
        f"models folder's {folder} subfolder, or name one under {'VAE' if name == 'vae' else 'Text encoder'}."
    )


def _found(
    name: str,
    spec: ModelSpec,
    library: ModelLibrary,
    parts: Mapping[str, Part | None],
    base: Mapping[str, Mapping[str, Any]],
) -> tuple[Part, str] | None:
    """(the component, its file's title) from what lies in the models folders; None where nothing fits."""
    architecture = _architecture(spec)
    if name == "vae":
        fitting = [one for one in library.addons("vae") if _try_vae(one, spec, parts.get(name), base)]
        names = _OWN_NAMES.get(architecture, ())
        fitting.sort(key=lambda one: not any(part in one.name.lower() for part in names))
        return next(((part, one.title) for one in fitting if (part := _try_vae(one, spec, None, base))), None)
    candidates: list[tuple[bool, AddonSpec, Part]] = []
    for one in library.addons("text encoder"):
        try:
            part = _encoder_part(one, spec, parts, base, (name,))
        except (InvalidRequest, UnreadableFile, MissingPart):
            continue
        candidates.append((one.dtype.startswith("F8"), one, part))
    candidates.sort(key=lambda row: (row[0], row[1].key))
    return next(((part, one.title) for _, one, part in candidates), None)


def _try_vae(
    addon: AddonSpec, spec: ModelSpec, own: Part | None, base: Mapping[str, Mapping[str, Any]]
) -> Part | None:
    try:
        return _vae_part(addon, spec, own, base)
    except (InvalidRequest, UnreadableFile, MissingPart):
        return None


def _vae_part(
    addon: AddonSpec, spec: ModelSpec, own: Part | None, base: Mapping[str, Mapping[str, Any]]
) -> Part:
    if (why := misfit(addon, spec)) is not None:
        raise _wrong_vae(why)
    usual = dict(own.config if own else base.get("vae", {}))
    library, cls = (own.library, own.class_name) if own else ("diffusers", "AutoencoderKL")
    if addon.path.is_dir():
        config = read_json(addon.path / "config.json")
        files, variant = weights_in(addon.path)
        part = Part("vae", library, str(config.get("_class_name", cls)), config, files, addon.path, variant)
    else:
        sizes = single_file.vae_sizes(single_file.stripped(read_header(addon.path).shapes, single_file.VAE))
        if not sizes:
            raise InvalidRequest({"vae": f"{addon.title} holds no VAE of a kind that is read here."})
        part = Part("vae", library, cls, usual | sizes, (addon.path,), convert=vae, layout="vae alone")
    theirs, mine = part.config.get("latent_channels", 4), usual.get("latent_channels", 4)
    if theirs != mine:
        raise _wrong_vae(
            f"{addon.title} makes latents of {theirs} channels, but {spec.title} paints in {mine}."
        )
    levels = [len(config.get("block_out_channels", ())) for config in (part.config, usual)]
    if own and all(levels) and levels[0] != levels[1]:
        raise _wrong_vae(
            f"{addon.title} makes pictures {2 ** (levels[0] - 1)} times as large as their latents, but "
            f"{spec.title} counts on {2 ** (levels[1] - 1)} times."
        )
    return part


def _wrong_vae(why: str) -> InvalidRequest:
    return InvalidRequest({"vae": f"{why} Choose another VAE, or none for the model's own."})


def _encoder_part(
    addon: AddonSpec,
    spec: ModelSpec,
    parts: Mapping[str, Part | None],
    base: Mapping[str, Mapping[str, Any]],
    only: tuple[str, ...] = (),
) -> Part:
    """The first text encoder of the model, or of `only`, that is of the add-on's kind and width, made from
    the add-on."""
    config, files, variant = _encoder_files(addon)
    sizes = config or _encoder_sizes(read_header(addon.path))
    width = sizes.get("hidden_size") or sizes.get("d_model")
    denoiser = parts.get("transformer")
    pooled = denoiser.config.get("pooled_projection_dim") if denoiser else None
    known: list[int] = []
    for name in sorted(only or (one for one in parts if one.startswith("text_encoder"))):
        own = parts.get(name)
        usual = dict(own.config if own else base.get(name, {}))
        own_width = _width_wanted(spec, usual, own, pooled)
        kind = "d_model" if "d_model" in usual else "hidden_size"
        known.append(own_width or 0)
        if kind not in sizes or (own_width and own_width != width):
            continue
        cls = own.class_name if own else str((usual.get("architectures") or ["CLIPTextModel"])[0])
        merged = config or usual | sizes
        layout = "" if config else f"{kind} alone"
        convert = None if config else (_t5 if kind == "d_model" else clip)
        folder = addon.path if config else None
        return Part(name, "transformers", cls, merged, files, folder, variant, convert, layout)
    widths = " and ".join(str(one) for one in known if one)
    raise InvalidRequest(
        {
            "text_encoder": f"{addon.title} tells vectors {width} wide, but the text encoders of "
            f"{spec.title} are {widths or 'of another kind'}{' wide' if widths else ''}. Choose another, or "
            "none for the model's own."
        }
    )


def _width_wanted(
    spec: ModelSpec, usual: Mapping[str, Any], own: Part | None, pooled: int | None
) -> int | None:
    """Width of the vectors that a text encoder must tell; None where any will do."""
    if own is not None or not spec.is_file:
        return usual.get("hidden_size") or usual.get("d_model")
    if spec.family == "Flux" and "d_model" not in usual:
        return pooled
    if spec.family == "SD" or "d_model" in usual:
        return spec.text_width
    width: int | None = usual.get("hidden_size")
    return width


def _encoder_files(addon: AddonSpec) -> tuple[dict[str, Any], tuple[Path, ...], str]:
    if addon.path.is_dir():
        files, variant = weights_in(addon.path)
        return read_json(addon.path / "config.json"), files, variant
    return {}, (addon.path,), ""


def _encoder_sizes(header: Header) -> dict[str, Any]:
    shapes = _plain(header.shapes)
    return single_file.clip_sizes(shapes) or single_file.t5_sizes(shapes)


def _plain(named: Mapping[str, Any]) -> dict[str, Any]:
    return single_file.stripped(named, ("transformer.text_model.", "text_model.", ""))


def _t5(state: Mapping[str, Any], module: Any) -> dict[str, Any]:
    return single_file.stripped(state, (single_file.T5_PLACE, "transformer.", ""))


def titles(taken: Iterable[str]) -> str:
    """For a sentence: " with ae and clip_l", or nothing."""
    named = list(taken)
    if not named:
        return ""
    return f" with {', '.join(named[:-1])} and {named[-1]}" if len(named) > 1 else f" with {named[0]}"
