"""What was fetched is what diffusers loads and what the library lists, whatever the repository's layout."""

# ruff: noqa: F811 (fixtures are imported, and named again by the tests that take them)

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy
import pytest
from safetensors.numpy import save

from pipelines.fetch.catalogue import CatalogueRow
from pipelines.library.models import ModelLibrary
from tests.support import tiny
from tests.support.hub import Repo, TinyHub
from tests.support.hub_fixtures import Make, fetched, hub, make  # noqa: F401

COMMON: dict[str, Any] = {
    "family": "SD",
    "licence": "MIT",
    "licence_url": "https://x.org",
    "homepage": "https://x.org",
    "bytes": 1,
    "memory": 1,
    "size": 64,
    "summary": "A small model for this test.",
}


def files_of(folder: Path, under: str = "") -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {under + path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def weights_of(module: Any) -> dict[str, Any]:
    return dict(module.state_dict())


def same(one: Any, other: Any) -> bool:
    import torch

    left, right = weights_of(one), weights_of(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def library(tmp_path: Path) -> ModelLibrary:
    return ModelLibrary([tmp_path / "models"], assets=tmp_path / "none", hub_cache=tmp_path / "cache")


def test_half_precision_of_a_model_is_fetched_listed_and_loaded(
    hub: TinyHub,
    make: Make,
    tmp_path: Path,
) -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = tiny.sd()
    pipeline.save_pretrained(tmp_path / "full")
    pipeline.to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    hub.repos["ann/small"] = Repo({**files_of(tmp_path / "full"), **files_of(tmp_path / "half")})
    row = CatalogueRow(key="small", id="ann/small", title="Small", sort="model", **COMMON)
    fetcher = make(rows=(row,))
    fetched(fetcher, "small")
    spec = library(tmp_path).find(fetcher.rows()[0]["library_key"])
    assert spec.pipeline == "StableDiffusionPipeline"
    assert all(".fp16." in path.name for path in spec.weights)
    loaded = StableDiffusionPipeline.from_pretrained(
        spec.folder, variant="fp16", dtype=torch.float16, safety_checker=None
    )
    assert same(loaded.unet, pipeline.unet) and same(loaded.text_encoder, pipeline.text_encoder)


def test_a_model_whose_parts_lie_loose_is_put_into_folders(
    hub: TinyHub,
    make: Make,
    tmp_path: Path,
) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    unet = UNet2DModel(
        sample_size=16,
        block_out_channels=(4, 4),
        layers_per_block=1,
        norm_num_groups=2,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        add_attention=False,
    )
    pipeline = DDPMPipeline(unet, DDPMScheduler())
    pipeline.save_pretrained(tmp_path / "saved")
    files = {name.rpartition("/")[2]: body for name, body in files_of(tmp_path / "saved").items()}
    assert {"config.json", "scheduler_config.json"} < set(files)
    hub.repos["ann/cats"] = Repo(files)
    row = CatalogueRow(key="cats", id="ann/cats", title="Cats", sort="model", **COMMON)
    fetcher = make(rows=(row,))
    fetched(fetcher, "cats")
    assert [told["state"] for told in fetcher.rows()] == ["there"]
    spec = library(tmp_path).find(fetcher.rows()[0]["library_key"])
    assert spec.pipeline == "DDPMPipeline"
    assert same(DDPMPipeline.from_pretrained(spec.folder).unet, pipeline.unet)


def test_a_pipeline_spread_over_repositories_becomes_one(hub: TinyHub, make: Make, tmp_path: Path) -> None:
    from diffusers import KandinskyV22CombinedPipeline

    def repository(name: str, parts: dict[str, str]) -> dict[str, bytes]:
        index = {"_class_name": name, **{part: ["diffusers", kind] for part, kind in parts.items()}}
        files = {"model_index.json": json.dumps(index).encode()}
        for part, kind in parts.items():
            if part in ("scheduler", "tokenizer", "image_processor"):
                files[f"{part}/{part}_config.json"] = b"{}"
                continue
            files[f"{part}/config.json"] = json.dumps({"_class_name": kind}).encode()
            files[f"{part}/diffusion_pytorch_model.safetensors"] = save({part: numpy.zeros(400)})
        return files

    own = {"unet": "UNet2DConditionModel", "movq": "VQModel", "scheduler": "DDPMScheduler"}
    prior = {
        "prior": "PriorTransformer",
        "image_encoder": "CLIPVisionModelWithProjection",
        "text_encoder": "CLIPTextModelWithProjection",
        "tokenizer": "CLIPTokenizer",
        "scheduler": "UnCLIPScheduler",
        "image_processor": "CLIPImageProcessor",
    }
    hub.repos["ann/decoder"] = Repo(repository("KandinskyV22Pipeline", own))
    hub.repos["ann/prior"] = Repo(repository("KandinskyV22PriorPipeline", prior), commit="f" * 40)
    told = {"joins": {"prior_": "ann/prior"}, "pipeline": "KandinskyV22CombinedPipeline"}
    row = CatalogueRow(key="both", id="ann/decoder", title="Both", sort="model", **told, **COMMON)
    fetcher = make(rows=(row,))
    fetched(fetcher, "both")
    folder = tmp_path / "models/both"
    index = json.loads((folder / "model_index.json").read_text())
    parts = {name for name, kind in index.items() if isinstance(kind, list)}
    assert parts == set(inspect.signature(KandinskyV22CombinedPipeline.__init__).parameters) - {"self"}
    assert parts == {path.name for path in folder.iterdir() if path.is_dir()}
    assert (folder / "prior_prior/config.json").read_bytes() == b'{"_class_name": "PriorTransformer"}'
    spec = library(tmp_path).find(fetcher.rows()[0]["library_key"])
    assert (spec.key, spec.pipeline) == ("both", "KandinskyV22CombinedPipeline")


@pytest.mark.parametrize(
    ("build", "sort"),
    [(tiny.sd_controlnet, "controlnet"), (tiny.sd_adapter, "adapter")],
    ids=["controlnet", "adapter"],
)
def test_add_ons_are_listed(
    hub: TinyHub,
    make: Make,
    tmp_path: Path,
    build: Any,
    sort: str,
) -> None:
    network = build()
    network.save_pretrained(tmp_path / "saved")
    hub.repos["ann/lines"] = Repo(files_of(tmp_path / "saved"))
    row = CatalogueRow(key="lines", id="ann/lines", title="Lines", sort=sort, **COMMON)
    fetcher = make(rows=(row,))
    assert fetched(fetcher, "lines").sort == sort
    key = fetcher.rows()[0]["library_key"]
    assert [addon.key for addon in library(tmp_path).addons(sort)] == [key]
