"""Values that are streamed to the page survive what Gradio's page may do to a stream's first ones."""

import json

from gradio.utils import diff

from ui.components.base import sent


def test_each_value_is_sent_whole() -> None:
    first = sent({"jobs": [{"events": [1, 2]}]})
    second = sent({"jobs": [{"events": [1, 2, 3]}]})
    ((action, path, value),) = diff(first, second)
    assert (action, path) == ("replace", [])
    assert json.loads(value)["jobs"] == [{"events": [1, 2, 3]}]


def test_the_same_value_twice_is_two_values() -> None:
    assert sent({"queue": 1}) != sent({"queue": 1})
