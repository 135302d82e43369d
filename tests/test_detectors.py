"""Maps at the run's own size, and detectors: found, loaded from real files, or refused with a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from pipelines.controlnet.detectors import PREPROCESSORS, RESIDENT_DETECTORS, Detectors, control_map
from pipelines.controlnet.preprocessors import UNION_MODES
from pipelines.request import InvalidRequest
from pipelines.resizing import MODES, is_drawn, resized
from tests.support.led import picture, unit

ODD = [(64, 64), (200, 136), (72, 320), (513, 77)]


class Plan(NamedTuple):
    device: str = "cpu"


class Store:
    """As much of a PictureStore as maps need."""

    def __init__(self, **pictures: Image.Image):
        self.pictures = pictures

    def load(self, key: str) -> Any:
        image = self.pictures[key[0]]

        class Original:
            def rgb(self) -> Image.Image:
                return image

        return Original()


@pytest.fixture
def detectors(tmp_path: Path) -> Detectors:
    return Detectors([tmp_path], Plan())


def scene(width: int, height: int) -> Image.Image:
    """A bright disc and a bar on a dark ground: something with edges."""
    y, x = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), 40, np.uint8)
    pixels[(x - width / 3) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 4) ** 2] = (230, 90, 60)
    pixels[:, int(width * 0.75) : int(width * 0.8)] = 250
    return Image.fromarray(pixels)


# -------------------------------------------------------------------------------------------------- resizing


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("size", ODD)
@pytest.mark.parametrize("source", [(40, 90), (300, 200), (64, 64)])
def test_every_way_of_resizing_hits_the_size(
    mode: str, drawn: bool, size: tuple[int, int], source: tuple[int, int]
) -> None:
    for kind in ("RGB", "L"):
        image = scene(*source).convert(kind)
        assert resized(image, *size, mode, drawn=drawn).size == size
        assert resized(image, *source, mode, drawn=drawn) is image


def test_the_three_ways_differ_as_their_names_say() -> None:
    halves = np.zeros((60, 120, 3), np.uint8)
    halves[:, 60:] = 255
    halves[:, :30], halves[:, 90:] = 80, 160
    image = Image.fromarray(halves)

    def columns(mode: str) -> list[int]:
        pixels = np.asarray(resized(image, 60, 60, mode, drawn=True))
        return [int(pixels[30, at, 0]) for at in (2, 20, 40, 57)]

    assert columns("just resize") == [80, 0, 255, 160]
    assert columns("crop and resize") == [0, 0, 255, 255]
    filled = np.asarray(resized(image, 60, 60, "resize and fill", drawn=True))
    assert (filled[0] == filled[15]).all() and (filled[59] == filled[44]).all()
    with pytest.raises(ValueError, match="no way of resizing called 'stretch'"):
        resized(image, 8, 8, "stretch")


def test_maps_of_few_colours_keep_them_and_their_lines() -> None:
    lines = np.zeros((90, 90, 3), np.uint8)
    lines[::9] = 255
    image = Image.fromarray(lines)
    assert is_drawn(image) and not is_drawn(picture())
    larger = np.asarray(resized(image, 200, 200, "just resize", drawn=True))
    assert set(np.unique(larger)) == {0, 255}
    smaller = np.asarray(resized(image, 40, 40, "just resize", drawn=True))
    assert ((smaller[:, 0, 0] > 40).sum()) >= 10, "nearest neighbour would have dropped lines"


# ---------------------------------------------------------------------------------------------- control_map


def test_a_ready_map_is_followed_as_it_is(detectors: Detectors) -> None:
    ready = picture(1)
    asked = unit(map_image="a" * 32, image="b" * 32, preprocessor="canny")
    assert control_map(asked, Store(a=ready), 64, 64, detectors) is ready
    assert control_map(asked, Store(a=ready), 200, 72, detectors).size == (200, 72)


def test_a_pose_is_drawn_at_the_size(detectors: Detectors) -> None:
    from pipelines.controlnet.poses import draw_poses

    pose = ((0.5, 0.2), (0.5, 0.4), (0.3, 0.4), *[None] * 15)
    asked = unit(pose=(pose,), image=None, preprocessor="none")
    drawn = control_map(asked, Store(), 200, 136, detectors)
    assert drawn.mode == "RGB" and drawn.size == (200, 136)
    np.testing.assert_array_equal(np.asarray(drawn), draw_poses((pose,), 200, 136))
    assert np.asarray(drawn).any()


def test_canny_runs_on_the_picture_at_the_runs_size(detectors: Detectors) -> None:
    import cv2

    store = Store(a=scene(300, 200))
    asked = unit(image="a" * 32, low_threshold=50, high_threshold=120, resize_mode="just resize")
    edges = control_map(asked, store, 136, 200, detectors)
    shown = np.asarray(resized(scene(300, 200), 136, 200, "just resize"))
    expected = np.repeat(cv2.Canny(shown, 50, 120)[..., None], 3, axis=2)
    np.testing.assert_array_equal(np.asarray(edges), expected)
    assert 0 < (expected > 0).mean() < 0.2
    fewer = unit(image="a" * 32, low_threshold=254, high_threshold=255, resize_mode="just resize")
    faint = Store(a=scene(300, 200).point(lambda value: value // 4))
    assert not np.asarray(control_map(fewer, faint, 136, 200, detectors)).all()


# --------------------------------------------------------------------------------------------- preprocessors


def test_all_of_controlnet_aux_is_in_the_table() -> None:
    import controlnet_aux

    there = {name for name in dir(controlnet_aux) if name.lower().endswith("detector")}
    assert there - {"CannyDetector"} == {row.detector for row in PREPROCESSORS.values() if row.detector}
    for key, row in PREPROCESSORS.items():
        assert row.key == key and row.title and row.hint.endswith(".") and row.group
        assert all(file.size > 0 and file.source.startswith("https://") for file in row.weights)
    known = {sort for modes in UNION_MODES.values() for sort in modes}
    assert {row.sort for row in PREPROCESSORS.values()} - {""} == known


@pytest.mark.parametrize(
    "key", [key for key, row in PREPROCESSORS.items() if not (row.weights or row.packages)]
)
@pytest.mark.parametrize("size", ODD)
def test_what_needs_no_weights_works_at_odd_sizes(
    key: str, size: tuple[int, int], detectors: Detectors
) -> None:
    image = scene(*size)
    found = detectors.map(key, image)
    assert found.mode == "RGB" and found.size == size
    np.testing.assert_array_equal(np.asarray(found), np.asarray(detectors.map(key, image)), "by chance")
    if key != "none":
        assert np.asarray(found).any() and not np.array_equal(np.asarray(found), np.asarray(image))


def test_shuffling_leaves_numpys_chance_alone(detectors: Detectors) -> None:
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    detectors.map("shuffle", scene(64, 64))
    assert np.random.rand() == expected


@pytest.mark.parametrize(
    "key", [key for key, row in PREPROCESSORS.items() if row.weights and not row.packages]
)
def test_missing_weights_are_named_with_where_to_get_them(
    key: str, detectors: Detectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    row = PREPROCESSORS[key]
    assert detectors.missing(key) == row.weights
    with pytest.raises(InvalidRequest) as caught:
        detectors.map(key, scene(64, 64))
    sentence = caught.value.problems["controls"]
    for part in (row.weights[0].name, f"about {row.weights[0].size} MB", row.weights[0].source):
        assert part in sentence
    assert str(tmp_path / "annotators" / row.weights[0].name) in sentence


@pytest.mark.parametrize("key", ["dwpose", "mediapipe_face"])
def test_missing_packages_are_named(key: str, detectors: Detectors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.controlnet.detectors.importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidRequest, match=f"pip install {' '.join(PREPROCESSORS[key].packages)}"):
        detectors.map(key, scene(64, 64))


def test_an_unknown_preprocessor_is_an_error(detectors: Detectors) -> None:
    with pytest.raises(
        InvalidRequest, match=r"no preprocessor called 'magic'\. There are none, invert, canny"
    ):
        detectors.map("magic", scene(64, 64))


# ------------------------------------------------------------------------- real files of random weights


def networks() -> dict[str, Any]:
    """File name -> the network whose weights belong there, drawn at random."""
    import torch
    from controlnet_aux.hed import ControlNetHED_Apache2
    from controlnet_aux.lineart import Generator
    from controlnet_aux.mlsd import MobileV2_MLSD_Large
    from controlnet_aux.pidi import pidinet
    from controlnet_aux.teed import TED

    torch.manual_seed(0)
    return {
        "ControlNetHED.pth": ControlNetHED_Apache2(),
        "table5_pidinet.pth": pidinet(),
        "mlsd_large_512_fp32.pth": MobileV2_MLSD_Large(),
        "sk_model.pth": Generator(3, 1, 3),
        "sk_model2.pth": Generator(3, 1, 3),
        "5_model.pth": TED(),
        "MTEED.pth": TED(),
    }


def pose_network(kind: str) -> dict[str, Any]:
    """Random weights of one of OpenPose's networks under the names its files have: without the stage's."""
    import torch
    from controlnet_aux.open_pose.model import bodypose_model, handpose_model

    torch.manual_seed(0)
    made = bodypose_model() if kind == "body" else handpose_model()
    return {".".join(name.split(".")[1:]): tensor for name, tensor in made.state_dict().items()}


@pytest.fixture(scope="module")
def annotators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from controlnet_aux.open_pose.face import FaceNet

    folder = tmp_path_factory.mktemp("models")
    (folder / "annotators").mkdir()
    for name, network in networks().items():
        state = network.state_dict()
        torch.save({"state_dict": state} if "pidinet" in name else state, folder / "annotators" / name)
    for kind in ("body", "hand"):
        torch.save(pose_network(kind), folder / "annotators" / f"{kind}_pose_model.pth")
    torch.save(FaceNet().state_dict(), folder / "annotators" / "facenet.pth")
    return folder


REAL = [
    "softedge_hed", "scribble_hed", "softedge_pidinet", "scribble_pidinet", "mlsd", "lineart",
    "lineart_coarse", "teed", "anyline", "openpose", "openpose_full",
]  # fmt: skip


@pytest.mark.parametrize("key", REAL)
def test_detectors_load_real_files_and_answer_at_the_size(key: str, annotators: Path) -> None:
    detectors = Detectors([annotators / "nothing", annotators], Plan())
    assert detectors.missing(key) == ()
    image = scene(136, 72)
    found = detectors.map(key, image)
    assert found.mode == "RGB" and found.size == (136, 72)


LARGE = ["lineart_anime", "normal_bae", "depth_midas", "depth_leres"]


def large_weights(key: str) -> Any:
    """What the file of a preprocessor with hundreds of megabytes of weights holds."""
    from functools import partial
    from types import SimpleNamespace

    import torch

    torch.manual_seed(0)
    if key == "lineart_anime":
        from controlnet_aux.lineart_anime import UnetGenerator

        norm = partial(torch.nn.InstanceNorm2d, affine=False, track_running_stats=False)
        return UnetGenerator(3, 1, 8, 64, norm_layer=norm, use_dropout=False).state_dict()
    if key == "normal_bae":
        from controlnet_aux.normalbae import NNET

        told = {"mode": "client", "architecture": "BN", "pretrained": "scannet"}
        return {"model": NNET(SimpleNamespace(**told, sampling_ratio=0.4, importance_ratio=0.7)).state_dict()}
    if key == "depth_midas":
        from controlnet_aux.midas.api import DPTDepthModel

        return DPTDepthModel(path=None, backbone="vitb_rn50_384", non_negative=True).state_dict()
    from controlnet_aux.leres import RelDepthModel

    state = RelDepthModel(backbone="resnext101").state_dict()
    return {"depth_model": {f"module.{name}": tensor for name, tensor in state.items()}}


@pytest.mark.slow
@pytest.mark.parametrize("key", LARGE)
def test_large_detectors_load_real_files_too(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr("sys.argv", ["darkroom", "--port", "1"])  # which LeReS' own loader would parse
    path = tmp_path / "annotators" / PREPROCESSORS[key].weights[0].name
    path.parent.mkdir()
    torch.save(large_weights(key), path)
    found = Detectors([tmp_path], Plan()).map(key, scene(136, 72))
    path.unlink()
    assert found.mode == "RGB" and found.size == (136, 72)


def test_people_in_large_pictures_are_looked_for_in_small_ones(
    annotators: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def people(self: Any, pixels: np.ndarray, **options: bool) -> list[Any]:
        sizes.append(pixels.shape)
        return []

    monkeypatch.setattr("controlnet_aux.OpenposeDetector.detect_poses", people)
    detectors = Detectors([annotators], Plan())
    assert detectors.detect_pose(Image.new("RGB", (3000, 1536))) == ()
    assert detectors.map("openpose_full", Image.new("RGB", (1536, 1536))).size == (1536, 1536)
    assert sizes == [(768, 1500, 3), (768, 768, 3)]


def test_the_last_two_detectors_stay_and_share_weights(annotators: Path) -> None:
    detectors, image = Detectors([annotators], Plan()), scene(64, 64)
    detectors.map("softedge_hed", image)
    first = next(iter(detectors._loaded.values()))
    detectors.map("scribble_hed", image)
    assert list(detectors._loaded.values()) == [first], "the same weights in another way"
    for key in ("teed", "mlsd", "softedge_pidinet"):
        detectors.map(key, image)
    assert len(detectors._loaded) == RESIDENT_DETECTORS and first not in detectors._loaded.values()


def test_weights_that_are_something_else_are_refused(tmp_path: Path) -> None:
    import torch

    (tmp_path / "annotators").mkdir()
    torch.save({"other": torch.zeros(1)}, tmp_path / "annotators" / "ControlNetHED.pth")
    (tmp_path / "annotators" / "5_model.pth").write_bytes(b"<html>not found</html>")
    for key in ("softedge_hed", "teed"):
        with pytest.raises(InvalidRequest, match="cannot be read"):
            Detectors([tmp_path], Plan()).map(key, scene(64, 64))


# ------------------------------------------------------------------------------------------------ poses


def test_poses_are_detected_as_shares(annotators: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from controlnet_aux.open_pose import PoseResult
    from controlnet_aux.open_pose.body import BodyResult, Keypoint

    detectors = Detectors([annotators], Plan())
    assert detectors.detect_pose(scene(96, 64)) == (), "random weights see nobody"

    def people(self: Any, pixels: np.ndarray, **options: bool) -> list[Any]:
        one = [Keypoint(0.5, 0.25), Keypoint(0.5, 0.5), *[None] * 16]
        alone = [Keypoint(0.5, 0.25), *[None] * 17]
        bodies = [BodyResult(one, 3.0, 2), BodyResult(alone, 9.0, 1), BodyResult(one[::-1], 5.0, 2)]
        return [PoseResult(body, None, None, None) for body in bodies]

    monkeypatch.setattr("controlnet_aux.OpenposeDetector.detect_poses", people)
    found = detectors.detect_pose(scene(96, 64))
    assert len(found) == 2, "one joint is no person"
    assert found[1][:3] == ((0.5, 0.25), (0.5, 0.5), None) and len(found[0]) == 18
    drawn = np.asarray(detectors.map("openpose", scene(96, 64)))
    assert drawn.any()
    from pipelines.controlnet.poses import draw_poses

    np.testing.assert_array_equal(drawn, draw_poses(found, 96, 64))


def test_detecting_poses_without_weights_says_where_they_are(detectors: Detectors) -> None:
    with pytest.raises(InvalidRequest, match=r"body_pose_model\.pth \(about 209 MB\)"):
        detectors.detect_pose(scene(64, 64))
