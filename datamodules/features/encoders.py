"""The frozen encoders whose outputs are cached, and how the caches are filled.

Names of features: ``moments`` (2C, h, w) of the VAE posterior, unscaled; ``mask`` (1, h, w) in 0..1; ``text``
(L, D); ``clip`` (D,), the pooled CLIP image feature. Of faces: ``wplus`` (rows, width), the W+ code of the aligned face
without its background; ``wplus_background``, the same with it; ``face_moments`` (2C, h, w) of the aligned face with its
background; ``face`` (1, h, w) in 0..1, the soft mask of the head.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from contracts.errors import LikenessError
from datamodules.face_crops import VERSION as PORTRAITS
from datamodules.face_crops import Portrait, aligned
from datamodules.features.cache import FeatureCache
from datamodules.index import Photo
from datamodules.processes import Processes
from networks.face_alignment import VERSION as ALIGNER
from networks.fingerprints import folder_fingerprint, resolve_source

if TYPE_CHECKING:
    from networks.backbone import Backbone
    from networks.clip_image import ClipImageEncoder
    from networks.wplus import WPlusEncoder

IMAGE_FEATURES = ("clip", "wplus")
"""Features of reference photos that a method may ask for."""
PORTRAIT_FEATURES = ("wplus", "wplus_background", "face_moments")
"""Features that are made from a :class:`~datamodules.face_crops.Portrait`."""

_PREPROCESSING = "central square, Lanczos"  # part of every image fingerprint: change it when images.py changes
_SHARD_ITEMS = 1024
_BATCH_PIXELS = 2**21  # encoded in one call: bounds memory at any resolution
T = TypeVar("T")


class FrozenEncoders:
    """The encoders of a backbone and an image encoder, loaded when they first encode.

    Args:
        backbone: Folder or hub name of the diffusion model.
        image_encoder: Folder or hub name of the CLIP; ``None`` where ``clip`` is not asked for.
        resolution: Side in pixels of the square that images are brought to.
        wplus_encoder: Folder or checkpoint of the W+ encoder; ``None`` where no W+ code is asked for.
        detector: Face pack that finds the face in a photo whose landmarks are not known.
    """

    def __init__(
        self,
        backbone: str,
        image_encoder: str | None,
        resolution: int,
        device: torch.device,
        wplus_encoder: str | None = None,
        detector: str | None = None,
    ) -> None:
        self.backbone, self.image_encoder, self.resolution, self.device = backbone, image_encoder, resolution, device
        self.wplus_encoder, self.detector = wplus_encoder, detector

    def fingerprint(self, name: str) -> str:
        """Everything a feature depends on besides what is encoded; no weights are loaded for it."""
        from networks.clip_image import clip_image_fingerprint
        from networks.wplus import wplus_fingerprint

        if name in PORTRAIT_FEATURES:
            how = f"{name}/{ALIGNER}/{PORTRAITS}/{self._detector_fingerprint}"
            if name == "face_moments":
                return f"{self._parts_fingerprint('vae')}/{how}/{self.resolution}"
            return f"{wplus_fingerprint(self._wplus_source)}/{how}"
        if name == "face":
            _, height, width = self.latent_shape
            return f"face/{self.resolution}/{height}x{width}/{PORTRAITS}"

        if name == "text":
            return f"{self._parts_fingerprint('text_encoder', 'tokenizer')}/text"
        if name == "mask":
            _, height, width = self.latent_shape
            return f"mask/{self.resolution}/{height}x{width}/{_PREPROCESSING}"
        if name == "moments":
            return f"{self._parts_fingerprint('vae')}/moments/{self.resolution}/{_PREPROCESSING}"
        return f"{clip_image_fingerprint(self._image_source(name))}/{name}/{self.resolution}/{_PREPROCESSING}"

    @torch.inference_mode()
    def encode(self, name: str, batch: Sequence) -> Tensor:
        """Features of square images (H, W, 3), of square masks (H, W), of texts or of portraits, one row each."""
        if name == "text":
            return self._backbone.encode_text([str(text) for text in batch])
        if name in PORTRAIT_FEATURES:
            return self._encode_portraits(name, batch)
        pixels = torch.from_numpy(np.stack(batch)).to(self.device)
        if name in ("mask", "face"):
            return F.interpolate(pixels[:, None].float() / 255, self.latent_shape[1:], mode="area")
        if name == "moments":
            return self._backbone.encode_moments(pixels)
        return self._clip.encode(pixels)

    def _encode_portraits(self, name: str, portraits: Sequence[Portrait]) -> Tensor:
        side = self.resolution if name == "face_moments" else self._wplus.encoder.input_size
        crops = np.stack([aligned(p, side, self.detector, background=name != "wplus") for p in portraits])
        if name == "face_moments":
            return self._backbone.encode_moments(torch.from_numpy(crops).to(self.device))
        return self._wplus.encode(crops)

    def reference_shape(self, name: str) -> tuple[int, ...]:
        """Shape of one reference feature; its encoder is loaded."""
        return (self._wplus.rows, self._wplus.width) if name in PORTRAIT_FEATURES else (self._clip.width,)

    @cached_property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of a latent; read from the configuration."""
        from networks.backbone import backbone_latent_shape

        return backbone_latent_shape(self.backbone)

    def release(self) -> None:
        """Forget the networks, so that training has their memory; they are loaded again where one is asked for."""
        for name in ("_backbone", "_clip", "_wplus"):
            self.__dict__.pop(name, None)

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

    @cached_property
    def _wplus(self) -> "WPlusEncoder":
        from networks.wplus import load_wplus

        return load_wplus(self._wplus_source).to(self.device)

    @property
    def _wplus_source(self) -> str:
        if self.wplus_encoder is None:
            raise LikenessError("the feature 'wplus' needs a W+ encoder: set wplus_encoder")
        return self.wplus_encoder

    @cached_property
    def _detector_fingerprint(self) -> str:
        if self.detector is None:
            return "known landmarks"
        from networks.face_analysis import FacePack

        return FacePack(self.detector).fingerprint

    def _image_source(self, name: str) -> str:
        if name not in IMAGE_FEATURES:
            raise LikenessError(f"unknown image feature {name!r}, known are {', '.join(IMAGE_FEATURES)}")
        if self.image_encoder is None:
            raise LikenessError(f"the feature {name!r} needs an image encoder: set image_encoder")
        return self.image_encoder


