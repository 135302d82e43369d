"""The drawn world: scenes are reproducible, their captions true, their joints and masks where the picture has
them."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from pipelines.starter.canvas import SIZE
from pipelines.starter.data import held_out_scenes, shard_scenes
from pipelines.starter.figure import JOINTS, LIMBS, POSES, stand_figure
from pipelines.starter.scenes import PAINTS, PLACES, SHIRTS, Person, Scene, Thing, imagine, paint
from pipelines.starter.things import COLOURS
from pipelines.starter.words import ATTRIBUTES, NONE, attributes, describe


def scenes(count: int, seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [imagine(rng) for _ in range(count)]


def test_a_scene_paints_to_the_same_pixels_each_time():
    for scene in scenes(4):
        first, again = paint(scene), paint(scene, masks=True)
        assert first.pixels.shape == (SIZE, SIZE, 3) and first.pixels.dtype == np.uint8
        assert np.array_equal(first.pixels, again.pixels)


def test_another_seed_paints_the_same_scene_otherwise():
    scene = scenes(1)[0]
    assert not np.array_equal(paint(scene).pixels, paint(replace(scene, seed=scene.seed + 1)).pixels)


def test_a_shards_scenes_follow_from_its_number():
    assert shard_scenes(3, 5) == shard_scenes(3, 5)
    assert shard_scenes(3, 5) != shard_scenes(4, 5)


def test_no_training_scene_is_held_out_and_all_measured_ones_are():
    assert not any(scene.held_out for scene in shard_scenes(0, 200))
    assert all(scene.held_out for scene in held_out_scenes(20))


def test_being_held_out_does_not_hang_on_the_seed():
    for scene in held_out_scenes(5):
        assert replace(scene, seed=1).held_out


def test_every_attribute_takes_every_value():
    seen = {name: set() for name in ATTRIBUTES}
    for scene in scenes(6000):
        for name, value in attributes(scene).items():
            seen[name].add(value)
    for name, values in ATTRIBUTES.items():
        assert seen[name] == set(values) - {"free"}, name


def test_what_a_caption_asks_for_is_in_the_scene():
    rng = np.random.default_rng(1)
    for scene in scenes(1500, seed=2):
        truth = attributes(scene)
        for asked in describe(scene, rng).asked:
            assert asked.found(truth), asked


def test_a_caption_names_no_colour_that_is_not_in_the_scene():
    rng = np.random.default_rng(1)
    for scene in scenes(1500, seed=3):
        truth = attributes(scene)
        there = {truth[name] for name in ("shirt", "hair", "house", "cat", "boat", "balloon", "flowers")}
        there |= {"orange", "pink", "green", "blue", "grey", "white"}  # skies, fields, trees
        words = describe(scene, rng).text.replace(",", " ").split()
        for colour in set(words) & set(COLOURS):
            assert colour in there, (words, truth)


def test_a_place_in_the_caption_is_one_in_the_scene():
    rng = np.random.default_rng(1)
    for scene in scenes(800, seed=4):
        places = {value for name, value in attributes(scene).items() if name.endswith("place")}
        text = describe(scene, rng).text
        for place in ("left", "right"):
            assert f"on the {place}" not in text or place in places


def test_captions_vary():
    rng = np.random.default_rng(1)
    scene = scenes(1)[0]
    assert len({describe(scene, rng).text for _ in range(50)}) > 25


@pytest.mark.parametrize("pose", [*POSES, "free"])
@pytest.mark.parametrize("place", PLACES)
def test_joints_lie_inside_the_picture(pose, place):
    for seed in range(12):
        person = Person("woman", "red", "black", pose, place)
        joints = paint(Scene("day", "meadow", person=person, seed=seed)).joints
        assert joints.shape == (len(JOINTS), 2)
        assert (joints >= 0).all() and (joints < SIZE).all()


def test_limbs_join_known_joints_and_reach_all_of_them():
    assert {joint for limb in LIMBS for joint in limb} == set(range(18))


def test_a_pose_that_does_not_exist_is_an_error():
    with pytest.raises(KeyError):
        stand_figure(128, 240, 130, "flying", False, np.random.default_rng(0))


def test_the_person_is_where_its_joints_are():
    for place, x in zip(PLACES, (50, 128, 206), strict=True):
        joints = paint(Scene("day", "snow", person=Person("man", "red", "black", "standing", place))).joints
        assert abs(joints[1, 0] - x) < 20


def test_masks_cover_what_they_name():
    scene = Scene("day", "snow", person=Person("man", "red", "black", "standing", "left"),
                  house=Thing("blue", "right"), seed=5)  # fmt: skip
    picture = paint(scene, masks=True)
    assert set(picture.masks) == {"person", "house"}
    house = picture.pixels[picture.masks["house"]].astype(int)
    assert ((house[:, 2] - house[:, 0]) > 80).mean() > 0.3  # mostly blue walls
    assert picture.masks["house"][:, :100].sum() == 0
    person = picture.masks["person"]
    torso = picture.joints[[1, 2, 5, 8, 11]].mean(0)
    assert person[round(torso[1]), round(torso[0])]
    assert not (person & picture.masks["house"]).any()


def test_a_mask_is_exactly_what_changes_without_the_thing():
    scene = Scene("day", "desert", house=Thing("green", "middle"), seed=8)
    picture, bare = paint(scene, masks=True), paint(replace(scene, house=None))
    changed = np.abs(picture.pixels.astype(int) - bare.pixels).max(-1) > 24
    mask = picture.masks["house"]
    assert (changed & mask).sum() / mask.sum() > 0.97
    assert (changed & ~mask).sum() / mask.sum() < 0.12  # its shadow and soft edge


@pytest.mark.parametrize("time", ["day", "sunset", "night", "cloudy"])
def test_colours_can_be_told_apart_at_every_hour(time):
    walls = {}
    for colour in PAINTS:
        picture = paint(Scene(time, "snow", house=Thing(colour, "middle"), seed=3), masks=True)
        rows, columns = np.nonzero(picture.masks["house"])
        foot, left = rows.max(), columns[rows == rows.max()].min()
        walls[colour] = picture.pixels[foot - 8 : foot - 2, left + 3 : left + 7].mean((0, 1))
    for first in PAINTS:
        for second in PAINTS:
            assert first == second or np.abs(walls[first] - walls[second]).max() > 30, (first, second)


def test_drawing_needs_no_torch():
    for name in ("canvas", "figure", "scenes", "things", "words", "data"):
        source = sys.modules[f"pipelines.starter.{name}"].__file__
        with open(source, encoding="utf-8") as file:
            assert "import torch" not in file.read(), name


def test_the_palette_is_shared():
    assert set(SHIRTS) == set(COLOURS) and set(PAINTS) <= set(COLOURS) and NONE not in COLOURS
