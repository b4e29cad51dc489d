"""Masks: GrabCut against the renderer's truth, refined edges, and a segmentation model."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from contracts.errors import LikenessError
from curation.masks import Segmenter, grabcut, refined
from tests.helpers.photos import rendered


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_grabcut_from_the_face_finds_the_person() -> None:
    renders = [rendered(f"q{i}", i) for i in range(8)]
    found = [grabcut(r.image, r.bbox) for r in renders]
    assert {how for _, how in found if found} <= {"grabcut", "region"}
    scores = [iou(mask, r.mask > 127) for (mask, _), r in zip(found, renders, strict=True)]
    assert np.mean(scores) > 0.8
    again = grabcut(renders[0].image, renders[0].bbox)
    assert again is not None and np.array_equal(again[0], found[0][0])


def test_grabcut_at_a_large_size_has_the_edge_of_the_large_image() -> None:
    render = rendered("q3", 0)
    big = cv2.resize(render.image, (512, 512), interpolation=cv2.INTER_CUBIC)
    truth = cv2.resize(render.mask, (512, 512), interpolation=cv2.INTER_CUBIC) > 127
    mask, how = grabcut(big, render.bbox * 8) or (None, "")
    assert how == "grabcut" and mask is not None and mask.shape == (512, 512)
    assert iou(mask, truth) > 0.8


def test_the_edge_is_drawn_to_that_of_the_image() -> None:
    y, x = np.mgrid[:256, :256]
    truth = (x - 128) ** 2 + (y - 128) ** 2 < 80**2
    image = np.where(truth[..., None], np.uint8(200), np.uint8(40)).repeat(3, axis=2)
    coarse = cv2.resize(truth.astype(np.uint8), (48, 48), interpolation=cv2.INTER_AREA) > 0
    plain = cv2.resize(coarse.astype(np.uint8), (256, 256), interpolation=cv2.INTER_NEAREST) > 0
    assert iou(refined(image, coarse), truth) > 0.99 > iou(plain, truth)


def test_an_object_differs_from_the_border_and_nothing_has_no_mask() -> None:
    image = np.full((200, 200, 3), (60, 120, 60), np.uint8)
    image += np.random.default_rng(0).integers(0, 20, image.shape, np.uint8)
    cv2.circle(image, (110, 90), 40, (200, 30, 30), -1)
    truth = np.zeros((200, 200), np.uint8)
    cv2.circle(truth, (110, 90), 40, 1, -1)
    mask, how = grabcut(image, None) or (None, "")
    assert how == "grabcut" and mask is not None and iou(mask, truth > 0) > 0.95
    assert grabcut(np.full((64, 64, 3), 90, np.uint8), None) is None


def test_where_grabcut_fails_a_portrait_has_the_region_of_its_box() -> None:
    mask, how = grabcut(np.full((64, 64, 3), 90, np.uint8), np.array([-9, -9, 73, 73])) or (None, "")
    assert how == "region" and mask is not None and mask[30, 32]


def model(path: Path, channels: int = 1, metadata: dict[str, str] | None = None) -> Path:
    """A model that takes what is redder than the mean for the subject: logits, or two classes."""
    weights = np.zeros((channels, 3, 1, 1), np.float32)
    weights[-1, 0] = 10.0
    graph = helper.make_graph(
        [helper.make_node("Conv", ["pixels", "weights"], ["mask"])],
        "segmenter",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 32, 48])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["batch", channels, 32, 48])],
        [helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel())],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for key, value in (metadata or {}).items():
        made.metadata_props.add(key=key, value=value)
    onnx.save(made, path)
    return path


@pytest.mark.parametrize("channels", [1, 2])
def test_a_segmentation_model_makes_the_mask(channels: int, tmp_path: Path) -> None:
    image = np.full((96, 96, 3), 30, np.uint8)
    image[20:60, 30:70] = (220, 40, 40)
    image[80:90, 5:15] = (220, 40, 40)  # another red thing, which is not the person of the face
    segmenter = Segmenter(str(model(tmp_path / "model.onnx", channels)))
    inside = segmenter.segment(image, None)
    assert inside[40, 50] and inside[85, 10] and not inside[5, 5]
    own = segmenter.segment(image, np.array([35, 25, 65, 55]))
    assert own[40, 50] and not own[85, 10]


def test_a_segmenter_may_say_how_it_is_normalised(tmp_path: Path) -> None:
    told = {"mean": "[0.9, 0.9, 0.9]", "std": "1, 1, 1"}
    segmenter = Segmenter(str(model(tmp_path / "model.onnx", metadata=told)))
    image = np.full((32, 48, 3), 200, np.uint8)
    assert not segmenter.segment(image, None).any()
    assert Segmenter(str(model(tmp_path / "usual.onnx"))).segment(image, None).all()


def test_a_segmenter_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"x")
    with pytest.raises(LikenessError, match="--segmenter .*no.onnx cannot be read") as caught:
        Segmenter(str(tmp_path / "no.onnx"))
    assert "\n" not in str(caught.value)
    with pytest.raises(LikenessError, match="are no numbers"):
        Segmenter(str(model(tmp_path / "odd.onnx", metadata={"mean": "x"})))
