"""Loads the networks of a face pack: those in insightface's form through ONNX Runtime, OpenCV's through OpenCV."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2

from contracts.errors import LikenessError
from networks.face_detectors import FaceDetector, ScrfdDetector, YuNetDetector
from networks.face_files import PackFile
from networks.face_parts import FacePartsReader
from networks.face_recognisers import ArcFaceRecogniser, FaceRecogniser, SFaceRecogniser

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""What ONNX Runtime calls a device."""


@dataclass(frozen=True)
class FaceRuntime:
    """Where the networks run: ``device`` is a key of :data:`PROVIDERS`, ``threads`` are those of an ONNX session."""

    device: str
    threads: int

    def __post_init__(self) -> None:
        if self.device not in PROVIDERS:
            raise LikenessError(f"device '{self.device}' is unknown to face packs: use one of {', '.join(PROVIDERS)}")


def load_detector(file: PackFile, runtime: FaceRuntime) -> FaceDetector:
    """The detector of a file; raises ``LikenessError`` where it cannot be loaded, or not there."""
    with _readable(file, runtime):
        if file.library == "OpenCV":
            return YuNetDetector(file.path)
        return ScrfdDetector(_insightface(file, runtime), str(file.path.parent))


def load_recogniser(file: PackFile, runtime: FaceRuntime) -> FaceRecogniser:
    """The recogniser of a file; raises ``LikenessError`` where it cannot be loaded, or not there."""
    with _readable(file, runtime):
        if file.library == "OpenCV":
            return SFaceRecogniser(file.path)
        return ArcFaceRecogniser(_insightface(file, runtime))


def load_parts_reader(file: PackFile, runtime: FaceRuntime) -> FacePartsReader:
    """The reader of facial parts of a file; raises ``LikenessError`` where it cannot be loaded, or not there."""
    from insightface.model_zoo import model_zoo

    with _readable(file, runtime):
        return FacePartsReader(model_zoo.PickableInferenceSession(str(file.path), **_session_settings(runtime)))


@contextmanager
def _readable(file: PackFile, runtime: FaceRuntime) -> Iterator[None]:
    if file.library == "OpenCV" and runtime.device != "cpu":
        raise LikenessError(f"face pack on '{runtime.device}': {file.path.name} is OpenCV's and runs on cpu only")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns of a setting of its own
    try:
        yield
    except LikenessError:
        raise
    except Exception as error:
        # ONNX Runtime, OpenCV and protobuf raise types of their own for each kind of damage.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise LikenessError(f"face pack '{file.path.parent}' cannot be read: {file.path.name}: {reason}") from error
    finally:
        cv2.utils.logging.setLogLevel(level)


def _insightface(file: PackFile, runtime: FaceRuntime) -> Any:
    from insightface.model_zoo import model_zoo
    from insightface.model_zoo.arcface_onnx import ArcFaceONNX

    settings = _session_settings(runtime)
    if file.manifest_folder is not None:
        model = model_zoo.get_model(str(file.manifest_folder), model_task=file.task, **settings)
    elif file.task == "recognition":
        # Its router takes no side that 16 does not divide, such as 150, and the class takes any.
        model = ArcFaceONNX(str(file.path), model_zoo.PickableInferenceSession(str(file.path), **settings))
    else:
        model = model_zoo.get_model(str(file.path), **settings)
    used, provider = model.session.get_providers(), PROVIDERS[runtime.device]
    if used[0] != provider:
        raise LikenessError(
            f"face pack '{file.path.parent}': {file.task} was asked to run on {provider} but runs on {used[0]}"
        )
    return model


def _session_settings(runtime: FaceRuntime) -> dict[str, Any]:
    """What an ONNX Runtime session is made with."""
    import onnxruntime

    provider = PROVIDERS[runtime.device]
    if provider not in onnxruntime.get_available_providers():
        raise LikenessError(
            f"face pack on '{runtime.device}': this onnxruntime has no {provider}; install onnxruntime-gpu or use "
            "device cpu"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = runtime.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return {"providers": [provider], "sess_options": options}
