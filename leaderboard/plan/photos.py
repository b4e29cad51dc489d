"""What the subjects' photos show the judges, and what a reader of the board should know of it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from contracts.protocol import Protocol
from leaderboard.images.folder import some
from metrics.agreement import faces_of, mean_of_strangers, odd_photos
from metrics.card import MetricCard
from metrics.gallery import Gallery
from metrics.registry import METRICS

CENTRED = 0.3
"""Mean cosine of strangers up to which embeddings count as centred: 0 in a large crowd, rarely above 0.2 in a small one
of people who look alike."""


def with_cautions(cards: Iterable[MetricCard], galleries: Mapping[str, Gallery]) -> list[MetricCard]:
    """The cards; those of raw cosines say so where the strangers among these subjects have a high one already."""
    levels = {name: mean_of_strangers(faces_of(galleries, name)) for name in ("faces", "second")}
    return [replace(card, caution=_caution(levels, METRICS[card.name].cosine_of)) for card in cards]


def _caution(levels: Mapping[str, float], feature: str) -> str:
    level = levels.get(feature, 0.0)
    if not level > CENTRED:
        return ""
    read = "identity recovered" if feature == "faces" else "it between floor and ceiling"
    return f"not centred: strangers have {level:.2f} on these subjects; read {read}, or without a floor the order alone"


def notes_on_photos(protocol: Protocol, galleries: Mapping[str, Gallery]) -> Iterator[str]:
    """Photos without a face, photos of several people, photos of somebody else, and objects."""
    for has_face, what in ((True, "face"), (False, "object to judges.segmenter")):
        of_kind = [gallery for gallery in galleries.values() if gallery.has_face is has_face]
        photos = sum(len(gallery.held_out["faces"]) for gallery in of_kind)
        if unused := photos - sum(len(gallery.usable) for gallery in of_kind):
            yield f"{unused} of {photos} held-out photos show no {what} and are left out"
    crowds = [f"{name} {_photo(i)}" for name, g in galleries.items() for i, n in enumerate(g.counts) if n > 1]
    if crowds:
        yield f"{some(crowds)} show several people: the face in the dataset's box is judged, or the one in most photos"
    for subject, odd in odd_photos(faces_of(galleries)).items():
        named = some([_photo(i) for i in odd])
        yield f"photos of {subject} do not agree with each other: {named} might as well show a stranger"
    objects = sorted({protocol.subjects[name] for name, gallery in galleries.items() if not gallery.has_face})
    if objects:
        yield f"class {', '.join(objects)} has no face: identity is not measured there"


def _photo(number: int) -> str:
    return f"held-out {number}" if number else "reference"
