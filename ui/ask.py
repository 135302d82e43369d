"""What is asked for: the form that all tabs share, on the left of the stage.

It wires the form to the request and back; how things look is in assets/css, what moves is in assets/js.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, get_args

import gradio as gr
from gradio.components import Component

from pipelines import schedulers
from pipelines.request import MOST_CONTROLS, MOST_LORAS, GenerationRequest, InvalidRequest
from pipelines.worker import UnknownJob
from ui import addons, reading, store
from ui.components.fold import fold
from ui.components.guidance import guidance_curve
from ui.components.sizes import presets, size_buttons
from ui.components.tokens import token_count
from ui.control import networks
from ui.form import Choice, Form, Number, Seed, Slider, Switch, Text, field, filled, sound
from ui.tabs import PAINTERS, SIDES, fitted, tab_for

if TYPE_CHECKING:
    from pipelines.library.models import ModelSpec
    from ui.page import Page

TAB = "ask"
STORE, SECRET = "darkroom.form", "darkroom"
"""Where the browser keeps the form. The secret is no secret: Gradio scrambles the store with it, and one
that were drawn anew at each start could not be read after a restart."""

DEFAULT_SAMPLER = GenerationRequest.model_fields["scheduler"].default
PANELS = {"controls": MOST_CONTROLS, "loras": MOST_LORAS}
"""Fields that are panels of rows, each with more than the request takes (on, open), and the most rows."""

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

# Page-side one-liners; what they do happens without asking the server.
JS_COUNT = "(prompt, model) => ({prompt, model})"
JS_MODEL = "(model) => ({model})"
JS_PICKED = "(sizes) => [sizes.width, sizes.height]"
JS_SWAP = "(width, height) => [height, width]"
JS_RANDOM = "() => ''"
JS_LAST_SEED = "(seed) => document.getElementById('stage').dataset.seed || seed"
JS_KEEP = """(kept, ...values) => document.body.dataset.restored
    ? Object.fromEntries(%s.map((name, place) => [name, name === 'controls'
        ? (values[place]?.units ?? []).map(({shown, ...unit}) => unit)
        : name === 'loras' ? values[place]?.loras ?? []
        : name === 'guidance_points' ? values[place]?.points ?? [] : values[place]])) : kept"""
JS_RESTORED = "() => { document.body.dataset.restored = '1' }"
JS_STOP = "() => document.dispatchEvent(new CustomEvent('darkroom:stop', {detail: {keep: %s}}))"
JS_CHOOSE = "() => document.querySelector('.reader input[type=file]').click()"
JS_BLUR = "(blur) => { document.dispatchEvent(new CustomEvent('darkroom:blur', {detail: blur})) }"
JS_FOLLOWS = """(panel) => {
    const count = (panel?.units ?? []).filter((unit) => unit.on).length;
    const words = count === 1 ? 'a control unit' : `${count} control units`;
    return count ? `<p class="follows">Follows ${words}. <a href="#control">Change</a></p>` : '';
}"""
JS_SIZE = "(width, height) => ({width, height})"
JS_LEVEL = "(level) => { document.dispatchEvent(new CustomEvent('darkroom:level', {detail: level})) }"
JS_CURVE = """(curve) => {
    const told = (curve?.points ?? []).map(([, value]) => value);
    const few = told.length > 3 ? [told[0], Math.max(...told), told.at(-1)] : told;
    return {title: 'Guidance over the steps', word: few.join(' → ')};
}"""
JS_ETA = """(sampler, takes, eta) => {
    const there = takes?.eta?.includes(sampler);
    document.getElementById('ask-eta')?.classList.toggle('unsampled', !there);
    return takes?.eta && !there ? 0 : eta;
}"""
"""Eta is in sight, and counts, where the sampler takes it."""
JS_STEPS_RUN = """(strength, steps) => `<p class="runs">runs ${
    Math.min(steps, Math.floor(steps * strength))} of ${steps} steps</p>`"""
JS_MASK = """(blur, area, soft, inverted) => ({title: 'Mask', word: [blur ? `blur ${blur}` : 'hard edge',
    area === 'only masked' ? 'only masked' : '', soft ? 'soft' : '', inverted ? 'inverted' : '']
    .filter(Boolean).join(', ')})"""
JS_MORE = "(strength) => ({title: 'More', word: strength > 0 ? `variation ${strength}` : ''})"


def wire(page: Page, form: Form, parts: dict[str, Component]) -> None:
    """Wires the form once all of the page is laid out."""
    _wire_runs(page, form, parts)
    _wire_fields(page, form, parts)
    _wire_pictures(page, form, parts)
    _wire_follows(page, parts)
    addons.wire(page, form, parts)
    _wire_reading(page, form, parts)
    _wire_memory(page, form, parts)


def lay_out(page: Page) -> tuple[Form, dict[str, Component]]:
    """The form, and its parts that are no fields, by name."""
    native = native_size(page.spec())
    form: Form = {"model": page.model, "controls": page.units}
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
    addons.lay_out_forecast(page, form, parts, TAB)
    parts["follows"] = gr.HTML(elem_id=f"{TAB}-follows", elem_classes=["plain"], apply_default_css=False)
    _lay_out_picture_fields(form, parts)
    with gr.Column(elem_classes=["card"]):
        for name in ("num_inference_steps", "guidance_scale"):
            form[name] = field(Slider, name, TAB)
        with gr.Row():
            form["scheduler"] = field(Choice, "scheduler", TAB, choices=list(schedulers.names()))
            form["schedule"] = field(Choice, "schedule", TAB, choices=list(schedulers.SCHEDULES))
        with gr.Row():
            form["eta"] = field(Slider, "eta", TAB)
    with fold("Guidance over the steps", f"{TAB}-curve") as parts["curve_fold"]:
        form["guidance_points"] = page.guidance = guidance_curve(f"{TAB}-guidance_points")
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
    addons.lay_out_loras(page, form)
    addons.lay_out_model(page, form, parts, TAB)
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


def _lay_out_picture_fields(form: Form, parts: dict[str, Component]) -> None:
    """What only runs that begin with a picture have; the styles show each in its tabs alone."""
    with gr.Column(elem_classes=["card", "in-image", "in-inpaint"]):
        form["strength"] = field(Slider, "strength", TAB)
        form["image_guidance_scale"] = field(Slider, "image_guidance_scale", TAB)
        parts["steps_run"] = gr.HTML(
            elem_id=f"{TAB}-steps-run", elem_classes=["plain"], apply_default_css=False
        )
        with gr.Row():
            form["resize_mode"] = field(Choice, "resize_mode", TAB, choices=_choices("resize_mode"))
            form["masked_content"] = field(
                Choice,
                "masked_content",
                TAB,
                choices=_choices("masked_content"),
                elem_classes=["in-inpaint"],
            )
    with fold("Mask", f"{TAB}-mask", ["in-inpaint"]) as parts["mask_fold"]:
        form["mask_blur"] = field(Slider, "mask_blur", TAB)
        with gr.Row():
            form["inpaint_area"] = field(Choice, "inpaint_area", TAB, choices=_choices("inpaint_area"))
            form["mask_padding"] = field(Number, "mask_padding", TAB, step=4, min_width=72)
        form["soft_inpainting"] = field(Switch, "soft_inpainting", TAB)
        form["mask_inverted"] = field(Switch, "mask_inverted", TAB)


def _choices(name: str) -> list[tuple[str, str]]:
    """A choice of the request's, as words that begin with a capital."""
    values = get_args(GenerationRequest.model_fields[name].annotation)
    return [(value.capitalize(), value) for value in values]


