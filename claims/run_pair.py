"""Whether the configurations of runs differ in the one setting that a claim is about, and in their seeds."""

from collections.abc import Sequence
from pathlib import Path

from contracts.errors import LikenessError
from leaderboard.plan.trainings import check_seeds, deciding_settings
from lightning_modules.run import Run


def check_arms(runs: Sequence[str], free: Sequence[str], setting: str, off: object) -> None:
    """``runs`` are trainings of one configuration with other seeds, and so are those in ``free``, if there are any,
    which differ from them in ``setting`` only: see :func:`check_pair`.

    Raises ``LikenessError`` naming the runs that do not fit together.
    """
    if free and len(runs) != len(free):
        raise LikenessError(f"--run names {len(runs)} trainings, --without {len(free)}: they are compared in pairs")
    for arm in (runs, free):
        check_seeds([Run(folder) for folder in arm])
    for run, other in zip(runs, free, strict=bool(free)):
        check_pair(Path(run), Path(other), setting, off)


def check_pair(run: Path, free: Path, setting: str, off: object) -> None:
    """The two runs must differ in ``setting`` of the model, which is ``off`` in ``free`` only, and in nothing else that
    decides their weights.

    Raises ``LikenessError`` naming what differs, or the setting that is not what the claim needs.
    """
    ours, other = (deciding_settings(Run(folder).config) for folder in (run, free))
    key = f"model.init_args.{setting}"
    values = [settings.pop(key, off) for settings in (ours, other)]
    if values[0] == off or values[1] != off:
        raise LikenessError(
            f"model.{setting} is {values[0]} in --run and {values[1]} in --without: it must be {off} in --without only"
        )
    differing = sorted(key for key in ours.keys() | other.keys() if ours.get(key) != other.get(key))
    if differing:
        raise LikenessError(
            f"--without: {free} differs from --run in {', '.join(differing[:3])} too: train it with --config "
            f"{run / 'config.yaml'} --model.{setting} {off} --output NEW"
        )
