"""Models are found in folders and described without reading weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.library.headers import amount
from pipelines.library.models import ASSETS, ModelLibrary, describe
from pipelines.request import InvalidRequest


def test_folders_in_diffusers_layout_are_found(tiny_models: Path) -> None:
    models = {spec.key: spec for spec in ModelLibrary([tiny_models], assets=tiny_models).list()}
    assert set(models) == {"sd", "sd-v", "sdxl"}
    assert (models["sd"].family, models["sdxl"].family) == ("SD", "SDXL")
    assert models["sd"].defaults["width"] == 64
    assert models["sd"].summary == f"SD, {amount(models['sd'].bytes)}"
    assert len(models["sd"].short_hash()) == 10 and models["sd"].short_hash() != models["sdxl"].short_hash()


def test_a_layouts_folder_is_no_part_of_a_key_and_one_model_is_there_once(
    tiny_models: Path, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/mine").symlink_to(tiny_models / "sd")
    library = ModelLibrary([tmp_path, tiny_models], assets=tmp_path)
    assert [spec.key for spec in library.list()] == ["mine", "sd-v", "sdxl"]


def test_an_unknown_model_is_refused_naming_those_there(tiny_models: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"no model called '\.\./x'\. There are sd, sd-v, sdxl"):
        ModelLibrary([tiny_models], assets=tmp_path).find("../x")
    with pytest.raises(InvalidRequest, match="put one into the models folder"):
        ModelLibrary([], assets=tmp_path).find("sd")


def test_a_folder_of_another_kind_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "SomethingElse"}))
    assert describe(tmp_path, "x") is None
    assert describe(tmp_path / "empty", "x") is None


def test_the_embedded_model_comes_first_with_its_examples() -> None:
    first = ModelLibrary().list()[0]
    assert first.key == "starter" and first.folder == ASSETS / "starter"
    assert first.title == "Storybook" and len(first.examples) >= 6
    assert first.defaults["width"] == 256
