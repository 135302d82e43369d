"""Every training stage runs, checkpoints and goes on; the optimiser, folded scale and tokenizer are sound."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import CLIPTokenizer

from pipelines.starter import denoiser, reader, text, train, vae
from pipelines.starter.data import draw_shard, held_out_scenes, pictures
from pipelines.starter.learning import Course, Team, learning_rate, optimisers, orthogonal
from pipelines.starter.scenes import imagine, paint
from pipelines.starter.tokenizer import LENGTH, train_tokenizer
from pipelines.starter.words import describe

SMALL_VAE = (8, 8, 16, 16)
SMALL_UNET = (16, 32)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks as small as these gain nothing from more threads, and lose much where other programs run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("starter")
    for number in range(2):
        draw_shard(folder, number, count=12)
    train_tokenizer(folder / "tokenizer", captions=400)
    return folder


def test_orthogonal_brings_singular_values_near_one():
    torch.manual_seed(0)
    for shape in ((24, 60), (60, 24)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)).float())
        assert values.min() > 0.5 and values.max() < 1.4


def test_muon_and_adamw_together_fit_a_small_network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 4))
    x = torch.randn(256, 8)
    wanted = x[:, :4] * x[:, 4:]
    optims = optimisers(network.named_parameters(), 1e-2, lambda name, weight: True)
    losses = []
    for _ in range(150):
        loss = (network(x) - wanted).pow(2).mean()
        losses.append(loss.item())
        network.zero_grad()
        loss.backward()
        for optimiser in optims:
            optimiser.step()
    assert losses[-1] < 0.6 * losses[0]


def test_the_learning_rate_warms_up_holds_and_falls():
    assert learning_rate(1.0, 0, 0.0) < 0.02
    assert learning_rate(1.0, 1000, 0.3) == 1.0
    assert learning_rate(1.0, 1000, 1.0) == pytest.approx(0.02)


def course(folder: Path, steps: int) -> tuple[Course, nn.Linear]:
    torch.manual_seed(0)
    network = nn.Linear(6, 3)
    optims = optimisers(network.named_parameters(), 1e-2, lambda name, weight: True)
    return Course("line", folder, Team(), network, optims, minutes=60, steps=steps, sync_every=4), network


def run(folder: Path, steps: int) -> tuple[Course, torch.Tensor]:
    lesson, network = course(folder, steps)
    while not lesson.over:
        rng = torch.Generator().manual_seed(lesson.step)
        x = torch.randn(16, 6, generator=rng)
        lesson.descend((network(x) - x[:, :3]).pow(2).mean())
    return lesson, network.weight.detach().clone()


def test_an_interrupted_course_ends_where_an_uninterrupted_one_does(tmp_path):
    whole, wanted = run(tmp_path / "whole", 16)
    run(tmp_path / "parts", 8)
    resumed, got = run(tmp_path / "parts", 16)
    assert resumed.step == whole.step == 16
    assert torch.equal(got, wanted)
    for name, value in whole.average.weights.items():
        assert torch.equal(resumed.average.weights[name], value)


def test_a_finished_course_takes_no_further_step(tmp_path):
    run(tmp_path, 8)
    lesson, _ = course(tmp_path, 8)
    assert lesson.over and lesson.step == 8


def test_the_tokenizer_keeps_every_caption(work):
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    rng = np.random.default_rng(2)
    for _ in range(60):
        caption = describe(imagine(rng), rng).text
        ids = tokenizer(caption).input_ids
        assert len(ids) <= LENGTH
        told = tokenizer.decode(ids, skip_special_tokens=True)
        assert told.replace(" ", "") == caption.lower().replace(" ", "")


def test_unknown_words_fall_apart_and_come_back(work):
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    ids = tokenizer("Zyxq żółw 42!").input_ids
    assert tokenizer.unk_token_id not in ids[1:-1]
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == "zyxqżółw42!"


def test_a_prompt_is_padded_and_cut_to_77_tokens(work):
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    assert text.tokens(tokenizer, ["", "a cat", "a " * 200]).shape == (3, LENGTH)


def test_every_stage_trains_checkpoints_and_goes_on(work, tmp_path):
    team = Team()
    text.train_text(work, "cpu", minutes=60, steps=2, batch=4)
    for steps in (10, 20):  # the second call goes on from the first one's checkpoint
        vae.train_vae(team, work, 60, steps, batch=2, compiled=False, channels=SMALL_VAE)
        assert saved(work, "vae")["step"] == steps
    vae.finish_vae(work, SMALL_VAE)
    model = vae.AutoencoderKL.from_pretrained(work / "vae").eval()
    for number, shard in enumerate(pictures(work)):
        vae.encode_shard(model, shard, work, number)
    for steps in (8, 16):
        denoiser.train_unet(team, work, 60, steps, 2, compiled=False, channels=SMALL_UNET)
        assert saved(work, "unet")["step"] == steps
    reader.train_reader(team, work, 60, steps=8, batch=4)
    reader.finish_reader(work, tmp_path / "reader.safetensors")
    read = reader.read_many([pictures(work)[0][0]], tmp_path / "reader.safetensors")
    assert read[0]["time"] in ("day", "sunset", "night", "cloudy")


def saved(work: Path, name: str) -> dict:
    return torch.load(work / "checkpoints" / f"{name}-0.pt", weights_only=True)


def test_a_finished_model_can_be_trained_on(tmp_path):
    train_tokenizer(tmp_path / "model" / "tokenizer", captions=100)
    for part, network in (
        (
            "text_encoder",
            text.new_text_encoder(CLIPTokenizer.from_pretrained(tmp_path / "model" / "tokenizer")),
        ),
        ("vae", vae.new_vae(SMALL_VAE)),
        ("unet", denoiser.new_unet(SMALL_UNET)),
    ):
        network.half().save_pretrained(tmp_path / "model" / part)
    work = tmp_path / "work"
    draw_shard(work, 0, count=4)
    train.start_from(tmp_path / "model", work)
    model = vae.AutoencoderKL.from_pretrained(work / "vae").eval()
    vae.encode_shard(model, pictures(work)[0], work, 0)
    denoiser.train_unet(Team(), work, 60, 8, 2, compiled=False, channels=SMALL_UNET)
    begun = denoiser.UNet2DConditionModel.from_pretrained(work / "unet").state_dict()
    after = saved(work, "unet")["network"]
    drift = max((after[f"unet.{name}"] - value).abs().max() for name, value in begun.items())
    assert 0 < drift < 0.1


def test_folding_the_scale_changes_the_latents_and_not_the_pictures():
    torch.manual_seed(0)
    model = vae.new_vae(SMALL_VAE).eval()
    pixels = np.stack([paint(scene).pixels[:128, :128] for scene in held_out_scenes(6)])
    x = vae.to_tensor(pixels)
    with torch.no_grad():
        before = model.decode(model.encode(x).latent_dist.mean).sample
        vae.fold_scale(model, pixels)
        latents = model.encode(x).latent_dist.mean
        after = model.decode(latents).sample
    assert torch.allclose(before, after, atol=1e-4)
    assert latents.mean((0, 2, 3)).abs().max() < 1e-4
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 1e-4


def test_pixels_survive_the_way_to_a_tensor_and_back():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    assert np.array_equal(vae.to_pixels(vae.to_tensor(pixels)), pixels)


def test_latents_that_are_missing_are_said_so(tmp_path, work):
    with pytest.raises(FileNotFoundError, match="encode"):
        denoiser.Lessons(tmp_path, CLIPTokenizer.from_pretrained(work / "tokenizer"), [0])
    with pytest.raises(FileNotFoundError, match="draw"):
        pictures(tmp_path)


def test_an_unknown_stage_is_refused(capsys):
    with pytest.raises(SystemExit):
        train.main(["paint"])
    assert "unknown stage 'paint'" in capsys.readouterr().err
