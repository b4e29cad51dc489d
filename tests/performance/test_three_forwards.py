"""What the two sides of the three-forward benchmarks do."""

import pytest
import torch

from lightning_modules.pidiff import PIDiff
from networks.backbone import load_backbone
from performance import three_forwards, three_forwards_memory
from performance.timing import Rounds
from pocket.models.paths import BASE

pytestmark = pytest.mark.skipif(not BASE.is_dir(), reason="the pocket models are not there")


def test_peak_bytes_counts_what_is_held_at_once() -> None:
    def work() -> None:
        a = torch.zeros(250_000)
        b = a + 1
        del a
        assert (b * 2).shape == b.shape

    assert 2_000_000 <= three_forwards_memory.peak_bytes(work) < 2_100_000


def test_three_forwards_need_the_memory_of_one() -> None:
    result = three_forwards_memory.measure()
    assert result.holds and result.ours > 10, str(result)


def test_both_steps_train_the_same_weights_from_the_same_face_loss() -> None:
    model = PIDiff(load_backbone(str(BASE)), *three_forwards.CODE)
    batch = three_forwards.noise_batch(model, 4)
    terms = model.loss_terms(batch)
    assert set(terms) == {"diffusion", "background", "disentanglement", "attention"}
    alone = three_forwards.one_forward(model, batch)
    torch.testing.assert_close(alone, terms["diffusion"])
    whole = learning(model, terms["diffusion"])
    part = learning(model, alone)
    assert whole.keys() == part.keys() == learning(model, sum(model.loss_terms(batch).values())).keys() != set()
    for name, gradient in whole.items():
        torch.testing.assert_close(gradient, part[name], msg=name)
    assert three_forwards.measure(Rounds(1, 2)).ratio > 0


def learning(model: PIDiff, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradients that a loss gives, by the name of the weight."""
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.adapter().named_parameters() if p.grad is not None}
