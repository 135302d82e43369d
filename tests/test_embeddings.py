"""Embeddings by name, clip skip, and prompts that are remembered, against diffusers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import devices, prompts
from pipelines.library.headers import UnreadableFile
from pipelines.library.models import ModelLibrary
from pipelines.lora.adapters import check
from pipelines.lora.embeddings import Vocabulary, hashes, read_embedding, vocabulary_of
from pipelines.manager import PipelineManager
from pipelines.outputs import Outputs
from pipelines.pictures import PictureStore
from pipelines.prompt_memory import PromptMemory
from pipelines.request import InvalidRequest
from pipelines.run import Control
from tests.support import loras as made
from tests.support import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder: tiny models, embeddings in every layout, a LoRA."""
    folder = tiny.save_all(tmp_path_factory.mktemp("models"), ("sd", "sdxl", "sd3"))
    draw = torch.Generator().manual_seed(0)
    one, three = torch.randn(1, 32, generator=draw), torch.randn(3, 32, generator=draw)
    made.save({"emb_params": three}, folder / "embeddings/bad-hands.v2.safetensors")
    made.save({"<toy>": one[0]}, folder / "embeddings/toy.safetensors")
    torch.save({"<toy>": one[0]}, folder / "embeddings/toy-pickle.bin")
    webui = {"string_to_token": {"*": 265}, "string_to_param": {"*": three}, "name": "old", "step": 3}
    torch.save(webui, folder / "embeddings/old.pt")
    pair = {"clip_l": torch.randn(2, 32, generator=draw), "clip_g": torch.randn(2, 32, generator=draw)}
    made.save(pair, folder / "embeddings/xl/pair.safetensors")
    made.save({"emb_params": torch.randn(2, 768)}, folder / "embeddings/large.safetensors")
    broken = three.clone()
    broken[1, 1] = float("inf")
    made.save({"emb_params": broken}, folder / "embeddings/broken.safetensors")
    pipe = tiny.sd()
    made.save(made.as_peft(made.halves(made.components(pipe))), folder / "loras/ink.safetensors")
    return folder


@pytest.fixture(scope="module")
def library(folder: Path) -> ModelLibrary:
    return ModelLibrary([folder])


@pytest.fixture(scope="module")
def sd() -> Any:
    return tiny.sd()


@pytest.fixture(scope="module")
def sdxl() -> Any:
    return tiny.sdxl()


def embeds(
    pipe: Any, text: str, vocabulary: Vocabulary, negative: str = "", **changes: Any
) -> dict[str, Any]:
    return prompts.encode(pipe, text, negative, guidance=True, vocabulary=vocabulary, **changes).kwargs


def plain(pipe: Any, text: str, negative: str = "", **changes: Any) -> list[torch.Tensor]:
    return [
        part
        for part in pipe.encode_prompt(
            prompt=text,
            device="cpu",
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=negative,
            **changes,
        )
        if part is not None
    ]


# ---------------------------------------------------------------------------------------------- embeddings


@pytest.mark.parametrize("name", ["bad-hands.v2", "toy", "toy-pickle", "old"])
def test_an_embedding_is_diffusers_own(name: str, folder: Path, library: ModelLibrary, sd: Any) -> None:
    file = library.addon("embedding", name).path
    own = tiny.sd()
    source: Any = str(file)
    if file.suffix == ".pt":  # diffusers reads this layout from a dictionary too
        source = torch.load(file, weights_only=True)
    own.load_textual_inversion(source, token="zzz")
    want = plain(own, "a house zzz, at night", "fog zzz")
    vocabulary = vocabulary_of(sd, library)
    found = embeds(sd, f"a house {name}, at night", vocabulary, f"fog {name.upper()}")
    assert torch.equal(found["prompt_embeds"], want[0])
    assert torch.equal(found["negative_prompt_embeds"], want[1])
    without = embeds(sd, f"a house {name}, at night", Vocabulary())
    assert not torch.equal(found["prompt_embeds"], without["prompt_embeds"])
    assert hashes(vocabulary.used) == {"TI hashes": f"{name}: {read_embedding(file, name).hash}"}


def test_both_of_sdxls_encoders_get_their_vectors(folder: Path, library: ModelLibrary, sdxl: Any) -> None:
    from safetensors.torch import load_file

    own = tiny.sdxl()
    parts = load_file(folder / "embeddings/xl/pair.safetensors")
    for side, number in (("clip_l", ""), ("clip_g", "_2")):
        own.load_textual_inversion(
            parts[side],
            token="zzz",
            text_encoder=getattr(own, f"text_encoder{number}"),
            tokenizer=getattr(own, f"tokenizer{number}"),
        )
    want = plain(own, "a zzz house", "fog")
    found = embeds(sdxl, "a pair house", vocabulary_of(sdxl, library), "fog")
    assert torch.equal(found["prompt_embeds"], want[0])
    assert torch.equal(found["pooled_prompt_embeds"], want[2])


