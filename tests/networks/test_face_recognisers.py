"""Recognisers of other forms, widths and sides, and packs of two kinds, against the libraries called directly."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from insightface.app import FaceAnalysis
from insightface.utils.face_align import arcface_dst
from numpy.typing import NDArray

from contracts.errors import LikenessError
from contracts.settings import JudgeSettings
from metrics.card import judge_networks
from networks.face_analysis import FacePack
from pocket.models.paths import CLIP, DET_SIZE, FACES_A
from pocket.render.factors import draw_shot, draw_subject
from pocket.render.renderer import render
from tests.helpers.face_models import recogniser, sface, yunet

Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photos() -> Images:
    """Three people, two images each."""
    shots = [(f"kinds/{i}", f"kinds/{i}/{j}") for i in range(3) for j in range(2)]
    images = [render(draw_subject(a), draw_shot(b, style="photo", accessories=False)).image for a, b in shots]
    return np.stack([cv2.resize(image, (128, 128)) for image in images])


def pack(folder: Path, detector: Path | None, **recognisers: object) -> FacePack:
    """A pack with the detector of the pocket world, or another, and a recogniser of these settings."""
    folder.mkdir()
    shutil.copy(detector or FACES_A / "detection.onnx", folder / "a_detector.onnx")
    recogniser(folder / "recogniser.onnx", **recognisers)  # type: ignore[arg-type]
    return FacePack(folder, DET_SIZE)


def unit(vectors: NDArray) -> NDArray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_sface_is_opencvs_own(tmp_path: Path, photos: Images) -> None:
    (tmp_path / "pack").mkdir()
    detector = shutil.copy(FACES_A / "detection.onnx", tmp_path / "pack")
    file = sface(tmp_path / "pack" / "sface.onnx")
    ours = FacePack(tmp_path / "pack", DET_SIZE)
    theirs = cv2.FaceRecognizerSF.create(str(file), "")
    judged = ours.judge(photos)
    assert judged.found.all() and judged.embeddings.shape == (len(photos), 128)
    for image, face, marks, embedding in zip(photos, judged.boxes, judged.landmarks, judged.embeddings, strict=True):
        bgr = np.ascontiguousarray(image[..., ::-1])
        row = np.concatenate([face[:2], face[2:] - face[:2], marks.ravel(), [0.9]]).astype(np.float32)[None]
        expected = theirs.feature(theirs.alignCrop(bgr, row)).ravel()
        np.testing.assert_allclose(embedding, unit(expected), atol=1e-5)
    cosine = judged.embeddings @ judged.embeddings.T
    assert (cosine[~np.eye(len(photos), dtype=bool)] < 0.9999).all(), "every crop has an embedding of its own"
    assert Path(detector).is_file()


@pytest.mark.parametrize(
    ("side", "width", "name", "batch"),
    [
        (112, 64, "face", "batch"),
        (112, 1024, "input.1", 1),
        (128, 512, "x", 4),
        (150, 128, "data", "n"),
        (160, 512, "x", 1),
    ],
)
def test_a_recogniser_of_any_width_side_and_input(
    tmp_path: Path, photos: Images, side: int, width: int, name: str, batch: int | str
) -> None:
    """Against ONNX Runtime on crops by the similarity between the landmarks and ArcFace's points."""
    ours = pack(tmp_path / "pack", None, side=side, width=width, name=name, batch=batch)
    judged = ours.judge(photos)
    assert judged.embeddings.shape == (len(photos), width) and judged.found.all()
    session = onnxruntime.InferenceSession(ours.recogniser_file.path)
    # Insightface widens its points for sides of 128, and scales them for others.
    points = arcface_dst * (side / 128) + [8 * side / 128, 0] if side % 128 == 0 else arcface_dst * (side / 112)
    for image, marks, embedding in zip(photos, judged.landmarks, judged.embeddings, strict=True):
        crop = cv2.warpAffine(image, similarity(marks, points), (side, side))
        values = ((crop.astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)
        fed = np.stack([values] * (batch if isinstance(batch, int) else 1))
        expected = session.run(None, {name: fed})[0][0]
        assert float(embedding @ unit(expected)) > 0.9999


def similarity(points: NDArray, onto: NDArray) -> NDArray:
    """The 2 x 3 matrix of the similarity that maps points (N, 2) onto others best, by least squares."""
    x, y = points.astype(np.float64).T
    zero, one = np.zeros(len(x)), np.ones(len(x))
    rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, u, v = np.linalg.lstsq(rows, onto.T.ravel().astype(np.float64), rcond=None)[0]
    return np.array([[a, -b, u], [b, a, v]])


def test_what_insightface_takes_too_is_as_insightface_embeds_it(tmp_path: Path, photos: Images) -> None:
    for side in (112, 128):
        ours = pack(tmp_path / str(side), None, side=side, width=64, name="x")
        app = FaceAnalysis(name=str(ours.source), providers=["CPUExecutionProvider"])
        app.prepare(0, det_size=(DET_SIZE, DET_SIZE))
        for image, embedding in zip(photos, ours.judge(photos).embeddings, strict=True):
            (face,) = app.get(np.ascontiguousarray(image[..., ::-1]))
            np.testing.assert_allclose(embedding, face.normed_embedding, atol=1e-5)


def test_a_pack_of_two_kinds(tmp_path: Path, photos: Images) -> None:
    (tmp_path / "opencv").mkdir()
    both = pack(tmp_path / "pack", yunet(tmp_path / "yunet.onnx"), side=112, width=64, name="x")
    assert (both.detector_file.library, both.recogniser_file.library) == ("OpenCV", "insightface")
    judged = both.judge(photos)
    np.testing.assert_allclose(judged.boxes, np.tile([[8, 0, 56, 64]], (len(photos), 1)), atol=1e-4)
    assert judged.embeddings.shape == (len(photos), 64)
    shutil.copy(tmp_path / "yunet.onnx", tmp_path / "opencv")
    sface(tmp_path / "opencv" / "sface.onnx")
    second = FacePack(tmp_path / "opencv", DET_SIZE).embed(photos, judged)
    assert second.shape == (len(photos), 128) and np.allclose(np.linalg.norm(second, axis=1), 1, atol=1e-5)


def test_the_card_says_which_kinds_and_the_licence(tmp_path: Path) -> None:
    def card(folder: Path, **settings: object) -> tuple[str, str, str, str]:
        network = judge_networks(JudgeSettings(str(folder), str(CLIP), **settings))["faces"]  # type: ignore[arg-type]
        return network.kind, network.preprocessing, network.tag.partition("|")[2], network.licence

    mixed = pack(tmp_path / "mixed", yunet(tmp_path / "yunet.onnx"), side=150, width=64, name="x").source
    assert card(mixed) == (
        "face pack: detector in the form of OpenCV, recogniser in that of insightface",
        "OpenCV and insightface, detection at 128 and 640, score over 0.5, no retry, crop 150",
        "det128+640-thr0.5|largest",
        "licence not stated",
    )
    (mixed / "LICENSE").write_text("Apache License\nVersion 2.0\n")
    assert card(mixed, det_size=320)[2:] == ("det320-thr0.5|largest", "Apache License (LICENSE)")
    (mixed / "recogniser.onnx").unlink()
    sface(mixed / "sface.onnx")
    assert card(mixed)[0] == "OpenCV pack"
    assert card(FACES_A, det_size=[128])[:3] == (
        "insightface pack",
        "insightface, detection at 128, score over 0.5, no retry, crop 112",
        "det128-thr0.5|largest",
    )


def test_a_recogniser_that_does_not_run_is_one_line(tmp_path: Path, photos: Images) -> None:
    ours = pack(tmp_path / "pack", None, side=112, width=64, name="x")
    file = ours.recogniser_file.path
    data = file.read_bytes()
    file.write_bytes(data.replace(b"MatMul", b"MatMux"))
    with pytest.raises(LikenessError, match=r"pack' cannot be read: recogniser\.onnx: ") as caught:
        FacePack(ours.source, DET_SIZE).judge(photos)
    assert "\n" not in str(caught.value)


def test_opencvs_networks_run_on_the_processor_only(tmp_path: Path, photos: Images) -> None:
    ours = pack(tmp_path / "pack", yunet(tmp_path / "yunet.onnx"), side=112, width=64, name="x")
    with pytest.raises(LikenessError, match=r"a_detector\.onnx is OpenCV's and runs on cpu only"):
        FacePack(ours.source, DET_SIZE, device="cuda").judge(photos)
