import dataclasses

import pytest
import torch
from torch import Tensor

from contracts.batch import FactorBatch, PairBatch, RequestBatch
from contracts.text import Text

PAIRS = PairBatch(
    sample_ids=("a", "b"),
    moments=torch.ones(2, 8, 4, 4),
    latent_noise=torch.ones(2, 4, 4, 4),
    noise=torch.ones(2, 4, 4, 4),
    timestep=torch.tensor([0, 999]),
    text_states=Text(torch.ones(2, 3, 5), torch.ones(2, 5), torch.ones(2, 6)),
    drop_identity=torch.tensor([True, False]),
    reference={"clip": torch.ones(2, 6)},
    second_view={"clip": torch.ones(2, 6), "face": torch.ones(2, 7)},
    mask=torch.ones(2, 1, 4, 4),
)
FACTORS = FactorBatch(("a", "b"), {"clip": torch.ones(2, 6)}, *(torch.tensor([0, 1]) for _ in range(3)))
REQUESTS = RequestBatch(
    ("r1", "r2"),
    ("s1", "s2"),
    ("a <subject>",) * 2,
    torch.ones(2, 4, 4, 4),
    Text(torch.ones(2, 3, 5)),
    {"clip": torch.ones(2, 6)},
)


def tensors(batch: object) -> list[Tensor]:
    found = []
    for field in dataclasses.fields(batch):  # type: ignore[arg-type]
        value = getattr(batch, field.name)
        found += (
            [value]
            if isinstance(value, Tensor)
            else tensors(value)
            if isinstance(value, Text)
            else list(value.values())
            if isinstance(value, dict)
            else []
        )
    return found


@pytest.mark.parametrize("batch", [PAIRS, FACTORS, REQUESTS], ids=lambda batch: type(batch).__name__)
def test_to_moves_every_tensor_and_leaves_the_rest(batch: PairBatch | FactorBatch | RequestBatch) -> None:
    moved = batch.to("meta")
    assert type(moved) is type(batch)
    before, after = tensors(batch), tensors(moved)
    assert len(after) == len(before) > 0
    assert all(value.device.type == "meta" for value in after)
    assert [(value.shape, value.dtype) for value in after] == [(value.shape, value.dtype) for value in before]
    assert all(value.device.type == "cpu" for value in before), "the batch itself stays where it was"
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, tuple):
            assert getattr(moved, field.name) == value


def test_names_of_features_are_kept() -> None:
    assert set(PAIRS.to("meta").second_view) == {"clip", "face"}


def test_a_batch_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PAIRS.mask = torch.zeros(1)  # type: ignore[misc]
