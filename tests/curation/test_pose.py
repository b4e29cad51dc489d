"""Poses from landmarks: of a face that is turned by known angles, mirrored, and differs from the generic one."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from curation.pose import estimate, pose_class
from pocket.render.factors import POSES
from tests.helpers.photos import rendered

LONG_FACE = np.array([[-1, -1.2, 0.8], [1, -1.2, 0.8], [0, 0, 0], [-0.7, 1.3, 0.6], [0.7, 1.3, 0.6]])
MIRRORED = [1, 0, 2, 4, 3]


def seen(face: NDArray, yaw: float, pitch: float, roll: float) -> NDArray[np.float32]:
    """The landmarks (5, 2) of a face that looks to the viewer's right by yaw, up by pitch, and is turned clockwise."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    points = face @ (about_z @ about_y @ about_x).T
    return (100 + 30 * points[:, :2] / (1 + points[:, 2:] / 40)).astype(np.float32)


ANGLES = [(y, p, r) for y in (-40, -20, 0, 20, 40) for p in (-12, 0, 12) for r in (-15, 0, 15)]


def test_angles_of_a_face_that_differs_from_the_generic_one() -> None:
    found = estimate([seen(LONG_FACE, *angles) for angles in ANGLES], ["a"] * len(ANGLES))
    assert (np.abs(found - ANGLES).mean(axis=0) < [2, 5, 1]).all()  # which pitch is level is a belief
    for axis, least in enumerate((0.98, 0.85, 0.98)):
        assert spearmanr(found[:, axis], np.array(ANGLES)[:, axis])[0] > least


def test_a_mirror_image_has_the_opposite_yaw_and_roll() -> None:
    landmarks = [seen(LONG_FACE, *angles) for angles in ANGLES]
    mirrored = [marks[MIRRORED] * [-1, 1] for marks in landmarks]
    found = estimate(landmarks + mirrored, ["a"] * 2 * len(ANGLES)).reshape(2, -1, 3)
    np.testing.assert_allclose(found[0] * [-1, 1, -1], found[1], atol=0.5)


def test_renders_of_the_pocket_world_have_the_poses_that_they_were_rendered_with() -> None:
    subjects = [f"q{i}" for i in range(6)]
    landmarks = [rendered(s, n).landmarks for s in subjects for n in range(6)]
    found = estimate(landmarks, [s for s in subjects for _ in range(6)]).reshape(6, 6, 3)
    true = np.array(POSES[:6])
    assert np.abs(found[:, 1, 0].mean() - true[1, 0]) < 12 and np.abs(found[:, 2, 0].mean() - true[2, 0]) < 12
    assert np.abs(found[:, 5, 2].mean() - true[5, 2]) < 4
    assert (found[:, 3, 1] > found[:, 4, 1]).all()


def test_classes_are_bins_and_0_is_frontal() -> None:
    at = [-90, -30, 0, 30, 90]
    classes = {(y, p, r): pose_class(np.array([y, p, r])) for y in at for p in (-20, 0, 20) for r in (-30, 0, 30)}
    assert classes[0, 0, 0] == 0
    assert len(set(classes.values())) == 5 * 3 * 3 == max(classes.values()) + 1
    assert pose_class(np.array([14.0, 9.0, -5.0])) == 0


def test_nothing_has_no_pose() -> None:
    assert estimate([], []).shape == (0, 3)
