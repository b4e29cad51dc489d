import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from metrics.functional.identity import gallery_mean, gallery_similarity, identity_preservation
from metrics.identity import IdentityPreservation
from tests.helpers.metric_tester import Values, assert_close, check_metric, values_of


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def reference(embeddings: Tensor, found: Tensor, galleries: Tensor) -> Values:
    """Written with NumPy from the definition: a miss is left out, or counts as 0."""
    cosines = np.sum(embeddings.numpy().astype(np.float64) * galleries.numpy().astype(np.float64), axis=1)
    hits = cosines[found.numpy()]
    return {
        "detection_rate": float(np.mean(found.numpy())),
        "identity_given_detection": float(np.mean(hits)) if len(hits) else math.nan,
        "identity_misses_zero": float(np.mean(np.where(found.numpy(), cosines, 0.0))),
    }


def batch(size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    found = torch.rand(size, generator=torch.Generator().manual_seed(seed)) < 0.7
    galleries = torch.stack([gallery_mean(unit(4, 16, seed=100 * seed + i)) for i in range(size)])
    return unit(size, 16, seed=seed), found, galleries


def test_every_way_of_counting_agrees() -> None:
    check_metric(IdentityPreservation, [batch(5, 1), batch(1, 2), batch(8, 3)], reference)


def test_no_face_at_all() -> None:
    embeddings, _, galleries = batch(3, 4)
    embeddings[1] = torch.nan
    got = values_of(identity_preservation(embeddings, torch.zeros(3, dtype=torch.bool), galleries))
    assert_close(got, {"detection_rate": 0.0, "identity_given_detection": math.nan, "identity_misses_zero": 0.0})


def test_similarity_is_the_mean_cosine_over_the_photos() -> None:
    faces, gallery = unit(3, 16, seed=5), unit(7, 16, seed=6)
    expected = cosine_similarity(faces.numpy(), gallery.numpy()).mean(axis=1)
    got = gallery_similarity(faces, gallery_mean(gallery).expand(3, -1))
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)


def test_opposite_faces_keep_their_sign() -> None:
    face = unit(1, 16, seed=7)
    values = identity_preservation(face, torch.tensor([True]), -face.double())
    assert float(values["identity_given_detection"]) < -0.99
