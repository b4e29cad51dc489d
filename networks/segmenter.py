"""A segmentation model in ONNX form: where in an image its subject is."""

from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import LikenessError
from networks.fingerprints import file_fingerprint

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_SIDE = 320  # of the input, where the file leaves it open

Mask = NDArray[np.bool_]


class Segmenter:
    """Says of each pixel whether it is the subject.

    The model's input is (B, 3, H, W) RGB, normalised as ImageNet's models are unless the file's metadata say ``mean``
    and ``std``, three numbers each for pixels from 0 to 1. Its first output is (B, 1, h, w), probabilities or logits,
    or (B, C, h, w) with the background as class 0.

    Args:
        source: The file.
        key: What the user gave the file by, for messages.

    Raises:
        LikenessError: the file cannot be used.
    """

    def __init__(self, source: str, key: str = "judges.segmenter") -> None:
        import onnxruntime

        self.path, self._name = Path(source).expanduser(), f"{key}: {source}"
        if not self.path.is_file():
            raise LikenessError(f"{key}: no file {source}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(self.path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises a type of its own for each kind of damage
            raise LikenessError(f"{self._name} cannot be read: {_line(error)}") from error
        (given, *more), told = self._session.get_inputs(), self._session.get_modelmeta().custom_metadata_map
        if more or len(given.shape) != 4 or given.shape[1] != 3 or given.type != "tensor(float)":
            raise LikenessError(f"{self._name}: a segmentation model has one input (B, 3, H, W) of float32")
        self._input = given.name
        self._height, self._width = (side if isinstance(side, int) else _SIDE for side in given.shape[2:])
        self._mean, self._std = (self._numbers(told, name) for name in ("mean", "std"))

    def _numbers(self, told: dict[str, str], name: str) -> NDArray[np.float32]:
        try:
            values = [float(part) for part in told[name].strip("[]").split(",")] if name in told else _IMAGENET[name]
            found = np.array(values, np.float32)
        except ValueError:
            found = np.zeros(0, np.float32)
        if found.shape != (3,) or not np.isfinite(found).all() or (name == "std" and not found.all()):
            raise LikenessError(f"{self._name}: {name} in its metadata is {told[name]!r}, no three numbers")
        return found

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file."""
        return file_fingerprint(self.path)

    def mask(self, image: NDArray[np.uint8]) -> Mask:
        """Where the subject is (H, W) in an RGB image (H, W, 3).

        Raises:
            LikenessError: the model does not run, or its output is no mask.
        """
        small = cv2.resize(image, (self._width, self._height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        values = ((small - self._mean) / self._std).transpose(2, 0, 1)[None]
        try:
            found = np.asarray(self._session.run(None, {self._input: values})[0], np.float32)
        except Exception as error:
            raise LikenessError(f"{self._name} cannot be run: {_line(error)}") from error
        if found.ndim != 4 or len(found) != 1 or not np.isfinite(found).all():
            raise LikenessError(f"{self._name}: its first output {found.shape} is no mask (1, C, h, w)")
        return cv2.resize(_inside(found[0]), image.shape[1::-1], interpolation=cv2.INTER_LINEAR) > 0.5


def _inside(found: NDArray[np.float32]) -> NDArray[np.float32]:
    """How surely each pixel (h, w) is the subject, 0 to 1, from classes, probabilities or logits (C, h, w)."""
    if len(found) > 1:
        return (found.argmax(axis=0) > 0).astype(np.float32)
    if found.min() < 0 or found.max() > 1:
        return 1 / (1 + np.exp(-found[0].clip(-60, 60)))
    return found[0]


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
