"""Style edits of a W+ code: along an attribute direction, or by taking a level of another person's code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts.errors import LikenessError
from contracts.prompts import PLACEHOLDER
from datamodules.requests import request_batch
from lightning_modules.pidiff import PIDiff
from networks.stylegan2 import mix_rows
from networks.wplus_directions import Direction

MIX = "mix"
CROSSOVERS = {"middle": 4, "fine": 8}
"""Style mixing takes the rows from here on of the other person: the middle and fine ones, or the fine ones only."""


@dataclass(frozen=True)
class Series:
    """Edits of one kind: a direction's ``name`` with its ``strengths``, or ``mix`` with a ``level``."""

    name: str
    strengths: tuple[float, ...] = ()
    level: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """One name per edited image, such as ``smiling+2`` or ``mix:fine``."""
        return (f"{MIX}:{self.level}",) if self.level else tuple(f"{self.name}{s:+g}" for s in self.strengths)

    def apply(self, code: Tensor, other: Tensor | None, directions: Mapping[str, Direction]) -> Tensor:
        """The edited codes (E, rows, width) of ``code`` (rows, width); ``other`` is the person to mix with."""
        if self.level:
            if other is None:
                raise LikenessError("style mixing needs a second person: name one with --with")
            return mix_rows(code[None], other[None], CROSSOVERS[self.level])
        if not directions:
            raise LikenessError(f"the edit {self.name!r} needs a direction: give a file of them with --directions")
        if self.name not in directions:
            raise LikenessError(f"no direction {self.name!r}; the file has {', '.join(sorted(directions))}")
        return torch.cat([directions[self.name].apply(code[None], strength) for strength in self.strengths])


def parse_series(text: str) -> Series:
    """``smiling=-2,-1,1,2`` or ``mix=fine``; raises ``LikenessError`` for anything else."""
    name, _, value = text.partition("=")
    if name == MIX:
        if value not in CROSSOVERS:
            raise LikenessError(f"edit {text!r}: mix takes one of {', '.join(CROSSOVERS)}, such as mix=fine")
        return Series(MIX, level=value)
    try:
        strengths = tuple(float(number) for number in value.split(","))
    except ValueError:
        strengths = ()
    if not name or not strengths or not np.isfinite(strengths).all():
        raise LikenessError(f"edit {text!r}: give NAME=STRENGTH,STRENGTH,... or mix=LEVEL")
    return Series(name, strengths)


def generate_codes(
    module: PIDiff, codes: Tensor, prompt: str, noun: str, key: Sequence[object], batch_size: int = 16
) -> NDArray[np.uint8]:
    """One image (N, H, W, 3) per code (N, rows, width), all from the noise that ``key`` names and with the same
    prompt."""
    spoken = prompt.replace(PLACEHOLDER, noun)
    text = module.backbone.encode_text([spoken])
    images = []
    for part in codes.to(text.device).split(batch_size):
        names = tuple(str(i) for i in range(len(part)))
        batch = request_batch(
            request_ids=names,
            subjects=names,
            prompts=[prompt] * len(part),
            noise_keys=[key] * len(part),
            latent_shape=module.backbone.latent_shape,
            text_states=text.expand(len(part)),
            reference={"wplus": part},
        )
        images.append(module.generate(batch).cpu().numpy())
    return np.concatenate(images)
