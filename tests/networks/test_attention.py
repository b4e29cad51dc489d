import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from networks.attention import attention

FUSED = "aten::_scaled_dot_product_flash_attention_for_cpu"


def states(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Query, key and value; 5 keys for 7 queries."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, n, 4, generator=generator).to(dtype).requires_grad_() for n in (7, 5, 5)]


def takes_fused_kernel(autocast: bool, graph: bool) -> bool:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), torch.set_grad_enabled(graph):
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            attention(*states(torch.bfloat16 if autocast else torch.float32))
    return FUSED in {event.key for event in seen.key_averages()}


@pytest.mark.parametrize(
    ("autocast", "graph", "fused"), [(True, True, False), (True, False, True), (False, True, True)]
)
def test_only_a_recorded_graph_in_bfloat16_on_a_cpu_takes_plain_products(
    autocast: bool, graph: bool, fused: bool
) -> None:
    assert takes_fused_kernel(autocast, graph) == fused


def test_plain_products_compute_what_the_fused_kernel_does() -> None:
    """To the rounding of bfloat16, values and gradients."""
    ours = states()
    theirs = states()
    with torch.autocast("cpu", torch.bfloat16):
        plain = attention(*ours)
    fused = F.scaled_dot_product_attention(*theirs)
    plain.float().square().sum().backward()
    fused.square().sum().backward()
    torch.testing.assert_close(plain.float(), fused, rtol=0.02, atol=0.02)
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.grad is not None and reference.grad is not None
        torch.testing.assert_close(mine.grad, reference.grad, rtol=0.05, atol=0.05)
