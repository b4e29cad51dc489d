"""The cards of what an evaluation would measure, before anything is there."""

from contracts.prompts import further_subjects
from contracts.settings import EvaluationSettings
from leaderboard.plan.prompts import read_prompts
from metrics.card import MetricCard
from metrics.derived import derived_cards
from metrics.registry import list_cards


def planned_cards(settings: EvaluationSettings) -> list[MetricCard]:
    """The cards of every column that an evaluation with these settings would have. No data is looked at: where
    ``protocol.subjects`` is a number, the data may have fewer."""
    wanted = settings.protocol
    subjects = wanted.subjects if isinstance(wanted.subjects, int) else len(set(wanted.subjects))
    asked_of = [subjects - len(further_subjects(prompt.text)) for prompt in read_prompts(wanted.prompts)]
    images = sum(asked_of) * wanted.samples
    measured = list_cards(settings.judges, wanted.samples, min(images, settings.limit or images))
    return [*derived_cards({card.name: card for card in measured}), *measured]
