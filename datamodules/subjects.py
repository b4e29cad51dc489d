"""The subjects of a protocol: what a method may see of each, and what it is judged against."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from contracts.errors import LikenessError
from contracts.files import cache_folder
from contracts.protocol import check_name
from datamodules.image_io import image_size, in_square, read_square
from datamodules.index import Photo, PhotoFiles, by_subject, held_out_of, load_photos, read_photos, references_of
from datamodules.masks import square_person_mask
from datamodules.sources import find_shards
from metrics.gallery import UNKNOWN, PhotoHashes, SubjectPhotos


def load_subjects(
    dataset: str,
    wanted: int | Sequence[str] | None,
    resolution: int,
    faceless: Collection[str] = (),
    references: int = 1,
) -> list[SubjectPhotos]:
    """Test subjects of a dataset, in sorted order.

    Args:
        wanted: How many to take, or their names; ``None`` for all.
        resolution: Side of the photos in pixels.
        faceless: Class nouns of subjects that have no face, whatever the dataset says.
        references: Photos of each that a method may see.

    Raises:
        LikenessError: the dataset lacks a subject or a class that is asked for, or a subject has no held-out photo or
            too few others.
    """
    photos = load_photos(find_shards(dataset), cache_folder())
    groups = by_subject(photo for photo in photos if photo.split == "test")
    nouns = sorted({photo.subject_class for own in groups.values() for photo in own})
    if unknown := sorted(set(faceless) - set(nouns)):
        raise LikenessError(f"protocol.faceless: no test subject is a {unknown[0]}; there are {', '.join(nouns)}")
    chosen = subject_photos({name: groups[name] for name in _choose(groups, wanted)}, resolution, references)
    return [replace(subject, has_face=False) if subject.noun in faceless else subject for subject in chosen]


def subject_photos(groups: Mapping[str, Sequence[Photo]], resolution: int, references: int = 1) -> list[SubjectPhotos]:
    """The subjects whose photos are given by name, in the order given.

    Args:
        resolution: Side of the photos in pixels.
        references: Photos of each that a method may see.

    Raises:
        LikenessError: a subject has no held-out photo or too few others, or a photo cannot be read.
    """
    seen = {name: references_of(photos, references, "protocol.references") for name, photos in groups.items()}
    rows = {name: [seen[name][0], *held_out_of(photos, references)] for name, photos in groups.items()}
    wanted = {photo.id: photo for name in groups for photo in (*seen[name], *rows[name])}
    files = {p.photo.id: p for p in read_photos(wanted.values())}
    return [
        replace(
            _subject(name, [files[photo.id] for photo in photos], resolution),
            further=tuple(_cut_out(files[photo.id], resolution) for photo in seen[name][1:]),
            hashes=PhotoHashes(tuple(p.sha256 for p in seen[name]), tuple(p.sha256 for p in photos[1:])),
        )
        for name, photos in rows.items()
    ]


def _cut_out(files: PhotoFiles, resolution: int) -> NDArray[np.uint8]:
    """A photo as methods see it."""
    return _subject("", [files], resolution).cut_out


def _subject(name: str, files: Sequence[PhotoFiles], resolution: int) -> SubjectPhotos:
    """A subject whose reference is the first of its photos."""
    photos = [one.photo for one in files]
    pixels = np.stack([read_square(one.image, one.photo.called, resolution) for one in files])
    return SubjectPhotos(
        id=name,
        noun=photos[0].subject_class,
        reference=pixels[0],
        held_out=pixels[1:],
        poses=np.array([p.pose or [np.nan] * 3 for p in photos], np.float32),
        backgrounds=np.array([UNKNOWN if p.background_id is None else p.background_id for p in photos], np.int64),
        background_texts=tuple(p.background_text or "" for p in photos),
        mask=square_person_mask(files[0], resolution),
        has_face=photos[0].has_face,
        boxes=_boxes(files, resolution),
        text=photos[0].subject_text or "",
        clothes=np.array([UNKNOWN if p.clothes_id is None else p.clothes_id for p in photos], np.int64),
        clothes_text=photos[0].clothes_text or "",
    )


def _boxes(files: Sequence[PhotoFiles], resolution: int) -> NDArray[np.float32] | None:
    """The faces' boxes (N, 4) in pixels of the squares, NaN where one is not known; ``None`` where none is."""
    boxes = np.full((len(files), 4), np.nan, np.float32)
    for row, one in zip(boxes, files, strict=True):
        if one.photo.bbox is not None:
            row[:] = in_square(one.photo.bbox, image_size(one.image, one.photo.called)[0], resolution)
    return None if np.isnan(boxes).all() else boxes


def reference_cut_outs(photos: Sequence[Photo], resolution: int) -> list[NDArray[np.uint8]]:
    """A subject's reference ``photos`` as methods see them: (side, side, 4) with the mask as alpha where that is known,
    else (side, side, 3).

    Raises:
        LikenessError: one cannot be read.
    """
    files = {one.photo.id: one for one in read_photos(photos)}
    return [_cut_out(files[photo.id], resolution) for photo in photos]


def _choose(groups: Mapping[str, object], wanted: int | Sequence[str] | None) -> list[str]:
    names = sorted(groups)
    wanted = max(1, len(names)) if wanted is None else wanted
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
    of pose, background, clothes, class and where the face is."""
    digest = hashlib.sha256()
    for subject in subjects:
        if not subject.has_face:
            digest.update(f"{subject.id} has no face".encode())
        digest.update("\0".join(subject.background_texts).encode())
        boxes = np.zeros(0, np.float32) if subject.boxes is None else subject.boxes
        pixels = (subject.cut_out, *subject.further, subject.held_out)
        arrays: tuple[NDArray, ...] = (*pixels, subject.poses, subject.backgrounds, boxes)
        for array in arrays:
            digest.update(f"{subject.id}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        if subject.clothes is not None and (subject.clothes != UNKNOWN).any():
            digest.update(f"{subject.id} wears {subject.clothes.tolist()} {subject.clothes_text}".encode())
    return digest.hexdigest()
