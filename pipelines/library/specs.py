"""One model that can be chosen, and how it is described: from a diffusers folder's small JSON files, or from
what a single file's header showed. No weights are read and torch is not imported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.families import FAMILIES, PIPELINES, FamilyRow, pipeline_of
from pipelines.library import few_steps, hashes
from pipelines.library.headers import amount, read_json
from pipelines.library.identify import Identity, needed
from pipelines.library.identify_metadata import line
from pipelines.library.places import Source
from pipelines.library.records import FileRecords
from pipelines.request import GenerationRequest
from pipelines.schedulers import Kind


@dataclass(frozen=True)
class ModelSpec:
    """One model that can be asked for by its `key`.

    title and summary: for people ("Storybook", "SD, 20 MB"). path: a folder in diffusers' layout, or a single
    file. family: see families.FAMILIES. kind: see schedulers.Kind. pipeline: diffusers' class for it.
    variant: "" or what it is made for: "inpaint", "edit", "depth", "refiner". text_width: width of the text
    vectors it listens to (SD 1 768, SD 2 1024, SDXL 2048), None if none. width: channels of a transformer's
    tokens, None for UNets. bytes: of all weights. defaults: request fields that suit the model. examples:
    prompts known to work with it. needs: components that a lone diffusion model lacks.
    prediction: what a single file's denoiser tells ("epsilon", "v_prediction", "flow"); "" for a folder,
    whose scheduler's config says so. dtype: of a single file's weights ("F16"). identity: what a single
    file is. disk_bytes: of the file, or of a folder's model_index.json. beside: names of the files beside it
    that belong to it (see sidecars). modified: seconds since 1970.
    """

    key: str
    title: str
    summary: str
    path: Path
    family: str
    kind: Kind = "diffusion"
    pipeline: str = ""
    variant: str = ""
    text_width: int | None = None
    bytes: int = 0
    defaults: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    width: int | None = None
    prediction: str = ""
    dtype: str = ""
    source: Source = "folder"
    identity: Identity | None = None
    disk_bytes: int = 0
    beside: tuple[str, ...] = ()
    modified: float = 0.0
    records: FileRecords | None = field(default=None, repr=False, compare=False)

    @property
    def is_file(self) -> bool:
        """Whether it is a single file; else it is a folder in diffusers' layout."""
        return self.identity is not None or self.path.is_file()

    @property
    def folder(self) -> Path:
        """The folder itself, or that in which the single file lies."""
        return self.path.parent if self.is_file else self.path

    @property
    def inpaints_only(self) -> bool:
        """Its denoiser also takes a mask and the masked picture (9 channels), and wants them."""
        return self.variant == "inpaint"

    @property
    def weights(self) -> list[Path]:
        """The weight files, sorted by path: of a folder those that are loaded, see `component_weights`."""
        if self.is_file:
            return [self.path]
        return [file for component in _components(self.path) for file in component_weights(component)]

    def config(self, component: str) -> dict[str, Any]:
        """The configuration of a component ("unet", "transformer", "vae", "scheduler", ...); empty where it
        has none."""
        if self.identity is not None:
            return self._file_config(component)
        name = "scheduler_config.json" if component == "scheduler" else "config.json"
        return read_json(self.path / component / name)

    def _file_config(self, component: str) -> dict[str, Any]:
        """What `single_file` makes of the header, remembered; empty where layers are missing."""
        from pipelines.load import single_file

        assert self.identity is not None
        told = self.path.stat()
        state = (self.path, told.st_size, told.st_mtime_ns, f"config of {component}")
        known = self.records.get(*state) if self.records else None
        if known is None:
            try:
                known = single_file.config_of(self.path, self.identity, component)
            except (LookupError, TypeError, ZeroDivisionError):
                known = {}  # layers are missing or of odd shapes: loading it says which
            if self.records:
                self.records.put(*state, known)
        return dict(known)

    def short_hash(self) -> str:
        """First 10 hex digits of the SHA-256 over the file, or over a folder's denoiser (CONVENTIONS: "Model
        hash"). Read once, then remembered."""
        if self.is_file:
            return hashes.file_hash(self.path, self.records)
        denoiser = [file for file in self.weights if file.parent.name in ("unet", "transformer", "decoder")]
        return hashes.joint_hash(denoiser or self.weights, self.records)


