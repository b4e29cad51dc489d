from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from contracts.errors import LikenessError
from contracts.records import Request
from datamodules.subjects import load_subjects
from leaderboard.plan.checks import check_photos
from metrics.gallery import Gallery, SubjectPhotos, load_galleries, load_photo_features, save_galleries
from metrics.judges import JudgedImages, Judges, make_galleries
from metrics.registry import METRICS
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


def test_what_is_not_known_of_photos_is_left_out(judges: Judges) -> None:
    """A third of the poses, backgrounds and texts; an object in which a face is found takes no part."""
    subjects = [photos("s1", 120, [90, 200]), photos("s2", 60, [90, 150, 200]), photos("hat", 100, [90, 150])]
    subjects[2] = replace(subjects[2], noun="hat", has_face=False)
    whole = galleries_of(judges, subjects)
    assert np.allclose(whole["s1"].other_backgrounds, whole["s2"].reference["clip_background"]), "but not the hat's"
    assert whole["hat"].background == -1 and not whole["hat"].has_face and whole["hat"].usable.tolist() == [0, 1]
    for i in (1, 3):
        subjects[1].poses[i], subjects[1].backgrounds[i] = np.nan, -1
    subjects[0].poses[0], subjects[0].backgrounds[0] = np.nan, -1
    galleries = galleries_of(judges, subjects)
    assert galleries["s1"].background == -1 and galleries["s2"].background >= 0
    assert np.isnan(galleries["s1"].pose).all() and np.isfinite(galleries["s2"].pose_reader).all()
    assert not np.array_equal(galleries["s2"].pose_reader, whole["s2"].pose_reader)
    first, second = (whole[name].held_out["clip_background"] for name in ("s1", "s2"))
    beach = [first[1], second[1], whole["s2"].reference["clip_background"]]
    np.testing.assert_allclose(galleries["s1"].background_means, [np.mean(beach, axis=0), first[0]], atol=1e-6)
    for subject in subjects:
        subject.poses[:], subject.backgrounds[:] = np.nan, -1
    nothing = galleries_of(judges, subjects)
    assert np.isnan(nothing["s1"].pose_reader).all() and nothing["s1"].background_means.shape[0] == 0


def test_leakage_from_a_reference_of_which_nothing_is_known_is_not_measured(judges: Judges) -> None:
    known, unknown = photos("s1", 120, [90, 200]), photos("s2", 60, [90, 150, 200])
    unknown.poses[0], unknown.backgrounds[0] = np.nan, -1
    galleries = galleries_of(judges, [known, unknown])
    requests = [Request(name, "p", "a <subject>", "scene", 0) for name in ("s1", "s2")]
    images = np.stack([np.full((64, 64, 3), 120, np.uint8)] * 2)
    nouns = {"s1": "person", "s2": "person"}
    judged = JudgedImages.judge(judges, images, requests, [galleries[r.subject] for r in requests], nouns)
    for name in ("pose_leakage", "background_copied"):
        assert np.isfinite(METRICS[name].rows(judged)).tolist() == [True, False], name


def test_a_false_face_makes_no_class_faced_and_names_nobody(judges: Judges) -> None:
    """One face is found among the photos of three toys: none of them must show any."""
    toys = [photos(name, DARK, [DARK, DARK]) for name in ("t1", "t2", "t3")]
    toys[2] = photos("t3", DARK, [DARK, 150])
    toys = [replace(toy, noun="toy", has_face=False) for toy in toys]
    galleries = galleries_of(judges, [*toys, photos("s1", 120, [90, 200])])
    assert [gallery.has_face for gallery in galleries.values()] == [False, False, False, True]
    with pytest.raises(LikenessError, match=r"subject t1 shows no face: leave .* name toy in protocol.faceless"):
        galleries_of(judges, [replace(toy, has_face=True) for toy in toys])


def test_a_reference_without_a_face_is_found_when_the_plan_is_made(judges: Judges) -> None:
    with pytest.raises(LikenessError, match="reference photo of subject s1 shows no face"):
        galleries_of(judges, [photos("s1", DARK, [90, 200])])


def test_one_usable_photo_is_too_few_for_a_ceiling(judges: Judges) -> None:
    with pytest.raises(LikenessError, match="s1 has 1 held-out photos with a face"):
        galleries_of(judges, [photos("s1", 120, [90, DARK])])


def test_written_and_read_again(judges: Judges, tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    made = galleries_of(
        judges, [photos("s1", 120, [90, 200]), replace(photos("s2", 60, [90, 150, 200]), has_face=False)]
    )
    save_galleries(path, made, "hash")
    for name, gallery in load_galleries(path, ["s1", "s2"]).items():
        for kind in ("reference", "held_out"):
            assert getattr(gallery, kind).keys() == getattr(made[name], kind).keys()
            for key, array in getattr(gallery, kind).items():
                np.testing.assert_array_equal(array, getattr(made[name], kind)[key])
        for key in ("other_backgrounds", "background_means", "pose", "pose_reader"):
            np.testing.assert_array_equal(getattr(gallery, key), getattr(made[name], key))
        for key in ("background", "background_text", "has_face"):
            assert getattr(gallery, key) == getattr(made[name], key)
    assert load_photo_features(path).shape == (5, 16)
    with pytest.raises(LikenessError, match="missing or damaged"):
        load_galleries(path, ["s3"])


def test_a_file_that_says_no_backgrounds_is_damaged(judges: Judges, tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    save_galleries(path, galleries_of(judges, [photos("s1", 120, [90, 200])]), "hash")
    tensors = load_file(path)
    for said in ("[" * 100_000, '{"s1": [NaN, ""]}', "{}", "[]"):
        save_file(tensors, path, {"backgrounds": said})
        with pytest.raises(LikenessError, match=r"missing or damaged .*: run `--stage generate` again") as caught:
            load_galleries(path, ["s1"])
        assert "\n" not in str(caught.value)


def test_subjects_that_are_not_there_are_named(world: World) -> None:
    dataset = str(world.root / "dataset")
    with pytest.raises(LikenessError, match="no test subject nobody"):
        load_subjects(dataset, ["nobody"], 64)
    with pytest.raises(LikenessError, match="asks for 3 test subjects, the dataset has 2"):
        load_subjects(dataset, 3, 64)
    assert [subject.held_out.shape for subject in load_subjects(dataset, 2, 64)] == [(4, 64, 64, 3)] * 2
