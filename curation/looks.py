"""What one photo shows by itself: whether it can be read, its size, its faces, how sharp it is, what it looks like."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import LikenessError
from curation.crops import Square, face_square, middle_square
from curation.faces import FaceFinder
from curation.pictures import read_picture
from curation.quality import SIGNATURE, blur_of, signature
from curation.sources import Source
from curation.work import Record, array_text, text_array
from datamodules.image_io import READING

VERSION = "1"
ANALYSED = 1600
"""Longest side of the pixels that are looked at; larger photos are made smaller first."""


@dataclass(frozen=True)
class Look:
    """One photo. Boxes and landmarks are in pixels of the upright photo; N is the number of faces, largest first."""

    sha256: str
    problem: str
    """Why the photo cannot be used, empty if it can."""
    size: tuple[int, int]
    """Width and height of the upright photo."""
    boxes: NDArray[np.float32]
    """(N, 4)."""
    landmarks: NDArray[np.float32]
    """(N, 5, 2)."""
    scores: NDArray[np.float32]
    """(N,): the detector's confidence."""
    embeddings: NDArray[np.float32]
    """(N, D) of length 1."""
    blurs: NDArray[np.float32]
    """(N + 1,) of the faces and of the middle of the photo, 0 sharp to 1."""
    signatures: NDArray[np.uint8]
    """(N + 1, S, S) thumbnails of what would be cut out for each face, and of the middle of the photo."""

    def square(self, face: int | None) -> Square:
        """What would be cut out for a face, or without one."""
        return middle_square(self.size, None) if face is None else face_square(self.size, self.boxes[face])

    def blur(self, face: int | None) -> float:
        """That of a face, or of the middle."""
        return float(self.blurs[-1 if face is None else face])

    def signature(self, face: int | None) -> NDArray[np.uint8]:
        """That of a face's portrait, or of the middle."""
        return self.signatures[-1 if face is None else face]

    def record(self) -> Record:
        """As arrays."""
        arrays: dict[str, Any] = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        texts = {"sha256": text_array(self.sha256), "problem": text_array(self.problem)}
        return arrays | texts | {"size": np.array(self.size, np.int64)}

    @classmethod
    def of(cls, record: Record) -> "Look":
        """From the arrays."""
        width, height = record["size"].tolist()
        known: dict[str, Any] = {name: array_text(record[name]) for name in ("sha256", "problem")}
        return cls(**{**record, **known, "size": (width, height)})


class Looker:
    """Looks at photos; where ``finder`` is ``None`` no faces are looked for."""

    def __init__(self, finder: FaceFinder | None) -> None:
        self.finder = finder
        self.fingerprint = f"look {VERSION} {READING} {finder.fingerprint if finder else 'no faces'}"

    def key(self, source: Source) -> str:
        """What a look at a photo is found by while the photo does not change."""
        faces = bool(source.facts.has_face and self.finder)
        return hashlib.sha256(f"{self.fingerprint}/{faces}/{source.image.stamp}".encode()).hexdigest()

    def looks(self, sources: Sequence[Source]) -> list[Record]:
        """Look at some photos."""
        return [self._look(source).record() for source in sources]

    def _look(self, source: Source) -> Look:
        finder = self.finder if source.facts.has_face else None
        digest = ""
        try:
            data = source.image.read()
            digest = hashlib.sha256(data).hexdigest()
            picture = read_picture(data, source.name, ANALYSED // 2)
        except LikenessError as error:
            return _unreadable(digest, str(error).removeprefix(f"{source.name} "))
        pixels = _smaller(picture.pixels)
        found = finder.find(pixels) if finder else []
        back = picture.size[0] / pixels.shape[1]
        faces = [face.scaled(back) for face in found]
        squares = [face_square(picture.size, face.box) for face in faces] + [middle_square(picture.size, None)]
        inner = [face.box / back for face in faces] + [np.array(_middle(pixels), np.float32)]
        return Look(
            sha256=digest,
            problem="",
            size=picture.size,
            boxes=_stacked([face.box for face in faces], (4,)),
            landmarks=_stacked([face.landmarks for face in faces], (5, 2)),
            scores=_stacked([np.array(face.score) for face in faces], ()),
            embeddings=_stacked([face.embedding for face in faces], (0,)),
            blurs=np.array([blur_of(pixels, box) for box in inner], np.float32),
            signatures=np.stack([signature(pixels, square.scaled(1 / back)) for square in squares]),
        )


def _unreadable(digest: str, problem: str) -> Look:
    none = np.zeros(0, np.float32)
    return Look(
        digest,
        problem,
        (0, 0),
        _stacked([], (4,)),
        _stacked([], (5, 2)),
        none,
        _stacked([], (0,)),
        none,
        np.zeros((0, SIGNATURE, SIGNATURE), np.uint8),
    )


def _stacked(arrays: Sequence[NDArray], shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.stack(arrays).astype(np.float32) if arrays else np.zeros((0, *shape), np.float32)


def _smaller(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels at no more than ``ANALYSED`` a side."""
    factor = ANALYSED / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def _middle(pixels: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """The box of the middle of a photo, where its subject most likely is."""
    height, width = pixels.shape[:2]
    return width * 0.2, height * 0.2, width * 0.8, height * 0.8
