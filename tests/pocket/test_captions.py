"""What captions say of a face."""

from dataclasses import replace
from pathlib import Path

from pocket.models.bank import load_bank
from pocket.render.captions import appearance_words, caption, face_words
from pocket.render.factors import draw_shot, draw_subject


def test_each_part_is_told_by_the_third_of_its_range_and_the_ordinary_goes_unsaid() -> None:
    middle = replace(
        draw_subject("captions/0"), face_width=0.79, jaw=0.5, ear_size=0.17, eye_size=0.175, eye_aspect=0.775,
        eye_spacing=0.35, eye_height=-0.07, brow_thickness=0.07, brow_tilt=0.0, brow_gap=0.08, nose_length=0.26,
        nose_width=0.125, mouth_width=0.27, mouth_height=0.53, lip_thickness=0.0625, lip_redness=0.5,
    )  # fmt: skip
    assert face_words(middle) == ""
    assert face_words(replace(middle, eye_size=0.14)) == "small eyes"
    assert face_words(replace(middle, eye_size=0.21, eye_spacing=0.28)) == "large close eyes"
    assert face_words(replace(middle, nose_length=0.35, lip_redness=0.9)) == "long nose, red lips"


def test_only_a_caption_that_describes_the_face_has_its_words() -> None:
    who = draw_subject("captions/1")
    shot = draw_shot("captions/1/0")
    told = caption(who, shot, "key", appearance=1.0, face=True)
    plain = caption(who, shot, "key", appearance=1.0)
    assert face_words(who) and told.replace(f", {face_words(who)}", "") == plain
    assert caption(who, shot, "key", appearance=0.0, face=True) == caption(who, shot, "key", appearance=0.0)


def test_descriptions_are_of_the_banks_own_subjects(tmp_path: Path) -> None:
    bank = load_bank(tmp_path, subjects=2, shots=3)
    told = bank.descriptions()
    assert len(told) == 6
    for i, description in enumerate(told):
        who = draw_subject(f"bank/{i // 3}/0")
        assert f"{appearance_words(who)}, {face_words(who)}" in description
        assert description.partition(" of a ")[0] == bank.captions[i].partition(" of a ")[0], "another image's style"
