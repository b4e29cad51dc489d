"""Everything that training reads of photos, encoded once: latents, masks, reference features and aligned faces."""

from collections.abc import Iterator, Sequence

from datamodules.face_crops import head_mask, portrait_of
from datamodules.features.encoders import PORTRAIT_FEATURES, Features
from datamodules.image_io import read_square, read_square_mask, square_mask
from datamodules.index import Photo, read_pictures

ALIGNED = ("wplus_background", "face_moments")
"""What a first stage on aligned faces reads."""


def fill_photos(
    features: Features,
    training: Sequence[Photo],
    references: Sequence[Photo],
    names: Sequence[str],
    resolution: int,
    aligned: bool,
) -> None:
    """Encode what the caches lack: all features of ``training`` photos, those in ``names`` of ``references`` too.

    Args:
        resolution: Side in pixels of the square that images are brought to.
        aligned: Whether there is a first stage on aligned faces.
    """
    plain = tuple(name for name in names if name not in PORTRAIT_FEATURES)
    photos = {photo.sha256: photo for photo in [*training, *references]}
    masks = {photo.mask_sha256: photo for photo in training}

    def images(keys: set[str]) -> Iterator[tuple[str, dict]]:
        for picture in read_pictures(photos[key] for key in sorted(keys)):
            pixels = read_square(picture.image, f"image {picture.photo.id}", resolution)
            yield picture.photo.sha256, dict.fromkeys(("moments", *plain), pixels)

    def shapes(keys: set[str]) -> Iterator[tuple[str, dict]]:
        for picture in read_pictures(masks[key] for key in sorted(keys)):
            name = f"the mask of image {picture.photo.id}"
            yield picture.photo.mask_sha256, {"mask": read_square_mask(picture.mask, name, resolution)}

    features.fill(("moments", *plain), list(photos), images)
    features.fill(("mask",), list(masks), shapes)
    portraits = tuple(name for name in names if name in PORTRAIT_FEATURES)
    if portraits:
        fill_faces(features, training, references, portraits, resolution, aligned)


def fill_faces(
    features: Features,
    training: Sequence[Photo],
    references: Sequence[Photo],
    names: tuple[str, ...],
    resolution: int,
    aligned: bool,
) -> None:
    """Encode what is made of aligned faces, and the masks of the heads; arguments as for :func:`fill_photos`."""
    photos = {photo.face_sha256: photo for photo in [*training, *references]}
    own = [photo.face_sha256 for photo in training]
    first_stage = ALIGNED if aligned else ()

    def heads(keys: set[str]) -> Iterator[tuple[str, dict]]:
        for picture in read_pictures(photos[key] for key in sorted(keys)):
            yield picture.photo.face_sha256, {"face": square_mask(head_mask(picture), resolution)}

    def portraits(keys: set[str]) -> Iterator[tuple[str, dict]]:
        for picture in read_pictures(photos[key] for key in sorted(keys)):
            yield picture.photo.face_sha256, dict.fromkeys((*first_stage, *names), portrait_of(picture))

    features.fill(("face",), own, heads)
    features.fill(names, list(photos), portraits)
    if first_stage:
        features.fill(first_stage, own, portraits)
