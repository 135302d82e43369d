"""Where words act: shares that sum to 1, heard in a step that comes to the very same bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.families import FAMILIES
from pipelines.film import attention, reading
from pipelines.film.attention import shares
from pipelines.schedulers import OWN
from pipelines.turn import CannotLook
from pipelines.worker import Worker
from tests.support import tiny_families
from tests.test_film_decode import SAMPLERS, opened, pixels, png, run
from ui.explore import words

HEARD = {
    **{kind: {} for kind in ("starter", "sdxl", "sd3", "flux", "pixart-sigma")},
    **{
        kind: {"scheduler": "Euler"}
        for kind in ("chroma", "aura-flow", "cogview4", "qwen-image", "flux2-klein")
    },
    **{kind: {"scheduler": "Euler"} for kind in ("z-image", "lumina", "lumina2", "sana")},
    **{kind: {"scheduler": "DDPM"} for kind in ("hunyuan", "kandinsky3", "if")},
    "cogview3": {"scheduler": OWN},
}
"""Tiny models whose families have a row, and a sampler for each."""
TOGETHER = ("starter", "aura-flow", "cogview3", "z-image", "lumina", "sana", "hunyuan", "kandinsky3", "if")
"""Those that ask with the prompt and with the negative prompt in one call."""
KINDS = (*(kind for kind in HEARD if kind != "starter"), "pix2pix", "qwen-edit", "kandinsky22")
PROMPT = "a (red:1.3) house, trees"


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    models = tiny_families.save(tmp_path_factory.mktemp("models"), KINDS)
    with opened(tmp_path_factory.mktemp("data"), models) as worker:
        yield worker


def heard(worker: Worker, id: str, step: int) -> attention.Heard:
    films = worker.engine._manager.films  # type: ignore[attr-defined]
    return attention.listen(films.store, films._look, id, step)


@pytest.mark.parametrize("step", [0, 2])
@pytest.mark.parametrize("kind", HEARD)
def test_shares_sum_to_1_and_the_step_comes_to_the_same_bits(worker: Worker, kind: str, step: int) -> None:
    id = run(
        worker, model=kind, prompt=PROMPT, negative_prompt="fog", **{**SAMPLERS.get(kind, {}), **HEARD[kind]}
    )
    found = heard(worker, id, step)
    assert found.same
    assert found.layers and len({layer.title for layer in found.layers}) == len(found.layers)
    for layer in found.layers:
        assert torch.allclose(layer.shares.sum(-1), torch.ones(layer.shares.shape[:2]), atol=1e-5)
        assert (layer.shares >= 0).all()
    taken = [place for word in found.words for place in word]
    assert all(found.words) and len(set(taken)) == len(taken)
    assert max(taken) < min(layer.shares.shape[2] for layer in found.layers)


@pytest.mark.parametrize("kind", TOGETHER)
def test_the_half_that_hears_the_prompt_is_listened_to(worker: Worker, kind: str) -> None:
    """In the first step the negative prompt has changed nothing yet of what that half sees."""
    asked = {"model": kind, "guidance_scale": 4.0, **HEARD[kind]}
    first, other, another = (
        heard(worker, run(worker, prompt=prompt, negative_prompt=negative, **asked), 0).layers[0].shares
        for prompt, negative in ((PROMPT, "fog"), (PROMPT, "many people"), ("the moon, a cat", "fog"))
    )
    assert torch.allclose(first, other, atol=1e-6)
    assert first.shape != another.shape or not torch.allclose(first, another, atol=1e-3)


@pytest.mark.parametrize("kind", ["starter", "pix2pix"])
def test_runs_that_begin_with_a_picture_are_listened_to_alike(worker: Worker, kind: str) -> None:
    drawn = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    image = worker.store.put(png(drawn)).key
    hole = {"mask_image": worker.store.put(png(drawn // 128 * 255)).key} if kind == "starter" else {}
    found = heard(worker, run(worker, model=kind, image=image, **hole), 1)
    assert found.same and found.layers and all(found.words)


def test_attention_is_what_torch_computes() -> None:
    draw = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, 3, length, 8, generator=draw) for length in (10, 7))
    mask = torch.randn(2, 1, 1, 7, generator=draw)
    value = torch.eye(7).expand(2, 3, 7, 7)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask)[1].mean(0)
    assert torch.allclose(shares(query, key, slice(None), slice(None), mask), expected, atol=1e-6)
    of_text = expected[4:, :3] / expected[4:, :3].sum(-1, keepdim=True)
    assert torch.allclose(shares(query, key, slice(4, None), slice(3), mask), of_text, atol=1e-6)


def test_words_are_found_in_the_chunk_that_reads_them(worker: Worker) -> None:
    id = run(worker, prompt="a red house BREAK snow, <lora:storybook-ink:0.5> the (red) house")
    found = heard(worker, id, 0)
    width = 77
    assert [[place // width for place in word] for word in found.words] == [[0]] * 3 + [[1]] * 4
    assert len(set(found.words)) == 7


@pytest.mark.parametrize("kind", ["pixart-sigma", "lumina", "sana", "if"])
def test_models_that_read_small_letters_are_counted_as_they_read(worker: Worker, kind: str) -> None:
    large, small = (
        heard(worker, run(worker, model=kind, prompt=prompt, negative_prompt="fog", **HEARD[kind]), 0)
        for prompt in (" A RED House", "a red house")
    )
    assert large.words == small.words and all(small.words)


def test_a_word_that_was_cut_off_is_found_nowhere() -> None:
    text = reading.Text([(5, 0), (6, 1), (5, 2)], lambda word: [ord(word) - ord("a")], 77)
    assert reading.places(["f", "x", "g", "f", "f"], [text]) == [(0,), (), (1,), (2,), ()]


def test_words_after_a_space_are_found_by_their_other_tokens() -> None:
    """As byte-pair encodings have it: "a" is 1, " a" is 2, and "n" is 3, " n" is 4."""
    tokens = {"a": 1, " a": 2, "n": 3, " n": 4, " na": 5}
    text = reading.Text(
        [(1, 7), (4, 8), (2, 9), (5, 10)], lambda word: [tokens.get(word, 0)], 12, spaced=True
    )
    assert reading.places(["a", "n", "a", "na"], [text]) == [(7,), (8,), (9,), (10,)]


def test_house_acts_where_the_house_is_and_words_for_the_sky_do_not(worker: Worker) -> None:
    prompt = "a red house in the snow at night"
    id = run(worker, prompt=prompt, width=256, height=256, num_inference_steps=12)
    found = heard(worker, id, 8)
    red, green, blue = pixels(Path(worker.trajectories.get(id).picture)).astype(int).transpose(2, 0, 1)
    walls = ((red > green + 40) & (red > blue + 40)).ravel()
    assert 0.02 < walls.mean() < 0.2

    def likeness(word: str) -> float:
        """Correlation of where a word acts, over all layers, with the house's red walls."""
        places = list(found.words[prompt.split().index(word)])
        fine = [
            torch.nn.functional.interpolate(layer.shares[..., places].sum(-1)[None, None], (256, 256))
            for layer in found.layers
        ]
        return float(np.corrcoef(torch.cat(fine).mean(0).ravel(), walls)[0, 1])

    assert likeness("house") > 0.5
    assert max(likeness("night"), likeness("snow")) < 0.2


