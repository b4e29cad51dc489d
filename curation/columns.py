"""The columns that need the whole set: poses, classes, captions, splits and roles, and the way each of them came."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.backgrounds import background_classes
from curation.captions import template
from curation.choice import Kept
from curation.portraits import Portrait
from curation.pose import estimate, pose_class
from curation.settings import CurationSettings
from curation.split import references, split_of

Row = dict[str, Any]


@dataclass(frozen=True)
class Facing:
    """What a row needs of a portrait besides its pixels, so that no picture stays in memory."""

    side: int
    share: float
    box: Any
    landmarks: Any
    background: Any
    mask_from: str
    note: str

    @classmethod
    def of(cls, portrait: Portrait) -> "Facing":
        """Those of a portrait."""
        return cls(**{name: getattr(portrait, name) for name in cls.__dataclass_fields__})


def rows_of(
    kept: Sequence[Kept], facing: Sequence[Facing], captions: Mapping[int, tuple[str, str]], settings: CurationSettings
) -> tuple[list[Row], str]:
    """The rows of the dataset without image, mask and hash, and in words how the backgrounds were classed.

    Args:
        captions: What was written where no caption is given, and the way it came, by place among the photos.
    """
    with_face = [i for i, face in enumerate(facing) if face.landmarks is not None]
    angles = estimate([facing[i].landmarks for i in with_face], [kept[i].source.subject for i in with_face])
    poses = dict(zip(with_face, angles, strict=True))
    behind = [i for i, face in enumerate(facing) if face.background is not None]
    features = np.stack([facing[i].background for i in behind]) if behind else np.zeros((0, 0), np.float32)
    labels, how = background_classes(features, settings.backgrounds, settings.seed)
    if settings.clip is None:
        how = "unknown: --clip is not given"
    backgrounds = {} if labels is None else dict(zip(behind, labels.tolist(), strict=True))
    roles = _roles(kept, facing, poses, settings)
    rows = []
    for i, (one, face) in enumerate(zip(kept, facing, strict=True)):
        facts, pose = one.source.facts, poses.get(i)
        noun = facts.subject_class or settings.noun
        caption, caption_from = _caption(facts.caption, captions.get(i, ("", "")), noun)
        rows.append(
            {
                "subject_id": one.source.subject,
                "subject_class": noun,
                "subject_text": facts.subject_text,
                "has_face": facts.has_face,
                "pose_id": None if pose is None else pose_class(pose),
                "pose": None if pose is None else [float(angle) for angle in pose],
                "background_id": backgrounds.get(i),
                "background_text": facts.background_text,
                "caption": caption,
                "landmarks": None if face.landmarks is None else face.landmarks.tolist(),
                "bbox": None if face.box is None else face.box.tolist(),
                "split": split(one, settings),
                "role": roles.get(i),
                "source": facts.source,
                "licence": facts.licence,
                "consent": facts.consent,
                "original": one.source.name,
                "mask_from": face.mask_from or None,
                "pose_from": None if pose is None else "landmarks",
                "background_from": "clusters" if i in backgrounds else None,
                "caption_from": caption_from,
                "agreement": one.agreement,
            }
        )
    return rows, how


def split(one: Kept, settings: CurationSettings) -> str:
    """The split of a photo's subject: as told, or test for a set to evaluate on, or by its name."""
    if one.source.facts.split is not None:
        return one.source.facts.split
    return "test" if settings.test_only else split_of(one.source.subject, settings.shares, settings.seed)


def _caption(given: str | None, written: tuple[str, str], noun: str) -> tuple[str, str]:
    if given:
        return given, "file"
    return written if written[0] else (template(noun), "template")


def _worth(kept: Kept, facing: Facing) -> float:
    """How large a subject is in its photo, about in pixels."""
    side = kept.look.square(kept.face).side
    return side if kept.face is not None else side * facing.share


def _roles(
    kept: Sequence[Kept], facing: Sequence[Facing], poses: Mapping[int, Any], settings: CurationSettings
) -> dict[int, str]:
    """Roles of the photos of validation and test subjects; where a subject has some that are told, those alone."""
    groups: dict[str, list[int]] = {}
    for i, one in enumerate(kept):
        groups.setdefault(one.source.subject, []).append(i)
    roles: dict[int, str] = {}
    for own in groups.values():
        told = {i: kept[i].source.facts.role for i in own if kept[i].source.facts.role}
        if told:
            roles |= {i: role for i, role in told.items() if role}
        elif split(kept[own[0]], settings) != "train":
            seen = references(
                [poses.get(i) for i in own],
                [_worth(kept[i], facing[i]) for i in own],
                [kept[i].source.name for i in own],
                settings.references,
            )
            roles |= {i: "reference" if n in seen else "held_out" for n, i in enumerate(own)}
    return roles
