"""Which photos are kept, with which face, and why the others are dropped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from curation.agreement import Agreement, agree
from curation.looks import Look
from curation.quality import BLURRED, duplicates
from curation.settings import CurationSettings
from curation.sources import Source


@dataclass(frozen=True)
class Kept:
    """A photo that is kept; ``face`` is its own face by place among those of the look, ``None`` without faces."""

    source: Source
    look: Look
    face: int | None
    agreement: float | None
    """The own face's median cosine to those of the subject's other photos; ``None`` where it was not compared."""


@dataclass(frozen=True)
class Dropped:
    """A photo that is not."""

    name: str
    subject: str
    reason: str
    """A few words that many photos share, such as `blurred`."""
    detail: str
    source: Source | None = None


@dataclass(frozen=True)
class Choice:
    """What was decided; agreements are those of subjects with faces."""

    kept: list[Kept]
    dropped: list[Dropped]
    agreements: Mapping[str, Agreement]

    def nearest(self) -> dict[str, tuple[str, float]]:
        """For each subject with faces the other one that is most like it, and the mean cosine between the two."""
        groups: dict[str, list[np.ndarray]] = {}
        for one in self.kept:
            if one.face is not None:
                groups.setdefault(one.source.subject, []).append(one.look.embeddings[one.face])
        names = list(groups)
        if len(names) < 2:
            return {}
        means = np.stack([np.mean(groups[name], axis=0) for name in names])
        likeness = means @ means.T
        np.fill_diagonal(likeness, -np.inf)
        return {name: (names[int(row.argmax())], float(row.max())) for name, row in zip(names, likeness, strict=True)}


def choose(photos: Sequence[tuple[Source, Look]], settings: CurationSettings) -> Choice:
    """Decide on all photos, from what each of them shows by itself.

    What a photo is like is decided first, so that a blurred photo has no say in who its subject is.
    """
    dropped: list[Dropped] = []
    left: dict[str, list[tuple[Source, Look]]] = {}
    for source, look in photos:
        reason, detail = _flaw(source, look, settings)
        if reason:
            dropped.append(Dropped(source.name, source.subject, reason, detail, source))
        else:
            left.setdefault(source.subject, []).append((source, look))
    faces = {
        subject: [look.embeddings for _, look in found] for subject, found in left.items() if found[0][0].facts.has_face
    }
    agreements = agree(faces)
    kept: list[Kept] = []
    seen: dict[tuple[str, int | None], str] = {}
    for subject, found in left.items():
        candidates = []
        agreement = agreements.get(subject)
        for i, (source, look) in enumerate(found):
            reason, detail, face, value = _verdict(look, agreement, i, settings)
            if reason:
                dropped.append(Dropped(source.name, subject, reason, detail, source))
            else:
                candidates.append(Kept(source, look, face, value))
        alone, twins = _without_twins(candidates, seen)
        if len(alone) == 1:
            twins.append(
                Dropped(
                    alone[0].source.name,
                    subject,
                    "only photo",
                    "the only photo of its subject that is left: every use needs two",
                    alone[0].source,
                )
            )
            alone = []
        kept += alone
        dropped += twins
    return Choice(kept, dropped, agreements)


def _flaw(source: Source, look: Look, settings: CurationSettings) -> tuple[str, str]:
    """What is wrong with a photo whoever it shows: reason and detail, empty if nothing is."""
    if look.problem:
        return "unreadable", look.problem
    if not source.facts.has_face:
        return _small_or_blurred(look, None, settings)
    if not len(look.boxes):
        return "no face", "no face was found"
    # The own face is chosen later; if every face has a flaw, that of the largest is told.
    flaws = [_small_or_blurred(look, face, settings) for face in range(len(look.boxes))]
    return flaws[0] if all(reason for reason, _ in flaws) else ("", "")


def _small_or_blurred(look: Look, face: int | None, settings: CurationSettings) -> tuple[str, str]:
    side = look.square(face).side
    if side < settings.min_side - 0.5:
        return "too small", f"the crop has {side:.0f} pixels a side, fewer than {settings.min_side}"
    blur = float(look.blurs[-1 if face is None else face])
    if blur >= BLURRED:
        return "blurred", f"blur {blur:.2f}, from {BLURRED} on a photo is dropped"
    return "", ""


def _verdict(
    look: Look, agreement: Agreement | None, i: int, settings: CurationSettings
) -> tuple[str, str, int | None, float | None]:
    """Reason and detail, empty if a photo is kept; then its own face and how much that agrees."""
    if agreement is None:
        return "", "", None, None
    face, value = int(agreement.faces[i]), float(agreement.values[i])
    known = None if np.isnan(value) else value
    if not agreement.agreeing[i]:
        detail = f"agreement {value:.2f}, the subject's photos have {agreement.level:.2f}, the limit is "
        detail += f"{agreement.limit:.2f} by {agreement.by}"
        if len(look.boxes) > 1:
            return (
                "nobody agrees",
                f"none of its {len(look.boxes)} faces is that of the other photos: {detail}",
                None,
                None,
            )
        return "another person", detail, None, None
    return *_small_or_blurred(look, face, settings), face, known


def _without_twins(
    candidates: Sequence[Kept], seen: dict[tuple[str, int | None], str]
) -> tuple[list[Kept], list[Dropped]]:
    """The photos of a subject that are not nearly the same as another one, and those that are."""
    if not candidates:
        return [], []
    signatures = np.stack([k.look.signatures[-1 if k.face is None else k.face] for k in candidates])
    larger = [(-k.look.square(k.face).side, float(k.look.blurs[-1 if k.face is None else k.face])) for k in candidates]
    order = sorted(range(len(candidates)), key=lambda i: (larger[i], candidates[i].source.name))
    twins = duplicates(signatures, order)
    kept, dropped = [], []
    for i, one in enumerate(candidates):
        same = (one.look.sha256, one.face)
        of = candidates[twins[i]].source.name if i in twins else seen.get(same)
        if of is None:
            seen[same] = one.source.name
            kept.append(one)
        else:
            dropped.append(
                Dropped(one.source.name, one.source.subject, "near-duplicate", f"nearly the same as {of}", one.source)
            )
    return kept, dropped
