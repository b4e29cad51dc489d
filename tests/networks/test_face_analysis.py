"""The face judge on the shipped packs: what insightface itself says, in batches, and one clear line for bad folders."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from contracts.errors import LikenessError
from contracts.settings import JudgeSettings
from networks.face_analysis import FacePack
from pocket.models.paths import DET_SIZE, FACES_A, FACES_B
from pocket.render.backgrounds import crop_background
from pocket.render.factors import BACKGROUNDS, draw_shot, draw_subject
from pocket.render.renderer import render

Images = NDArray[np.uint8]


def photo(subject: str, shot: str) -> Images:
    return render(draw_subject(subject), draw_shot(shot, style="photo", accessories=False)).image


@pytest.fixture(scope="module")
def photos() -> Images:
    """Six subjects, two images each."""
    return np.stack([photo(f"judged/{i}", f"judged/{i}/{j}") for i in range(6) for j in range(2)])


@pytest.fixture(scope="module", params=[FACES_A, FACES_B], ids=["faces_a", "faces_b"])
def pack(request: pytest.FixtureRequest) -> FacePack:
    return FacePack(request.param, DET_SIZE)


def insightface_on(folder: Path) -> Any:
    from insightface.app import FaceAnalysis

    app = FaceAnalysis(name=str(folder), providers=["CPUExecutionProvider"])
    app.prepare(ctx_id=0, det_size=(DET_SIZE, DET_SIZE))
    return app


def test_agrees_with_insightface_one_by_one(pack: FacePack, photos: Images) -> None:
    app = insightface_on(pack.source)
    for image, ours in zip(photos, pack.analyse(photos), strict=True):
        theirs = sorted(
            app.get(np.ascontiguousarray(image[..., ::-1])), key=lambda f: -np.prod(f.bbox[2:] - f.bbox[:2])
        )
        assert len(ours) == len(theirs) >= 1
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.bbox, b.bbox, atol=1e-4)
            np.testing.assert_allclose(a.landmarks, b.kps, atol=1e-4)
            np.testing.assert_allclose(a.embedding, b.normed_embedding, atol=1e-4)
            assert a.score == pytest.approx(b.det_score, abs=1e-4)


def test_both_default_sizes_of_insightface_find_the_face(pack: FacePack, photos: Images) -> None:
    app = insightface_on(pack.source)
    app.prepare(ctx_id=0)
    found = [app.get(np.ascontiguousarray(image[..., ::-1])) for image in photos[:2]]
    for theirs, ours in zip(found, pack.judge(photos[:2]).embeddings, strict=True):
        assert max(float(f.normed_embedding @ ours) for f in theirs) > 0.9


def test_batches_give_what_single_images_give(pack: FacePack, photos: Images) -> None:
    together = pack.judge(photos).embeddings
    single = np.concatenate([pack.judge(photos[i : i + 1]).embeddings for i in range(len(photos))])
    np.testing.assert_allclose(together, single, atol=1e-5)


def test_images_are_read_as_rgb(pack: FacePack, photos: Images) -> None:
    """The same person is nearer than any other one, and red and blue exchanged is another person."""
    first = pack.judge(photos[::2]).embeddings
    second = pack.judge(photos[1::2]).embeddings
    cosine = first @ second.T
    assert (cosine.argmax(axis=1) == np.arange(6)).all()
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    swapped = pack.judge(np.ascontiguousarray(photos[..., ::-1]))
    same = (pack.judge(photos).embeddings * swapped.embeddings).sum(axis=1)
    assert same[swapped.found].mean() < 0.6


def test_a_tensor_is_read_like_an_array(pack: FacePack, photos: Images) -> None:
    np.testing.assert_array_equal(
        pack.judge(photos[:2]).embeddings, pack.judge(torch.from_numpy(photos[:2])).embeddings
    )


def test_no_face(pack: FacePack) -> None:
    """Neither attempt sees a face in flat grey, in noise or in an empty place: the frame gives nothing away."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    places = np.stack([crop_background(kind, 64, 0.4) for kind in BACKGROUNDS])
    blank = np.full((2, 64, 64, 3), 127, np.uint8)
    assert not FacePack(pack.source, DET_SIZE, retry=True).judge(np.concatenate([noise, places, blank])).found.any()
    assert pack.analyse(blank) == [[], []]
    judged = pack.judge(blank)
    assert not judged.found.any() and not judged.embeddings.any()
    assert judged.counts.tolist() == [0, 0] and judged.attempts == [None, None]


