"""Copy-paste: is a face nearer to the photo that was seen than to other photos of the subject?"""

from torch import Tensor

from metrics.base import PEOPLE, Metric
from metrics.conventions import PresetColumn, outliers_removed_one_face
from metrics.functional.copy_paste import copy_paste_score
from metrics.judges import JudgedImages, where

FORMULA = "(angle(held-out)-angle(reference))/angle(held-out,reference)"
_PRESET = "copy-paste score, mean over the held-out photos, images with one face"


class CopyPaste(Metric):
    """1 is a copy of the reference, 0 as near to it as to other photos, -1 is a held-out photo."""

    name = "copy_paste"
    title = "copy-paste"
    group = "identity"
    judge = "faces"
    rule = f"{FORMULA}|mean-over-held-out|arccos of the cosine|found-only"
    about = "1 is a copy of the reference, 0 as near to it as to other photos, -1 is a held-out photo"
    needs = frozenset({"image", "reference", "gallery"})
    kinds = PEOPLE
    higher_is_better = False
    headline = True
    source = "MultiID-Bench (WithAnyone, arXiv 2510.14975), its angles averaged over several other photos"
    presets = (PresetColumn("multiid", _PRESET, outliers_removed_one_face),)

    def score(self, judged: JudgedImages) -> Tensor:
        faces, references = judged.features("faces"), judged.references("faces")
        return where(judged.found, copy_paste_score(faces, references, judged.held_out("faces")))


METRICS: tuple[Metric, ...] = (CopyPaste(),)
