"""What is particular to textual inversion: where it begins, and what SeFi-IDE is without its own parts."""

import pytest
import torch
from torch import Tensor

from contracts.errors import LikenessError
from lightning_modules.per_subject import PerSubjectModule
from lightning_modules.sefi_ide import SefiIDE
from lightning_modules.textual_inversion import TextualInversion
from networks.backbone import Backbone
from networks.subject_tensors import VECTORS
from tests.helpers.batches import SUBJECTS, subject_batch


def begun(module: PerSubjectModule) -> PerSubjectModule:
    """Four subjects before their first step."""
    module.prepare(dict.fromkeys(SUBJECTS, "person"), len(SUBJECTS), seed=0)
    module.start_group(SUBJECTS)
    return module


@pytest.mark.parametrize("vectors", [1, 3])
def test_it_begins_at_the_class_noun(backbone: Backbone, vectors: int) -> None:
    module = begun(TextualInversion(backbone, vectors=vectors))
    assert isinstance(module, TextualInversion)
    found = module.slots(torch.arange(4))[VECTORS]
    assert found.shape == (4, 1, 1, vectors, 32)
    assert torch.equal(found, module.noun_embedding("person").expand_as(found))


@pytest.mark.parametrize("vectors", [1, 3])
def test_it_learns_what_sefi_ide_learns_with_one_stage_and_no_attention_loss(backbone: Backbone, vectors: int) -> None:
    """Step by step, on the same batches."""
    ours = begun(TextualInversion(backbone, vectors=vectors))
    theirs = begun(
        SefiIDE(backbone, stages=1, key_value="shared", tokens="free", tokens_per_subject=vectors, attention_weight=0.0)
    )

    def after(module: PerSubjectModule) -> Tensor:
        optimiser = torch.optim.AdamW(module.parameter_groups(), lr=5e-2)
        for step in range(3):
            terms = module.loss_terms(subject_batch(step=step))
            assert set(terms) == {"diffusion"}
            optimiser.zero_grad()
            terms["diffusion"].backward()
            optimiser.step()
        return module.slots(torch.arange(4))[VECTORS].detach()

    found = after(ours)
    torch.testing.assert_close(found, after(theirs), rtol=0, atol=1e-6)
    assert (
        found - begun(TextualInversion(backbone, vectors=vectors)).slots(torch.arange(4))[VECTORS]
    ).abs().max() > 0.01


def test_no_vector_is_one_line(backbone: Backbone) -> None:
    with pytest.raises(LikenessError, match=r"model\.vectors is 0, it must be at least 1"):
        TextualInversion(backbone, vectors=0)
