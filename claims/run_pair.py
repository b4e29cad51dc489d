"""Whether the configurations of two runs differ in the one setting that a claim is about."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from contracts.errors import LikenessError
from lightning_modules.run import Run

DECIDING = ("seed_everything", "start_from", "model", "data", "trainer")
"""The parts of a run's configuration that decide its weights. Of ``trainer`` only the keys below count."""
TRAINER = tuple(
    f"trainer.{name}"
    for name in ("max_steps", "max_epochs", "precision", "accumulate_grad_batches", "gradient_clip_val")
)


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
