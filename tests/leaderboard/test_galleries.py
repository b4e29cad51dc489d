from pathlib import Path

import numpy as np
import pytest

from contracts.errors import LikenessError
from datamodules.subjects import load_subjects
from leaderboard.plan.checks import check_photos
from metrics.gallery import Gallery, SubjectPhotos, load_galleries, load_photo_features, save_galleries
from metrics.judges import Judges, make_galleries
from tests.leaderboard.conftest import World

DARK = 5  # the tiny detector finds nothing there


@pytest.fixture(scope="module")
def judges(world: World) -> Judges:
    return Judges(str(world.root / "faces"), str(world.root / "clip"))


def photos(name: str, reference: int, held_out: list[int]) -> SubjectPhotos:
    """Grey photos of one level each, with made-up poses, before backgrounds 0, 1, 0, ..."""
    levels = np.array(held_out, np.uint8)[:, None, None, None]
    count = 1 + len(held_out)
    return SubjectPhotos(
        name,
        "person",
        np.full((64, 64, 3), reference, np.uint8),
        np.tile(levels, (1, 64, 64, 3)),
        np.arange(3 * count, dtype=np.float32).reshape(count, 3),
        np.arange(count) % 2,
        tuple(("on a beach", "in a forest")[i % 2] for i in range(count)),
    )


def galleries_of(judges: Judges, subjects: list[SubjectPhotos]) -> dict[str, Gallery]:
    """As a plan makes them."""
    seen = {subject.id: judges.observe_photos(subject) for subject in subjects}
    check_photos(subjects, seen)
    return make_galleries(subjects, seen)


def test_photos_without_a_face_are_left_out(judges: Judges) -> None:
    gallery = galleries_of(judges, [photos("s1", 120, [90, DARK, 200])])["s1"]
    faces = gallery.held_out["faces"]
    assert gallery.usable.tolist() == [0, 2]
    np.testing.assert_allclose(gallery.mean("faces"), (faces[0].astype(float) + faces[2]) / 2)
    np.testing.assert_allclose(gallery.without(0).mean("faces"), faces[2])
    assert not gallery.held_out["clip_foreground"][1].any() and gallery.held_out["clip"][1].any()
    assert gallery.background_text == "on a beach" and gallery.pose.tolist() == [0, 1, 2]


def test_other_backgrounds_are_those_of_the_other_subjects(judges: Judges) -> None:
    subjects = [photos("s1", 120, [90, 200]), photos("s2", 60, [90, 200]), photos("s3", 220, [90, 200])]
    galleries = galleries_of(judges, subjects)
    expected = (galleries["s1"].reference["clip_background"] + galleries["s3"].reference["clip_background"]) / 2
    np.testing.assert_allclose(galleries["s2"].other_backgrounds, expected, atol=1e-6)
    alone = galleries_of(judges, subjects[:1])["s1"]
    assert not alone.other_backgrounds.any()


def test_a_reference_without_a_face_is_found_when_the_plan_is_made(judges: Judges) -> None:
    with pytest.raises(LikenessError, match="reference photo of subject s1 shows no face"):
        galleries_of(judges, [photos("s1", DARK, [90, 200])])


def test_one_usable_photo_is_too_few_for_a_ceiling(judges: Judges) -> None:
    with pytest.raises(LikenessError, match="s1 has 1 held-out photos with a face"):
        galleries_of(judges, [photos("s1", 120, [90, DARK])])


def test_written_and_read_again(judges: Judges, tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    made = galleries_of(judges, [photos("s1", 120, [90, 200]), photos("s2", 60, [90, 150, 200])])
    save_galleries(path, made, "hash")
    for name, gallery in load_galleries(path, ["s1", "s2"]).items():
        for kind in ("reference", "held_out"):
            assert getattr(gallery, kind).keys() == getattr(made[name], kind).keys()
            for key, array in getattr(gallery, kind).items():
                np.testing.assert_array_equal(array, getattr(made[name], kind)[key])
        for key in ("other_backgrounds", "background_means", "pose", "pose_reader"):
            np.testing.assert_array_equal(getattr(gallery, key), getattr(made[name], key))
        assert (gallery.background, gallery.background_text) == (made[name].background, made[name].background_text)
    assert load_photo_features(path).shape == (5, 16)
    with pytest.raises(LikenessError, match="missing or damaged"):
        load_galleries(path, ["s3"])


def test_subjects_that_are_not_there_are_named(world: World) -> None:
    dataset = str(world.root / "dataset")
    with pytest.raises(LikenessError, match="no test subject nobody"):
        load_subjects(dataset, ["nobody"], 64)
    with pytest.raises(LikenessError, match="asks for 3 test subjects, the dataset has 2"):
        load_subjects(dataset, 3, 64)
    assert [subject.held_out.shape for subject in load_subjects(dataset, 2, 64)] == [(4, 64, 64, 3)] * 2