_WEIGHTS = re.compile(
    r"(?P<stem>diffusion_pytorch_model|pytorch_model|model)"
    r"(?:\.(?P<variant>[a-z0-9_]+))?(?:-\d{5}-of-\d{5})?\.(?P<ending>safetensors|bin)"
)
_VARIANTS = ("", "fp16", "bf16", "fp32")


def component_weights(folder: Path) -> list[Path]:
    """The weight files of one component's folder that are to be loaded, sorted: safetensors before pickles,
    the plain ones before those of a variant ("fp16")."""
    files: dict[tuple[int, int], list[Path]] = {}
    for file in sorted(folder.glob("*")):
        found = _WEIGHTS.fullmatch(file.name)
        if found is None or (found["variant"] or "") not in _VARIANTS:
            continue
        order = (int(found["ending"] == "bin"), _VARIANTS.index(found["variant"] or ""))
        files.setdefault(order, []).append(file)
    return files[min(files)] if files else []


def weights_variant(folder: Path) -> str:
    """What diffusers must be told as `variant` to load a model's folder: "fp16" where any component has
    its weights in such files only, else ""."""
    for component in _components(folder):
        found = [_WEIGHTS.fullmatch(file.name) for file in component_weights(component)]
        variants = {match["variant"] or "" for match in found if match}
        if variants and "" not in variants:
            return min(variants)
    return ""


def describe(folder: Path, key: str, records: FileRecords | None = None) -> ModelSpec | None:
    """The model in a diffusers folder; None when its pipeline is of no family that is supported."""
    pipeline = str(read_json(folder / "model_index.json").get("_class_name", ""))
    row = PIPELINES.get(pipeline)
    if row is None:
        return None
    told = read_json(folder / "examples.json")
    size = sum(file.stat().st_size for part in _components(folder) for file in component_weights(part))
    denoiser = read_json(folder / FAMILIES[row.family].denoiser / "config.json")
    pixels = _native_size(folder, denoiser, FAMILIES[row.family])
    variant = row.variant
    if "UNet" in str(denoiser.get("_class_name", "")) and row.family in ("SD", "SDXL"):
        variant = {9: "inpaint", 8: "edit", 5: "depth"}.get(denoiser.get("in_channels", 4), variant)
        pipeline = pipeline_of(row.family, variant) if variant != row.variant else pipeline
    if row.family == "SDXL" and read_json(folder / "model_index.json").get("text_encoder") == [None, None]:
        variant = "refiner"
    if pipeline not in PIPELINES:
        return None
    return ModelSpec(
        key=key,
        title=line(str(told.get("title") or "")) or key.rpartition("/")[2] or folder.name,
        summary=f"{row.family}, {amount(size)}",
        path=folder,
        family=row.family,
        kind=row.kind,
        pipeline=pipeline,
        variant=variant,
        text_width=_text_width(denoiser),
        bytes=size,
        defaults={
            **FAMILIES[row.family].defaults,
            "width": pixels,
            "height": pixels,
            **few_steps.named(f"{key} {told.get('title') or ''}", row.family),
            **few_steps.named(key, row.family),
            **_settings(told.get("defaults")),
        },
        examples=_texts(told.get("prompts")),
        width=_token_width(denoiser),
        records=records,
    )


def incomplete(folder: Path) -> str:
    """The first component of a model's folder that has no weights yet; "" where none lacks any."""
    for name, entry in read_json(folder / "model_index.json").items():
        if not (isinstance(entry, list) and len(entry) == 2 and entry[1]) or name.startswith("_"):
            continue
        if name in ("safety_checker", "feature_extractor", "image_encoder", "image_noising_scheduler"):
            continue
        weighty = (folder / name / "config.json").is_file() or not (folder / name).is_dir()
        if weighty and not component_weights(folder / name):
            return str(name)
    return ""


