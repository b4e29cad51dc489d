"""In which numbers networks compute: full float32 where they judge, TF32 where it is asked for, 16 bits for frozen
weights under autocast."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from contracts.errors import LikenessError

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""What autocast computes in, by Lightning's name."""
TF32 = "tf32"
"""float32 whose matrix products and convolutions round their factors to 10 bits, as some GPUs do them fast."""

_CAST_BY_AUTOCAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 or bfloat16 inside of float32 convolutions and matrix products; afterwards all is as it was.

    Rounding there would move cosines in the third decimal, more than many claimed gains.
    """
    # What is not named here is switched off, cuDNN itself too.
    with (
        tf32(False),
        torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, deterministic=True, allow_tf32=False),
    ):
        yield


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether float32 matrix products and convolutions may use TF32; afterwards all is as it was. Of itself, torch
    allows it in convolutions and not in matrix products."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def generating_precision(asked: str, accelerator: str) -> str:
    """What images are generated in on that kind of device, for ``auto``: bfloat16 on GPUs that have it, else float32.

    Raises:
        LikenessError: TF32 is asked for and there is no GPU that has it.
    """
    device = torch.device("cuda" if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu")
    if asked == TF32 and device.type != "cuda":
        raise LikenessError("precision tf32 is for NVIDIA GPUs only: give 32-true here")
    if asked != "auto":
        return asked
    return "bf16-mixed" if device.type == "cuda" and bfloat16_units(device) else "32-true"


@torch.no_grad()
def hold_frozen(module: nn.Module, dtype: torch.dtype) -> None:
    """Put the frozen weights of linear layers and convolutions into ``dtype``, in which autocast computes with them.

    Autocast would cast them anew in every step, to the same values. Norms stay as they are, and so does what is
    trained, and an autoencoder that overflows in float16. The way back is to load the weights again.
    """
    upcast = tuple(f"{name}." if name else "" for name, part in module.named_modules() if _overflows(part, dtype))
    for name, layer in module.named_modules():
        if isinstance(layer, _CAST_BY_AUTOCAST) and not name.startswith(upcast):
            for weight in layer.parameters(recurse=False):
                if not weight.requires_grad:
                    weight.data = weight.data.to(dtype)


def _overflows(part: nn.Module, dtype: torch.dtype) -> bool:
    """Whether diffusers says of a network that it must be in float32 where the rest is in float16."""
    return dtype == torch.float16 and bool(getattr(getattr(part, "config", None), "force_upcast", False))


def bfloat16_units(device: torch.device) -> bool:
    """Whether ``device`` computes in bfloat16. A processor without units for it does too, but many times more slowly.

    Only x86 processors say what they have.
    """
    if device.type != "cpu" or platform.machine() not in ("x86_64", "AMD64"):
        return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    units = torch.cpu.get_capabilities()
    return bool(units.get("avx512_bf16") or units.get("amx_bf16"))
