"""What other programs write into their pictures, told in the webui's keys.

Nothing found there is trusted: a value of the wrong kind is left out, and no input makes a function raise.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_SAMPLERS = (
    "Euler|Euler a|Heun|LMS|DPM2|DPM2 a|DPM++ 2M|DPM++ 2M SDE|DPM++ 2S|DPM++ 2S a|DPM++ SDE|DPM++ 3M SDE|"
    "UniPC|DDIM|DDPM|PLMS|DEIS|LCM|TCD|Model's own"
).split("|")
_SCHEDULES = "Automatic|Uniform|Karras|Exponential|SGM Uniform|Beta|Simple".split("|")

# By the key that `_key` makes: diffusers' classes, ComfyUI, InvokeAI, NovelAI and the webui's old names.
_OTHER_SAMPLERS = {
    "eulerdiscretescheduler": "Euler",
    "flowmatcheulerdiscretescheduler": "Euler",
    "eulerancestraldiscretescheduler": "Euler a",
    "heundiscretescheduler": "Heun",
    "flowmatchheundiscretescheduler": "Heun",
    "lmsdiscretescheduler": "LMS",
    "kdpm2discretescheduler": "DPM2",
    "dpm 2": "DPM2",
    "kdpm 2": "DPM2",
    "kdpm2ancestraldiscretescheduler": "DPM2 a",
    "dpm 2 a": "DPM2 a",
    "kdpm 2 a": "DPM2 a",
    "dpmsolvermultistepscheduler": "DPM++ 2M",
    "dpmsolversinglestepscheduler": "DPM++ 2S",
    "dpmsolversdescheduler": "DPM++ SDE",
    "unipcmultistepscheduler": "UniPC",
    "uni pc": "UniPC",
    "uni pc bh2": "UniPC",
    "ddimscheduler": "DDIM",
    "ddim v3": "DDIM",
    "ddpmscheduler": "DDPM",
    "pndmscheduler": "PLMS",
    "pndm": "PLMS",
    "deismultistepscheduler": "DEIS",
    "lcmscheduler": "LCM",
    "tcdscheduler": "TCD",
}
_OTHER_SCHEDULES = {
    "normal": "Uniform",
    "native": "Uniform",
    "ddim uniform": "Uniform",
    "k": "Karras",
    "ka": "Karras",
    "exp": "Exponential",
}


def _key(name: str) -> str:
    key = re.sub(r"[\s_-]+", " ", name.casefold()).strip().replace("dpm++", "dpmpp")
    return key.removesuffix(" gpu").replace(" ancestral", " a")


_SAMPLER_OF = {_key(name): name for name in _SAMPLERS} | _OTHER_SAMPLERS
_SCHEDULE_OF = {_key(name): name for name in _SCHEDULES} | _OTHER_SCHEDULES


def sampler(name: str) -> tuple[str, str | None]:
    """(sampler, schedule) in our names: "DPM++ 2M Karras" is ("DPM++ 2M", "Karras").

    The schedule is None where the name tells none; a sampler that is unknown here keeps its name.
    """
    key = _key(name)
    for whole in (key, key.removeprefix("k ")):
        if whole in _SAMPLER_OF:
            return _SAMPLER_OF[whole], None
    words = name.replace("_", " ").split()
    for count in (2, 1):  # "SGM Uniform" before "Uniform"
        found = _SCHEDULE_OF.get(_key(" ".join(words[-count:])))
        rest = " ".join(words[:-count])
        if found and rest:
            base = _key(rest)
            known = _SAMPLER_OF.get(base) or _SAMPLER_OF.get(base.removeprefix("k "))
            if known or len(words[-1]) > 3:  # "k" and "exp" mean a schedule only after a known sampler
                return known or rest, found
    return name.strip(), None


def schedule(name: str) -> str:
    """The schedule in our names; one that is unknown here keeps its name."""
    return _SCHEDULE_OF.get(_key(name), name.strip())


@dataclass(frozen=True)
class Found:
    """What a picture told. parameters: values by the webui's key ("Steps", "CFG scale", "Size", ...)."""

    source: str
    prompt: str | None = None
    negative_prompt: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)


def find(texts: Mapping[str, str]) -> Found | None:
    """The generation data in a picture's texts (by PNG keyword), None where no known program wrote any."""
    told = {name: json_object(text) for name, text in texts.items() if name != "workflow"}
    if invoke := told.get("invokeai_metadata"):
        return _invokeai(invoke)
    if parameters := told.get("parameters"):
        swarm = parameters.get("sui_image_params")
        return _swarmui(swarm) if isinstance(swarm, dict) else _fooocus(parameters)
    if comment := told.get("Comment"):
        return _novelai(comment, texts)
    graph = told.get("prompt") or _api_graph(json_object(texts.get("workflow", "")))
    return _comfyui(graph) if graph else None


