"""Whose code is edited, and who generates and measures it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts.errors import LikenessError
from contracts.files import read_file
from datamodules.face_crops import only_face, portrait_from_file
from datamodules.features.base import EncoderContext
from datamodules.features.registry import make_features
from datamodules.subjects import load_subjects
from leaderboard.generate.generation import trained_features
from leaderboard.results.image_files import encode_image
from lightning_modules.pidiff import PIDiff
from lightning_modules.run import Run
from metrics.functional.edit_change import edit_change
from networks.face_analysis import FacePack
from networks.sampler import SamplingSettings
from networks.wplus_directions import Direction, read_directions
from tools.edit_faces.edits import Series, generate_codes

UNEDITED = "unedited"


@dataclass(frozen=True)
class Person:
    """The person: ``photo`` is the file that the code is made of, ``called`` what errors call it, ``gallery`` (D,)
    what identity is judged against, ``judged_by`` the SHA-256 of the photos behind it."""

    id: str
    noun: str
    photo: bytes
    called: str
    gallery: NDArray[np.float32]
    judged_by: str


class Editor:
    """Draws and measures; raises ``LikenessError`` where a part is missing or does not fit."""

    def __init__(self, run: str, directions: Path | None, faces: FacePack, sampling: SamplingSettings) -> None:
        self.run = Run(run)
        module = self.run.load()
        if not isinstance(module, PIDiff):
            raise LikenessError(f"--run: {run} was trained with {type(module).__name__}, only PIDiff edits W+ codes")
        self.module, self.faces = module, faces
        self.module.sampling = sampling
        context = EncoderContext("", module.backbone.resolution)
        self.wplus = make_features(["wplus"], trained_features(self.run), context)["wplus"]
        self.fingerprint = self.wplus.fingerprint
        self.directions: Mapping[str, Direction] = {}
        if directions is not None:
            encoder = self.fingerprint.split("/")[0]
            self.directions = read_directions(directions, encoder, *module.code_shape)

    def code(self, person: Person) -> Tensor:
        """The W+ code (rows, width) of a person's photo."""
        return self.wplus.encode([portrait_from_file(person.photo, person.called)])[0]

    def generate(
        self, person: Person, code: Tensor, other: Tensor | None, series: Sequence[Series], prompt: str, key: Sequence
    ) -> tuple[list[str], NDArray[np.uint8]]:
        """Labels and images (1 + E, H, W, 3): the unedited one, then every edit, from the same noise."""
        codes = torch.cat([code[None], *(one.apply(code, other, self.directions) for one in series)])
        labels = [UNEDITED, *(label for one in series for label in one.labels)]
        return labels, generate_codes(self.module, codes, prompt, person.noun, key)

    def measure(self, images: NDArray[np.uint8], person: Person) -> list[dict[str, float | None]]:
        """Scores of each image; ``None`` where no face was found, in it or in the unedited one."""
        judged = self.faces.judge(images)
        rows: list[dict[str, float | None]] = []
        for i, image in enumerate(images):
            identity = float(judged.embeddings[i] @ person.gallery) if judged.found[i] else None
            inside, outside = edit_change(images[0], image, judged.boxes[0]) if judged.found[0] else (None, None)
            rows.append({"identity": identity, "inside": inside, "outside": outside})
        return rows


def people_of(dataset: str, wanted: int | Sequence[str], side: int, faces: FacePack) -> list[Person]:
    """Test subjects of a dataset, judged against their held-out photos."""
    people = []
    for subject in load_subjects(dataset, wanted, side):
        judged = faces.judge_subject(subject.held_out, None if subject.boxes is None else subject.boxes[1:])
        if not judged.found.any():
            raise LikenessError(f"subject {subject.id} has no held-out photo with a face: leave the subject out")
        gallery = judged.embeddings[judged.found].mean(axis=0)
        photos = hashlib.sha256(subject.held_out.tobytes()).hexdigest()
        cut_out, called = encode_image(subject.cut_out, {}), f"the photo of {subject.id}"
        people.append(Person(subject.id, subject.noun, cut_out, called, gallery, photos))
    return people


def person_in(photo: Path, noun: str, faces: FacePack) -> Person:
    """The person in a photo file, judged against that photo."""
    called = f"--photo: {photo}"
    try:
        data = read_file(photo)
    except OSError as error:
        raise LikenessError(f"{called} cannot be read ({error.strerror})") from None
    face = only_face(portrait_from_file(data, called).pixels, called, faces)
    return Person("photo", noun, data, called, face.embedding, hashlib.sha256(data).hexdigest())