def test_no_image_at_all(pack: FacePack) -> None:
    empty = np.zeros((0, 64, 64, 3), np.uint8)
    assert pack.analyse(empty) == [] and pack.judge(empty).embeddings.shape == (0, 512)


def test_of_two_faces_the_larger_one_is_judged(pack: FacePack, photos: Images) -> None:
    both = np.concatenate([photos[0], photos[4]], axis=1)[None]
    faces = pack.analyse(both)[0]
    assert len(faces) == 2
    areas = [np.prod(f.bbox[2:] - f.bbox[:2]) for f in faces]
    assert areas[0] >= areas[1]
    judged = pack.judge(both)
    assert judged.counts.tolist() == [2]
    np.testing.assert_array_equal(judged.embeddings[0], faces[0].embedding)


def test_a_face_that_fills_the_frame_is_found_by_the_padded_attempt(photos: Images) -> None:
    tight = np.ascontiguousarray(photos[:, 12:56, 12:56])
    once = FacePack(FACES_A, det_size=320, retry=False)
    twice = FacePack(FACES_A, det_size=320, retry=True)
    assert twice.judge(tight).found.sum() > once.judge(tight).found.sum()
    for faces in twice.analyse(tight):
        for face in faces:
            assert face.attempt in ("plain", "padded")
            assert (face.landmarks > -4).all() and (face.landmarks < 48).all()


def test_the_fingerprint_is_that_of_the_files(tmp_path: Path) -> None:
    copy = shutil.copytree(FACES_A, tmp_path / "copy")
    assert FacePack(copy).fingerprint == FacePack(FACES_A).fingerprint != FacePack(FACES_B).fingerprint


def test_survives_pickling_after_use(photos: Images) -> None:
    pack = FacePack(FACES_A)
    before = pack.judge(photos[:1]).embeddings
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pack)).judge(photos[:1]).embeddings, before)


def test_a_wrong_type_or_shape_is_refused(photos: Images) -> None:
    for wrong in (photos / 255.0, photos[0], photos.transpose(0, 3, 1, 2)):
        with pytest.raises(ValueError, match="uint8 RGB"):
            FacePack(FACES_A).analyse(wrong)


def line(caught: pytest.ExceptionInfo[LikenessError]) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_folder_is_one_line_and_no_download(tmp_path: Path) -> None:
    with pytest.raises(LikenessError) as caught:
        FacePack(tmp_path / "buffalo_l")
    assert "buffalo_l" in line(caught) and "nothing is downloaded" in line(caught)


def test_a_pack_without_a_recogniser_or_a_detector(tmp_path: Path, photos: Images) -> None:
    (tmp_path / "half").mkdir()
    shutil.copy(FACES_A / "detection.onnx", tmp_path / "half")
    with pytest.raises(LikenessError) as caught:
        FacePack(tmp_path / "half")
    assert "1 .onnx" in line(caught)
    for file, missing in (("detection.onnx", "recogniser"), ("recognition.onnx", "detector")):
        folder = tmp_path / missing
        folder.mkdir()
        for name in ("a.onnx", "b.onnx"):
            shutil.copy(FACES_A / file, folder / name)
        with pytest.raises(LikenessError) as caught:
            FacePack(folder).analyse(photos[:1])
        assert f"no {missing}" in line(caught)


