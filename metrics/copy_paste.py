"""The copy-paste score as a torchmetrics class."""

import torch
from torch import Tensor

from metrics.functional.copy_paste import copy_paste_score
from metrics.mean import MeanScore


class CopyPaste(MeanScore):
    """Mean copy-paste score of the images with a face: 1 is a copy of the reference, -1 the held-out photo."""

    higher_is_better = False

    def scores(self, faces: Tensor, found: Tensor, references: Tensor, held_out: Tensor) -> Tensor:  # type: ignore[override]
        """Unit embeddings (B, D), ``found`` (B,) bool, references (B, D), photos (B, K, D) with zeros for none."""
        return torch.where(found, copy_paste_score(faces, references, held_out), torch.nan)
