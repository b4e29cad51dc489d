"""What saves memory changes nothing but memory: recomputed blocks, accumulated gradients, moments in 8 bits."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train
from lightning_modules.base import PersonalisationModule
from lightning_modules.pidiff import PIDiff
from lightning_modules.sefi_ide import SefiIDE
from networks.attention import taken_notes
from networks.backbone import Backbone
from networks.checkpointing import checkpoint_blocks
from networks.compiling import compile_blocks
from pocket.tiny.world import TinyWorld
from tests.helpers.batches import METHODS, build, training_batch


def gradients(module: PersonalisationModule) -> list[torch.Tensor]:
    """Loss terms and gradients of a step."""
    torch.manual_seed(0)
    module.zero_grad()
    terms = module.loss_terms(training_batch(type(module)))
    torch.stack(list(terms.values())).sum().backward()
    return [*terms.values(), *(p.grad.clone() for p in module.parameters() if p.grad is not None)]


NOTING = [PIDiff, SefiIDE]
"""Their attention notes something beside its output."""


@pytest.mark.parametrize(
    ("method", "compiled"),
    [*((method, False) for method in METHODS), *((method, True) for method in NOTING)],
    ids=lambda value: value.__name__ if isinstance(value, type) else ["", "compiled"][value],
)
def test_recomputed_blocks_give_the_same_gradients(
    method: type[PersonalisationModule], backbone: Backbone, compiled: bool
) -> None:
    module = build(method, backbone).train()
    expected = gradients(module)
    checkpoint_blocks(module.backbone.unet)
    if compiled:
        torch._dynamo.reset()
        compile_blocks(module.backbone.unet, backend="aot_eager")
    found = gradients(module)
    assert len(found) == len(expected) > 1
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 if compiled else 0)


def test_what_a_recomputed_block_notes_is_forgotten(backbone: Backbone) -> None:
    """It would keep the whole block in memory."""
    module = build(PIDiff, backbone).train()
    checkpoint_blocks(module.backbone.unet)
    gradients(module)
    assert not taken_notes(module.backbone.unet)


def test_two_halves_of_a_batch_make_the_step_of_the_whole(tiny_world: TinyWorld, tmp_path: Path) -> None:
    """In both stages: a first stage lasts as many steps as it says, and each sample comes once."""
    whole = {"data.first_stage": "null", "trainer.max_steps": 3, "data.batch_size": 4}
    halves = {**whole, "trainer.accumulate_grad_batches": 2, "data.batch_size": 2}
    found = []
    for name, settings in (("whole", whole), ("halves", halves)):
        assert train.main(tiny_world.arguments(tmp_path / name, **settings)) == 0
        found.append(load_file(tmp_path / name / "adapter.safetensors"))
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_moments_in_8_bits_need_a_package_or_a_gpu(
    tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert train.main([*tiny_world.arguments(tmp_path / "run"), "--adamw_8bit"]) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("error: --adamw_8bit ") and line.endswith("leave it out"), line
    assert not (tmp_path / "run" / "config.yaml").exists()
