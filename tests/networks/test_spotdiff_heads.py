import numpy as np
import pytest
import torch
from torch import Tensor

from networks.spotdiff_heads import Alignment, Expert, FeatureStandardiser, SubjectHead, remove_directions

WIDTH = 8


def features(seed: int, size: int = 5) -> Tensor:
    return torch.randn(size, WIDTH, generator=torch.Generator().manual_seed(seed))


def test_standardiser_takes_the_mean_off_and_normalises() -> None:
    standardise = FeatureStandardiser(WIDTH)
    clip = features(0)
    standardise.mean.copy_(torch.arange(8.0))
    centred = clip.numpy() - np.arange(8.0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    expected = (unit - unit.mean(1, keepdims=True)) / np.sqrt(unit.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(standardise(clip), expected, atol=1e-5)
    assert not list(standardise.parameters()), "nothing in it is trained"
    assert "mean" in standardise.state_dict()


def test_subject_head_adds_to_the_feature() -> None:
    head = SubjectHead(WIDTH, 16)
    f = features(0)
    torch.testing.assert_close(head(f) - f, head.layers(f))
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(head(f), f)


def test_an_expert_keeps_the_feature_space() -> None:
    z = Expert(WIDTH, 16)(features(0))
    assert z.shape == (5, WIDTH)
    torch.testing.assert_close(z.mean(1), torch.zeros(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("tokens", [1, 4])
def test_alignment_makes_tokens_of_the_text_width(tokens: int) -> None:
    align = Alignment(WIDTH, tokens, 12)
    out = align(features(0))
    assert out.shape == (5, tokens, 12)
    by_hand = features(0) @ align.project.weight.T + align.project.bias
    first = by_hand[:, :12]
    expected = (first - first.mean(1, keepdim=True)) / (first.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(out[:, 0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_exactly_the_span_of_the_directions_is_removed(count: int) -> None:
    z = features(0)
    directions = [features(i + 1) for i in range(count)]
    left = remove_directions(z, directions)
    span = torch.stack(directions, dim=-1)
    assert left.shape == z.shape
    for direction in directions:
        torch.testing.assert_close((left * direction).sum(1), torch.zeros(5), atol=1e-5, rtol=0)
    removed = (z - left)[..., None]
    coefficients = torch.linalg.lstsq(span, removed).solution
    torch.testing.assert_close(span @ coefficients, removed, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(remove_directions(left, directions), left, atol=1e-5, rtol=1e-4)


def test_samples_do_not_mix() -> None:
    z = features(0)
    directions = [features(1), features(2)]
    alone = remove_directions(z[2:3], [d[2:3] for d in directions])
    torch.testing.assert_close(remove_directions(z, directions)[2:3], alone)


def test_without_directions_nothing_is_removed() -> None:
    z = features(0)
    assert torch.equal(remove_directions(z, []), z)


def test_gradient_passes_through_the_projection() -> None:
    z = features(0).requires_grad_(True)
    direction = features(1)
    remove_directions(z, [direction]).pow(2).sum().backward()
    assert z.grad is not None
    torch.testing.assert_close((z.grad * direction).sum(1), torch.zeros(5), atol=1e-4, rtol=0)