def test_the_encoder_is_left_as_it_was(library: ModelLibrary, sd: Any) -> None:
    size, table = len(sd.tokenizer), sd.text_encoder.get_input_embeddings().weight.clone()
    before = embeds(sd, "a toy house", Vocabulary())["prompt_embeds"]
    embeds(sd, "a toy house", vocabulary_of(sd, library))
    assert torch.equal(embeds(sd, "a toy house", Vocabulary())["prompt_embeds"], before)
    assert len(sd.tokenizer) == size
    assert torch.equal(sd.text_encoder.get_input_embeddings().weight, table)
    assert not sd.text_encoder.get_input_embeddings()._forward_hooks


@pytest.mark.parametrize("written", ["embedding:toy", "embedding:toy.safetensors", "Embedding:TOY", "TOY"])
def test_ways_to_name_one(written: str, library: ModelLibrary, sd: Any) -> None:
    want = embeds(sd, "a toy house", vocabulary_of(sd, library))["prompt_embeds"]
    found = embeds(sd, f"a {written} house", vocabulary_of(sd, library))["prompt_embeds"]
    assert torch.equal(found, want)


def test_names_within_words_are_words(library: ModelLibrary, sd: Any) -> None:
    vocabulary = vocabulary_of(sd, library)
    found = embeds(sd, "a toys, my_toy, oldest", vocabulary)["prompt_embeds"]
    assert not vocabulary.used
    assert torch.equal(found, embeds(sd, "a toys, my_toy, oldest", Vocabulary())["prompt_embeds"])


def test_weights_breaks_and_long_prompts(library: ModelLibrary, sd: Any) -> None:
    """An embedding stays in one chunk, is weighed like any word, and counts with all its vectors."""
    tokenizer, vocabulary = sd.tokenizer, vocabulary_of(sd, library)
    assert str(prompts.count_tokens("a toy", tokenizer, vocabulary)) == "2/75"
    assert str(prompts.count_tokens("a bad-hands.v2", tokenizer, vocabulary)) == "4/75"
    filling = " ".join("a" * 74)
    (first, second) = prompts.chunk(f"{filling} bad-hands.v2 b", tokenizer, vocabulary=vocabulary)
    assert sum(token < 0 for token in first.ids) == 0
    assert [token < 0 for token in second.ids[1:5]] == [True, True, True, False]
    (weighed, _) = prompts.chunk("(toy:1.5) BREAK b", tokenizer, vocabulary=vocabulary)
    assert weighed.ids[1] < 0 and weighed.weights[1] == 1.5
    plainly = embeds(sd, "toy", vocabulary)["prompt_embeds"]
    stronger = embeds(sd, "(toy:1.5)", vocabulary)["prompt_embeds"]
    want = prompts.emphasised(plainly, [1.0, 1.5, *[1.0] * 75])
    assert torch.equal(stronger, want)


def test_what_is_no_embedding_for_this_model_is_told(library: ModelLibrary, sd: Any) -> None:
    vocabulary = vocabulary_of(sd, library)
    told = prompts.encode(sd, "a large house", "", guidance=True, vocabulary=vocabulary)
    assert "large" in " ".join(told.notes) and "768" in " ".join(told.notes)
    assert torch.equal(
        told.kwargs["prompt_embeds"], embeds(sd, "a large house", Vocabulary())["prompt_embeds"]
    )
    unknown = prompts.encode(sd, "embedding:nobody", "", guidance=True, vocabulary=vocabulary)
    assert "nobody" in " ".join(unknown.notes)
    with pytest.raises(InvalidRequest, match="broken"):
        embeds(sd, "a broken house", vocabulary)


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path) -> None:
    import os
    import pickle

    class Payload:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "made"),)

    (tmp_path / "bad.pt").write_bytes(pickle.dumps({"string_to_param": {"*": Payload()}}))
    with pytest.raises(UnreadableFile):
        read_embedding(tmp_path / "bad.pt", "bad")
    assert not (tmp_path / "made").exists()


# ----------------------------------------------------------------------------------------------- clip skip


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_clip_skip_is_diffusers_one_less(skip: int, sd: Any, sdxl: Any) -> None:
    changes = {} if skip == 1 else {"clip_skip": skip - 1}
    # diffusers 0.42 looks for the level that transformers 5 has no longer.
    sd.text_encoder.__dict__["text_model"] = sd.text_encoder
    try:
        want = plain(sd, "a house", "fog", **changes)
    finally:
        del sd.text_encoder.__dict__["text_model"]
    found = prompts.encode(sd, "a house", "fog", guidance=True, clip_skip=skip).kwargs
    assert torch.equal(found["prompt_embeds"], want[0])
    # Of the negative prompt diffusers takes the last layer whatever is skipped; the webui, and we, do not.
    both = prompts.encode(sd, "fog", "fog", guidance=True, clip_skip=skip).kwargs
    assert torch.equal(both["prompt_embeds"], both["negative_prompt_embeds"])

    wide = plain(sdxl, "a house", "fog", **changes)
    found = prompts.encode(sdxl, "a house", "fog", guidance=True, clip_skip=skip).kwargs
    assert torch.equal(found["prompt_embeds"], wide[0])
    assert torch.equal(found["pooled_prompt_embeds"], wide[2])


