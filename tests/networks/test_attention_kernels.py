import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from networks.attention_kernels import training_attention, without_graph

FUSED, PLAIN = "aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_scaled_dot_product_attention_math"


def kernels_of_one_call() -> set[str]:
    states = torch.randn(1, 2, 8, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        F.scaled_dot_product_attention(states, states, states)
    return {event.key for event in seen.key_averages()} & {FUSED, PLAIN}


def test_training_in_bfloat16_on_a_cpu_takes_plain_products_and_targets_the_fused_kernel() -> None:
    assert kernels_of_one_call() == {FUSED}
    with torch.autocast("cpu", torch.bfloat16), training_attention(torch.device("cpu")):
        assert kernels_of_one_call() == {PLAIN}
        with without_graph():
            assert kernels_of_one_call() == {FUSED}
            assert not torch.is_grad_enabled()
        assert kernels_of_one_call() == {PLAIN}
        assert torch.is_grad_enabled()


def test_training_in_full_precision_leaves_the_choice_to_pytorch() -> None:
    with training_attention(torch.device("cpu")):
        assert kernels_of_one_call() == {FUSED}
