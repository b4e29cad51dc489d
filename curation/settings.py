"""What a curation is configured by. Light on purpose: the command reads these before it loads anything heavy."""

from dataclasses import dataclass, field
from typing import Literal

from contracts.errors import LikenessError
from contracts.settings import DETECTION_SIDES, detection_sides


@dataclass
class CurationSettings:
    """How photos become a dataset.

    Args:
        source: Where the photos come from, in words; stands in every row. A column `source` of the metadata overrules
            it for its photo, as do `licence` and `consent`.
        licence: Terms under which the photos may be used; stands in every row.
        consent: Who agreed to this use of the photos, and how; stands in every row.
        faces: Face pack (a folder) that finds and compares the faces. Take another one than a method is conditioned on
            or judged by, if you have one.
        objects: The subjects are things or animals: no face is looked for. A column `has_face` of the metadata
            overrules it for its subject.
        noun: Class noun, which stands for the subject in a prompt; a column `subject_class` of the metadata overrules
            it.
        subjects: CSV file with a line per subject: `subject_id`, and any of `subject_class`, `subject_text`, `split`,
            `has_face`.
        shares: Shares of the subjects in train, val and test. Which is which depends on a subject's name and the seed
            only. A column `split` of the metadata overrules it.
        test_only: All subjects are test subjects: a set to evaluate on.
        references: Photos of each test and validation subject that a method may see; the others are held out.
        seed: Of the split and of the clusters.
        clip: CLIP folder whose features of the backgrounds are clustered; without it backgrounds stay unknown. It also
            chooses the words of captions that are not given: medium, expression, glasses, colour of the clothes, place.
        backgrounds: Number of background classes; chosen by how well clusters are apart unless given.
        masks: `grabcut` makes a mask where there is no alpha, no file beside the photo and no segmenter; `given` takes
            those alone; `none` takes none.
        segmenter: Segmentation model (ONNX) that makes the masks which are not given.
        captioner: Folder of a captioning model that writes the captions which are not given, in place of the CLIP.
        resolution: Largest side of an image in pixels; larger crops are made smaller.
        min_side: Smallest side of a crop in pixels; smaller ones are dropped.
        det_size: Sides of the detector's input in pixels; a photo is read at the first and at those that its size asks
            for.
        download: Whether a dataset of the hub may be downloaded; otherwise it must be in the hub's local cache already.
    """

    source: str
    licence: str
    consent: str
    faces: str | None = None
    objects: bool = False
    noun: str = "person"
    subjects: str | None = None
    shares: list[float] = field(default_factory=lambda: [0.8, 0.1, 0.1])
    test_only: bool = False
    references: int = 1
    seed: int = 0
    clip: str | None = None
    backgrounds: int | None = None
    masks: Literal["grabcut", "given", "none"] = "grabcut"
    segmenter: str | None = None
    captioner: str | None = None
    resolution: int = 512
    min_side: int = 64
    det_size: list[int] = field(default_factory=lambda: list(DETECTION_SIDES))
    download: bool = False

    def __post_init__(self) -> None:
        for name in ("source", "licence", "consent", "noun"):
            setattr(self, name, " ".join(getattr(self, name).split()))
            if not getattr(self, name):
                raise LikenessError(f"--{name} is empty: say it in words, it stands in every row of the dataset")
        if len(self.shares) != 3 or min(self.shares) < 0 or not 0.999 < sum(self.shares) < 1.001:
            raise LikenessError(f"--shares {self.shares}: give three shares, train, val and test, that add up to 1")
        for name, low in (("references", 1), ("min_side", 1), ("resolution", 32)):
            if getattr(self, name) < low:
                raise LikenessError(f"--{name} {getattr(self, name)} is too small: at least {low}")
        if not 0 <= self.seed < 2**32:
            raise LikenessError(f"--seed {self.seed} is no seed: a whole number from 0 to {2**32 - 1}")
        if self.backgrounds is not None and self.backgrounds < 2:
            raise LikenessError(f"--backgrounds {self.backgrounds} is too small: at least 2 classes")
        if self.resolution < self.min_side:
            raise LikenessError(f"--resolution {self.resolution} is below --min_side {self.min_side}")
        detection_sides(self.det_size, "--det_size")
