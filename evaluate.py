"""Run methods through one fixed protocol and print the leaderboard.

python evaluate.py --config configs/evaluation/pocket.yaml --runs runs/spotdiff --output results/pocket
"""

import os
import sys
from argparse import ArgumentError
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from contracts.errors import LikenessError
from contracts.suggestions import with_suggestion
from leaderboard.settings import EvaluationSettings

# Spinning OpenMP threads cost small machines twenty times the work; read when torch is imported, which is later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

STAGES = {"all": ("generate", "score", "report"), "generate": ("generate",), "score": ("score",), "report": ("report",)}


def make_parser() -> ArgumentParser:
    """The command line; everything in a configuration file can be given here too."""
    parser = ArgumentParser(
        prog="evaluate.py", description=__doc__, parser_mode="omegaconf+", exit_on_error=False, allow_abbrev=False
    )
    parser.add_argument("--config", action="config", help="YAML file with what follows")
    parser.add_class_arguments(EvaluationSettings)
    parser.add_argument("--runs", type=str, nargs="+", default=[], help="run folders, each as FOLDER or LABEL=FOLDER")
    parser.add_argument("--output", type=str, required=True, help="results folder, resumed if it exists")
    parser.add_argument("--stage", choices=list(STAGES), default="all")
    return parser


def evaluate(settings: EvaluationSettings, runs: Sequence[str], output: str, stages: Sequence[str]) -> None:
    """Run the stages over the results folder. Heavy imports wait until here, tables need hardly any."""
    from leaderboard.results import Results

    results = Results(output)
    if set(stages) & {"generate", "score"}:
        from leaderboard.evaluation import draw_and_score

        draw_and_score(settings, results, runs, stages)
    if "report" in stages and _is_first():
        from leaderboard.report import write_report

        table, notes = write_report(results)
        print("\n".join([table, *(f"note: left out {note}" for note in notes)]))


def _is_first() -> bool:
    """Whether this is the only process, or the one of a launched group that speaks."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or os.environ.get("LOCAL_RANK") or 0) == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line about a mistake of the user."""
    parser = make_parser()
    try:
        given = parser.instantiate(parser.parse_args(arguments))
        settings = EvaluationSettings(given.protocol, given.judges, given.trainer, given.batch_size)
        evaluate(settings, given.runs, given.output, STAGES[given.stage])
    except (ArgumentError, LikenessError) as error:
        if _is_first():
            print(f"error: {with_suggestion(str(error), [a.dest for a in parser._actions])}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
