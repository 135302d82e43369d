"""The control units' component: what it takes from the page, and what it shows of a request."""

from typing import Any, get_args

import pytest

from pipelines.controlnet import poses
from pipelines.request import MOST_CONTROLS, ControlUnit, GenerationRequest, InvalidRequest, limits
from ui.components import units
from ui.components.units import Units, control_units

PICTURE, MAP = "a" * 32, "b" * 32


def shown(key: str) -> dict[str, Any]:
    return {"key": key, "width": 40, "height": 30, "url": f"pictures/{key}"}


@pytest.fixture
def panel() -> Units:
    def nothing(asked: dict[str, Any]) -> dict[str, Any]:
        return {"problem": "Nothing here."}

    return control_units(nothing, nothing, nothing, nothing, "units", picture_url=shown)


UNITS = (
    ControlUnit(
        model="edge",
        preprocessor="canny",
        image=PICTURE,
        controlnet_conditioning_scale=1.3,
        control_guidance_start=0.1,
        control_guidance_end=0.6,
        resize_mode="just resize",
        control_mode="prompt",
        low_threshold=20,
        high_threshold=70,
    ),
    ControlUnit.model_validate({"model": "pose", "pose": poses.presets()[0].poses}),
    ControlUnit(model="depth", map_image=MAP),
)


def test_units_that_are_shown_come_back_as_they_were(panel: Units) -> None:
    value = panel.postprocess(UNITS)
    request = GenerationRequest.parse({"prompt": "a house", "controls": panel.preprocess(value)})
    assert request.controls == UNITS
    assert [unit["open"] for unit in value["units"]] == [True, False, False]
    assert value["units"][0]["shown"] == {"image": shown(PICTURE), "map": None}
    assert value["units"][2]["shown"] == {"image": None, "map": shown(MAP)}


def test_fields_of_units_do_as_units_do(panel: Units) -> None:
    given = [unit.model_dump(mode="json") for unit in UNITS]
    assert panel.postprocess(given) == panel.postprocess(UNITS)


def test_what_the_page_remembered_is_shown_again(panel: Units) -> None:
    told = {**UNITS[0].model_dump(mode="json"), "on": False, "open": False, "kind": "edges", "aside": {}}
    (unit,) = panel.postprocess([told])["units"]
    assert (unit["on"], unit["open"], unit["kind"]) == (False, False, "edges")
    assert unit["shown"]["image"] == shown(PICTURE)


def test_only_units_that_are_on_are_handed_on_and_only_their_fields(panel: Units) -> None:
    value = panel.postprocess(UNITS)
    value["units"][1]["on"] = False
    value["units"][0].update(aside={"pose": []}, by="hand", kind="edges")
    handed = panel.preprocess(value)
    assert [unit["model"] for unit in handed] == ["edge", "depth"]
    assert all(set(unit) == set(ControlUnit.model_fields) for unit in handed)


@pytest.mark.parametrize("payload", [None, "", {}, [], {"units": None}, {"networks": []}, {"units": [1]}])
def test_a_value_without_units_has_none(panel: Units, payload: Any) -> None:
    assert panel.preprocess(payload) == []


def test_a_value_that_is_streamed_as_text_is_read(panel: Units) -> None:
    assert panel.preprocess('{"at": 1, "units": [{"on": true, "model": "edge"}]}') == [{"model": "edge"}]


@pytest.mark.parametrize("value", [None, '{"at": 1}'])
def test_nothing_and_streamed_texts_pass_as_they_are(panel: Units, value: Any) -> None:
    assert panel.postprocess(value) == value


def test_a_part_of_a_value_brings_what_never_changes(panel: Units) -> None:
    """The panel may be drawn first when a part has already taken the place of the whole value."""
    shown = panel.postprocess({"networks": []})
    assert shown["networks"] == [] and "units" not in shown
    assert shown["fields"] and shown["preprocessors"] and shown["presets"] and shown["examples"]


def test_a_unit_with_nothing_to_follow_is_told_of_by_the_request(panel: Units) -> None:
    empty = {"on": True, "model": "edge", "image": None, "map_image": None, "pose": []}
    with pytest.raises(InvalidRequest) as told:
        GenerationRequest.parse({"prompt": "x", "controls": panel.preprocess({"units": [empty]})})
    assert told.value.problems["controls"].startswith("Control unit 1: Nothing is shown to it")


def test_the_page_is_told_the_fields_of_a_control_unit(panel: Units) -> None:
    described = panel.value["fields"]
    assert set(described) == set(ControlUnit.model_fields)
    for name, field in ControlUnit.model_fields.items():
        told = described[name]
        assert (told["title"], told["hint"]) == (field.title, field.description)
        assert (told["low"], told["high"], told["step"]) == limits(field)
        assert told["default"] == (
            [] if name in ("pose", "points") else None if field.is_required() else field.default
        )
    assert panel.value["most"] == MOST_CONTROLS


@pytest.mark.parametrize("name", ["resize_mode", "control_mode"])
def test_every_choice_of_a_field_has_its_words(name: str) -> None:
    known = set(get_args(ControlUnit.model_fields[name].annotation))
    choices = units.fields()[name]["choices"]
    assert {choice["value"] for choice in choices} == known
    assert all(choice["title"] for choice in choices)


def test_examples_are_units_that_a_request_takes() -> None:
    for example in units.examples():
        fields = {name: value for name, value in example["unit"].items() if name in ControlUnit.model_fields}
        assert ControlUnit(model="any", **fields).pose


def test_the_page_calls_the_functions_by_their_names() -> None:
    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        return asked

    with_all = control_units(answer, answer, answer, answer, "units")
    without = control_units(answer, answer, answer, None, "units")
    names = [[function.__name__ for function in panel.server_fns] for panel in (with_all, without)]
    assert names == [["keep", "draw_map", "read_pose", "detect_pose"], ["keep", "draw_map", "read_pose"]]