def _wire_runs(page: Page, form: Form, parts: Mapping[str, Any]) -> None:
    parts["generate"].click(
        page.generate,
        inputs_kwargs={**page.shown, **form, "editing": page.queue},
        outputs=page.stage,
        concurrency_limit=None,
        trigger_mode="multiple",
        **QUIET,
    )
    page.batch.run(
        page.run_batch,
        inputs_kwargs={**page.shown, **form, "batch": page.batch},
        outputs=page.batch,
        concurrency_limit=None,
        trigger_mode="multiple",
        **QUIET,
    )
    page.batch.resume(
        page.resume_batch, outputs=page.batch, concurrency_limit=None, trigger_mode="multiple", **QUIET
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

    def chosen(key: Any, sampler: Any) -> dict[Component, Any]:
        return _model_chosen(page, form, parts, key, {}, sampler)

    def example(event: gr.EventData) -> str:
        return str(getattr(event, "prompt", ""))

    outputs = [page.stage, parts["sizes"], parts["takes"], *form.values()]
    page.model.input(chosen, [page.model, form["scheduler"]], outputs, queue=False, **QUIET)
    _wire_shelf(page, form, parts, outputs)
    # The stage's own events.
    page.stage.example(example, outputs=form["prompt"], queue=False, **QUIET)
    outputs = [*form.values(), *(page.shown[name] for name in PAINTERS)]
    page.stage.reuse(_reuse(page, form), outputs=outputs, queue=False, **QUIET)


def _wire_shelf(page: Page, form: Form, parts: Mapping[str, Any], outputs: list[Component]) -> None:
    """What the Models tab changes: the chosen model, and what there is to choose."""

    def chosen(event: gr.EventData, sampler: Any) -> dict[Component, Any]:
        return _model_chosen(page, form, parts, getattr(event, "key", None), {}, sampler)

    def listed(key: Any, *now: Any) -> dict[Component, Any]:
        """The lists anew; a model that is gone gives way to the first there is."""
        spec = page.spec(key)
        if spec is None or spec.key != key:
            return _model_chosen(page, form, parts, key, {})
        follows = addons.chosen(page, form, parts, spec, dict(zip(addons.LISTED, now)))
        return {
            page.model: gr.update(choices=page.choices()),
            page.units: {"networks": networks(page, spec)},
            **follows,
        }

    now = [page.model, *(form[name] for name in addons.LISTED)]
    last: dict[str, Any] = {"queue": False, "trigger_mode": "always_last", **QUIET}
    page.shelf.chosen(chosen, form["scheduler"], outputs, **last)
    page.shelf.listed(listed, now, outputs, **last)
    page.model.change(None, page.model, page.shelf, js=JS_MODEL, **QUIET)


def _wire_pictures(page: Page, form: Form, parts: Mapping[str, Any]) -> None:
    told = [form[name] for name in ("mask_blur", "inpaint_area", "soft_inpainting", "mask_inverted")]
    words = (
        ([form["strength"], form["num_inference_steps"]], parts["steps_run"], JS_STEPS_RUN),
        (told, parts["mask_fold"], JS_MASK),
    )
    for fields, part, js in words:
        gr.on([field.change for field in fields], None, fields, part, js=js, **QUIET)
        page.blocks.load(None, fields, part, js=js, **QUIET)
    form["mask_blur"].change(None, form["mask_blur"], js=JS_BLUR, **QUIET)

    sizes = [form["width"], form["height"]]
    gr.on([size.change for size in sizes], None, sizes, page.units, js=JS_SIZE, **QUIET)

    for told_of in (page.guidance.changed, page.guidance.change):
        told_of(None, page.guidance, parts["curve_fold"], js=JS_CURVE, **QUIET)
    form["guidance_scale"].change(None, form["guidance_scale"], js=JS_LEVEL, **QUIET)
    told = [form["scheduler"], parts["takes"], form["eta"]]
    for changed in (form["scheduler"].change, parts["takes"].change):
        changed(None, told, form["eta"], js=JS_ETA, **QUIET)

    def fit(painted: Any, key: Any) -> dict[Component, Any]:
        """The size that suits a picture; a new border is painted from nothing, so at full strength."""
        if not isinstance(painted, Mapping) or not painted.get("image"):
            return {}
        given = painted.get("extend")
        extend = given if isinstance(given, Mapping) else {}
        left, top, right, bottom = (int(extend.get(side) or 0) for side in SIDES)
        across, down = int(painted["width"]) + left + right, int(painted["height"]) + top + bottom
        width, height = fitted(across, down, native_size(page.spec(key)))
        grown = {"strength": 1.0} if left or top or right or bottom else {}
        return filled(form, {"width": width, "height": height, **grown})

    for name in PAINTERS:
        sizes = [form["width"], form["height"], form["strength"]]
        page.shown[name].shaped(fit, [page.shown[name], page.model], sizes, queue=False, **QUIET)


def _wire_follows(page: Page, parts: Mapping[str, Any]) -> None:
    for told in (page.units.changed, page.units.change):
        told(None, page.units, parts["follows"], js=JS_FOLLOWS, **QUIET)


def _wire_reading(page: Page, form: Form, parts: Mapping[str, Any]) -> None:
    library = page.worker.library

    def read_file(path: str) -> dict[Component, Any]:
        values, note = reading.from_file(path, library)
        return {parts["note"]: note, parts["file"]: None, **filled(form, values)}

    def read_text(text: Any) -> dict[Component, Any]:
        values, note = reading.from_text(text, library)
        return {parts["note"]: note, **filled(form, values)}

    def read_kept(event: gr.EventData) -> dict[Component, Any]:
        """The settings of a picture of the gallery, and the pictures that it was made from."""
        text = getattr(event, "text", "")
        taken = read_text(text)
        if (began := reading.painting(text)) is None:
            return taken
        painter, value = began
        painted = _painting(page, value)
        if painted["image"] is None:
            return {**taken, parts["note"]: taken[parts["note"]] + reading.GONE}
        gone = reading.MASK_GONE if value["mask"] and painted["mask"] is None else ""
        return {**taken, parts["note"]: taken[parts["note"]] + gone, page.shown[painter]: painted}

    outputs = [parts["note"], parts["file"], *form.values()]
    painters = [page.shown[name] for name in PAINTERS]
    page.gallery.reuse(read_kept, outputs=[*outputs, *painters], queue=False, **QUIET)
    parts["choose"].click(None, js=JS_CHOOSE, **QUIET)
    parts["file"].upload(read_file, parts["file"], outputs, queue=False, **QUIET)
    parts["read"].click(read_text, parts["pasted"], outputs, queue=False, **QUIET)


def _reuse(page: Page, form: Form) -> Callable[[gr.EventData], dict[Component, Any]]:
    def reuse(event: gr.EventData) -> dict[Component, Any]:
        """The settings of a picture of this session with its pictures, and with its own seed."""
        try:
            request = page.worker.job(str(getattr(event, "job", ""))).request
        except UnknownJob:
            return {}
        index = getattr(event, "picture", 0)
        values = request.model_dump(exclude={"controls"})
        values["seed"] = request.seed_of(index if isinstance(index, int) else 0)
        painted: dict[Component, Any] = {}
        tab = tab_for(request)
        if tab.painter:
            extend = dict(zip(SIDES, request.extension))
            value = {"image": request.image, "mask": request.mask_image, "extend": extend}
            painted[page.shown[tab.painter]] = _painting(page, value)
        return {**filled(form, {**values, "controls": request.controls}), **painted}

    return reuse


def _painting(page: Page, value: Any) -> dict[str, Any]:
    """A painter's value as it is shown again; pictures that the store no longer has are left out."""
    value = value if isinstance(value, Mapping) else {}
    extend = value.get("extend")
    return {
        "image": store.picture_of(page.worker.store, value.get("image")),
        "mask": store.picture_of(page.worker.store, value.get("mask")),
        "extend": dict(extend) if isinstance(extend, Mapping) else {},
    }


def _wire_memory(page: Page, form: Form, parts: Mapping[str, Any]) -> None:
    kept = gr.BrowserState({}, storage_key=STORE, secret=SECRET)
    painters = {name: page.shown[name] for name in PAINTERS}
    fields = {**form, **painters}
    keep = JS_KEEP % json.dumps(list(fields))
    changes = [one.change for one in form.values() if one not in (page.units, page.loras, page.guidance)]
    gr.on(changes, None, [kept, *fields.values()], kept, js=keep, **QUIET)
    for changed in (
        page.units.changed,
        page.loras.changed,
        page.guidance.changed,
        *(painter.painted for painter in painters.values()),
    ):
        changed(None, [kept, *fields.values()], kept, js=keep, **QUIET)  # gr.on takes no events of gr.HTML

    def restore(stored: Any) -> dict[Component, Any]:
        """The form as it was left; what was never set is as the model likes it."""
        stored = stored if isinstance(stored, Mapping) else {}
        given = sound({name: value for name, value in stored.items() if name not in PANELS})
        try:
            schedulers.check(given.get("scheduler", "DPM++ 2M"), given.get("schedule", "Automatic"))
        except InvalidRequest as problem:
            given = {name: value for name, value in given.items() if name not in problem.problems}
        painted = {part: _painting(page, stored.get(name)) for name, part in painters.items()}
        for name, most in PANELS.items():
            rows = stored.get(name)
            if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows):
                given[name] = rows[:most]
        return {**_model_chosen(page, form, parts, given.pop("model", None), given), **painted}

    outputs = [page.stage, parts["sizes"], parts["takes"], *fields.values()]
    load = page.blocks.load(restore, kept, outputs, queue=False, **QUIET)
    load.then(None, js=JS_RESTORED, **QUIET)


