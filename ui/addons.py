"""What goes with a model in the form: LoRAs, VAE, text encoder, refiner, memory, and the fields it takes.

Laid out and wired here, beside ui.ask, which has what every run is asked with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

import gradio as gr
from gradio.components import Component

from pipelines import checks, families
from pipelines.library import addons
from pipelines.request import GenerationRequest, InvalidRequest
from ui.components.fold import fold
from ui.components.forecast import forecast_line
from ui.components.loras import loras
from ui.components.takes import taken
from ui.form import Choice, Form, Slider, Switch, field
from ui.tabs import TABS, requested

if TYPE_CHECKING:
    from pipelines.library.models import ModelSpec
    from ui.page import Page

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

SUITED = ("scheduler", "schedule", "num_inference_steps", "guidance_scale")
"""Fields that a LoRA (LCM, Lightning, ...) may want other values of."""
SET = (*SUITED, "guidance_points")
"""Fields that are set for it: a drawn curve would count in the guidance's place, so it is laid aside."""

OWN = "The model's own"
NONE = "None"
MEMORY = {
    "auto": "Automatic",
    "resident": "Everything stays on the device",
    "components": "One component at a time",
    "groups": "Groups of layers",
    "sequential": "Layer by layer (least memory)",
}
QUANTISED = {"none": "As they are", "int8": "8 bits", "int4": "4 bits", "float8": "8 bits, floating"}

_JS_SUIT = """(panel, ...now) => {
    const names = %s;
    const were = Object.fromEntries(names.map((name, place) => [name, now[place]]));
    document.dispatchEvent(new CustomEvent('darkroom:were', {detail: were}));
    const level = 'guidance_scale' in (panel?.suit ?? {}) ? {guidance_points: {points: []}} : {};
    const suit = {...level, ...panel?.suit};
    return names.map((name) => suit[name] ?? were[name]);
}"""
JS_SUIT = _JS_SUIT % json.dumps(list(SET))
JS_PICKED = "(told, ...now) => %s.map((name, place) => told?.pick?.[name] ?? now[place])"
JS_VALUES = "(...values) => ({values: Object.fromEntries(%s.map((name, place) => [name, values[place]]))})"
JS_ADDONS = """(vae, encoder, skip, refiner, memory, quantised, compiled) => ({title: 'Model', word: [
    vae ? 'VAE' : '', encoder ? 'text encoder' : '', skip > 1 ? `clip skip ${skip}` : '',
    refiner ? 'refiner' : '', memory !== 'auto' ? 'memory' : '', quantised !== 'none' ? quantised : '',
    compiled ? 'compiled' : ''].filter(Boolean).join(', ')})"""

LISTED = ("vae", "text_encoder", "refiner")
"""Fields that offer what there is beside the model."""

_PICKED = ("vae", "text_encoder")
_FOLDED = ("vae", "text_encoder", "clip_skip", "refiner", "offload", "quantisation", "compiled")


def lay_out_loras(page: Page, form: Form) -> None:
    """The card of LoRAs."""
    with gr.Column(elem_classes=["card"]):
        form["loras"] = page.loras = loras("ask-loras")


def lay_out_model(page: Page, form: Form, parts: dict[str, Component], tab: str) -> None:
    """The folded fields about the model's parts."""
    spec = page.spec()
    with fold("Model", f"{tab}-addons") as parts["addons"]:
        with gr.Row():
            form["vae"] = field(Choice, "vae", tab, choices=_vaes(page, spec))
            form["text_encoder"] = field(Choice, "text_encoder", tab, choices=_encoders(page, spec))
        form["clip_skip"] = field(Slider, "clip_skip", tab)
        with gr.Row():
            form["refiner"] = field(Choice, "refiner", tab, choices=_refiners(page, spec))
            form["refiner_switch_at"] = field(Slider, "refiner_switch_at", tab, min_width=160)
        with gr.Row():
            form["offload"] = field(Choice, "offload", tab, choices=_named("offload", MEMORY))
            form["quantisation"] = field(
                Choice, "quantisation", tab, choices=_named("quantisation", QUANTISED)
            )
        form["compiled"] = field(Switch, "compiled", tab)


def lay_out_forecast(page: Page, form: Form, parts: dict[str, Component], tab: str) -> None:
    """The line beside Generate, and what tells the page which fields the model takes."""
    parts["takes"] = taken(f"{tab}-takes")
    parts["forecast"] = forecast_line(lambda asked: foresee(page, form, asked), f"{tab}-forecast")


def wire(page: Page, form: Form, parts: Mapping[str, Any]) -> None:
    """Wires what is laid out here."""
    suited = [form[name] for name in SET]
    page.loras.suited(None, [page.loras, *suited], suited, js=JS_SUIT, **QUIET)
    picked = [form[name] for name in _PICKED]
    js = JS_PICKED % json.dumps(list(_PICKED))
    parts["takes"].picked(None, [parts["takes"], *picked], picked, js=js, **QUIET)
    folded = [form[name] for name in _FOLDED]
    gr.on([one.change for one in folded], None, folded, parts["addons"], js=JS_ADDONS, **QUIET)
    page.blocks.load(None, folded, parts["addons"], js=JS_ADDONS, **QUIET)
    values = {**page.shown, **form}
    told = JS_VALUES % json.dumps(list(values))
    plain = [one.change for one in form.values() if one not in (page.units, page.loras, page.guidance)]
    gr.on(plain, None, list(values.values()), parts["forecast"], js=told, **QUIET)
    for changed in (page.units.changed, page.loras.changed, page.guidance.changed, page.tabs.turned):
        changed(None, list(values.values()), parts["forecast"], js=told, **QUIET)


