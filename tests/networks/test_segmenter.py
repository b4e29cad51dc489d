"""Segmentation models as users have them: with free and fixed sizes, logits and classes, and files that are none."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.errors import LikenessError
from networks.segmenter import Segmenter
from pocket.tiny.components import tiny_faces, tiny_segmenter


def picture(side: int = 96) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A bright square on a dark ground, and where it is."""
    image, mask = np.full((side, side, 3), 10, np.uint8), np.zeros((side, side), bool)
    mask[side // 4 : side // 2, side // 3 : 3 * side // 4] = True
    image[mask] = (250, 240, 230)
    return image, mask


@pytest.mark.parametrize("side", [32, 96, "free"])
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_bright_is_found_at_the_size_of_the_image(tmp_path: Path, side: int | str, channels: int) -> None:
    segmenter = Segmenter(str(tiny_segmenter(tmp_path / "s.onnx", side, channels)))
    image, mask = picture()
    found = segmenter.mask(image)
    assert found.dtype == bool and found.shape == mask.shape
    assert (found & mask).sum() / (found | mask).sum() > 0.9
    assert not segmenter.mask(np.full_like(image, 10)).any() and segmenter.mask(np.full_like(image, 250)).all()


def test_the_file_may_say_how_its_input_is_normalised(tmp_path: Path) -> None:
    """A grey of 0.4 is darker than the 0.45 that ImageNet's mean is, and brighter than 0.1."""
    grey = np.full((64, 64, 3), 102, np.uint8)
    assert not Segmenter(str(tiny_segmenter(tmp_path / "a.onnx"))).mask(grey).any()
    said = tiny_segmenter(tmp_path / "b.onnx", mean="[0.1, 0.1, 0.1]", std="1, 1, 1")
    assert Segmenter(str(said)).mask(grey).all()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"mean": "half"}, "mean in its metadata is 'half'"),
        ({"mean": "0.5"}, "mean in its metadata is '0.5', no three numbers"),
        ({"std": "0, 1, 1"}, "std in its metadata is"),
        ({"mean": "nan, 0, 0"}, "mean in its metadata is"),
    ],
)
def test_odd_metadata_are_one_line(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    file = tiny_segmenter(tmp_path / "s.onnx", **metadata)
    with pytest.raises(LikenessError, match=rf"judges.segmenter: .*s.onnx: {message}"):
        Segmenter(str(file))


def test_what_is_no_segmentation_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match=r"^--segmenter: no file nowhere\.onnx$"):
        Segmenter("nowhere.onnx", "--segmenter")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(LikenessError, match=r"text\.onnx cannot be read") as error:
        Segmenter(str(tmp_path / "text.onnx"))
    assert "\n" not in str(error.value)
    recogniser = tiny_faces(tmp_path / "faces") / "recognition.onnx"
    with pytest.raises(LikenessError, match=r"its first output \(1, 512\) is no mask"):
        Segmenter(str(recogniser)).mask(picture()[0])
