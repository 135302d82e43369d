"""Poses: OpenPose's JSON in the shapes that people have, the sentences about what is none, and the map."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.controlnet import poses
from pipelines.controlnet.poses import JOINTS, InvalidPose

PLACE = st.floats(poses.LEAST, poses.MOST, allow_nan=False)
JOINT = st.one_of(st.none(), st.tuples(PLACE, PLACE))
POSE = st.lists(JOINT, min_size=18, max_size=18).map(tuple).filter(lambda pose: sum(map(bool, pose)) > 1)
PEOPLE = st.lists(POSE, min_size=1, max_size=poses.MOST_PEOPLE).map(tuple)

SHARES = tuple(((number + 1) / 20, (18 - number) / 20) for number in range(18))


def row(pose: Any, width: float = 1, height: float = 1) -> list[float]:
    return [
        value
        for joint in pose
        for value in ([joint[0] * width, joint[1] * height, 0.9] if joint else [0] * 3)
    ]


def told(*rows: Any, **more: Any) -> str:
    return json.dumps({"people": [{"pose_keypoints_2d": one} for one in rows], **more})


def close(found: Any, wanted: Any, by: float = 1e-9) -> bool:
    """Whether two tuples of poses are the same: None at the same joints, the others within `by`."""
    pairs = [
        (a, b) for one, other in zip(found, wanted, strict=True) for a, b in zip(one, other, strict=True)
    ]
    return all((a is None) == (b is None) for a, b in pairs) and all(
        abs(p - q) <= by for a, b in pairs if a is not None for p, q in zip(a, b, strict=True)
    )


@given(PEOPLE, st.integers(64, 2048), st.integers(64, 2048))
def test_what_is_written_is_read_again(people: Any, width: int, height: int) -> None:
    largest = max(max(abs(x) * width, abs(y) * height) for pose in people for x, y in filter(None, pose))
    text = poses.format(people, width, height)
    if largest > 2:  # everybody in the corner would be shares
        assert close(poses.parse(text, width, height), people)
    frame = json.loads(text)
    assert (frame["canvas_width"], frame["canvas_height"]) == (width, height)
    assert {len(person["pose_keypoints_2d"]) for person in frame["people"]} == {54}


@given(POSE)
def test_a_mirrored_pose_mirrored_is_the_pose(pose: Any) -> None:
    assert close([poses.mirrored(poses.mirrored(pose))], [pose])


def test_a_mirror_exchanges_left_and_right() -> None:
    pose: list[Any] = [None] * 18
    pose[JOINTS.index("right wrist")] = (0.2, 0.6)
    pose[JOINTS.index("left ear")] = (0.75, 0.1)
    turned = poses.mirrored(pose)
    assert turned[JOINTS.index("left wrist")] == (0.8, 0.6)
    assert turned[JOINTS.index("right ear")] == (0.25, 0.1)
    assert sum(joint is not None for joint in turned) == 2
    numbered = poses.mirrored(tuple((0.0, float(number)) for number in range(18)))
    assert [name for number, name in enumerate(JOINTS) if numbered[number] == (1.0, number)] == [
        "nose",
        "neck",
    ]


@pytest.mark.parametrize("width, height", [(256, 256), (640, 512)])
def test_pixels_are_those_of_the_canvas(width: int, height: int) -> None:
    text = told(row(SHARES, 320, 256), canvas_width=320, canvas_height=256)
    expected = SHARES if (width, height) == (640, 512) else tuple((x, y * 0.8 + 0.1) for x, y in SHARES)
    assert close(poses.parse(text, width, height), [expected])


def test_pixels_without_a_canvas_are_those_of_the_picture() -> None:
    assert close(poses.parse(told(row(SHARES, 512, 256)), 512, 256), [SHARES])


def test_shares_are_told_by_their_size_with_and_without_a_canvas() -> None:
    assert close(poses.parse(told(row(SHARES)), 512, 512), [SHARES])
    text = told(row(SHARES), canvas_width=768, canvas_height=768)
    assert close(poses.parse(text, 512, 512), [SHARES])


def test_a_canvas_of_another_shape_squeezes_nobody() -> None:
    square = row(((0.0, 0.0), (1.0, 1.0), *[None] * 16))
    for text in (told([100 * v for v in square], canvas_width=100, canvas_height=100),
                 told(square, canvas_width=100, canvas_height=100)):  # fmt: skip
        found = poses.parse(text, 200, 100)[0]
        assert found[:2] == ((0.25, 0.0), (0.75, 1.0))


def test_the_editors_list_and_comfyuis_frames_are_read() -> None:
    body = {
        "pose_keypoints_2d": row(SHARES, 512, 512),
        "hand_left_keypoints_2d": None,
        "face_keypoints_2d": [],
    }
    empty = {"people": [], "canvas_width": 512, "canvas_height": 512}
    text = json.dumps([empty, {**empty, "people": [body, {"face_keypoints_2d": [1, 2, 3]}], "animals": []}])
    assert close(poses.parse(text, 512, 512), [SHARES])


def test_body_25_leaves_out_the_middle_of_the_hips_and_the_feet() -> None:
    middle, toes = (0.99, 0.99), [(0.01, 0.01)] * 6
    text = told(row([*SHARES[:8], middle, *SHARES[8:], *toes], 400, 400), canvas_width=400, canvas_height=400)
    assert close(poses.parse(text, 400, 400), [SHARES])


def test_a_joint_without_confidence_is_not_seen() -> None:
    numbers = row(SHARES)
    numbers[3 * 4 + 2] = 0
    found = poses.parse(told(numbers), 256, 256)[0]
    assert [name for name, joint in zip(JOINTS, found) if joint is None] == ["right wrist"]


LONE = [1, 1, 1, *[0] * 51]


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "stops being JSON at line 1"),
        ('{\n"people": [', "stops being JSON at line 2"),
        ("[" * 100_000, "no pose"),
        ("5", 'no list of "people"'),
        ('{"people": 3}', 'no list of "people"'),
        ('{"people": []}', "shows no people"),
        ('{"people": [{"pose_keypoints_2d": null}]}', "shows no people"),
        ('{"people": [7]}', "Person 1 has no list"),
        (told([1, 2, 3]), "Person 1 has 3 numbers"),
        (told(row(SHARES), row(SHARES)[:-1]), "Person 2 has 53 numbers"),
        (told([float("nan"), *row(SHARES)[1:]]), "'nan' where a number should be"),
        (told([float("inf"), *row(SHARES)[1:]]), "'inf' where a number should be"),
        (told([10**400, *row(SHARES)[1:]]), "where a number should be"),
        (told(["1", *row(SHARES)[1:]]), "'1' where a number should be"),
        (told([True, *row(SHARES)[1:]]), "'True' where a number should be"),
        (told(LONE), "Person 1 is a pose of one joint"),
        (told([0] * 54), "Person 1 is a pose of no joints"),
        (told(*[row(SHARES)] * 9), "9 people in this pose, and 8 are the most"),
        (told([5000, *row(SHARES, 256, 256)[1:]]), "The nose of person 1 lies far outside"),
        ('{"people": []}' + " " * 4_000_000, "too long"),
    ],
)
def test_what_is_no_pose_is_told_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(InvalidPose) as caught:
        poses.parse(text, 256, 256)
    sentence = str(caught.value)
    assert words in sentence
    assert sentence.endswith(".") and len(sentence) < 320


@given(st.text(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["people", "pose_keypoints_2d", "canvas_width"]), inner, max_size=3),
).map(json.dumps))  # fmt: skip
def test_no_text_does_more_than_fail_with_a_sentence(text: str) -> None:
    try:
        poses.parse(text, 256, 256)
    except InvalidPose as problem:
        assert str(problem).endswith(".")


@pytest.mark.parametrize(
    "people, words",
    [
        ([], "no people"),
        (None, "no people"),
        ("people", "no people"),
        ([[None] * 17], "does not have 18 joints"),
        ([[[0.5, 0.5, 1.0]] * 18], "is not a place"),
        ([[[0.5, "0.5"]] * 18], "where a number should be"),
        ([[[0.5, 2.01]] * 18], "lies far outside"),
    ],
)
def test_what_a_page_may_not_send_is_refused(people: Any, words: str) -> None:
    with pytest.raises(InvalidPose, match=words):
        poses.check(people)


@given(PEOPLE)
def test_what_a_page_sends_becomes_poses(people: Any) -> None:
    assert poses.check(json.loads(json.dumps(people))) == people


def test_the_presets_stand_in_the_picture_as_the_storybook_figures_do() -> None:
    presets = poses.presets()
    assert len(presets) >= 12
    assert (
        len({preset.key for preset in presets}) == len({preset.title for preset in presets}) == len(presets)
    )
    assert sum(len(preset.poses) == 2 for preset in presets) >= 1
    for preset in presets:
        for pose in poses.check(preset.poses):
            places = np.array(pose) * 256
            assert places.min() >= 8 and places.max() <= 248, preset.key
            lowest = 205 if preset.key == "jumping" else 228
            assert lowest <= places[:, 1].max() <= 247, preset.key
            unit = np.linalg.norm(places[0] - places[1]) / 13.5  # from neck to nose
            assert 1.04 <= unit <= 1.46, preset.key
            assert abs(np.linalg.norm(places[2] - places[5]) / unit - 19) < 0.3, preset.key


@pytest.mark.parametrize("width, height", [(256, 256), (200, 320)])
def test_the_map_is_the_one_that_controlnet_aux_draws(width: int, height: int) -> None:
    from controlnet_aux.open_pose.body import Keypoint
    from controlnet_aux.open_pose.util import draw_bodypose

    people = [list(pose) for preset in poses.presets() if len(preset.poses) == 2 for pose in preset.poses][:2]
    people[0][4] = None
    people[1][1] = None
    canvas = np.zeros((height, width, 3), np.uint8)
    for pose in people:
        points = []
        for joint in pose:
            points.append(Keypoint(x=joint[0], y=joint[1]) if joint is not None else None)
        canvas = draw_bodypose(canvas, points)
    found = poses.draw_poses(people, width, height)
    assert found.dtype == np.uint8 and found.shape == (height, width, 3)
    assert np.array_equal(found, canvas)
    assert not np.array_equal(found, poses.draw_poses(people[:1], width, height))
    assert not found[:, : width // 8].any()  # black where nobody is


def test_reading_poses_loads_nothing_heavy() -> None:
    code = (
        "import sys; from pipelines.controlnet import poses; poses.presets();"
        "print(sorted({'numpy', 'cv2', 'torch', 'controlnet_aux', 'gradio'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
