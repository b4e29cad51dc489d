"""What a reader of the board must know beside its numbers, a sentence without its full stop each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from contracts.records import Record
from leaderboard.report.statistics import FEW, ratio_interval
from metrics.base import Ratio
from metrics.card import MetricCard
from metrics.derived import DERIVED, IDENTITY_RECOVERED, RECOVERED

STRANGERS = 0.2
"""Mean cosine that faces of strangers stay under: a floor above it generates people who look like the subjects."""


def on_subjects(records: Iterable[Record]) -> Iterator[str]:
    """That subjects are too few for intervals and tests: all of them, or the people or objects among them."""
    faces = {record.subject: record.has_face for record in records}
    without = f"without intervals and tie marks, as fewer than {FEW} subjects say too little about others"
    if len(faces) < FEW:
        yield f"the board has {_count(len(faces), 'subject')}: its columns are {without}"
        return
    people = sum(faces.values())
    for kind, columns, count in (("show a face", "identity", people), ("show none", "subjects", len(faces) - people)):
        if 0 < count < FEW:
            yield f"{count} of {len(faces)} subjects {kind}: the columns of {columns} are {without}"


def on_no_floor(cards: Mapping[str, MetricCard]) -> str:
    """What a board without a floor lacks."""
    lost = ", ".join(cards[name].title for name in DERIVED if name in cards)
    order = " and ".join(cards[metric.base].title for metric in RECOVERED if metric.base in cards)
    return f"there is no floor, the base model without the subject: {lost} are n/a; rows are ordered by {order}"


def on_cards(cards: Iterable[MetricCard]) -> Iterator[str]:
    """What cards warn of; a warning is said once for all columns that it is of."""
    titles: dict[str, list[str]] = {}
    for card in cards:
        if card.caution:
            titles.setdefault(card.caution, []).append(card.title)
    for caution, of in titles.items():
        yield f"{'; '.join(of)}: {caution}"


def on_floor(
    floor: Mapping[str, Ratio], ceiling: Mapping[str, Ratio], label: str, cards: Mapping[str, MetricCard]
) -> Iterator[str]:
    """That the floor, called ``label``, is not under the ceiling, or already resembles the subjects.

    Where strangers have a high cosine too, the second says nothing.
    """
    for metric in RECOVERED:
        if metric.base in floor and ceiling[metric.base].value <= floor[metric.base].value:
            yield (
                f"real photos are no more like the subjects than {label} in {cards[metric.base].title}: "
                f"{metric.title} is n/a"
            )
    if IDENTITY_RECOVERED.base in floor and not cards[IDENTITY_RECOVERED.base].caution:
        found = ratio_interval(floor[IDENTITY_RECOVERED.base])
        if found.low is not None and found.low > STRANGERS:
            yield (
                f"{label} already resembles the subjects: its identity, misses counted as 0, is {found.value:.3f} "
                f"[{found.low:.3f}, {found.high:.3f}], where strangers stay under {STRANGERS:g}; read identity "
                "recovered, which starts at this row"
            )


def on_copying(rows: Sequence[Mapping], cards: Mapping[str, MetricCard], limit: float) -> Iterator[str]:
    """Which entries copy their reference, and by how much."""
    for row in rows:
        if row["copies"]:
            shown = " and ".join(f"{cards[name].title} {_interval(row['metrics'][name])}" for name in row["copies"])
            yield (
                f"{row['label']} copies its reference: {shown}, above {limit:g}; it gets no mark in columns of "
                "likeness, and stands behind the entries that do not copy"
            )


def on_tuning(manifests: Mapping[str, Mapping]) -> Iterator[str]:
    """How the settings of the runs, by label, were chosen: by a search, and on what effort, or by hand."""
    by_hand: list[str] = []
    searched: dict[tuple, list[str]] = {}
    for label, manifest in manifests.items():
        if isinstance(search := manifest.get("search"), Mapping):
            effort = tuple(search.get(name) for name in ("trials", "steps", "subjects"))
            searched.setdefault(effort, []).append(label)
        elif "search" in manifest:  # runs of before say neither
            by_hand.append(label)
    for (trials, steps, subjects), labels in searched.items():
        yield (
            f"settings of {', '.join(labels)} were chosen by a search: {trials} trials of {steps} steps, "
            f"{subjects} validation subjects"
        )
    if by_hand:
        yield f"settings of {', '.join(by_hand)} were tuned by hand"


def _interval(found: Mapping) -> str:
    text = f"{found['value']:.3f}"
    return text if found["low"] is None else f"{text} [{found['low']:.3f}, {found['high']:.3f}]"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
