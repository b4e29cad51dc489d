"""Face networks in other forms than insightface's, as small as they can be, with random weights."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)


def recogniser(
    path: Path, side: int, width: int, name: str, batch: int | str = "batch", output: str = "out", shift: float = 0.1
) -> Path:
    """Means of blocks of the input, a random map of them, and a shift: where it is large, all faces are alike."""
    draws = np.random.default_rng(width + side)
    blocks = (side // 7) if side % 7 == 0 else side // 5
    cells = 3 * (side // blocks) ** 2
    weights = {
        "map": draws.standard_normal((cells, width)).astype(np.float32),
        "shift": draws.standard_normal(width).astype(np.float32) * np.float32(shift),
    }
    nodes = [
        helper.make_node("AveragePool", [name], ["cells"], kernel_shape=[blocks] * 2, strides=[blocks] * 2),
        helper.make_node("Flatten", ["cells"], ["row"]),
        helper.make_node("MatMul", ["row", "map"], ["mapped"]),
        helper.make_node("Add", ["mapped", "shift"], [output]),
    ]
    given = helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3, side, side])
    made = helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, width])
    graph = helper.make_graph(
        nodes, "g", [given], [made], [numpy_helper.from_array(array, key) for key, array in weights.items()]
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path


def sface(path: Path, width: int = 128) -> Path:
    """A recogniser in the form of OpenCV's SFace: input ``data`` of 1 x 3 x 112 x 112, output ``fc1`` of 1 x 128."""
    return recogniser(path, 112, width, "data", 1, "fc1")


def yunet(path: Path) -> Path:
    """A detector in the form of OpenCV's YuNet, exported for 640 pixels.

    It sees one face about x = y = 32 in its input, 48 pixels wide and 64 high, in images that are not black.
    """
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 640, 640])
    cell = {
        "cls": [1.0],
        "obj": [0.81],
        "bbox": [1.0, 1.0, float(np.log(1.5)), float(np.log(2.0))],
        "kps": [0.75, 0.75, 1.25, 0.75, 1.0, 1.0, 0.8, 1.4, 1.2, 1.4],
    }
    nodes = [
        helper.make_node("ReduceMax", ["input"], ["brightest"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Clip", ["brightest", "zero", "one"], ["lit"]),
        helper.make_node("Reshape", ["lit", "flat"], ["row"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
        numpy_helper.from_array(np.array([1, 1, 1], np.int64), "flat"),
    ]
    outputs = []
    for part, values in cell.items():
        for stride in STRIDES:
            name = f"{part}_{stride}"
            array = np.zeros((1, (640 // stride) ** 2, len(values)), np.float32)
            array[0, 0] = values if stride == 32 else 0
            constants.append(numpy_helper.from_array(array, f"{name}_lit"))
            nodes.append(helper.make_node("Mul", [f"{name}_lit", "row"], [name]))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
    graph = helper.make_graph(nodes, "g", [given], outputs, constants)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path
