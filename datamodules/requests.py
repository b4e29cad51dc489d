"""Requests as batches to draw: an exact share for every process, and noise that is a function of the request."""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from contracts.batch import RequestBatch
from contracts.errors import LikenessError
from contracts.files import cache_folder
from contracts.prompts import spoken
from contracts.records import Request
from datamodules.face_crops import portrait_from_file
from datamodules.features.cache import content_key
from datamodules.features.encoders import PORTRAIT_FEATURES, Features, FrozenEncoders
from datamodules.image_io import read_square
from datamodules.processes import Processes
from datamodules.samplers import share
from networks.keyed_noise import keyed_normal

TIMED_PHOTOS = 16
"""So many enrolments are timed at most."""


class RequestLoader:
    """Request batches, in the order of the requests given; ``reference_keys`` are those of each subject's reference
    photo by feature.

    ``largest`` is the number of requests of the process that has the most. It is the length that is told, for Lightning
    leaves out a loop whose loader is empty, and the other processes would wait for it.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        features: Features,
        latent_shape: tuple[int, int, int],
        reference_keys: Mapping[str, Mapping[str, str]],
        class_nouns: Mapping[str, str],
        needs: Sequence[str],
        seed: int,
        batch_size: int,
        largest: int | None = None,
    ) -> None:
        self._requests, self._features, self._latent_shape = list(requests), features, latent_shape
        self._largest = len(self._requests) if largest is None else largest
        self._reference_keys, self._class_nouns, self._needs = reference_keys, class_nouns, tuple(needs)
        self._seed, self._batch_size = seed, batch_size

    def __len__(self) -> int:
        return -(-self._largest // self._batch_size)

    def __iter__(self) -> Iterator[RequestBatch]:
        for first in range(0, len(self._requests), self._batch_size):
            yield self._batch(self._requests[first : first + self._batch_size])

    def _batch(self, requests: list[Request]) -> RequestBatch:
        texts = [spoken(request.prompt, request.subject, self._class_nouns) for request in requests]
        return request_batch(
            request_ids=[request.id for request in requests],
            subjects=[request.subject for request in requests],
            prompts=[request.prompt for request in requests],
            noise_keys=[("request", self._seed, request.id) for request in requests],
            latent_shape=self._latent_shape,
            text_states=self._features["text"].rows([content_key(text) for text in texts]),
            reference={
                name: self._features[name].rows([self._reference_keys[request.subject][name] for request in requests])
                for name in self._needs
            },
        )


def request_batch(
    request_ids: Sequence[str],
    subjects: Sequence[str],
    prompts: Sequence[str],
    noise_keys: Sequence[Sequence[object]],
    latent_shape: tuple[int, int, int],
    text_states: Tensor,
    reference: Mapping[str, Tensor] | None = None,
) -> RequestBatch:
    """B requests as a batch, on the device of the text states (B, L, D).

    Each of the B ``noise_keys`` names the noise of its image, see :func:`networks.keyed_noise.keyed_normal`.
    ``reference`` holds features (B, ...) by encoder name; without it the batch has none.
    """
    noise = torch.stack([keyed_normal(latent_shape, *key) for key in noise_keys])
    return RequestBatch(
        request_ids=tuple(request_ids),
        subjects=tuple(subjects),
        prompts=tuple(prompts),
        noise=noise.to(text_states.device),
        text_states=text_states,
        reference=dict(reference or {}),
    )


class RequestDataModule(LightningDataModule):
    """The requests that are still to be drawn.

    Request i of the list goes to process i modulo the number of processes: none is padded, none dropped, and the
    list may be any part of a protocol's requests. Text states of a prompt and features of a photo are computed
    once and cached (see ``feature_cache.py``).

    Args:
        requests: What to draw; ids must differ.
        references: The bytes of each subject's reference photo (PNG, JPEG or WebP); may be empty without ``needs``.
        class_nouns: What stands for each subject in the prompt that the text encoder reads.
        backbone: Folder or hub name of the diffusion model.
        image_encoder: Folder or hub name of the CLIP that reference features come from.
        resolution: Side in pixels of the square that references are brought to.
        needs: Names of the reference features that the method asks for.
        seed: The protocol's seed.
        batch_size: Images per batch of one process.
        cache_dir: See :func:`contracts.files.cache_folder`.
        wplus_encoder: Folder or checkpoint of the encoder that W+ codes come from.
        detector: Face pack that finds the face in a reference.

    Raises:
        LikenessError: an id occurs twice, or a subject lacks a reference or a class noun.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        references: Mapping[str, bytes],
        class_nouns: Mapping[str, str],
        backbone: str,
        image_encoder: str | None = None,
        resolution: int = 512,
        needs: Sequence[str] = (),
        seed: int = 0,
        batch_size: int = 16,
        cache_dir: str | Path | None = None,
        wplus_encoder: str | None = None,
        detector: str | None = None,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True
        if len({request.id for request in requests}) != len(requests):
            raise LikenessError("two requests have the same id: subject, prompt and sample must differ in one")
        for subject in dict.fromkeys(request.subject for request in requests):
            if subject not in class_nouns:
                raise LikenessError(f"subject {subject!r} has no class noun")
            if needs and subject not in references:
                raise LikenessError(f"subject {subject!r} has no reference photo, and the method needs {list(needs)}")
        self._requests, self._references, self._class_nouns = list(requests), references, class_nouns
        self._backbone, self._image_encoder, self._resolution = backbone, image_encoder, resolution
        self._needs, self._seed, self._batch_size = tuple(needs), seed, batch_size
        self._cache_dir, self._wplus_encoder, self._detector = cache_folder(cache_dir), wplus_encoder, detector

    def setup(self, stage: str | None = None) -> None:
        """Encode prompts and references that were never encoded before. All processes must call it."""
        processes = Processes.of(self.trainer)
        encoders = FrozenEncoders(
            self._backbone,
            self._image_encoder,
            self._resolution,
            processes.device,
            self._wplus_encoder,
            self._detector,
        )
        features = Features(encoders, self._cache_dir / "features", processes)
        fill_texts(features, [spoken(r.prompt, r.subject, self._class_nouns) for r in self._requests])
        subjects = dict.fromkeys(request.subject for request in self._requests) if self._needs else {}
        keys = {subject: content_key(self._references[subject]) for subject in subjects}
        fill_references(features, self._needs, {keys[s]: (s, self._references[s]) for s in keys}, self._resolution)
        self._loader = RequestLoader(
            share(self._requests, processes.rank, processes.count),
            features,
            encoders.latent_shape,
            {subject: dict.fromkeys(self._needs, key) for subject, key in keys.items()},
            self._class_nouns,
            self._needs,
            self._seed,
            self._batch_size,
        )

    def predict_dataloader(self) -> RequestLoader:
        """This process's share."""
        return self._loader


