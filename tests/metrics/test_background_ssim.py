"""Background SSIM on rendered portraits, whose backgrounds are known."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from contracts.records import Request
from metrics.gallery import Gallery, SubjectPhotos
from metrics.judges import JudgedImages, Judges, make_galleries
from metrics.registry import METRICS
from pocket.models.paths import CLIP, DET_SIZE, FACES_B
from pocket.render.factors import POSES, draw_shot, draw_subject
from pocket.render.renderer import render


def portrait(person: int, background: str, shot: int = 0) -> NDArray[np.uint8]:
    return render(
        draw_subject(f"ssim/{person}"), draw_shot(f"ssim/{shot}", POSES[0], background, "photo", accessories=False)
    ).image


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges(str(FACES_B), str(CLIP), det_size=DET_SIZE)


@pytest.fixture(scope="module")
def gallery(judges: Judges) -> Gallery:
    photos = np.stack([portrait(0, background) for background in ("beach", "snow", "forest")])
    unknown = np.full((3, 3), np.nan, np.float32)
    subject = SubjectPhotos("s", "person", photos[0], photos[1:], unknown, np.zeros(3, np.int64), ("",) * 3)
    return make_galleries([subject], {"s": judges.observe_photos(subject)})["s"]


def scores(judges: Judges, gallery: Gallery, *groups: list[NDArray[np.uint8]]) -> torch.Tensor:
    """The score of every image; each group is the samples of one prompt."""
    requests = [Request("s", f"p{g}", "", "scene", i) for g, group in enumerate(groups) for i in range(len(group))]
    images = np.stack([image for group in groups for image in group])
    judged = JudgedImages.judge(judges, images, requests, [gallery] * len(images), {"s": "person"})
    return METRICS["background_ssim"].score(judged)


def test_the_same_image_twice_is_one(judges: Judges, gallery: Gallery) -> None:
    found = scores(judges, gallery, [portrait(0, "beach")] * 2)
    torch.testing.assert_close(found, torch.ones(2, dtype=torch.float64))


def test_the_background_counts_and_not_the_person(judges: Judges, gallery: Gallery) -> None:
    """Another person before the same background is more alike than the same person before another one."""
    first = portrait(0, "beach")
    person, background = scores(judges, gallery, [first, portrait(1, "beach")], [first, portrait(0, "forest")]).split(2)
    assert bool((person > background + 0.2).all()), (person, background)


def test_an_image_alone_or_without_a_face_has_no_score_and_harms_no_other(judges: Judges, gallery: Gallery) -> None:
    first, second, blank = portrait(0, "beach"), portrait(1, "beach"), np.full((64, 64, 3), 128, np.uint8)
    found = scores(judges, gallery, [first, blank, second], [first])
    assert found.isnan().tolist() == [False, True, False, True]
    torch.testing.assert_close(found[[0, 2]], scores(judges, gallery, [first, second]))
