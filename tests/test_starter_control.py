"""The storybook's ControlNets: every stage runs and goes on, and what measures them is sound."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from transformers import CLIPTokenizer

from pipelines.starter import control, denoiser, evaluate_control, joints, text, train, vae
from pipelines.starter.data import draw_posed_shard, draw_shard, pictures, posed_scenes
from pipelines.starter.evaluate import load_model
from pipelines.starter.evaluate_control import edge_scores, pose_scores, tasks, with_control
from pipelines.starter.scenes import paint
from pipelines.starter.tokenizer import train_tokenizer
from pipelines.starter.words import Caption

STAGES = ("posed", "joints", "control", "export-control")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks as small as these gain nothing from more threads, and lose much where other programs run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# The stages, at tiny size ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with an untrained model, a few drawings and their latents, before any stage of control."""
    folder = tmp_path_factory.mktemp("control")
    torch.manual_seed(0)
    train_tokenizer(folder / "tokenizer", captions=200)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    model = StableDiffusionPipeline(
        vae=vae.new_vae((8, 8, 16, 16)),
        text_encoder=text.new_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=denoiser.new_unet((16, 32)),
        scheduler=DDIMScheduler(**denoiser.NOISE, clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    model.save_pretrained(folder / "model")
    draw_shard(folder, 0, count=6)
    draw_posed_shard(folder, 0, count=6)
    vae.encode_shard(model.vae.eval(), pictures(folder)[0], folder, 0)
    return folder


def run(folder: Path, *stages: str, steps: int) -> None:
    places = {"work": ".", "out": "model", "joints": "joints.safetensors", "controlnets": "controlnets"}
    options = [part for name, place in places.items() for part in (f"--{name}", str(folder / place))]
    settings = f"--device cpu --workers 1 --no-compile --posed-shards 1 --batch 2 --steps {steps}"
    train.main([*stages, *options, *settings.split()])


@pytest.fixture(scope="module")
def trained(work) -> Path:
    """`work` after every stage was interrupted once and went on."""
    for steps in (8, 16):
        run(work, *STAGES, steps=steps)
        for name in ("joints", "control-edge", "control-pose"):
            saved = torch.load(work / "checkpoints" / f"{name}-0.pt", weights_only=True)
            assert saved["step"] == steps, name
    return work


def test_every_stage_runs_from_its_command_and_goes_on(trained):
    assert np.load(trained / "posed" / "latents" / "0000.npy").shape == (6, 4, 32, 32)
    drawn = [paint(scene).pixels for scene in posed_scenes(0, 2)]
    assert joints.read_joints(drawn, trained / "joints.safetensors").shape == (2, 18, 2)


@pytest.mark.parametrize("kind", control.KINDS)
def test_an_exported_controlnet_loads_and_changes_the_picture(trained, kind):
    folder = trained / "controlnets" / control.FOLDERS[kind]
    assert isinstance(ControlNetModel.from_pretrained(folder), ControlNetModel)
    assert json.loads((folder / "card.json").read_text(encoding="utf-8")) == control.CARDS[kind]
    assert "_name_or_path" not in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    led = with_control(load_model(trained / "model"), folder)

    def latents(weight: float) -> torch.Tensor:
        settings = {"num_inference_steps": 2, "guidance_scale": 1.0, "output_type": "latent"}
        white = Image.new("RGB", (256, 256), "white")
        seed = torch.Generator().manual_seed(1)
        return led("a cat", white, controlnet_conditioning_scale=weight, generator=seed, **settings).images

    assert torch.equal(latents(1.0), latents(1.0))
    assert not torch.equal(latents(1.0), latents(0.0))


def test_an_export_replaces_the_one_before(trained):
    folder = trained / "controlnets" / control.FOLDERS["edge"]
    (folder / "stale").touch()
    run(trained, "export-control", steps=16)
    assert not (folder / "stale").exists()
    assert sorted(os.listdir(trained / "controlnets")) == sorted(control.FOLDERS.values())


def test_the_measurement_runs_from_its_command(trained, tmp_path):
    weights = f"--joints {trained / 'joints.safetensors'} --controlnets {trained / 'controlnets'}"
    places = f"--model {trained / 'model'} --json {tmp_path / 'f.json'} --grid {tmp_path / 'f.png'}"
    evaluate_control.main(f"{weights} {places} --pictures 4 --steps 1 --drawn 4 --device cpu".split())
    found = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert 0 <= found["pose"]["with"]["took the pose"] <= 100
    assert found["edge"]["drawings"]["F"] == 1.0
    assert Image.open(tmp_path / "f.png").size == (12 * 256, 2 * 256)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(SystemExit, match="export"):
        train.main(["posed", "--work", str(tmp_path), "--out", str(tmp_path / "none")])
    for kind, stage in (("edge", "encode"), ("pose", "posed")):
        with pytest.raises(FileNotFoundError, match=stage):
            control.ControlLessons(kind, tmp_path, None, [0])
    with pytest.raises(FileNotFoundError, match="joint reader"):
        joints.load_joint_reader(tmp_path / "none.safetensors")


def test_lessons_show_the_map_of_their_own_picture(work):
    lessons = control.ControlLessons("edge", work, CLIPTokenizer.from_pretrained(work / "tokenizer"), [0])
    latents, ids, maps = lessons(3)
    assert latents.shape == (3, 4, 32, 32) and ids.shape == (3, 77) and maps.shape == (3, 3, 256, 256)
    assert maps.min() >= 0 and maps.max() == 1
    edges = lessons.map_of(4)[..., 0] > 0
    busy = np.abs(np.diff(pictures(work)[0][4].astype(int), axis=0)).max(-1)
    assert busy[edges[:-1]].mean() > 4 * busy.mean()


def test_errors_count_more_beside_the_lines_of_a_map():
    maps = torch.zeros(1, 3, 256, 256)
    maps[0, 2, 100, 100] = 1  # in latent 12, 12
    beside = control.beside_lines(maps)
    assert beside.shape == (1, 1, 32, 32) and beside.sum() == 9
    assert beside[0, 0, 11:14, 11:14].all()


# The measures ------------------------------------------------------------------------------------------


def box(left: int) -> np.ndarray:
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[60:180, left : left + 90] = 255
    return pixels


@pytest.mark.parametrize(("moved", "least", "most"), [(0, 1, 1), (2, 1, 1), (12, 0.2, 0.6)])
def test_edges_count_within_two_pixels(moved, least, most):
    asked = Image.fromarray(evaluate_control.canny(box(50))).convert("RGB")
    task = evaluate_control.Task(Caption("", ()), asked, box(50))
    precision, recall, both = edge_scores([Image.fromarray(box(50 + moved))], [task])[0]
    assert least <= both <= most
    assert both == pytest.approx(2 * precision * recall / (precision + recall))


def test_a_picture_without_edges_scores_nothing():
    asked = Image.fromarray(evaluate_control.canny(box(50))).convert("RGB")
    task = evaluate_control.Task(Caption("", ()), asked, box(50))
    assert edge_scores([Image.new("RGB", (256, 256))], [task])[0].tolist() == [0, 0, 0]


def test_a_pose_is_taken_by_sixteen_joints_and_the_average():
    wanted = np.random.default_rng(0).uniform(40, 200, (4, 18, 2))
    read = wanted.copy()
    read[1, :2] += (11, 0)  # two joints off: taken, but not by the strict count
    read[2, :3] += (11, 0)  # three: the average alone is near
    read[3] += (30, 0)
    found = pose_scores(read, wanted)
    assert found["took the pose"] == 50 and found["mean within 10 px"] == 75
    assert found["all joints within 10 px"] == 25
    assert found["joints within 10 px"] == pytest.approx(100 * 49 / 72, abs=0.1)


def test_tasks_are_held_out_and_the_same_each_time():
    for kind in control.KINDS:
        first, again = tasks(kind, 2), tasks(kind, 2)
        assert [t.caption for t in first] == [t.caption for t in again]
        assert all(np.array_equal(a.map, b.map) for a, b in zip(first, again, strict=True))
    assert all(scene.held_out and scene.person for scene in posed_scenes(99, 5, held_out=True))
    assert not any(scene.held_out for scene in posed_scenes(0, 20))
