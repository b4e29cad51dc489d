"""Compiled blocks: one graph per shape and none that breaks, whatever a method puts into the attention."""

import pytest
import torch
from torch._dynamo.utils import counters

from lightning_modules.base import PersonalisationModule
from lightning_modules.ip_adapter import IPAdapter
from networks.backbone import Backbone
from networks.compiling import compile_blocks
from networks.sampler import SamplingSettings
from tests.helpers.batches import METHODS, build, request_batch, training_batch

FEW = SamplingSettings("ddim", steps=1, guidance=3.0)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_no_methods_attention_breaks_the_graph(method: type[PersonalisationModule], backbone: Backbone) -> None:
    module = build(method, backbone).train()
    module.sampling = FEW
    names, batch = list(module.state_dict()), training_batch(method)
    terms, images = module.loss_terms(batch), module.generate(request_batch())
    torch._dynamo.reset()
    counters.clear()
    compile_blocks(module.backbone.unet, backend="eager")
    compiled = module.loss_terms(batch)
    torch.stack(list(compiled.values())).sum().backward()
    # Two widths, two grids, with and without a gradient: no layer has a graph of its own.
    assert 2 <= counters["stats"]["unique_graphs"] <= 8 and not counters["graph_break"]
    assert all(torch.equal(compiled[name], value) for name, value in terms.items())
    assert torch.equal(module.generate(request_batch()), images) and not counters["graph_break"]
    assert list(module.state_dict()) == names and not any("_orig_mod" in name for name in module.adapter().state_dict())


@pytest.mark.slow
def test_the_images_of_a_batch_do_not_depend_on_the_batches_before_it(backbone: Backbone) -> None:
    module = build(IPAdapter, backbone).eval().requires_grad_(False)
    module.sampling = FEW
    compile_blocks(module.backbone.unet)
    torch._dynamo.reset()
    with torch.inference_mode():
        alone = module.generate(request_batch(2))
        torch._dynamo.reset()
        module.generate(request_batch(3))  # another shape before it, as on the process that has more batches
        after = module.generate(request_batch(2))
    assert torch.equal(alone, after)
