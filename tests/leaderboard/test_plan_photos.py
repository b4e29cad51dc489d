"""What photos of several people, of strangers and of objects do to galleries, to the ceiling and to the notes."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.settings import JudgeSettings
from leaderboard.plan.photos import notes_on_photos, with_cautions
from leaderboard.report.notes import on_cards, on_floor
from leaderboard.report.tables.cards import list_of_cards
from metrics.base import NEEDS, Ratio
from metrics.card import MetricCard
from metrics.derived import all_cards
from metrics.gallery import Gallery, SubjectPhotos, load_galleries, save_galleries, unknown_factors
from metrics.judges import JudgedImages, Judges, make_galleries
from metrics.registry import METRICS, list_cards
from pocket.models.paths import DET_SIZE, FACES_A, FACES_B
from pocket.render.factors import draw_shot, draw_subject
from pocket.render.renderer import render
from tests.helpers.face_models import recogniser
from tests.helpers.real import REAL, needs_real, portraits
from tests.leaderboard.conftest import World
from tests.leaderboard.test_protocol import make_protocol

Images = NDArray[np.uint8]
PEOPLE = ("ann", "ben", "cleo")


@pytest.fixture(scope="module")
def judges(world: World) -> Judges:
    return Judges(str(FACES_A), str(world.root / "clip"), str(FACES_B), det_size=DET_SIZE)


def portrait(person: str, number: int) -> Images:
    shot = draw_shot(f"{person}/{number}", style="photo", accessories=False)
    return cv2.resize(render(draw_subject(person), shot).image, (128, 128))


def behind(own: Images, other: Images) -> Images:
    """A photo with ``other`` in front, so larger, and the subject's own face below at the right."""
    image = np.full((128, 128, 3), 200, np.uint8)
    image[:80, :80] = cv2.resize(other, (80, 80))
    image[72:, 72:] = cv2.resize(own, (56, 56))
    return image


def subject(name: str, changed: dict[int, Images] | None = None, noun: str = "person") -> SubjectPhotos:
    """Four photos, some of them changed."""
    photos = np.stack([(changed or {}).get(i, portrait(name, i)) for i in range(4)])
    poses, ids = np.zeros((4, 3), np.float32), np.array([0, 1, 0, 1])
    return SubjectPhotos(name, noun, photos[0], photos[1:], poses, ids, ("on a beach", "in a forest") * 2)


def galleries_of(judges: Judges, subjects: list[SubjectPhotos]) -> dict[str, Gallery]:
    return make_galleries(subjects, {one.id: judges.observe_photos(one) for one in subjects})


def notes_of(galleries: dict[str, Gallery], nouns: dict[str, str]) -> list[str]:
    return list(notes_on_photos(make_protocol(subjects=nouns), galleries))


@pytest.fixture(scope="module")
def crowd() -> SubjectPhotos:
    """Ann, whose second held-out photo has Ben in front."""
    return subject("ann", {2: behind(portrait("ann", 2), portrait("ben", 7))})


@pytest.mark.parametrize("known", [True, False])
def test_of_several_faces_the_subjects_own_is_in_the_gallery(judges: Judges, crowd: SubjectPhotos, known: bool) -> None:
    boxes = np.full((4, 4), np.nan, np.float32)
    boxes[2] = 78, 84, 118, 124
    gallery = galleries_of(judges, [replace(crowd, boxes=boxes if known else None)])["ann"]
    assert gallery.counts.tolist() == [1, 1, 2, 1]
    assert (gallery.held_out["faces"][1] @ gallery.reference["faces"]) > 0.6
    assert gallery.boxes[2, 0] > 72 and gallery.boxes[2, 1] > 72
    (largest,) = judges.observe(crowd.held_out[1:2]).features["faces"]
    assert (largest @ gallery.reference["faces"]) < 0.4, "the largest is Ben"


