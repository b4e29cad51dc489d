import torch

from losses.attention_alignment import attention_alignment_loss


def layer(cells: int, seed: int, size: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.randn(2, size, 3, cells, 5, generator=torch.Generator().manual_seed(seed)).softmax(dim=-1)
    return draws[0], draws[1]


def test_the_formula_written_out() -> None:
    maps = [layer(4, 0), layer(16, 1)]
    found = attention_alignment_loss(maps)
    assert found.shape == (2,)
    for b in range(2):
        layers = []
        for target, reference in maps:
            cells = [
                (target[b, h, c] - reference[b, h, c]).square().sum() for h in range(3) for c in range(target.shape[2])
            ]
            layers.append(sum(cells) / 3)
        torch.testing.assert_close(found[b], sum(layers) / 2)


def test_equal_maps_cost_nothing() -> None:
    target, _ = layer(4, 0)
    assert not attention_alignment_loss([(target, target)]).any()


def test_steps_along_the_gradient_lower_it_and_never_push_the_reference() -> None:
    reference = layer(4, 0)[1].requires_grad_()
    logits = torch.zeros(2, 3, 4, 5, requires_grad=True)
    values = []
    for _ in range(20):
        loss = attention_alignment_loss([(logits.softmax(dim=-1), reference)]).sum()
        (gradient,) = torch.autograd.grad(loss, logits)
        logits.data -= 20 * gradient
        values.append(loss.item())
    assert values[-1] < 0.5 * values[0]
    attention_alignment_loss([(logits.softmax(dim=-1), reference)]).sum().backward()
    assert reference.grad is None
