"""What the three papers claim first of all, that they are better than earlier methods, on one board.

python -m claims.headline --results results/pocket

The results are those of evaluate.py, with every method under its own label. An entry may have several trainings. A
sweep (``--sweep``) is needed to compare at matched prompt fit, and ``--protocol.nobody`` to see what is left of the
base model. A claim holds, does not hold (an effect of the margin in ``claims/margins.yaml`` is excluded), or is open.
Prints the claims and exits 1 unless all of them were checked and hold.

- SpotDiff (arXiv 2510.07340): preserves and edits better than IP-Adapter, enrols faster than optimisers, and learns
  from 10,000 photos.
- PIDiff (arXiv 2505.05081): more identity than W+ Adapter and IP-Adapter FaceID at matched prompt fit, no less
  diversity, and the base model's generation is kept.
- SeFi-IDE (arXiv 2402.00631): more identity and more prompt fit than textual inversion and DreamBooth-LoRA.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from claims import checks
from claims.board import IDENTITY, Board, values_of
from claims.checks import Check, report_found
from claims.effects import unpaired_effect
from contracts.commands import as_command
from contracts.files import cache_folder
from datamodules.index import load_photos
from datamodules.sources import find_shards
from leaderboard.report.drift import FIT
from leaderboard.report.scored import Row
from leaderboard.results.folder import Results
from lightning_modules.run import Run
from metrics.curve import SHARE

METHODS = (
    "spotdiff",
    "pidiff",
    "sefi_ide",
    "ip_adapter",
    "ip_adapter_faceid",
    "wplus_adapter",
    "textual_inversion",
    "dreambooth_lora",
)
"""The methods that the claims are about, each called as its configuration file."""
OPTIMISERS = ("sefi_ide", "textual_inversion", "dreambooth_lora")
PHOTOS = 10_000
DIVERSITY = "diversity"
less, keeps = partial(checks.less, effect_of=unpaired_effect), partial(checks.keeps, effect_of=unpaired_effect)


def spotdiff_claims(board: Board) -> Iterator[Check | str]:
    """Checks, and in their place the name of what could not be checked."""
    if "spotdiff" not in board.rows:
        yield "SpotDiff"
        return
    if "ip_adapter" in board.rows:
        yield less(
            "SpotDiff preserves more identity than IP-Adapter",
            board.by_subject("ip_adapter", IDENTITY),
            board.by_subject("spotdiff", IDENTITY),
            "identity",
        )
        yield less(
            "SpotDiff edits better than IP-Adapter",
            board.prompt_kept("ip_adapter"),
            board.prompt_kept("spotdiff"),
            "prompt_kept",
        )
    else:
        yield "SpotDiff against IP-Adapter"
    ours = board.enrol_seconds("spotdiff")
    others = {m: s for m in OPTIMISERS if m in board.rows and (s := board.enrol_seconds(m)) is not None}
    if ours is None or not others:
        yield "SpotDiff's seconds against those of optimisers"
    for method, seconds in others.items():
        if ours is not None:
            yield Check(f"SpotDiff enrols faster than {method}, in seconds", ours, seconds, ours < seconds)
    photos = _training_photos(board.rows["spotdiff"])
    yield Check("SpotDiff learnt from 10,000 photos at most", photos, PHOTOS, photos <= PHOTOS)


def pidiff_claims(board: Board) -> Iterator[Check | str]:
    """As :func:`spotdiff_claims`."""
    if "pidiff" not in board.rows:
        yield "PIDiff"
        return
    ours = board.matched("pidiff")
    for method in ("wplus_adapter", "ip_adapter_faceid"):
        if method not in board.rows:
            yield f"PIDiff against {method}"
            continue
        theirs = board.matched(method)
        if ours is None or theirs is None:
            yield f"PIDiff against {method} at matched prompt (a sweep in which both keep {SHARE:.0%} of it)"
        else:
            yield less(
                f"PIDiff has more identity than {method} where both keep {SHARE:.0%} of the prompt",
                theirs,
                ours,
                "identity",
            )
        if DIVERSITY in board.rows["pidiff"].columns:
            yield keeps(
                f"PIDiff's images are no less diverse than those of {method}",
                board.by_subject("pidiff", DIVERSITY),
                board.by_subject(method, DIVERSITY),
                "clip_i",
            )
    label = board.rows["pidiff"].label
    if label not in board.drift.columns:
        yield "PIDiff and the base model's generation (--protocol.nobody)"
        return
    kept, base = (board.drift.columns[name][FIT] for name in (label, board.floor.label))
    yield keeps(
        "PIDiff keeps the base model's fit to prompts that name nobody",
        values_of(kept) / base.value,
        values_of(base) / base.value,
        "prompt_kept",
    )


def sefi_ide_claims(board: Board) -> Iterator[Check | str]:
    """As :func:`spotdiff_claims`."""
    if "sefi_ide" not in board.rows:
        yield "SeFi-IDE"
        return
    for method in ("textual_inversion", "dreambooth_lora"):
        if method not in board.rows:
            yield f"SeFi-IDE against {method}"
            continue
        yield less(
            f"SeFi-IDE has more identity than {method}",
            board.by_subject(method, IDENTITY),
            board.by_subject("sefi_ide", IDENTITY),
            "identity",
        )
        yield less(
            f"SeFi-IDE fits prompts better than {method}",
            board.prompt_kept(method),
            board.prompt_kept("sefi_ide"),
            "prompt_kept",
        )


def _training_photos(row: Row) -> int:
    """How many photos the dataset of a run has for training."""
    data = Run.named(row.entry.folder).data
    cache = data.get("cache_dir")
    photos = load_photos(find_shards(str(data.get("source")), cache), cache_folder(cache))
    return sum(photo.split == "train" for photo in photos)


@as_command
def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m claims.headline", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", required=True, help="results folder of evaluate.py")
    parser.add_argument(
        "--label",
        nargs="*",
        default=[],
        metavar="METHOD=LABEL",
        help=f"the entry of a method that is not called {', '.join(METHODS)}",
    )
    arguments = parser.parse_args(given)
    board = Board.of(Results(arguments.results), METHODS, arguments.label)
    return report_found(one for claims in (spotdiff_claims, pidiff_claims, sefi_ide_claims) for one in claims(board))


if __name__ == "__main__":
    sys.exit(main())
