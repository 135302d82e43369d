"""The pose editor in a real Chromium, on a page of its own: each change is read back from the server.

Places are in pixels of a picture of 256 x 256, which the editor's units are.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from pipelines.controlnet import poses
from pipelines.controlnet.poses import JOINTS
from tests.support import bench
from tests.support.browser import Newcomer, violations
from ui.components.pose import people_of, pose_editor

pytestmark = pytest.mark.browser

Open = Callable[..., Any]
STANDING = {preset.key: preset for preset in poses.presets()}["standing"]


def bench_page(taken: list[Any]) -> gr.Blocks:
    """A page with nothing but the editor; what a hand makes there is appended to `taken`."""
    with gr.Blocks() as blocks:
        editor = pose_editor("pose", people=STANDING.poses)
        editor.posed(taken.append, editor, None, show_progress="hidden", trigger_mode="always_last")
    return blocks


class Desk:
    """A page with the editor, and what its server was told."""

    def __init__(self, page: Page, taken: list[Any]):
        self.page, self.taken, self.read = page, taken, 0

    def told(self) -> np.ndarray:
        """The people of the next change the server hears of, float (n, 18, 2) in pixels, NaN where hidden."""
        for _ in range(400):
            if len(self.taken) > self.read:
                break
            self.page.wait_for_timeout(25)  # the page has to go on while the server is waited for
        assert len(self.taken) > self.read, "the server heard of no change"
        self.read += 1
        people = self.taken[self.read - 1]["people"]
        return pixels(people)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where on the page a place of the picture is."""
        found = self.page.evaluate(
            """([x, y]) => { const svg = document.querySelector('.pose-canvas svg');
                const point = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
                return [point.x, point.y]; }""",
            [x, y],
        )
        return found[0], found[1]

    def drag(self, start: Any, end: Any, *, release: bool = True) -> None:
        mouse = self.page.mouse
        mouse.move(*self.at(*start))
        mouse.down()
        mouse.move(*self.at((start[0] + end[0]) / 2, (start[1] + end[1]) / 2))
        mouse.move(*self.at(*end))
        if release:
            mouse.up()

    def joint(self, name: str, person: int = 1) -> Any:
        return self.page.locator(f".joint[aria-label^='{name}, person {person}']")

    def tool(self, name: str) -> None:
        self.page.get_by_role("button", name=name).click()


def pixels(people: Any) -> np.ndarray:
    return np.array([[joint or (np.nan, np.nan) for joint in pose] for pose in people], float) * 256


def joint(name: str) -> int:
    return JOINTS.index(name)


BEFORE = pixels(STANDING.poses)[0]
ARM = [joint(f"left {part}") for part in ("elbow", "wrist")]


@pytest.fixture(scope="module")
def taken() -> list[Any]:
    return []


@pytest.fixture(scope="module")
def address(taken: list[Any]) -> Iterator[str]:
    with bench.served(bench_page(taken)) as url:
        yield url


@pytest.fixture
def visit(newcomer: Newcomer, address: str, taken: list[Any]) -> Open:
    @contextmanager
    def open_page(width: int = 700, height: int = 900, **options: Any) -> Iterator[Desk]:
        with newcomer(width, height, **options) as page:
            page.goto(address)
            expect(page.locator(".joint")).to_have_count(18)
            taken.clear()
            yield Desk(page, taken)

    return open_page


@pytest.fixture
def desk(visit: Open) -> Iterator[Desk]:
    with visit() as found:
        yield found


def changed(after: np.ndarray, before: np.ndarray = BEFORE) -> set[str]:
    """Names of the joints that are elsewhere."""
    return {
        name for name, a, b in zip(JOINTS, after, before) if not np.allclose(a, b, atol=0.02, equal_nan=True)
    }


