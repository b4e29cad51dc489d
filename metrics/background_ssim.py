"""How alike the backgrounds of one prompt's samples are, pixel by pixel."""

from itertools import combinations, groupby

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from metrics.base import PEOPLE, Metric
from metrics.judges import JudgedImages
from metrics.regions import WIDE, person_region


class BackgroundSsim(Metric):
    """Mean SSIM of an image's background to those of the other samples of its prompt.

    SSIM is computed on whole images; its map is averaged over the pixels that are background in both. A method that
    gives every sample the same background is near 1. An image without a face has no known background, and so no score.
    """

    name = "background_ssim"
    title = "background SSIM"
    group = "diversity"
    judge = "faces"
    rule = "ssim-gauss11-sigma1.5|mean over pairs of samples|both person regions left out|found-only"
    about = "likeness of the backgrounds of one prompt's samples; 1 is the same background every time"
    kinds = PEOPLE
    needs = frozenset({"image", "samples", "region"})
    higher_is_better = False
    source = "SSIM (Wang et al. 2004, doi 10.1109/TIP.2003.819861), computed by torchmetrics"

    def score(self, judged: JudgedImages) -> Tensor:
        """Groups must be whole."""
        total = torch.zeros(len(judged.requests), dtype=torch.float64)
        pairs = torch.zeros(len(judged.requests), dtype=torch.float64)
        pixels = torch.from_numpy(judged.images).permute(0, 3, 1, 2).float() / 255
        height, width = judged.images.shape[1:3]
        for _, group in groupby(range(len(judged.requests)), lambda i: _group(judged, i)):
            shown = [i for i in group if bool(judged.found[i])]
            hidden = {i: person_region(judged.seen.judged.boxes[i], height, width, WIDE) for i in shown}
            for a, b in combinations(shown, 2):
                background = torch.from_numpy(~(hidden[a] | hidden[b]))
                if background.any():
                    likeness = _ssim_map(pixels[a], pixels[b])[:, background].mean()
                    total[[a, b]] += likeness
                    pairs[[a, b]] += 1
        return total / pairs


def _group(judged: JudgedImages, i: int) -> tuple[str, str]:
    return judged.requests[i].subject, judged.requests[i].prompt_id


def _ssim_map(first: Tensor, second: Tensor) -> Tensor:
    """SSIM at every pixel (3, H, W) of two images (3, H, W) in 0..1, in float64."""
    _, whole = structural_similarity_index_measure(
        first[None].double(), second[None].double(), data_range=1.0, return_full_image=True
    )
    return whole[0]


METRICS: tuple[Metric, ...] = (BackgroundSsim(),)
