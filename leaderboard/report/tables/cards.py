"""Metric cards as Markdown."""

from collections.abc import Iterable

from leaderboard.report.tables.titles import range_text
from metrics.card import MetricCard


def list_of_cards(cards: Iterable[MetricCard]) -> str:
    """One paragraph per metric."""
    return "\n\n".join(_paragraph(card) for card in cards)


def _paragraph(card: MetricCard) -> str:
    bounds = range_text(card.low, card.high)
    direction = "higher is better" if card.higher_is_better else "lower is better"
    about = "; ".join(text for text in (card.about, card.caution) if text)
    licence = [f"  licence        {card.licence}"] if card.licence else []
    return "\n".join(
        [
            f"**{card.title}** ({card.name}, {card.group}; {direction}{bounds and ', ' + bounds}): {about}.",
            f"  version        {card.version}",
            f"  backbone       {card.backbone} {card.backbone_hash[:16]}",
            *licence,
            f"  preprocessing  {card.preprocessing}",
            f"  source         {card.source}",
        ]
    )
