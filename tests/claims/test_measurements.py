"""Head poses read from renders whose pose is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from claims.measurements import PoseReader, pose_reader
from datamodules.subjects import SubjectPhotos
from networks.face_analysis import FacePack
from pocket.models.paths import FACES_B
from pocket.render.factors import POSES, draw_shot, draw_subject
from pocket.render.renderer import Render, render


def rendered(person: str, pose: tuple[float, float, float], shot: str = "shot") -> Render:
    return render(draw_subject(person), draw_shot(shot, pose, "studio", "photo", accessories=False))


def subject(name: str) -> SubjectPhotos:
    photos = np.stack([rendered(f"pose/{name}", pose).image for pose in POSES])
    poses = np.array(POSES, np.float32)
    return SubjectPhotos(name, "person", photos[0], photos[1:], poses, np.zeros(len(POSES), np.int64), ("",) * 8)


@pytest.fixture(scope="module")
def reader() -> PoseReader:
    return pose_reader(FacePack(FACES_B), [subject(str(i)) for i in range(6)])


def landmarks(person: str, pose: tuple[float, float, float]) -> NDArray[np.float32]:
    return np.asarray(rendered(person, pose).landmarks, np.float32)[None]


def test_the_turn_of_a_head_is_read_within_the_error(reader: PoseReader) -> None:
    assert 0.0 < reader.error < 10.0
    for to in ((30.0, 0.0, 0.0), (0.0, 0.0, 20.0)):
        (turn,) = reader.turn(landmarks("pose/new", (0.0, 0.0, 0.0)), landmarks("pose/new", to))
        assert turn == pytest.approx(max(to), abs=10.0)


def test_another_face_in_the_same_pose_has_not_turned(reader: PoseReader) -> None:
    turns = [reader.turn(landmarks(f"pose/a{i}", POSES[0]), landmarks(f"pose/b{i}", POSES[0]))[0] for i in range(8)]
    assert 0.0 < np.mean(turns) < 1.5 * reader.error
    assert reader.turn(landmarks("pose/a0", POSES[0]), landmarks("pose/a0", POSES[0]))[0] == 0.0
