import pytest
import torch
from torch import nn

from networks.stage_tokens import FreeVectors, StageTokens, TokenEmitter
from networks.subject_tensors import VECTORS

WIDTH = 8
COUNT = 4
KINDS = {"module": TokenEmitter, "free": FreeVectors}


@pytest.fixture(params=KINDS, ids=list(KINDS))
def kind(request: pytest.FixtureRequest) -> type[nn.Module]:
    return KINDS[request.param]


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


def test_a_subjects_module_emits_its_vectors_by_stage_side_and_token(kind: type[TokenEmitter]) -> None:
    module, vectors, noun = (
        StageTokens(kind, (2, 2, 3, WIDTH), [WIDTH]),
        torch.randn(2, 2, 3, WIDTH),
        torch.randn(WIDTH),
    )
    module.start_at(vectors, noun)
    torch.testing.assert_close(module()[VECTORS], vectors)
    assert torch.equal(module.initial, noun)
