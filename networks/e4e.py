"""e4e, "Encoder for Editing" (Tov et al. 2021, arXiv 2102.02766): a face to W+ codes.

The backbone is an improved residual network with squeeze-and-excitation (IR-SE50, as in ArcFace, arXiv 1801.07698)
under a feature pyramid; every row of the code has a head of its own. Names and shapes of all entries are those of the
encoder inside public e4e checkpoints, so these load strictly.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.errors import LikenessError

IR_SE50 = ((64, 3), (128, 4), (256, 14), (512, 3))
"""Channels and residual units of the four blocks of the published encoder."""
INPUT_SIZE = 256
COARSE_ROWS = 3
MIDDLE_ROWS = 7
"""Rows before the first read the coarsest features, rows before the second the middle ones, the others the finest."""


class E4E(nn.Module):
    """Aligned faces of side ``input_size`` to codes of ``rows`` x ``width``; ``blocks`` as in :data:`IR_SE50`."""

    def __init__(
        self,
        rows: int,
        width: int = 512,
        input_size: int = INPUT_SIZE,
        blocks: Sequence[tuple[int, int]] = IR_SE50,
    ) -> None:
        super().__init__()
        if len(blocks) != 4 or input_size < 32 or input_size & (input_size - 1):
            raise LikenessError(
                f"encoder: {len(blocks)} blocks for inputs of side {input_size}: it takes four blocks and a power of "
                "two, 32 or more"
            )
        self.rows = rows
        self.width = width
        self.input_size = input_size
        self.blocks = tuple((channels, units) for channels, units in blocks)
        first = self.blocks[0][0]
        self.input_layer = nn.Sequential(_conv(3, first), nn.BatchNorm2d(first), nn.PReLU(first))
        self.body = nn.ModuleList()
        before = first
        for channels, units in self.blocks:
            self.body.extend(
                _Unit(before if i == 0 else channels, channels, stride=2 if i == 0 else 1) for i in range(units)
            )
            before = channels
        fine, middle, coarse = (channels for channels, _ in self.blocks[1:])
        self.latlayer1 = nn.Conv2d(middle, coarse, 1)
        self.latlayer2 = nn.Conv2d(fine, coarse, 1)
        # Halvings from the coarsest features, a sixteenth of the input, to one cell.
        depth = input_size.bit_length() - 5
        self.styles = nn.ModuleList(
            _Head(coarse, width, depth + (i >= COARSE_ROWS) + (i >= MIDDLE_ROWS)) for i in range(rows)
        )

    def pyramid(self, images: Tensor) -> dict[str, Tensor]:
        """Features by name.

        c1, c2 and c3 come after blocks 2, 3 and 4, at 1/4, 1/8 and 1/16 of a side. p2 and p1 are the pyramid's: the
        coarser level is enlarged and added to c2 and c1.
        """
        x = self.input_layer(images)
        ends = []
        units = iter(self.body)
        for _, count in self.blocks:
            for _ in range(count):
                x = next(units)(x)
            ends.append(x)
        _, c1, c2, c3 = ends
        p2 = _onto(c3, self.latlayer1(c2))
        return {"c1": c1, "c2": c2, "c3": c3, "p2": p2, "p1": _onto(p2, self.latlayer2(c1))}

    def forward(self, images: Tensor, last_delta: int | None = None) -> Tensor:
        """RGB (B, 3, input_size, input_size) in -1..1 to offsets from the mean code, (B, rows, width).

        Row 0 is w. Row i is w plus a delta of its own, never a sum of deltas. Only rows 1 to ``last_delta`` get their
        delta, as in the paper's progressive training; without it all rows do. Raises :class:`LikenessError` for images
        of another size.
        """
        if images.shape[2:] != (self.input_size, self.input_size):
            raise LikenessError(
                f"encoder input is {tuple(images.shape[2:])} pixels, it takes squares of {self.input_size}"
            )
        features = self.pyramid(images)
        last = self.rows - 1 if last_delta is None else last_delta
        w = self.styles[0](features["c3"])
        deltas = [torch.zeros_like(w)]
        for i in range(1, self.rows):
            level = "c3" if i < COARSE_ROWS else "p2" if i < MIDDLE_ROWS else "p1"
            deltas.append(self.styles[i](features[level]) if i <= last else torch.zeros_like(w))
        return w[:, None] + torch.stack(deltas, dim=1)


def _conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, 1, bias=False)


def _onto(coarse: Tensor, lateral: Tensor) -> Tensor:
    return F.interpolate(coarse, size=lateral.shape[2:], mode="bilinear", align_corners=True) + lateral


class _SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(1, channels // 16)
        self.fc1 = nn.Conv2d(channels, narrow, 1, bias=False)
        self.fc2 = nn.Conv2d(narrow, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True)))))


class _Unit(nn.Module):
    """A residual unit with the batch norm first and nothing after the sum."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(before),
            _conv(before, after),
            nn.PReLU(after),
            _conv(after, after, stride),
            nn.BatchNorm2d(after),
            _SqueezeExcite(after),
        )
        self.shortcut_layer = (
            nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            if before != after
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        kept = x[:, :, :: self.stride, :: self.stride] if self.shortcut_layer is None else self.shortcut_layer(x)
        return kept + self.res_layer(x)


class _Linear(nn.Module):
    """A linear layer whose weight is scaled at run time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / math.sqrt(self.weight.shape[1]), self.bias)


class _Head(nn.Module):
    """``depth`` halvings to a single cell, then one row's code or delta."""

    def __init__(self, before: int, width: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Conv2d(before if i == 0 else width, width, 3, 2, 1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear = _Linear(width)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(self.convs(features).flatten(1))