def test_clip_skip_has_an_end(library: ModelLibrary) -> None:
    with pytest.raises(InvalidRequest, match="3 layers"):
        check(tiny.request(clip_skip=4), library.find("sd"), library)
    check(tiny.request(clip_skip=3), library.find("sd"), library)


# ------------------------------------------------------------------------------------- remembered prompts


class Counter:
    """Counts how often text encoders run."""

    def __init__(self, pipe: Any):
        self.count = 0
        parts = [part for name, part in pipe.components.items() if name.startswith("text_encoder") and part]
        self._handles = [part.register_forward_pre_hook(self._counted) for part in parts]

    def _counted(self, *args: Any) -> None:
        self.count += 1

    def taken(self) -> int:
        count, self.count = self.count, 0
        return count


@pytest.fixture(scope="module")
def manager(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PipelineManager:
    data = tmp_path_factory.mktemp("data")
    plan = devices.choose("cpu", "float32")
    return PipelineManager(ModelLibrary([folder]), plan, Outputs(data / "out"), PictureStore(data / "in"))


@pytest.mark.parametrize("kind", ["sd", "sdxl", "sd3"])
def test_a_repeated_prompt_runs_no_text_encoder(kind: str, manager: PipelineManager) -> None:
    counter = Counter(manager.load(kind).pipeline)

    def run(**changes: Any) -> tuple[int, np.ndarray]:
        sampler = "Euler"
        asked = tiny.request(model=kind, scheduler=sampler, num_inference_steps=2, **changes)
        finished = manager.run(asked, lambda event: None, Control())
        return counter.taken(), np.asarray(Image.open(finished.pictures[0].path))

    first, picture = run(prompt="a boat", negative_prompt="fog")
    again, same = run(prompt="a boat", negative_prompt="fog", num_images_per_prompt=2)
    assert first > 0 and again == 0
    assert np.array_equal(picture, same)
    assert run(prompt="a boat", negative_prompt="fog", seed=5)[0] == 0
    assert run(prompt="a boat", negative_prompt="rain")[0] > 0
    if kind == "sd3":
        return
    assert run(prompt="a boat", negative_prompt="fog", clip_skip=2)[0] > 0
    assert run(prompt="a boat", negative_prompt="fog")[0] == 0
    if kind == "sd":
        ink = {"name": "ink", "weight": 0.5}
        assert run(prompt="a boat", negative_prompt="fog", loras=[ink])[0] > 0
        assert run(prompt="a boat", negative_prompt="fog", loras=[{**ink, "text_weight": 0.2}])[0] > 0
        half = {**ink, "weight": 0.3, "text_weight": 0.5}
        assert (
            run(prompt="a boat", negative_prompt="fog", loras=[half])[0] == 0
        )  # the same in the text encoder
        assert run(prompt="a boat", negative_prompt="fog", loras=[{**ink, "text_weight": 0}])[0] == 0
        count, after = run(prompt="a boat", negative_prompt="fog")
        assert count == 0 and np.array_equal(after, picture)


def test_what_is_remembered_has_a_bound() -> None:
    memory = PromptMemory(most_bytes=3000)
    makes = []

    def make(number: int) -> torch.Tensor:
        makes.append(number)
        return torch.full((200,), float(number))

    for number in (1, 2, 3, 4, 1):
        assert float(memory.recall(number, lambda number=number: make(number))[0]) == number
        assert memory.bytes <= 3000
    assert makes == [1, 2, 3, 4, 1]
    assert float(memory.recall(4, lambda: make(4))[0]) == 4
    assert makes == [1, 2, 3, 4, 1]
    memory.recall("huge", lambda: torch.zeros(10_000))
    assert memory.bytes <= 3000


def test_a_new_encoder_is_not_taken_for_an_old_one() -> None:
    memory = PromptMemory()
    one, other = tiny.sd(), tiny.sd()
    assert memory.encoders_of(one) != memory.encoders_of(other)
    assert memory.encoders_of(one) == memory.encoders_of(one)


def test_the_live_count_knows_embeddings(manager: PipelineManager) -> None:
    assert str(manager.count_tokens("sd", "a bad-hands.v2 <lora:ink:1>")) == "4/75"
    assert str(manager.count_tokens("sd", "a broken")) == "7/75"  # letters alone: it cannot be read
