"""Frozen weights in the precision of the computation: the same values, and no cast of them in any step."""

import lightning as L
import pytest
import torch
from torch import nn

from callbacks.frozen import FrozenPrecision
from contracts.errors import LikenessError
from lightning_modules.base import PersonalisationModule
from networks.backbone import Backbone
from networks.precision import bfloat16_units, generating_precision, hold_frozen, tf32
from networks.sampler import SamplingSettings
from performance.accelerator.counts import Casts
from tests.helpers.batches import METHODS, build, request_batch, training_batch


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_weights_held_in_16_bits_are_never_cast_and_change_nothing(
    method: type[PersonalisationModule], backbone: Backbone
) -> None:
    module = build(method, backbone).train()
    frozen = module.backbone

    def one_step() -> tuple[list[torch.Tensor], int]:
        torch.manual_seed(0)
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16), Casts(frozen.parameters()) as casts:
            terms = module.loss_terms(training_batch(method))
        torch.stack(list(terms.values())).sum().backward()
        gradients = [p.grad.clone() for p in module.parameters() if p.grad is not None]
        return [*terms.values(), *gradients], casts.counted

    expected, casts = one_step()
    assert casts > 50
    hold_frozen(frozen, torch.bfloat16)
    held, casts_of_held = one_step()
    assert casts_of_held == 0 and len(held) > 1
    assert all(torch.equal(a, b) for a, b in zip(expected, held, strict=True))


def test_a_run_in_mixed_precision_holds_the_frozen_weights_and_what_is_trained_stays_whole(
    backbone: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    module = build(METHODS[0], backbone)
    trainer = L.Trainer(accelerator="cpu", precision="bf16-mixed", logger=False, enable_checkpointing=False)
    precision = FrozenPrecision()
    with caplog.at_level("INFO"):
        precision.on_fit_start(trainer, module)
    assert ("no bfloat16 units" in caplog.text) != bfloat16_units(torch.device("cpu"))
    kinds = {type(layer): layer.weight.dtype for layer in module.backbone.unet.modules() if hasattr(layer, "weight")}
    assert kinds[nn.Linear] == kinds[nn.Conv2d] == torch.bfloat16 and kinds[nn.GroupNorm] == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in module.adapter().parameters())
    precision.teardown(trainer, module, "fit")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_no_weight_is_cast_while_images_are_generated_and_the_images_are_the_same(
    method: type[PersonalisationModule], backbone: Backbone
) -> None:
    module = build(method, backbone).eval().requires_grad_(False)
    module.sampling = SamplingSettings("ddim", steps=2, guidance=3.0)

    def images() -> tuple[torch.Tensor, int]:
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode(), Casts(module.parameters()) as casts:
            return module.generate(request_batch()), casts.counted

    expected, casts = images()
    assert casts > 50
    hold_frozen(module, torch.bfloat16)
    held, casts_of_held = images()
    assert casts_of_held == 0 and torch.equal(held, expected)


def test_precision_by_device_and_tf32_only_where_it_is_asked_for() -> None:
    assert generating_precision("auto", "cpu") == generating_precision("32-true", "cpu") == "32-true"
    assert generating_precision("bf16-mixed", "cpu") == "bf16-mixed"
    with pytest.raises(LikenessError, match="precision tf32 is for NVIDIA GPUs only"):
        generating_precision("tf32", "cpu")
    for allowed in (True, False):
        before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        with tf32(allowed):
            assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == allowed
        assert before == (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
