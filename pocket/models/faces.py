"""The pocket face packs: folders that stock ``insightface.app.FaceAnalysis(name=FOLDER)`` loads.

A pack holds ``detection.onnx`` and ``recognition.onnx``. The loader takes the files in sorted order, tells a detector
by its nine outputs and a recogniser by its square input of 112, and guesses the recogniser's input scaling from the
names of its first eight nodes. Both packs share one detector; their recognisers are trained apart. ``faces_b``, which
judges, has a third file that the loader passes over: it reads the parts of a face (:mod:`networks.face_parts`).
"""

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from contracts.files import atomic_path
from networks.face_parts import OUTPUT, SIDE
from pocket.models.bank import Bank
from pocket.models.detector import STRIDES, Detector, train_detector
from pocket.models.face_parts import train_parts_reader
from pocket.models.recogniser import RECIPES, Recogniser, train_recogniser

DETECTOR_FILE = "detection.onnx"
RECOGNISER_FILE = "recognition.onnx"
PARTS_FILE = "parts.onnx"
JUDGE = "faces_b"
_OPSET = 17
_SMALL = 256  # tensors of fewer numbers stay in single precision: they are biases and cost nothing


class _OneImage(nn.Module):
    """The detector for one image, its outputs without the batch axis, as SCRFD exports have them."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(part[0] for part in self.detector(image))


def export_detector(detector: Detector, file: Path) -> None:
    """Write the detector with free height and width."""
    names = [f"{kind}_{stride}" for kind in ("score", "box", "landmarks") for stride in STRIDES]
    _export(_OneImage(detector), torch.zeros(1, 3, 64, 64), file, names, {2: "height", 3: "width"})


def export_recogniser(recogniser: Recogniser, file: Path) -> None:
    """Write the recogniser with a free batch size."""
    _export(recogniser, torch.zeros(2, 3, 112, 112), file, ["embedding"], {0: "batch"})


def export_parts_reader(reader: nn.Module, file: Path) -> None:
    """Write the reader of facial parts with a free batch size."""
    _export(reader, torch.zeros(2, 3, SIDE, SIDE), file, [OUTPUT], {0: "batch"})


def export_pack(detector: Detector, recogniser: Recogniser, folder: Path) -> None:
    """Write both networks into ``folder``, each file in one piece or not at all."""
    export_detector(detector, folder / DETECTOR_FILE)
    export_recogniser(recogniser, folder / RECOGNISER_FILE)


def train_packs(bank: Bank, state: Path, weights: Path) -> None:
    """Train the detector and both recognisers and write ``faces_a`` and ``faces_b`` under ``weights``."""
    detector = train_detector(bank, state)
    for name in RECIPES:
        export_pack(detector, train_recogniser(bank, state, name), weights / name)


def train_judge(bank: Bank, state: Path, weights: Path) -> None:
    """Train the reader of facial parts and write it into the pack that judges."""
    export_parts_reader(train_parts_reader(bank, state), weights / JUDGE / PARTS_FILE)


def _export(module: nn.Module, example: torch.Tensor, file: Path, outputs: list[str], free: dict[int, str]) -> None:
    module = module.eval()
    with atomic_path(file) as temporary:
        with warnings.catch_warnings():
            # torch calls this exporter old; the newer one needs packages that nothing else here does.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # anchors follow the size, which stays free
            torch.onnx.export(
                module,
                (example,),
                str(temporary),
                input_names=["input"],
                output_names=outputs,
                dynamic_axes={"input": free, **({outputs[0]: free} if 0 in free else {})},
                opset_version=_OPSET,
                dynamo=False,
            )
        model = onnx.load(temporary)
        halve_weights(model)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, temporary)


def halve_weights(model: onnx.ModelProto) -> None:
    """Store large weights in half precision. A Cast node makes each float32 again, once, when a runtime loads it."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _SMALL:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], name=f"widen_{name}", to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(casts + nodes)
