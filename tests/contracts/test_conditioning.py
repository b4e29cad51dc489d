import pytest
import torch

from contracts.conditioning import Conditioning
from contracts.text import Text

LENGTH, WIDTH = 3, 2


def staged(stages: int, batch: int = 1, **rest: object) -> Conditioning:
    """Every text state of stage s is s; values are the negative of keys."""
    keys = torch.arange(float(stages)).view(1, stages, 1, 1).expand(batch, stages, LENGTH, WIDTH)
    return Conditioning(text_keys=keys, text_values=-keys, **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize("stages", [1, 2, 3, 7, 10])
def test_every_timestep_reads_its_stage(stages: int) -> None:
    timesteps = torch.arange(1000)
    step = staged(stages, 1000).at(timesteps)
    expected = torch.tensor([t * stages // 1000 for t in range(1000)], dtype=torch.float32)
    assert step.text_keys.shape == step.text_values.shape == (1000, LENGTH, WIDTH)
    assert torch.equal(step.text_keys[:, 0, 0], expected)
    assert torch.equal(step.text_values, -step.text_keys)


@pytest.mark.parametrize(
    ("timestep", "stage"), [(0, 0), (249, 0), (250, 1), (499, 1), (500, 2), (749, 2), (750, 3), (999, 3)]
)
def test_stages_change_at_quarters(timestep: int, stage: int) -> None:
    assert staged(4).at(torch.tensor([timestep])).text_keys.unique().tolist() == [stage]


def test_images_of_one_batch_may_be_at_different_stages() -> None:
    step = staged(2, 3).at(torch.tensor([999, 0, 500]))
    assert step.text_keys[:, 0, 0].tolist() == [1, 0, 1]


def test_identity_takes_part_below_its_timestep_only() -> None:
    conditioning = staged(1, 4, identity=torch.ones(4, 2, WIDTH), scale=0.7, identity_until=600)
    step = conditioning.at(torch.tensor([0, 599, 600, 999]))
    assert step.scale is not None and step.identity is not None
    assert step.scale.tolist() == pytest.approx([0.7, 0.7, 0.0, 0.0])


def test_identity_always_takes_part_by_default() -> None:
    step = staged(1, 2, identity=torch.ones(2, 2, WIDTH)).at(torch.tensor([0, 999]))
    assert step.scale is not None and step.scale.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("rest", [{"identity": None}, {"identity": torch.ones(1, 2, WIDTH), "scale": 0.0}])
def test_without_identity_the_branch_is_left_out(rest: dict) -> None:
    step = staged(1, **rest).at(torch.tensor([10]))
    assert step.identity is None and step.scale is None


def test_from_text_is_one_stage_with_keys_equal_to_values() -> None:
    states = torch.randn(2, LENGTH, WIDTH)
    conditioning = Conditioning.from_text(Text(states), scale=0.5)
    assert conditioning.text_keys.shape == (2, 1, LENGTH, WIDTH)
    assert (conditioning.batch, conditioning.scale) == (2, 0.5)
    step = conditioning.at(torch.tensor([3, 900]))
    assert torch.equal(step.text_keys, states) and torch.equal(step.text_values, states)


def test_sum_is_both_batches_one_after_the_other() -> None:
    first = Conditioning.from_text(Text(torch.zeros(1, LENGTH, WIDTH)), identity=torch.zeros(1, 4, WIDTH), scale=0.5)
    second = Conditioning.from_text(Text(torch.ones(2, LENGTH, WIDTH)), identity=torch.ones(2, 4, WIDTH), scale=0.5)
    both = first + second
    assert both.batch == 3 and both.scale == 0.5
    step = both.at(torch.tensor([5, 5, 5]))
    assert step.identity is not None
    assert step.text_keys[:, 0, 0].tolist() == step.text_values[:, 0, 0].tolist() == [0, 1, 1]
    assert step.identity[:, 0, 0].tolist() == [0, 1, 1]
    assert (second + first).text_keys[:, 0, 0, 0].tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    "other",
    [
        staged(1, identity=torch.ones(1, 4, WIDTH), scale=0.5),
        staged(1, identity=torch.ones(1, 4, WIDTH), identity_until=500),
        staged(1),
        staged(2, identity=torch.ones(1, 4, WIDTH)),
    ],
    ids=["scale", "identity_until", "no identity", "stages"],
)
def test_conditionings_that_differ_in_kind_are_not_joined(other: Conditioning) -> None:
    mine = staged(1, identity=torch.ones(1, 4, WIDTH))
    for first, second in ((mine, other), (other, mine)):
        with pytest.raises(ValueError, match="conditionings of one batch must share"):
            first + second
