"""Requests as batches to generate: an exact share for every process, and noise that is a function of the request."""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from statistics import median

import torch
from torch import Tensor

from contracts.batch import RequestBatch
from contracts.prompts import spoken
from contracts.records import Request
from contracts.text import Text
from datamodules.features.store import Features
from networks.keyed_noise import keyed_normal

TIMED_PHOTOS = 16
"""At most so many photos are timed."""


def noise_key(seed: int, request_id: str) -> tuple[object, ...]:
    """What names the noise of a request's image under a protocol's seed."""
    return "request", seed, request_id


class RequestLoader:
    """Request batches, in the order of the requests given; ``reference_keys`` are those of each subject's reference
    photos, of which all have equally many, by feature.

    ``largest`` is the number of requests of the process that has the most. It is the length that is told, for Lightning
    leaves out a loop whose loader is empty, and the other processes would wait for it.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        features: Features,
        reference_keys: Mapping[str, Sequence[Mapping[str, str]]],
        class_nouns: Mapping[str, str],
        needs: Sequence[str],
        seed: int,
        batch_size: int,
        largest: int | None = None,
    ) -> None:
        self._requests = list(requests)
        self._features = features
        self._reference_keys = reference_keys
        self._class_nouns = class_nouns
        self._needs = tuple(needs)
        self._seed = seed
        self._batch_size = batch_size
        self._largest = len(self._requests) if largest is None else largest

    def __len__(self) -> int:
        return -(-self._largest // self._batch_size)

    def __iter__(self) -> Iterator[RequestBatch]:
        for first in range(0, len(self._requests), self._batch_size):
            yield self._batch(self._requests[first : first + self._batch_size])

    def _batch(self, requests: list[Request]) -> RequestBatch:
        texts = [spoken(request.prompt, request.subject, self._class_nouns) for request in requests]
        reference, further = self._references([request.subject for request in requests])
        second = [request.beside for request in requests if request.beside is not None]
        beside, beside_further = self._references(second) if second else ({}, {})
        return request_batch(
            request_ids=[request.id for request in requests],
            subjects=[request.subject for request in requests],
            prompts=[request.prompt for request in requests],
            noise_keys=[noise_key(self._seed, request.id) for request in requests],
            latent_shape=self._features.context.latent_shape,
            text_states=self._features.of_texts(texts),
            reference=reference,
            further=further,
            beside=beside,
            beside_further=beside_further,
        )

    def _references(self, subjects: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Features of the reference of each of B subjects (B, ...), and of R - 1 further ones (B, R - 1, ...)."""
        keys = [self._reference_keys[subject] for subject in subjects] if self._needs else [[{}]]
        every = [
            {name: self._features[name].rows([own[i][name] for own in keys]) for name in self._needs}
            for i in range(len(keys[0]))
        ]
        further = {name: torch.stack([one[name] for one in every[1:]], dim=1) for name in self._needs if every[1:]}
        return every[0], further


def request_batch(
    request_ids: Sequence[str],
    subjects: Sequence[str],
    prompts: Sequence[str],
    noise_keys: Sequence[Sequence[object]],
    latent_shape: tuple[int, int, int],
    text_states: Text,
    reference: Mapping[str, Tensor] | None = None,
    further: Mapping[str, Tensor] | None = None,
    beside: Mapping[str, Tensor] | None = None,
    beside_further: Mapping[str, Tensor] | None = None,
) -> RequestBatch:
    """B requests as a batch, on the device of the texts.

    Each of the B ``noise_keys`` names the noise of its image, see :func:`networks.keyed_noise.keyed_normal`.
    ``reference`` holds features (B, ...) by encoder name, ``further`` those of further references (B, R - 1, ...);
    ``beside`` and ``beside_further`` are the same of second subjects. Without them the batch has none.
    """
    noise = torch.stack([keyed_normal(latent_shape, *key) for key in noise_keys])
    return RequestBatch(
        request_ids=tuple(request_ids),
        subjects=tuple(subjects),
        prompts=tuple(prompts),
        noise=noise.to(text_states.device),
        text_states=text_states,
        reference=dict(reference or {}),
        further=dict(further or {}),
        beside=dict(beside or {}),
        beside_further=dict(beside_further or {}),
    )


def seconds_to_encode(features: Features, needs: Sequence[str], photos: Mapping[str, Sequence[bytes]]) -> float:
    """Median seconds in which a subject's reference photos become the features ``needs``: read, found, aligned and
    encoded.

    The photos, given as {subject: [bytes]}, are encoded one by one, with the networks loaded and without the cache.
    That is the time that a new subject takes.
    """

    def encode(subject: str) -> float:
        start = time.perf_counter()
        for data in photos[subject]:
            features.encode_file(needs, reference_name(subject), data)
        return time.perf_counter() - start

    encode(next(iter(photos)))  # loads the networks
    return median(encode(subject) for subject in islice(photos, TIMED_PHOTOS))


def reference_name(subject: str) -> str:
    """What errors call a subject's reference photo."""
    return f"the reference photo of {subject}"
