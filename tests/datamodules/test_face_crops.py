"""Faces cut out for the W+ encoder: aligned, without background, and refused where there is not exactly one."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contracts.errors import LikenessError
from datamodules.face_crops import Portrait, aligned, head_mask, only_face, portrait_from_file, portrait_of
from datamodules.index import PhotoFiles, load_photos, read_photos
from networks.face_alignment import align_face
from networks.face_analysis import FacePack
from pocket.models.paths import FACES_A
from pocket.render.dataset import Grid, pocket10k
from pocket.tiny.components import tiny_faces


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[PhotoFiles]:
    root = tmp_path_factory.mktemp("portraits")
    folder = pocket10k(root / "data", Grid(10, 2, 2), processes=1)
    photos = [p for p in load_photos(sorted(folder.glob("*.parquet")), root) if p.split == "test"]
    return list(read_photos(photos))


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def pixels(picture: PhotoFiles) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(Image.open(io.BytesIO(picture.image))), np.asarray(Image.open(io.BytesIO(picture.mask)))


def test_the_background_is_white_and_the_face_is_as_it_was(pictures: list[PhotoFiles]) -> None:
    for picture in pictures:
        image, mask = pixels(picture)
        landmarks = np.array(picture.photo.landmarks, np.float32)
        crop = aligned(portrait_of(picture), 64, None, background=False)
        whole = aligned(portrait_of(picture), 64, None, background=True)
        assert np.array_equal(whole, align_face(image, landmarks, 64))
        outside = align_face(255 - mask, landmarks, 64)
        # Away from the blurred edge a pixel is the photo's or white.
        far = np.asarray(Image.fromarray(outside).resize((64, 64))).astype(int)
        sure = np.minimum.reduce([np.roll(far, (dy, dx), (0, 1)) for dy in range(-3, 4) for dx in range(-3, 4)]) == 255
        own = np.maximum.reduce([np.roll(far, (dy, dx), (0, 1)) for dy in range(-3, 4) for dx in range(-3, 4)]) == 0
        assert (crop[sure] == 255).all() and np.array_equal(crop[own], whole[own])
        assert sure.any() and own.any()


def test_a_cut_out_file_is_a_photo_with_its_mask(pictures: list[PhotoFiles]) -> None:
    image, mask = pixels(pictures[0])
    portrait = portrait_from_file(png(np.dstack([image, mask])), "me")
    assert np.array_equal(portrait.pixels, np.where(mask[..., None] > 0, image, 255)) and portrait.landmarks is None
    assert portrait.mask is not None and np.array_equal(portrait.mask, mask)
    assert portrait_from_file(png(image), "me").mask is None


def test_landmarks_are_found_where_none_are_known(pictures: list[PhotoFiles], tmp_path: Path) -> None:
    """The tiny detector sees the same face in every picture that is not dark."""
    faces, (image, _) = FacePack(tiny_faces(tmp_path / "faces")), pixels(pictures[0])
    crop = aligned(Portrait("me", image), 64, faces, background=True)
    landmarks = faces.analyse(image[None])[0][0].landmarks
    assert np.array_equal(crop, align_face(image, landmarks, 64))


def test_no_face_two_faces_and_no_detector_are_one_line(
    pictures: list[PhotoFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces, (image, _) = FacePack(tiny_faces(tmp_path / "faces")), pixels(pictures[0])
    with pytest.raises(LikenessError, match=r"me shows no face: give a photo with exactly one$"):
        aligned(Portrait("me", np.zeros_like(image)), 64, faces, background=True)
    found = faces.analyse(image[None])[0]
    monkeypatch.setattr(FacePack, "analyse", lambda *_: [found * 2])
    with pytest.raises(LikenessError, match="me shows 2 faces: give a photo with exactly one"):
        aligned(Portrait("me", image), 64, faces, background=True)
    with pytest.raises(LikenessError, match=r"the face in me must be found .*set data.features.wplus.detector"):
        aligned(Portrait("me", image), 64, None, background=True)


@pytest.mark.skipif(not FACES_A.is_dir(), reason="the pocket models are not there")
@pytest.mark.parametrize("scale", [1, 3, 8, 24])
def test_one_face_is_found_at_any_size_and_place_and_two_are_counted(pictures: list[PhotoFiles], scale: int) -> None:
    """64, 192, 512 and 1536 pixels a face: the large ones are too large for the detector at 640."""
    first, second = (
        np.asarray(Image.fromarray(pixels(picture)[0]).resize((64 * scale, 64 * scale), Image.Resampling.BICUBIC))
        for picture in pictures[:2]
    )
    below = np.full((96 * scale, 64 * scale, 3), 200, np.uint8)
    for photo in (first, np.concatenate([first, below])):  # in the second the central square cuts the face off
        x0, y0, x1, y1 = only_face(photo, "me", FacePack(FACES_A)).bbox
        assert 0 <= x0 < x1 <= 64 * scale and -4 * scale <= y0 < y1 <= 64 * scale
    with pytest.raises(LikenessError, match="me shows 2 faces: give a photo with exactly one"):
        only_face(np.concatenate([first, second], axis=1), "me", FacePack(FACES_A))


def test_a_photo_that_is_transparent_throughout_shows_nobody(pictures: list[PhotoFiles]) -> None:
    image, mask = pixels(pictures[0])
    with pytest.raises(LikenessError, match=r"^me is transparent throughout"):
        portrait_from_file(png(np.dstack([image, np.zeros_like(mask)])), "me")


def test_landmarks_that_are_none_name_the_photo(pictures: list[PhotoFiles]) -> None:
    image, _ = pixels(pictures[0])
    with pytest.raises(LikenessError, match=r"^me: face alignment"):
        aligned(Portrait("me", image, np.zeros((5, 2), np.float32)), 64, None, background=True)


def test_a_mask_of_another_size_is_named(pictures: list[PhotoFiles]) -> None:
    bad = PhotoFiles(pictures[0].photo, pictures[0].image, png(np.zeros((32, 64), np.uint8)))
    for work in (portrait_of, head_mask):
        with pytest.raises(LikenessError, match=r"mask of image .* has 64 x 32 pixels, the image 64 x 64"):
            work(bad)


def test_the_face_in_the_box_is_taken_where_there_are_several(
    pictures: list[PhotoFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces, (image, _) = FacePack(tiny_faces(tmp_path / "faces"), 128), pixels(pictures[0])
    (one,) = faces.analyse(image[None])[0]
    aside = replace(one, bbox=one.bbox + 40, landmarks=one.landmarks + 40)
    monkeypatch.setattr(FacePack, "analyse", lambda *_: [[one, aside]])
    for face in (one, aside):
        box = tuple(float(v) for v in face.bbox + 3)
        assert only_face(image, "me", faces, box) is face
    with pytest.raises(LikenessError, match="me shows no face"):
        only_face(image, "me", faces, (500.0, 500.0, 540.0, 540.0))


def test_a_dataset_that_does_not_know_landmarks_mask_or_box_is_read(pictures: list[PhotoFiles]) -> None:
    _, mask = pixels(pictures[0])
    photo = replace(pictures[0].photo, landmarks=None)
    portrait = portrait_of(replace(pictures[0], photo=photo, mask=None))
    assert portrait.landmarks is None and portrait.mask is None and portrait.bbox == photo.bbox
    known = head_mask(pictures[0])
    without_box = head_mask(replace(pictures[0], photo=replace(pictures[0].photo, bbox=None)))
    both = (known > 128) & (without_box > 128)
    assert both.sum() / ((known > 128) | (without_box > 128)).sum() > 0.8, "the landmarks tell where the box is"
    nowhere = replace(photo, bbox=None)
    assert np.array_equal(head_mask(replace(pictures[0], photo=nowhere)), mask), "then all of the person"
    assert (head_mask(replace(pictures[0], photo=nowhere, mask=None)) == 255).all(), "then all of the photo"
    without_mask = head_mask(replace(pictures[0], mask=None))
    assert (without_mask >= known).all() and without_mask[-1, -1] < 128


def test_the_head_is_the_person_about_the_face(pictures: list[PhotoFiles]) -> None:
    for picture in pictures:
        _, mask = pixels(picture)
        head = head_mask(picture)
        x0, y0, x1, y1 = picture.photo.bbox
        assert head.shape == mask.shape
        middle = head[round((y0 + y1) / 2), round((x0 + x1) / 2)]
        assert middle > 250, "the face is inside"
        assert head[-1].mean() < 30, "the body is not"
        far = np.maximum.reduce([np.roll(mask, (dy, dx), (0, 1)) for dy in (-6, 0, 6) for dx in (-6, 0, 6)]) == 0
        assert head[far].max(initial=0) < 10, "the background is not"
        assert len(np.unique(head)) > 3, "it is soft"
