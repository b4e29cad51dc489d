"""Whether two runs of PIDiff differ in the disentanglement loss alone, as their configurations say."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from contracts.errors import LikenessError

WEIGHT = "model.init_args.disentanglement_weight"
DECIDING = ("seed_everything", "start_from", "model", "data", "trainer")
"""The parts of a run's configuration that decide its weights; of the trainer's the keys below."""
TRAINER = tuple(
    f"trainer.{name}"
    for name in ("max_steps", "max_epochs", "precision", "accumulate_grad_batches", "gradient_clip_val")
)


def check_pair(run: Path, free: Path) -> None:
    """The two runs must differ in the disentanglement loss and in nothing else that decides their weights.

    Raises ``LikenessError`` naming what differs, or the weight that is not what the claim needs.
    """
    ours, other = (_deciding(folder) for folder in (run, free))
    weights = [float(settings.pop(WEIGHT, 0.0)) for settings in (ours, other)]  # type: ignore[arg-type]
    if not weights[0] or weights[1]:
        raise LikenessError(
            f"{WEIGHT} is {weights[0]:g} in --run and {weights[1]:g} in --without: it must be 0 in --without only"
        )
    differing = sorted(key for key in ours.keys() | other.keys() if ours.get(key) != other.get(key))
    if differing:
        raise LikenessError(
            f"--without: {free} differs from --run in {', '.join(differing[:3])} too: train it with --config "
            f"{run / 'config.yaml'} --{WEIGHT.replace('.init_args', '')} 0 --output NEW"
        )


def _deciding(folder: Path) -> dict[str, object]:
    """What decides a run's weights, by dotted key."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        return {
            key: value
            for part in DECIDING
            for key, value in _flat(part, config.get(part))
            if not key.startswith(("data.validation_", "data.num_workers", "data.cache_dir", "data.download"))
            and (part != "trainer" or key in TRAINER)
        }
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise LikenessError(f"{folder / 'config.yaml'} is missing or damaged ({error})") from error


def _flat(key: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}", inner)
    else:
        yield key, value
