"""What words can say of a face: another person with the same words, and shares of what such a person recovers."""

from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import pytest

from networks.backbone import load_backbone
from networks.face_analysis import FacePack
from pocket.models.paths import BASE, DET_SIZE, FACES_B
from pocket.quality.words import Recovered, twin, word_rows
from pocket.render.captions import description
from pocket.render.factors import draw_subject

N = 12


@pytest.mark.parametrize("number", range(8))
def test_a_twin_has_the_same_words_and_is_somebody_else(number: int) -> None:
    subject = draw_subject(f"unseen/{number}")
    alike, like_in_colours = twin(subject, "a"), twin(subject, "a", face=False)
    assert description(alike) == description(subject)
    assert description(like_in_colours, face=False) == description(subject, face=False)
    assert description(like_in_colours) != description(subject)
    differ = sum(a != b for a, b in zip(astuple(alike), astuple(subject), strict=True))
    assert differ > 15 and twin(subject, "a") == alike != twin(subject, "b")


def test_identity_recovered_is_0_of_strangers_and_1_of_the_same() -> None:
    recovered = Recovered(FacePack(FACES_B, DET_SIZE), N)
    own = np.stack([Recovered.photos(recovered.people, shot) for shot in range(4)], axis=1).reshape(-1, 64, 64, 3)
    assert recovered.of(own) > 1, "a photo is among those that it is compared with"
    assert recovered.of(np.roll(own, 4, axis=0)) == pytest.approx(0, abs=0.05)
    assert recovered.of(np.full_like(own, 90)) == pytest.approx(0, abs=0.05), "no face is worth nothing"


def test_a_base_model_as_good_as_its_words_reaches_its_bound() -> None:
    people = [draw_subject(f"unseen/{i}") for i in range(N)]

    def renderer(prompts: Sequence[str]) -> np.ndarray:
        assert len(prompts) == 4 * N and prompts[0] == prompts[3] != prompts[4]
        shots = [Recovered.photos([twin(p, f"{i}/x{s}") for i, p in enumerate(people)], s) for s in range(4)]
        return np.stack(shots, axis=1).reshape(-1, 64, 64, 3)

    rows = {name: value for name, value, *_ in word_rows(load_backbone(str(BASE)), [judge()], renderer, N)}
    described, through, complete = rows.values()
    assert described == pytest.approx(1, abs=0.25) and 0.8 < through < 1.2 and complete > 0.95, rows


def judge() -> FacePack:
    return FacePack(FACES_B, DET_SIZE)
