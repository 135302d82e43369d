"""The safety checker: diffusers' own class at tiny size, in the way of every finished picture."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pipelines
from pipelines import metadata, safety
from pipelines.events import Finished, StepEvent
from pipelines.film.trajectory import UnknownTrajectory
from pipelines.request import GenerationRequest
from pipelines.worker import Worker

SMALL: dict[str, Any] = {"model": "sd", "width": 64, "height": 64, "num_inference_steps": 3}


def checker(folder: Path, threshold: float) -> Path:
    """A real checker of random weights; it flags what is more alike to its concepts than the threshold."""
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    vision = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "intermediate_size": 16}
    vision |= {"num_hidden_layers": 1, "num_attention_heads": 2, "projection_dim": 8}
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, text_config=text, projection_dim=8))
    model.concept_embeds_weights.data.fill_(threshold)
    model.special_care_embeds_weights.data.fill_(2.0)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checker(tmp_path_factory.mktemp("strict"), -2.0)  # all likeness is above it


@pytest.fixture(scope="module")
def lax(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checker(tmp_path_factory.mktemp("lax"), 2.0)


@pytest.fixture(scope="module")
def watched(strict: Path, tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    data = tmp_path_factory.mktemp("data")
    with pipelines.open(data, models=[tiny_models], safety_checker=str(strict)) as worker:
        yield worker


def painted(worker: Worker, **settings: Any) -> tuple[list[Any], Finished]:
    events = list(worker.stream(GenerationRequest.parse({"prompt": "a house", **SMALL, **settings})))
    assert isinstance(events[-1], Finished), events[-1]
    return events, events[-1]


def colours(data: bytes) -> int:
    return len(set(Image.open(BytesIO(data)).convert("RGB").getdata()))


def test_a_flagged_picture_is_kept_black_and_the_person_is_told(watched: Worker) -> None:
    events, ending = painted(watched, seed=1)
    assert safety.HELD_BACK in ending.notes
    (kept,) = ending.pictures
    with Image.open(kept.path) as picture:
        assert not np.asarray(picture).any() and picture.size == (64, 64)
    assert metadata.read_fields(Path(kept.path))["seed"] == 1
    assert not np.asarray(Image.open(BytesIO(kept.preview))).any()
    assert len([one for one in events if isinstance(one, StepEvent)]) == 3


def test_every_picture_of_a_batch_is_looked_at_and_told_of_once(watched: Worker) -> None:
    _, ending = painted(watched, seed=5, batch_count=2)
    assert all(not np.asarray(Image.open(one.path)).any() for one in ending.pictures)
    assert ending.notes.count(safety.HELD_BACK) == 1


def test_nothing_gets_past_it_while_a_run_develops(watched: Worker) -> None:
    events, _ = painted(watched, seed=2)
    previews = [one.preview for one in events if isinstance(one, StepEvent)]
    for preview in previews:
        seen = np.asarray(Image.open(BytesIO(preview)).convert("RGB"), dtype=float)
        assert np.abs(np.diff(seen, axis=0)).max() < 60, "no edge of a picture is in a blur"
    for question in (("film", "any"), ("decode", "any", 0, "x0"), ("compare", "a", "b")):
        with pytest.raises(UnknownTrajectory, match="safety checker is on"):
            watched.engine.call(*question)
    assert watched.trajectories.list() == []


def test_the_header_says_that_it_is_on(watched: Worker) -> None:
    painted(watched, seed=3)
    assert "safety checker" in watched.state.badge
    assert safety.SENTENCE in watched.state.device


def test_a_picture_that_passes_is_the_same_bit_for_bit(lax: Path, tiny_models: Path, tmp_path: Path) -> None:
    kept = []
    for number, asked in enumerate([str(lax), None]):
        with pipelines.open(tmp_path / str(number), models=[tiny_models], safety_checker=asked) as worker:
            _, ending = painted(worker, seed=4)
            assert safety.HELD_BACK not in ending.notes
            kept.append(np.asarray(Image.open(ending.pictures[0].path)))
    assert np.array_equal(*kept) and kept[0].any()


def test_a_large_masked_picture_of_sixteen_bits_is_looked_at_too(strict: Path) -> None:
    deep = np.full((40, 30, 4), 65535, np.uint16)
    black, said = safety.Safety(strict).passed(deep)
    assert black.size == (30, 40) and not np.asarray(black).any() and said == [safety.HELD_BACK]
    same, said = safety.Safety().passed(deep)
    assert same is deep and said == []


def test_it_is_found_in_the_models_folder_or_named(
    strict: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(safety.NoChecker, match="models folder"):
        safety.find("on", [tmp_path])
    with pytest.raises(safety.NoChecker, match="holds no safety checker"):
        safety.find(str(tmp_path), [])
    fetched = tmp_path / "hub/models--CompVis--stable-diffusion-safety-checker/snapshots/abc"
    shutil.copytree(strict, fetched)
    assert safety.find("on", [tmp_path]) == fetched
    shutil.copytree(strict, tmp_path / "safety_checker")
    assert safety.find("on", [tmp_path]) == tmp_path / "safety_checker"
    assert safety.find(str(strict), []) == strict


def test_without_a_checker_that_can_be_read_nothing_is_painted(strict: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(strict, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(safety.NoChecker, match="cannot be read"):
        safety.Safety(broken)
    with pipelines.open(tmp_path / "data", safety_checker=str(broken)) as worker:
        events = list(worker.stream(GenerationRequest.parse({"prompt": "a house"})))
        assert "safety checker" in events[-1].message  # type: ignore[union-attr]