def test_a_dragged_joint_alone_goes_where_the_pointer_went(desk: Desk) -> None:
    wrist = joint("left wrist")
    desk.drag(BEFORE[wrist], (190, 120))
    after = desk.told()[0]
    assert changed(after) == {"left wrist"}
    assert np.abs(after[wrist] - (190, 120)).max() <= 1
    assert len(desk.taken) == 1  # the server hears of the end of a drag, not of its way
    expect(desk.joint("left wrist")).to_be_focused()
    expect(desk.page.locator(".pose-line .words")).to_have_text("left wrist, person 1: 190, 120")


def test_a_joint_may_stick_out_of_the_picture_but_not_get_lost(desk: Desk) -> None:
    wrist = joint("left wrist")
    desk.drag(BEFORE[wrist], (400, -300))
    assert np.abs(desk.told()[0][wrist] - (276, -20)).max() <= 1


def test_a_limb_takes_along_what_hangs_on_it_and_alt_turns_it(desk: Desk) -> None:
    elbow, wrist = ARM
    forearm = (BEFORE[elbow] + BEFORE[wrist]) / 2
    desk.drag(forearm, forearm + np.array((20, -10)))
    after = desk.told()[0]
    assert changed(after) == {"left elbow", "left wrist"}
    assert np.abs(after[ARM] - BEFORE[ARM] - (20, -10)).max() <= 1
    desk.page.keyboard.press("Control+z")
    assert changed(desk.told()[0]) == set()
    desk.page.keyboard.down("Alt")
    desk.drag(BEFORE[elbow], BEFORE[joint("left shoulder")] + (30, 0))
    desk.page.keyboard.up("Alt")
    turned = desk.told()[0]
    assert changed(turned) == {"left elbow", "left wrist"}
    for a, b in (
        ("left shoulder", "left elbow"),
        ("left elbow", "left wrist"),
        ("left shoulder", "left wrist"),
    ):
        lengths = [np.linalg.norm(pose[joint(a)] - pose[joint(b)]) for pose in (BEFORE, turned)]
        assert lengths[0] == pytest.approx(lengths[1], abs=0.01)
    shoulder = turned[joint("left shoulder")]
    assert turned[elbow][1] == pytest.approx(shoulder[1], abs=1) and turned[elbow][0] > shoulder[0]


def test_the_switch_for_lengths_does_what_alt_does(desk: Desk) -> None:
    desk.tool("Keep lengths")
    knee = joint("right knee")
    desk.drag(BEFORE[knee], BEFORE[knee] + (-20, -8))
    after = desk.told()[0]
    assert changed(after) == {"right knee", "right ankle"}
    lengths = [np.linalg.norm(pose[joint("right hip")] - pose[knee]) for pose in (BEFORE, after)]
    assert lengths[0] == pytest.approx(lengths[1], abs=0.01)


@pytest.mark.parametrize("grip", ["neck", "torso"])
def test_the_neck_and_the_torso_carry_the_whole_person(desk: Desk, grip: str) -> None:
    start = BEFORE[1] if grip == "neck" else BEFORE[[2, 5, 5, 8, 11]].mean(axis=0)
    desk.drag(start, start + np.array((-30, 5)))
    assert np.abs(desk.told()[0] - BEFORE - (-30, 5)).max() <= 1


def test_the_box_scales_and_turns(desk: Desk) -> None:
    low, high = BEFORE.min(axis=0) - 11, BEFORE.max(axis=0) + 11
    desk.drag(high, high + (high - low) * 0.2)
    grown = desk.told()[0]
    assert np.ptp(grown, axis=0) == pytest.approx(np.ptp(BEFORE, axis=0) * 1.2, rel=0.02)
    desk.tool("Undo")
    desk.told()
    middle = (BEFORE.min(axis=0) + BEFORE.max(axis=0)) / 2
    knob = desk.page.locator(".knob").bounding_box()
    assert knob is not None
    desk.page.mouse.move(knob["x"] + knob["width"] / 2, knob["y"] + knob["height"] / 2)
    desk.page.mouse.down()
    desk.page.mouse.move(*desk.at(middle[0] + 80, middle[1]), steps=4)
    desk.page.mouse.up()
    spin = desk.told()[0] - middle
    across, down = (BEFORE - middle).T  # a quarter to the right: up becomes right
    assert spin == pytest.approx(np.stack([-down, across], axis=1), abs=2)


