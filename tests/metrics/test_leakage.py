import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.functional.leakage import (
    background_leakage,
    class_copied,
    clothes_colour,
    fit_pose_reader,
    landmark_shape,
    nearest_class,
    pose_leakage,
)
from pocket.render.dataset import clothes_class
from pocket.render.factors import draw_shot, draw_subject
from pocket.render.renderer import render


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


MEANS = 0.8 * unit(4, 6, seed=77)


def matrix(yaw: float, pitch: float, roll: float) -> np.ndarray:
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def test_background_leakage_is_the_difference_of_two_cosines() -> None:
    features, own, others = unit(5, 6, seed=1), unit(5, 6, seed=2), unit(5, 6, seed=3)
    rows = zip(features.tolist(), own.tolist(), others.tolist(), strict=True)
    expected = [sum(a * (b - c) for a, b, c in zip(*row, strict=True)) for row in rows]
    np.testing.assert_allclose(background_leakage(features, own, others), expected, atol=1e-12)


def test_a_background_is_copied_where_the_references_class_is_the_nearest() -> None:
    """Squared distances to every class mean, in a loop."""
    draws = torch.Generator().manual_seed(1)
    own = torch.randint(0, len(MEANS), (40,), generator=draws)
    # Every second image shows the reference's background, with some noise.
    shown = torch.where(torch.arange(40) % 2 == 0, own, torch.randint(0, len(MEANS), (40,), generator=draws))
    features = F.normalize(MEANS[shown] + 0.2 * unit(40, 6, seed=1), dim=-1)
    expected = []
    for row, mine in zip(features.tolist(), own.tolist(), strict=True):
        distances = [sum((a - b) ** 2 for a, b in zip(row, mean, strict=True)) for mean in MEANS.tolist()]
        expected.append(float(distances.index(min(distances)) == mine))
    assert class_copied(features, own, MEANS).tolist() == expected
    assert 0.4 < np.mean(expected) < 0.95, "both outcomes occur"


def test_one_class_of_backgrounds_tells_nothing() -> None:
    features, own = unit(3, 6, seed=1), torch.zeros(3, dtype=torch.int64)
    assert class_copied(features, own, MEANS[:1]).isnan().all()


def test_pose_leakage_falls_with_the_angle_of_the_rotation_between_two_poses() -> None:
    """Rotation matrices written out; the angle between two of them from the trace."""
    draw = 25 * torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64).numpy()
    cosines = [(np.trace(matrix(*a) @ matrix(*b).T) - 1) / 2 for a, b in zip(*draw, strict=True)]
    expected = [max(0.0, 1 - math.degrees(math.acos(np.clip(c, -1, 1))) / 45) for c in cosines]
    np.testing.assert_allclose(pose_leakage(*draw), expected, atol=1e-6)


def test_the_reference_pose_is_1_and_45_degrees_away_is_0() -> None:
    poses = np.array([[10.0, 5.0, 0.0], [55.0, 5.0, 0.0], [32.5, 5.0, 0.0]])
    upright = np.array([[10.0, 0.0, 0.0], [55.0, 0.0, 0.0], [32.5, 0.0, 0.0]])
    assert pose_leakage(poses, poses).tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert pose_leakage(upright, upright[:1].repeat(3, 0)).tolist() == pytest.approx([1.0, 0.0, 0.5])


def test_the_nearest_class_is_found() -> None:
    means = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert nearest_class(torch.tensor([[0.9, 0.2], [0.1, 0.5]]), means).tolist() == [0, 1]


def test_landmarks_tell_the_pose_of_faces_that_were_not_fitted() -> None:
    """A made-up head with five points in space, turned and seen from the front, at any place and size."""
    head = np.array([[-1, -1, 0], [1, -1, 0], [0, 0, 1], [-0.7, 1, 0.2], [0.7, 1, 0.2]], np.float64)
    rng = np.random.default_rng(0)
    poses = rng.uniform(-25, 25, (120, 3))
    landmarks = np.stack([(matrix(*p) @ head.T).T[:, :2] for p in poses]) * 9 + rng.uniform(10, 50, (120, 1, 2))
    weights = fit_pose_reader(landmarks[:80], poses[:80])
    error = np.abs(landmark_shape(landmarks[80:]) @ weights - poses[80:])
    assert error.mean() < 3.0


def test_one_photo_is_enough_to_read_something() -> None:
    weights = fit_pose_reader(np.ones((1, 5, 2)), np.array([[3.0, 2.0, 1.0]]))
    assert np.isfinite(weights).all()


def test_where_a_pose_is_not_known_nothing_is_said() -> None:
    poses = np.array([[10.0, 5.0, 0.0], [np.nan] * 3, [1.0, 2.0, 3.0]])
    references = np.array([[10.0, 5.0, 0.0], [1.0, 2.0, 3.0], [0.0, np.nan, 0.0]])
    leaked = pose_leakage(poses, references)
    assert leaked[0] == pytest.approx(1.0) and leaked[1:].isnan().all()
    assert pose_leakage(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0,)
    assert np.isnan(fit_pose_reader(np.zeros((0, 5, 2)), np.zeros((0, 3)))).all(), "no photo to learn from"


def test_the_colour_of_clothes_is_read_below_the_face_and_nowhere_else() -> None:
    image = np.full((64, 64, 3), 255, np.uint8)
    image[43:, 20:40] = (200, 40, 40)
    box = np.array([20.0, 8.0, 40.0, 36.0])
    known = cv2.cvtColor(np.full((1, 1, 3), (200, 40, 40), np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    np.testing.assert_allclose(clothes_colour(image, box), known, atol=1e-3)
    low = np.array([20.0, 32.0, 40.0, 60.0])
    np.testing.assert_allclose(clothes_colour(image, low), known, atol=1e-3, err_msg="a close portrait's last rows")
    assert np.isnan(clothes_colour(image, np.full(4, -50.0))).all()


def test_renders_of_subjects_that_were_not_seen_are_read_right() -> None:
    """Colour and pattern, among the 16 kinds of clothes of the pocket world."""
    colours, kinds = {}, {}
    for name, numbers in {"known": range(60), "new": range(60, 80)}.items():
        shots = [(i, draw_shot(f"{i}/{j}", style="photo", accessories=False)) for i in numbers for j in range(3)]
        drawn = [render(draw_subject(f"clothes/{i}"), shot) for i, shot in shots]
        found = np.stack([clothes_colour(one.image, one.bbox) for one in drawn])
        shown = np.isfinite(found).all(axis=1)
        assert shown.mean() > 0.95
        colours[name], kinds[name] = found[shown], np.array([clothes_class(shot) for _, shot in shots])[shown]
    classes = np.unique(kinds["known"])
    means = np.stack([colours["known"][kinds["known"] == kind].mean(axis=0) for kind in classes])
    read = classes[nearest_class(torch.from_numpy(colours["new"]), torch.from_numpy(means)).numpy()]
    assert (read == kinds["new"]).mean() > 0.85 and (read // 2 == kinds["new"] // 2).mean() > 0.95