def describe_file(
    path: Path, key: str, identity: Identity, records: FileRecords | None = None
) -> ModelSpec | None:
    """The model in a single file of that identity; None when files of its family or format are not read."""
    from pipelines.load import single_file

    pipeline = pipeline_of(identity.family, "" if identity.variant == "refiner" else identity.variant)
    readable = bool(single_file.architecture(identity, {})) and path.suffix.lower() != ".gguf"
    if identity.sort not in ("checkpoint", "diffusion model") or not pipeline or not readable:
        return None
    row, family = PIPELINES[pipeline], FAMILIES[identity.family]
    pixels = native_size(identity)
    return ModelSpec(
        key=key,
        title=identity.title or key.rpartition("/")[2],
        summary=f"{identity.family}, {amount(identity.bytes)}",
        path=path,
        family=identity.family,
        kind=row.kind,
        pipeline=pipeline,
        variant=identity.variant,
        text_width=identity.text_width,
        bytes=identity.bytes,
        defaults={
            **family.defaults,
            "width": pixels,
            "height": pixels,
            **few_steps.named(f"{key} {identity.title}", identity.family),
        },
        needs=needed(identity),
        width=identity.width if "transformer" in identity.holds else None,
        prediction=identity.prediction,
        dtype=identity.dtype,
        identity=identity,
        records=records,
    )


def native_size(identity: Identity) -> int:
    """Pixels a side that the models of a family were trained at: SD 2's that tell v 768, see FAMILIES."""
    if identity.family == "SD" and identity.text_width == 1024 and identity.prediction == "v_prediction":
        return 768
    return FAMILIES[identity.family].native_size


def _components(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in ("safety_checker",):
            yield path


def _native_size(folder: Path, denoiser: Mapping[str, Any], family: FamilyRow) -> int:
    """Pixels a side that the model was trained on: latent size times the decoder's scale, or, where the
    denoiser does not say, its family's."""
    told = denoiser.get("sample_size")
    sample = told[-1] if isinstance(told, list) and told else told
    if not isinstance(sample, int) or not 1 <= sample <= 4096:
        return family.native_size
    if not family.decoder:
        return sample
    config = read_json(folder / family.decoder / "config.json")
    blocks = config.get("block_out_channels") or config.get("encoder_block_out_channels")
    scale = 2 ** (len(blocks) - 1) if isinstance(blocks, list) and 1 <= len(blocks) <= 8 else 8
    return min(2048, max(64, sample * scale // 8 * 8))


def _settings(told: Any) -> dict[str, Any]:
    """Of what a folder's examples.json suggests, the fields that a request has."""
    known = GenerationRequest.model_fields.keys() - {"model", "prompt", "image", "mask_image", "controls"}
    kept = told.items() if isinstance(told, dict) else ()
    return {name: value for name, value in kept if name in known and isinstance(value, str | int | float)}


def _texts(told: Any) -> tuple[str, ...]:
    return tuple(text for text in told[:100] if isinstance(text, str)) if isinstance(told, list) else ()


def _text_width(denoiser: Mapping[str, Any]) -> int | None:
    names = ("joint_attention_dim", "cross_attention_dim", "caption_channels", "cap_feat_dim")
    told = next((denoiser[name] for name in names if denoiser.get(name)), None)
    if isinstance(told, list):
        told = told[0] if told else None
    return told if isinstance(told, int) else None


def _token_width(denoiser: Mapping[str, Any]) -> int | None:
    """Channels of a transformer's tokens."""
    heads, each = denoiser.get("num_attention_heads"), denoiser.get("attention_head_dim")
    if "block_out_channels" in denoiser or not isinstance(heads, int) or not isinstance(each, int):
        return None
    return heads * each
