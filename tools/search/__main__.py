"""Search a method's settings with the effort that every method gets: eight short trainings, on validation subjects.

    python -m tools.search --config configs/pocket/spotdiff.yaml --space configs/search/spotdiff.yaml \\
        --output runs/spotdiff-search
    python train.py --config configs/pocket/spotdiff.yaml --config runs/spotdiff-search/best.yaml

Behind `--` may stand further arguments of train.py. A search that was stopped goes on when it is started again.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import yaml
from tqdm import tqdm

from contracts.commands import as_command
from contracts.errors import STOPPED, LikenessError
from contracts.files import write_atomically
from contracts.lock import folder_lock
from contracts.search import Search, Trial
from contracts.streams import say_stopped
from tools.search.short import TRIALS, command, shorten
from tools.search.space import distribution, read_space, tidy
from tools.search.trials import TRAIN, train

RANDOM = 4
"""Trials before the search learns from the earlier ones."""


def search(configs: Sequence[Path], space_file: Path, output: Path, rest: Sequence[str]) -> Search:
    """Run the trials that are left, and write ``search.json`` and ``best.yaml`` into ``output``.

    Raises:
        LikenessError: configuration, space or an earlier search in ``output`` do not fit, or a training failed.
    """
    given = command(configs, rest)
    config = resolved(given)
    short = shorten(config)
    space = read_space(space_file, config)
    config = {key: part for key, part in config.items() if key != "output"}
    plan = Search(config, space, "", TRIALS, short.steps, short.subjects)
    with folder_lock(output):
        file = output / "search.json"
        done = Search.read(file) if file.exists() else plan
        if replace(done, trials=(), measure="") != plan:
            raise LikenessError(f"--output {str(output)!r} holds a search of other settings: give another folder")
        bar = tqdm(range(len(done.trials), TRIALS), initial=len(done.trials), total=TRIALS, desc="search", unit="trial")
        for number in bar:
            done = _with_trial(done, number, [*given, *short.arguments], output)
            done.write(file)
        best = {"search": str(file), **done.best.settings}
        write_atomically(output / "best.yaml", yaml.safe_dump(best, sort_keys=False).encode())
    return done


def _with_trial(done: Search, number: int, arguments: Sequence[str], output: Path) -> Search:
    """One trial more. What it tries is keyed by its number and the earlier ones, so a search goes on as it began."""
    space = {key: distribution(key, part) for key, part in done.space.items()}
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=number, n_startup_trials=RANDOM),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=RANDOM),
    )
    states = {"complete": optuna.trial.TrialState.COMPLETE, "pruned": optuna.trial.TrialState.PRUNED}
    for one in done.trials:
        failed = one.state == "failed"  # as bad as can be, so that the search stays away from there
        study.add_trial(
            optuna.trial.create_trial(
                state=states.get(one.state, optuna.trial.TrialState.COMPLETE),
                params=one.settings,
                distributions=space,
                value=0.0 if failed else one.value if one.values else None,
                intermediate_values=one.values,
            )
        )
    trial = study.ask(space)
    settings = {key: tidy(value) for key, value in trial.params.items()}

    def report(step: int, value: float) -> bool:
        trial.report(value, step)
        return step < done.steps // 2 * 2 and trial.should_prune()  # at its end there is nothing left to save

    options = [f"--{key}={yaml.safe_dump(value).split()[0]}" for key, value in settings.items()]
    ended = train([*arguments, *options], output / "trials" / f"{number:02d}", report)
    return replace(
        done, measure=ended.measure or done.measure, trials=(*done.trials, Trial(settings, ended.values, ended.state))
    )


def resolved(arguments: Sequence[str]) -> dict[str, Any]:
    """The configuration that ``train.py`` makes of its arguments.

    Raises:
        LikenessError: it refuses them, with its own line.
    """
    words = [sys.executable, str(TRAIN), *arguments, "--output=search", "--print_config"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise LikenessError(done.stderr.strip().splitlines()[-1].removeprefix("error: "))
    return yaml.safe_load(done.stdout)


@as_command
def main(given: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line about a mistake of the user, or
    :data:`STOPPED` where it was told to end."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.search", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--config", type=Path, action="append", required=True, help="configuration of train.py")
    parser.add_argument("--space", type=Path, required=True, help="YAML file of what to try")
    parser.add_argument("--output", type=Path, required=True, help="folder of the search; one that was stopped goes on")
    parser.add_argument("rest", nargs="*", metavar="-- ...", help="further arguments of train.py, behind --")
    arguments = parser.parse_args(given)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the trial's training is told too
    try:
        done = search(arguments.config, arguments.space, arguments.output, arguments.rest)
    except KeyboardInterrupt:
        say_stopped("what was tried is kept")
        return STOPPED
    print(f"{'trial':<6} {done.measure:>32}  {'':<9} settings")
    for number, trial in enumerate(done.trials):
        value = f"{trial.value:.4f}" if trial.values else "n/a"
        mark = "best" if trial is done.best else trial.state
        print(f"{number:<6} {value:>32}  {mark:<9} {', '.join(f'{k} {v}' for k, v in trial.settings.items())}")
    print(f"train with: --config {' --config '.join(map(str, arguments.config))} --config {arguments.output}/best.yaml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
