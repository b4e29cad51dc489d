"""CLIP-T, and how much better an image fits its prompt than a prompt without the edit."""

from torch import Tensor

from metrics.base import Metric
from metrics.conventions import PresetColumn, over_images
from metrics.functional.clip_t import clip_t, edit_margin
from metrics.judges import JudgedImages


class ClipT(Metric):
    """Raw cosine of image and prompt."""

    name = "clip_t"
    title = "CLIP-T"
    group = "text"
    judge = "clip"
    rule = "cos|x1|noun|trunc-eos"
    about = "cosine of image and prompt, with the class noun for the subject"
    needs = frozenset({"image", "prompt"})
    source = "CLIPScore, arXiv 2104.08718, without its factor and clamp"
    headline = True
    presets = (
        PresetColumn("fastcomposer", "CLIP-T", over_images),
        PresetColumn("celeb_basis", "CLIP-T", over_images),
        PresetColumn("dreambench", "CLIP-T", over_images),
    )

    def score(self, judged: JudgedImages) -> Tensor:
        return clip_t(judged.features("clip"), judged.prompt_features)


class EditMargin(Metric):
    """Cosine to the prompt less the cosine to a neutral prompt; read by prompt class, it tells edits apart."""

    name = "edit_margin"
    title = "edit margin"
    group = "text"
    judge = "clip"
    rule = "cos(prompt)-cos(a photo of a noun)|x1|trunc-eos"
    about = "how much better the image fits its prompt than a prompt without the edit"
    needs = frozenset({"image", "prompt"})
    low = -2.0
    high = 2.0
    by_class = True

    def score(self, judged: JudgedImages) -> Tensor:
        return edit_margin(judged.features("clip"), judged.prompt_features, judged.neutral_features)


METRICS: tuple[Metric, ...] = (ClipT(), EditMargin())
