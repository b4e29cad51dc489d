"""What an entry cost: what its manifest says, checked where it is read, and the seconds per image that ranks noted."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from contracts.errors import LikenessError

COUNTS = ("peak_memory_bytes", "trainable_parameters")
COSTS = ("seconds_per_image", "enrol_seconds", *COUNTS)
"""What a manifest may say of the cost. The seconds per image of a run are those that generation notes."""


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


def all_costs(manifest: Mapping | None, timings: Sequence[Mapping]) -> dict[str, float | int | None]:
    """Seconds of one process per image, and what the manifest says; ``None`` where it is not known.

    Args:
        timings: ``images`` and ``seconds`` of every batch that was generated.
    """
    known = {name: (manifest or {}).get(name) for name in COSTS}
    images = sum(line["images"] for line in timings)
    seconds = sum(line["seconds"] for line in timings)
    return known | ({"seconds_per_image": round(seconds / images, 4)} if images else {})
