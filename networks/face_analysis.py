"""Face detection and face embeddings through stock insightface, in batches, with every choice written down.

The face with the largest box is judged. All faces of an image are returned, largest first: a crowd stays visible.

Detection makes one attempt or two. Attempt ``plain`` reads the image as it is. Attempt ``padded`` follows where
nothing was found and ``retry`` allows it. It reads the image with a black border of half its size on each side. A face
that fills the frame then takes half as much of the detector's input. Each face says which attempt found it. Crops for
embeddings are always cut from the original pixels, so a second attempt never lowers their resolution.

``retry`` is off by default. A detector that never saw such borders without a face may take the border for one, even
around noise; a detection rate then says nothing. The pocket detector was trained on both.
"""

import hashlib
import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from contracts.errors import LikenessError
from contracts.files import file_sha256

DETECTION_SIDE = 128
"""Side of the square that images are fitted into for detection.

128 is the smaller of insightface's own two defaults and twice the side of a pocket image. Faces of 30 to 110 pixels in
that square are found best. For images of 512 pixels with small faces use 640.
"""
SCORE_THRESHOLD = 0.5

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_loaded: dict[tuple[Any, ...], Any] = {}


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
    """(512,), of length 1."""
    attempt: Literal["plain", "padded"]
    """Which attempt found the face."""


@dataclass(frozen=True)
class JudgedFaces:
    """The largest face of each of B images. Where no face was found, numbers are 0."""

    found: NDArray[np.bool_]
    """(B,): whether there is a face."""
    embeddings: NDArray[np.float32]
    """(B, 512), of length 1."""
    counts: NDArray[np.int64]
    """(B,): how many faces were found."""
    attempts: list[str | None]
    """B names of the attempt that found the face; ``None`` without a face."""
    boxes: NDArray[np.float32]
    """(B, 4): x0, y0, x1, y1 in pixels."""
    landmarks: NDArray[np.float32]
    """(B, 5, 2): x, y in pixels."""


