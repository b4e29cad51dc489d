"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958): mapping and synthesis, with a code for every layer (W+).

Names and shapes of all entries are those of the generator inside public e4e and pSp checkpoints, so these load
strictly.
Which row of a W+ code feeds what, for an image of side 2^m and 2m - 2 rows:

    row 0          the convolution at 4 x 4                      row 1           colour at 4 x 4
    row 2k + 1     the upsampling convolution to 2^(k + 3)       row 2k + 2      the second convolution there
    row 2k + 3     colour at 2^(k + 3)

so an odd row is shared by the colour layer of one size and the upsampling convolution of the next.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.errors import LikenessError

MAPPING_RATE = 0.01
"""Learning-rate multiplier of the mapping network, applied to weights and biases at run time."""
_EPSILON = 1e-8


def row_count(size: int) -> int:
    """Rows of a W+ code of a generator for images of side ``size``.

    Raises :class:`LikenessError` unless ``size`` is a power of two, 8 at least.
    """
    if size < 8 or size & (size - 1):
        raise LikenessError(f"generator size is {size}: it must be a power of two, 8 or more")
    return 2 * (size.bit_length() - 1) - 2


def published_channels(size: int) -> tuple[int, ...]:
    """Channels at 4, 8, ... ``size`` of the published 1024 x 1024 configuration: 512, halved from 128 on."""
    return tuple(min(512, 2**15 // side) for side in (4 << i for i in range(row_count(size) // 2)))


def mix_rows(first: Tensor, second: Tensor, crossover: int) -> Tensor:
    """Style mixing (Karras et al. 2019, section 3.1): rows before ``crossover`` of ``first``, the others of ``second``.

    Both are (B, rows, width) or broadcast to it.
    """
    return torch.cat([first[:, :crossover], second[:, crossover:]], dim=1)


def truncate(codes: Tensor, centre: Tensor, strength: float) -> Tensor:
    """The truncation trick (ibid., appendix B): c + strength (w - c) on all rows, where ``strength`` is below 1."""
    return codes if strength >= 1 else centre + strength * (codes - centre)


def fir_kernel() -> Tensor:
    """The (4, 4) binomial low-pass of up-sampling; its sum is 4, because three of four samples are zeros."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 16


class StyleGAN2(nn.Module):
    """The mapping network (z to w) and the synthesis network (W+ codes to images of side ``size``).

    ``channels`` are those at 4, 8, ... ``size`` pixels. ``width`` is the size of z and of one row of a code, ``rows``
    the number of rows.
    """

    def __init__(self, size: int, width: int = 512, mapping_layers: int = 8, channels: Sequence[int] = ()) -> None:
        super().__init__()
        if width < 1:
            raise LikenessError(f"generator width is {width}: it must be at least 1")
        self.size = size
        self.width = width
        self.rows = row_count(size)
        self.channels = tuple(channels) or published_channels(size)
        if len(self.channels) != self.rows // 2:
            raise LikenessError(
                f"generator channels: {len(self.channels)} given, size {size} has {self.rows // 2} scales"
            )
        self.style = nn.Sequential(_PixelNorm(), *(_MappingLayer(width) for _ in range(mapping_layers)))
        first = self.channels[0]
        self.input = _Constant(first)
        self.conv1 = _StyledConv(first, first, width)
        self.to_rgb1 = _ToRGB(first, width)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        for before, after in zip(self.channels, self.channels[1:], strict=False):
            self.convs.append(_StyledConv(before, after, width, upsample=True))
            self.convs.append(_StyledConv(after, after, width))
            self.to_rgbs.append(_ToRGB(after, width, upsample=True))
        self.noises = nn.Module()
        for i in range(self.rows - 1):
            self.noises.register_buffer(f"noise_{i}", torch.randn(1, 1, *[4 << (i + 1) // 2] * 2))

    def map(self, z: Tensor) -> Tensor:
        """z (B, width), standard normal, to w (B, width)."""
        return self.style(z)

    def repeated(self, w: Tensor) -> Tensor:
        """w (B, width) on every row: (B, rows, width)."""
        return w[:, None].expand(-1, self.rows, -1)

    def registered_noise(self) -> list[Tensor]:
        """The noise maps stored with the weights, (1, 1, side, side) for each convolution."""
        return [self.noises.get_buffer(f"noise_{i}") for i in range(self.rows - 1)]

    def draw_noise(self, batch: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Fresh maps (batch, 1, side, side), sampled on ``generator``'s device (the CPU without one)."""
        device = self.input.input.device
        source = generator.device if generator is not None else torch.device("cpu")
        return [
            torch.randn(batch, 1, *map.shape[2:], generator=generator, device=source).to(device)
            for map in self.registered_noise()
        ]

    def forward(self, codes: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """W+ codes (B, rows, width) to RGB (B, 3, size, size), about -1..1 and not clamped.

        ``noise`` holds one map per convolution, broadcast over images and channels. Without it the registered maps are
        taken.
        Raises :class:`LikenessError` for codes of another shape.
        """
        if codes.shape[1:] != (self.rows, self.width):
            raise LikenessError(
                f"codes are {tuple(codes.shape[1:])} (rows, width), a generator of size {self.size} takes "
                f"{(self.rows, self.width)}"
            )
        maps = self.registered_noise() if noise is None else noise
        x = self.conv1(self.input(len(codes)), codes[:, 0], maps[0])
        rgb = self.to_rgb1(x, codes[:, 1])
        for k, to_rgb in enumerate(self.to_rgbs):
            x = self.convs[2 * k](x, codes[:, 2 * k + 1], maps[2 * k + 1])
            x = self.convs[2 * k + 1](x, codes[:, 2 * k + 2], maps[2 * k + 2])
            rgb = to_rgb(x, codes[:, 2 * k + 3], rgb)
        return rgb


def _activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


class _PixelNorm(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + _EPSILON)


class _MappingLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width) / MAPPING_RATE)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * (MAPPING_RATE / math.sqrt(self.weight.shape[1]))
        return _activated(F.linear(x, weight, self.bias * MAPPING_RATE))


class _Modulation(nn.Module):
    """A row of codes to one factor per input channel."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, width))
        self.bias = nn.Parameter(torch.ones(channels))

    def forward(self, code: Tensor) -> Tensor:
        return F.linear(code, self.weight / math.sqrt(self.weight.shape[1]), self.bias)


class _Kernel(nn.Module):
    """The low-pass as it stands in the checkpoint. It is symmetric, so convolution and correlation are the same."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel())

    def smooth(self, x: Tensor) -> Tensor:
        """(B, C, n + 1, n + 1) to (B, C, n, n)."""
        return F.conv2d(x, self._depthwise(x), padding=1, groups=x.shape[1])

    def enlarge(self, x: Tensor) -> Tensor:
        """(B, C, n, n) to (B, C, 2n, 2n)."""
        return F.conv_transpose2d(x, self._depthwise(x), stride=2, padding=1, groups=x.shape[1])

    def _depthwise(self, x: Tensor) -> Tensor:
        return self.kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)


