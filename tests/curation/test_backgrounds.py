"""Background classes."""

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score

from curation.backgrounds import background_classes, without_subject


def blobs(classes: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, 16))
    labels = np.arange(classes * each) % classes
    return (centres[labels] + 0.2 * rng.normal(size=(len(labels), 16))).astype(np.float32), labels


def test_classes_are_found_with_their_number_and_again_the_same() -> None:
    features, truth = blobs(6, 12)
    labels, how = background_classes(features, None, 0)
    assert labels is not None and adjusted_mutual_info_score(truth, labels) > 0.99
    assert how.startswith("6 k-means clusters")
    assert np.array_equal(labels, background_classes(features, None, 0)[0])
    sizes = np.bincount(labels)
    assert (sizes[:-1] >= sizes[1:]).all()


def test_the_number_may_be_told() -> None:
    labels, how = background_classes(blobs(6, 12)[0], 3, 0)
    assert labels is not None and len(set(labels.tolist())) == 3 and "as told" in how


def test_too_few_photos_have_no_classes() -> None:
    features, _ = blobs(2, 3)
    assert background_classes(features, None, 0)[0] is None
    assert background_classes(blobs(4, 4)[0], 9, 0) == (None, "unknown: 16 photos are too few for 9 clusters")


def test_the_subject_is_painted_over_and_a_little_around_it() -> None:
    crop = np.full((64, 64, 3), (10, 200, 30), np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[20:64, 20:44] = True
    crop[mask] = 255
    painted = without_subject(crop, mask)
    assert painted is not None and (painted == (10, 200, 30)).all()
    assert without_subject(crop, np.ones((64, 64), bool)) is None
