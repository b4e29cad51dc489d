"""The frozen encoders whose outputs are cached, and how the caches are filled.

Names of features: ``moments`` (2C, h, w) of the VAE posterior, unscaled; ``mask`` (1, h, w) in 0..1; ``text``
(L, D); ``clip`` (D,), the pooled CLIP image feature.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from contracts.errors import LikenessError
from datamodules.feature_cache import FeatureCache
from datamodules.processes import Processes
from networks.fingerprints import folder_fingerprint, resolve_source

if TYPE_CHECKING:
    from networks.backbone import Backbone
    from networks.clip_image import ClipImageEncoder

IMAGE_FEATURES = ("clip",)
"""Features of reference photos that a method may ask for."""

_PREPROCESSING = "central square, Lanczos"  # part of every image fingerprint: change it when images.py changes
_SHARD_ITEMS = 1024
_BATCH_PIXELS = 2**21  # encoded in one call: bounds memory at any resolution
T = TypeVar("T")


class FrozenEncoders:
    """The encoders of a backbone and an image encoder, loaded when they first encode.

    Args:
        backbone: Folder or hub name of the diffusion model.
        image_encoder: Folder or hub name of the CLIP; ``None`` where no image feature is asked for.
        resolution: Side in pixels of the square that images are brought to.
    """

    def __init__(self, backbone: str, image_encoder: str | None, resolution: int, device: torch.device) -> None:
        self.backbone, self.image_encoder, self.resolution, self.device = backbone, image_encoder, resolution, device

    def fingerprint(self, name: str) -> str:
        """Everything a feature depends on besides what is encoded; no weights are loaded for it."""
        from networks.clip_image import clip_image_fingerprint

        if name == "text":
            return f"{self._parts_fingerprint('text_encoder', 'tokenizer')}/text"
        if name == "mask":
            _, height, width = self.latent_shape
            return f"mask/{self.resolution}/{height}x{width}/{_PREPROCESSING}"
        if name == "moments":
            return f"{self._parts_fingerprint('vae')}/moments/{self.resolution}/{_PREPROCESSING}"
        return f"{clip_image_fingerprint(self._image_source(name))}/{name}/{self.resolution}/{_PREPROCESSING}"

    @torch.inference_mode()
    def encode(self, name: str, batch: Sequence[NDArray[np.uint8]] | Sequence[str]) -> Tensor:
        """Features of square images (H, W, 3), of square masks (H, W) or of texts, one row each."""
        if name == "text":
            return self._backbone.encode_text([str(text) for text in batch])
        pixels = torch.from_numpy(np.stack(batch)).to(self.device)
        if name == "mask":
            return F.interpolate(pixels[:, None].float() / 255, self.latent_shape[1:], mode="area")
        if name == "moments":
            return self._backbone.encode_moments(pixels)
        return self._clip.encode(pixels)

    @cached_property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of a latent; read from the configuration."""
        from networks.backbone import backbone_latent_shape

        return backbone_latent_shape(self.backbone)

    def _parts_fingerprint(self, *parts: str) -> str:
        """Of the backbone's parts that a feature depends on: another UNet leaves the caches as they are."""
        folder = resolve_source(self.backbone)
        return "/".join(folder_fingerprint(folder / part) for part in parts)

    @cached_property
    def _backbone(self) -> "Backbone":
        from networks.backbone import load_backbone

        return load_backbone(self.backbone).to(self.device)

    @cached_property
    def _clip(self) -> "ClipImageEncoder":
        from networks.clip_image import load_clip_image

        return load_clip_image(self._image_source("clip")).to(self.device)

    def _image_source(self, name: str) -> str:
        if name not in IMAGE_FEATURES:
            raise LikenessError(f"unknown image feature {name!r}, known are {', '.join(IMAGE_FEATURES)}")
        if self.image_encoder is None:
            raise LikenessError(f"the feature {name!r} needs an image encoder: set image_encoder")
        return self.image_encoder


class Features:
    """The feature caches of one set of encoders.

    Args:
        folder: Where all feature caches lie. Processes on several machines should share it; where they do not,
            every machine encodes for itself.
    """

    def __init__(self, encoders: FrozenEncoders, folder: Path, processes: Processes) -> None:
        self._encoders, self._folder, self._processes = encoders, folder, processes
        self._batch_size = min(64, max(1, _BATCH_PIXELS // encoders.resolution**2))
        self._caches: dict[str, FeatureCache] = {}

    def __getitem__(self, name: str) -> FeatureCache:
        return self._caches[name]

    def fill(
        self, names: Sequence[str], keys: Sequence[str], read: Callable[[set[str]], Iterable[tuple[str, dict]]]
    ) -> None:
        """Encode what the caches of ``names`` lack, each item once, the work divided over all processes.

        Every process must call this, with the same arguments.

        Args:
            keys: Content hashes of the items.
            read: Yields (key, {name: payload for :meth:`FrozenEncoders.encode`}) for a set of keys, in any order.
        """
        caches = [self._open(name) for name in names]
        p = self._processes
        # Twice: where machines do not share the folder, the second round fills in what the other ones encoded.
        for part, parts in ((p.rank, p.count), (p.local_rank, p.local_count)):
            lacking = {cache.name: cache.missing(keys) for cache in caches}
            p.barrier()
            for cache in caches:
                cache.discard_damaged()
            p.barrier()
            self._encode_share({name: set(some[part::parts]) for name, some in lacking.items()}, read)
            p.barrier()
            for cache in caches:
                cache.refresh()

    def _open(self, name: str) -> FeatureCache:
        if name not in self._caches:
            self._caches[name] = FeatureCache(self._folder, name, self._encoders.fingerprint(name))
        return self._caches[name]

    def _encode_share(
        self, wanted: dict[str, set[str]], read: Callable[[set[str]], Iterable[tuple[str, dict]]]
    ) -> None:
        keys = set().union(*wanted.values())
        if not keys:
            return
        title = f"encoding {', '.join(name for name, some in wanted.items() if some)}"
        items = tqdm(read(keys), total=len(keys), desc=title, disable=self._processes.rank > 0, mininterval=1)
        for shard in _chunks(items, _SHARD_ITEMS):
            for name, some in wanted.items():
                mine = [(key, payloads[name]) for key, payloads in shard if key in some]
                if mine:
                    encoded = [
                        self._encoders.encode(name, [payload for _, payload in batch]).cpu()
                        for batch in _chunks(mine, self._batch_size)
                    ]
                    self._caches[name].append([key for key, _ in mine], torch.cat(encoded))


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
