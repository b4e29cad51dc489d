"""The subjects of a protocol: what a method may see of each, and what it is judged against."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from contracts.errors import LikenessError
from contracts.files import cache_folder
from contracts.protocol import check_name
from datamodules.image_io import read_square, read_square_mask
from datamodules.index import Photo, by_subject, held_out_of, load_photos, read_photos, reference_of
from datamodules.sources import find_shards
from metrics.gallery import SubjectPhotos


def load_subjects(dataset: str, wanted: int | Sequence[str], resolution: int) -> list[SubjectPhotos]:
    """Test subjects of a dataset, in sorted order.

    Args:
        wanted: How many to take, or their names.
        resolution: Side of the photos in pixels.

    Raises:
        LikenessError: the dataset lacks a subject that is asked for, or a subject has no held-out photo.
    """
    photos = load_photos(find_shards(dataset), cache_folder())
    groups = by_subject(photo for photo in photos if photo.split == "test")
    return subject_photos({name: groups[name] for name in _choose(groups, wanted)}, resolution)


def subject_photos(groups: Mapping[str, Sequence[Photo]], resolution: int) -> list[SubjectPhotos]:
    """The subjects whose photos are given by name, in the order given.

    Args:
        resolution: Side of the photos in pixels.

    Raises:
        LikenessError: a subject has no held-out photo, or a photo cannot be read.
    """
    rows = {name: (reference_of(photos), held_out_of(photos)) for name, photos in groups.items()}
    needed = [photo for reference, held_out in rows.values() for photo in (reference, *held_out)]
    files = {p.photo.id: p for p in read_photos(needed)}
    pixels = {name: read_square(p.image, f"image {name}", resolution) for name, p in files.items()}
    return [
        SubjectPhotos(
            id=name,
            noun=reference.subject_class,
            reference=pixels[reference.id],
            held_out=np.stack([pixels[p.id] for p in held_out]),
            poses=np.array([p.pose for p in (reference, *held_out)], np.float32),
            backgrounds=np.array([p.background_id for p in (reference, *held_out)], np.int64),
            background_texts=tuple(p.background_text for p in (reference, *held_out)),
            mask=read_square_mask(files[reference.id].mask, f"the mask of image {reference.id}", resolution),
        )
        for name, (reference, held_out) in rows.items()
    ]


def reference_cut_out(photos: Sequence[Photo], resolution: int) -> NDArray[np.uint8]:
    """A subject's reference photo as methods see it: (side, side, 4) with the mask as alpha.

    Raises:
        LikenessError: the photo cannot be read.
    """
    (files,) = read_photos([reference_of(photos)])
    square = read_square(files.image, f"image {files.photo.id}", resolution)
    mask = read_square_mask(files.mask, f"the mask of image {files.photo.id}", resolution)
    return np.dstack([square, mask])


def _choose(groups: Mapping[str, object], wanted: int | Sequence[str]) -> list[str]:
    names = sorted(groups)
    if isinstance(wanted, int):
        if not 1 <= wanted <= len(names):
            raise LikenessError(f"protocol.subjects asks for {wanted} test subjects, the dataset has {len(names)}")
        chosen = names[:wanted]
    else:
        missing = sorted(set(wanted) - set(names))
        if missing or not wanted:
            raise LikenessError(f"protocol.subjects: no test subject {', '.join(missing) or 'is named'}")
        chosen = sorted(set(wanted))
    for name in chosen:
        check_name("subject", name)
    return chosen


def photos_hash(subjects: Sequence[SubjectPhotos]) -> str:
    """SHA-256 over the pixels of every reference and held-out photo, over the reference's mask, and over what is known
    of pose and background."""
    digest = hashlib.sha256()
    for subject in subjects:
        digest.update("\0".join(subject.background_texts).encode())
        for array in (subject.cut_out, subject.held_out, subject.poses, subject.backgrounds):
            digest.update(f"{subject.id}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
