"""CLIP-I, DINO and their kind: likeness of whole images to the subject's photos, by a frozen image network."""

from torch import Tensor

from metrics.base import PEOPLE, Judge, Metric, Need
from metrics.conventions import PresetColumn, over_images
from metrics.judges import JudgedImages, where


class ImageSimilarity(Metric):
    """Mean raw cosine to the held-out photos.

    ``judge`` is the key of the network, ``view`` its name in :class:`metrics.judges.Observation`. ``name`` and
    ``title`` are the column's.
    """

    group = "image"
    rule = "cos-mean-held-out|x1"
    about = "mean cosine of whole image and held-out photos"
    needs: frozenset[Need] = frozenset({"image", "gallery"})
    guards: tuple[str, ...] = ("copy_paste", "subject_copy_paste")
    source = "DreamBooth, arXiv 2208.12242, with held-out photos in place of the method's own"

    def __init__(self, judge: Judge, view: str, name: str, title: str) -> None:
        self.judge = judge
        self.view = view
        self.name = name
        self.title = title

    def score(self, judged: JudgedImages) -> Tensor:
        return judged.to_photos(self.view)


class ForegroundSimilarity(ImageSimilarity):
    """The same of the person alone, the background grey."""

    rule = "cos-mean-held-out|x1|person region from the face's box, the rest grey|found-only"
    about = "the same of the person alone, background greyed out"
    kinds = PEOPLE
    needs = frozenset({"image", "gallery", "region"})
    guards = ("copy_paste",)

    def score(self, judged: JudgedImages) -> Tensor:
        return where(judged.found, judged.to_photos(f"{self.view}_foreground"))


class SimilarityToReference(ImageSimilarity):
    """Raw cosine to the photo that the method saw."""

    rule = "cos-reference|x1"
    about = "cosine of whole image and the photo that the method saw"
    needs = frozenset({"image", "reference"})
    source = "DreamBooth, arXiv 2208.12242"

    presets = (PresetColumn("dreambench", "similarity of whole images to the reference", over_images),)

    def score(self, judged: JudgedImages) -> Tensor:
        return judged.to_reference(self.view)


METRICS: tuple[Metric, ...] = (
    ImageSimilarity("clip", "clip", "clip_i", "CLIP-I"),
    ForegroundSimilarity("clip", "clip", "clip_i_foreground", "CLIP-I, person"),
    SimilarityToReference("clip", "clip", "clip_i_to_reference", "CLIP-I to reference"),
    ImageSimilarity("image_backbone", "image", "image_similarity", "image similarity"),
    ForegroundSimilarity("image_backbone", "image", "image_similarity_foreground", "image similarity, person"),
    SimilarityToReference("image_backbone", "image", "image_similarity_to_reference", "image similarity to reference"),
)
