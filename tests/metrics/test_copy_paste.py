import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.copy_paste import CopyPaste
from metrics.functional.copy_paste import angle, copy_paste_score
from tests.helpers.metric_tester import Values, check_metric


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def degrees(a: np.ndarray, b: np.ndarray) -> float:
    return math.degrees(math.acos(float(np.clip(a @ b, -1, 1))))


def reference(faces: Tensor, found: Tensor, references: Tensor, held_out: Tensor) -> Values:
    """MultiID-Bench's formula photo by photo, with arccos, averaged by hand."""
    values = []
    for face, seen, photo, others in zip(faces.numpy(), found, references.numpy(), held_out.numpy(), strict=True):
        if seen:
            real = [other for other in others if np.any(other)]
            scores = [(degrees(face, o) - degrees(face, photo)) / degrees(o, photo) for o in real]
            values.append(sum(scores) / len(scores))
    return {"": sum(values) / len(values) if values else math.nan}


def batch(size: int, seed: int) -> tuple[Tensor, ...]:
    held_out = unit(size, 4, 8, seed=seed + 2)
    held_out[: size // 2, 3] = 0.0  # a gallery with fewer photos
    found = torch.arange(size) % 3 != 2
    return unit(size, 8, seed=seed), found, unit(size, 8, seed=seed + 1), held_out


def test_every_way_of_counting_agrees() -> None:
    check_metric(CopyPaste, [batch(4, 10), batch(1, 20), batch(6, 30)], reference)


def test_a_copy_is_1_and_the_held_out_photo_is_minus_1() -> None:
    photo, other = unit(1, 8, seed=1), unit(1, 1, 8, seed=2)
    assert float(copy_paste_score(photo, photo, other)) == pytest.approx(1.0, abs=1e-9)
    assert float(copy_paste_score(other[:, 0], photo, other)) == pytest.approx(-1.0, abs=1e-9)
    between = F.normalize(photo + other[:, 0], dim=-1)
    assert float(copy_paste_score(between, photo, other)) == pytest.approx(0.0, abs=1e-9)


def test_a_photo_that_is_the_reference_says_nothing() -> None:
    photo = unit(1, 8, seed=3)
    assert copy_paste_score(unit(1, 8, seed=4), photo, photo[None]).isnan().all()


def test_small_angles_are_exact() -> None:
    """The arccosine of a float32 cosine would give 0 for angles below 3e-4."""
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[math.cos(1e-4), math.sin(1e-4)]], dtype=torch.float64)
    assert float(angle(a, b)) == pytest.approx(1e-4, rel=1e-6)
