"""Face embeddings of the subjects' real photos, made once when the plan is made and read by every process."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from contracts.errors import LikenessError
from datamodules.files import replace_atomically
from leaderboard.subjects import SubjectPhotos
from networks.face_analysis import FacePack


@dataclass(frozen=True)
class Gallery:
    """Unit embeddings of one subject: ``reference`` (D,), ``held_out`` (K, D), all 0 where a photo shows no face."""

    reference: NDArray[np.float32]
    held_out: NDArray[np.float32]

    @property
    def usable(self) -> NDArray[np.intp]:
        """Indices of the held-out photos that show a face."""
        return np.flatnonzero(np.any(self.held_out != 0, axis=1))

    def mean(self, without: int | None = None) -> NDArray[np.float64]:
        """Mean held-out embedding (D,), of all usable photos but the one that is itself judged."""
        kept = [i for i in self.usable if i != without]
        return self.held_out[kept].astype(np.float64).mean(axis=0)


def make_gallery(faces: FacePack, subject: SubjectPhotos) -> Gallery:
    """Embed a subject's photos.

    Raises:
        LikenessError: the reference shows no face, or fewer than two held-out photos do (the ceiling judges one
            against the others).
    """
    reference, held_out = faces.judge(subject.reference[None]), faces.judge(subject.held_out)
    if not reference.found[0]:
        raise LikenessError(f"the reference photo of subject {subject.id} shows no face: leave the subject out")
    if held_out.found.sum() < 2:
        raise LikenessError(
            f"subject {subject.id} has {held_out.found.sum()} held-out photos with a face, two are needed: "
            f"leave the subject out"
        )
    return Gallery(reference.embeddings[0], held_out.embeddings)


def save_galleries(path: Path, galleries: dict[str, Gallery], protocol_hash: str) -> None:
    """Write all galleries to one safetensors file."""
    tensors = {}
    for subject, gallery in galleries.items():
        tensors[f"{subject}/reference"] = gallery.reference
        tensors[f"{subject}/held_out"] = gallery.held_out
    replace_atomically(path, save(tensors, {"protocol": protocol_hash}))


def load_galleries(path: Path, subjects: Sequence[str]) -> dict[str, Gallery]:
    """The galleries by subject; raises ``LikenessError`` where the file is missing or incomplete."""
    try:
        tensors = load_file(path)
        return {s: Gallery(tensors[f"{s}/reference"], tensors[f"{s}/held_out"]) for s in subjects}
    except (OSError, SafetensorError, KeyError) as error:
        raise LikenessError(f"{path} is missing or damaged ({error}): run `--stage generate` again") from error
