"""Face detection and face embeddings by a pack of ONNX files, in batches, with every choice written down.

The face with the largest box is judged, or, where it is known where the subject's face is, the one that lies there. All
faces of an image are returned, largest first: a crowd stays visible.

Detection makes one attempt or two. Attempt ``plain`` reads the image as it is. Attempt ``padded`` follows where
nothing was found and ``retry`` allows it. It reads the image with a black border of half its size on each side. A face
that fills the frame then takes half as much of the detector's input. Each face says which attempt found it. Crops for
embeddings are always cut from the original pixels, so a second attempt never lowers their resolution.

A pack may hold a third network that reads the parts of a face (:mod:`networks.face_parts`). What it can hardly read is
no face then, whatever the detector says.

``retry`` is off by default. A detector that never saw such borders without a face may take the border for one, even
around noise; a detection rate then says nothing. The pocket detector was trained on both.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from contracts.errors import LikenessError
from contracts.files import file_sha256
from contracts.settings import DETECTION_SIDES, detection_sides
from networks.face_choice import face_at, own_faces
from networks.face_detectors import SAME_FACE, Detections, FaceDetector, find_faces, overlap
from networks.face_files import PackFile, find_file, find_parts_file, licence_of, onnx_files
from networks.face_networks import FaceRuntime, load_detector, load_parts_reader, load_recogniser
from networks.face_parts import LEAST, READABLE, crop, is_large_enough
from networks.face_recognisers import FaceRecogniser

_loaded: dict[tuple[Any, ...], Any] = {}
Part = TypeVar("Part")
Images = NDArray[np.uint8] | torch.Tensor
Readable = Sequence[NDArray[np.bool_] | None]
"""For each face (4,): which parts can be read; ``None`` of a pack that does not say."""


@dataclass(frozen=True)
class Face:
    """One face of an image."""

    bbox: NDArray[np.float32]
    """(4,): x0, y0, x1, y1 in pixels of the image."""
    landmarks: NDArray[np.float32]
    """(5, 2): x, y in pixels of the image."""
    score: float
    """The detector's confidence, 0..1."""
    embedding: NDArray[np.float32]
    """(D,), of length 1."""
    attempt: Literal["plain", "padded"]
    """Which attempt found the face."""
    readable: NDArray[np.bool_] | None = None
    """(4,): which of ``networks.face_parts.PARTS`` can be read; ``None`` of a pack that does not say."""


@dataclass(frozen=True)
class JudgedFaces:
    """One face of each of B images. Where no face was found, numbers are 0."""

    found: NDArray[np.bool_]
    """(B,): whether there is a face."""
    embeddings: NDArray[np.float32]
    """(B, D), of length 1."""
    counts: NDArray[np.int64]
    """(B,): how many faces were found."""
    attempts: list[str | None]
    """B names of the attempt that found the face; ``None`` without a face."""
    boxes: NDArray[np.float32]
    """(B, 4): x0, y0, x1, y1 in pixels."""
    landmarks: NDArray[np.float32]
    """(B, 5, 2): x, y in pixels."""
    every: list[NDArray[np.float32]]
    """B times (F, D), of length 1: embeddings of all faces of an image, largest first."""
    complete: NDArray[np.bool_]
    """(B,): whether both eyes, nose and mouth of the face can be read; all False of a pack that does not say."""

    @classmethod
    def none(cls, count: int, width: int) -> "JudgedFaces":
        """No face in any of ``count`` images, for embeddings of ``width`` numbers."""
        return cls(
            found=np.zeros(count, np.bool_),
            embeddings=np.zeros((count, width), np.float32),
            counts=np.zeros(count, np.int64),
            attempts=[None] * count,
            boxes=np.zeros((count, 4), np.float32),
            landmarks=np.zeros((count, 5, 2), np.float32),
            every=[np.zeros((0, width), np.float32)] * count,
            complete=np.zeros(count, np.bool_),
        )


