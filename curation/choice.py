"""Which photos are kept, with which face, and why the others are dropped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from curation.agreement import Agreement, agree, choose_faces
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

    Photos that are blurred, too small, or nearly the same as another one go first: they have no say in who a subject
    is.
    """
    dropped: list[Dropped] = []
    left: dict[str, list[Kept]] = {}
    for source, look in photos:
        if flaw := _flaw(source, look, settings):
            dropped.append(_drop(source, *flaw))
        else:
            left.setdefault(source.subject, []).append(Kept(source, look, None, None))
    for subject, own in left.items():
        left[subject], twins = _without_twins(_with_own_faces(own))
        dropped += twins
    with_faces = {subject: own for subject, own in left.items() if own[0].source.facts.has_face}
    agreements = agree({subject: [one.look.embeddings for one in own] for subject, own in with_faces.items()})
    kept: list[Kept] = []
    seen: dict[tuple[str, int | None], str] = {}
    for subject, own in left.items():
        if subject in agreements:
            own, strangers = _without_strangers(own, agreements[subject], settings)
            dropped += strangers
        single = []
        for one in own:
            first = seen.setdefault((one.look.sha256, one.face), one.source.name)
            if first == one.source.name:
                single.append(one)
            else:
                dropped.append(_drop(one.source, "near-duplicate", f"the same as {first} of another subject"))
        if len(single) > 1:
            kept += single
        else:
            why = "the only photo of its subject that is left: every use needs two"
            dropped += [_drop(one.source, "only photo", why) for one in single]
    return Choice(kept, dropped, agreements)


def _drop(source: Source, reason: str, detail: str) -> Dropped:
    return Dropped(source.name, source.subject, reason, detail, source)


def _flaw(source: Source, look: Look, settings: CurationSettings) -> tuple[str, str] | None:
    """What is wrong with a photo whoever it shows: reason and detail."""
    if look.problem:
        return "unreadable", look.problem
    if not source.facts.has_face:
        return _small_or_blurred(look, None, settings)
    if not len(look.boxes):
        return "no face", "no face was found"
    # The own face is chosen later; if every face has a flaw, that of the largest is told.
    flaws = [_small_or_blurred(look, face, settings) for face in range(len(look.boxes))]
    return flaws[0] if all(flaws) else None


def _small_or_blurred(look: Look, face: int | None, settings: CurationSettings) -> tuple[str, str] | None:
    side, blur = look.square(face).side, look.blur(face)
    if side < settings.min_side - 0.5:
        return "too small", f"the crop has {side:.0f} pixels a side, fewer than {settings.min_side}"
    if blur >= BLURRED:
        return "blurred", f"blur {blur:.2f}, from {BLURRED} on a photo is dropped"
    return None


def _with_own_faces(own: Sequence[Kept]) -> list[Kept]:
    """The photos of a subject, each with the face that is most likely its own."""
    if not own[0].source.facts.has_face:
        return list(own)
    faces = choose_faces([one.look.embeddings for one in own]).tolist()
    return [replace(one, face=face) for one, face in zip(own, faces, strict=True)]


def _without_twins(own: Sequence[Kept]) -> tuple[list[Kept], list[Dropped]]:
    """The photos of a subject that are not nearly the same as another one, and those that are: the largest is kept,
    then the sharpest."""
    worth = [(-one.look.square(one.face).side, one.look.blur(one.face), one.source.name) for one in own]
    order = sorted(range(len(own)), key=worth.__getitem__)
    twins = duplicates(np.stack([one.look.signature(one.face) for one in own]), order)
    dropped = [
        _drop(own[i].source, "near-duplicate", f"nearly the same as {own[twin].source.name}")
        for i, twin in sorted(twins.items())
    ]
    return [one for i, one in enumerate(own) if i not in twins], dropped


def _without_strangers(
    own: Sequence[Kept], agreement: Agreement, settings: CurationSettings
) -> tuple[list[Kept], list[Dropped]]:
    """The photos whose own face is the subject's and has no flaw, with that face, and the others."""
    kept, dropped = [], []
    for i, one in enumerate(own):
        face, value = int(agreement.faces[i]), float(agreement.values[i])
        if not agreement.agreeing[i]:
            detail = (
                f"agreement {value:.2f}, the subject's photos have {agreement.level:.2f}, the limit is "
                f"{agreement.limit:.2f} by {agreement.by}"
            )
            if len(one.look.boxes) > 1:
                detail = f"none of its {len(one.look.boxes)} faces is that of the other photos: {detail}"
                dropped.append(_drop(one.source, "nobody agrees", detail))
            else:
                dropped.append(_drop(one.source, "another person", detail))
        elif flaw := _small_or_blurred(one.look, face, settings):
            dropped.append(_drop(one.source, *flaw))
        else:
            kept.append(replace(one, face=face, agreement=None if np.isnan(value) else value))
    return kept, dropped
