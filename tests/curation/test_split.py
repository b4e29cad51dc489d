"""Splits and references."""

import numpy as np

from curation.split import references, split_of

SHARES = (0.8, 0.1, 0.1)


def test_shares_are_kept_and_nobody_depends_on_the_others() -> None:
    names = [f"subject {i}" for i in range(4000)]
    splits = [split_of(name, SHARES, 0) for name in names]
    counts = {split: splits.count(split) / len(names) for split in ("train", "val", "test")}
    assert np.allclose(list(counts.values()), SHARES, atol=0.02)
    assert splits == [split_of(name, SHARES, 0) for name in names]
    assert splits != [split_of(name, SHARES, 1) for name in names]
    # A larger share of test takes from the others and moves nobody out of test.
    assert all(split_of(n, (0.5, 0.1, 0.4), 0) == "test" for n, s in zip(names, splits, strict=True) if s == "test")
    assert {split_of(name, (0, 0, 1), 0) for name in names} == {"test"}


def test_the_reference_is_the_most_frontal_then_the_largest_and_one_photo_is_left() -> None:
    poses = [np.array([30.0, 0, 0]), np.array([2.0, 1, 40]), np.array([2.2, 1, 0]), None]
    assert references(poses, [9, 5, 7, 99], ["a", "b", "c", "d"], 1) == [2]
    assert references(poses, [9, 5, 7, 99], ["a", "b", "c", "d"], 2) == [1, 2]
    assert references(poses, [9, 5, 7, 99], ["a", "b", "c", "d"], 9) == [0, 1, 2]
    assert references([None, None], [5, 5], ["a", "b"], 1) == [0]
