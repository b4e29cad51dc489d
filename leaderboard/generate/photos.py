"""Photos as answers: another real photo of the subject, as it is or through the base model's autoencoder. For two
subjects it is a photo of each, side by side."""

from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from contracts.protocol import Protocol
from contracts.records import Request
from metrics.gallery import Gallery, SubjectPhotos, left_out_photo
from networks.backbone import Backbone, lay_out_for
from networks.precision import AUTOCAST, TF32, hold_frozen, tf32


def photo_side(protocol: Protocol) -> int:
    """The side in pixels of the photos that answer requests: the image's, or half of it where two are side by side."""
    return protocol.resolution // 2 if protocol.of_pairs else protocol.resolution


def side_by_side(photos: Sequence[NDArray[np.uint8]], side: int) -> NDArray[np.uint8]:
    """Square RGB photos in a row, as an image (side, side, 3); what they leave free repeats their edges."""
    row = np.concatenate(photos, axis=1)
    high, wide = (side - size for size in row.shape[:2])
    edges = high // 2, high - high // 2, wide // 2, wide - wide // 2
    return cv2.copyMakeBorder(row, *edges, cv2.BORDER_REPLICATE)


class RealPhotoGenerator:
    """Answers a request with another real photo of the subject; ``subjects`` have theirs at :func:`photo_side`."""

    def __init__(self, protocol: Protocol, galleries: Mapping[str, Gallery], subjects: Sequence[SubjectPhotos]) -> None:
        self._protocol, self._galleries = protocol, galleries
        self._held_out = {subject.id: subject.held_out for subject in subjects}

    def prepare(self, batch: Sequence[Request]) -> NDArray[np.uint8]:
        """Held-out photos (B, H, W, 3)."""
        shown = [[self._held_out[subject][photo] for subject, photo in self._photos(request)] for request in batch]
        return np.stack([side_by_side(photos, self._protocol.resolution) for photos in shown])

    def _photos(self, request: Request) -> Iterator[tuple[str, int]]:
        """Whose photo it is, and which one; two for an image of two subjects."""
        for subject in filter(None, (request.subject, request.beside)):
            yield subject, left_out_photo(self._protocol, self._galleries, request, subject)

    def generate(self, prepared: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The photos as they are."""
        return prepared

    def enrol_seconds(self) -> None:
        """A photo needs nothing."""

    def kept_bytes(self) -> None:
        """Of a photo nothing is kept."""

    def provenance(self, request: Request) -> dict[str, object]:
        """Says that the image is a photo, and which one, or which two."""
        (subject, photo), *second = self._photos(request)
        beside = {name: value for pair in second for name, value in zip(("second", "second_photo"), pair, strict=True)}
        return {"photo": photo, "subject": subject, **beside}


class ReconstructionGenerator:
    """Answers with the same photos after ``backbone`` has encoded them, to the mean of the posterior, and decoded them.

    What they lose on the way no method on this base model can keep.
    """

    def __init__(self, fabric: Fabric, photos: RealPhotoGenerator, backbone: Backbone, precision: str) -> None:
        self._fabric, self._photos, self._precision = fabric, photos, precision
        self._backbone = backbone.to(fabric.device).eval()
        if (dtype := AUTOCAST.get(precision)) is not None:
            hold_frozen(self._backbone, dtype)
        lay_out_for(self._backbone, fabric.device)

    def prepare(self, batch: Sequence[Request]) -> NDArray[np.uint8]:
        """Held-out photos (B, H, W, 3)."""
        return self._photos.prepare(batch)

    def generate(self, prepared: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Reconstructed photos (B, H, W, 3)."""
        backbone = self._backbone
        with self._fabric.autocast(), tf32(self._precision == TF32), torch.inference_mode():
            moments = backbone.encode_moments(prepared)
            return backbone.decode(backbone.posterior_mean(moments)).cpu().numpy()

    def enrol_seconds(self) -> None:
        """A photo needs nothing."""

    def kept_bytes(self) -> None:
        """Of a photo nothing is kept."""

    def provenance(self, request: Request) -> dict[str, object]:
        """Says which photo it is of, and what it went through."""
        return {**self._photos.provenance(request), "autoencoder": self._backbone.fingerprint}
