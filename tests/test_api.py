"""The endpoints for scripts, through gradio_client against the running program with a tiny real model."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

import pipelines
from pipelines import metadata
from pipelines.request import GenerationRequest
from tests.support.served import served

SMALL = {"model": "sd", "width": 64, "height": 64, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def address(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("data")
    with pipelines.open(data, models=[tiny_models]) as worker, served(worker, data) as url:
        yield url


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False)


def paint(client: Client, **settings: Any) -> tuple[list[str], str]:
    return client.predict(**{"prompt": "a red house", **SMALL, **settings}, api_name="/paint")


def test_a_prompt_ends_in_a_kept_file_that_tells_how_it_was_made(client: Client) -> None:
    paths, text = paint(client, seed=7)
    assert [Path(path).suffix for path in paths] == [".png"]
    assert text.startswith("a red house\n")
    found = metadata.read_fields(Path(paths[0]))
    assert (found["prompt"], found["seed"], found["num_inference_steps"]) == ("a red house", 7, 2)


def test_the_same_request_gives_the_same_picture(client: Client) -> None:
    (first,), _ = paint(client, seed=7)
    assert paint(client, seed=7)[0] == [first]  # it was made before
    kept = Path(first).rename(Path(first).with_suffix(".kept.png"))
    (second,), _ = paint(client, seed=7)
    (third,), _ = paint(client, seed=8)
    pixels = [_pixels(path) for path in (kept, second, third)]
    assert pixels[0] == pixels[1] != pixels[2]


def test_every_picture_of_a_batch_is_told(client: Client) -> None:
    paths, _ = paint(client, num_images_per_prompt=2, batch_count=2, seed=1)
    assert [metadata.read_fields(Path(path))["seed"] for path in paths] == [1, 2, 3, 4]


def test_the_endpoint_takes_the_fields_of_the_request(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert list(endpoints) == ["/paint", "/keep_picture"]
    parameters = endpoints["/paint"]["parameters"]
    assert [one["parameter_name"] for one in parameters] == list(GenerationRequest.model_fields)
    assert [one["parameter_name"] for one in parameters if not one["parameter_has_default"]] == ["prompt"]


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"prompt": " "}, "Prompt is empty: write what the picture shows."),
        ({"prompt": "a" * 100_000}, "20,000 characters long; 100,000 were given"),
        ({"prompt": None}, "Prompt must be text; nothing was given."),
        ({"width": 0}, "Width must be between 16 and 2048; 0 was given."),
        ({"width": 7}, "Width must be a multiple of 8; 7 was given, 16 or 24 would do."),
        ({"height": 100_000}, "Height must be between 16 and 2048"),
        ({"width": [64, 64]}, "Width must be a whole number"),
        ({"num_inference_steps": 0}, "Steps must be between 1 and 150; 0 was given."),
        ({"num_inference_steps": 10**6}, "Steps must be between 1 and 150; 1000000 was given."),
        ({"guidance_scale": "nan"}, "must be a number between 1 and 30"),
        ({"seed": "abc"}, "Seed must be a whole number"),
        ({"scheduler": "Nope"}, "There is no sampler called 'Nope'"),
        ({"schedule": "Nope"}, "There is no schedule called 'Nope'"),
        ({"model": "nope"}, "There is no model called 'nope'"),
        ({"scheduler": ["Euler"]}, "Sampler must be text"),
    ],
    ids=str,
)
def test_a_bad_value_gives_a_sentence(client: Client, bad: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AppError) as error:
        paint(client, **bad)
    assert sentence in str(error.value)
    assert paint(client)[0], "and the program goes on"


def test_more_than_a_script_may_have_waiting_is_told_and_what_was_taken_is_painted(
    tiny_models: Path, tmp_path: Path
) -> None:
    with (
        pipelines.open(tmp_path, models=[tiny_models], most_waiting=2) as worker,
        served(worker, tmp_path) as url,
    ):
        worker.queue.pause(True)
        script, came = Client(url, verbose=False), threading.Event()
        with worker.watching_queue(came.set):
            taken = []
            for seed in (1, 2):
                came.clear()
                taken.append(script.submit(prompt="a red house", seed=seed, **SMALL, api_name="/paint"))
                assert came.wait(30)
        with pytest.raises(AppError, match="As many of your jobs wait as one visitor may have"):
            paint(script, seed=3)
        worker.queue.pause(False)
        assert [Path(one.result(60)[0][0]).is_file() for one in taken] == [True, True]


def test_a_picture_is_served_as_the_file_it_is_and_nothing_else_is(client: Client, address: str) -> None:
    (path,), _ = paint(client)
    served_file = httpx.get(f"{address}/gradio_api/file={path}")
    assert served_file.content == Path(path).read_bytes()
    for other in ("/etc/passwd", "launch.py", str(Path(path).parents[3] / "outputs/../secret"), "ui/app.py"):
        assert httpx.get(f"{address}/gradio_api/file={other}").status_code in (403, 404)


def test_the_queue_cannot_be_gone_around(address: str) -> None:
    answer = httpx.post(f"{address}/gradio_api/run/paint", json={"data": ["a red house"]})
    assert answer.status_code == 404


def test_only_this_machines_names_are_answered(address: str) -> None:
    assert httpx.get(address, headers={"host": "example.org"}).status_code == 400
    assert httpx.get(address, headers={"host": "localhost"}).status_code == 200


def test_the_page_may_ask_no_other_machine(address: str) -> None:
    page = httpx.get(address)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "darkroom/css/tokens.css" in page.text


def _pixels(path: str) -> bytes:
    from PIL import Image

    with Image.open(path) as image:
        return image.tobytes()
