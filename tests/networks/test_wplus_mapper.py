import pytest
import torch
from torch import Tensor

from contracts.errors import LikenessError
from networks.wplus_mapper import Levels, WPlusMapper, level_rows

ROWS = 18
WIDTH = 6
TOKEN = 12


def codes(rows: int = ROWS) -> Tensor:
    return torch.randn(2, rows, WIDTH, generator=torch.Generator().manual_seed(0))


def test_rows_of_the_published_levels() -> None:
    assert level_rows(18, "four") == {"coarse": (0, 4), "middle": (4, 8), "fine_a": (8, 12), "fine_b": (12, 18)}
    assert level_rows(18, "three") == {"coarse": (0, 4), "middle": (4, 8), "fine": (8, 18)}
    assert level_rows(10, "four") == {"coarse": (0, 4), "middle": (4, 8), "fine_a": (8, 9), "fine_b": (9, 10)}


@pytest.mark.parametrize("rows", [10, 12, 14, 16, 18])
@pytest.mark.parametrize("levels", ["three", "four"])
def test_every_row_is_in_one_level(rows: int, levels: Levels) -> None:
    covered = [row for first, last in level_rows(rows, levels).values() for row in range(first, last)]
    assert covered == list(range(rows))


def test_a_code_without_a_fine_level_is_refused() -> None:
    with pytest.raises(LikenessError, match=r"model\.code_rows is 8"):
        level_rows(8, "three")


@pytest.mark.parametrize(("levels", "count"), [("three", 7_079_424), ("four", 7_079_424)])
def test_size_at_stable_diffusion_scale(levels: Levels, count: int) -> None:
    """The levels divide the same 18 x 512 numbers, so both forms have the published count."""
    with torch.device("meta"):
        mapper = WPlusMapper(18, 512, 768, levels)
    assert sum(p.numel() for p in mapper.parameters()) == count
    assert mapper(torch.empty(2, 18, 512, device="meta")).shape == (2, 3 if levels == "three" else 4, 768)


@pytest.mark.parametrize("levels", ["three", "four"])
@pytest.mark.parametrize("per_level", [1, 2])
@pytest.mark.parametrize("hidden", [None, 6])
def test_a_level_reaches_its_own_tokens_only(levels: Levels, per_level: int, hidden: int | None) -> None:
    mapper = WPlusMapper(ROWS, WIDTH, TOKEN, levels, per_level, hidden)
    before = mapper(codes())
    assert before.shape == (2, mapper.tokens, TOKEN) and mapper.tokens == len(mapper.ranges) * per_level
    for level, (first, last) in enumerate(mapper.ranges.values()):
        changed = codes()
        changed[:, first:last] += 1.0
        moved = (mapper(changed) != before).any(dim=(0, 2))
        own = torch.zeros(mapper.tokens, dtype=torch.bool)
        own[level * per_level : (level + 1) * per_level] = True
        assert torch.equal(moved, own)


def test_a_token_is_the_norm_of_a_linear_map_of_its_rows() -> None:
    mapper = WPlusMapper(ROWS, WIDTH, TOKEN, "three")
    flat = codes()[:, 4:8].reshape(2, -1) @ mapper.project["middle"].weight.T
    centred = flat - flat.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + mapper.norm.eps).sqrt()
    torch.testing.assert_close(mapper(codes())[:, 1], expected)


def test_a_hidden_layer_makes_the_map_of_a_level_bend() -> None:
    """The norm takes a positive factor out again: where the map is linear, a code has the tokens of its double."""
    straight, bent = (WPlusMapper(ROWS, WIDTH, TOKEN, "three", 1, hidden) for hidden in (None, 6))
    for mapper in (straight, bent):
        mapper.norm.eps = 0.0
    torch.testing.assert_close(straight(2 * codes()), straight(codes()))
    assert (bent(2 * codes()) - bent(codes())).abs().max() > 0.05
    shapes = [tuple(weight.shape) for weight in bent.project["fine"].parameters()]
    assert shapes == [(6, (ROWS - 8) * WIDTH), (TOKEN, 6)]


@pytest.mark.parametrize("hidden", [None, 6])
def test_nobody_is_the_bias_of_the_norm(hidden: int | None) -> None:
    mapper = WPlusMapper(ROWS, WIDTH, TOKEN, "four", hidden=hidden)
    with torch.no_grad():
        mapper.norm.bias.normal_()
    nobody = mapper(torch.zeros(1, ROWS, WIDTH))
    assert torch.equal(nobody, mapper.norm.bias.expand(1, 4, -1)) and torch.equal(nobody, mapper.nobody(1))


def test_the_mean_is_taken_off() -> None:
    mapper = WPlusMapper(ROWS, WIDTH, TOKEN, "three")
    mean = codes()[0]
    expected = mapper(codes() - mean)
    mapper.mean.copy_(mean)
    torch.testing.assert_close(mapper(codes()), expected)
    assert torch.equal(mapper(mean[None]), mapper.nobody(1)) and "mean" in mapper.state_dict()


def test_no_tokens_are_refused() -> None:
    with pytest.raises(LikenessError, match=r"model\.tokens_per_level is 0"):
        WPlusMapper(ROWS, WIDTH, TOKEN, "three", 0)


def test_an_empty_hidden_layer_is_refused() -> None:
    with pytest.raises(LikenessError, match=r"model\.mapper_hidden is 0"):
        WPlusMapper(ROWS, WIDTH, TOKEN, "three", hidden=0)
