"""Parameters out of pictures and texts: what suits fills the form, what does not is named."""

from pathlib import Path

from PIL import Image

from pipelines import metadata
from pipelines.library.models import ModelLibrary
from ui import reading

LIBRARY = ModelLibrary()

TEXT = (
    "a cat\nNegative prompt: a dog\nSteps: 33, Sampler: %s, CFG scale: 4.5, Seed: 77, Size: 512x384, Model: x"
)


def test_a_text_fills_the_form() -> None:
    values, note = reading.from_text(TEXT % "Euler a", LIBRARY)
    assert values["prompt"] == "a cat"
    assert values["negative_prompt"] == "a dog"
    assert (values["num_inference_steps"], values["guidance_scale"], values["seed"]) == (33, 4.5, 77)
    assert (values["width"], values["height"], values["scheduler"]) == (512, 384, "Euler a")
    assert "model" not in values, "reading never switches the model"
    assert 'role="status"' in note


def test_what_the_program_lacks_is_named_and_left_out() -> None:
    values, note = reading.from_text(TEXT % "DPM++ 2S a Karras", LIBRARY)
    assert "scheduler" not in values
    assert "DPM++ 2S a" in note
    values, note = reading.from_text((TEXT % "Euler").replace("512x384", "511x99999"), LIBRARY)
    assert not {"width", "height"} & set(values)
    assert "99999" in note


def test_a_text_without_parameters_says_so() -> None:
    assert reading.from_text("just some words", LIBRARY) == ({}, reading._trouble(reading.NO_TEXT))
    assert reading.from_text(None, LIBRARY)[0] == {}


def test_a_picture_fills_the_form(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    metadata.embed(Image.new("RGB", (64, 64)), file, TEXT % "Euler")
    values, _ = reading.from_file(str(file), LIBRARY)
    assert (values["prompt"], values["seed"]) == ("a cat", 77)


def test_a_picture_without_parameters_and_a_broken_one_get_a_sentence(tmp_path: Path) -> None:
    plain, broken = tmp_path / "plain.png", tmp_path / "broken.png"
    Image.new("RGB", (8, 8)).save(plain)
    broken.write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    assert reading.from_file(str(plain), LIBRARY) == ({}, reading._trouble(reading.NOTHING))
    values, note = reading.from_file(str(broken), LIBRARY)
    assert values == {}
    assert 'role="alert"' in note


def test_words_of_a_foreign_picture_are_shown_as_text() -> None:
    _, note = reading.from_text(
        "a\nSteps: 5, Sampler: <img src=x>, CFG scale: 7, Seed: 1, Size: 64x64", LIBRARY
    )
    assert "<img" not in note
    assert "&lt;img" in note


def test_add_ons_that_are_not_here_are_named(tmp_path: Path) -> None:
    text = "a cat <lora:nobody:0.7>\nSteps: 20, Sampler: Euler, Seed: 1, VAE: lost.safetensors"
    values, note = reading.from_text(text, LIBRARY)
    assert "<lora:nobody:0.7>" in values["prompt"] and not values.get("loras")
    assert "nobody" in note and "lost" in note


def test_what_a_run_began_with_is_told() -> None:
    text = "a cat\nSteps: 20, Sampler: Euler, Seed: 1, Denoising strength: 0.5, Init image hash: abc"
    beyond = {"left": 0, "top": 0, "right": 0, "bottom": 0}
    assert reading.painting(text) == ("sketch", {"image": "abc", "mask": None, "extend": beyond})
    masked = {"image": "abc", "mask": "def", "extend": beyond}
    assert reading.painting(text + ", Mask hash: def") == ("mask", masked)
    grown = reading.painting(text + ", Extend: 64 0 0 8")
    assert grown == ("mask", {"image": "abc", "mask": None, "extend": {**beyond, "left": 64, "bottom": 8}})
    assert reading.painting("a cat\nSteps: 20, Sampler: Euler, Seed: 1") is None
