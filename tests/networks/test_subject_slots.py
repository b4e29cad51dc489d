import pytest
import torch
from torch import nn

from networks.stage_tokens import FreeVectors, StageTokens, TokenEmitter
from networks.subject_slots import SubjectSlots, clip_each
from networks.subject_tensors import VECTORS

SHAPE = (2, 2, 1, 8)
Kind = type[TokenEmitter] | type[FreeVectors]


@pytest.fixture(params=[TokenEmitter, FreeVectors], ids=["module", "free"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


def filled(kind: Kind, slots: int) -> tuple[SubjectSlots, list[StageTokens]]:
    """Slots with different modules in them, in the middle of their training."""
    stack, modules = SubjectSlots(lambda: StageTokens(kind, SHAPE, SHAPE[-1:]), slots), []
    for slot in range(slots):
        torch.manual_seed(slot)
        module = StageTokens(kind, SHAPE, SHAPE[-1:])
        for parameter in module.parameters():
            parameter.data.normal_(0, 0.3)
        module.initial.normal_()
        stack.fill(slot, module)
        modules.append(module)
    return stack, modules


def test_slots_know_the_shapes_of_a_subjects_tensors(kind: Kind) -> None:
    stack, _ = filled(kind, 2)
    assert stack.shapes == {VECTORS: SHAPE} and len(stack) == 2


def test_a_slot_computes_what_its_module_computes(kind: Kind) -> None:
    stack, modules = filled(kind, 3)
    found = stack(torch.tensor([2, 0]))[VECTORS]
    assert found.shape == (2, *SHAPE)
    torch.testing.assert_close(found[0], modules[2]()[VECTORS])
    torch.testing.assert_close(found[1], modules[0]()[VECTORS])


def test_gradient_stays_in_the_slots_that_were_asked(kind: Kind) -> None:
    stack, _ = filled(kind, 3)
    stack(torch.tensor([2, 0]))[VECTORS].sum().backward()
    for parameter in stack.parameters():
        assert parameter.grad is not None and not parameter.grad[1].any()
    assert any(parameter.grad[0].any() for parameter in stack.parameters())


def test_clipping_knows_one_slot_at_a_time(kind: Kind) -> None:
    stack, _ = filled(kind, 3)
    for parameter in stack.parameters():
        parameter.grad = torch.randn_like(parameter) * torch.tensor([1e-3, 1.0, 10.0]).view(
            -1, *[1] * (parameter.ndim - 1)
        )
    before = [p.grad.clone() for p in stack.parameters()]
    norms = torch.stack([g.flatten(1).pow(2).sum(1) for g in before]).sum(0).sqrt()
    clip_each(list(stack.parameters()), limit=1.0)
    after = torch.stack([p.grad.flatten(1).pow(2).sum(1) for p in stack.parameters()]).sum(0).sqrt()
    torch.testing.assert_close(after, norms.clamp(max=1.0), rtol=1e-4, atol=0)
    assert all(torch.equal(p.grad[0], old[0]) for p, old in zip(stack.parameters(), before, strict=True))


def test_clipping_a_slot_equals_clipping_its_module_alone(kind: Kind) -> None:
    stack, modules = filled(kind, 2)
    stack(torch.tensor([0, 1]))[VECTORS].pow(2).sum().backward()
    clip_each(list(stack.parameters()), limit=0.1)
    modules[1]()[VECTORS].pow(2).sum().backward()
    nn.utils.clip_grad_norm_(modules[1].parameters(), 0.1)
    for name, parameter in modules[1].named_parameters():
        torch.testing.assert_close(stack.stacked[name.replace(".", "/")].grad[1], parameter.grad, rtol=1e-4, atol=1e-7)
