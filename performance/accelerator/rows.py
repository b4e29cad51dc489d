"""The rows, in order of worth, and what each should reach on one H100."""

from collections.abc import Callable
from dataclasses import dataclass

from performance.accelerator.measuring import Machine
from performance.accelerator.shapes import SHAPES
from performance.accelerator.shapes import thin as thinned
from performance.accelerator.sides import (
    Case,
    Sides,
    enrolling,
    generating,
    judging,
    pidiff,
    sefi_ide,
    spotdiff,
    textual_inversion,
    training,
)


@dataclass(frozen=True)
class Goal:
    """A bound on ``figure`` of a row: of ours, or, for ``gain``, of its speed over ``against``."""

    figure: str
    bound: float
    better: str
    """``lower``: an upper bound; ``higher``: a lower one."""
    against: str = "plain"

    def value(self, sides: Sides) -> float | None:
        """What was found, where it was measured."""
        if self.figure == "gain":
            return gain(sides, self.against)
        return sides.get("ours", {}).get(self.figure)

    def holds(self, value: float) -> bool:
        """Whether the goal is met."""
        return value <= self.bound if self.better == "lower" else value >= self.bound

    def __str__(self) -> str:
        sign = "at most" if self.better == "lower" else "at least"
        return f"{self.figure.replace('_', ' ')} {sign} {self.bound:g}"


def gain(sides: Sides, against: str = "plain") -> float | None:
    """Images a second of ours over those of another side; of 16 subjects over one by one."""
    ours, other = sides.get("ours", {}).get("images_per_second"), sides.get(against, {}).get("images_per_second")
    if ours is None or other is None:
        return None
    return other / ours if against == "of 16" else ours / other


@dataclass(frozen=True)
class Row:
    """A benchmark by name. ``seconds`` is about what it takes on an H100: it is begun only where so many are left."""

    name: str
    shape: str
    measure: Callable[[Machine, Case], Sides]
    seconds: int
    goals: tuple[Goal, ...] = ()
    size: int | None = 1
    compiled: bool = False

    def case(self, thin: bool) -> Case:
        """What it is measured with. Raises ``KeyError`` where the shape is none that this version has."""
        shape = SHAPES[self.shape]
        return Case(thinned(shape) if thin else shape, self.size, self.compiled)


def _training(make: Callable) -> Callable[[Machine, Case], Sides]:
    return lambda machine, case: training(machine, case, make)


def _enrolling(make: Callable) -> Callable[[Machine, Case], Sides]:
    return lambda machine, case: enrolling(machine, case, make)


_GAIN = Goal("gain", 1.8, "higher")
_IDLE = Goal("idle", 0.05, "lower")
_RATE = Goal("images_per_second", 105, "higher")
_MANY = Goal("gain", 2.5, "higher", against="of 16")
ROWS = (
    Row("spotdiff-sd15-1", "sd15", _training(spotdiff), 45, (Goal("ms", 60, "lower"), _GAIN)),
    Row("spotdiff-sd15-largest", "sd15", _training(spotdiff), 60, (_RATE, _GAIN, _IDLE), size=None),
    Row("generate-sd15-16", "sd15", generating, 60, (Goal("images_per_second", 7.5, "higher"),), size=16),
    Row("sefi_ide-sd15", "sd15", _enrolling(sefi_ide), 50, (_MANY,)),
    Row("spotdiff-sd15-1-compiled", "sd15", _training(spotdiff), 110, (Goal("ms", 60, "lower"), _GAIN), compiled=True),
    Row("pidiff-sd15-1", "sd15", _training(pidiff), 45, (_GAIN,)),
    Row("spotdiff-sdxl-1", "sdxl", _training(spotdiff), 60, (Goal("ms", 250, "lower"),)),
    Row("generate-sdxl-4", "sdxl", generating, 60, size=4),
    Row("spotdiff-sd15-largest-compiled", "sd15", _training(spotdiff), 150, (_RATE, _GAIN), size=None, compiled=True),
    Row("generate-sd15-16-compiled", "sd15", generating, 120, size=16, compiled=True),
    Row("textual_inversion-sd15", "sd15", _enrolling(textual_inversion), 45, (_MANY,)),
    Row("pidiff-sd15-largest", "sd15", _training(pidiff), 60, size=None),
    Row("spotdiff-sdxl-largest", "sdxl", _training(spotdiff), 90, size=None),
    Row("sefi_ide-sdxl", "sdxl", _enrolling(sefi_ide), 90),
    Row("pidiff-sdxl-1", "sdxl", _training(pidiff), 90),
    Row("judges-sd15-16", "sd15", judging, 30, size=16),
)
