"""Whether two runs, or two results, are the same: what was trained, on which samples, what was logged and scored."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from leaderboard.results.costs import VARYING

_RATES = ("images_per_second", "peak_memory_gb")
_CLOCKS = (".seconds", "images_per_second")
"""What was measured with a clock, by the end of its name."""
_COSTS = (*VARYING, "peak_memory_bytes", "train_seconds")


def run_differences(run: Path, whole: Path, ids: Path | None = None, whole_ids: Path | None = None) -> list[str]:
    """What differs between a run and the one that it must equal: weights, optimiser, points, and sample ids where
    :class:`performance.faults.inject.SampleIds` wrote them."""
    found = [f"weights {name}" for name in _unequal(_weights(run), _weights(whole))]
    one, two = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (run, whole))
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        found += [f"checkpoint {name}" for name in _unequal(one[part], two[part], part) if not name.endswith(_CLOCKS)]
    found += [f"TensorBoard {name}" for name in _unequal(points(run), points(whole))]
    if ids is not None and whole_ids is not None:
        found += [f"samples of step {name}" for name in _unequal(sample_ids(ids), sample_ids(whole_ids))]
    return found


def points(run: Path) -> dict[str, dict[int, float]]:
    """Everything that was logged, by name and step, but for rates and memory, whose values are their number."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    found = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    found |= {tag: {e.step: 0.0 for e in events.Images(tag)} for tag in events.Tags()["images"]}
    return {tag: dict.fromkeys(steps, 0.0) if tag in _RATES else steps for tag, steps in found.items()}


def sample_ids(place: Path) -> dict[str, Any]:
    """The samples of all processes by step. A step that was taken twice must have had the same both times."""
    found: dict[str, Any] = {}
    for file in sorted(place.parent.glob(f"{place.name}.*")):
        for line in file.read_text().splitlines():
            step, names = json.loads(line)
            if found.setdefault(f"{step} ({file.suffix})", names) != names:
                found[f"{step} ({file.suffix}), again"] = names
    return found


def boards_differ(results: Path, whole: Path) -> list[str]:
    """What differs between two results folders: the leaderboard without what was measured with a clock, and records."""
    one, two = (_board(folder) for folder in (results, whole))
    found = [f"leaderboard {name}" for name in _unequal(one, two)]
    for path in sorted(whole.glob("entries/*/records.jsonl")):
        other = results / path.relative_to(whole)
        if not other.is_file() or other.read_bytes() != path.read_bytes():
            found.append(f"records of {path.parent.name}")
    return found


def _board(folder: Path) -> Any:
    board = json.loads((folder / "leaderboard.json").read_text())
    for entry in board["entries"]:
        for name in _COSTS:
            entry["costs"].pop(name, None)
    return board


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter.safetensors")


def _unequal(one: Any, two: Any, name: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted({*one, *two}, key=str):
            yield from _unequal(one.get(key), two.get(key), f"{name}.{key}" if name else str(key))
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for number, (first, second) in enumerate(zip(one, two, strict=True)):
            yield from _unequal(first, second, f"{name}[{number}]")
    elif isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        if not torch.equal(one, two):
            yield name
    elif one != two and not (one != one and two != two):  # NaN equals NaN here
        yield name
