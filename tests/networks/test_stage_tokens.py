import pytest
import torch
from torch import nn

from networks.stage_tokens import FreeVectors, SubjectSlots, TokenEmitter, clip_each

WIDTH = 8
COUNT = 4
KINDS = {"module": TokenEmitter, "free": FreeVectors}


@pytest.fixture(params=KINDS, ids=list(KINDS))
def kind(request: pytest.FixtureRequest) -> type[nn.Module]:
    return KINDS[request.param]


def filled(kind: type[nn.Module], slots: int) -> tuple[SubjectSlots, list[nn.Module]]:
    """Slots with different modules in them, in the middle of their training."""
    stack = SubjectSlots(lambda: kind(WIDTH, COUNT), slots, WIDTH)
    modules = []
    for slot in range(slots):
        torch.manual_seed(slot)
        module = kind(WIDTH, COUNT)
        for parameter in module.parameters():
            parameter.data.normal_(0, 0.3)
        stack.fill(slot, module, torch.randn(WIDTH))
        modules.append(module)
    return stack, modules


def test_the_module_at_its_real_size_has_the_papers_number_of_parameters() -> None:
    with torch.device("meta"):
        module = TokenEmitter(768, 10)
        assert module(torch.empty(768)).shape == (10, 768)
    assert sum(parameter.numel() for parameter in module.parameters()) == 31_477_248


def test_both_begin_where_they_are_told(kind: type[nn.Module]) -> None:
    module = kind(WIDTH, COUNT)
    vectors = torch.randn(COUNT, WIDTH)
    module.start_at(vectors)  # type: ignore[operator]
    torch.testing.assert_close(module(torch.randn(WIDTH)), vectors)


def test_a_single_token_makes_attention_a_linear_map() -> None:
    module = TokenEmitter(WIDTH, COUNT)
    attention = module.attentions[0]
    x = torch.randn(1, WIDTH)
    torch.testing.assert_close(attention(x), attention.to_out(attention.to_v(x)))
    query, key, value = (layer(torch.cat([x, -x])) for layer in (attention.to_q, attention.to_k, attention.to_v))
    heads = [part.view(2, 8, 64).transpose(0, 1) for part in (query, key, value)]
    expected = nn.functional.scaled_dot_product_attention(*heads).transpose(0, 1).reshape(2, -1)
    torch.testing.assert_close(attention(torch.cat([x, -x])), attention.to_out(expected))


def test_a_slot_computes_what_its_module_computes(kind: type[nn.Module]) -> None:
    stack, modules = filled(kind, 3)
    found = stack(torch.tensor([2, 0]))
    assert found.shape == (2, COUNT, WIDTH)
    torch.testing.assert_close(found[0], modules[2](stack.initial[2]))
    torch.testing.assert_close(found[1], modules[0](stack.initial[0]))


def test_gradient_stays_in_the_slots_that_were_asked(kind: type[nn.Module]) -> None:
    stack, _ = filled(kind, 3)
    stack(torch.tensor([2, 0])).sum().backward()
    for parameter in stack.parameters():
        assert parameter.grad is not None and not parameter.grad[1].any()
    assert any(parameter.grad[0].any() for parameter in stack.parameters())


def test_clipping_knows_one_slot_at_a_time(kind: type[nn.Module]) -> None:
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


def test_clipping_a_slot_equals_clipping_its_module_alone(kind: type[nn.Module]) -> None:
    stack, modules = filled(kind, 2)
    stack(torch.tensor([0, 1])).pow(2).sum().backward()
    clip_each(list(stack.parameters()), limit=0.1)
    modules[1](stack.initial[1]).pow(2).sum().backward()
    nn.utils.clip_grad_norm_(modules[1].parameters(), 0.1)
    for name, parameter in modules[1].named_parameters():
        torch.testing.assert_close(stack.stacked[name.replace(".", "/")].grad[1], parameter.grad, rtol=1e-4, atol=1e-7)
