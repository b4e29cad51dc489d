from pathlib import Path

import numpy as np
import pytest

from contracts.errors import LikenessError
from leaderboard.galleries import Gallery, load_galleries, make_gallery, save_galleries
from leaderboard.subjects import SubjectPhotos, load_subjects
from networks.face_analysis import FacePack
from tests.leaderboard.conftest import World

DARK = 5  # the tiny detector finds nothing there


@pytest.fixture(scope="module")
def faces(world: World) -> FacePack:
    return FacePack(world.root / "faces")


def photos(reference: int, held_out: list[int]) -> SubjectPhotos:
    levels = np.array(held_out, np.uint8)[:, None, None, None]
    return SubjectPhotos("s1", "person", np.full((64, 64, 3), reference, np.uint8), np.tile(levels, (1, 64, 64, 3)))


def test_photos_without_a_face_are_left_out(faces: FacePack) -> None:
    gallery = make_gallery(faces, photos(120, [90, DARK, 200]))
    assert gallery.usable.tolist() == [0, 2]
    expected = (gallery.held_out[0].astype(float) + gallery.held_out[2]) / 2
    np.testing.assert_allclose(gallery.mean(), expected)
    np.testing.assert_allclose(gallery.mean(without=0), gallery.held_out[2])


def test_a_reference_without_a_face_is_found_when_the_plan_is_made(faces: FacePack) -> None:
    with pytest.raises(LikenessError, match="reference photo of subject s1 shows no face"):
        make_gallery(faces, photos(DARK, [90, 200]))


def test_one_usable_photo_is_too_few_for_a_ceiling(faces: FacePack) -> None:
    with pytest.raises(LikenessError, match="s1 has 1 held-out photos with a face"):
        make_gallery(faces, photos(120, [90, DARK]))


def test_written_and_read_again(tmp_path: Path) -> None:
    gallery = Gallery(np.ones(4, np.float32), np.ones((2, 4), np.float32))
    save_galleries(tmp_path / "g.safetensors", {"s1": gallery}, "hash")
    again = load_galleries(tmp_path / "g.safetensors", ["s1"])["s1"]
    np.testing.assert_array_equal(again.held_out, gallery.held_out)
    with pytest.raises(LikenessError, match="missing or damaged"):
        load_galleries(tmp_path / "g.safetensors", ["s2"])


def test_subjects_that_are_not_there_are_named(world: World) -> None:
    dataset = str(world.root / "dataset")
    with pytest.raises(LikenessError, match="no test subject nobody"):
        load_subjects(dataset, ["nobody"], 64)
    with pytest.raises(LikenessError, match="asks for 3 test subjects, the dataset has 2"):
        load_subjects(dataset, 3, 64)
    assert [subject.held_out.shape for subject in load_subjects(dataset, 2, 64)] == [(4, 64, 64, 3)] * 2
