"""Workers average what they learned. In a file of its own: each worker imports it, so it imports little."""

from pathlib import Path

import torch

from pipelines.starter.learning import Team, in_team


def _count_in_team(team: Team, folder: Path) -> None:
    weight = torch.full((3,), float(team.rank))
    clock = team.average([weight], clock=float(team.rank))
    torch.save((weight, clock), folder / f"{team.rank}.pt")


def test_a_team_averages_its_weights_and_clocks(tmp_path):
    in_team(2, "cpu", _count_in_team, tmp_path)
    for rank in range(2):
        weight, clock = torch.load(tmp_path / f"{rank}.pt")
        assert weight.tolist() == [0.5] * 3 and clock == 0.5
