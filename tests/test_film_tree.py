"""Trees of branches, read from run.json files alone: whatever is missing, cut or in the trash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.film.trajectory import DESCRIPTION, RunInfo, TrajectoryStore, new_run
from pipelines.film.tree import changes, tree_of, trees

A, B, C, D = ("a" * 16, "b" * 16, "c" * 16, "d" * 16)


def run(job: str, parent: str | None = None, at: float = 0, **request: Any) -> RunInfo:
    made = new_run(job, 0, request={"prompt": "a red house at night", **request}, parent=parent)
    return RunInfo(**{**made.__dict__, "created": at or made.created})


def shape(runs: list[RunInfo]) -> list[list[tuple[str, int]]]:
    return [[(node.id[0], depth) for node, depth in root.walk()] for root in trees(runs)]


def test_branches_hang_under_their_parents_and_the_newest_tree_comes_first() -> None:
    runs = [run(A, at=1), run(B, f"{A}-0", at=4), run(C, f"{B}-0", at=5), run(D, at=3)]
    assert shape(runs) == [[("a", 0), ("b", 1), ("c", 2)], [("d", 0)]]
    assert shape(runs[::-1]) == shape(runs)


def test_a_deleted_parent_keeps_its_children_together() -> None:
    [root] = trees([run(B, f"{A}-0", at=2), run(C, f"{A}-0", at=3)])
    assert root.run is None and [child.id[0] for child in root.children] == ["b", "c"]
    assert tree_of([run(B, f"{A}-0")], f"{B}-0") is not None
    assert tree_of([run(B, f"{A}-0")], f"{D}-0") is None


def test_runs_that_name_each_other_as_parents_are_all_there() -> None:
    runs = [run(A, f"{B}-0", at=1), run(B, f"{A}-0", at=2), run(C, f"{C}-0", at=3), run(D, f"{A}-0", at=4)]
    assert sorted(node.id[0] for root in trees(runs) for node, _ in root.walk()) == ["a", "b", "c", "d"]


def test_the_tree_is_whole_beside_half_written_folders(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path)
    store.write(run(A, at=1))
    store.write(run(B, f"{A}-0", at=2))
    store.write(run(C, f"{B}-0", at=3))
    (tmp_path / f"{D}-0" / "steps").mkdir(parents=True)
    (tmp_path / f"{B}-0" / DESCRIPTION).write_text('{"id": "bb')
    (tmp_path / f"{A}-0" / f".{DESCRIPTION}.12.part").write_text("{")
    (tmp_path / ".something.gone").mkdir()
    found = trees(TrajectoryStore(tmp_path).list())
    assert [[(node.id[0], node.run is None) for node, _ in root.walk()] for root in found] == [
        [("b", True), ("c", False)],
        [("a", False)],
    ]


def test_what_is_in_the_trash_stays_in_the_tree_until_it_is_emptied(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path)
    for one in (run(A, at=1), run(B, f"{A}-0", at=2)):
        store.write(RunInfo(**{**one.__dict__, "state": "finished"}))
    store.rename(f"{A}-0", "the first")
    store.trash(f"{A}-0")
    [root] = trees(store.list())
    assert root.trashed and root.run is not None and root.run.name == "the first" and len(root.children) == 1
    store.restore(f"{A}-0")
    assert not trees(store.list())[0].trashed
    store.trash(f"{A}-0")
    store.empty_trash()
    [root] = trees(store.list())
    assert root.run is None and root.children[0].id == f"{B}-0"


def test_a_branch_is_told_by_what_it_changed() -> None:
    ink = {"name": "loras/ink.safetensors"}
    before = run(A, loras=[ink], guidance_scale=7.0)
    for request, told in [
        ({}, ["without ink"]),
        ({"loras": [ink]}, []),
        ({"loras": [{**ink, "weight": 1.0}]}, []),
        ({"loras": [{**ink, "weight": 0.5}]}, ["ink 0.5"]),
        ({"loras": [ink], "prompt": "a red house by day"}, ["by day"]),
        ({"loras": [ink], "prompt": "a house at night"}, ["prompt without red"]),
        (
            {"loras": [ink], "guidance_scale": 9.5, "negative_prompt": "snow"},
            ["leave out: snow", "guidance 9.5"],
        ),
        ({"loras": [ink], "branch": {"trajectory": f"{A}-0", "step": 3, "noise_seed": 4}}, ["noise 4"]),
    ]:
        assert changes(run(B, f"{A}-0", **request), before) == told
