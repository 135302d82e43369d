"""What goes with a model in the form: what is offered for it, what it takes, and what a run will need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

import pipelines
import pipelines.request
from pipelines.worker import Worker
from ui import addons, ask, control
from ui.form import Choice, Form, field
from ui.gallery import Desk
from ui.models import Stock
from ui.page import Page
from ui.queue import QueueView


@pytest.fixture(scope="module")
def worker(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    data = tmp_path_factory.mktemp("data")
    with pipelines.open(data, models=[tiny_models], device="cpu", dtype="float32") as worker:
        yield worker


@pytest.fixture(scope="module")
def laid_out(worker: Worker) -> tuple[Page, Form]:
    with gr.Blocks() as blocks:
        page = Page(worker, blocks, Stock(worker), QueueView(worker), Desk(worker))
        page.model = field(Choice, "model", "header", choices=["starter"])
        control.build(page)
        return page, ask.lay_out(page)[0]


def as_browser(form: Form, **changes: Any) -> dict[str, Any]:
    """The form's values as the browser holds them."""
    values = {name: getattr(part, "value", None) for name, part in form.items()}
    return {**values, "controls": {"units": []}, "loras": {"loras": []}, "tab": {"tab": "text"}, **changes}


def test_a_run_is_foreseen_from_what_the_browser_holds(laid_out: tuple[Page, Form], worker: Worker) -> None:
    page, form = laid_out
    list(worker.stream(_request(model="sd", width=64, height=64, num_inference_steps=2)))  # the engine is up
    given = as_browser(form, model="sd", width=64, height=64, seed="", prompt="")
    assert addons.foresee(page, form, given)["sentence"].startswith("Needs ")
    assert addons.foresee(page, form, {**given, "width": "x"}) == {}
    assert addons.foresee(page, form, {**given, "tab": {"tab": "image"}}) == {}  # no picture is there yet


def _request(**values: Any) -> Any:
    return pipelines.request.GenerationRequest.parse({"prompt": "a", **values})


def test_the_loras_that_fit_come_first_and_the_others_say_why(worker: Worker, laid_out: Any) -> None:
    rows = addons.available(laid_out[0], worker.library.find("starter"))
    assert {"Storybook in 4 steps"} <= {row["title"] for row in rows if not row["unfit"]}
    few = next(row for row in rows if row["title"] == "Storybook in 4 steps")
    assert few["settings"]["num_inference_steps"] == 4 and "4 steps" in few["told"]
    other = addons.available(laid_out[0], worker.library.find("sdxl"))
    assert all(row["unfit"] for row in other)


def test_fields_leave_the_form_with_what_the_model_takes(worker: Worker) -> None:
    told = addons.takes(worker.library.find("starter"))
    assert {"prompt", "clip_skip", "loras", "strength"} <= set(told["fields"])
    assert "image_guidance_scale" not in told["fields"]
    assert not any(told["tabs"].values())


def test_settings_are_told_in_words() -> None:
    settings = {"guidance_scale": 1.0, "num_inference_steps": 4, "scheduler": "LCM"}
    assert addons.told(settings) == "LCM, 4 steps, guidance 1"
