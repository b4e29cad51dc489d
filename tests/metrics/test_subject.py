"""Likeness to objects, and copying of their reference, by the image network or by CLIP."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.errors import LikenessError
from contracts.records import Request
from contracts.settings import JudgeSettings
from leaderboard.plan.checks import check_photos
from metrics.base import Kind
from metrics.gallery import SubjectPhotos
from metrics.judges import JudgedImages, Judges, make_galleries
from metrics.registry import METRICS, list_cards, metrics_of
from pocket.tiny.components import SIDE, tiny_clip, tiny_faces, tiny_segmenter, tiny_vit

NAMES = ("subject_likeness", "subject_copy_paste")
Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> JudgeSettings:
    root: Path = tmp_path_factory.mktemp("judges")
    return JudgeSettings(
        faces=str(tiny_faces(root / "faces")),
        clip=str(tiny_clip(root / "clip")),
        image_backbone=str(tiny_vit(root / "vit")),
    )


def pictures(count: int, brightest: int) -> Images:
    """Noise; the tiny detector finds no face below a level of about 10."""
    return np.random.default_rng(0).integers(0, brightest, (count, SIDE, SIDE, 3), np.uint8)


def nothing_known(count: int) -> tuple[NDArray, NDArray, tuple[str, ...]]:
    """Poses, backgrounds and their words of so many photos."""
    return np.zeros((count, 3), np.float32), np.zeros(count, np.int64), ("",) * count


def judged_of(judges: Judges, images: Images, photos: Images, has_face: bool = False) -> JudgedImages:
    """Images of the subject of whom ``photos`` are, the reference first."""
    subject = SubjectPhotos("it", "thing", photos[0], photos[1:], *nothing_known(len(photos)), has_face=has_face)
    gallery = make_galleries([subject], {"it": judges.observe_photos(subject)})["it"]
    requests = [Request("it", "p", "a photo of a <subject>", "scene", i) for i in range(len(images))]
    return JudgedImages.judge(judges, images, requests, [gallery] * len(images), {"it": "thing"})


def scores(judged: JudgedImages, name: str) -> NDArray[np.float64]:
    return METRICS[name].score(judged).numpy()


def test_the_reference_copies_and_a_held_out_photo_does_not(settings: JudgeSettings) -> None:
    photos = pictures(4, brightest=10)
    copying = scores(judged_of(Judges(**vars(settings)), photos, photos), "subject_copy_paste")
    assert copying[0] == pytest.approx(1.0, abs=1e-6) and (copying[1:] < 0).all()


def test_with_one_held_out_photo_that_photo_is_the_other_end(settings: JudgeSettings) -> None:
    photos = pictures(2, brightest=10)
    judged = judged_of(Judges(**vars(settings)), photos, photos)
    assert scores(judged, "subject_copy_paste") == pytest.approx([1.0, -1.0], abs=1e-6)
    assert scores(judged, "subject_likeness")[1] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("network", "column"), [(True, "image_similarity"), (False, "clip_i")])
def test_the_image_network_judges_where_there_is_one_and_clip_elsewhere(
    settings: JudgeSettings, network: bool, column: str
) -> None:
    photos = pictures(4, brightest=10)
    judging = settings if network else replace(settings, image_backbone=None)
    judged = judged_of(Judges(**vars(judging)), photos, photos)
    np.testing.assert_array_equal(scores(judged, "subject_likeness"), scores(judged, column))
    cards = {card.name: card for card in list_cards(judging, samples=2, images=8, kinds={"objects"})}
    same = cards[column]
    for card in (cards[name] for name in NAMES):
        assert (card.backbone, card.backbone_hash) == (same.backbone, same.backbone_hash)
        assert card.version.split("|")[0].split("@")[1] == same.version.split("|")[0].split("@")[1]
        assert "whole image" in card.version and "whole images" in card.preprocessing


def on(ground: int, place: int, colour: tuple[int, int, int]) -> Images:
    """A bright thing in one of four corners on a dark ground of one level."""
    image = np.full((SIDE, SIDE, 3), ground, np.uint8)
    y, x = 8 + 28 * (place // 2), 8 + 28 * (place % 2)
    image[y : y + 20, x : x + 20] = colour
    return image


@pytest.mark.parametrize("network", [True, False])
def test_with_a_segmentation_model_the_ground_does_not_count(
    settings: JudgeSettings, tmp_path: Path, network: bool
) -> None:
    """The same thing on another ground is the same; the ground alone is no object, and 0."""
    judging = replace(settings, segmenter=str(tiny_segmenter(tmp_path / "s.onnx", SIDE)))
    judging = judging if network else replace(judging, image_backbone=None)
    thing = (240, 200, 160)
    photos = np.stack([on(ground, place, thing) for ground, place in ((10, 0), (20, 1), (30, 2), (40, 3))])
    images = np.stack([on(60, 0, thing), on(10, 0, (180, 240, 240)), on(10, 0, (10, 10, 10))])
    judged = judged_of(Judges(**vars(judging)), images, photos)
    likeness, copying = (scores(judged, name) for name in NAMES)
    assert copying[0] == pytest.approx(1.0, abs=1e-6), "the reference's thing on another ground"
    assert likeness[0] == pytest.approx(scores(judged_of(judged.judges, photos[:1], photos), NAMES[0])[0], abs=1e-6)
    assert copying[1] < 0.99 and likeness[1] != likeness[0]
    assert likeness[2] == 0.0 and np.isnan(copying[2])
    whole = judged_of(Judges(**vars(replace(judging, segmenter=None))), images, photos)
    assert scores(whole, NAMES[1])[0] < 0.99, "which the whole image hides"
    told, untold = (
        {card.name: card for card in list_cards(given, samples=2, images=8, kinds={"objects"})}
        for given in (judging, replace(judging, segmenter=None))
    )
    for name in NAMES:
        assert told[name].version != untold[name].version and "|segmenter-" in told[name].version
        assert "segmentation model" in told[name].preprocessing
    assert {name for name in told if told[name].version != untold[name].version} == set(NAMES)


def test_photos_in_which_no_object_is_found_are_left_out(settings: JudgeSettings, tmp_path: Path) -> None:
    judges = Judges(**vars(replace(settings, segmenter=str(tiny_segmenter(tmp_path / "s.onnx", SIDE)))))
    photos = np.stack([on(10, place, (240, 200, 160)) for place in range(4)])
    photos[2] = 10
    judged = judged_of(judges, photos, photos)
    gallery = judged.galleries[0]
    assert gallery.usable.tolist() == [0, 2]
    photos_of_it = gallery.held_out["image_object"][[0, 2]]
    np.testing.assert_allclose(gallery.mean("image_object"), photos_of_it.mean(axis=0), atol=1e-6)
    subject = SubjectPhotos("it", "thing", photos[0], photos[1:], *nothing_known(4), has_face=False)
    check_photos([subject], {"it": judges.observe(photos)})
    for shown, message in (
        ([2, 0, 1, 3], "the reference photo of subject it shows no object to judges.segmenter: leave the subject out"),
        ([0, 1, 2], "it has 1 held-out photos with an object to judges.segmenter, two are needed"),
    ):
        some = photos[shown]
        few = replace(subject, reference=some[0], held_out=some[1:])
        with pytest.raises(LikenessError, match=message):
            check_photos([few], {"it": judges.observe(some)})


def test_a_person_has_identity_instead(settings: JudgeSettings) -> None:
    photos = pictures(4, brightest=255)
    judged = judged_of(Judges(**vars(settings)), photos, photos, has_face=True)
    assert all(np.isnan(scores(judged, name)).all() for name in NAMES)


def test_what_needs_a_face_is_of_people(settings: JudgeSettings) -> None:
    """No column of objects is empty for want of a face, and no other one is of objects."""
    photos = pictures(4, brightest=10)
    judged = judged_of(Judges(**vars(settings)), photos, photos)
    known = {metric.name: bool(np.isfinite(metric.rows(judged)).all()) for metric in metrics_of(settings)}
    assert known == {metric.name: "objects" in metric.kinds for metric in metrics_of(settings)}


@pytest.mark.parametrize(
    ("kinds", "there", "absent"),
    [
        ({"people"}, {"identity_misses_zero", "copy_paste", "clip_i", "pose_leakage"}, set(NAMES)),
        (
            {"objects"},
            {*NAMES, "clip_i", "clip_t", "diversity", "kid"},
            {"detection_rate", "copy_paste", "background_ssim"},
        ),
        ({"people", "objects"}, {*NAMES, "identity_misses_zero", "copy_paste"}, set()),
    ],
)
def test_a_column_is_there_where_a_subject_can_have_it(
    settings: JudgeSettings, kinds: set[Kind], there: set[str], absent: set[str]
) -> None:
    names = [card.name for card in list_cards(settings, samples=2, images=8, kinds=kinds)]
    assert there <= set(names) and not absent & set(names)
    assert names == [metric.name for metric in metrics_of(settings, kinds=kinds)]