def test_a_face_outside_of_the_box_is_not_the_subjects(judges: Judges) -> None:
    boxes = np.full((4, 4), np.nan, np.float32)
    boxes[3] = 0, 0, 6, 6
    gallery = galleries_of(judges, [replace(subject("ann"), boxes=boxes)])["ann"]
    assert gallery.usable.tolist() == [0, 1] and np.isnan(gallery.boxes[3]).all() and gallery.counts[3] == 1


def test_the_ceiling_is_judged_by_the_same_face(judges: Judges, crowd: SubjectPhotos) -> None:
    gallery = galleries_of(judges, [crowd])["ann"]
    request = make_protocol(subjects={"ann": "person"}).requests[0]
    rest = gallery.without(1)
    assert rest.boxes.shape == (3, 4) and rest.counts.tolist() == [1, 1, 1]

    def score(boxes: NDArray[np.float32] | None) -> float:
        photo = crowd.held_out[1:2]
        judged = JudgedImages.judge(judges, photo, [request], [rest], {"ann": "person"}, boxes)
        return float(METRICS["identity_misses_zero"].score(judged))

    assert score(gallery.boxes[2:3]) > 0.6 > 0.4 > score(None)


def test_what_is_found_in_photos_of_an_object_is_no_face(judges: Judges) -> None:
    thing = replace(subject("ann", noun="doll"), has_face=False)
    seen = judges.observe_photos(thing)
    assert not seen.judged.found.any() and not seen.judged.counts.any()
    assert not seen.features["faces"].any() and not seen.features["clip_foreground"].any()
    assert judges.observe(thing.photos).judged.found.all(), "though the detector finds one"
    galleries = galleries_of(judges, [thing])
    assert galleries["ann"].usable.tolist() == [0, 1, 2]
    assert notes_of(galleries, {"ann": "doll"}) == ["class doll has no face: identity is not measured there"]


def test_the_notes_name_crowds_and_strangers(judges: Judges, crowd: SubjectPhotos) -> None:
    nouns = dict.fromkeys(PEOPLE, "person")
    plain = [subject(name) for name in PEOPLE]
    assert notes_of(galleries_of(judges, plain), nouns) == []
    mixed = [crowd, subject("ben", {3: portrait("cleo", 9)}), plain[2]]
    several, odd = notes_of(galleries_of(judges, mixed), nouns)
    assert several.startswith("ann held-out 2 show several people: ")
    assert odd == "photos of ben do not agree with each other: held-out 3 might as well show a stranger"
    (odd,) = notes_of(galleries_of(judges, [plain[0], subject("ben", {0: portrait("cleo", 9)}), plain[2]]), nouns)
    assert "reference might as well show a stranger" in odd