class _ModulatedConv(nn.Module):
    """Equations 1 and 3 of the paper, with the factors on the input and the norm on the output.

    That equals scaling the weight for each image, and leaves one ordinary convolution for the whole batch.
    """

    def __init__(self, before: int, after: int, side: int, width: int, demodulate: bool, upsample: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, after, before, side, side))
        self.modulation = _Modulation(width, before)
        self.demodulate = demodulate
        self.blur = _Kernel() if upsample else None

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        weight = self.weight[0] / math.sqrt(self.weight[0, 0].numel())
        factor = self.modulation(code)
        x = x * factor[:, :, None, None].to(x.dtype)
        if self.blur is None:
            x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        else:
            x = self.blur.smooth(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        if self.demodulate:
            power = F.linear(factor.square(), weight.square().sum(dim=(2, 3)))
            x = x * torch.rsqrt(power.float() + _EPSILON)[:, :, None, None].to(x.dtype)
        return x


class _Noise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return x + (self.weight * noise).to(x.dtype)


class _Activation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return _activated(x + self.bias[:, None, None].to(x.dtype))


class _StyledConv(nn.Module):
    def __init__(self, before: int, after: int, width: int, upsample: bool = False) -> None:
        super().__init__()
        self.conv = _ModulatedConv(before, after, 3, width, demodulate=True, upsample=upsample)
        self.noise = _Noise()
        self.activate = _Activation(after)

    def forward(self, x: Tensor, code: Tensor, noise: Tensor) -> Tensor:
        return self.activate(self.noise(self.conv(x, code), noise))


class _ToRGB(nn.Module):
    def __init__(self, channels: int, width: int, upsample: bool = False) -> None:
        super().__init__()
        self.conv = _ModulatedConv(channels, 3, 1, width, demodulate=False, upsample=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = _Kernel() if upsample else None

    def forward(self, x: Tensor, code: Tensor, below: Tensor | None = None) -> Tensor:
        rgb = self.conv(x, code) + self.bias
        return rgb if self.upsample is None or below is None else rgb + self.upsample.enlarge(below)


class _Constant(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, batch: int) -> Tensor:
        return self.input.expand(batch, -1, -1, -1)