def test_a_file_that_was_cut_short(tmp_path: Path, photos: Images) -> None:
    folder = shutil.copytree(FACES_A, tmp_path / "cut")
    (folder / "recognition.onnx").write_bytes((FACES_A / "recognition.onnx").read_bytes()[:5000])
    with pytest.raises(LikenessError) as caught:
        FacePack(folder).analyse(photos[:1])
    assert "cannot be read" in line(caught)


def test_a_device_that_is_absent_is_an_error(photos: Images) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(LikenessError) as caught:
        FacePack(FACES_A, device="cuda").analyse(photos[:1])
    assert "CUDAExecutionProvider" in line(caught)


@pytest.mark.parametrize("size", [0, -32, 100, [], [128, 100], [640.0], [True]])
def test_det_size_must_fit_the_strides(size: Any) -> None:
    with pytest.raises(LikenessError, match=r"^det_size is .*: give one or more positive multiples of 32"):
        FacePack(FACES_A, det_size=size)
    with pytest.raises(LikenessError, match=r"^judges\.det_size is "):
        JudgeSettings("faces", "clip", det_size=size)


def test_sides_are_in_order_and_each_counts_once() -> None:
    assert FacePack(FACES_A, [640, 128, 640]).sides == (128, 640) == FacePack(FACES_A).sides
    assert FacePack(FACES_A, 320).sides == FacePack(FACES_A, [320]).sides == (320,)


def test_what_names_a_pack_changes_with_its_sides() -> None:
    """The side of older results stands for nothing, so that their hashes stay."""
    plain = FacePack(FACES_A, 128)
    assert plain.key == plain.fingerprint == FacePack(FACES_A).fingerprint
    assert FacePack(FACES_A).key == f"{plain.fingerprint}@128+640"


def test_a_known_box_decides_whose_face_is_judged(photos: Images) -> None:
    pack = FacePack(FACES_A, DET_SIZE)
    both = np.concatenate([photos[0], photos[4]], axis=1)[None]
    left, right = sorted(pack.analyse(both)[0], key=lambda face: float(face.bbox[0]))
    for face, box in ((left, [8, 8, 56, 60]), (right, [72, 8, 120, 60])):
        np.testing.assert_array_equal(pack.judge(both, np.array([box], np.float32)).embeddings[0], face.embedding)
        np.testing.assert_array_equal(pack.judge_subject(both, np.array([box], np.float32)).boxes[0], face.bbox)
    nowhere = pack.judge(both, np.array([[0, 0, 2, 2]], np.float32))
    assert not nowhere.found[0] and nowhere.counts[0] == 2 and not nowhere.embeddings.any()
    unknown = np.full((1, 4), np.nan, np.float32)
    np.testing.assert_array_equal(pack.judge(both, unknown).embeddings, pack.judge(both).embeddings)


def canvas(own: Images, other: Images, at_left: bool) -> Images:
    """128 pixels with a person and, larger and so nearer, another one."""
    image = np.full((128, 128, 3), 200, np.uint8)
    first, second = (slice(0, 80), slice(72, 128)) if at_left else (slice(48, 128), slice(0, 56))
    image[first, first] = cv2.resize(other, (80, 80))
    image[second, second] = cv2.resize(own, (56, 56))
    return image


def test_without_a_box_the_subjects_own_face_is_the_one_in_all_photos(photos: Images) -> None:
    """Person 0 stands behind person 2 in one photo and behind person 4 in another."""
    pack = FacePack(FACES_A, DET_SIZE)
    own = np.stack([cv2.resize(photo, (128, 128)) for photo in photos[:2]])
    both = np.stack([canvas(photos[0], photos[4], True), canvas(photos[1], photos[8], False)])
    alone = pack.judge(own).embeddings.mean(axis=0)
    for together in (np.concatenate([own[:1], both]), np.concatenate([both, own[1:]]), both):
        judged = pack.judge_subject(together)
        crowd = judged.counts == 2
        assert crowd.sum() == 2
        assert ((judged.embeddings[crowd] @ alone) > 0.7).all()
    assert ((pack.judge(both).embeddings @ alone) < 0.5).all(), "the largest is another person"
