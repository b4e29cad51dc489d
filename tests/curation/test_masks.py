"""Masks: GrabCut against the renderer's truth, refined edges, and what of a mask is the person's own."""

import cv2
import numpy as np

from curation.masks import grabcut, own_part, refined
from tests.helpers.photos import rendered


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_grabcut_from_the_face_finds_the_person() -> None:
    renders = [rendered(f"q{i}", i) for i in range(8)]
    found = [grabcut(r.image, r.bbox) for r in renders]
    assert {how for _, how in found if found} <= {"grabcut", "region"}
    scores = [iou(mask, r.mask > 127) for (mask, _), r in zip(found, renders, strict=True)]
    assert np.mean(scores) > 0.8
    again = grabcut(renders[0].image, renders[0].bbox)
    assert again is not None and np.array_equal(again[0], found[0][0])


def test_grabcut_at_a_large_size_has_the_edge_of_the_large_image() -> None:
    render = rendered("q3", 0)
    big = cv2.resize(render.image, (512, 512), interpolation=cv2.INTER_CUBIC)
    truth = cv2.resize(render.mask, (512, 512), interpolation=cv2.INTER_CUBIC) > 127
    mask, how = grabcut(big, render.bbox * 8) or (None, "")
    assert how == "grabcut" and mask is not None and mask.shape == (512, 512)
    assert iou(mask, truth) > 0.8


def test_the_edge_is_drawn_to_that_of_the_image() -> None:
    y, x = np.mgrid[:256, :256]
    truth = (x - 128) ** 2 + (y - 128) ** 2 < 80**2
    image = np.where(truth[..., None], np.uint8(200), np.uint8(40)).repeat(3, axis=2)
    coarse = cv2.resize(truth.astype(np.uint8), (48, 48), interpolation=cv2.INTER_AREA) > 0
    plain = cv2.resize(coarse.astype(np.uint8), (256, 256), interpolation=cv2.INTER_NEAREST) > 0
    assert iou(refined(image, coarse), truth) > 0.99 > iou(plain, truth)


def test_an_object_differs_from_the_border_and_nothing_has_no_mask() -> None:
    image = np.full((200, 200, 3), (60, 120, 60), np.uint8)
    image += np.random.default_rng(0).integers(0, 20, image.shape, np.uint8)
    cv2.circle(image, (110, 90), 40, (200, 30, 30), -1)
    truth = np.zeros((200, 200), np.uint8)
    cv2.circle(truth, (110, 90), 40, 1, -1)
    mask, how = grabcut(image, None) or (None, "")
    assert how == "grabcut" and mask is not None and iou(mask, truth > 0) > 0.95
    assert grabcut(np.full((64, 64, 3), 90, np.uint8), None) is None


def test_where_grabcut_fails_a_portrait_has_the_region_of_its_box() -> None:
    mask, how = grabcut(np.full((64, 64, 3), 90, np.uint8), np.array([-9, -9, 73, 73])) or (None, "")
    assert how == "region" and mask is not None and mask[30, 32]


def test_of_a_mask_the_part_counts_that_hangs_together_with_the_face() -> None:
    mask = np.zeros((96, 96), bool)
    mask[20:60, 30:70] = True
    mask[80:90, 5:15] = True  # another thing, which is not the person of the face
    own = own_part(mask, np.array([35, 25, 65, 55]))
    assert own[40, 50] and not own[85, 10] and own.sum() == 40 * 40
