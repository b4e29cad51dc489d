"""Several trainings of one method under one label: what they must have in common, and which folder each gets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from contracts.errors import LikenessError
from leaderboard.plan.entries import RunEntry
from leaderboard.results.entry import Entry
from leaderboard.results.names import label_of
from lightning_modules.run import Run

DECIDING = ("seed_everything", "start_from", "model", "data", "trainer")
"""The parts of a run's configuration that decide its weights. Of ``trainer`` only the keys below count."""
TRAINER = tuple(
    f"trainer.{name}"
    for name in ("max_steps", "max_epochs", "precision", "accumulate_grad_batches", "gradient_clip_val")
)
SEEDS = ("seed_everything", "data.seed")


def check_seeds(runs: Sequence[Run]) -> None:
    """The runs are trainings of one configuration, each with a seed of its own.

    Raises ``LikenessError`` naming two that do not fit together.
    """
    configs = [deciding_settings(run.config) for run in runs]
    for run, config in zip(runs, configs, strict=True):
        keys = (configs[0].keys() | config.keys()) - set(SEEDS)
        if odd := sorted(key for key in keys if configs[0].get(key) != config.get(key)):
            raise LikenessError(f"{run} differs from {runs[0]} in {', '.join(odd[:3])}, not in its seed alone")
    seeds = [tuple(config.get(key) for key in SEEDS) for config in configs]
    if len(set(seeds)) < len(seeds):
        named = ", ".join(map(str, runs))
        raise LikenessError(f"{named}: two trainings have one seed, each must have its own (seed_everything)")


def deciding_settings(config: Mapping[str, object]) -> dict[str, object]:
    """What of a run's configuration decides its weights, by dotted key."""
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


def by_label(runs: Sequence[RunEntry]) -> dict[str, list[RunEntry]]:
    """The trainings of every row, in their order."""
    found: dict[str, list[RunEntry]] = {}
    for one in runs:
        found.setdefault(label_of(one.entry.label), []).append(one)
    return found


def check_trainings(label: str, trainings: Sequence[RunEntry]) -> None:
    """Raise ``LikenessError`` where several runs under one label are not seeds of one configuration."""
    if len(trainings) < 2:
        return
    steps = {run.adapter_file.name for run in (one.run for one in trainings)}
    if len(steps) > 1:
        raise LikenessError(f"--runs: label {label} is given at several steps: take one step of every training")
    try:
        check_seeds([one.run for one in trainings])
    except LikenessError as error:
        instead = "other entries take labels of their own"
        raise LikenessError(f"--runs: label {label} is given {len(trainings)} times, but {error}; {instead}") from error


def in_their_folders(runs: Sequence[RunEntry], known: Sequence[Entry]) -> list[RunEntry]:
    """The same runs, where each of a label's trainings keeps the folder that already holds images of its weights."""
    weights = {entry.label: entry.weights for entry in known}
    placed = []
    for trainings in by_label(runs).values():
        free = {one.entry.label for one in trainings}
        held = {weights[name]: name for name in sorted(free) if name in weights}
        names = {one.entry.weights: held[one.entry.weights] for one in trainings if one.entry.weights in held}
        rest = iter(sorted(free - set(names.values()), key=lambda name: (len(name), name)))
        for one in trainings:
            name = names.get(one.entry.weights) or next(rest)
            placed.append(replace(one, entry=replace(one.entry, label=name)))
    return placed
