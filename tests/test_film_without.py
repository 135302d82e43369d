"""What a run is without one of its words, LoRAs or control units, and from which step on that matters."""

from __future__ import annotations

import pytest

from pipelines.film.without import left_out, without_word, words


@pytest.mark.parametrize(
    ("prompt", "index", "left"),
    [
        ("a red house in the snow", 1, "a house in the snow"),
        ("a red house", 2, "a red"),
        ("house", 0, ""),
        ("night, (red:1.3) house", 1, "night, house"),
        ("night, ((red)), house", 1, "night, house"),
        ("night, (red house:1.3)", 1, "night, (house:1.3)"),
        ("night, (red house:1.3)", 2, "night, (red:1.3)"),
        ("night, red, house", 1, "night, house"),
        ("red, house", 0, "house"),
        ("house [tree] BREAK snow", 2, "house [tree] BREAK"),
        ("<lora:ink:0.8> a tree", 1, "<lora:ink:0.8> a"),
        ("two trees, 2 boats", 2, "two trees, boats"),
    ],
)
def test_a_word_goes_with_the_brackets_that_held_it(prompt: str, index: int, left: str) -> None:
    assert without_word(prompt, index) == left


def test_weights_and_tags_are_no_words() -> None:
    prompt = "a (red:1.3) house <lora:ink:0.8> BREAK [snow]"
    assert [prompt[start:end] for start, end in words(prompt)] == ["a", "red", "house", "snow"]
    with pytest.raises(IndexError):
        without_word(prompt, 4)


def test_what_counts_later_is_left_out_later() -> None:
    request = {
        "prompt": "a house",
        "loras": [{"name": "a"}, {"name": "b", "start": 0.5}, {"name": "c", "start": 0.5, "text_weight": 0}],
        "controls": [{"model": "m", "control_guidance_start": 0.25}, {"model": "n"}],
    }
    assert left_out(request, "word", 0, 20) == ({"prompt": "house"}, 0)
    assert left_out(request, "lora", 1, 20)[1] == 0  # it still counts in the text encoder
    assert left_out(request, "lora", 2, 20) == ({"loras": request["loras"][:2]}, 10)  # type: ignore[index]
    assert left_out(request, "control", 0, 20) == ({"controls": [{"model": "n"}]}, 5)
    assert left_out(request, "control", 1, 20)[1] == 0
    with pytest.raises(IndexError):
        left_out(request, "lora", 3, 20)
    with pytest.raises(KeyError):
        left_out(request, "sampler", 0, 20)