def test_escape_puts_back_what_is_dragged_and_stops_nothing_else(desk: Desk) -> None:
    page = desk.page
    page.evaluate(
        "document.addEventListener('keydown', ({ key }) => key === 'Escape' && (window.escaped = true), true)"
    )
    desk.drag(BEFORE[4], (60, 60), release=False)
    expect(page.locator(".pose-line .words")).to_have_text("right wrist, person 1: 60, 60")
    page.keyboard.press("Escape")
    page.mouse.up()
    x, y = (round(value) for value in BEFORE[4])
    expect(page.locator(".pose-line .words")).to_have_text(f"right wrist, person 1: {x}, {y}")
    assert page.evaluate("window.escaped") is None
    page.keyboard.press("Escape")
    assert page.evaluate("window.escaped") is True
    desk.page.keyboard.press("m")
    desk.told()
    assert len(desk.taken) == 1  # the drag was no change


def test_a_mirror_exchanges_sides_and_undo_and_redo_go_back_and_forth(desk: Desk) -> None:
    desk.drag(BEFORE[joint("left wrist")], (185, 110))
    raised = desk.told()[0]
    desk.tool("Mirror this person")
    turned = desk.told()[0]
    sum_of_sides = raised[:, 0].min() + raised[:, 0].max()
    assert turned[joint("right wrist")] == pytest.approx([sum_of_sides - 185, 110], abs=1)
    assert turned[joint("left wrist")][0] == pytest.approx(
        sum_of_sides - raised[joint("right wrist")][0], abs=0.01
    )
    for key, expected in (("z", raised), ("z", BEFORE), ("y", raised), ("Shift+Z", turned)):
        desk.page.keyboard.press(f"Control+{key}")
        assert changed(desk.told()[0], expected) == set()
    expect(desk.page.get_by_role("button", name="Redo")).to_be_disabled()


def test_a_joint_is_hidden_by_two_clicks_and_shown_by_a_key(desk: Desk) -> None:
    wrist = joint("left wrist")
    place = desk.at(*BEFORE[wrist])
    desk.page.mouse.dblclick(*place)
    assert np.isnan(desk.told()[0][wrist]).all()
    expect(desk.joint("left wrist")).to_have_attribute("aria-label", "left wrist, person 1, hidden")
    desk.page.keyboard.press("h")
    assert changed(desk.told()[0]) == set()


def test_a_preset_is_taken_and_a_second_one_keeps_the_place(desk: Desk) -> None:
    presets = {preset.title: pixels(preset.poses) for preset in poses.presets()}
    desk.page.click("[title='Waving']")
    assert changed(desk.told()[0], presets["Waving"][0]) == set()
    start = presets["Waving"][0][1]
    desk.drag(start, start + np.array((-60, 0)))
    desk.told()
    desk.page.click("[title='Arms out']")
    assert desk.told()[0] == pytest.approx(presets["Arms out"][0] - (60, 0), abs=1)
    desk.page.click("[title='Holding hands']")
    assert len(desk.told()) == 2


