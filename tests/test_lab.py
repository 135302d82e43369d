"""The sampler lab's side of the server: what is asked of the worker, and what is found on record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pipelines
from pipelines.film import perceptual
from pipelines.film.distance import distance
from pipelines.worker import Worker
from ui.explore import lab
from ui.explore.branch import branch

ROWS = [{"sampler": "Euler", "eta": 0}, {"sampler": "DDIM", "eta": 0}, {"sampler": "DDIM", "eta": 1}]
WISH: dict[str, Any] = {
    "rows": ROWS,
    "steps": [2, 4],
    "reference": {"sampler": "Euler", "eta": 0, "steps": 8},
}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with pipelines.open(tmp_path_factory.mktemp("data")) as worker:
        yield worker


@pytest.fixture(scope="module")
def run(worker: Worker) -> str:
    worker.generate("a red house", width=64, height=64, num_inference_steps=3, seed=4)
    return worker.trajectories.list()[0].id


def waited(worker: Worker, cells: list[dict[str, Any]]) -> None:
    for job in [cell["job"] for cell in cells if cell["job"]]:
        for _ in worker.follow(job):
            pass


def test_a_lab_paints_what_is_not_on_record_and_measures_it(worker: Worker, run: str) -> None:
    offered = lab.lab(worker, {"run": run})
    assert {"name": "DDIM", "eta": True, "most": None} in offered["samplers"]
    assert [preset["title"] for preset in offered["presets"]] == ["The usual ones", "DDPM against DDIM"]

    asked = {"run": run, **WISH}
    nothing = lab.begin(worker, {**asked, "only_known": True})["cells"]
    assert len(nothing) == 7 and not any(cell["run"] or cell["job"] for cell in nothing)
    cells = lab.begin(worker, {**asked, "client": "ann"})["cells"]
    assert len({cell["job"] for cell in cells}) == 7
    assert {worker.job(cell["job"]).client for cell in cells} == {"ann"}
    assert lab.begin(worker, {**asked, "only_known": True})["cells"][-1]["run"] == cells[-1]["run"]
    waited(worker, cells)
    requests = [worker.job(cell["job"]).request for cell in cells]
    assert [(one.scheduler, one.eta, one.num_inference_steps) for one in requests] == [
        *((row["sampler"], row["eta"], steps) for row in ROWS for steps in (2, 4)),
        ("Euler", 0, 8),
    ]
    assert {(one.seed, one.prompt, one.width) for one in requests} == {(4, "a red house", 64)}

    again = lab.begin(worker, asked)["cells"]
    assert [cell["run"] for cell in again] == [cell["run"] for cell in cells]
    assert not any(cell["job"] for cell in again)
    ids = [cell["run"] for cell in cells]
    told = lab.measured(worker, {"reference": ids[-1], "runs": ids})
    measured = told["cells"]
    assert "weights are not on this machine" in told["lpips"]
    assert measured[ids[-1]]["same"] and measured[ids[-1]]["psnr"] is None
    assert all(measured[id]["seconds"] > 0 and measured[id]["thumb"] for id in ids)
    two, four = measured[ids[0]]["psnr"], measured[ids[1]]["psnr"]
    assert 5 < two < four  # more steps of the same sampler come closer


def test_a_lab_of_a_branch_or_a_cell_is_the_same_lab(worker: Worker, run: str) -> None:
    other = branch(worker, {"run": run, "step": 1, "changes": {}})
    waited(worker, [other])
    bases = {lab.lab(worker, {"run": id})["base"] for id in (run, other["run"])}
    assert len(bases) == 1


def test_what_cannot_be_compared_is_told(worker: Worker, run: str) -> None:
    asked = {"run": run, **WISH}
    assert "at least one" in lab.begin(worker, {**asked, "rows": []})["problem"]
    assert "at most 36" in lab.begin(worker, {**asked, "steps": list(range(1, 30))})["problem"]
    assert "whole numbers" in lab.begin(worker, {**asked, "steps": [2.5]})["problem"]
    assert "not there any more" in lab.begin(worker, {**asked, "run": "f" * 16 + "-0"})["problem"]
    odd = {**asked, "rows": [{"sampler": "LCM", "eta": 0}, {"sampler": "Fast", "eta": 0}], "steps": [60]}
    cells = lab.begin(worker, {**odd, "only_known": True})["cells"]
    assert "no sampler" not in cells[0]["problem"]
    cells = lab.begin(worker, odd)["cells"]
    assert "at most 50 steps" in cells[0]["problem"] and "no sampler called" in cells[1]["problem"]
    waited(worker, cells)


def test_a_lab_can_be_stopped(worker: Worker, run: str) -> None:
    cells = lab.begin(worker, {"run": run, **WISH, "steps": [30, 31]})["cells"]
    jobs = [cell["job"] for cell in cells if cell["job"]]
    lab.stop(worker, {"jobs": [*jobs, "unknown"]})
    waited(worker, cells)
    endings = {type(worker.job(job).events[-1]).__name__ for job in jobs}
    assert "Cancelled" in endings and endings <= {"Cancelled", "Finished"}


def test_distance_needs_two_pictures_of_a_size(tmp_path: Path) -> None:
    from PIL import Image

    for name, size in (("a", 8), ("b", 8), ("c", 9)):
        Image.new("RGB", (size, size), "white" if name == "a" else "black").save(tmp_path / f"{name}.png")
    assert distance(tmp_path / "a.png", tmp_path / "b.png") == {"psnr": 0.0, "same": False}
    assert distance(tmp_path / "a.png", tmp_path / "a.png") == {"psnr": None, "same": True}
    assert distance(tmp_path / "a.png", tmp_path / "c.png") == {"psnr": None, "same": False}
    assert distance(tmp_path / "a.png", tmp_path / "no.png") == {"psnr": None, "same": False}


def test_lpips_is_the_weighted_distance_of_what_the_network_sees(tmp_path: Path) -> None:
    """On weights drawn at random: the published ones are not part of the program."""
    import numpy as np
    import torch
    from PIL import Image
    from torchvision.models import alexnet

    folder = tmp_path / "lpips"
    folder.mkdir()
    assert perceptual.weights([tmp_path]) is None
    torch.manual_seed(0)
    network = alexnet(weights=None).eval()
    torch.save(network.state_dict(), folder / "alexnet-0.pth")
    widths = (64, 192, 384, 256, 256)
    layers = [torch.rand(1, width, 1, 1) for width in widths]
    torch.save({f"lin{at}.model.1.weight": one for at, one in enumerate(layers)}, folder / "alex.pth")
    files = perceptual.weights([tmp_path / "none", tmp_path])
    assert files is not None
    measure = perceptual.Perceptual(files)

    draw = np.random.default_rng(0)
    one, other = (Image.fromarray(draw.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(2))
    near = Image.blend(one, other, 0.2)
    assert measure(one, one) == 0
    assert 0 < measure(one, near) < measure(one, other) == measure(other, one)

    expected, seen = 0.0, []
    for picture in (one, other):
        pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 255.0
        mean = torch.tensor([0.485, 0.456, 0.406]).reshape(
            1, 3, 1, 1
        )  # ImageNet's, which the shift stands for
        spread = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
        x, found = (pixels - mean) / spread, []
        with torch.no_grad():
            for layer in network.features:
                x = layer(x)
                if isinstance(layer, torch.nn.ReLU):
                    found.append(torch.nn.functional.normalize(x, dim=1))
        seen.append(found)
    for a, b, layer in zip(*seen, layers):
        expected += float(torch.nn.functional.conv2d((a - b) ** 2, layer).mean())
    assert measure(one, other) == pytest.approx(expected, rel=1e-2)
    (folder / "alex.pth").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="LPIPS weights"):
        perceptual.Perceptual(files)
