"""Copies of one module side by side: what is optimised for several subjects at the same time."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap


class SubjectSlots(nn.Module):
    """Independent copies of a module, one for each subject that is optimised at the same time.

    ``make`` builds the module of one subject. It takes no input and returns the subject's tensors by name. Every
    parameter and buffer of it is stacked along a first dimension of S slots. No slot influences another one, as long
    as the optimiser works element by element and gradients are clipped by :func:`clip_each`.
    """

    def __init__(self, make: Callable[[], nn.Module], slots: int) -> None:
        super().__init__()
        with torch.device("meta"):
            module = make()
            self.shapes: dict[str, tuple[int, ...]] = {name: tuple(value.shape) for name, value in module().items()}
            """Shapes of a subject's tensors by name."""
        # In a tuple, so that it is no registered part: it has shapes and no weights.
        self._module = (module,)
        self._count = slots
        device = torch.get_default_device()
        self.stacked = nn.ParameterDict(
            {
                _key(name): nn.Parameter(torch.zeros(slots, *value.shape, device=device))
                for name, value in module.named_parameters()
            }
        )
        for name, buffer in module.named_buffers():
            self.register_buffer(_key(name), torch.zeros(slots, *buffer.shape, device=device))

    def __len__(self) -> int:
        return self._count

    @torch.no_grad()
    def fill(self, slot: int, module: nn.Module) -> None:
        """Put a subject's module into a slot."""
        for name, value in module.named_parameters():
            self.stacked[_key(name)][slot].copy_(value)
        for name, buffer in module.named_buffers():
            self.get_buffer(_key(name))[slot].copy_(buffer)

    def forward(self, slots: Tensor) -> dict[str, Tensor]:
        """The tensors by name, each (B, ...), of ``slots`` (B,)."""
        module = self._module[0]
        state = {name: self.stacked[_key(name)][slots] for name, _ in module.named_parameters()}
        state |= {name: self.get_buffer(_key(name))[slots] for name, _ in module.named_buffers()}

        def one(values: dict[str, Tensor]) -> dict[str, Tensor]:
            return functional_call(module, values, ())

        return vmap(one)(state)


def _key(name: str) -> str:
    """A parameter's name without dots, which no registered part may have."""
    return name.replace(".", "/")


def clip_each(parameters: list[nn.Parameter], limit: float) -> None:
    """Scale gradients so that in each slot (first dimension) their norm over all parameters is at most ``limit``.

    The norm over all slots, which is usually clipped, would couple subjects.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    norms = torch.stack([g.flatten(1).pow(2).sum(dim=1) for g in gradients]).sum(dim=0).sqrt()
    factors = (limit / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))