def test_several_people_are_added_chosen_moved_and_removed(desk: Desk) -> None:
    page = desk.page
    desk.tool("Add a person")
    people = desk.told()
    assert people.shape == (2, 18, 2) and changed(people[0]) == set()
    assert people[1][:, 1].max() == pytest.approx(236, abs=0.1)  # on the same ground
    neck = people[1][1]
    desk.drag(neck, neck + np.array((10, 0)))
    moved = desk.told()
    assert changed(moved[0]) == set() and moved[1] - people[1] == pytest.approx(
        np.tile([10, 0], (18, 1)), abs=1
    )
    desk.tool("Duplicate this person")
    assert len(desk.told()) == 3
    desk.joint("nose", 2).focus()
    page.keyboard.press("Delete")
    assert len(desk.told()) == 2
    for number in range(3, 9):
        page.keyboard.press("n")
        assert len(desk.told()) == number
    expect(page.get_by_role("button", name="Add a person")).to_be_disabled()
    for number in range(7, -1, -1):
        desk.tool("Remove this person")
        assert len(desk.told()) == number
    expect(page.locator(".nobody")).to_be_visible()


def test_joints_are_walked_and_moved_by_keys(desk: Desk) -> None:
    page = desk.page
    page.evaluate(
        "window.heard = []; document.addEventListener('keydown', ({ key }) => window.heard.push(key), true)"
    )
    desk.joint("nose").focus()
    for _ in range(7):
        page.keyboard.press("Tab")
    expect(desk.joint("left wrist")).to_be_focused()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "left wrist, person 1"
    for key, move in (("ArrowRight", (1, 0)), ("Shift+ArrowUp", (1, -10)), ("ArrowDown", (1, -9))):
        page.keyboard.press(key)
        after = desk.told()[0]
        assert changed(after) == {"left wrist"}
        assert after[joint("left wrist")] - BEFORE[joint("left wrist")] == pytest.approx(move, abs=0.01)
    assert set(page.evaluate("window.heard")) == {"Tab", "Shift"}  # the page's own arrows step through a film
    page.keyboard.press("Control+z")
    assert changed(desk.told()[0]) == set()  # nudges in quick succession are one step
    desk.joint("neck").focus()
    page.keyboard.press("ArrowLeft")
    assert desk.told()[0] == pytest.approx(BEFORE - (1, 0), abs=0.01)


def test_an_imported_file_is_shown_and_a_bad_one_is_told(desk: Desk, tmp_path: Path) -> None:
    pose = list(poses.presets()[7].poses[0])
    pose[4] = None
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(poses.format([pose, STANDING.poses[0]], 640, 640))
    bad.write_text('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}')
    page = desk.page
    chooser = page.locator("input[type=file][accept*=json]")
    chooser.set_input_files(bad)
    expect(page.get_by_role("alert")).to_contain_text("Person 1 has 3 numbers")
    expect(page.locator(".joint")).to_have_count(18)
    chooser.set_input_files(good)
    people = desk.told()
    expect(page.get_by_role("alert")).to_have_count(0)
    assert np.allclose(people, pixels([pose, STANDING.poses[0]]), atol=0.01, equal_nan=True)


def test_a_pasted_pose_is_shown(desk: Desk) -> None:
    desk.joint("nose").focus()
    desk.page.evaluate(
        """text => { const data = new DataTransfer(); data.setData('text', text);
            const paste = new ClipboardEvent('paste', { clipboardData: data, bubbles: true });
            document.activeElement.dispatchEvent(paste); }""",
        poses.format(poses.presets()[3].poses, 512, 512),
    )
    assert changed(desk.told()[0], pixels(poses.presets()[3].poses)[0]) == set()


def test_what_is_exported_is_read_again(desk: Desk) -> None:
    desk.page.mouse.dblclick(*desk.at(*BEFORE[10]))
    desk.told()
    desk.page.click("[title='High five']")
    desk.told()
    desk.page.keyboard.press("Control+z")
    people = desk.told()
    with desk.page.expect_download() as download:
        desk.tool("Export OpenPose JSON")
    assert download.value.suggested_filename == "pose.json"
    text = Path(download.value.path()).read_text("utf-8")
    assert json.loads(text)["canvas_width"] == 256
    found = pixels(poses.parse(text, 256, 256))
    assert np.isnan(found[0][10]).all()
    assert np.allclose(found, people, atol=0.01, equal_nan=True)


