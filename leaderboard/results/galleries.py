"""The subjects' real photos as the judges see them, made once when the plan is made and read by every process."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from contracts.errors import LikenessError
from contracts.files import write_atomically
from datamodules.subjects import SubjectPhotos
from metrics.functional.leakage import fit_pose_reader
from metrics.gallery import Gallery
from metrics.judges import Judges, Observation

_GLOBAL = ("background_means", "pose_reader")
NO_BACKGROUND = -1


def make_galleries(judges: Judges, subjects: Sequence[SubjectPhotos]) -> dict[str, Gallery]:
    """Look at all photos.

    Raises:
        LikenessError: a reference shows no face, or fewer than two held-out photos of its subject do (the ceiling
            judges one against the others). Objects need no face: those of a class none of whose photos shows one.
    """
    seen = {subject.id: judges.observe(subject.photos) for subject in subjects}
    faced = {subject.noun for subject in subjects if seen[subject.id].judged.found.any()}
    for subject in subjects:
        _check(subject, seen[subject.id], subject.noun in faced)
    pose_reader = _pose_reader(subjects, seen)
    classes, means = _background_classes(subjects, seen)
    backgrounds = np.stack([seen[subject.id].features["clip_background"][0] for subject in subjects])
    galleries = {}
    for i, subject in enumerate(subjects):
        features = seen[subject.id].features
        galleries[subject.id] = Gallery(
            reference={name: rows[0] for name, rows in features.items()},
            held_out={name: rows[1:] for name, rows in features.items()},
            other_backgrounds=_mean_known(np.delete(backgrounds, i, axis=0)),
            background=classes.index(int(subject.backgrounds[0])) if subject.noun in faced else NO_BACKGROUND,
            background_text=subject.background_texts[0],
            background_means=means,
            pose=subject.poses[0],
            pose_reader=pose_reader,
        )
    return galleries


def _mean_known(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of those of the vectors (N, D) that are not 0; 0 if none is."""
    return features.sum(axis=0) / max(1, int(np.any(features != 0, axis=1).sum()))


def _check(subject: SubjectPhotos, seen: Observation, faced: bool) -> None:
    """``faced`` says that subjects of this class have faces."""
    found = seen.judged.found
    if not faced:
        count = len(subject.held_out)
        if count < 2:
            raise LikenessError(
                f"subject {subject.id} has {count} held-out photos, two are needed: leave the subject out"
            )
        return
    if not found[0]:
        raise LikenessError(f"the reference photo of subject {subject.id} shows no face: leave the subject out")
    if found[1:].sum() < 2:
        raise LikenessError(
            f"subject {subject.id} has {found[1:].sum()} held-out photos with a face, two are needed: "
            f"leave the subject out"
        )


def _pose_reader(subjects: Sequence[SubjectPhotos], seen: Mapping[str, Observation]) -> NDArray[np.float64]:
    judged = [(seen[subject.id].judged, subject.poses) for subject in subjects]
    return fit_pose_reader(
        np.concatenate([faces.landmarks[faces.found] for faces, _ in judged]),
        np.concatenate([poses[faces.found] for faces, poses in judged]),
    )


def _background_classes(
    subjects: Sequence[SubjectPhotos], seen: Mapping[str, Observation]
) -> tuple[list[int], NDArray[np.float32]]:
    """Ids of the backgrounds that photos with a face have, and the mean feature of each."""
    ids = np.concatenate([subject.backgrounds[seen[subject.id].judged.found] for subject in subjects])
    rows = np.concatenate(
        [seen[subject.id].features["clip_background"][seen[subject.id].judged.found] for subject in subjects]
    )
    classes = sorted({int(i) for i in ids})
    means = [rows[ids == i].mean(axis=0) for i in classes]
    return classes, np.stack(means) if means else np.zeros((0, rows.shape[1]), np.float32)


def save_galleries(path: Path, galleries: Mapping[str, Gallery], protocol_hash: str) -> None:
    """Write all galleries to one safetensors file."""
    tensors: dict[str, NDArray] = {}
    for subject, gallery in galleries.items():
        tensors |= {f"{subject}/reference/{name}": vector for name, vector in gallery.reference.items()}
        tensors |= {f"{subject}/held_out/{name}": rows for name, rows in gallery.held_out.items()}
        tensors |= {f"{subject}/pose": gallery.pose, f"{subject}/other_backgrounds": gallery.other_backgrounds}
        tensors |= {name: getattr(gallery, name) for name in _GLOBAL}
    backgrounds = {subject: [gallery.background, gallery.background_text] for subject, gallery in galleries.items()}
    about = {"protocol": protocol_hash, "backgrounds": json.dumps(backgrounds, ensure_ascii=False)}
    write_atomically(path, save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, about))


def load_galleries(path: Path, subjects: Sequence[str]) -> dict[str, Gallery]:
    """The galleries by subject; raises ``LikenessError`` where the file is missing or incomplete."""
    try:
        tensors = load_file(path)
        with safe_open(path, "numpy") as file:
            backgrounds = json.loads(file.metadata()["backgrounds"])
        return {subject: _gallery(tensors, subject, *backgrounds[subject]) for subject in subjects}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise LikenessError(f"{path} is missing or damaged ({error}): run `--stage generate` again") from error


def _gallery(tensors: Mapping[str, NDArray], subject: str, background: int, background_text: str) -> Gallery:
    def part(name: str) -> dict[str, NDArray]:
        start = f"{subject}/{name}/"
        return {key.removeprefix(start): array for key, array in tensors.items() if key.startswith(start)}

    return Gallery(
        reference=part("reference"),
        held_out=part("held_out"),
        other_backgrounds=tensors[f"{subject}/other_backgrounds"],
        background=background,
        background_text=background_text,
        background_means=tensors["background_means"],
        pose=tensors[f"{subject}/pose"],
        pose_reader=tensors["pose_reader"],
    )


def load_photo_features(path: Path) -> NDArray[np.float32]:
    """CLIP features (M, D) of all held-out photos, in the order of the subjects' names."""
    try:
        tensors = load_file(path)
        return np.concatenate([tensors[name] for name in sorted(tensors) if name.endswith("/held_out/clip")])
    except (OSError, SafetensorError, ValueError) as error:
        raise LikenessError(f"{path} is missing or damaged ({error}): run `--stage generate` again") from error
