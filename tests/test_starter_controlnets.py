"""The storybook's ControlNets and joint reader as they are shipped: small, and pictures follow their maps."""

import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from pipelines.starter import control, evaluate_control, joints
from pipelines.starter.evaluate import generate, load_model
from pipelines.starter.evaluate_control import CONTROLS, edge_scores, pose_scores, tasks, with_control


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """So small a model gains little from more threads, and loses much where other programs run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_what_is_shipped_is_small_and_can_be_read_by_all():
    for kind in control.KINDS:
        folder = CONTROLS / control.FOLDERS[kind]
        assert {path.name for path in folder.iterdir()} == {
            "card.json", "config.json", "diffusion_pytorch_model.safetensors",
        }  # fmt: skip
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 12e6
        assert "/" not in (folder / "config.json").read_text(encoding="utf-8")
        assert json.loads((folder / "card.json").read_text(encoding="utf-8")) == control.CARDS[kind]
    assert joints.WEIGHTS.stat().st_size <= 2e6


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    return load_model(evaluate_control.MODEL)


def test_the_joint_reader_finds_the_joints_of_drawn_figures():
    assert evaluate_control.reader_error(20)["mean error px"] < 3


def paint_tasks(pipe: StableDiffusionPipeline, wanted: list, maps: bool) -> list[Image.Image]:
    texts, seeds = [task.caption.text for task in wanted], [31 + i for i in range(len(wanted))]
    return generate(pipe, texts, seeds, steps=12, maps=[task.map for task in wanted] if maps else None)


def test_figures_take_the_pose(pipe):
    wanted = tasks("pose", 4)
    images = paint_tasks(with_control(pipe, CONTROLS / control.FOLDERS["pose"]), wanted, maps=True)
    found = pose_scores(joints.read_joints(images), np.stack([task.joints for task in wanted]))
    assert found["mean within 10 px"] >= 75, found


def test_pictures_keep_to_the_edges(pipe):
    wanted = tasks("edge", 3)
    led = paint_tasks(with_control(pipe, CONTROLS / control.FOLDERS["edge"]), wanted, maps=True)
    free = paint_tasks(pipe, wanted, maps=False)
    with_edges, without = (edge_scores(images, wanted)[:, 2].mean() for images in (led, free))
    assert with_edges > 1.5 * without, (with_edges, without)
