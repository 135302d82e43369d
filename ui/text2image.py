"""The Text tab: a prompt and what belongs to it, on the left of the stage.

It wires the form to the request and back; how things look is in assets/css, what moves is in assets/js.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from pipelines import schedulers
from pipelines.request import InvalidRequest
from pipelines.worker import UnknownJob
from ui import reading
from ui.components.fold import fold
from ui.components.sizes import presets, size_buttons
from ui.components.tokens import token_count
from ui.form import Choice, Form, Number, Seed, Slider, Text, field, filled, sound

if TYPE_CHECKING:
    from pipelines.models import ModelSpec
    from ui.page import Page

TAB = "text"
STORE, SECRET = "darkroom.text", "darkroom"
"""Where the browser keeps the form. The secret is no secret: Gradio scrambles the store with it, and one
that were drawn anew at each start could not be read after a restart."""

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

# Page-side one-liners; what they do happens without asking the server.
JS_COUNT = "(prompt, model) => ({prompt, model})"
JS_PICKED = "(sizes) => [sizes.width, sizes.height]"
JS_SWAP = "(width, height) => [height, width]"
JS_RANDOM = "() => ''"
JS_LAST_SEED = "(seed) => document.getElementById('stage').dataset.seed || seed"
JS_KEEP = """(kept, ...values) => document.body.dataset.restored
    ? Object.fromEntries(%s.map((name, place) => [name, values[place]])) : kept"""
JS_RESTORED = "() => { document.body.dataset.restored = '1' }"
JS_STOP = "() => document.dispatchEvent(new CustomEvent('darkroom:stop', {detail: {keep: %s}}))"
JS_CHOOSE = "() => document.querySelector('.reader input[type=file]').click()"
JS_MORE = "(strength) => ({title: 'More', word: strength > 0 ? `variation ${strength}` : ''})"


def build(page: Page) -> None:
    """Lays the tab out and wires it."""
    form, parts = lay_out(page)
    _wire_runs(page, form, parts)
    _wire_fields(page, form, parts)
    _wire_reading(form, parts)
    _wire_memory(page, form, parts)


def lay_out(page: Page) -> tuple[Form, dict[str, Component]]:
    """The tab's form, and its parts that are no fields, by name."""
    native = native_size(page.spec())
    form: Form = {"model": page.model}
    parts: dict[str, Component] = {}
    with gr.Column(elem_classes=["card"]):
        parts["tokens"] = token_count(page.worker, TAB)
        form["prompt"] = field(
            Text,
            "prompt",
            TAB,
            info=None,
            lines=3,
            max_lines=6,
            autofocus=True,
            placeholder="A red house in the snow at night",
        )
        form["negative_prompt"] = field(
            Text,
            "negative_prompt",
            TAB,
            info=None,
            lines=1,
            max_lines=4,
            placeholder="What you do not want to see",
        )
    with gr.Row(elem_id="actions"):
        parts["generate"] = gr.Button("Generate", variant="primary", elem_id="generate", scale=1)
        parts["stop"] = gr.Button("Stop", elem_id="stop", scale=0)
        parts["keep"] = gr.Button("Stop and keep", elem_id="keep", scale=0)
    with gr.Column(elem_classes=["card"]):
        for name in ("num_inference_steps", "guidance_scale"):
            form[name] = field(Slider, name, TAB)
        with gr.Row():
            form["scheduler"] = field(Choice, "scheduler", TAB, choices=list(schedulers.SAMPLERS))
            form["schedule"] = field(Choice, "schedule", TAB, choices=list(schedulers.SCHEDULES))
    with gr.Column(elem_classes=["card"]):
        with gr.Row(elem_classes=["size"]):
            form["width"] = field(Number, "width", TAB, step=8, min_width=72)
            form["height"] = field(Number, "height", TAB, step=8, min_width=72)
            parts["sizes"] = size_buttons(native, TAB)
        with gr.Row(elem_classes=["seed"]):
            with gr.Column(elem_classes=["seed-box"], min_width=120):
                form["seed"] = field(Seed, "seed", TAB, placeholder="random", max_lines=1)
                with gr.Row(elem_classes=["words"]):
                    parts["random"] = gr.Button("random", elem_id=f"{TAB}-random", elem_classes=["word"])
                    parts["reuse"] = gr.Button("reuse last", elem_id=f"{TAB}-reuse", elem_classes=["word"])
            form["num_images_per_prompt"] = field(Number, "num_images_per_prompt", TAB, min_width=64)
            form["batch_count"] = field(Number, "batch_count", TAB, min_width=64)
    with fold("More", f"{TAB}-more") as parts["more"], gr.Row():
        form["subseed"] = field(Seed, "subseed", TAB, placeholder="random", min_width=120)
        form["subseed_strength"] = field(Slider, "subseed_strength", TAB, min_width=160)
    with fold("Read parameters", f"{TAB}-read"):
        parts["file"] = gr.File(file_types=["image"], elem_classes=["reader"])  # unseen: page.js fills it
        with gr.Row():
            gr.HTML("Drop or paste a picture anywhere, or", elem_classes=["plain"], apply_default_css=False)
            parts["choose"] = gr.Button("choose one", elem_id=f"{TAB}-choose", size="sm", scale=0)
        with gr.Row():
            parts["pasted"] = Text(
                label="Generation text",
                show_label=False,
                placeholder="Or paste generation text",
                lines=1,
                max_lines=3,
                elem_id=f"{TAB}-pasted",
                elem_classes=["field"],
            )
            parts["read"] = gr.Button("Fill the form", elem_id=f"{TAB}-fill", size="sm", scale=0)
    parts["note"] = gr.HTML(elem_id=f"{TAB}-note", elem_classes=["note"], apply_default_css=False)
    return form, parts


