"""ONNX runs per image for identity against ``FaceAnalysis.get`` with the five models of insightface's default pack.

Both sides are counted, not timed: every ``run`` of every session, on the same images. The three models that
insightface's default pack has besides detector and recogniser are stand-ins of the right shapes: only runs count.
"""

import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnxruntime
import torch
from torch import nn

from networks.face_analysis import FacePack
from performance.timing import Result
from pocket.models.bank import collect, render_bank
from pocket.models.paths import DET_SIZE, FACES_B

IMAGES = 16
GOAL = 0.45
_OTHERS = {"1k3d68": (192, 3309), "2d106det": (192, 212), "genderage": (96, 3)}
"""Name, side of the input and width of the output of the further models."""


def measure() -> Result:
    """Runs per image."""
    from insightface.app import FaceAnalysis

    images = collect(render_bank("runs", IMAGES, 1, plain=True)).images
    with tempfile.TemporaryDirectory() as folder:
        app = FaceAnalysis(name=str(_default_pack(Path(folder))), providers=["CPUExecutionProvider"])
        app.prepare(ctx_id=0, det_size=(DET_SIZE, DET_SIZE))
        pack = FacePack(FACES_B, DET_SIZE)
        pack.judge(images[:1])  # sessions are made on first use
        ours = count_runs(lambda: pack.judge(images)) / IMAGES
        reference = count_runs(lambda: [app.get(np.ascontiguousarray(i[..., ::-1])) for i in images]) / IMAGES
    return Result("ONNX runs for identity", ours, reference, ours / reference, GOAL, "lower", "runs/image", 1.0)


def count_runs(work: Callable[[], object]) -> int:
    """How often ``work`` runs a session of ONNX Runtime."""
    runs = 0
    run = onnxruntime.InferenceSession.run

    def counted(self: onnxruntime.InferenceSession, *arguments: object, **more: object) -> object:
        nonlocal runs
        runs += 1
        return run(self, *arguments, **more)

    with patch.object(onnxruntime.InferenceSession, "run", counted):
        work()
    return runs


def _default_pack(folder: Path) -> Path:
    for file in FACES_B.glob("*.onnx"):
        shutil.copy(file, folder / file.name)
    for name, (side, width) in _OTHERS.items():
        model = nn.Sequential(nn.AvgPool2d(side // 4), nn.Flatten(), nn.Linear(48, width)).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch has a newer exporter, which needs more packages
            torch.onnx.export(
                model,
                (torch.zeros(1, 3, side, side),),
                str(folder / f"{name}.onnx"),
                input_names=["data"],
                output_names=["out"],
                dynamo=False,
            )
    return folder