def json_object(text: str) -> dict[str, Any]:
    """The JSON object in `text`, empty where there is none."""
    if not text.lstrip().startswith("{"):
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    """A number or a text as the webui writes it, None for anything else."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = int(value) if value.is_integer() else value
    try:
        return str(value)
    except ValueError:  # Python refuses integers of thousands of digits
        return None


def _parameters(values: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, str]:
    """The values that are there, by the webui's key; `keys` maps the webui's key to the program's."""
    found = {key: _text(values.get(theirs)) for key, theirs in keys.items()}
    return {key: value for key, value in found.items() if value is not None}


def _size(width: Any, height: Any) -> dict[str, str]:
    across, down = _text(width), _text(height)
    return {"Size": f"{across}x{down}"} if across and down else {}


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _invokeai(values: Mapping[str, Any]) -> Found:
    keys = {"Steps": "steps", "Sampler": "scheduler", "CFG scale": "cfg_scale", "Seed": "seed"}
    found = _parameters(values, keys) | _size(values.get("width"), values.get("height"))
    model = values.get("model")
    if isinstance(model, dict):
        found |= _parameters({"name": model.get("name") or model.get("model_name")}, {"Model": "name"})
    device = values.get("rand_device")
    if isinstance(device, str):
        found["RNG"] = device.upper()
    prompt, negative = values.get("positive_prompt"), values.get("negative_prompt")
    return Found("InvokeAI", _string(prompt), _string(negative), found)


def _swarmui(values: Mapping[str, Any]) -> Found:
    keys = {"Steps": "steps", "Sampler": "sampler", "Schedule type": "scheduler", "CFG scale": "cfgscale"}
    found = _parameters(values, keys | {"Seed": "seed", "Model": "model"})
    found |= _size(values.get("width"), values.get("height"))
    return Found("SwarmUI", _string(values.get("prompt")), _string(values.get("negativeprompt")), found)


def _fooocus(values: Mapping[str, Any]) -> Found | None:
    if "prompt" not in values and "full_prompt" not in values:
        return None
    keys = {
        "Steps": "steps",
        "Sampler": "sampler",
        "Schedule type": "scheduler",
        "CFG scale": "guidance_scale",
    }
    keys |= {"Seed": "seed", "Model": "base_model", "Model hash": "base_model_hash", "Sharpness": "sharpness"}
    found = _parameters(values, keys | {"Performance": "performance", "Version": "version"})
    numbers = re.findall(r"\d+", str(values.get("resolution", "")))
    if len(numbers) == 2:
        found |= _size(*numbers)
    return Found("Fooocus", _string(values.get("prompt")), _string(values.get("negative_prompt")), found)


def _novelai(values: Mapping[str, Any], texts: Mapping[str, str]) -> Found | None:
    if not {"sampler", "scale", "uc", "v4_prompt"} & values.keys():
        return None  # many programs write a Comment
    keys = {"Steps": "steps", "Sampler": "sampler", "Schedule type": "noise_schedule", "CFG scale": "scale"}
    found = _parameters(values, keys | {"Seed": "seed"}) | _size(values.get("width"), values.get("height"))
    found |= _parameters(texts, {"Model": "Source"})
    prompt = _string(values.get("prompt"))
    if prompt is None:
        prompt = texts.get("Description")
    return Found("NovelAI", prompt, _string(values.get("uc")), found)


# ComfyUI. A picture's `prompt` is the graph that ran: {node id: {"class_type": ..., "inputs": {name: value or
# [node id, output]}}}. Steps and seed may sit several nodes above the sampler that uses them.

