"""The rows that an attribute is drawn from, told by the frozen pair of e4e and its generator.

What a row of a code tells of an attribute does not say whether the generator draws it from there: an encoder may write
the same thing into every row. So a code is edited, drawn and encoded again, and a regression reads what the picture
gained.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from networks.wplus import WPlusEncoder
from networks.wplus_directions import Direction, label_steps
from networks.wplus_mapper import level_rows

ENOUGH = 0.8
"""The share of what all rows draw of an attribute that the rows of a direction must draw."""
FACES = 20
"""Photos whose codes are edited to see what is drawn."""
FOLDS = 4
_BATCH = 4


def probe() -> Pipeline:
    """Reads labels from flat codes."""
    return make_pipeline(StandardScaler(), Ridge(100.0))


def told(codes: Tensor, label: NDArray[np.float64], groups: Sequence[str]) -> float:
    """What codes (N, rows, width) tell of a label (N,): R^2 of a ridge regression on groups that it did not see; at 0
    or below they tell nothing."""
    folds = GroupKFold(FOLDS)
    return float(cross_val_score(probe(), codes.flatten(1).numpy(), label, groups=groups, cv=folds).mean())


class DrawnAttributes:
    """What the pair draws of the attributes ``labels`` (N, A) when codes (N, rows, width) are edited."""

    def __init__(self, wplus: WPlusEncoder, codes: Tensor, labels: NDArray[np.float64]) -> None:
        self._wplus, self._probe = wplus, probe().fit(codes.flatten(1).numpy(), labels)
        self._steps = label_steps(torch.from_numpy(labels)).numpy()
        self._codes = codes[:: -(-len(codes) // FACES)]
        self._before = self._read(self._codes)

    def gained(self, attribute: int, direction: Direction) -> float:
        """Steps of the attribute (a column of ``labels``) that a strength of 1 adds to a picture, on average."""
        return float((self._read(direction.apply(self._codes, 1.0)) - self._before)[:, attribute].mean())

    def choose(
        self, attribute: int, name: str, vector: Tensor, rows: tuple[int, int] | None = None
    ) -> tuple[Direction, float, float]:
        """A direction along ``vector`` (rows, width), what it gains, and what all rows together would.

        It moves ``rows``, or the shortest run of levels (coarse, middle, fine) that gains ``ENOUGH`` of what all rows
        do; all of them where these gain nothing.
        """
        everything = Direction(name, (0, len(vector)), vector)
        whole = self.gained(attribute, everything)
        if rows:
            direction = Direction(name, rows, vector[slice(*rows)])
            return direction, self.gained(attribute, direction), whole
        levels = list(level_rows(len(vector), "three").values())
        runs = [(first[0], last[1]) for i, first in enumerate(levels) for last in levels[i:]]
        runs.remove(everything.rows)
        for first, last in sorted(runs, key=lambda run: (run[1] - run[0], run[0])) if whole > 0 else []:
            direction = Direction(name, (first, last), vector[first:last])
            gained = self.gained(attribute, direction)
            if gained >= ENOUGH * whole:
                return direction, gained, whole
        return everything, whole, whole

    def _read(self, codes: Tensor) -> NDArray[np.float64]:
        """The attributes (B, A), in steps, of the pictures of codes (B, rows, width)."""
        again = torch.cat([self._wplus.encode(self._wplus.decode(part)) for part in codes.split(_BATCH)])
        read = self._probe.predict(again.flatten(1).numpy()).reshape(len(codes), -1)  # one label gives no second axis
        return read / self._steps