class FacePack:
    """A folder of insightface models, used for detection and recognition. Nothing is downloaded.

    ONNX sessions are made on first use, once per process, and are not pickled.

    Args:
        source: An existing folder with a detector and a recogniser as ONNX files.
        det_size: Side of the detector's input in pixels, a multiple of 32.
        device: Where the models run. There is no silent fallback to another device.
        threads: Threads of one ONNX Runtime session.
        retry: Whether a second attempt follows where the first finds no face, see the module's text.

    Raises:
        LikenessError: the folder is missing or unusable, or the device is not there.
    """

    def __init__(
        self,
        source: str | Path,
        det_size: int = DETECTION_SIDE,
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
        self.files = sorted(self.source.glob("*.onnx"))
        if len(self.files) < 2:
            raise LikenessError(
                f"face pack '{source}' holds {len(self.files)} .onnx files, a detector and a recogniser are needed"
            )
        if det_size <= 0 or det_size % 32:
            raise LikenessError(f"det_size is {det_size}: it must be a positive multiple of 32")
        if device not in _PROVIDERS:
            raise LikenessError(f"device '{device}' is unknown to face packs: use one of {', '.join(_PROVIDERS)}")
        self.det_size = det_size
        self.device = device
        self.threads = threads
        self.retry = retry

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names and bytes of the ONNX files, as hex."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(file.name.encode() + b"\0" + bytes.fromhex(file_sha256(file)))
        return digest.hexdigest()

    @property
    def app(self) -> Any:
        """The ``FaceAnalysis`` of this process. Raises LikenessError where the folder cannot be used."""
        # Sessions do not survive a fork, hence the process number in the key.
        key = (os.getpid(), str(self.source.resolve()), self.fingerprint, self.device, self.threads)
        if key not in _loaded:
            _loaded[key] = _load(self.source, self.device, self.threads)
        return _loaded[key]

    def analyse(self, images: NDArray[np.uint8] | torch.Tensor) -> list[list[Face]]:
        """Faces of each image of (B, H, W, 3) uint8 RGB, largest box first."""
        bgr = _bgr(images)
        found = [self._find(image) for image in bgr]
        crops = [_crop(bgr[i], marks) for i, faces in enumerate(found) for _, marks, _, _ in faces]
        embeddings = iter(self._embed(crops))
        return [
            [Face(box, marks, score, next(embeddings), attempt) for box, marks, score, attempt in faces]
            for faces in found
        ]

    def judge(self, images: NDArray[np.uint8] | torch.Tensor) -> JudgedFaces:
        """The largest face of each image of (B, H, W, 3) uint8 RGB."""
        faces = self.analyse(images)
        embeddings = np.zeros((len(faces), 512), np.float32)
        boxes = np.zeros((len(faces), 4), np.float32)
        landmarks = np.zeros((len(faces), 5, 2), np.float32)
        for i, here in enumerate(faces):
            if here:
                embeddings[i] = here[0].embedding
                boxes[i] = here[0].bbox
                landmarks[i] = here[0].landmarks
        return JudgedFaces(
            found=np.array([bool(f) for f in faces], np.bool_),
            embeddings=embeddings,
            counts=np.array([len(f) for f in faces], np.int64),
            attempts=[f[0].attempt if f else None for f in faces],
            boxes=boxes,
            landmarks=landmarks,
        )

    def embed(self, images: NDArray[np.uint8] | torch.Tensor, judged: JudgedFaces) -> NDArray[np.float32]:
        """This pack's embeddings (B, 512) of the faces that another pack judged, all 0 where it found none."""
        bgr = _bgr(images)
        rows = np.flatnonzero(judged.found)
        embeddings = np.zeros((len(bgr), 512), np.float32)
        embeddings[rows] = self._embed([_crop(bgr[i], judged.landmarks[i]) for i in rows])
        return embeddings

    def _find(self, image: NDArray[np.uint8]) -> list[tuple[NDArray[np.float32], NDArray[np.float32], float, Any]]:
        """Box, landmarks, score and attempt of each face of one BGR image, largest box first."""
        detector = self.app.det_model
        size = detector.static_input_size or (self.det_size, self.det_size)
        detector.det_thresh = SCORE_THRESHOLD
        attempt = "plain"
        shift = np.zeros(2, np.float32)
        boxes, marks = detector.detect(image, input_size=size)
        if len(boxes) == 0 and self.retry:
            h, w = image.shape[0] // 2, image.shape[1] // 2
            padded = cv2.copyMakeBorder(image, h, h, w, w, cv2.BORDER_CONSTANT, value=(0, 0, 0))
            attempt = "padded"
            shift = np.array([w, h], np.float32)
            boxes, marks = detector.detect(padded, input_size=size)
        faces = [
            (box[:4] - np.tile(shift, 2), points - shift, float(box[4]), attempt)
            for box, points in zip(boxes, marks, strict=True)
        ]
        return sorted(faces, key=lambda face: float(np.prod(face[0][2:] - face[0][:2])), reverse=True)

    def _embed(self, crops: list[NDArray[np.uint8]], batch: int = 64) -> NDArray[np.float32]:
        """Embeddings (N, 512) of length 1 of aligned BGR crops."""
        recogniser = self.app.models["recognition"]
        if not crops:
            return np.zeros((0, 512), np.float32)
        # Some exports fix the batch axis at 1.
        step = batch if isinstance(recogniser.input_shape[0], str | None) else int(recogniser.input_shape[0])
        if step != batch:
            step = 1
        raw = np.concatenate([recogniser.get_feat(crops[i : i + step]) for i in range(0, len(crops), step)])
        return (raw / np.linalg.norm(raw, axis=1, keepdims=True).clip(min=1e-12)).astype(np.float32)


def recognises_faces(file: Path) -> bool:
    """Whether insightface takes an ONNX file for a recogniser. It looks at inputs and outputs only.

    False for a file that is no ONNX.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(file, load_external_data=False).graph
    except DecodeError:
        return False
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [found for found in graph.input if found.name not in weights]
    sides = [dim.dim_value for found in inputs for dim in found.type.tensor_type.shape.dim[2:]]
    # Of 192 pixels are its landmark models, of less than 112 the one for age; a detector has an output for each stride.
    return len(graph.output) < 5 and len(sides) == 2 and sides[0] == sides[1] and _is_recognisers_side(sides[0])


def _is_recognisers_side(side: int) -> bool:
    return side >= 112 and side % 16 == 0 and side != 192


def _bgr(images: NDArray[np.uint8] | torch.Tensor) -> list[NDArray[np.uint8]]:
    """What insightface reads: one contiguous BGR image each. A wrong shape or type is a mistake of the caller."""
    array = images.detach().cpu().numpy() if isinstance(images, torch.Tensor) else images
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
        raise ValueError(f"images must be (B, H, W, 3) uint8 RGB, not {array.shape} {array.dtype}")
    return [np.ascontiguousarray(image[..., ::-1]) for image in array]


def _crop(image: NDArray[np.uint8], marks: NDArray[np.float32]) -> NDArray[np.uint8]:
    from insightface.utils.face_align import norm_crop

    with warnings.catch_warnings():
        # insightface 2.1 calls a method that scikit-image has deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        return norm_crop(image, landmark=marks, image_size=112)


def _load(source: Path, device: str, threads: int) -> Any:
    import onnxruntime
    from insightface.app import FaceAnalysis

    provider = _PROVIDERS[device]
    if provider not in onnxruntime.get_available_providers():
        raise LikenessError(
            f"face pack on '{device}': this onnxruntime has no {provider}; install onnxruntime-gpu or use device cpu"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        app = FaceAnalysis(
            name=str(source.resolve()),
            allowed_modules=["detection", "recognition"],
            providers=[provider],
            sess_options=options,
        )
    except AssertionError:
        raise LikenessError(f"face pack '{source}' has no detector among its .onnx files") from None
    except Exception as error:
        # onnxruntime and protobuf raise a type of their own for each kind of damage.
        raise LikenessError(f"face pack '{source}' cannot be read: {str(error).splitlines()[0]}") from error
    if "recognition" not in app.models:
        raise LikenessError(f"face pack '{source}' has no recogniser among its .onnx files")
    if not app.det_model.use_kps:
        raise LikenessError(f"face pack '{source}': its detector gives no landmarks, so faces cannot be aligned")
    app.prepare(ctx_id=0, det_thresh=SCORE_THRESHOLD, det_size=(DETECTION_SIDE, DETECTION_SIDE))
    for task, model in app.models.items():
        used = model.session.get_providers()
        if used[0] != provider:
            raise LikenessError(f"face pack '{source}': {task} was asked to run on {provider} but runs on {used[0]}")
    return app
