"""Whether the configurations of runs differ in the one setting that a claim is about, and in their seeds."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from contracts.errors import LikenessError
from lightning_modules.run import Run

DECIDING = ("seed_everything", "start_from", "model", "data", "trainer")
"""The parts of a run's configuration that decide its weights. Of ``trainer`` only the keys below count."""
TRAINER = tuple(
    f"trainer.{name}"
    for name in ("max_steps", "max_epochs", "precision", "accumulate_grad_batches", "gradient_clip_val")
)


SEEDS = ("seed_everything", "data.seed")


def check_arms(runs: Sequence[str], free: Sequence[str], setting: str, off: object) -> None:
    """``runs`` are trainings of one configuration with other seeds, and so are those in ``free``, if there are any,
    which differ from them in ``setting`` only: see :func:`check_pair`.

    Raises ``LikenessError`` naming the runs that do not fit together.
    """
    if free and len(runs) != len(free):
        raise LikenessError(f"--run names {len(runs)} trainings, --without {len(free)}: they are compared in pairs")
    for arm in (runs, free):
        _check_seeds(arm)
    for run, other in zip(runs, free, strict=bool(free)):
        check_pair(Path(run), Path(other), setting, off)


def _check_seeds(arm: Sequence[str]) -> None:
    if len(arm) < 2:
        return
    configs = [_deciding(Run(folder).config) for folder in arm]
    for folder, config in zip(arm, configs, strict=True):
        keys = (configs[0].keys() | config.keys()) - set(SEEDS)
        if odd := sorted(key for key in keys if configs[0].get(key) != config.get(key)):
            raise LikenessError(f"{folder} differs from {arm[0]} in {', '.join(odd[:3])}, not in its seed alone")
    seeds = [tuple(config.get(key) for key in SEEDS) for config in configs]
    if len(set(seeds)) < len(seeds):
        raise LikenessError(f"{', '.join(arm)}: two trainings have one seed, each must have its own (seed_everything)")


def check_pair(run: Path, free: Path, setting: str, off: object) -> None:
    """The two runs must differ in ``setting`` of the model, which is ``off`` in ``free`` only, and in nothing else that
    decides their weights.

    Raises ``LikenessError`` naming what differs, or the setting that is not what the claim needs.
    """
    ours, other = (_deciding(Run(folder).config) for folder in (run, free))
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


def _deciding(config: Mapping[str, object]) -> dict[str, object]:
    """What decides a run's weights, by dotted key."""
    return {
        key: value
        for part in DECIDING
        for key, value in _flat(part, config.get(part))
        if not key.startswith(("data.validation", "data.num_workers", "data.cache_dir", "data.download"))
        and (part != "trainer" or key in TRAINER)
    }


def _flat(key: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}", inner)
    else:
        yield key, value