def test_galleries_keep_where_the_face_is(judges: Judges, crowd: SubjectPhotos, tmp_path: Path) -> None:
    made = galleries_of(judges, [crowd, replace(subject("ben"), has_face=False)])
    save_galleries(tmp_path / "g", made, "hash")
    for name, gallery in load_galleries(tmp_path / "g", ["ann", "ben"]).items():
        np.testing.assert_array_equal(gallery.boxes, made[name].boxes)
        np.testing.assert_array_equal(gallery.counts, made[name].counts)
        assert gallery.has_face is made[name].has_face


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pack whose embeddings have one direction in common."""
    folder = tmp_path_factory.mktemp("shifted")
    shutil.copy(FACES_A / "detection.onnx", folder)
    recogniser(folder / "recogniser.onnx", 112, 64, "x", shift=60.0)
    return str(folder)


def carded(world: World, first: str, second: str) -> dict[str, MetricCard]:
    """The cards of a plan of three people with these packs."""
    settings = JudgeSettings(first, str(world.root / "clip"), second, det_size=DET_SIZE)
    galleries = galleries_of(Judges(**vars(settings)), [subject(name) for name in PEOPLE])
    cards = with_cautions(list_cards(settings, samples=2, images=8), galleries)
    return all_cards({card.name: card for card in cards})


def test_embeddings_that_are_not_centred_are_said_to_be_so(world: World, shifted: str) -> None:
    cards = carded(world, str(FACES_A), shifted)
    (warned,) = [card for card in cards.values() if card.caution]
    assert warned.name == "identity_second_opinion"
    assert re.fullmatch(r"not centred: strangers have 0\.[4-9]\d on these subjects; read it between .*", warned.caution)
    assert f"{warned.about}; {warned.caution}." in list_of_cards([warned])


def test_the_board_says_it_once_and_makes_no_claim_about_its_floor(world: World, shifted: str) -> None:
    cards = carded(world, shifted, str(FACES_A))
    assert not cards["identity_recovered"].caution, "that is what to read"
    (note,) = on_cards(cards.values())
    assert note.startswith("identity, found; identity, misses 0; identity to reference: not centred: strangers have 0.")
    assert note.endswith("on these subjects; read identity recovered, or without a floor the order alone")
    high = {"identity_misses_zero": Ratio(np.full(6, 0.8), np.ones(6))}
    higher = {"identity_misses_zero": Ratio(np.full(6, 0.9), np.ones(6))}
    assert list(on_floor(high, higher, "prompt-only", cards)) == []
    silent = {name: replace(card, caution="") for name, card in cards.items()}
    assert "already resembles the subjects" in "".join(on_floor(high, higher, "prompt-only", silent))


@needs_real
@pytest.mark.parametrize(("pack", "centred"), [("faces_open", False), ("faces_open_centred", True)])
def test_real_people_say_which_pack_is_centred_and_agree_with_themselves(
    world: World, pack: str, centred: bool
) -> None:
    settings = JudgeSettings(str(REAL / pack), str(world.root / "clip"))
    judges, people = Judges(**vars(settings)), portraits()
    people["p01"][2], people["p04"][0] = people["p02"][0].copy(), people["p05"][1].copy()
    subjects = [
        SubjectPhotos(name, "person", rows[0], rows[1:], np.zeros((5, 3), np.float32), np.zeros(5, np.int64), ("",) * 5)
        for name, rows in people.items()
    ]
    galleries = galleries_of(judges, subjects)
    warned = [card.caution for card in with_cautions(list_cards(settings, 2, 8), galleries) if card.caution]
    read = "read identity recovered, or without a floor the order alone"
    level = [f"not centred: strangers have 0.85 on these subjects; {read}"]
    assert warned == ([] if centred else level * 3)
    notes = notes_of(galleries, dict.fromkeys(people, "person"))
    assert [note for note in notes if "do not agree" in note] == [
        "photos of p01 do not agree with each other: held-out 2 might as well show a stranger",
        "photos of p04 do not agree with each other: reference might as well show a stranger",
    ]
    assert any("show several people" in note for note in notes)


def test_factors_are_known_where_every_photo_of_people_has_them() -> None:
    known = subject("ann")
    thing = replace(known, has_face=False, poses=known.poses * np.nan, backgrounds=known.backgrounds - 9)
    assert unknown_factors([known, thing]) == frozenset()
    one_pose = known.poses.copy()
    one_pose[2] = np.nan
    assert unknown_factors([known, replace(known, poses=one_pose)]) == {"poses"}
    for change in ({"backgrounds": np.array([0, 1, -1, 1])}, {"background_texts": ("on a beach", "", "x", "y")}):
        assert unknown_factors([known, replace(known, **change)]) == {"backgrounds"}


def test_columns_of_unknown_factors_do_not_exist(world: World) -> None:
    settings = JudgeSettings(str(world.root / "faces"), str(world.root / "clip"))
    every = {card.name for card in list_cards(settings, 2, 8)}
    some = {card.name for card in list_cards(settings, 2, 8, NEEDS - {"backgrounds", "poses"})}
    assert every - some == {"background_copied", "pose_leakage"}
