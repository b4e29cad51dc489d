import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.functional.leakage import background_copied, fit_pose_reader, landmark_shape, nearest_class, pose_leakage
from metrics.leakage import BackgroundCopied, BackgroundLeakage, PoseLeakage
from tests.helpers.metric_tester import Values, check_metric


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def background_reference(features: Tensor, own: Tensor, others: Tensor) -> Values:
    """Two cosines per image, in a loop."""
    rows = zip(features.tolist(), own.tolist(), others.tolist(), strict=True)
    values = [sum(a * (b - c) for a, b, c in zip(*row, strict=True)) for row in rows if any(row[0]) and any(row[2])]
    return {"": sum(values) / len(values) if values else math.nan}


def background_batch(size: int, seed: int) -> tuple[Tensor, ...]:
    features = unit(size, 6, seed=seed)
    features[2::3] = 0.0
    return features, unit(size, 6, seed=seed + 1), unit(size, 6, seed=seed + 2)


MEANS = 0.8 * unit(4, 6, seed=77)


def copied_reference(features: Tensor, own: Tensor, asked: Tensor) -> Values:
    """Squared distances to every class mean, in a loop."""
    values = []
    for row, mine, named in zip(features.tolist(), own.tolist(), asked.tolist(), strict=True):
        distances = [sum((a - b) ** 2 for a, b in zip(row, mean, strict=True)) for mean in MEANS.tolist()]
        if any(row) and not named:
            values.append(float(distances.index(min(distances)) == mine))
    return {"": sum(values) / len(values) if values else math.nan}


def copied_batch(size: int, seed: int) -> tuple[Tensor, ...]:
    draws = torch.Generator().manual_seed(seed)
    own = torch.randint(0, len(MEANS), (size,), generator=draws)
    # Every second image shows the reference's background, with some noise.
    shown = torch.where(torch.arange(size) % 2 == 0, own, torch.randint(0, len(MEANS), (size,), generator=draws))
    features = F.normalize(MEANS[shown] + 0.2 * unit(size, 6, seed=seed), dim=-1)
    features[3::4] = 0.0
    return features, own, torch.arange(size) % 5 == 1


def matrix(yaw: float, pitch: float, roll: float) -> np.ndarray:
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def pose_reference(poses: Tensor, references: Tensor) -> Values:
    """Rotation matrices written out; the angle between two of them from the trace."""
    values = []
    for a, b in zip(poses.tolist(), references.tolist(), strict=True):
        if not math.isnan(a[0]):
            cosine = (np.trace(matrix(*a) @ matrix(*b).T) - 1) / 2
            values.append(max(0.0, 1 - math.degrees(math.acos(np.clip(cosine, -1, 1))) / 45))
    return {"": sum(values) / len(values) if values else math.nan}


def pose_batch(size: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = 25 * torch.randn(2, size, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    draw[0, 1::3] = torch.nan
    return draw[0], draw[1]


def test_every_way_of_counting_backgrounds_agrees() -> None:
    check_metric(BackgroundLeakage, [background_batch(4, 1), background_batch(1, 9), background_batch(5, 20)],
                 background_reference)  # fmt: skip


def test_every_way_of_counting_copied_backgrounds_agrees() -> None:
    check_metric(lambda: BackgroundCopied(MEANS), [copied_batch(6, 1), copied_batch(1, 9), copied_batch(7, 20)],
                 copied_reference)  # fmt: skip
    shares = [copied_reference(*copied_batch(40, seed))[""] for seed in range(3)]
    assert all(0.4 < share < 0.95 for share in shares), "both outcomes occur"


def test_one_class_of_backgrounds_tells_nothing() -> None:
    features, own = unit(3, 6, seed=1), torch.zeros(3, dtype=torch.int64)
    assert background_copied(features, own, MEANS[:1]).isnan().all()
    metric = BackgroundCopied(MEANS[:1])
    metric.update(features, own, torch.zeros(3, dtype=torch.bool))
    assert metric.compute().isnan()


def test_every_way_of_counting_poses_agrees() -> None:
    check_metric(PoseLeakage, [pose_batch(5, 1), pose_batch(1, 2), pose_batch(4, 3)], pose_reference)


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
