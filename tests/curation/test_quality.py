"""Blur and near-duplicates."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from curation import quality
from curation.crops import middle_square
from curation.quality import BLURRED, blur_of, duplicates, signature
from tests.helpers.photos import encoded, photo, rendered


def test_blur_grows_and_what_is_rendered_sharp_is_kept() -> None:
    render = rendered("q0", 0)
    big = cv2.resize(render.image, (192, 192), interpolation=cv2.INTER_CUBIC)
    blurs = [blur_of(cv2.GaussianBlur(big, (0, 0), s) if s else big, render.bbox * 3) for s in (0, 2, 4, 8)]
    assert blurs == sorted(blurs)
    assert blurs[0] < BLURRED < blurs[-1]
    assert blur_of(render.image, render.bbox) < 0.4


def test_a_box_of_nothing_is_not_called_blurred() -> None:
    flat = np.full((40, 40, 3), 90, np.uint8)
    assert blur_of(flat, np.array([5, 5, 35, 35], np.float32)) == 0
    assert blur_of(flat, np.array([50, 50, 60, 60], np.float32)) == 0


def test_the_same_photo_saved_again_is_found_and_others_are_not() -> None:
    one = photo("q0", 0)
    again = np.asarray(Image.open(io.BytesIO(encoded(one, "JPEG", quality=40))))
    lighter = cv2.convertScaleAbs(one, alpha=1.15, beta=10)
    smaller = cv2.resize(one, (90, 90), interpolation=cv2.INTER_AREA)
    others = [photo("q0", n) for n in range(1, 6)]
    pictures = [again, one, lighter, smaller, *others]
    signatures = np.stack([signature(p, middle_square((p.shape[1], p.shape[0]), None)) for p in pictures])
    assert duplicates(signatures, [1, 0, 2, 3, 4, 5, 6, 7, 8]) == {0: 1, 2: 1, 3: 1}
    assert duplicates(signatures[4:], [0, 1, 2, 3, 4]) == {}


def test_many_copies_are_found_in_blocks_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (9, 32, 32), dtype=np.uint8)
    which = rng.integers(0, len(pictures), 60)
    order = rng.permutation(60).tolist()
    monkeypatch.setattr(quality, "_BLOCK", 7)
    first: dict[int, int] = {}
    for i in order:
        first.setdefault(int(which[i]), i)
    copies = {i: first[int(which[i])] for i in order if first[int(which[i])] != i}
    assert duplicates(pictures[which], order) == copies


def test_twenty_thousand_copies_of_a_photo_need_no_memory_for_every_pair() -> None:
    one = np.random.default_rng(0).integers(0, 255, (1, 32, 32), dtype=np.uint8)
    copies = np.broadcast_to(one, (20_000, 32, 32))
    assert set(duplicates(copies, range(20_000)).values()) == {0}