def _model_chosen(
    page: Page,
    form: Form,
    parts: Mapping[str, Any],
    key: Any,
    given: Mapping[str, Any],
    sampler: Any = None,
) -> dict[Component, Any]:
    """A model's own settings, shapes and examples, with what is `given` over its settings. sampler: the one
    that is chosen now, which stays where model and `given` say nothing of it."""
    spec = page.spec(key)
    if spec is None:
        return {}
    units, loras = (
        panel.postprocess(given[name]) if name in given else {}
        for name, panel in (("controls", page.units), ("loras", page.loras))
    )
    follows = addons.chosen(page, form, parts, spec, given)
    return {
        page.stage: page.invitation(spec),
        parts["sizes"]: {"presets": presets(native_size(spec))},
        **filled(form, {**sound(spec.defaults), **given}),
        page.model: gr.update(choices=page.choices(), value=spec.key),
        form["scheduler"]: addons.samplers(
            spec, given.get("scheduler"), spec.defaults.get("scheduler"), sampler, DEFAULT_SAMPLER
        ),
        **follows,
        page.units: {**units, "networks": networks(page, spec)},
        page.loras: {**loras, **follows[page.loras]},
    }


def native_size(spec: ModelSpec | None) -> int:
    """Pixels a side that the model was trained on."""
    return int(spec.defaults.get("width", 512)) if spec else 512
