import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.functional.copy_paste import angle, copy_paste_score


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def degrees(a: np.ndarray, b: np.ndarray) -> float:
    return math.degrees(math.acos(float(np.clip(a @ b, -1, 1))))


def by_hand(faces: Tensor, references: Tensor, held_out: Tensor) -> list[float]:
    """MultiID-Bench's formula photo by photo, with arccos, averaged by hand."""
    values = []
    for face, photo, others in zip(faces.numpy(), references.numpy(), held_out.numpy(), strict=True):
        real = [other for other in others if np.any(other)]
        scores = [(degrees(face, o) - degrees(face, photo)) / degrees(o, photo) for o in real]
        values.append(sum(scores) / len(scores))
    return values


def test_scores_are_those_of_the_formula_averaged_over_photos() -> None:
    held_out = unit(6, 4, 8, seed=32)
    held_out[:3, 3] = 0.0  # galleries with fewer photos
    faces, references = unit(6, 8, seed=30), unit(6, 8, seed=31)
    expected = by_hand(faces, references, held_out)
    np.testing.assert_allclose(copy_paste_score(faces, references, held_out), expected, atol=1e-9)


def test_a_copy_is_1_and_the_held_out_photo_is_minus_1() -> None:
    photo, other = unit(1, 8, seed=1), unit(1, 1, 8, seed=2)
    assert float(copy_paste_score(photo, photo, other)) == pytest.approx(1.0, abs=1e-9)
    assert float(copy_paste_score(other[:, 0], photo, other)) == pytest.approx(-1.0, abs=1e-9)
    between = F.normalize(photo + other[:, 0], dim=-1)
    assert float(copy_paste_score(between, photo, other)) == pytest.approx(0.0, abs=1e-9)


def test_a_photo_that_is_the_reference_says_nothing() -> None:
    photo = unit(1, 8, seed=3)
    assert copy_paste_score(unit(1, 8, seed=4), photo, photo[None]).isnan().all()


def test_a_reference_without_a_face_says_nothing() -> None:
    assert copy_paste_score(unit(1, 8, seed=4), torch.zeros(1, 8), unit(1, 2, 8, seed=5)).isnan().all()


def test_small_angles_are_exact() -> None:
    """The arccosine of a float32 cosine would give 0 for angles below 3e-4."""
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[math.cos(1e-4), math.sin(1e-4)]], dtype=torch.float64)
    assert float(angle(a, b)) == pytest.approx(1e-4, rel=1e-6)
