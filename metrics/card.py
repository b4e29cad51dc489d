"""What a number means: the card of a metric. Numbers with different version strings never share a column."""

from dataclasses import asdict, dataclass

GROUPS = ("summary", "identity", "text", "image", "diversity", "distribution", "leakage")


@dataclass(frozen=True)
class MetricCard:
    """Describes one column of a leaderboard.

    ``version`` changes whenever the number would, and names everything that it depends on: backbone and its
    hash, preprocessing, scale. ``higher_is_better`` is the direction, ``low`` and ``high`` bound the values where
    they are bounded, ``source`` says who defined the metric. ``title`` and ``group`` (one of ``GROUPS``) are how tables
    name and sort it; ``headline`` columns are those of a narrow table.
    """

    name: str
    title: str
    group: str
    version: str
    backbone: str
    backbone_hash: str
    preprocessing: str
    higher_is_better: bool
    low: float | None
    high: float | None
    source: str
    about: str
    headline: bool = False

    @property
    def arrow(self) -> str:
        """Direction as one character."""
        return "↑" if self.higher_is_better else "↓"

    def to_json(self) -> dict:
        return asdict(self)
