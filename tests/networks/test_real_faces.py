"""The packs on real photos: small and large faces, insightface called directly, and how far people are apart."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from networks.face_analysis import FacePack, JudgedFaces
from tests.helpers.real import REAL, needs_real, portraits

pytestmark = needs_real
Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def people() -> dict[str, Images]:
    return portraits()


@pytest.fixture(scope="module")
def photos(people: dict[str, Images]) -> Images:
    return np.concatenate(list(people.values()))


@pytest.fixture(scope="module")
def pack() -> FacePack:
    return FacePack(REAL / "faces_open_centred")


@pytest.fixture(scope="module")
def judged(pack: FacePack, photos: Images) -> JudgedFaces:
    return pack.judge(photos)


def cosines(first: JudgedFaces, second: JudgedFaces) -> NDArray[np.float32]:
    assert first.found.all() and second.found.all()
    return (first.embeddings * second.embeddings).sum(axis=1)


def test_values_are_insightfaces_own_at_640(judged: JudgedFaces, photos: Images) -> None:
    from insightface.app import FaceAnalysis

    app = FaceAnalysis(name=str(REAL / "faces_open_centred"), providers=["CPUExecutionProvider"])
    app.prepare(0, det_size=(640, 640))
    theirs = []
    for image in photos:
        faces = app.get(np.ascontiguousarray(image[..., ::-1]))
        theirs.append(max(faces, key=lambda face: np.prod(face.bbox[2:] - face.bbox[:2])).normed_embedding)
    ours, theirs = judged.embeddings, np.stack(theirs)
    assert np.abs(ours @ ours.T - theirs @ theirs.T).max() < 0.01


def canvas(image: Images, width: float, face: float) -> Images:
    """512 x 512 pixels, grey, with the image in its middle; its face, ``face`` wide, becomes ``width`` wide."""
    small = cv2.resize(image, None, fx=width / face, fy=width / face, interpolation=cv2.INTER_AREA)
    whole = np.full((512, 512, 3), 128, np.uint8)
    top, left = ((512 - length) // 2 for length in small.shape[:2])
    whole[top : top + small.shape[0], left : left + small.shape[1]] = small
    return whole


def test_a_face_of_60_pixels_is_found_and_is_the_one_at_640(
    pack: FacePack, judged: JudgedFaces, photos: Images
) -> None:
    widths = judged.boxes[:, 2] - judged.boxes[:, 0]
    small = np.stack([canvas(photo, 60, width) for photo, width in zip(photos, widths, strict=True)])
    both, large = pack.judge(small), FacePack(pack.source, 640).judge(small)
    np.testing.assert_array_equal(both.embeddings, large.embeddings)
    alike = cosines(both, judged)
    assert alike.min() > 0.85 and alike.mean() > 0.95, "of the whole photo, four times as large"
    assert cosines(FacePack(pack.source, 128).judge(small), judged).mean() < alike.mean() - 0.05


def test_a_face_that_fills_the_frame_is_the_one_at_128(pack: FacePack, judged: JudgedFaces, photos: Images) -> None:
    filled = []
    for photo, (x0, y0, x1, y1) in zip(photos, judged.boxes.round().astype(int).clip(min=0), strict=True):
        face = photo[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3]
        whole = np.zeros((512, 512, 3), np.uint8)
        scale = 512 / max(face.shape[:2])
        large = cv2.resize(face, None, fx=scale, fy=scale, interpolation=cv2.INTER_LANCZOS4)[:512, :512]
        whole[: large.shape[0], : large.shape[1]] = large
        filled.append(whole)
    close = np.stack(filled)
    both = cosines(pack.judge(close), judged)
    assert both.min() > 0.8 and both.mean() > cosines(FacePack(pack.source, 640).judge(close), judged).mean() + 0.03


@pytest.mark.parametrize(("name", "same", "gap"), [("faces_open", 0.95, 0.08), ("faces_open_centred", 0.75, 0.45)])
def test_people_are_apart(name: str, same: float, gap: float, people: dict[str, Images]) -> None:
    faces = [FacePack(REAL / name).judge(photos).embeddings for photos in people.values()]
    owner = np.repeat(np.arange(len(faces)), [len(rows) for rows in faces])
    cosine = np.concatenate(faces) @ np.concatenate(faces).T
    own = (owner[:, None] == owner) & ~np.eye(len(owner), dtype=bool)
    others = cosine[owner[:, None] != owner].mean()
    assert cosine[own].mean() == pytest.approx(same, abs=0.02)
    assert cosine[own].mean() - others > gap


def test_yunet_with_the_same_recogniser_is_the_same_judge(tmp_path: Path, judged: JudgedFaces, photos: Images) -> None:
    """The pack's own detector is YuNet with insightface's outputs."""
    shutil.copy(REAL / "yunet_640.onnx", tmp_path / "detector.onnx")
    shutil.copy(REAL / "faces_open_centred" / "recognition.onnx", tmp_path)
    mixed = FacePack(tmp_path)
    assert (mixed.detector_file.library, mixed.recogniser_file.library) == ("OpenCV", "insightface")
    found = mixed.judge(photos)
    np.testing.assert_allclose(found.boxes, judged.boxes, atol=0.01)
    assert cosines(found, judged).min() > 0.999
