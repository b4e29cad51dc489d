"""What holds for every method that can show two subjects in one image."""

from dataclasses import replace

import pytest
import torch

from contracts.batch import RequestBatch
from lightning_modules.base import PersonalisationModule
from lightning_modules.image_prompt import ImagePrompt
from lightning_modules.token_vectors import TokenVectorModule
from networks.backbone import Backbone
from networks.sampler import SamplingSettings
from tests.helpers.batches import METHODS, SUBJECTS, build, features, request_batch

Method = type[PersonalisationModule]
FEW = SamplingSettings("ddim", steps=2, guidance=3.0)
TWO = [method for method in METHODS if method.subjects_per_image == 2]
OWN, OTHER, THIRD, _ = SUBJECTS


def pair(own: str = OWN, other: str = OTHER, size: int = 2) -> RequestBatch:
    """Requests for images of two subjects, each with the features of a photo of its own."""
    return replace(
        request_batch(size),
        subjects=(own,) * size,
        prompts=(f"a photo of a <subject> and a <{other}>",) * size,
        reference=features(size, own),
        beside=features(size, other),
    )


def row(batch: RequestBatch, number: int) -> RequestBatch:
    """One of the requests alone."""
    only = slice(number, number + 1)
    reference, beside = ({n: v[only] for n, v in part.items()} for part in (batch.reference, batch.beside))
    return replace(
        batch,
        request_ids=batch.request_ids[only],
        subjects=batch.subjects[only],
        prompts=batch.prompts[only],
        noise=batch.noise[only],
        text_states=batch.text_states[only],
        reference=reference,
        beside=beside,
    )


def test_methods_say_how_many_they_take() -> None:
    assert {m.__name__ for m in TWO} == {"IPAdapter", "IPAdapterPlus", "IPAdapterFaceID", "SefiIDE", "TextualInversion"}
    assert all(method.subjects_per_image == 1 for method in METHODS if method not in TWO)


@pytest.mark.parametrize("method", TWO, ids=lambda method: method.__name__)
def test_both_subjects_decide_the_image_and_no_other_request_does(method: Method, backbone: Backbone) -> None:
    module = build(method, backbone).eval()
    module.sampling = FEW
    images = module.generate(pair())
    for changed in (pair(own=THIRD), pair(other=THIRD)):
        assert (module.generate(changed) != images).flatten(1).any(dim=1).all()
    (alone,) = module.generate(row(pair(), 1))
    assert (images[1].int() - alone.int()).abs().max() <= 1
    module.scale = 0.0  # type: ignore[assignment]
    assert torch.equal(module.generate(pair()), module.generate(replace(pair(), beside=features(2, THIRD))))


@pytest.mark.parametrize("method", [m for m in TWO if issubclass(m, ImagePrompt)], ids=lambda method: method.__name__)
def test_tokens_of_both_images_lie_side_by_side(method: Method, backbone: Backbone) -> None:
    module, batch = build(method, backbone), pair()
    with torch.no_grad():
        alone = [module.conditioning(one).identity for one in batch.by_subject()]
        both = module._of_all(batch, module.conditioning)
        null = module._of_all(batch, module.null_conditioning)
        assert torch.equal(both.identity, torch.cat(alone, dim=1)) and null.identity.shape == both.identity.shape
        assert not torch.equal(*alone)
        more = {name: value[:, None] for name, value in features(2, "more").items()}
        several = replace(batch, further=more, beside_further=more)
        mean = module._of_all(several, module.conditioning).identity
        assert mean.shape == both.identity.shape and not torch.equal(mean, both.identity)
        module.reference_tokens = "all"
        assert module._of_all(several, module.conditioning).identity.shape[1] == 2 * both.identity.shape[1]


@pytest.mark.parametrize(
    "method", [m for m in TWO if issubclass(m, TokenVectorModule)], ids=lambda method: method.__name__
)
def test_each_subject_has_its_vectors_in_its_own_place(method: Method, backbone: Backbone) -> None:
    module = build(method, backbone)
    assert isinstance(module, TokenVectorModule)
    told = module.encode_prompt(f"a <subject> and a <{OTHER}>", OWN)
    same = module.encode_prompt(f"a <{OWN}> and a <subject>", OTHER)
    turned = module.encode_prompt(f"a <subject> and a <{OWN}>", OTHER)
    assert torch.equal(told[0].states, same[0].states) and torch.equal(told[1], same[1])
    assert not torch.equal(told[0].states, turned[0].states)
