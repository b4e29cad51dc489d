"""Own faces and outliers, on embeddings whose people are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from curation.agreement import agree

WIDTH = 64


class People:
    """Unit embeddings of people: a direction each, noise, and a part ``common`` that all faces share."""

    def __init__(self, common: float = 0.0) -> None:
        self.rng = np.random.default_rng(0)
        self.shared = common * self._unit()
        self.people: dict[str, NDArray] = {}

    def _unit(self) -> NDArray:
        vector = self.rng.normal(size=WIDTH)
        return vector / np.linalg.norm(vector)

    def face(self, name: str) -> NDArray[np.float32]:
        person = self.people.setdefault(name, self._unit())
        face = self.shared + person + 0.6 * self._unit()
        return (face / np.linalg.norm(face)).astype(np.float32)

    def photo(self, *names: str) -> NDArray[np.float32]:
        return np.stack([self.face(name) for name in names]) if names else np.zeros((0, 0), np.float32)


@pytest.mark.parametrize("common", [0.0, 2.5], ids=["centred", "not centred"])
def test_outliers_and_own_faces_do_not_depend_on_whether_the_pack_is_centred(common: float) -> None:
    world = People(common)
    embeddings = {
        "ann": [world.photo("ann") for _ in range(5)] + [world.photo("bob"), world.photo("eve", "ann"), world.photo()],
        "bob": [world.photo("bob") for _ in range(6)] + [world.photo("eve", "dan")],
        "cat": [world.photo("cat") for _ in range(4)],
    }
    found = agree(embeddings)
    assert found["ann"].faces.tolist() == [0, 0, 0, 0, 0, 0, 1, -1]
    assert found["ann"].agreeing.tolist() == [True] * 5 + [False, True, False]
    assert found["bob"].agreeing.tolist() == [True] * 6 + [False]
    assert found["cat"].agreeing.all()
    assert found["ann"].strangers < found["ann"].limit < found["ann"].level
    assert "other people" in found["ann"].by


@pytest.mark.parametrize("common", [0.0, 2.5])
def test_one_subject_alone_is_compared_with_itself(common: float) -> None:
    world = People(common)
    found = agree({"ann": [world.photo("ann") for _ in range(7)] + [world.photo("bob")]})["ann"]
    assert found.agreeing.tolist() == [True] * 7 + [False]
    assert "too few other people" in found.by
    assert np.isnan(found.strangers)


def test_bystanders_are_strangers_too() -> None:
    world = People(2.5)
    photos = [world.photo("ann", f"passer {i}") for i in range(9)] + [world.photo("bob")]
    found = agree({"ann": photos})["ann"]
    assert found.faces[:9].tolist() == [0] * 9
    assert found.agreeing.tolist() == [True] * 9 + [False]
    assert "9 faces of other people" in found.by


def test_two_photos_that_differ_are_both_nobodys_and_one_photo_is_taken() -> None:
    world = People()
    crowd = {f"p{i}": [world.photo(f"p{i}") for _ in range(3)] for i in range(4)}
    found = agree({**crowd, "two": [world.photo("x"), world.photo("y")], "one": [world.photo("z")], "none": []})
    assert not found["two"].agreeing.any()
    assert found["one"].agreeing.tolist() == [True]
    assert found["none"].agreeing.tolist() == []


def test_many_equal_photos_agree() -> None:
    face = People().photo("ann")
    assert agree({"ann": [face] * 6})["ann"].agreeing.all()
