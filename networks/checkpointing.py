"""Gradient checkpointing: a UNet's blocks are computed again in the backward pass, so that nobody holds what lies in
them."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from diffusers import UNet2DConditionModel
from torch import nn
from torch.utils.checkpoint import checkpoint

from networks.attention import CrossAttention


def checkpoint_blocks(unet: UNet2DConditionModel) -> None:
    """Let each block of ``unet`` keep its inputs only, and compute the rest again when the gradient comes."""
    unet.enable_gradient_checkpointing(_run)


def _run(block: nn.Module, *arguments: Any) -> Any:
    contexts = partial(_contexts, block)
    return checkpoint(block.__call__, *arguments, use_reentrant=False, context_fn=contexts)


def _contexts(block: nn.Module) -> tuple[Any, Any]:
    return nullcontext(), _forgotten(block)


@contextmanager
def _forgotten(block: nn.Module) -> Iterator[None]:
    """What a layer notes when it is computed again nobody reads, and it would keep the whole block in memory."""
    try:
        yield
    finally:
        for layer in block.modules():
            processor = getattr(layer, "processor", None)
            if isinstance(processor, CrossAttention):
                processor.noted = None
