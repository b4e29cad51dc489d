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


def make_parser() -> ArgumentParser:
    """The command line; everything in a configuration file can be given here too."""
    parser = ArgumentParser(prog="evaluate.py", description=__doc__, parser_mode="omegaconf+", exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with what follows")
    parser.add_class_arguments(EvaluationSettings)
    parser.add_argument("--runs", type=str, nargs="+", default=[], help="run folders, each as FOLDER or LABEL=FOLDER")
    parser.add_argument("--output", type=str, required=True, help="results folder, resumed if it exists")
    parser.add_argument("--stage", choices=["all", "generate", "score", "report"], default="all")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line about a mistake of the user."""
    parser = make_parser()
    try:
        given = parser.parse_args(arguments)
        chosen = parser.instantiate(given)
        settings = EvaluationSettings(chosen.protocol, chosen.judges, chosen.trainer, chosen.batch_size)
        from leaderboard.evaluation import evaluate  # torch and all that: not for --help or a misspelt key

        evaluate(settings, chosen.runs, chosen.output, chosen.stage)
    except ArgumentError as error:
        known = [action.dest for action in parser._actions]
        print(f"error: {with_suggestion(str(error), known)}", file=sys.stderr)
        return 2
    except LikenessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
