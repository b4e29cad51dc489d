"""The face packs against their floors, on subjects that no pocket model has seen."""

from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metrics.functional.spoilt_photos import eyes_painted_over, inner_face_blurred, inner_face_painted_over
from networks.face_analysis import Face, FacePack
from pocket.models.paths import DET_SIZE
from pocket.render.factors import Subject, draw_shot, draw_subject
from pocket.render.renderer import Render, render

Row = tuple[str, float, float, bool]
"""Name, measured value, floor, and whether the floor holds."""

SHOTS = 5  # images of one subject
FOUND_FLOOR = 0.99
LANDMARK_LIMIT = 0.03  # of the face's width
VERIFICATION_FLOOR = 0.90
FALSE_ACCEPTS = 1e-3
COLOURS = ("skin", "skin_word", "hair_colour", "hair_word", "eye_colour", "eye_word")
"""What of a subject is a colour; the rest is shape."""
PARTS_LEAD = 0.1  # of a person with one part exchanged over strangers
SPOILT_LIMIT = 0.05  # share of faces found, or complete, though they were painted over
SPOILT_LIKENESS = 0.10  # share of the identity that such a face may recover
COMPLETE_FLOOR = 0.97


def unseen_photos(n: int, accessories: bool) -> tuple[list[Render], NDArray[np.int64]]:
    """``n`` renders in photo style of ``n / 5`` unseen subjects in any pose and background, and their subjects (n,)."""
    subject = np.arange(n) // SHOTS
    shots = (
        draw_shot(f"unseen/{i}/{j}", style="photo", accessories=accessories)
        for i, j in zip(subject, range(n), strict=True)
    )
    return [render(draw_subject(f"unseen/{i}"), shot) for i, shot in zip(subject, shots, strict=True)], subject


def landmark_errors(renders: Iterable[Render], found: Iterable[list[Face]]) -> NDArray[np.float64]:
    """Mean landmark error of the largest face over the true face's width, per image; infinite where none is found."""
    errors = []
    for truth, faces in zip(renders, found, strict=True):
        if not faces:
            errors.append(np.inf)
            continue
        away = np.linalg.norm(faces[0].landmarks - truth.landmarks, axis=1).mean()
        errors.append(float(away / (truth.bbox[2] - truth.bbox[0])))
    return np.array(errors)


def true_accept_rate(
    embeddings: NDArray[np.float32], subject: NDArray[np.int64], false_accepts: float = FALSE_ACCEPTS
) -> float:
    """Share of same-subject pairs above the threshold that lets ``false_accepts`` of the other pairs pass.

    ``embeddings`` (N, D) of length 1, rows of zeros for faces that were not found: such a pair is never accepted.
    """
    cosine = embeddings @ embeddings.T
    pairs = np.triu_indices(len(embeddings), 1)
    same = (subject[:, None] == subject[None])[pairs]
    scores = cosine[pairs]
    found = np.linalg.norm(embeddings, axis=1) > 0
    scores[~(found[:, None] & found[None])[pairs]] = -2.0
    threshold = np.quantile(scores[~same], 1 - false_accepts, method="higher")
    return float((scores[same] > threshold).mean())


def parts_of_likeness(pack: FacePack, n: int) -> dict[str, float]:
    """Mean cosine, over ``n`` unseen subjects, of a photo to another one.

    The other photo is of the same person (``own``), has the next person's colours of skin, hair and eyes
    (``colours``), has all but the colours from the next person (``shape``), or is of the next person (``other``). A
    face that is not found counts as 0.
    """
    people = [draw_subject(f"unseen/{i}") for i in range(n)]
    shape = [field.name for field in fields(Subject) if field.name not in COLOURS]
    exchanged = {"own": [], "colours": [*COLOURS], "shape": shape, "other": [*COLOURS, *shape]}

    def embeddings(people: Iterable[Subject], photo: int) -> NDArray[np.float32]:
        shots = (draw_shot(f"unseen/{i}/{i * SHOTS + photo}", style="photo", accessories=False) for i in range(n))
        return pack.judge(np.stack([render(*pair).image for pair in zip(people, shots, strict=True)])).embeddings

    first = embeddings(people, 0)
    found = {}
    for name, parts in exchanged.items():
        mixed = (
            replace(person, **{part: getattr(people[(i + 1) % n], part) for part in parts})
            for i, person in enumerate(people)
        )
        found[name] = float((first * embeddings(mixed, 1)).sum(axis=1).mean())
    return found