_Graph = dict[str, dict[str, Any]]
_CONDITIONING = ("positive", "negative", "conditioning", "guider", "text_embeds")
_LATENT = ("latent_image", "samples", "latent", "latents")
_WORDS = ("text", "text_g", "text_l", "t5xxl", "clip_l", "prompt", "string", "value", "wildcard_text")
_NUMBERS = ("value", "int", "float", "number", "seed", "noise_seed")
# Upwards of these inputs there are other prompts, or none.
_ELSEWHERE = frozenset(("clip", "model", "vae", "image", "control_net", "pixels", "mask", *_LATENT))
# The editor's graph, which some files hold alone, tells widgets by place.
_WIDGETS: dict[str, tuple[str, ...]] = {
    "KSampler": ("seed", "", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": ("", "noise_seed", "", "steps", "cfg", "sampler_name", "scheduler"),
    "CLIPTextEncode": ("text",),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "PrimitiveNode": ("value",),
}


def _api_graph(workflow: Mapping[str, Any]) -> _Graph:
    """The editor's graph in the form of the graph that runs, as far as its nodes are known here."""
    nodes, links = workflow.get("nodes"), workflow.get("links")
    if not isinstance(nodes, list) or not isinstance(links, list):
        return {}
    origin = {str(link[0]): str(link[1]) for link in links if isinstance(link, list) and len(link) > 2}
    graph: _Graph = {}
    for node in nodes:
        if not isinstance(node, dict):
            continue
        kind, values, slots = node.get("type"), node.get("widgets_values"), node.get("inputs")
        names = _WIDGETS.get(kind, ()) if isinstance(kind, str) else ()
        inputs = dict(zip(names, values)) if isinstance(values, list) else {}
        for slot in slots if isinstance(slots, list) else []:
            if isinstance(slot, dict) and (source := origin.get(str(slot.get("link")))):
                inputs[str(slot.get("name"))] = [source, 0]
        graph[str(node.get("id"))] = {"class_type": kind, "inputs": inputs}
    return graph


def _inputs(graph: _Graph, node: str) -> dict[str, Any]:
    found = graph.get(node)
    inputs = found.get("inputs") if isinstance(found, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def _source(value: Any) -> str | None:
    """The node a link comes from, None for a plain value."""
    return str(value[0]) if isinstance(value, list) and len(value) == 2 else None


def _upwards(graph: _Graph, start: str, without: frozenset[str] = frozenset()) -> Iterator[str]:
    """`start` and every node above it, nearest first; inputs named in `without` are not followed."""
    seen, row = {start}, [start]
    while row:
        below, row = row, []
        for node in below:
            yield node
            for name, value in _inputs(graph, node).items():
                source = _source(value)
                if source is not None and source not in seen and name not in without:
                    seen.add(source)
                    row.append(source)


def _value(graph: _Graph, value: Any, keys: Sequence[str]) -> Any:
    """A plain value, followed through at most ten links to the node that holds it under one of `keys`."""
    for _ in range(10):
        source = _source(value)
        if source is None:
            return value
        inputs = _inputs(graph, source)
        value = next((inputs[key] for key in keys if key in inputs), None)
    return None


def _nearest(graph: _Graph, start: str, *keys: str) -> str | None:
    """The first number or text under one of `keys` at or above `start`."""
    for node in _upwards(graph, start, frozenset(("clip", "vae", "image", "control_net"))):
        inputs = _inputs(graph, node)
        for key in keys:
            text = _text(_value(graph, inputs.get(key), (key, *_NUMBERS)))
            if text is not None:
                return text
    return None


def _words(graph: _Graph, value: Any, own: str, other: str) -> str | None:
    """The texts that a conditioning was made of, joined by line breaks.

    own, other: "positive" and "negative" or the reverse; nodes that take both pass each one through.
    """
    start = _source(value)
    if start is None:
        return _string(value)
    texts: dict[str, None] = {}
    for node in _upwards(graph, start, _ELSEWHERE | {other}):
        inputs = _inputs(graph, node)
        for key in (*_WORDS, own):
            text = inputs.get(key)
            if isinstance(text, str) and text:
                texts[text] = None
    return "\n".join(texts) if texts else ""


def _first_sampler(graph: _Graph) -> str | None:
    """The sampler that starts from noise: the one with no other sampler above its latent."""

    def samples(node: str) -> bool:
        inputs, kind = _inputs(graph, node), str(graph[node].get("class_type"))
        return "guider" in inputs or ("positive" in inputs and ("steps" in inputs or "Sampler" in kind))

    samplers = [node for node in graph if isinstance(graph[node], dict) and samples(node)]
    for node in samplers[:50]:  # each looks at the whole graph
        inputs = _inputs(graph, node)
        latents = [source for name in _LATENT if (source := _source(inputs.get(name)))]
        above = {other for latent in latents for other in _upwards(graph, latent)}
        if not above & set(samplers):
            return node
    return samplers[0] if samplers else None


def _comfyui(graph: _Graph) -> Found | None:
    start = _first_sampler(graph)
    if start is None:
        return None
    inputs = dict(_inputs(graph, start))
    guider = _source(inputs.get("guider"))
    conditions = _inputs(graph, guider) if guider else inputs
    positive = next((conditions[name] for name in _CONDITIONING if name in conditions), None)
    found = {
        "Steps": _nearest(graph, start, "steps"),
        "Sampler": _nearest(graph, start, "sampler_name"),
        "Schedule type": _nearest(graph, start, "scheduler"),
        "CFG scale": _nearest(graph, start, "cfg"),
        "Seed": _nearest(graph, start, "seed", "noise_seed"),
        "Model": _nearest(graph, start, "ckpt_name", "unet_name"),
        "Denoising strength": _nearest(graph, start, "denoise"),
    }
    if found["Denoising strength"] == "1":
        del found["Denoising strength"]
    latent = next((source for name in _LATENT if (source := _source(inputs.get(name)))), None)
    size = _size(*(_nearest(graph, latent, name) for name in ("width", "height"))) if latent else {}
    told = {key: value for key, value in found.items() if value is not None} | size
    prompt = _words(graph, positive, "positive", "negative")
    negative = _words(graph, conditions.get("negative"), "negative", "positive")
    return Found("ComfyUI", prompt, negative, told)