def fill_texts(features: Features, texts: Sequence[str]) -> None:
    """Encode the texts that the cache lacks."""
    by_key = {content_key(text): text for text in texts}
    features.fill(("text",), list(by_key), lambda keys: ((key, {"text": by_key[key]}) for key in sorted(keys)))


def fill_references(
    features: Features, needs: Sequence[str], photos: Mapping[str, tuple[str, bytes]], resolution: int
) -> None:
    """Encode the reference photos, given as {content key: (subject, bytes)}, that the cache lacks."""

    def read(keys: set[str]) -> Iterator[tuple[str, dict]]:
        for key in sorted(keys):
            yield key, _read_reference(needs, *photos[key], resolution)

    if needs:
        features.fill(needs, list(photos), read)


def seconds_to_encode(
    encoders: FrozenEncoders, needs: Sequence[str], photos: Mapping[str, bytes], resolution: int
) -> float:
    """Median seconds in which a reference photo becomes the features ``needs``: read, found, aligned and encoded.

    Each photo, given as {subject: bytes}, goes alone, with the networks loaded and past the cache: so long does a
    new subject take.
    """

    def encode(subject: str) -> float:
        start = time.perf_counter()
        payloads = _read_reference(needs, subject, photos[subject], resolution)
        for need in needs:
            encoders.encode(need, [payloads[need]]).cpu()
        return time.perf_counter() - start

    encode(next(iter(photos)))  # loads the networks
    return median(encode(subject) for subject in islice(photos, TIMED_PHOTOS))


def _read_reference(needs: Sequence[str], subject: str, data: bytes, resolution: int) -> dict:
    """What :meth:`FrozenEncoders.encode` takes for each of ``needs``."""
    name = f"the reference photo of {subject}"
    square = read_square(data, name, resolution)
    faces = portrait_from_file(data, name) if set(needs) & set(PORTRAIT_FEATURES) else None
    return {need: faces if need in PORTRAIT_FEATURES else square for need in needs}
