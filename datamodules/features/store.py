"""The caches of one set of features: filled by all processes together, read by rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from contracts.text import Text
from datamodules.features.base import EncoderContext
from datamodules.features.cache import FeatureCache, content_key
from datamodules.features.crops import Crop
from datamodules.features.registry import Settings, make_features
from datamodules.index import Photo, read_photos
from datamodules.processes import Processes

_SHARD_ITEMS = 1024
_BATCH_PIXELS = {"cpu": 2**15, "cuda": 2**21}
"""Encoded in one call: bounds memory at any resolution, and on a CPU the work for a photo by itself."""
BESIDES = {"text": "pooled_text", "moments": "sizes"}
"""Features of texts and photos that a base model may read beside another one."""
T = TypeVar("T")
Read = Callable[[set[str]], Iterable[tuple[str, Any]]]
"""Yields (key, crop) for a set of keys, in any order."""


class Features:
    """Features by name, each with its cache.

    Args:
        folder: Where all feature caches lie. Processes on several machines should share it; where they do not,
            every machine encodes for itself.

    Raises:
        LikenessError: a feature or a setting is unknown, or a setting is missing.
    """

    def __init__(
        self, names: Iterable[str], settings: Settings, context: EncoderContext, folder: Path, processes: Processes
    ) -> None:
        self.context = context
        wanted = list(names)
        self._features = make_features([*wanted, *self._besides(wanted)], settings, context)
        self._folder = folder
        self._processes = processes
        pixels = _BATCH_PIXELS.get(context.device.type, _BATCH_PIXELS["cuda"])
        self._batch_size = min(64, max(1, pixels // context.resolution**2))
        self._caches: dict[str, FeatureCache] = {}
        self._fingerprints: dict[str, str] = {}

    def __getitem__(self, name: str) -> FeatureCache:
        return self._caches[name]

    def of_faces(self, names: Iterable[str]) -> bool:
        """Whether one of ``names`` is made of a face alone."""
        return any(self._features[name].crop.of_face for name in names)

    def fingerprints(self) -> dict[str, str]:
        """What the values of each cache in use depend on, by name."""
        return dict(sorted(self._fingerprints.items()))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one value, from its cache or, while that is empty, its encoder.

        Raises:
            LikenessError: the encoder cannot be loaded.
        """
        cache = self._open(name)
        return cache.shape if len(cache) else self._features[name].shape

    def nothing(self, name: str) -> Tensor:
        """The value of a feature that stands for no photo.

        Raises:
            LikenessError: the encoder cannot be loaded.
        """
        value = self._features[name].nothing()
        self.context.release()
        return value

    def keys(self, names: Iterable[str], photo: Photo) -> dict[str, str]:
        """The keys of a dataset's photo in the caches of ``names``."""
        return {name: self._features[name].crop.key(photo) for name in names}

    def of_photos(self, name: str, photos: Sequence[Photo]) -> Tensor:
        """Rows (number of photos, ...) of a feature of a dataset's photos."""
        crop = self._features[name].crop
        return self._caches[name].rows([crop.key(photo) for photo in photos])

    def of_texts(self, texts: Sequence[str]) -> Text:
        """Texts of images to generate, or of photos of the base model's own size."""
        keys = [content_key(text) for text in texts]
        pooled = self._caches["pooled_text"].rows(keys) if self.context.reads_added else None
        return Text(self._caches["text"].rows(keys), pooled).of_whole_images(self.context.resolution)

    def sizes(self, photos: Sequence[Photo]) -> Tensor | None:
        """Sizes (number of photos, 6) of a dataset's photos, see :class:`contracts.text.Text`; ``None`` where the base
        model reads none."""
        return self.of_photos("sizes", photos) if self.context.reads_added else None

    def check_photos(self, names: Iterable[str], photos: Iterable[Photo]) -> None:
        """Raise ``LikenessError`` where a photo lacks what a feature of ``names`` reads. Encodes nothing."""
        features = [self._features[name] for name in names]
        for photo in photos:
            for feature in features:
                feature.check_photo(photo)

    # --- filling, which all processes must call with the same arguments ----------------------------------------

    def fill_photos(self, names: Sequence[str], photos: Sequence[Photo]) -> None:
        """Encode what the caches of ``names`` lack of a dataset's photos.

        Raises:
            LikenessError: as :meth:`fill`.
        """
        for crop, some in self._by_crop([*names, *self._besides(names)]).items():
            by_key = {crop.key(photo): photo for photo in photos}

            def read(keys: set[str], crop: Crop = crop, by_key: dict[str, Photo] = by_key) -> Iterator[tuple[str, Any]]:
                for files in read_photos(by_key[key] for key in sorted(keys)):
                    yield crop.key(files.photo), crop.of_photo(files, self.context.resolution)

            self.fill(some, list(by_key), read)

    def fill_files(self, names: Sequence[str], files: Mapping[str, tuple[str, bytes]]) -> None:
        """Encode what the caches of ``names`` lack of photos by themselves, given as {content key: (name, bytes)}.

        Raises:
            LikenessError: as :meth:`fill`.
        """
        for crop, some in self._by_crop(names).items():

            def read(keys: set[str], crop: Crop = crop) -> Iterator[tuple[str, Any]]:
                for key in sorted(keys):
                    name, data = files[key]
                    yield key, crop.of_file(data, name, self.context.resolution)

            self.fill(some, list(files), read)

    def fill_texts(self, texts: Iterable[str]) -> None:
        """Encode the texts whose states the cache lacks.

        Raises:
            LikenessError: as :meth:`fill`.
        """
        by_key = {content_key(text): text for text in texts}
        self.fill(
            ["text", *self._besides(["text"])], list(by_key), lambda keys: ((key, by_key[key]) for key in sorted(keys))
        )

    def fill(self, names: Sequence[str], keys: Sequence[str], read: Read) -> None:
        """Encode what the caches of ``names`` lack, each item once, the work divided over all processes.

        Args:
            names: Features of the same crop.
            keys: Content hashes of the items.
            read: Gives their crops.

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

    def _besides(self, names: Sequence[str]) -> list[str]:
        """What a base model like SDXL needs besides these features."""
        return [BESIDES[name] for name in names if name in BESIDES and self.context.reads_added]

    def _by_crop(self, names: Sequence[str]) -> dict[Crop, list[str]]:
        """Names grouped by the crop that they are made of, so that each photo is read once for a group."""
        groups: dict[Crop, list[str]] = {}
        for name in names:
            groups.setdefault(self._features[name].crop, []).append(name)
        return groups

    def _open(self, name: str) -> FeatureCache:
        if name not in self._caches:
            self._fingerprints[name] = self._features[name].fingerprint
            self._caches[name] = FeatureCache(self._folder, name, self._fingerprints[name])
        return self._caches[name]

    def _encode_share(self, wanted: dict[str, set[str]], read: Read) -> None:
        every = set().union(*wanted.values())
        if not every:
            return
        title = f"encoding {', '.join(name for name, some in wanted.items() if some)}"
        items = tqdm(read(every), total=len(every), desc=title, disable=self._processes.rank > 0, mininterval=1)
        # Features that lack the same are made batch by batch, so that they can share what a network gives.
        lacking: dict[frozenset[str], list[str]] = {}
        for name, some in wanted.items():
            lacking.setdefault(frozenset(some), []).append(name)
        for shard in _chunks(items, _SHARD_ITEMS):
            for keys, names in lacking.items():
                mine = [(key, crop) for key, crop in shard if key in keys]
                encoded: dict[str, list[Tensor]] = {name: [] for name in names}
                for batch in _chunks(mine, self._batch_size):
                    for name in names:
                        encoded[name].append(self._encode(name, [crop for _, crop in batch]))
                for name, values in encoded.items():
                    if values:
                        self._caches[name].append([key for key, _ in mine], torch.cat(values))

    def encode_file(self, names: Sequence[str], name: str, data: bytes) -> dict[str, Tensor]:
        """Values (1, ...) of the features ``names`` of a photo by itself, past the caches.

        Raises:
            LikenessError: the file cannot be read or encoded; the message says ``name``.
        """
        values: dict[str, Tensor] = {}
        for crop, some in self._by_crop(names).items():
            photo = crop.of_file(data, name, self.context.resolution)
            values |= {feature: self._encode(feature, [photo]) for feature in some}
        return values

    @torch.inference_mode()
    def _encode(self, name: str, batch: list[Any]) -> Tensor:
        """Values of at most a batch, which is filled up with its last item: the kernels are chosen by a batch's size,
        and the last bit of a value must depend neither on what else was missing nor on the number of processes."""
        full = [*batch, *[batch[-1]] * (self._batch_size - len(batch))]
        return self._features[name].encode(full)[: len(batch)].cpu()


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