class FacePack:
    """A folder with a detector and a recogniser as ONNX files, see :mod:`networks.face_files`. Nothing is downloaded.

    Networks are loaded on first use, once per process, and are not pickled.

    Args:
        source: An existing folder.
        det_size: Sides of the detector's input in pixels, multiples of 32. A detector of a fixed input has its own.
        device: Where the networks run. There is no silent fallback to another device.
        threads: Threads of one ONNX Runtime session.
        retry: Whether a second attempt follows where the first finds no face, see the module's text.

    Raises:
        LikenessError: the folder is missing or unusable, or the device is not there.
    """

    def __init__(
        self,
        source: str | Path,
        det_size: int | Sequence[int] = DETECTION_SIDES,
        device: Literal["cpu", "cuda"] = "cpu",
        threads: int = 1,
        retry: bool = False,
    ) -> None:
        self.source = Path(source).expanduser()
        if not self.source.is_dir():
            raise LikenessError(
                f"face pack '{source}' is not a folder: give a folder that holds a detector and a recogniser as .onnx "
                "files, such as pocket/weights/faces_a (nothing is downloaded)"
            )
        self.files = onnx_files(self.source)
        if len(self.files) < 2:
            raise LikenessError(
                f"face pack '{source}' holds {len(self.files)} .onnx files, a detector and a recogniser are needed"
            )
        self.det_size = detection_sides(det_size, "det_size")
        self.runtime = FaceRuntime(device, threads)
        self.retry = retry

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names and bytes of the ONNX files, as hex."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(file.name.encode() + b"\0" + bytes.fromhex(file_sha256(file)))
        return digest.hexdigest()

    @property
    def key(self) -> str:
        """Names the files and, where they are others than 128 alone, the sides: all that decides what is found."""
        sides = "" if self.sides == (128,) else "@" + "+".join(map(str, self.sides))
        return f"{self.fingerprint}{sides}"

    @cached_property
    def detector_file(self) -> PackFile:
        """The file that finds faces; raises ``LikenessError`` where there is none."""
        return find_file(self.source, "detection")

    @cached_property
    def recogniser_file(self) -> PackFile:
        """The file that recognises them; raises ``LikenessError`` where there is none."""
        return find_file(self.source, "recognition")

    @cached_property
    def parts_file(self) -> PackFile | None:
        """The file that reads the parts of a face; ``None`` where there is none."""
        return find_parts_file(self.source)

    @property
    def licence(self) -> str:
        """Under what licence the pack says that it is."""
        return licence_of(self.source, [self.detector_file, self.recogniser_file])

    @property
    def sides(self) -> tuple[int, ...]:
        """The sides of the detector's input that are used: ``det_size``, or the one that its file fixes."""
        file = self.detector_file
        return (file.side,) if file.side is not None and file.library == "insightface" else self.det_size

    @property
    def detector(self) -> FaceDetector:
        """The detector of this process. Raises LikenessError where the folder cannot be used."""
        return self._part(self.detector_file, load_detector)

    @property
    def recogniser(self) -> FaceRecogniser:
        """The recogniser of this process. Raises LikenessError where the folder cannot be used."""
        return self._part(self.recogniser_file, load_recogniser)

    def analyse(self, images: Images) -> list[list[Face]]:
        """Faces of each image of (B, H, W, 3) uint8 RGB, largest box first."""
        bgr = _bgr(images)
        found = [self._find(image) for image in bgr]
        marks = [(i, points) for i, (faces, _, _) in enumerate(found) for points in faces.landmarks]
        embeddings = iter(self._embed(bgr, marks))
        return [
            [
                Face(box, points, float(score), next(embeddings), attempt, parts)
                for box, points, score, parts in zip(faces.boxes, faces.landmarks, faces.scores, readable, strict=True)
            ]
            for faces, readable, attempt in found
        ]

    def judge(self, images: Images, boxes: NDArray[np.float32] | None = None) -> JudgedFaces:
        """The largest face of each image of (B, H, W, 3) uint8 RGB.

        With ``boxes`` (B, 4), NaN where one is not known, it is the face that lies in the box, and none elsewhere.
        """
        faces = self.analyse(images)
        boxes = np.full((len(faces), 4), np.nan, np.float32) if boxes is None else boxes
        return self._judged(faces, [face_at(_boxes(here), box) for here, box in zip(faces, boxes, strict=True)])

    def judge_subject(self, photos: Images, boxes: NDArray[np.float32] | None = None) -> JudgedFaces:
        """One subject's own face in each of its photos (N, H, W, 3) uint8 RGB.

        ``boxes`` (N, 4) say where it is, NaN where that is not known. See :func:`networks.face_choice.own_faces`.
        """
        faces = self.analyse(photos)
        embeddings = [np.array([face.embedding for face in here], np.float32) for here in faces]
        return self._judged(faces, own_faces([_boxes(here) for here in faces], embeddings, boxes))

    def embed(self, images: Images, judged: JudgedFaces) -> NDArray[np.float32]:
        """This pack's embeddings (B, D) of the faces that another pack judged, all 0 where it found none."""
        bgr = _bgr(images)
        rows = np.flatnonzero(judged.found)
        embeddings = np.zeros((len(bgr), self.recogniser.width), np.float32)
        embeddings[rows] = self._embed(bgr, [(int(i), judged.landmarks[i]) for i in rows])
        return embeddings

    def embed_at(
        self, images: Sequence[NDArray[np.uint8]], landmarks: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Embeddings (B, D) of length 1 of one face each in B RGB images of any size, by their landmarks (5, 2)."""
        bgr = [np.ascontiguousarray(image[..., ::-1]) for image in images]
        return self._embed(bgr, list(enumerate(landmarks)))

    def _judged(self, faces: Sequence[Sequence[Face]], chosen: Sequence[int | None]) -> JudgedFaces:
        judged = JudgedFaces.none(len(faces), self.recogniser.width)
        for i, (here, number) in enumerate(zip(faces, chosen, strict=True)):
            judged.counts[i] = len(here)
            judged.every[i] = np.array([face.embedding for face in here], np.float32).reshape(-1, self.recogniser.width)
            if number is not None:
                judged.found[i] = True
                judged.embeddings[i] = here[number].embedding
                judged.boxes[i] = here[number].bbox
                judged.landmarks[i] = here[number].landmarks
                judged.attempts[i] = here[number].attempt
                readable = here[number].readable
                judged.complete[i] = readable is not None and readable.all()
        return judged

    def _find(self, image: NDArray[np.uint8]) -> tuple[Detections, Readable, Literal["plain", "padded"]]:
        """The faces of one BGR image, largest box first, their readable parts, and the attempt that found them."""
        faces, readable = self._checked(image, lambda sides: find_faces(self.detector, image, sides))
        if len(faces.boxes) or not self.retry:
            return faces, readable, "plain"
        h, w = image.shape[0] // 2, image.shape[1] // 2
        padded = cv2.copyMakeBorder(image, h, h, w, w, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        shift = np.array([w, h], np.float32)

        def in_padded(sides: Sequence[int]) -> Detections:
            faces = find_faces(self.detector, padded, sides)
            return Detections(faces.boxes - np.tile(shift, 2), faces.landmarks - shift, faces.scores)

        return *self._checked(image, in_padded), "padded"

    def _checked(
        self, image: NDArray[np.uint8], find: Callable[[Sequence[int]], Detections]
    ) -> tuple[Detections, Readable]:
        """What ``find`` finds and what of it can be read: faces alone, or all of it where the pack does not say.

        A face that cannot be read by the landmarks of one side may be by those of another.
        """
        faces = find(self.sides)
        if self.parts_file is None:
            return faces, [None] * len(faces.boxes)
        is_face, readable = self._read(image, faces)
        for side in self.sides if len(self.sides) > 1 and not is_face.all() else ():
            other = find((side,))
            good, read = self._read(image, other)
            for i in np.flatnonzero(~is_face):
                same = np.flatnonzero(good & (overlap(other.boxes, faces.boxes[i]) > SAME_FACE))[:1]
                if len(same):
                    faces.boxes[i], faces.landmarks[i] = other.boxes[same[0]], other.landmarks[same[0]]
                    faces.scores[i], readable[i], is_face[i] = other.scores[same[0]], read[same[0]], True
        found = Detections(faces.boxes[is_face], faces.landmarks[is_face], faces.scores[is_face])
        return found, list(readable[is_face])

    def _read(self, image: NDArray[np.uint8], faces: Detections) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which of the detections (N,) are faces, and which of their parts (N, 4) can be read."""
        assert self.parts_file is not None
        rgb = np.ascontiguousarray(image[..., ::-1])
        seen = min(self.sides) / max(image.shape[:2])
        large = np.array([is_large_enough(box, seen) for box in faces.boxes], np.bool_)
        reader = self._part(self.parts_file, load_parts_reader)
        readable = reader.read([crop(rgb, points) for points in faces.landmarks]) >= READABLE
        readable &= large[:, None]
        return (readable.sum(axis=1) >= LEAST) | ~large, readable

    def _embed(
        self, bgr: Sequence[NDArray[np.uint8]], marks: Sequence[tuple[int, NDArray[np.float32]]]
    ) -> NDArray[np.float32]:
        """Embeddings (N, D) of length 1 of the faces with landmarks (5, 2), each in the image of that index."""
        recogniser = self.recogniser
        if not marks:
            return np.zeros((0, recogniser.width), np.float32)
        raw = recogniser.embed([recogniser.crop(bgr[i], points) for i, points in marks])
        return (raw / np.linalg.norm(raw, axis=1, keepdims=True).clip(min=1e-12)).astype(np.float32)

    def _part(self, file: PackFile, load: Callable[[PackFile, FaceRuntime], Part]) -> Part:
        # Sessions do not survive a fork, hence the process number in the key.
        key = (os.getpid(), file.path.resolve(), self.fingerprint, self.runtime)
        if key not in _loaded:
            _loaded[key] = load(file, self.runtime)
        return _loaded[key]


def _boxes(faces: Sequence[Face]) -> NDArray[np.float32]:
    return np.array([face.bbox for face in faces], np.float32).reshape(-1, 4)


def _bgr(images: Images) -> list[NDArray[np.uint8]]:
    """What the networks read: one contiguous BGR image each. A wrong shape or type is a mistake of the caller."""
    array = images.detach().cpu().numpy() if isinstance(images, torch.Tensor) else images
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
        raise ValueError(f"images must be (B, H, W, 3) uint8 RGB, not {array.shape} {array.dtype}")
    return [np.ascontiguousarray(image[..., ::-1]) for image in array]
