"""Textual inversion: the embedding of a new word, learnt from a few photos (Gal et al., arXiv 2208.01618).

The paper's recipe (section 3 and 4.1): everything is frozen but the embedding v* of a new word; it begins at the
embedding of a coarse word for the object, here the class noun; the loss is the denoising error under neutral prompts
("a photo of a S*"); AdamW without a schedule. Longer embeddings of several vectors are its section 5. Ours: subjects
share batches, each step takes one photo of each, and gradients are clipped per subject.
"""

from collections.abc import Mapping

from torch import Tensor

from contracts.batch import SubjectBatch
from contracts.conditioning import Conditioning
from contracts.errors import LikenessError
from lightning_modules.token_vectors import TokenVectorModule
from networks.backbone import Backbone
from networks.stage_attention import install_stage_attention
from networks.stage_tokens import FreeVectors, StageTokens
from networks.subject_tensors import VECTORS


class TextualInversion(TokenVectorModule):
    """``vectors`` for one subject or many, optimised together without touching one another.

    They are one stage whose keys are its values. ``vectors`` is the number of places that a subject takes in a prompt,
    one in the paper. ``scale`` leads from the class noun's embedding (0, the base model) to the learnt one (1).
    """

    def __init__(
        self,
        backbone: str | Backbone,
        revision: str | None = None,
        vectors: int = 1,
        scale: float = 1.0,
        learning_rate: float = 5e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(backbone, revision, learning_rate, weight_decay, warmup_steps)
        if vectors < 1:
            raise LikenessError(f"model.vectors is {vectors}, it must be at least 1")
        self.scale = scale
        self.shape = (1, 1, vectors, sum(self.backbone.text.widths))
        install_stage_attention(self.backbone.unet)
        self.prepare({}, 0, seed=0)

    def subject_module(self) -> StageTokens:
        return StageTokens(FreeVectors, self.shape, self.backbone.text.widths)

    def begin_subject(self, noun: str, known: Mapping[str, Tensor] | None) -> StageTokens:
        """Vectors at the class noun's embedding, or the ``known`` ones."""
        module, embedding = self.subject_module(), self.noun_embedding(noun)
        module.start_at(known[VECTORS] if known else embedding.expand(self.shape), embedding)
        return module

    def train_conditioning(self, batch: SubjectBatch) -> Conditioning:
        ids, positions = self.places(batch)
        vectors = self.slots(self.slots_of(batch))[VECTORS][:, 0, 0]
        return Conditioning.from_text(self.encode_placed(ids, positions, vectors).of_photos(batch.sizes))
