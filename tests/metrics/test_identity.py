import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from metrics.functional.identity import gallery_mean, gallery_similarity


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_similarity_is_the_mean_cosine_over_the_photos() -> None:
    faces, gallery = unit(3, 16, seed=5), unit(7, 16, seed=6)
    expected = cosine_similarity(faces.numpy(), gallery.numpy()).mean(axis=1)
    got = gallery_similarity(faces, gallery_mean(gallery).expand(3, -1))
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)


def test_opposite_faces_keep_their_sign() -> None:
    face = unit(1, 16, seed=7)
    assert float(gallery_similarity(face, -face.double())) < -0.99
