import copy
from dataclasses import replace

import pytest
import torch

from contracts.errors import LikenessError
from lightning_modules.spotdiff import SpotDiff
from losses.contrastive import supervised_info_nce
from networks.backbone import Backbone
from networks.erasure import principal_part
from tests.helpers.batches import build, factor_batch, head, pair_batch, request_batch


def spotdiff(backbone: Backbone, **arguments: object) -> SpotDiff:
    module = build(SpotDiff, backbone, **arguments)
    assert isinstance(module, SpotDiff)
    return module


@pytest.mark.parametrize(
    ("switches", "experts"),
    [
        ({}, {"pose", "background"}),
        ({"pose_expert": False}, {"background"}),
        ({"background_expert": False}, {"pose"}),
        ({"pose_expert": False, "background_expert": False}, set()),
    ],
)
def test_each_expert_can_be_left_out(backbone: Backbone, switches: dict, experts: set[str]) -> None:
    module = spotdiff(backbone, orthogonality="loss", **switches)
    assert set(module.experts) == experts
    stage_1 = {f"expert_{name}" for name in experts} | ({"expert_cross"} if len(experts) == 2 else set())
    assert set(module.expert_terms(factor_batch())) == stage_1
    terms = module.loss_terms(pair_batch())
    assert set(terms) == {"diffusion", "orthogonality", "invariance"}
    assert (terms["orthogonality"] > 0) == bool(experts)


@pytest.mark.parametrize(("orthogonality", "constrained"), [("loss", True), ("projection", False), ("none", False)])
def test_orthogonality_is_a_loss_only_where_it_is_asked_for(
    backbone: Backbone, orthogonality: str, constrained: bool
) -> None:
    terms = spotdiff(backbone, orthogonality=orthogonality).loss_terms(pair_batch())
    assert ("orthogonality" in terms) == constrained


@pytest.mark.parametrize(("orthogonality", "orthogonal"), [("loss", False), ("projection", True), ("none", False)])
def test_projection_makes_the_subject_feature_orthogonal(
    backbone: Backbone, orthogonality: str, orthogonal: bool
) -> None:
    module = spotdiff(backbone, orthogonality=orthogonality)
    f = module.standardise(pair_batch().reference["clip"])
    subject = module.subject_feature(f)
    cosines = [torch.cosine_similarity(subject, z).abs().max() for z in module.factor_features(f).values()]
    assert (max(cosines) < 1e-5) == orthogonal


def test_erasure_leaves_no_covariance_with_the_experts(backbone: Backbone) -> None:
    module = spotdiff(backbone, orthogonality="erasure", directions=3)
    width = len(module.standardise.mean)
    clip = torch.randn(400, width, generator=torch.Generator().manual_seed(1))
    f = module.standardise(clip)
    before = module.subject_feature(f)
    module.fit_erasure(clip)
    assert not torch.allclose(module.subject_feature(f), before)
    erased = module.erasure(f)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module.erasure(f), erased), "rounding would bring back what is erased"
    for z in module.factor_features(f).values():
        parts = principal_part(z, 3).float()
        assert ((erased - erased.mean(dim=0)).T @ parts / len(f)).abs().max() < 1e-4
        assert ((f - f.mean(dim=0)).T @ parts / len(f)).abs().max() > 1e-2
    again = spotdiff(backbone, orthogonality="erasure", directions=3)
    again.adapter().load_state_dict(module.adapter().state_dict())
    assert torch.equal(again.subject_feature(f), module.subject_feature(f))
    assert "orthogonality" not in module.loss_terms(pair_batch())


def test_without_experts_nothing_is_erased_or_asked_for(backbone: Backbone) -> None:
    module = spotdiff(backbone, orthogonality="erasure", pose_expert=False, background_expert=False)
    f = module.standardise(pair_batch().reference["clip"])
    assert torch.equal(module.subject_feature(f), module.subject(f))
    module.on_train_batch_start(pair_batch(), 0)  # has no trainer to ask for features


def test_the_erasure_is_fitted_once(backbone: Backbone) -> None:
    module = spotdiff(backbone, orthogonality="erasure")
    with pytest.raises(RuntimeError, match="not attached to a `Trainer`"):
        module.on_train_batch_start(pair_batch(), 0)
    module.fit_erasure(torch.randn(50, len(module.standardise.mean)))
    module.on_train_batch_start(pair_batch(), 0)


def test_control_gives_back_what_the_target_or_the_reference_shows(backbone: Backbone) -> None:
    module, batch = spotdiff(backbone, orthogonality="erasure", control=0.5), pair_batch()
    width = len(module.standardise.mean)
    module.fit_erasure(torch.randn(50, width, generator=torch.Generator().manual_seed(2)))
    free = copy.copy(module)
    free.control = 0.0
    told, plain = (one.train_conditioning(batch).identity for one in (module, free))
    given = (batch.chance < 0.5).any(dim=1)
    assert given.any() and not given.all() and not batch.drop_identity[given].any()
    for row, changed in enumerate(given):
        assert torch.equal(told[row], plain[row]) != bool(changed)
    requests = request_batch()
    before = module.conditioning(requests).identity
    assert torch.equal(before, module.identity_tokens(requests.reference["clip"]))
    module.keep["pose"] = 1.0
    f = module.standardise(requests.reference["clip"])
    kept = module.erasure(f) + module.erasure.given(f, torch.tensor([[1.0, 0.0]]).expand(len(f), 2))
    torch.testing.assert_close(module.conditioning(requests).identity, module.align(module.subject(kept)))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"keep_pose": 1.0, "control": 0.5, "orthogonality": "loss"}, "model.keep_pose: this training"),
        ({"keep_pose": 1.0}, "model.keep_pose: this training has not learnt"),
        ({"control": 30.0}, "model.control is 30.0, it is a share: give 0 to 1"),
        ({"keep_background": -1.0}, "model.keep_background is -1.0, it is a share"),
        ({"keep_background": 1.0, "control": 0.5, "background_expert": False}, "model.keep_background: this training"),
    ],
)
def test_control_that_cannot_be_is_refused(backbone: Backbone, arguments: dict, line: str) -> None:
    with pytest.raises(LikenessError, match=line):
        spotdiff(backbone, **arguments)


