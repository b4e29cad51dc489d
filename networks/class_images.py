"""Images that the base model generates of a class, for prior preservation (DreamBooth, arXiv 2208.12242).

They are generated once and kept in the cache as latents, by the hash of all that decides them. A file holds a few of
them, so processes share the work and a generation that was stopped goes on. What each file holds depends neither on the
number of processes nor on how many images are asked for.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from contracts.errors import LikenessError
from networks.adapter_file import read_adapter, write_adapter
from networks.keyed_noise import keyed_normal
from networks.sampler import SamplingSettings

IN_A_FILE = 4

Draw = Callable[[str, Tensor], Tensor]
"""Latents (B, C, h, w) of a text from start noise of the same shape."""


@dataclass(frozen=True)
class ClassImages:
    """``count`` latents (C, h, w) = ``shape`` for each text."""

    folder: Path
    backbone: str
    """Fingerprint of the base model."""
    shape: tuple[int, int, int]
    count: int
    sampling: SamplingSettings
    precision: str
    """What the base model computes in, as the trainer calls it."""

    def generate(self, texts: Sequence[str], draw: Draw, rank: int, processes: int, quiet: bool) -> None:
        """Make the missing files of this process's share, under a progress bar."""
        files = [(text, part) for text in texts for part in range(-(-self.count // IN_A_FILE))]
        missing = [(text, part) for text, part in files[rank::processes] if self._read(text, part) is None]
        for text, part in tqdm(missing, desc="class images", unit=f"{IN_A_FILE} images", disable=quiet or not missing):
            noise = [keyed_normal(self.shape, "class image", text, part * IN_A_FILE + i) for i in range(IN_A_FILE)]
            about = {"method": "class images", "backbone": self.backbone, "text": text}
            write_adapter(self._file(text, part), {"latents": draw(text, torch.stack(noise)).float()}, about)

    def load(self, text: str) -> Tensor:
        """The latents (count, C, h, w) of a text.

        Raises :class:`LikenessError` when a file is missing.
        """
        parts = []
        for part in range(-(-self.count // IN_A_FILE)):
            found = self._read(text, part)
            if found is None:
                raise LikenessError(f"no class images at {str(self._file(text, part))!r}: start the command again")
            parts.append(found)
        return torch.cat(parts)[: self.count]

    def _read(self, text: str, part: int) -> Tensor | None:
        """``None`` where the file is missing or damaged: it is made again."""
        try:
            latents = read_adapter(self._file(text, part))[0].get("latents")
        except LikenessError:
            return None
        fits = latents is not None and latents.shape == (IN_A_FILE, *self.shape)
        return latents if fits else None

    def _file(self, text: str, part: int) -> Path:
        decided = [self.backbone, text, self.shape, asdict(self.sampling), self.precision]
        key = hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:32]
        return self.folder / key / f"{part:04d}.safetensors"
