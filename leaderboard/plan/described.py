"""What the row ``described`` is told of each subject, planned once and kept in ``descriptions.json``.

It is not part of the protocol: it decides this row alone, and no other image or score.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

from contracts.errors import LikenessError
from contracts.files import write_json
from contracts.prompts import spoken
from contracts.protocol import Protocol
from leaderboard.images.folder import some
from leaderboard.plan.checks import load_base_tokenizer
from leaderboard.results.anchors import DESCRIBED
from leaderboard.results.entry import Entry
from leaderboard.results.folder import Results
from leaderboard.results.lines import read_json
from metrics.gallery import SubjectPhotos
from networks.backbone import truncated_tokens


def described_nouns(subjects: Sequence[SubjectPhotos]) -> dict[str, str]:
    """Class noun and looks by subject, such as ``person with red hair``; empty unless all subjects are described."""
    nouns = {subject.id: f"{subject.noun} {subject.text}" for subject in subjects if subject.text}
    return nouns if len(nouns) == len(subjects) else {}


def read_described(results: Results) -> dict[str, str]:
    """What was planned, by subject; empty where the row cannot be made.

    Raises:
        LikenessError: the file is damaged.
    """
    if not results.descriptions.is_file():
        return {}
    found = read_json(results.descriptions)
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise LikenessError(f"{results.descriptions} is damaged: it holds no text by subject; remove it")
    return found


def check_described(results: Results, nouns: Mapping[str, str]) -> None:
    """Raise ``LikenessError`` where the folder's plan tells other words than ``nouns``: two descriptions in one row
    would be read as one."""
    planned = read_described(results)
    if planned and planned != nouns:
        odd = sorted(name for name in {*planned, *nouns} if planned.get(name) != nouns.get(name))
        raise LikenessError(
            f"{results.descriptions} describes {some(odd)} in other words than column `subject_text` of the dataset "
            "does now: take another --output"
        )


def plan_described(
    results: Results, protocol: Protocol, subjects: Sequence[SubjectPhotos], nouns: Mapping[str, str], backbone: str
) -> list[str]:
    """Write what is planned, unless the folder has it.

    Returns:
        Notes for the user: that some subjects are not described, or that the base model does not read all that is said.
    """
    if not nouns:
        without = [subject.id for subject in subjects if not subject.text]
        if len(without) == len(subjects):
            return []
        return [f"there is no `subject_text` for {some(without)}: the row {DESCRIBED.label} is left out"]
    if not results.descriptions.is_file():
        write_json(results.descriptions, dict(nouns))
    tokenizer = load_base_tokenizer(backbone)
    prompts = {spoken(request.prompt, request.subject, nouns) for request in protocol.requests}
    if cut := sum(truncated_tokens(tokenizer, prompt) > 0 for prompt in prompts):
        return [
            f"{cut} of {len(prompts)} prompts of {DESCRIBED.label} are longer than the base model reads and are cut"
        ]
    return []


def described_entry(nouns: Mapping[str, str]) -> Entry:
    """The row, whose settings are what it is told."""
    text = json.dumps(dict(nouns), sort_keys=True)
    settings = hashlib.sha256(text.encode()).hexdigest()
    return Entry(DESCRIBED.label, DESCRIBED.kind, settings=settings, manifest={"told": dict(nouns)})
