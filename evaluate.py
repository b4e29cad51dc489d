"""Run methods through one fixed protocol, rank images of other programs beside them, and print the leaderboard.

python evaluate.py --config configs/evaluation/pocket.yaml --runs runs/spotdiff --output results/pocket
python evaluate.py --config configs/evaluation/pocket.yaml --stage plan --output results/pocket
python evaluate.py --config configs/evaluation/pocket.yaml --images theirs=FOLDER --output results/pocket
python evaluate.py --config configs/evaluation/pocket.yaml --runs runs/spotdiff --sweep 0.2,0.4 --output results/pocket
python evaluate.py --stage report --output results/pocket
python evaluate.py --compare spotdiff pidiff --output results/pocket
python evaluate.py --verify results/pocket
"""

import os
import sys
from argparse import ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Sequence
from itertools import pairwise

from jsonargparse import ArgumentParser, Namespace

from contracts.early_check import check_files
from contracts.errors import STOPPED, LikenessError, report_fault
from contracts.launcher import forget_stray_ranks, is_first_process
from contracts.lock import folder_lock
from contracts.method_modules import MethodsOption, allow_classes, import_methods, methods_of
from contracts.settings import Contestants, EvaluationSettings
from contracts.streams import outlive_readers, say_stopped, speak_utf8
from contracts.suggestions import with_suggestion

# Spinning OpenMP threads cost small machines twenty times the work; read when torch is imported, which is later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

STAGES = {
    "all": ("generate", "score", "report"),
    "plan": ("plan",),
    "generate": ("generate",),
    "score": ("score",),
    "report": ("report",),
    "cards": (),
}
DEFAULT_CONFIG = "configs/evaluation/pocket.yaml"
"""Whose cards are listed where neither a configuration nor a results folder is given."""


def make_parser(configured: bool = True) -> ArgumentParser:
    """The command line; everything in a configuration file can be given here too.

    Args:
        configured: With the keys of :class:`EvaluationSettings`, which only generation and scoring need.
    """
    parser = ArgumentParser(
        prog="evaluate.py",
        description=__doc__,
        parser_mode="omegaconf+",
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=RawDescriptionHelpFormatter,
    )
    if configured:
        parser.add_argument("--config", action="config", help="YAML file with what follows")
        parser.add_class_arguments(EvaluationSettings, skip={"compile"})
        parser.add_argument(
            "--subjects", type=str, nargs="+", default=[], help="test subjects by name, in place of protocol.subjects"
        )
        parser.add_argument(
            "--compile",
            type=bool,
            nargs="?",
            const=True,
            default=False,
            help="compile the UNet's repeated blocks",
        )
    parser.add_argument(
        "--runs",
        type=str,
        nargs="+",
        default=[],
        help="run folders, each as FOLDER or LABEL=FOLDER; with @STEP the adapter of a step that the run kept; "
        "trainings with other seeds under one LABEL are one entry",
    )
    parser.add_argument(
        "--images",
        type=str,
        nargs="+",
        default=[],
        help="folders of images named by request, each as FOLDER or LABEL=FOLDER; prompt-only=FOLDER is the floor",
    )
    parser.add_argument(
        "--lora",
        type=str,
        nargs="+",
        default=[],
        help="folders of LoRAs that another program trained, one for each subject, each as FOLDER or LABEL=FOLDER",
    )
    parser.add_argument(
        "--sweep",
        type=str,
        default="",
        metavar="VALUES",
        help="draw the curve of each run and folder of LoRAs: generate also at these values of what its method turns, "
        "such as 0.2,0.4,0.8",
    )
    parser.add_argument(
        "--allow_missing",
        type=float,
        nargs="?",
        const=1.0,
        default=0.0,
        metavar="SHARE",
        help="share of the images, 0 to 1, that a folder of --images may lack; any without a number",
    )
    parser.add_argument("--methods", action=MethodsOption)
    parser.add_argument("--output", type=str | None, default=None, help="results folder, resumed if it exists")
    parser.add_argument(
        "--stage",
        choices=list(STAGES),
        default="all",
        help="part of the work; plan writes what images are made from, cards lists what the columns mean",
    )
    parser.add_argument(
        "--compare",
        type=str,
        nargs=2,
        metavar=("A", "B"),
        default=[],
        help="print the paired tests of two entries of --output",
    )
    parser.add_argument(
        "--verify",
        type=str | None,
        metavar="RESULTS",
        default=None,
        help="folder whose images, records and weights to check",
    )
    return parser


