"""The plan of drift: prompts that name nobody, for which every run generates with its adapter at work.

They have a results folder of their own inside of the other, with its own protocol, so that what is generated and scored
there is resumed, checked and read as everything is, and the board's own protocol stays what it is.
"""

from dataclasses import replace

from contracts.errors import LikenessError
from contracts.files import read_file, write_atomically, write_json
from contracts.protocol import Protocol
from contracts.settings import EvaluationSettings
from leaderboard.plan.prompts import read_prompts
from leaderboard.results.folder import Results
from metrics.card import versions
from metrics.registry import list_cards

MEASURED = ("clip_t", "kid")
"""The fit to the prompt, and the metric that keeps each image's CLIP feature."""


def plan_nobody(settings: EvaluationSettings, results: Results, protocol: Protocol) -> None:
    """Write the plan of drift into ``results``, whose own plan is ``protocol``, unless it is there.

    Raises:
        LikenessError: the prompts cannot be read, or others were planned.
    """
    wanted = settings.protocol
    if wanted.nobody is None:
        return
    if wanted.backbone is None:
        raise LikenessError("protocol.nobody: without protocol.backbone there is no base model to drift from")
    nobody = results.nobody
    prompts = read_prompts(wanted.nobody, named=False)
    planned = replace(protocol, prompts=prompts, metrics={})
    cards = [
        card for card in list_cards(settings.judges, planned.samples, len(planned.requests)) if card.name in MEASURED
    ]
    planned = replace(planned, metrics=versions(cards))
    nobody.check(planned)
    if nobody.cards.is_file():  # written last
        return
    nobody.write_protocol(planned)
    for subject in planned.subjects:
        write_atomically(nobody.reference(subject), read_file(results.reference(subject)))
    write_atomically(nobody.galleries, read_file(results.galleries))
    write_json(nobody.cards, [card.to_json() for card in cards])