def photo_key(name: str, photo: Photo) -> str:
    """Where the feature ``name`` of a dataset's photo lies in its cache: the hash of all that it is made of."""
    return photo.face_sha256 if name in (*PORTRAIT_FEATURES, "face") else photo.sha256


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
        self._fingerprints: dict[str, str] = {}

    def __getitem__(self, name: str) -> FeatureCache:
        return self._caches[name]

    def fingerprints(self) -> dict[str, str]:
        """What the values of each cache in use depend on, by name."""
        return dict(sorted(self._fingerprints.items()))

    def reference_shape(self, name: str) -> tuple[int, ...]:
        """Shape of one reference feature, from its cache or, while that is empty, its encoder.

        Raises:
            LikenessError: the encoder cannot be loaded.
        """
        cache = self._open(name)
        return cache.shape if len(cache) else self._encoders.reference_shape(name)

    def fill(
        self, names: Sequence[str], keys: Sequence[str], read: Callable[[set[str]], Iterable[tuple[str, dict]]]
    ) -> None:
        """Encode what the caches of ``names`` lack, each item once, the work divided over all processes.

        Every process must call this, with the same arguments.

        Args:
            keys: Content hashes of the items.
            read: Yields (key, {name: payload for :meth:`FrozenEncoders.encode`}) for a set of keys, in any order.

        Raises:
            LikenessError: an encoder is missing, or an item of any process cannot be read or encoded.
        """
        p = self._processes
        caches = p.together(lambda: [self._open(name) for name in names])
        # Twice: where machines do not share the folder, the second round fills in what the other ones encoded.
        for part, parts in ((p.rank, p.count), (p.local_rank, p.local_count)):
            lacking = p.together(lambda: {cache.name: cache.missing(keys) for cache in caches})
            for cache in caches:
                p.together(cache.discard_damaged)
            share = {name: set(some[part::parts]) for name, some in lacking.items()}
            p.together(partial(self._encode_share, share, read))
            for cache in caches:
                cache.refresh()

    def _open(self, name: str) -> FeatureCache:
        if name not in self._caches:
            self._fingerprints[name] = self._encoders.fingerprint(name)
            self._caches[name] = FeatureCache(self._folder, name, self._fingerprints[name])
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
