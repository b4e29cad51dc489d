"""What SpotDiff's parts and its photos bring (S4 to S6 of the spec sheet), on one board of its ablations.

python -m claims.ablations --results results/ablations

The board is that of evaluate.py with these entries, each of which may have several trainings, all of one schedule and
with pairs `same`, where there is something to disentangle:

    spotdiff        the configuration
    none            --model.orthogonality none
    no_pose         --model.pose_expert false
    no_background   --model.background_expert false
    photos_1000     --data.subjects with a thousand photos among them
    photos_3000     --data.subjects with three thousand

A claim holds, does not hold (an effect of the margin in ``claims/margins.yaml`` is excluded), or is open. What a board
lacks is named and left out. Prints the claims and exits 1 unless all of them were checked and hold.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from claims import checks
from claims.board import IDENTITY, PROMPT, Board
from claims.checks import Check, report_found
from claims.effects import paired_effect
from claims.margins import Measure
from contracts.commands import as_command
from leaderboard.results.folder import Results

NAMES = ("spotdiff", "none", "no_pose", "no_background", "photos_1000", "photos_3000")
LEAKAGE: dict[str, tuple[str, Measure]] = {
    "pose": ("pose_leakage", "rate"),  # 1 at the reference's pose, 0 at 45 degrees from it
    "background": ("background_copied", "rate"),
}
"""Column and measure by the factor that an expert knows."""
FOREGROUND = "clip_i_foreground"
less, keeps = partial(checks.less, effect_of=paired_effect), partial(checks.keeps, effect_of=paired_effect)


def expert_claims(board: Board) -> Iterator[Check | str]:
    """S4: without an expert its factor leaks more, and the other one does not. Checks, and in their place the name of
    what could not be checked."""
    for factor, other in (("pose", "background"), ("background", "pose")):
        if not {"spotdiff", arm := f"no_{factor}"} <= board.rows.keys():
            yield f"S4 for the {factor} expert ({arm})"
            continue
        column, measure = LEAKAGE[factor]
        whole, without = (board.by_subject(name, column) for name in ("spotdiff", arm))
        yield less(f"S4 {factor} leaks less with its expert", whole, without, measure)
        column, measure = LEAKAGE[other]
        whole, without = (board.by_subject(name, column) for name in ("spotdiff", arm))
        yield keeps(f"S4 {other} leaks no more without the {factor} expert", whole, without, measure)


def constraint_claims(board: Board) -> Iterator[Check | str]:
    """S5: the constraint costs neither prompt fit nor likeness of the person; as :func:`expert_claims`."""
    if not {"spotdiff", "none"} <= board.rows.keys():
        yield "S5 (none)"
        return
    ours, free = (board.prompt_kept(name) for name in ("spotdiff", "none"))
    yield keeps(f"S5 {PROMPT} is kept with the constraint", ours, free, "prompt_kept")
    ours, free = (board.by_subject(name, FOREGROUND) for name in ("spotdiff", "none"))
    yield keeps("S5 likeness of the person alone is kept with the constraint", ours, free, "clip_i")


def photo_claims(board: Board) -> Iterator[Check | str]:
    """S6: from 3,000 photos on, more of them bring less than matters, and 1,000 are too few; as
    :func:`expert_claims`."""
    if not {"spotdiff", "photos_1000", "photos_3000"} <= board.rows.keys():
        yield "S6 (photos_1000, photos_3000)"
        return
    few, some, every = (board.by_subject(name, IDENTITY) for name in ("photos_1000", "photos_3000", "spotdiff"))
    yield less("S6 1,000 photos give less identity than all", few, every, "identity")
    yield keeps("S6 3,000 photos give as much identity as all", some, every, "identity")


@as_command
def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m claims.ablations", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", required=True, help="results folder of evaluate.py")
    parser.add_argument(
        "--label", nargs="*", default=[], metavar="NAME=LABEL", help=f"an entry that is not called {', '.join(NAMES)}"
    )
    arguments = parser.parse_args(given)
    board = Board.of(Results(arguments.results), NAMES, arguments.label)
    return report_found(one for claims in (expert_claims, constraint_claims, photo_claims) for one in claims(board))


if __name__ == "__main__":
    sys.exit(main())