def judge_rows(pack_folder: Path, n: int = 1000) -> list[Row]:
    """The pack that judges, on faces that were spoilt: what it still finds, takes for complete, or knows.

    A share of identity is of what an untouched photo of the same person has. The bounds of rows that name spoilt faces
    are upper ones.
    """
    pack = FacePack(pack_folder, DET_SIZE, retry=False)
    renders, subject = unseen_photos(n, accessories=False)
    images = np.stack([one.image for one in renders])
    whole = pack.judge(images)
    name = pack.source.name
    share = float(whole.complete.mean())
    rows = [
        (f"{name}: eyes, nose and mouth readable (no hat or glasses)", share, COMPLETE_FLOOR, share >= COMPLETE_FLOOR)
    ]
    own = _to_others(whole.embeddings, whole.embeddings, subject)
    for kind, spoil in (
        ("eyes painted over", eyes_painted_over),
        ("inner face painted over", inner_face_painted_over),
        ("inner face blurred", inner_face_blurred),
    ):
        spoilt = pack.judge(np.stack([spoil(one.image, one.landmarks) for one in renders]))
        left = _to_others(spoilt.embeddings, whole.embeddings, subject) / own
        shares = {"complete": spoilt.complete.mean()}
        if kind != "eyes painted over":  # as behind sunglasses, half a face is one
            shares["found"] = spoilt.found.mean()
        rows += [
            (f"{name}: {kind}, {what}", float(v), SPOILT_LIMIT, bool(v <= SPOILT_LIMIT)) for what, v in shares.items()
        ]
        if "found" in shares:
            rows.append((f"{name}: {kind}, share of identity left", left, SPOILT_LIKENESS, left <= SPOILT_LIKENESS))
    return rows


def _to_others(embeddings: NDArray[np.float32], photos: NDArray[np.float32], subject: NDArray[np.int64]) -> float:
    """Mean cosine of embeddings (N, D) to the subject's other photos; a face that is not found counts as 0."""
    others = (subject[:, None] == subject[None]) & ~np.eye(len(subject), dtype=bool)
    return float((embeddings @ photos.T)[others].mean())


def face_floors(pack_folder: Path, n: int = 1000) -> list[Row]:
    """Detector and recogniser of one pack on ``n`` renders, through insightface's own detection and alignment.

    Detection counts a face that is found with a mean landmark error within the limit. Both detection and verification
    are measured with hats and glasses, and without. A judge that looks at colours only, or at shape only, is below one
    of the last two floors.
    """
    pack = FacePack(pack_folder, DET_SIZE, retry=False)
    rows = []
    for accessories in (True, False):
        renders, subject = unseen_photos(n, accessories)
        attire = "any attire" if accessories else "no hat or glasses"
        faces = [
            found for i in range(0, n, 100) for found in pack.analyse(np.stack([d.image for d in renders[i : i + 100]]))
        ]
        share = float((landmark_errors(renders, faces) <= LANDMARK_LIMIT).mean())
        rows.append(
            (
                f"{pack.source.name}: found with landmarks within 3 % ({attire})",
                share,
                FOUND_FLOOR,
                share >= FOUND_FLOOR,
            )
        )
        embeddings = np.stack([f[0].embedding if f else np.zeros(512, np.float32) for f in faces])
        rate = true_accept_rate(embeddings, subject)
        rows.append(
            (f"{pack.source.name}: TAR at FAR 1e-3 ({attire})", rate, VERIFICATION_FLOOR, rate >= VERIFICATION_FLOOR)
        )
    found = parts_of_likeness(pack, n // SHOTS)
    for part in ("colours", "shape"):
        value = found[part]
        floor = found["other"] + PARTS_LEAD
        name = f"{pack.source.name}: similarity with another's {part} (own {found['own']:.3f})"
        rows.append((name, value, floor, value >= floor))
    return rows
