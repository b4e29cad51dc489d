"""``python -m performance.coverage``: how often intervals over subjects and trainings hold the truth.

Evaluations are simulated whose truth is known: methods differ by nothing, subjects and trainings vary. Counted is how
often the interval of one method holds its value over all subjects and seeds, and how often the paired test tells two
methods apart that do not differ. The table is written into the documentation. Exit 1 where a goal is missed.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from contracts.files import write_atomically
from leaderboard.report.statistics import SIGNIFICANT, compare, ratio_interval
from metrics.base import Ratio

SUBJECTS = 25
EVALUATIONS = 4000
TRAININGS = (2, 3, 5)
SPREADS = (0.0, 0.5, 1.0, 2.0)
"""Standard deviation of a training's mean, over the standard error that the subjects alone give."""
COVERED = (0.93, 0.97)
FALSE_ALARMS = 0.06
IDENTITY, TASTE, REST = 0.08, 0.03, 0.03
"""Standard deviations of subjects, of subjects by method, and of subjects by training with the noise of images."""
PAGE = Path("docs/evaluation.md")
BEGIN, END = "<!-- coverage: python -m performance.coverage -->", "<!-- end of coverage -->"


@dataclass(frozen=True)
class Cell:
    """One case: share of intervals that hold the truth, and of tests that raise a false alarm."""

    trainings: int
    spread: float
    covered: float
    false_alarms: float

    @property
    def holds(self) -> bool:
        """Whether both are within their goals."""
        return COVERED[0] <= self.covered <= COVERED[1] and self.false_alarms <= FALSE_ALARMS


def simulate(trainings: int, spread: float, evaluations: int, seed: int = 0) -> Cell:
    """One case, of so many evaluations with two methods each."""
    rng = np.random.default_rng([seed, trainings, round(10 * spread)])
    covered = alarms = 0
    for _ in range(evaluations):
        subjects = rng.normal(0, IDENTITY, SUBJECTS)
        first, second = (_method(rng, subjects, trainings, spread) for _ in range(2))
        found = ratio_interval(first)
        assert found.low is not None and found.high is not None  # there are subjects enough
        covered += found.low <= 0 <= found.high
        alarms += (compare(first, second).p or 0.0) <= SIGNIFICANT
    return Cell(trainings, spread, covered / evaluations, alarms / evaluations)


def _method(rng: np.random.Generator, subjects: NDArray[np.float64], trainings: int, spread: float) -> Ratio:
    error = np.hypot(IDENTITY, TASTE) / np.sqrt(SUBJECTS)
    values = subjects + rng.normal(0, TASTE, SUBJECTS) + rng.normal(0, spread * error, (trainings, 1))
    values = values + rng.normal(0, REST, (trainings, SUBJECTS))
    return Ratio(values, np.ones_like(values))


def cells(evaluations: int) -> Iterator[Cell]:
    """Every case."""
    for trainings in TRAININGS:
        for spread in SPREADS:
            yield simulate(trainings, spread, evaluations)


def table(found: list[Cell]) -> str:
    """The cases as Markdown: a row for each number of trainings."""
    head = ["trainings", *(f"{spread:g}" for spread in SPREADS)]
    lines = [head, ["---", *["---:"] * len(SPREADS)]]
    for trainings in TRAININGS:
        row = [cell for cell in found if cell.trainings == trainings]
        lines.append([str(trainings), *(f"{cell.covered:.3f} / {cell.false_alarms:.3f}" for cell in row)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """Simulate every case, print the table, and write it into the page."""
    found = list(tqdm(cells(EVALUATIONS), total=len(TRAININGS) * len(SPREADS), desc="simulate", unit="case"))
    print(table(found))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    write_atomically(PAGE, f"{before}{BEGIN}\n\n{table(found)}\n\n{END}{rest.partition(END)[2]}".encode())
    return 0 if all(cell.holds for cell in found) else 1


if __name__ == "__main__":
    sys.exit(main())