def _wire_runs(page: Page, form: Form, parts: Mapping[str, Any]) -> None:
    parts["generate"].click(
        page.generate,
        inputs_kwargs=form,
        outputs=page.stage,
        concurrency_limit=None,
        trigger_mode="multiple",
        **QUIET,
    )
    parts["stop"].click(None, js=JS_STOP % "false", **QUIET)
    parts["keep"].click(None, js=JS_STOP % "true", **QUIET)


def _wire_fields(page: Page, form: Form, parts: Mapping[str, Any]) -> None:
    sizes = [form["width"], form["height"]]
    gr.on(
        [form["prompt"].change, page.model.change],
        None,
        inputs=[form["prompt"], page.model],
        outputs=parts["tokens"],
        js=JS_COUNT,
        **QUIET,
    )
    parts["sizes"].picked(None, inputs=parts["sizes"], outputs=sizes, js=JS_PICKED, **QUIET)
    parts["sizes"].swapped(None, inputs=sizes, outputs=sizes, js=JS_SWAP, **QUIET)
    parts["random"].click(None, outputs=form["seed"], js=JS_RANDOM, **QUIET)
    parts["reuse"].click(None, inputs=form["seed"], outputs=form["seed"], js=JS_LAST_SEED, **QUIET)
    form["subseed_strength"].change(
        None, inputs=form["subseed_strength"], outputs=parts["more"], js=JS_MORE, **QUIET
    )

    def chosen(key: Any) -> dict[Component, Any]:
        return _model_chosen(page, form, parts, key, {})

    def example(event: gr.EventData) -> str:
        return str(getattr(event, "prompt", ""))

    page.model.input(chosen, page.model, [page.stage, parts["sizes"], *form.values()], queue=False, **QUIET)
    # The stage's own events.
    page.stage.example(example, outputs=form["prompt"], queue=False, **QUIET)
    page.stage.reuse(_reuse(page, form), outputs=list(form.values()), queue=False, **QUIET)


def _wire_reading(form: Form, parts: Mapping[str, Any]) -> None:
    def read_file(path: str) -> dict[Component, Any]:
        values, note = reading.from_file(path)
        return {parts["note"]: note, parts["file"]: None, **filled(form, values)}

    def read_text(text: Any) -> dict[Component, Any]:
        values, note = reading.from_text(text)
        return {parts["note"]: note, **filled(form, values)}

    outputs = [parts["note"], parts["file"], *form.values()]
    parts["choose"].click(None, js=JS_CHOOSE, **QUIET)
    parts["file"].upload(read_file, parts["file"], outputs, queue=False, **QUIET)
    parts["read"].click(read_text, parts["pasted"], outputs, queue=False, **QUIET)


def _reuse(page: Page, form: Form) -> Callable[[gr.EventData], dict[Component, Any]]:
    def reuse(event: gr.EventData) -> dict[Component, Any]:
        """The settings of a picture of this session, with that picture's own seed."""
        try:
            request = page.worker.job(str(getattr(event, "job", ""))).request
        except UnknownJob:
            return {}
        index = getattr(event, "picture", 0)
        values = request.model_dump()
        values["seed"] = request.seed_of(index if isinstance(index, int) else 0)
        return filled(form, values)

    return reuse


def _wire_memory(page: Page, form: Form, parts: Mapping[str, Any]) -> None:
    kept = gr.BrowserState({}, storage_key=STORE, secret=SECRET)
    fields = list(form.values())
    keep = JS_KEEP % json.dumps(list(form))
    gr.on([component.change for component in fields], None, [kept, *fields], kept, js=keep, **QUIET)

    def restore(stored: Any) -> dict[Component, Any]:
        """The form as it was left; what was never set is as the model likes it."""
        given = sound(stored)
        try:
            schedulers.check(given.get("scheduler", "DPM++ 2M"), given.get("schedule", "Automatic"))
        except InvalidRequest as problem:
            given = {name: value for name, value in given.items() if name not in problem.problems}
        return _model_chosen(page, form, parts, given.pop("model", None), given)

    load = page.blocks.load(restore, kept, [page.stage, parts["sizes"], *fields], queue=False, **QUIET)
    load.then(None, js=JS_RESTORED, **QUIET)


def _model_chosen(
    page: Page, form: Form, parts: Mapping[str, Any], key: Any, given: Mapping[str, Any]
) -> dict[Component, Any]:
    """A model's own settings, shapes and examples, with what is `given` over its settings."""
    spec = page.spec(key)
    if spec is None:
        return {}
    return {
        page.stage: page.invitation(spec),
        parts["sizes"]: {"presets": presets(native_size(spec))},
        **filled(form, {**sound(spec.defaults), **given, "model": spec.key}),
    }


def native_size(spec: ModelSpec | None) -> int:
    """Pixels a side that the model was trained on."""
    return int(spec.defaults.get("width", 512)) if spec else 512