def test_the_page_is_told_of_words_and_maps_and_given_the_picture_under_them(worker: Worker) -> None:
    id = run(worker, prompt=PROMPT)
    told = words.words(worker, {"run": id})
    assert [PROMPT[start:end] for start, end in told["words"]] == ["a", "red", "house", "trees"]
    heads = worker.engine.call("attention", id, 1)
    assert [(word["start"], word["end"]) for word in heads["words"]] == [tuple(one) for one in told["words"]]
    assert all(word["read"] for word in heads["words"]) and heads["same"]
    sizes = [len(layer["peaks"]) * layer["rows"] * layer["columns"] for layer in heads["layers"]]
    assert len(heads["maps"]) == sum(sizes) and max(heads["maps"]) == 255
    picture = words.attended(worker, {"run": id, "step": 1})
    assert (picture["width"], picture["height"]) == (64, 64)
    kept = pixels(Path(worker.trajectories.get(id).picture))
    assert np.array_equal(np.asarray(worker.store.load(picture["key"]).rgb()), kept)
    # One that names another file than an output is not believed; what the step predicts is given instead.
    worker.trajectories.change(id, picture=str(worker.store.stored(picture["key"]).shown))
    other = words.attended(worker, {"run": id, "step": 0})
    assert (other["width"], other["height"]) == (64, 64) and other["key"] != picture["key"]


@pytest.mark.parametrize("verb", ["words", "attended"])
@pytest.mark.parametrize("id", ["0" * 16 + "-0", "../../etc", None])
def test_what_is_no_run_is_told_in_a_sentence(worker: Worker, verb: str, id: object) -> None:
    assert words.ANSWERS[verb](worker, {"run": id, "step": 0})["problem"].endswith(".")


def test_families_whose_words_cannot_be_seen_say_so(worker: Worker) -> None:
    id = run(worker, model="kandinsky22", scheduler="DDPM")
    with pytest.raises(CannotLook, match=r"Kandinsky 2\.2"):
        worker.engine.call("attention", id, 0)
    assert "turns the prompt into one picture embedding" in words.words(worker, {"run": id})["problem"]


def test_an_editing_model_that_reads_words_and_picture_in_one_says_so(worker: Worker) -> None:
    drawn = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    id = run(worker, model="qwen-edit", image=worker.store.put(png(drawn)).key, scheduler="Euler")
    with pytest.raises(CannotLook, match="together with the picture that it edits"):
        worker.engine.call("attention", id, 0)


def test_every_family_has_a_row_or_a_reason() -> None:
    for family in FAMILIES:
        assert (family in reading.READINGS) == (reading.unread(family) == "")
    assert set(FAMILIES) - set(reading.READINGS) == {"Kandinsky 2.2", "Unconditional"}
