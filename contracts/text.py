"""What a base model reads of texts: the states of its text encoders and, of SDXL, pooled text and sizes."""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Text:
    """B texts as the UNet reads them. ``pooled`` and ``sizes`` are ``None`` where the base model reads neither."""

    states: Tensor
    """(B, L, D): the states of the text encoders, side by side where there are several."""
    pooled: Tensor | None = None
    """(B, P): one vector for the whole text."""
    sizes: Tensor | None = None
    """(B, 6) in pixels: height and width of the photo, top and left of the crop after it was brought to the image's
    size, height and width of the image. That of an image to generate is the whole of a photo of its own size."""

    def __len__(self) -> int:
        return len(self.states)

    @property
    def device(self) -> torch.device:
        return self.states.device

    def __getitem__(self, rows: slice | Tensor) -> Self:
        """The texts in ``rows``, a slice or indices."""
        return self._each(lambda value: value[rows])

    def expand(self, size: int) -> Self:
        """One text for ``size`` images."""
        return self._each(lambda value: value.expand(size, *value.shape[1:]))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        return self._each(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """In memory from which a GPU copies without anybody waiting for it."""
        return self._each(lambda value: value.pin_memory())

    def of_whole_images(self, side: int) -> Self:
        """The same texts, of images that are generated: whole ones of ``side`` pixels. Without pooled text the base
        model reads no sizes."""
        if self.pooled is None:
            return self
        sizes = torch.full((6,), float(side), device=self.device)  # made there: a copy would be waited for
        sizes[2:4] = 0.0
        return replace(self, sizes=sizes.expand(len(self), -1))

    def of_photos(self, sizes: Tensor | None) -> Self:
        """The same texts, of photos with these ``sizes`` (B, 6); a base model that reads none has none of them."""
        return self if self.sizes is None or sizes is None else replace(self, sizes=sizes)

    def _each(self, change: Any) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(value) for name, value in values.items() if value is not None})
