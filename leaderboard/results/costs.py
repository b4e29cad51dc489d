"""What an entry cost: what its manifest says, checked where it is read, and the seconds per image that ranks noted."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from contracts.errors import LikenessError

COUNTS = (
    "peak_memory_bytes",
    "trainable_parameters",
    "enrol_peak_memory_bytes",
    "generate_peak_memory_bytes",
    "kept_bytes",
)
COSTS = ("seconds_per_image", "enrol_seconds", *COUNTS[:2], "train_seconds", *COUNTS[2:])
"""What a manifest may say of the cost. The seconds per image of a run are those that generation notes, as are the last
three: peak memory to enrol a subject and to generate, and the size of what is kept of a subject."""
VARYING = ("seconds_per_image", "enrol_seconds", "enrol_peak_memory_bytes", "generate_peak_memory_bytes")
"""Those that generation measures with a clock and the like: they differ from run to run."""


def check_costs(manifest: Mapping, path: Path) -> None:
    """Refuse a manifest, read from ``path``, whose costs are no numbers; one that it does not name is not known.

    Raises:
        LikenessError: a cost is a text, negative, not finite, or a fraction where things are counted.
    """
    for name in COSTS:
        cost = manifest.get(name)
        kinds, words = ((int,), "whole number") if name in COUNTS else ((int, float), "number")
        if cost is not None and not (type(cost) in kinds and math.isfinite(cost) and cost >= 0):
            raise LikenessError(f"{path}: {name} is {cost!r}, it must be a {words} of at least 0: correct or remove it")


def all_costs(manifest: Mapping | None, timings: Sequence[Mapping], noted: Mapping) -> dict[str, float | int | None]:
    """Seconds of one process per image, and what else is known of the cost; ``None`` where it is not known.

    A run that optimises per subject trains nothing before: all that it took was to enrol.

    Args:
        timings: ``images`` and ``seconds`` of every batch that was generated.
        noted: What generation measured besides.
    """
    told = manifest or {}
    known = {name: told.get(name, noted.get(name)) for name in COSTS}
    if "enrolment" in told:
        known["enrol_peak_memory_bytes"] = told.get("peak_memory_bytes")
    elif known["train_seconds"] is None and type(told.get("seconds")) in (int, float):
        known["train_seconds"] = told["seconds"]
    images = sum(line["images"] for line in timings)
    seconds = sum(line["seconds"] for line in timings)
    return known | ({"seconds_per_image": round(seconds / images, 4)} if images else {})