def test_a_picture_is_laid_underneath_and_taken_away(desk: Desk, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 64), (40, 90, 200)).save(tmp_path / "sea.png")
    page = desk.page
    page.locator("input[type=file][accept='image/*']").set_input_files(tmp_path / "sea.png")
    slider = page.get_by_role("slider", name="Strength of the picture underneath")
    slider.fill("35")
    expect(page.locator("image.traced")).to_have_css("opacity", "0.35")
    page.get_by_role("button", name="Take it away").click()
    expect(page.locator("image.traced")).to_be_hidden()
    expect(slider).to_be_hidden()


EMBED = """async () => {
    const { PoseEditor } = await import(new URL('darkroom/js/pose.js', document.baseURI));
    window.asked = [];
    window.answers = [{ problem: 'Nobody is in this picture.' }, { people: [window.person, window.person] }];
    window.changes = [];
    window.editor = new PoseEditor(document.querySelector('#pose .pose').parentElement, {
        detect: async (file) => (window.asked.push(file.name), window.answers.shift()),
        onChange: (people, final) => window.changes.push([people.length, final]),
    });
    window.editor.show({ people: [window.person], width: 512, height: 256 });
}"""


def test_another_module_embeds_it_and_reads_poses_from_pictures(desk: Desk, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 32), (40, 90, 200)).save(tmp_path / "people.png")
    page = desk.page
    page.evaluate("person => (window.person = person)", people_of(STANDING.poses)[0])
    page.evaluate(EMBED)
    expect(page.get_by_role("button", name="Import OpenPose JSON")).to_have_count(0)  # nothing reads it here
    chooser = page.locator("input[type=file][accept='image/*']").last
    chooser.set_input_files(tmp_path / "people.png")
    expect(page.get_by_role("alert")).to_have_text("Nobody is in this picture.")
    assert page.evaluate("[window.editor.people.length, window.changes]") == [1, []]
    chooser.set_input_files(tmp_path / "people.png")
    expect(page.locator(".joint")).to_have_count(36)
    expect(page.locator("image.traced")).to_be_visible()
    assert page.evaluate("[window.asked, window.changes]") == [["people.png"] * 2, [[2, True]]]
    found = np.array(page.evaluate("window.editor.people"))
    assert found == pytest.approx(np.array([STANDING.poses[0]] * 2), abs=1e-5)
    page.evaluate("window.editor.show({ people: window.editor.people, width: 512, height: 256 })")
    expect(page.get_by_role("button", name="Undo")).to_be_enabled()  # the same people: steps are kept
    page.evaluate("window.editor.destroy()")
    expect(page.locator(".pose")).to_have_count(0)


def test_a_finger_drags_a_joint(visit: Open) -> None:
    with visit(390, 844, has_touch=True) as desk:
        session = desk.page.context.new_cdp_session(desk.page)
        wrist = joint("right wrist")
        way = [desk.at(*BEFORE[wrist]), desk.at(90, 150), desk.at(70, 120)]
        for kind, place in zip(("touchStart", "touchMove", "touchMove", "touchEnd"), [*way, None]):
            points = [{"x": place[0], "y": place[1]}] if place else []
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        after = desk.told()[0]
        assert changed(after) == {"right wrist"}
        assert np.abs(after[wrist] - (70, 120)).max() <= 1


@pytest.mark.parametrize("width", [360, 1100])
def test_the_editor_fits_and_is_accessible(visit: Open, width: int) -> None:
    with visit(width, 800) as desk:
        page = desk.page
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        least = page.evaluate(
            """Math.min(...[...document.querySelectorAll('.pose button, .pose input')]
                .map((node) => node.getBoundingClientRect()).filter((box) => box.width)
                .map((box) => Math.min(box.width, box.height)))"""
        )
        assert least >= 24
        assert violations(page, ".pose") == []
