import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from metrics.functional.identity import gallery_mean
from metrics.image_similarity import ImageSimilarity
from tests.helpers.metric_tester import Values, check_metric

PHOTOS = F.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64), dim=-1)


def reference(features: Tensor, galleries: Tensor) -> Values:
    """scikit-learn's cosine of every pair, over the images that have a foreground."""
    known = [f for f in features.numpy() if np.any(f)]
    return {"": float(cosine_similarity(known, PHOTOS.numpy()).mean()) if known else math.nan}


def batch(size: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = F.normalize(torch.randn(size, 8, generator=generator, dtype=torch.float64), dim=-1)
    features[1::4] = 0.0
    return features, gallery_mean(PHOTOS).expand(size, -1)


def test_every_way_of_counting_agrees() -> None:
    check_metric(ImageSimilarity, [batch(6, 1), batch(1, 2), batch(3, 3)], reference)
