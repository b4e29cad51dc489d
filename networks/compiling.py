"""Compiled repeated blocks of a UNet: the same weights under the same names, in fewer and larger kernels."""

import torch
from diffusers import UNet2DConditionModel


def compile_blocks(unet: UNet2DConditionModel, backend: str = "inductor") -> None:
    """Compile each transformer block of ``unet`` in place, when it is first called with inputs of a shape.

    Every shape has a graph of its own, so an image's bits depend neither on the batches that came before nor on the
    number of processes. A graph that breaks is an error. No name in the UNet's state changes.

    Args:
        backend: What makes kernels of the graphs, by torch's name.
    """
    # Blocks differ in width, grid, batch size, and with and without gradients; all of them share one limit. DDP's own
    # cut of a graph by buckets is for whole models: it would give one process other kernels than two.
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    torch._dynamo.config.optimize_ddp = False
    unet.compile_repeated_blocks(backend=backend, fullgraph=True, dynamic=False)