def foresee(page: Page, form: Form, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a run with the page's values, as the browser has them, needs: {"sentence"}, or nothing where they
    make no run yet."""
    shown = {**page.shown, **form}
    try:
        values = {name: shown[name].preprocess(value) for name, value in asked.items() if name in shown}
    except (gr.Error, ValueError, TypeError, LookupError, AttributeError):
        return {}  # what no form holds: Gradio's components do not look before they take
    values["prompt"] = values.get("prompt") or "any"
    try:
        told = page.worker.forecast(GenerationRequest.parse(requested(values)))
    except InvalidRequest:
        return {}
    return {"sentence": told.sentence} if told else {}


def chosen(
    page: Page, form: Form, parts: Mapping[str, Any], spec: ModelSpec, given: Mapping[str, Any]
) -> dict[Component, Any]:
    """What follows the choice of a model: the add-ons that go with it, chosen where `given` names them, and
    the fields that it takes."""
    shown: dict[Component, Any] = {
        page.loras: {**page.loras.still, "available": available(page, spec)},
        parts["takes"]: takes(spec),
    }
    for name, listed in (("vae", _vaes), ("text_encoder", _encoders), ("refiner", _refiners)):
        choices = listed(page, spec)
        there = given.get(name) in [key for _, key in choices]
        shown[form[name]] = gr.update(choices=choices, value=given[name] if there else "")
    return shown


def samplers(spec: ModelSpec, *wanted: Any) -> dict[str, Any]:
    """The update of the list of samplers for a model: the first that is wanted and can lead it is chosen."""
    there = checks.samplers_of(spec)
    return gr.update(choices=list(there), value=next((one for one in wanted if one in there), there[0]))


def takes(spec: ModelSpec) -> dict[str, Any]:
    """The value of `ui.components.takes` for a model."""
    tasks = families.tasks_of(spec)
    needed = {"text": "text2image", "image": "image2image", "inpaint": "inpaint"}
    titles = [tab.title for tab in TABS if needed.get(tab.key) in tasks]
    return {
        "all": list(GenerationRequest.model_fields),
        "fields": sorted(families.fields_of(spec)),
        "eta": list(checks.samplers_with_eta(spec)),
        "tabs": {
            tab.key: f"{spec.title} does not work in this tab, but in {' and '.join(titles)}."
            if tab.key in needed and needed[tab.key] not in tasks
            else ""
            for tab in TABS
        },
    }


def available(page: Page, model: ModelSpec) -> list[dict[str, Any]]:
    """Every LoRA for the panel, those that fit first."""
    rows = []
    for spec in page.worker.library.addons("lora"):
        settings = {name: value for name, value in spec.defaults.items() if name in SUITED}
        rows.append(
            {
                "key": spec.key,
                "title": spec.title,
                "summary": f"{spec.family}, {spec.bytes / 1e6:.1f} MB",
                "words": list(spec.trigger_words),
                "weight": spec.default_weight,
                "settings": settings,
                "told": told(settings),
                "unfit": addons.misfit(spec, model) or "",
            }
        )
    return sorted(rows, key=lambda row: (bool(row["unfit"]), str(row["title"]).lower()))


def told(settings: Mapping[str, Any]) -> str:
    """Settings in words: "LCM, 4 steps, guidance 1"."""
    words = {"num_inference_steps": "{} steps", "guidance_scale": "guidance {:g}"}
    return ", ".join(words.get(name, "{}").format(settings[name]) for name in SUITED if name in settings)


def _fitting(page: Page, sort: str, spec: ModelSpec | None, none: str) -> list[tuple[str, str]]:
    there = page.worker.library.addons(sort) if spec else []
    fit = [one for one in there if spec and not addons.misfit(one, spec)]
    return [(none, ""), *((one.title, one.key) for one in fit)]


def _vaes(page: Page, spec: ModelSpec | None) -> list[tuple[str, str]]:
    return _fitting(page, "vae", spec, OWN)


def _encoders(page: Page, spec: ModelSpec | None) -> list[tuple[str, str]]:
    return _fitting(page, "text encoder", spec, OWN)


def _refiners(page: Page, spec: ModelSpec | None) -> list[tuple[str, str]]:
    own = [one for one in page.models if spec and one.key != spec.key and one.family == spec.family]
    own.sort(key=lambda one: one.variant != "refiner")
    return [(NONE, ""), *((one.title, one.key) for one in own)]


def _named(name: str, words: Mapping[str, str]) -> list[tuple[str, str]]:
    values = get_args(GenerationRequest.model_fields[name].annotation)
    return [(words[value], value) for value in values]