def needs_settings(arguments: Sequence[str]) -> bool:
    """Whether the arguments generate or score. A finished folder is read without a configuration."""
    words = _words(arguments)
    reads = {"--verify", "--compare"} & set(words) or _stage(words) in ("report", "cards")
    return "--config" in words or not reads


def with_default(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the default configuration where cards are asked for and nothing says of what."""
    words = _words(arguments)
    of_what = {"--config", "--output", "--verify"} & set(words)
    return [*([] if of_what or _stage(words) != "cards" else ["--config", DEFAULT_CONFIG]), *arguments]


def _words(arguments: Sequence[str]) -> list[str]:
    return [word for a in arguments for word in (a.split("=", 1) if a.startswith("--") else [a])]


def _stage(words: Sequence[str]) -> str:
    return next((value for option, value in pairwise(words) if option == "--stage"), "all")


def run(given: Namespace, settings: EvaluationSettings | None) -> int:
    """Do what the arguments ask for and return the exit code. Heavy imports wait until here."""
    if given.verify is not None:
        from leaderboard.verify import tell

        return tell(given.verify)
    if given.stage == "cards":
        return print_cards(given.output, settings)
    if given.output is None:
        raise LikenessError("--output is missing: the results folder")
    if given.compare:
        from leaderboard.report.tables.head_to_head import compare_entries
        from leaderboard.results.folder import Results

        print(compare_entries(Results(given.output), *given.compare))
        return 0
    entrants = Contestants(given.runs, given.images, given.allow_missing, given.lora, given.sweep)
    evaluate(settings, entrants, given.output, STAGES[given.stage])
    return 0


def evaluate(settings: EvaluationSettings | None, given: Contestants, output: str, stages: Sequence[str]) -> None:
    """Run the stages over the results folder, which is kept for each of them; a report needs no settings.

    Raises:
        LikenessError: also where a method's images could not be generated or scored, after the others were done.
    """
    from leaderboard.results.folder import Results

    results, failures = Results(output), list[str]()
    if settings is not None and set(stages) & {"plan", "generate", "score"}:
        from leaderboard.evaluation import generate_and_score

        failures = generate_and_score(settings, results, given, stages)
    if "report" in stages and is_first_process():
        from leaderboard.report.report import write_report

        with folder_lock(results.root):
            table, notes = write_report(results)
        print("\n".join([table, *(f"note: {note}" for note in notes)]))
    if failures:
        raise LikenessError("; ".join(failures))


def print_cards(output: str | None, settings: EvaluationSettings | None) -> int:
    """List the cards of a results folder, or of what a configuration would measure."""
    from leaderboard.report.tables.cards import list_of_cards

    if output is not None:
        from leaderboard.report.board import board_cards
        from leaderboard.report.drift import read_drift
        from leaderboard.report.scored import read_scored
        from leaderboard.results.folder import Results

        results = Results(output)
        cards = list(board_cards(results, read_scored(results), read_drift(results)).values())
    else:
        from leaderboard.plan.plan import planned_cards

        assert settings is not None  # given by with_default
        cards = planned_cards(settings)
    print(list_of_cards(cards))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after a line about each mistake of the user, or 1 where
    ``--verify`` found something wrong, or 130 where Ctrl-C ended it."""
    arguments = with_default(sys.argv[1:] if arguments is None else arguments)
    configured = needs_settings(arguments)
    parser = make_parser(configured)
    try:
        check_files(arguments)
        allow_classes()
        given = parser.instantiate(parser.parse_args(arguments))
        import_methods(methods_of(arguments))
        settings = None
        if configured:
            given.protocol.subjects = given.subjects or given.protocol.subjects
            settings = EvaluationSettings(
                given.protocol, given.judges, given.trainer, given.batch_size, given.limit, given.compile
            )
        return run(given, settings)
    except (ArgumentError, LikenessError) as error:
        if is_first_process():
            known = ["methods", *(action.dest for action in make_parser()._actions)]
            lines = str(error).splitlines() if isinstance(error, LikenessError) else [str(error)]
            for line in lines:
                print(f"error: {with_suggestion(line, known)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if is_first_process():
            say_stopped()
        return STOPPED
    except Exception as error:
        from training.mistakes import one_line

        if (mistake := one_line(error)) is None:
            return report_fault()
        print(f"error: {mistake}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    speak_utf8()
    outlive_readers()
    forget_stray_ranks()
    sys.exit(main())
