"""The catalogue: every row fits the program, and what a wrong row would do is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines import schedulers
from pipelines.families import ALL_TAKE, FAMILIES, PIPELINES
from pipelines.fetch import catalogue, fetch_plan, hub
from pipelines.request import GenerationRequest

ROWS = catalogue.read()
GOOD: dict[str, Any] = json.loads(catalogue.CATALOGUE.read_text(encoding="utf8"))["models"][0]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_a_row_fits_the_program(row: catalogue.CatalogueRow) -> None:
    assert row.family in FAMILIES
    assert row.sort == "model" or row.sort in fetch_plan.FOLDERS
    request = GenerationRequest.parse({"prompt": "a house", **row.defaults})
    assert {name: getattr(request, name) for name in row.defaults} == dict(row.defaults)
    address = hub.parse(f"{row.id}/{row.file}" if row.file else row.id)
    assert (address.repo, address.file) == (row.id, row.file)
    assert row.homepage == f"https://huggingface.co/{row.id}"
    assert row.size == 0 or row.size % 8 == 0
    if row.sort == "model" and "width" in row.defaults:
        assert row.defaults["width"] == row.defaults["height"] == row.size
    assert row.memory <= row.bytes


@pytest.mark.parametrize("row", [row for row in ROWS if row.defaults], ids=lambda row: row.key)
def test_settings_go_together_and_count_for_the_model(row: catalogue.CatalogueRow) -> None:
    pipelines = [told for told in PIPELINES.values() if told.family == row.family]
    sampler, schedule = row.defaults["scheduler"], row.defaults.get("schedule", "Automatic")
    schedulers.check(sampler, schedule, pipelines[0].kind)
    assert any(not told.samplers or sampler in told.samplers for told in pipelines)
    assert any(set(row.defaults) <= told.takes | ALL_TAKE for told in pipelines)


def test_what_was_asked_for_is_in_it() -> None:
    families = {row.family for row in ROWS if row.sort == "model"}
    assert families >= {
        "SD",
        "SDXL",
        "SD3",
        "Flux",
        "Flux.2",
        "Z-Image",
        "Qwen-Image",
        "PixArt",
        "Sana",
        "Kandinsky 2.2",
        "Kandinsky 3",
        "DeepFloyd IF",
        "Unconditional",
    }
    assert {row.sort for row in ROWS} >= {"model", "lora", "controlnet", "vae", "adapter"}
    names = [fetch_plan.local_name(row.id, row.file) for row in ROWS if row.file]
    assert len(names) == len(set(names))  # each lies under a name of its own


@pytest.mark.parametrize(
    "wrong",
    [
        {"family": "Cubism"},
        {"defaults": {"stepps": 20}},
        {"defaults": {"num_inference_steps": 2000}},
        {"id": "../../etc"},
        {"sort": "song"},
        {"summary": "Two sentences. That is one too many."},
        {"licence_url": "javascript:alert(1)"},
        {"bytes": -1},
        {"colour": "red"},
        {"joins": {"prior_": "ann/prior"}, "pipeline": "NoSuchPipeline"},
    ],
    ids=str,
)
def test_a_wrong_row_is_refused(wrong: dict[str, Any]) -> None:
    assert catalogue.CatalogueRow(**GOOD)
    with pytest.raises(ValidationError):
        catalogue.CatalogueRow(**{**GOOD, **wrong})


def test_keys_are_unique(tmp_path: Path) -> None:
    path = tmp_path / "models.json"
    path.write_text(json.dumps({"models": [GOOD, GOOD]}))
    with pytest.raises(ValueError, match="more than once"):
        catalogue.read(path)
