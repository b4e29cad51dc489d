"""The network of LPIPS (arXiv 1801.03924) from weights that the user gives; none are shipped or downloaded.

The file holds the convolutions of AlexNet or VGG16 as torchvision names them (``features.N.weight``) and the
metric's channel weights as the authors' release does (``lin0.model.1.weight`` and so on), in one safetensors file.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from contracts.errors import LikenessError
from networks.precision import full_precision

# (channels, kernel, stride, padding) of a convolution, "pool" (kernel, stride), "tap" after a ReLU whose output counts.
_ALEXNET = [(64, 11, 4, 2), "tap", (3, 2), (192, 5, 1, 2), "tap", (3, 2), (384, 3, 1, 1), "tap", (256, 3, 1, 1), "tap"]
_ALEXNET += [(256, 3, 1, 1), "tap"]
_VGG16 = [step for depth, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)) for step in
          [*[(width, 3, 1, 1)] * depth, "tap", (2, 2)]][:-1]  # fmt: skip
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class LpipsNetwork(nn.Module):
    """Scaled features whose squared Euclidean distance is LPIPS."""

    shift: Tensor
    scale: Tensor

    def __init__(self, file: str | Path) -> None:
        """Load from a safetensors file; raises ``LikenessError`` where it is missing or holds other weights."""
        super().__init__()
        try:
            weights = load_file(file)
        except (OSError, SafetensorError) as error:
            raise LikenessError(f"judges.lpips: cannot read {file} ({error})") from error
        first = weights.get("features.0.weight")
        plan = _ALEXNET if first is not None and tuple(first.shape[2:]) == (11, 11) else _VGG16
        self.features, taps = _convolutions(plan)
        self.taps = frozenset(taps)
        try:
            self.features.load_state_dict(
                {k.removeprefix("features."): v for k, v in weights.items() if k.startswith("features.")}
            )
            lins = [weights[f"lin{i}.model.1.weight"].flatten() for i in range(len(taps))]
        except (KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise LikenessError(f"judges.lpips: {file} holds no LPIPS on AlexNet or VGG16 ({reason})") from error
        for i, lin in enumerate(lins):
            self.register_buffer(f"lin{i}", lin.clamp(min=0).sqrt())
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    @torch.inference_mode()
    @full_precision()
    def image_features(self, images: NDArray) -> Tensor:
        """Scaled features (B, F) of RGB uint8 images (B, H, W, 3), taken to -1..1 and not resized."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"expected uint8 images (B, H, W, 3), got {images.dtype} {images.shape}")
        x = torch.as_tensor(images, device=self.shift.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        x = (x - self.shift) / self.scale
        parts: list[Tensor] = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                unit = F.normalize(x, dim=1, eps=1e-10)
                weight = getattr(self, f"lin{len(parts)}").view(1, -1, 1, 1)
                parts.append((unit * weight / (x.shape[2] * x.shape[3]) ** 0.5).flatten(1))
        return torch.cat(parts, dim=1)


def _convolutions(plan: list) -> tuple[nn.Sequential, list[int]]:
    """The layers as torchvision numbers them, and the numbers of those that count."""
    layers: list[nn.Module] = []
    taps: list[int] = []
    channels = 3
    for step in plan:
        if step == "tap":
            taps.append(len(layers) - 1)
        elif len(step) == 2:
            layers.append(nn.MaxPool2d(*step))
        else:
            width, kernel, stride, padding = step
            layers += [nn.Conv2d(channels, width, kernel, stride, padding), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers), taps