def test_weights_scale_their_terms(backbone: Backbone) -> None:
    weights = {"orthogonality_weight": 0.1, "invariance_weight": 0.2}
    module, batch = spotdiff(backbone, orthogonality="loss", **weights), pair_batch()
    light = module.loss_terms(batch)
    module.orthogonality_weight, module.invariance_weight = 0.3, 0.1
    heavy = module.loss_terms(batch)
    torch.testing.assert_close(heavy["orthogonality"], 3 * light["orthogonality"])
    torch.testing.assert_close(heavy["invariance"], light["invariance"] / 2)
    torch.testing.assert_close(heavy["diffusion"], light["diffusion"])


def test_the_subject_counts_more_in_the_denoising_loss(backbone: Backbone) -> None:
    module, batch = spotdiff(backbone), pair_batch()
    batch = replace(batch, mask=head(len(batch.sample_ids)))
    plain = module.denoising_error(batch, module.train_conditioning(batch)).mean()
    torch.testing.assert_close(module.loss_terms(batch)["diffusion"], plain)
    module.subject_weight = 4.0
    assert not torch.isclose(module.loss_terms(batch)["diffusion"], plain, rtol=1e-4)


def test_stage_one_is_info_nce_and_a_crossed_cosine(backbone: Backbone) -> None:
    module, batch = spotdiff(backbone), factor_batch()
    z = module.factor_features(module.standardise(batch.features["clip"]))
    terms = module.loss_terms(batch)
    torch.testing.assert_close(terms["expert_pose"], supervised_info_nce(z["pose"], batch.pose, 0.07))
    torch.testing.assert_close(terms["expert_background"], supervised_info_nce(z["background"], batch.background, 0.07))
    cosine = (z["pose"] * z["background"]).sum(1) / z["pose"].norm(dim=1) / z["background"].norm(dim=1)
    torch.testing.assert_close(terms["expert_cross"], 0.1 * cosine.pow(2).mean())


def test_stage_one_falls_and_trains_the_experts_only(backbone: Backbone) -> None:
    module, batch = spotdiff(backbone), factor_batch()
    rest = {name: value.clone() for name, value in module.adapter().state_dict().items() if "experts" not in name}
    optimiser = torch.optim.AdamW(module.parameter_groups(), lr=1e-3)
    totals = []
    for _ in range(20):
        total = torch.stack(list(module.loss_terms(batch).values())).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(total.item())
    assert totals[-1] < 0.5 * totals[0]
    state = module.adapter().state_dict()
    assert all(torch.equal(state[name], value) for name, value in rest.items())


@pytest.mark.parametrize("orthogonality", ["loss", "projection"])
def test_stage_two_leaves_the_experts_as_they_are(backbone: Backbone, orthogonality: str) -> None:
    module = spotdiff(backbone, orthogonality=orthogonality)
    experts = copy.deepcopy(module.experts.state_dict())
    optimiser = torch.optim.AdamW(module.parameter_groups(), lr=1e-3)
    for _ in range(2):
        optimiser.zero_grad()
        torch.stack(list(module.loss_terms(pair_batch()).values())).sum().backward()
        optimiser.step()
    assert all(torch.equal(value, experts[name]) for name, value in module.experts.state_dict().items())
    assert all(p.grad is not None and p.grad.any() for p in module.attention.parameters())


def test_the_experts_learn_at_a_rate_of_their_own(backbone: Backbone) -> None:
    module = spotdiff(backbone, expert_learning_rate=0.5)
    optimiser = torch.optim.AdamW(module.parameter_groups(), lr=0.25)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert {rates[id(p)] for p in module.experts.parameters()} == {0.5}
    assert {rates[id(p)] for p in module.subject.parameters()} == {0.25}


def test_dropped_identity_is_that_of_nobody(backbone: Backbone) -> None:
    module, batch = spotdiff(backbone, tokens=3), pair_batch()
    identity = module.train_conditioning(batch).identity
    assert identity is not None and identity.shape == (4, 3, 32)
    nobody = module.align(torch.zeros(1, 24))
    torch.testing.assert_close(identity[3:], nobody)
    expected = module.align(module.subject_feature(module.standardise(batch.reference["clip"])))
    torch.testing.assert_close(identity[:3], expected[:3])
    null = module.null_conditioning(request_batch()).identity
    assert null is not None
    torch.testing.assert_close(null, nobody.expand(3, -1, -1))


def test_guidance_goes_from_the_empty_text(backbone: Backbone) -> None:
    null = spotdiff(backbone).null_conditioning(request_batch())
    torch.testing.assert_close(null.text_keys[:, 0], backbone.encode_text([""]).states.expand(3, -1, -1))


def test_the_mean_feature_is_part_of_the_adapter(backbone: Backbone) -> None:
    assert "standardise.mean" in spotdiff(backbone).adapter().state_dict()
