"""``python -m claims.ablations`` on numbers made up so that each claim holds or fails."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from claims import ablations
from claims.board import IDENTITY, PROMPT, Board
from claims.checks import Check
from tests.helpers.boards import make_results

SPREAD = np.tile(np.linspace(-0.02, 0.02, 12), (3, 1)) + np.array([[-0.002], [0.0], [0.002]])
"""Twelve subjects and three trainings that are about alike."""
COLUMNS = ("pose_leakage", "background_copied", IDENTITY, PROMPT, ablations.FOREGROUND)
MEANS = {
    "spotdiff": (0.1, 0.12, 0.4, 0.98, 0.7),
    "none": (0.6, 0.3, 0.42, 0.97, 0.7),
    "no_pose": (0.5, 0.13, 0.41, 0.98, 0.7),
    "no_background": (0.1, 0.3, 0.41, 0.98, 0.7),
    "photos_1000": (0.1, 0.12, 0.2, 0.98, 0.6),
    "photos_3000": (0.1, 0.12, 0.39, 0.98, 0.7),
}


def board(**changes: tuple[float, ...]) -> Board:
    means = {**MEANS, **changes}

    def by_subject(name: str, column: str) -> np.ndarray:
        return means[name][COLUMNS.index(column)] + SPREAD * (-1 if name == "none" else 1) * 0.1

    fake = SimpleNamespace(rows=means, by_subject=by_subject, prompt_kept=lambda name: by_subject(name, PROMPT))
    return cast(Board, fake)


def failed(board: Board) -> list[str]:
    claims = (ablations.expert_claims, ablations.constraint_claims, ablations.photo_claims)
    checks = [check for found in claims for check in found(board)]
    assert len(checks) == 8 and all(isinstance(check, Check) for check in checks)
    return [check.claim for check in checks if isinstance(check, Check) and not check.holds]


def test_all_hold_where_the_paper_is_right() -> None:
    assert failed(board()) == []


@pytest.mark.parametrize(
    ("name", "means", "claims"),
    [
        ("no_pose", (0.1, 0.3, 0.4, 0.98, 0.7), ["S4 pose leaks less", "S4 background leaks no more"]),
        ("no_background", (0.5, 0.12, 0.4, 0.98, 0.7), ["S4 background leaks less", "S4 pose leaks no more"]),
        ("none", (0.6, 0.3, 0.4, 1.1, 0.8), ["S5 clip_t is kept", "S5 likeness of the person"]),
        ("photos_1000", (0.1, 0.12, 0.4, 0.98, 0.7), ["S6 1,000 photos"]),
        ("photos_3000", (0.1, 0.12, 0.3, 0.98, 0.7), ["S6 3,000 photos"]),
    ],
)
def test_a_wrong_direction_is_named(name: str, means: tuple[float, ...], claims: list[str]) -> None:
    found = failed(board(**{name: means}))
    assert len(found) == len(claims)
    assert all(told.startswith(claim) for told, claim in zip(found, claims, strict=True))


def test_what_a_board_lacks_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(make_results(tmp_path).root)
    assert ablations.main(["--results", root, "--label", "spotdiff=ours"]) == 1
    told = capsys.readouterr().out
    assert "left out: S4 for the pose expert (no_pose); S4 for the background expert (no_background); S5 (none)" in told
    assert ablations.main(["--results", root, "--label", "pose=ours"]) == 2
    assert "--label 'pose=ours': give NAME=LABEL with a name among spotdiff, none" in capsys.readouterr().err
