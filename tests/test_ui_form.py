"""The form's fields are the request's, and what was typed reaches the request as it was typed."""

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

import ui
from pipelines.library.models import ModelLibrary
from pipelines.pictures import PictureStore
from pipelines.request import GenerationRequest, InvalidRequest, limits
from pipelines.worker import Worker
from ui import ask, page, tabs
from ui.form import Choice, Form, Number, Seed, Slider, Text, field, filled, sound
from ui.gallery import Desk
from ui.models import Stock
from ui.queue import QueueView


class SleepingEngine:
    """An engine that never comes up: laying the page out needs none."""

    apart = True

    def start(self, tell: Any) -> None:
        pass

    def run(self, job_id: str, request: GenerationRequest, emit: Any) -> None:
        raise AssertionError("nothing is run here")

    def stop(self, job_id: str, keep: bool) -> None:
        pass

    def call(self, name: str, *arguments: Any) -> Any:
        return None

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> Form:
    with gr.Blocks() as blocks:
        store = PictureStore(tmp_path_factory.mktemp("form") / "inputs")
        worker = Worker(SleepingEngine(), ModelLibrary(), store)
        shared = page.Page(worker, blocks, Stock(worker), QueueView(worker), Desk(worker))
        shared.model = field(Choice, "model", "header", choices=["starter"])
        return ask.lay_out(shared)[0]


def test_fields_are_named_as_in_the_request(form: Form) -> None:
    assert set(form) <= set(GenerationRequest.model_fields)


def test_every_field_of_the_request_has_a_place(form: Form) -> None:
    painted = {"image", "mask_image", *(f"extend_{side}" for side in tabs.SIDES)}
    elsewhere = {"branch"}  # asked for in the Explore tab
    assert set(GenerationRequest.model_fields) <= set(form) | painted | elsewhere


def test_title_and_limits_are_the_requests(form: Form) -> None:
    for name, component in form.items():
        if name in ask.PANELS:  # not one component but a panel
            continue
        described = GenerationRequest.model_fields[name]
        assert component.label == described.title
        if isinstance(component, Slider):
            assert (component.minimum, component.maximum, component.step) == limits(described)


@pytest.mark.parametrize("given", [None, "abc", 7, 1e9, -3, float("nan"), [1], {"a": 1}, True, ""], ids=str)
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Number, "width"),
        (Slider, "guidance_scale"),
        (Text, "prompt"),
        (Choice, "scheduler"),
    ],
)
def test_a_value_is_handed_on_as_it_was_given(kind: Any, name: str, given: Any) -> None:
    options = {"choices": ["Euler"]} if kind is Choice else {}
    assert field(kind, name, "t", **options).preprocess(given) is given


def test_an_empty_seed_means_any() -> None:
    seed = field(Seed, "seed", "t")
    assert [seed.preprocess(given) for given in ("", None, "7", "abc")] == [-1, -1, "7", "abc"]
    assert [seed.postprocess(value) for value in (-1, 0, 7)] == ["", "0", "7"]
    assert GenerationRequest.parse({"prompt": "x", "seed": "7"}).seed == 7


def test_only_what_makes_a_request_is_kept() -> None:
    kept = sound({"prompt": "", "width": 257, "height": 256, "seed": "x", "nonsense": 1, "scheduler": 3})
    assert kept == {"prompt": "", "height": 256}
    assert sound("no mapping") == sound(None) == sound([1]) == {}


def test_what_is_kept_makes_a_request() -> None:
    values = {"width": "99999", "num_inference_steps": 12.0, "guidance_scale": "7.5", "model": ""}
    with pytest.raises(InvalidRequest):
        GenerationRequest.parse({"prompt": "x", **values})
    assert GenerationRequest.parse({"prompt": "x", **sound(values)}).num_inference_steps == 12


def test_filling_names_only_the_fields_that_are_meant(form: Form) -> None:
    update = filled(form, {"seed": -1, "width": 512, "extras": {}})
    assert update == {form["seed"]: "", form["width"]: 512}


def test_gradio_leaves_no_stubs_beside_the_source() -> None:
    assert not list(Path(ui.__file__).parent.rglob("*.pyi"))
