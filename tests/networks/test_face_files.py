"""What a pack's files are for is told by their inputs and outputs; and what a folder says of its licence."""

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from insightface.model_zoo.model_zoo import ModelRouter
from onnx import TensorProto, helper

from contracts.errors import LikenessError
from networks.face_files import NO_LICENCE, find_file, licence_of, read_pack_file, recognises_faces
from pocket.models.paths import FACES_A
from tests.helpers.face_models import sface, yunet


def onnx_file(path: Path, side: int, outputs: int) -> Path:
    """An ONNX file with an input of that side, which gives it back so many times."""
    shape = [1, 3, side, side]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    made = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, shape) for i in range(outputs)]
    nodes = [helper.make_node("Identity", ["x"], [value.name]) for value in made]
    graph = helper.make_graph(nodes, "g", [given], made)
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_a_recogniser_is_told_by_its_header_as_insightface_does(tmp_path: Path) -> None:
    assert recognises_faces(FACES_A / "recognition.onnx") and not recognises_faces(FACES_A / "detection.onnx")
    cases = {(112, 1): True, (128, 1): True, (192, 1): False, (96, 1): False, (112, 9): False}
    for (side, outputs), expected in cases.items():
        file = onnx_file(tmp_path / f"{side}-{outputs}.onnx", side, outputs)
        assert recognises_faces(file) is expected, file
        taken = ModelRouter(str(file)).get_model(providers=["CPUExecutionProvider"])
        assert (getattr(taken, "taskname", "") == "recognition") is expected, file
    (tmp_path / "no.onnx").write_bytes(b"no protobuf")
    assert not recognises_faces(tmp_path / "no.onnx") and not recognises_faces(tmp_path / "absent.onnx")


def test_sides_that_insightface_has_no_rule_for_are_recognisers_too(tmp_path: Path) -> None:
    for side in (150, 160):
        assert read_pack_file(onnx_file(tmp_path / f"{side}.onnx", side, 1)).task == "recognition"


def test_opencvs_files_are_told_from_insightfaces(tmp_path: Path) -> None:
    found = {file: read_pack_file(file) for file in (sface(tmp_path / "a.onnx"), yunet(tmp_path / "b.onnx"))}
    assert [(file.task, file.library, file.side) for file in found.values()] == [
        ("recognition", "OpenCV", 112),
        ("detection", "OpenCV", 640),
    ]
    assert read_pack_file(FACES_A / "detection.onnx").library == "insightface"
    assert read_pack_file(FACES_A / "detection.onnx").side is None, "free"
    assert read_pack_file(sface(tmp_path / "wide.onnx", width=512)).library == "insightface"


def test_of_several_files_for_a_task_the_first_by_name_is_taken(tmp_path: Path) -> None:
    for name in ("2.onnx", "10.onnx"):
        shutil.copy(FACES_A / "recognition.onnx", tmp_path / name)
    assert find_file(tmp_path, "recognition").path.name == "10.onnx"
    with pytest.raises(LikenessError, match="has no detector among its"):
        find_file(tmp_path, "detection")


def manifest(folder: Path, **tasks: Any) -> Path:
    shutil.copytree(FACES_A, folder / "models")
    shutil.copytree(FACES_A, folder, dirs_exist_ok=True)
    about = {"manifest_version": 2, "model_id": "mine", "license": "MODEL.LICENSE", "tasks": tasks}
    (folder / "manifest.json").write_text(json.dumps(about))
    return folder


def test_a_manifest_says_which_file_does_what(tmp_path: Path) -> None:
    folder = manifest(tmp_path, detection={"file": "models/detection.onnx"})
    assert find_file(folder, "detection").path == (folder / "models" / "detection.onnx").resolve()
    with pytest.raises(LikenessError, match=r"manifest\.json is not usable: ") as caught:
        find_file(folder, "recognition")
    assert "\n" not in str(caught.value)
    (folder / "manifest.json").write_text('{"manifest_version": 1}')
    assert find_file(folder, "detection").path == folder / "detection.onnx"


def test_the_licence_is_what_the_folder_says(tmp_path: Path) -> None:
    file = sface(tmp_path / "a.onnx")
    assert licence_of(tmp_path, [read_pack_file(file)]) == NO_LICENCE == "licence not stated"
    model = onnx.load(file)
    helper.set_model_props(model, {"License": "Apache-2.0", "author": "x"})
    onnx.save(model, file)
    assert licence_of(tmp_path, [read_pack_file(file), read_pack_file(FACES_A / "detection.onnx")]) == "Apache-2.0"
    (tmp_path / "MODEL.LICENSE").write_text(json.dumps({"license_version": 1, "grant": "non-commercial"}))
    assert licence_of(tmp_path, []) == "non-commercial (MODEL.LICENSE)"
    (tmp_path / "MODEL.LICENSE").write_text("[" * 100_000)
    assert licence_of(tmp_path, []) == f"{'[' * 80} (MODEL.LICENSE)", "no grant, however deep it is nested"
    (tmp_path / "Licence.txt").write_text("\n\n   The MIT License\n\nCopyright\n")
    assert licence_of(tmp_path, []) == "The MIT License (Licence.txt)"
    (tmp_path / "LICENSE").write_text("x" * 500)
    assert licence_of(tmp_path, []) == f"{'x' * 80} (LICENSE)"
