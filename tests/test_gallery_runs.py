"""Pictures of real runs in the gallery: painted again to the last bit, and known by what they came from."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import pipelines
from pipelines import metadata
from pipelines.events import Picture
from pipelines.film.trajectory import TrajectoryStore
from pipelines.gallery.asked import CannotVerify, request_of
from pipelines.gallery.gallery import Gallery
from pipelines.gallery.lineage import Lineage
from pipelines.gallery.marks import Mark, Verdict
from pipelines.gallery.places import Row
from pipelines.gallery.verifying import Verifier
from pipelines.journal import Journal
from pipelines.pictures import PictureStore, key_of
from pipelines.request import GenerationRequest
from pipelines.worker import Worker
from tests.support.pictures import paint
from tests.support.served import asked_of_page
from ui.app import build
from ui.client import client_of
from ui.gallery import URL, Desk

SMALL = {"width": 64, "height": 64, "num_inference_steps": 3, "scheduler": "Euler a"}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with pipelines.open(tmp_path_factory.mktemp("data"), device="cpu", dtype="float32") as worker:
        yield worker


@pytest.fixture
def gallery(worker: Worker) -> Iterator[Gallery]:
    gallery = Gallery(worker.store.root.parent, worker.store, worker.trajectories)
    yield gallery
    gallery.close()


class Court:
    """Paints, and has pictures painted again."""

    def __init__(self, worker: Worker, gallery: Gallery):
        self.worker, self.gallery = worker, gallery
        self.verifier = Verifier(gallery, worker)

    def paint(self, **settings: Any) -> tuple[Row, ...]:
        done = self.worker.generate("a red house in the snow", **{**SMALL, **settings})
        return tuple(self.row(picture) for picture in done.pictures)

    def row(self, picture: Picture) -> Row:
        self.gallery.look(Path(picture.path))
        row = self.gallery.index.row(key_of(Path(picture.path).read_bytes()))
        assert row is not None
        return row

    def verdict(self, row: Row) -> Verdict:
        job = self.verifier.start(row)
        list(self.worker.follow(job))
        for thread in threads("verify"):
            thread.join(30)
        return self.verifier.verdict(job)


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


@pytest.fixture
def court(worker: Worker, gallery: Gallery) -> Court:
    return Court(worker, gallery)


def files(gallery: Gallery) -> set[str]:
    return {path.name for path in (gallery.data / "outputs").rglob("*.png")}


def test_a_picture_painted_again_is_identical_whichever_witness_is_left(court: Court) -> None:
    first, second = court.paint(seed=7, num_images_per_prompt=2, subseed=3, subseed_strength=0.3)
    there, runs = files(court.gallery), len(court.worker.trajectories.list())
    assert court.verdict(second).state == "identical"  # by its film
    run = Lineage(court.gallery.data, court.gallery.index, court.worker.trajectories).run(second)
    assert run is not None and run.index == 1
    court.worker.trajectories.delete(run.id)
    assert court.verdict(second).state == "identical"  # by the journal
    assert files(court.gallery) == there and len(court.worker.trajectories.list()) == runs - 1
    path = court.gallery.data / first.path
    path.rename(path.with_name("moved.png"))
    court.gallery.look(path.parent)
    moved = court.gallery.index.row(first.id)
    assert moved is not None and moved.name == "moved.png"
    assert court.verdict(moved).state == "identical"


def test_a_text_alone_gives_the_request(court: Court, tmp_path: Path) -> None:
    (row,) = court.paint(seed=8, negative_prompt="fog", guidance_scale=3.5)
    journal = Journal(tmp_path / "empty.sqlite")
    request = request_of(row, None, court.gallery, journal, court.worker.library)
    journal.close()
    done = court.worker.generate(**{**request.model_dump(exclude_defaults=True), "compiled": False})
    assert court.row(done.pictures[0]).id == row.id


def asked_by_text(court: Court, row: Row, folder: Path) -> GenerationRequest:
    """The request of a picture whose film and job nobody knows any more."""
    journal = Journal(folder / "empty.sqlite")
    try:
        return request_of(row, None, court.gallery, journal, court.worker.library)
    finally:
        journal.close()


def test_all_that_changes_pixels_is_told_by_the_text(court: Court, tmp_path: Path) -> None:
    (first,) = court.paint(seed=29)
    key = court.worker.store.put(court.gallery.data / first.path).key
    wanted = GenerationRequest(
        prompt="a red house",
        seed=1,
        image=key,
        image_guidance_scale=2.25,
        text_encoder="another",
        quantisation="int8",
        eta=0.5,
        scheduler="DDIM",
        guidance_points=((0.0, 1 / 3 + 1), (1.0, 7.0)),
        clip_skip=2,
    )
    title = court.worker.models()[0].title
    text = metadata.write(wanted, picture=0, model_title=title, model_hash=None, version="0.1")
    path = court.gallery.data / "outputs/told.png"
    metadata.embed(Image.new("RGB", (16, 16)), path, text)
    court.gallery.look(path)
    row = court.gallery.index.row(key_of(path.read_bytes()))
    assert row is not None
    assert asked_by_text(court, row, tmp_path) == wanted


PERSON = tuple((0.5 + at / 100, 0.1 + at / 20) if at % 5 else None for at in range(18))


def test_a_text_alone_gives_back_what_control_units_followed(court: Court, tmp_path: Path) -> None:
    (first,) = court.paint(seed=30)
    store = court.worker.store
    key = store.put(court.gallery.data / first.path).key
    curve = ((0.0, 1.0), (0.123456789, 0.3), (1.0, 0.5))
    units = [
        {
            "model": "storybook-edge",
            "image": key,
            "preprocessor": "canny",
            "low_threshold": 60,
            "points": curve,
        },
        {"model": "storybook-edge", "image": key, "map_image": key, "control_mode": "prompt"},
        {"model": "storybook-pose", "pose": (PERSON,), "controlnet_conditioning_scale": 0.85},
    ]
    (row,) = court.paint(seed=31, controls=units)
    request = asked_by_text(court, row, tmp_path)
    assert len(request.controls) == 3 and request.controls[2].pose == (PERSON,)
    done = court.worker.generate(**request.model_dump(exclude_defaults=True))
    assert court.row(done.pictures[0]).id == row.id  # every pixel, and every word
    lineage = Lineage(court.gallery.data, court.gallery.index, court.worker.trajectories)
    court.worker.trajectories.delete(lineage.run(row).id)  # type: ignore[union-attr]
    assert court.verdict(row).state == "identical"  # by the journal
    edges = store.put(drawn_over(court.gallery.data / first.path, "white")).key
    (other,) = court.paint(seed=31, controls=[{"model": "storybook-edge", "map_image": edges}])
    (store.root / f"{edges}.png").unlink()
    with pytest.raises(CannotVerify, match="The map of control unit 1 is no longer kept here"):
        court.verifier.start(other)


def test_a_text_alone_gives_back_a_branch_while_the_film_that_it_left_is_there(
    court: Court, tmp_path: Path
) -> None:
    (parent,) = court.paint(seed=32, num_inference_steps=4, strength=0.4)
    store, lineage = (
        court.worker.store,
        Lineage(court.gallery.data, court.gallery.index, court.worker.trajectories),
    )
    run = lineage.run(parent)
    assert run is not None
    predicted = store.put(court.worker.engine.call("decode", run.id, 2, "x0")).key
    painted = store.put(drawn_over(store.root / f"{predicted}.png", "red")).key
    branch = {"trajectory": run.id, "step": 2, "noise_seed": 6, "painted": painted, "painted_on": predicted}
    (row,) = court.paint(seed=32, num_inference_steps=4, strength=0.4, guidance_scale=3, branch=branch)
    request = asked_by_text(court, row, tmp_path)
    done = court.worker.generate(**request.model_dump(exclude_defaults=True))
    assert court.row(done.pictures[0]).id == row.id
    verdict = court.verdict(row)
    assert verdict.state == "identical" and "first 2 steps were taken from the run" in verdict.sentence
    (store.root / f"{painted}.png").unlink()
    with pytest.raises(CannotVerify, match="What was painted where this picture branched off is no longer"):
        court.verifier.start(row)
    store.put(drawn_over(store.root / f"{predicted}.png", "red"))
    for step in (1, 2, 3):
        (court.worker.trajectories.folder(run.id) / "steps" / f"{step:05d}.safetensors").unlink()
    with pytest.raises(CannotVerify, match="after 2 steps, of whose film 1 are there"):
        court.verifier.start(row)
    court.worker.trajectories.delete(run.id)
    with pytest.raises(CannotVerify, match="whose film is gone"):
        court.verifier.start(row)


def test_a_verdict_stays_with_the_file_through_restarts_and_a_lost_index(court: Court) -> None:
    (row,) = court.paint(seed=33)
    data = court.gallery.data
    court.gallery.mark([row.id], star=True)
    told = court.verdict(row)
    assert told.state == "identical" and told.when

    def opened(index: bool) -> tuple[Mark, Mark]:
        if not index:
            for file in data.glob("gallery.sqlite*"):
                file.unlink()
        gallery = Gallery(data, court.worker.store, court.worker.trajectories)
        gallery.look(data / "outputs")
        marks = gallery.marks.of(row.id), gallery.index.marks()[row.id]
        gallery.close()
        return marks

    court.gallery.close()
    assert opened(index=True) == opened(index=False) == (Mark(star=True, verdict=told),) * 2
    (data / "outputs/gallery.json").unlink()
    assert opened(index=True)[0].verdict == told  # the index remembers
    court.gallery.judge(row.id, None)
    assert court.gallery.marks.of(row.id) == Mark(star=True)


def test_what_is_painted_again_while_the_program_ends_is_compared_after_the_next_start(
    tmp_path: Path,
) -> None:
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32"}
    with pipelines.open(tmp_path, **options) as worker:
        path = Path(worker.generate("a boat at sea", **{**SMALL, "seed": 34}).pictures[0].path)
        desk = Desk(worker)
        desk.gallery.look(path)
        row = desk.gallery.index.row(key_of(path.read_bytes()))
        assert row is not None
        worker.queue.pause(True)
        job = desk.verifier.start(row)
        assert desk.answer_entry({"id": row.id})["verdict"]["state"] == "running"
        desk.close()
    with pipelines.open(tmp_path, **options) as worker:
        desk = Desk(worker)
        desk.open()
        assert desk.gallery.scanned.wait(20)
        worker.queue.pause(False)
        list(worker.follow(job))
        for thread in threads("verify"):
            thread.join(30)
        assert desk.answer_entry({"id": row.id})["verdict"]["state"] == "identical"
        assert desk.verifier.verdict(job).state == "identical"
        assert len(list((tmp_path / "outputs").rglob("*.png"))) == 1
        desk.close()


def test_what_differs_is_told_with_its_first_step_and_kept(court: Court) -> None:
    (row,) = court.paint(seed=9)
    run = Lineage(court.gallery.data, court.gallery.index, court.worker.trajectories).run(row)
    assert run is not None
    court.worker.trajectories.change(run.id, request={**run.request, "guidance_scale": 2.0})
    there = files(court.gallery)
    verdict = court.verdict(row)
    assert (verdict.state, verdict.step) == ("differs", 1) and "from step 1 on" in verdict.sentence
    assert len(files(court.gallery) - there) == 1


def test_a_touched_up_picture_differs(court: Court) -> None:
    (row,) = court.paint(seed=10)
    path = court.gallery.data / row.path
    with Image.open(path) as picture:
        touched = picture.convert("RGB")
    touched.putpixel((3, 3), (255, 0, 255))
    other = path.with_name("touched.png")
    metadata.embed(touched, other, metadata.read(path) or "")
    court.gallery.look(other)
    found = court.gallery.index.row(key_of(other.read_bytes()))
    assert found is not None
    verdict = court.verdict(found)
    assert verdict.state == "differs" and "pixels changed" in verdict.sentence


def test_what_cannot_be_painted_again_says_why(court: Court, tmp_path: Path) -> None:
    folder = court.gallery.data / "outputs/text2image/2026-01-02"
    own = ", App: Darkroom 0.1"
    cases = {
        "another program": paint(folder / "1.png", "one"),
        "Model Elsewhere": paint(folder / "2.png", "two", model="Elsewhere", more=own),
        "stopped by hand": paint(folder / "3.png", "three", more=f", Stopped at step: 2{own}"),
        "has changed since": paint(folder / "4.png", "four", more=f", Model hash: 0123456789{own}"),
        "does not say what its control unit 1 followed": paint(
            folder / "5.png", "five", more=f", ControlNet 0: edge{own}"
        ),
        "whose film is gone": paint(folder / "8.png", "eight", more=f", Branch of: 0a-0{own}"),
        "made from": paint(folder / "6.png", "six", more=f", Init image hash: {'a' * 32}{own}"),
        "is not here": paint(folder / "7.png", "seven <lora:gone:1>", more=own),
    }
    court.gallery.look(folder)
    title = court.worker.models()[0].title
    for reason, id in cases.items():
        row = court.gallery.index.row(id)
        assert row is not None
        if reason not in ("Model Elsewhere", "another program"):
            path = court.gallery.data / row.path
            text = (metadata.read(path) or "").replace("Storybook", title).replace("16x16", "64x64")
            with Image.open(path) as picture:
                metadata.embed(picture.convert("RGB"), path, text)
            court.gallery.look(path)
            row = court.gallery.index.row(key_of(path.read_bytes()))
            assert row is not None
        with pytest.raises(CannotVerify) as problem:
            court.verifier.start(row)
        assert reason.removeprefix("Model ") in str(problem.value)


def test_what_a_picture_was_made_from_is_known_after_moving(court: Court) -> None:
    (first,) = court.paint(seed=11)
    store, data = court.worker.store, court.gallery.data
    key = store.put(data / first.path).key
    mask = io.BytesIO()
    Image.new("L", (64, 64), 255).save(mask, "PNG")
    mask_key = store.put(mask.getvalue()).key
    (second,) = court.paint(seed=12, image=key, mask_image=mask_key, mask_blur=0, strength=0.9)
    lineage = Lineage(data, court.gallery.index, court.worker.trajectories)
    run = lineage.run(second)
    assert run is not None
    (third,) = court.paint(
        seed=12,
        image=key,
        mask_image=mask_key,
        mask_blur=0,
        strength=0.9,
        guidance_scale=2,
        branch={"trajectory": run.id, "step": 1},
    )
    (data / second.path).rename(data / "outputs/second.png")
    court.gallery.look(data / "outputs")
    for trajectories_left in (True, False):
        told = {(one.what, one.id) for one in lineage.made_from(second, None)}
        assert told == {("picture", first.id), ("mask", None)}
        assert {id for id, _ in lineage.became(first, None)} == {second.id, third.id}
        if trajectories_left:
            assert ("branch", second.id) in {(one.what, one.id) for one in lineage.made_from(third, None)}
            assert lineage.became(second, run) == [(third.id, "Branched from")]
            court.worker.trajectories.delete(run.id)
    (branch,) = (one for one in lineage.made_from(third, None) if one.what == "branch")
    assert (branch.id, branch.label) == (second.id, "Branched from")  # the film is gone, not its picture
    orphan = paint(data / "outputs/orphan.png", "one", more=", Branch of: 0123456789abcdef-0, Branch step: 2")
    court.gallery.look(data / "outputs/orphan.png")
    row = court.gallery.index.row(orphan)
    assert row is not None
    assert [(one.id, one.label) for one in lineage.made_from(row, None)] == [
        (None, "Branched from a run that is no longer recorded")
    ]


def drawn_over(path: Path, colour: str) -> bytes:
    """A picture with a square on it, as a painter sends it."""
    with Image.open(path) as picture:
        image = picture.convert("RGB")
    image.paste(colour, (8, 8, 40, 40))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_what_was_painted_on_is_still_made_from_its_picture(court: Court) -> None:
    """Also where nothing but the folder of pictures is left."""
    (first,) = court.paint(seed=15)
    store, data = court.worker.store, court.gallery.data
    key = store.put(data / first.path).key
    sketch = store.put(drawn_over(data / first.path, "red"), on=key).key
    once_more = store.put(drawn_over(store.root / f"{sketch}.png", "blue"), on=sketch).key
    drawn = store.put(drawn_over(data / first.path, "white"), on=key).key
    unit = {"model": "storybook-edge", "image": key, "map_image": drawn}
    (sketched,) = court.paint(seed=16, image=once_more, strength=0.9)
    (followed,) = court.paint(seed=16, controls=[unit])
    lineage = Lineage(data, court.gallery.index, court.worker.trajectories)
    run = lineage.run(first)
    assert run is not None
    predicted = store.put(court.worker.engine.call("decode", run.id, 1, "x0")).key
    painted = store.put(drawn_over(store.root / f"{predicted}.png", "red")).key
    branch = {"trajectory": run.id, "step": 1, "painted": painted, "painted_on": predicted}
    (branched,) = court.paint(seed=15, branch=branch)
    wanted = {
        sketched.id: [("picture", first.id), ("painted", None)],
        followed.id: [("control", first.id), ("painted", None)],
        branched.id: [("branch", first.id), ("painted", None)],
    }
    keys = {sketched.id: once_more, followed.id: drawn, branched.id: painted}
    for row in (sketched, followed, branched):
        sources = lineage.made_from(row, lineage.run(row))
        assert [(one.what, one.id) for one in sources] == wanted[row.id]
        assert sources[-1].key == keys[row.id] and sources[0].label != sources[-1].label
    assert {id for id, _ in lineage.became(first, run)} == set(wanted)
    alone = data.parent / "alone"
    shutil.copytree(data / "outputs", alone / "outputs")
    empty = TrajectoryStore(alone / "trajectories")
    gallery = Gallery(alone, PictureStore(alone / "inputs"), empty)
    gallery.look(alone / "outputs")
    lineage = Lineage(alone, gallery.index, empty)
    for id, sources_wanted in wanted.items():
        row = gallery.index.row(id)
        assert row is not None
        assert [(one.what, one.id) for one in lineage.made_from(row, None)] == sources_wanted
    assert dict(lineage.became(first, None)) == {
        sketched.id: "Made from",
        followed.id: "Control map",
        branched.id: "Branched from",
    }
    gallery.close()


def test_a_page_has_a_picture_verified(worker: Worker) -> None:
    data = worker.store.root.parent
    path = Path(worker.generate("a boat at sea", **{**SMALL, "seed": 21}).pictures[0].path)
    desk = Desk(worker)
    with TestClient(build(worker, data, desk=desk), base_url="http://127.0.0.1") as client:
        assert desk.gallery.scanned.wait(20)
        id = key_of(path.read_bytes())
        entry = client.get(f"/{URL}/entry", params={"id": id}).json()
        assert worker.trajectories.get(entry["run"]).picture_key == id
        job = asked_of_page(client, "verify", {"id": id, "client": "another"})["job"]
        assert worker.job(job).client == client_of(gr.Request(session_hash="one"))
        verdict = {"state": "running"}
        while verdict["state"] == "running":  # each question is held until there is news
            verdict = client.get(f"/{URL}/verified", params={"job": job}).json()
        assert verdict["state"] == "identical" and verdict["step"] is None
        assert verdict["sentence"] == "Identical: every pixel is the same."
        assert client.get(f"/{URL}/entry", params={"id": id}).json()["verdict"] == verdict
        assert client.get(f"/{URL}/list", params={"q": '"a boat at sea"'}).json()["total"] == 1
