"""What a dataset is said to feed is what training can be fed with."""

from curation.feeds import feeds_of


def rows(subjects: int, poses: int, backgrounds: int, split: str = "train") -> list[dict]:
    return [
        {
            "subject_id": f"{split}{s}",
            "pose_id": p,
            "background_id": (p + b) % backgrounds if backgrounds else None,
            "landmarks": [[0.0, 0.0]] * 5,
            "mask_from": "grabcut",
            "split": split,
            "role": None if split == "train" else "held_out" if p else "reference",
        }
        for s in range(subjects)
        for p in range(poses)
        for b in range(max(backgrounds, 1))
    ]


def said(found: list[dict]) -> dict[str, tuple[bool, str]]:
    return {feed.use: (feed.possible, feed.why) for feed in feeds_of(found)}


def test_a_grid_feeds_all_and_says_how_large_a_batch_may_be() -> None:
    found = said(rows(6, 3, 3) + rows(2, 2, 1, "test") + rows(1, 2, 1, "val"))
    assert all(possible for possible, _ in found.values())
    assert "3 pose classes and 3 background classes" in found["pose and background experts"][1]
    assert "batch_size up to 32" in found["pose and background experts"][1]
    assert "2 subjects, 2 references, 2 held-out" in found["evaluation and methods that train per subject"][1]


def test_experts_need_classes_that_two_subjects_share() -> None:
    use = "pose and background experts"
    assert "give --clip" in said(rows(6, 3, 0))[use][1]
    alone = said(rows(1, 3, 3))[use]
    assert not alone[0] and "two training subjects share" in alone[1]
    one_pose = said(rows(6, 1, 3))[use]
    assert not one_pose[0] and "at least two poses" in one_pose[1]


def test_nobody_trains_and_objects_have_no_faces() -> None:
    found = said(rows(3, 2, 2, "test"))
    assert [possible for possible, _ in found.values()] == [False, False, False, False, True]
    things = [{**row, "landmarks": None} for row in rows(2, 2, 2)]
    assert said(things)["methods that read faces"] == (False, "no training photo has a face")
    assert said(rows(2, 1, 1))["cross-view pairs"][0] is False
