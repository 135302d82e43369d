"""Fetching against a hub in miniature: whole models, cuts, pauses, restarts, damage, tokens, refusals."""

# ruff: noqa: F811 (fixtures are imported, and named again by the tests that take them)

from __future__ import annotations

import json
import logging
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy
import pytest
from huggingface_hub import constants
from safetensors.numpy import save

from pipelines.fetch import fetch_states, transfer
from pipelines.fetch.catalogue import CatalogueRow
from pipelines.fetch.fetching import Fetcher, FetchState
from pipelines.fetch.problems import FetchProblem
from tests.support.hub import COMMIT, Answer, Asked, Repo, TinyHub, digest
from tests.support.hub_fixtures import WAIT, Make, fetched, hub, make, until  # noqa: F401

SECRET = "hf_good"


def failed(fetcher: Fetcher, id: str, **options: Any) -> FetchState:
    state = until(fetcher, fetcher.start(id, **options), lambda state: state.phase in ("done", "failed"))
    assert state.phase == "failed"
    assert state.message.endswith(".") and SECRET not in state.message
    return state


def weights(seed: int = 0, size: int = 60_000) -> bytes:
    """A safetensors file of the form of a small LoRA."""
    numbers = numpy.random.default_rng(seed).standard_normal((size // 4, 4)).astype(numpy.float32)
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    return bytes(
        save(
            {
                f"{name}.lora_down.weight": numbers[:, :4].T.copy(),
                f"{name}.lora_up.weight": numbers[:320],
                f"{name}.alpha": numpy.float32([4.0]).reshape(()),
            }
        )
    )


INDEX = json.dumps(
    {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": [None, None],
    }
).encode()

PIPELINE = {
    "README.md": b"# A model",
    "model_index.json": INDEX,
    "v1-5-pruned.ckpt": b"p" * 5000,
    "v1-5-pruned.safetensors": weights(9),
    "unet/config.json": b'{"in_channels": 4}',
    "unet/diffusion_pytorch_model.safetensors": weights(1, 100_000),
    "unet/diffusion_pytorch_model.fp16.safetensors": weights(2, 400_000),
    "unet/diffusion_pytorch_model.non_ema.safetensors": weights(3),
    "unet/diffusion_pytorch_model.bin": b"b" * 3000,
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": weights(4),
    "scheduler/scheduler_config.json": b'{"beta_start": 0.1}',
    "text_encoder/config.json": b"{ }",
    "text_encoder/model.safetensors.index.fp16.json": b'{"weight_map": {}}',
    "text_encoder/model.safetensors.index.json": b'{"weight_map": {} }',
    "text_encoder/model.fp16-00001-of-00002.safetensors": weights(5),
    "text_encoder/model.fp16-00002-of-00002.safetensors": weights(6),
    "text_encoder/model-00001-of-00001.safetensors": weights(7),
    "text_encoder/flax_model.msgpack": b"f" * 2000,
    "safety_checker/config.json": b"{  }",
    "safety_checker/model.safetensors": weights(8),
}
WANTED = {
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors.index.fp16.json",
    "text_encoder/model.fp16-00001-of-00002.safetensors",
    "text_encoder/model.fp16-00002-of-00002.safetensors",
}
UNET = "unet/diffusion_pytorch_model.fp16.safetensors"


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# Whole models


def test_a_pipeline_comes_without_doubles_into_the_cache_that_all_programs_share(
    hub: TinyHub, make: Make, tmp_path: Path
) -> None:
    hub.repos["ann/small"] = Repo(PIPELINE)
    told: list[FetchState] = []
    fetcher = make(on_done=told.append)
    estimate = fetcher.estimate("ann/small")
    assert {name for name, _ in estimate.files} == WANTED
    assert estimate.bytes == estimate.total_bytes == sum(len(PIPELINE[name]) for name in WANTED)
    assert (estimate.licence, estimate.gated, estimate.fits) == ("openrail", False, True)

    state = fetched(fetcher, "ann/small")
    assert state.done_bytes == state.total_bytes == estimate.total_bytes
    assert told == [state]
    snapshot = tmp_path / "cache/models--ann--small/snapshots" / COMMIT
    assert files_below(snapshot) == WANTED
    for name in WANTED:  # huggingface_hub itself finds each file, without asking the network
        path = huggingface_hub.hf_hub_download(
            "ann/small", name, cache_dir=tmp_path / "cache", local_files_only=True
        )
        assert Path(path).read_bytes() == PIPELINE[name]
    scan = huggingface_hub.scan_cache_dir(tmp_path / "cache")
    assert not scan.warnings
    assert [repo.repo_id for repo in scan.repos] == ["ann/small"]
    before = len(hub.asked)
    fetched(make(), "ann/small")
    assert not [asked for asked in hub.asked[before:] if asked.path.endswith(".safetensors")]


def test_what_huggingface_hub_has_fetched_is_not_fetched_again(
    hub: TinyHub, make: Make, tmp_path: Path
) -> None:
    hub.repos["ann/small"] = Repo(PIPELINE)
    huggingface_hub.hf_hub_download("ann/small", UNET, cache_dir=tmp_path / "cache", endpoint=hub.address)
    fetcher = make()
    estimate = fetcher.estimate("ann/small")
    assert estimate.total_bytes - estimate.bytes == len(PIPELINE[UNET])
    before = len(hub.requests(digest(PIPELINE[UNET])))
    fetched(fetcher, "ann/small")
    assert len(hub.requests(digest(PIPELINE[UNET]))) == before


def test_nothing_is_seen_before_it_is_whole(hub: TinyHub, make: Make, tmp_path: Path) -> None:
    hub.repos["ann/small"] = Repo(PIPELINE)
    hub.repos["ann/lora"] = Repo({"ann.safetensors": weights()})
    hub.hold = {UNET: 100_000, "ann.safetensors": 1000}
    fetcher = make()
    fetcher.start("ann/small")
    assert hub.held.wait(WAIT)
    assert not (tmp_path / "cache/models--ann--small/snapshots").exists()
    assert not (tmp_path / "cache/models--ann--small/refs").exists()
    fetcher.pause("ann/small")
    hub.held.clear()
    fetcher.start("ann/lora")
    assert hub.held.wait(WAIT)
    assert {file.split("/")[0] for file in files_below(tmp_path / "models")} == {".fetching"}
    hub.go.set()
    until(fetcher, "ann/lora", "done")
    assert files_below(tmp_path / "models") == {"loras/ann.safetensors"}


def test_add_ons_go_to_their_folders(hub: TinyHub, make: Make, tmp_path: Path) -> None:
    control = {
        "config.json": b'{"_class_name": "ControlNetModel"}',
        "diffusion_pytorch_model.safetensors": weights(1),
        "diffusion_pytorch_model.fp16.safetensors": weights(2),
        "diffusion_pytorch_model.bin": b"b" * 4000,
        "README.md": b"read",
    }
    hub.repos["ann/canny"] = Repo(control)
    hub.repos["ann/lcm-lora"] = Repo({"pytorch_lora_weights.safetensors": weights(3)})
    hub.repos["ann/many"] = Repo({"a.safetensors": weights(4), "sub/b.safetensors": weights(5)})
    fetcher = make()
    assert fetched(fetcher, "ann/canny").sort == "controlnet"
    assert fetched(fetcher, "ann/lcm-lora").sort == "lora"
    assert "ann/many/a.safetensors" in failed(fetcher, "ann/many").message
    assert fetched(fetcher, f"{hub.address}/ann/many/blob/main/sub/b.safetensors").sort == "lora"
    assert fetched(make(), "ann/many/sub/b.safetensors").phase == "done"  # the same again makes no second one
    assert files_below(tmp_path / "models") == {
        "controlnets/canny/config.json",
        "controlnets/canny/diffusion_pytorch_model.fp16.safetensors",
        "loras/lcm-lora.safetensors",
        "loras/b.safetensors",
    }


def test_a_name_that_is_taken_is_not_written_over(hub: TinyHub, make: Make, tmp_path: Path) -> None:
    mine = tmp_path / "models/loras/ann.safetensors"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    hub.repos["ann/lora"] = Repo({"ann.safetensors": weights()})
    fetched(make(), "ann/lora")
    assert mine.read_bytes() == b"mine"
    assert (mine.parent / "ann-2.safetensors").read_bytes() == weights()


def test_rows_say_what_is_there(hub: TinyHub, make: Make) -> None:
    common = {
        "family": "SD",
        "licence": "MIT",
        "licence_url": "https://x.org",
        "homepage": "https://x.org",
        "bytes": 1,
        "memory": 1,
        "size": 512,
        "summary": "A small model for this test.",
    }
    rows = (
        CatalogueRow(key="small", id="ann/small", title="Small", sort="model", **common),
        CatalogueRow(key="line", id="ann/lora", file="l.safetensors", title="Line", sort="lora", **common),
    )
    hub.repos["ann/small"] = Repo(PIPELINE)
    hub.repos["ann/lora"] = Repo({"l.safetensors": weights()})
    hub.hold = {UNET: 10}
    fetcher = make(rows=rows)
    assert [row["state"] for row in fetcher.rows()] == ["not there", "not there"]
    json.dumps(fetcher.rows())
    fetcher.start("small")
    assert hub.held.wait(WAIT)
    assert [row["state"] for row in fetcher.rows()] == ["running", "not there"]
    hub.go.set()
    until(fetcher, "small", "done")
    assert fetched(fetcher, "line").title == "Line"
    assert [row["state"] for row in fetcher.rows()] == ["there", "there"]
    assert fetched(fetcher, "line").message == "It is there already."


# Cuts, pauses, restarts


def test_a_cut_goes_on_where_it_was_cut(hub: TinyHub, make: Make, tmp_path: Path) -> None:
    body = weights(2, 400_000)
    hub.repos["ann/lora"] = Repo({"ann.safetensors": body})
    hub.cuts["ann.safetensors"] = [200_000, 0, 0, 150_000]
    fetched(make(), "ann/lora")
    assert (tmp_path / "models/loras/ann.safetensors").read_bytes() == body
    ranges = [asked.headers.get("range") for asked in hub.requests(digest(body))]
    assert ranges == [None, "bytes=200000-", "bytes=200000-", "bytes=200000-", "bytes=350000-"]


def test_a_network_that_stays_away_fails_with_what_came_kept(
    hub: TinyHub, make: Make, tmp_path: Path
) -> None:
    body = weights(2, 400_000)
    hub.repos["ann/lora"] = Repo({"ann.safetensors": body})
    hub.cuts["ann.safetensors"] = [200_000, *[0] * 4]
    fetcher = make()
    assert "is kept" in failed(fetcher, "ann/lora").message
    fetcher.resume("ann/lora")
    until(fetcher, "ann/lora", "done")
    assert hub.requests(digest(body))[-1].headers["range"] == "bytes=200000-"


def test_pausing_holds_at_once_and_resuming_goes_on(hub: TinyHub, make: Make, tmp_path: Path) -> None:
    hub.repos["ann/small"] = Repo(PIPELINE)
    hub.repos["ann/lora"] = Repo({"ann.safetensors": weights()})
    hub.hold = {UNET: 100_000}
    fetcher = make()
    fetcher.start("ann/small")
    until(fetcher, "ann/small", lambda state: state.done_bytes >= 100_000)
    fetcher.start("ann/lora")
    assert [state.phase for state in fetcher.states()] == ["running", "waiting"]
    fetcher.pause("ann/small")  # while no byte comes
    until(fetcher, "ann/lora", "done")
    assert fetcher.states()[0].phase == "paused"
    part = tmp_path / "cache/models--ann--small/blobs" / (digest(PIPELINE[UNET]) + ".part")
    assert part.stat().st_size == 100_000
    hub.go.set()
    fetcher.resume("ann/small")
    until(fetcher, "ann/small", "done")
    assert hub.requests(digest(PIPELINE[UNET]))[-1].headers["range"] == "bytes=100000-"
    assert not part.exists()


def test_a_restart_finds_it_paused_and_goes_on(hub: TinyHub, make: Make, tmp_path: Path) -> None:
    hub.repos["ann/small"] = Repo(PIPELINE)
    hub.hold = {UNET: 100_000}
    first = make()
    first.start("ann/small")
    until(first, "ann/small", lambda state: state.done_bytes >= 100_000)
    first.close()
    hub.go.set()
    before = len(hub.asked)
    second = make()
    (state,) = second.states()
    assert (state.phase, state.title) == ("paused", "small")
    assert 100_000 <= state.done_bytes < state.total_bytes
    assert len(hub.asked) == before  # a start asks nothing of the network
    second.resume("ann/small")
    until(second, "ann/small", "done")
    assert hub.requests(digest(PIPELINE[UNET]))[-1].headers["range"] == "bytes=100000-"
    assert make().states() == ()  # what is done is not remembered


def test_a_damaged_list_of_fetches_is_put_aside(make: Make, tmp_path: Path) -> None:
    book = tmp_path / "data/downloads.json"
    book.parent.mkdir()
    book.write_text('{"fetches": [{"id": ')
    assert make().states() == ()
    assert book.with_suffix(".damaged").exists()


def test_cancelling_leaves_nothing(hub: TinyHub, make: Make, tmp_path: Path) -> None:
    hub.repos["ann/small"] = Repo(PIPELINE)
    hub.repos["ann/lora"] = Repo({"ann.safetensors": weights()})
    hub.hold = {UNET: 100_000, "ann.safetensors": 500}
    fetcher = make()
    for id in ("ann/small", "ann/lora"):
        hub.held.clear()
        fetcher.start(id)
        assert hub.held.wait(WAIT)
        fetcher.cancel(id)
        assert fetcher.states() == ()
    fetcher.close()
    assert not list((tmp_path / "cache").rglob("*.part"))
    assert not huggingface_hub.scan_cache_dir(tmp_path / "cache").repos
    assert files_below(tmp_path / "models") == set()
    assert json.loads((tmp_path / "data/downloads.json").read_text()) == {"fetches": []}


def test_progress_is_told_with_speed(hub: TinyHub, make: Make) -> None:
    hub.repos["ann/lora"] = Repo({"ann.safetensors": weights(1, 400_000)})
    hub.hold = {"ann.safetensors": 1_000_000}
    fetcher = make()
    fetcher.start("ann/lora")
    state = until(fetcher, "ann/lora", lambda state: state.done_bytes > 500_000)
    assert state.total_bytes == len(weights(1, 400_000))
    assert state.speed > 0
    assert state.seconds_left == pytest.approx((state.total_bytes - state.done_bytes) / state.speed)
    hub.go.set()
    until(fetcher, "ann/lora", "done")


def test_two_programs_do_not_write_into_one_file(hub: TinyHub, make: Make, tmp_path: Path) -> None:
    hub.repos["ann/lora"] = Repo({"ann.safetensors": weights()})
    hub.hold = {"ann.safetensors": 10_000}
    first, second = make(), make()
    first.start("ann/lora")
    until(first, "ann/lora", lambda state: state.done_bytes >= 10_000)
    assert "another Darkroom" in failed(second, "ann/lora").message
    hub.go.set()
    until(first, "ann/lora", "done")
    assert files_below(tmp_path / "models") == {"loras/ann.safetensors"}


def test_waiting_for_another_try_is_told(hub: TinyHub, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "WAITS", (60.0,))
    hub.repos["ann/lora"] = Repo({"ann.safetensors": weights()})
    hub.cuts["ann.safetensors"] = [20_000]
    fetcher = make()
    fetcher.start("ann/lora")
    state = until(fetcher, "ann/lora", lambda state: "trying again in 60 s" in state.message)
    assert (state.phase, state.speed, state.done_bytes) == ("running", 0.0, 20_000)
    fetcher.pause("ann/lora")  # does not wait for the minute to pass
    fetcher.resume("ann/lora")
    until(fetcher, "ann/lora", "done")


# Damage and what is refused


def test_a_wrong_checksum_throws_the_file_away(hub: TinyHub, make: Make, tmp_path: Path) -> None:
    repo = Repo({"ann.safetensors": weights()}, sha256={"ann.safetensors": "0" * 64})
    hub.repos["ann/lora"] = repo
    fetcher = make()
    assert "checksum" in failed(fetcher, "ann/lora").message
    assert files_below(tmp_path / "models") == set()
    repo.sha256.clear()
    fetched(make(), "ann/lora")


def test_a_small_file_is_checked_by_its_git_id(hub: TinyHub, make: Make, tmp_path: Path) -> None:
    hub.repos["ann/small"] = Repo(PIPELINE)
    name = "unet/config.json"
    hub.pages[f"/ann/small/resolve/{COMMIT}/{name}"] = Answer(200, b"x" * len(PIPELINE[name]))
    assert "checksum" in failed(make(), "ann/small").message


def test_a_file_that_is_no_model_is_thrown_away(hub: TinyHub, make: Make, tmp_path: Path) -> None:
    hub.repos["ann/lora"] = Repo({"ann.safetensors": b"n" * 5000})
    assert "no model" in failed(make(), "ann/lora").message
    assert files_below(tmp_path / "models") == set()


def test_a_full_disk_is_told_before_anything_is_fetched(
    hub: TinyHub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    free = len(weights()) - 1 + fetch_states.MARGIN
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - free, free))
    hub.repos["ann/lora"] = Repo({"ann.safetensors": weights()})
    fetcher = make()
    estimate = fetcher.estimate("ann/lora")
    assert not estimate.fits and "1.1 GB are free" in estimate.sentence
    assert "make room" in failed(fetcher, "ann/lora").message
    assert not hub.requests(digest(weights()))
    free += 1
    assert fetcher.estimate("ann/lora").fits
    fetcher.resume("ann/lora")
    until(fetcher, "ann/lora", "done")


@pytest.mark.parametrize(
    "name", ["../evil.safetensors", "/etc/x.json", "a/../../x.json", "c:\\x.json", "a//b", "x\n.json", "."]
)
def test_unsafe_names_in_a_listing_are_refused(hub: TinyHub, make: Make, tmp_path: Path, name: str) -> None:
    hub.repos["ann/evil"] = Repo({**PIPELINE, name: b"{}"})
    assert "not safe" in failed(make(), "ann/evil").message
    assert not (tmp_path / "cache").exists()


def test_pickles_are_fetched_only_where_asked_for(hub: TinyHub, make: Make, tmp_path: Path) -> None:
    import io

    import torch

    buffer = io.BytesIO()
    torch.save({"x": torch.zeros(300)}, buffer)
    hub.repos["ann/old"] = Repo({"old.ckpt": buffer.getvalue()})
    fetcher = make()
    assert "pickle" in failed(fetcher, "ann/old").message
    assert "pickle" in failed(fetcher, "ann/old/old.ckpt").message
    fetched(fetcher, "ann/old/old.ckpt", pickles=True)
    assert [path.name for path in (tmp_path / "models").rglob("*.ckpt")] == ["old.ckpt"]


@pytest.mark.parametrize(
    ("id", "words"),
    [
        ("nobody/nothing", "no model called"),
        ("ann/small@v9", "no revision called 'v9'"),
        ("ann/small/none.safetensors", "holds no file"),
        ("ann/text", "no weights"),
    ],
)
def test_what_is_not_there_is_said(hub: TinyHub, make: Make, id: str, words: str) -> None:
    hub.repos["ann/small"] = Repo(PIPELINE)
    hub.repos["ann/text"] = Repo({"README.md": b"text"})
    fetcher = make()
    with pytest.raises(FetchProblem, match=words):
        fetcher.estimate(id)
    assert words in failed(fetcher, id).message


@pytest.mark.parametrize(
    "id", ["", "name", "../..", "a/b@", "http://x.org/a.safetensors", "ftp://x/a", "a b/c"]
)
def test_what_names_nothing_is_refused_at_once(make: Make, id: str) -> None:
    fetcher = make()
    with pytest.raises(FetchProblem):
        fetcher.start(id)
    assert fetcher.states() == ()


def test_offline_and_unreachable(hub: TinyHub, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be reached" in failed(make(endpoint="http://127.0.0.1:9"), "ann/small").message
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in failed(make(), "ann/other").message
    assert "HF_HUB_OFFLINE" in failed(make(), f"{hub.storage}/x/y.safetensors").message


# Tokens


def test_a_gated_model_asks_for_a_token_and_no_trace_of_it_is_left(
    hub: TinyHub, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hub.repos["ann/small"] = Repo(PIPELINE, gated=True)
    fetcher = make()
    estimate = fetcher.estimate("ann/small")
    assert estimate.wants_token and estimate.total_bytes > 0
    assert failed(fetcher, "ann/small").wants_token
    for token, words in (("hf_wrong", "does not know"), ("hf_other", "does not open")):
        fetcher.resume("ann/small", token=token)
        state = until(fetcher, "ann/small", lambda state: state.phase in ("done", "failed"))
        assert state.wants_token and words in state.message and token not in state.message
    fetcher.resume("ann/small", token=SECRET)
    until(fetcher, "ann/small", "done")
    assert not fetcher.hub.signed_in()
    hub.repos["ann/next"] = Repo(PIPELINE, gated=True, commit="f" * 40)
    fetched(fetcher, "ann/next")  # the token that was typed holds until the program ends
    assert SECRET not in caplog.text
    for path in [*(tmp_path / "data").rglob("*"), *(tmp_path / "models").rglob("*")]:
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()
    assert SECRET not in repr(fetcher.states()) and SECRET not in repr(vars(fetcher)["_fetches"])
    stored = [asked for asked in hub.asked if asked.path.startswith("/storage/")]
    assert stored and not any("authorization" in asked.headers for asked in stored)  # another host


def test_a_token_is_remembered_in_the_hubs_own_store_where_asked(
    hub: TinyHub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    whoami = huggingface_hub.HfApi(endpoint=hub.address).whoami
    monkeypatch.setattr("huggingface_hub.hf_api.whoami", whoami)
    hub.repos["ann/small"] = Repo(PIPELINE, gated=True)
    fetcher = make()
    with pytest.raises(FetchProblem, match="not kept"):
        fetcher.hub.sign_in("hf_unknown")
    fetched(fetcher, "ann/small", token=SECRET, remember=True)
    assert huggingface_hub.get_token() == SECRET
    hub.repos["ann/next"] = Repo(PIPELINE, gated=True, commit="f" * 40)
    assert make().signed_in()
    fetched(make(), "ann/next")


def test_the_token_of_the_environment_is_used(
    hub: TinyHub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    hub.repos["ann/small"] = Repo(PIPELINE, gated=True)
    fetched(make(), "ann/small")


# Addresses outside of the hub


def civitai(hub: TinyHub, body: bytes, sha256: str = "") -> str:
    """Puts a Civitai of one file beside the hub; returns the file's address."""

    def door(asked: Asked) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {SECRET}":
            return Answer(401, b'{"error": "Unauthorized"}')
        return Answer(307, b"", {"Location": f"{hub.storage}/signed?x=1"})

    about = {
        "name": "v2",
        "modelId": 12,
        "model": {"name": "Ink", "type": "LORA"},
        "files": [{"name": "ink v2.safetensors", "hashes": {"SHA256": (sha256 or digest(body)).upper()}}],
    }
    hub.pages["/api/download/models/34"] = door
    hub.pages["/api/v1/model-versions/34"] = Answer(200, json.dumps(about).encode())
    shown = 'attachment; filename="ink v2.safetensors"'
    hub.pages["/signed"] = Answer(200, body, {"Content-Disposition": shown, "ETag": '"e1"'})
    return f"{hub.address}/api/download/models/34?type=Model&format=SafeTensor"


def test_a_file_of_civitai_comes_by_its_own_name_and_checked(
    hub: TinyHub, make: Make, tmp_path: Path
) -> None:
    address = civitai(hub, weights())
    fetcher = make()
    state = failed(fetcher, address)
    assert state.wants_token
    fetcher.resume(state.key, token=SECRET)
    state = until(fetcher, state.key, "done")
    assert (state.title, state.sort, state.message) == ("Ink v2", "lora", "Fetched and checked.")
    assert (tmp_path / "models/loras/ink v2.safetensors").read_bytes() == weights()
    assert not any("authorization" in asked.headers for asked in hub.requests("/signed"))
    civitai(hub, weights(), sha256="1" * 64)
    assert "checksum" in failed(make(), address, token=SECRET).message


def test_a_token_in_an_address_is_taken_out_of_it(hub: TinyHub, make: Make, tmp_path: Path) -> None:
    fetcher = make()
    key = fetcher.start(f"{civitai(hub, weights())}&token={SECRET}")
    assert SECRET not in key
    until(fetcher, key, "done")
    assert SECRET not in repr(fetcher.states())
    hub.hold = {"signed": 10}
    civitai(hub, weights(7))
    fetcher.start(f"{hub.address}/api/download/models/34?token={SECRET}")
    assert hub.held.wait(WAIT)
    assert SECRET not in (tmp_path / "data/downloads.json").read_text()
    assert not any(asked.query.get("token") for asked in hub.asked)


def test_a_file_without_a_checksum_goes_on_only_if_it_is_the_same(
    hub: TinyHub, make: Make, tmp_path: Path
) -> None:
    old, new = weights(1, 100_000), weights(2, 100_000)
    hub.pages["/files/ann.safetensors"] = Answer(200, old, {"ETag": '"one"'})
    hub.hold = {"ann.safetensors": 50_000}
    fetcher = make()
    key = fetcher.start(f"{hub.storage}/files/ann.safetensors")
    until(fetcher, key, lambda state: state.done_bytes > 0)
    fetcher.pause(key)
    hub.go.set()
    hub.pages["/files/ann.safetensors"] = Answer(200, new, {"ETag": '"two"'})
    fetcher.resume(key)
    state = until(fetcher, key, "done")
    assert (tmp_path / "models/loras/ann.safetensors").read_bytes() == new
    assert "nobody told its checksum" in state.message


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        ('attachment; filename="../../x.safetensors"', "x.safetensors"),
        ("attachment; filename*=UTF-8''caf%C3%A9.safetensors", "café.safetensors"),
        ("", "plain.safetensors"),
    ],
)
def test_names_that_a_server_tells(hub: TinyHub, make: Make, tmp_path: Path, shown: str, name: str) -> None:
    headers = {"Content-Disposition": shown} if shown else {}
    hub.pages["/get/plain.safetensors"] = Answer(200, weights(), headers)
    fetched(make(), f"{hub.storage}/get/plain.safetensors")
    assert files_below(tmp_path / "models") == {f"loras/{name}"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(200, b"<html>", {"Content-Type": "text/html; charset=utf-8"}), "web page"),
        (Answer(404), "no file at this address"),
        (
            Answer(200, b"MZ", {"Content-Disposition": 'attachment; filename="setup.exe"'}),
            "no file of weights",
        ),
    ],
)
def test_addresses_that_give_no_weights(hub: TinyHub, make: Make, answer: Answer, words: str) -> None:
    hub.pages["/get/x.safetensors"] = answer
    assert words in failed(make(), f"{hub.storage}/get/x.safetensors").message
