"""Faces cut out of photos for the W+ encoder: found, aligned, and freed of their background by the mask."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import LikenessError
from datamodules.image_io import image_size, open_image
from datamodules.index import PhotoFiles
from datamodules.masks import person_mask
from networks.face_alignment import align_face
from networks.face_analysis import Face, FacePack
from networks.face_choice import face_at

VERSION = "white-background-1"
"""Names how mask and background are treated here; it changes whenever a crop or a head mask would."""

WHITE = 255
_EDGE = (5, 5)  # the mask's edge is blurred with this kernel before compositing, as in W+ Adapter
_HEAD = (0.5, 0.9, 0.15)
"""How far hair and chin reach beyond the face's box, in its own width and height: sides, up, down."""
_BOX = (0.55, 0.75, 0.5)
"""How far a face's box reaches beyond its landmarks, in the longer side of these: sides, up, down."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Portrait:
    """A photo (H, W, 3) RGB of one face; ``landmarks`` (5, 2) x, y in its pixels, ``None`` where they must be found,
    in the face at ``bbox`` x0, y0, x1, y1 where that is known; ``mask`` (H, W) is 255 on the person, ``None`` where it
    is not known, and then the background stays."""

    name: str
    pixels: NDArray[np.uint8]
    landmarks: NDArray[np.float32] | None = None
    mask: NDArray[np.uint8] | None = None
    bbox: Box | None = None


def portrait_of(files: PhotoFiles) -> Portrait:
    """A photo of a dataset, with the landmarks, the mask and the box that the dataset has.

    Raises:
        LikenessError: the files cannot be read, or the mask does not fit the image.
    """
    photo = files.photo
    pixels = np.asarray(open_image(files.image, photo.called))
    landmarks = None if photo.landmarks is None else np.array(photo.landmarks, np.float32)
    return Portrait(photo.called, pixels, landmarks, person_mask(files), photo.bbox)


def portrait_from_file(data: bytes, name: str) -> Portrait:
    """A photo by itself; where it has an alpha channel that is the mask, as in a cut-out PNG.

    Raises:
        LikenessError: the file cannot be read, or is transparent throughout.
    """
    image = open_image(data, name, mode="RGBA")
    pixels = np.asarray(image)
    mask = pixels[..., 3]
    if not mask.any():
        raise LikenessError(f"{name} is transparent throughout: its alpha channel must be opaque on the person")
    return Portrait(name, np.ascontiguousarray(pixels[..., :3]), None, None if mask.min() == 255 else mask.copy())


def aligned(portrait: Portrait, side: int, detector: FacePack | None, background: bool) -> NDArray[np.uint8]:
    """The crop (side, side, 3) that the W+ encoder reads; the background is white unless ``background`` keeps it.

    Raises:
        LikenessError: no landmarks are known and ``detector`` finds no face in the photo, or several.
    """
    landmarks = landmarks_of(portrait, detector)
    try:
        crop = align_face(portrait.pixels, landmarks, side)
        if background or portrait.mask is None:
            return crop
        person = cv2.GaussianBlur(align_face(portrait.mask, landmarks, side), _EDGE, 0)[..., None] / 255
    except LikenessError as error:
        raise LikenessError(f"{portrait.name}: {error}") from None
    return np.rint(crop * person + WHITE * (1 - person)).astype(np.uint8)


def head_mask(files: PhotoFiles) -> NDArray[np.uint8]:
    """The head, face and hair, in a photo of a dataset: soft, (H, W), 255 inside.

    It is the person within the face's box widened by half its width to the sides, 0.9 of its height upward and 0.15
    downward, blurred. The widening is ours, with hair in mind; W+ Adapter has a face parser for this. Where the box is
    not known it is told from the landmarks, and without these it is the whole image; so is a person without a mask.

    Raises:
        LikenessError: the files cannot be read, or the mask does not fit the image.
    """
    person = person_mask(files)
    if person is None:
        (width, height), _ = image_size(files.image, files.photo.called)
        person = np.full((height, width), 255, np.uint8)
    known = files.photo.bbox or _box_about(files.photo.landmarks)
    if known is None:
        return person
    x0, y0, x1, y1 = known
    aside, up, down = _HEAD[0] * (x1 - x0), _HEAD[1] * (y1 - y0), _HEAD[2] * (y1 - y0)
    box = np.zeros_like(person)
    box[max(0, round(y0 - up)) : max(0, round(y1 + down)), max(0, round(x0 - aside)) : max(0, round(x1 + aside))] = 255
    spread = max(0.5, 0.05 * float(x1 - x0))
    return cv2.GaussianBlur(np.minimum(person, box), (0, 0), spread)


def _box_about(landmarks: Sequence[Sequence[float]] | None) -> Box | None:
    """The box of a face about its landmarks, as detectors give it: forehead and chin lie outside of these."""
    if landmarks is None:
        return None
    (x0, y0), (x1, y1) = np.min(landmarks, axis=0), np.max(landmarks, axis=0)
    side = max(x1 - x0, y1 - y0)
    aside, up, down = (share * side for share in _BOX)
    return float(x0 - aside), float(y0 - up), float(x1 + aside), float(y1 + down)


def only_face(pixels: NDArray[np.uint8], name: str, faces: FacePack, bbox: Box | None = None) -> Face:
    """The one face that a pack finds in a photo (H, W, 3) RGB of any size.

    Where ``bbox`` is known it is the face there, whatever else the photo shows.

    Raises:
        LikenessError: there is no face, or there are several; the message says ``name``.
    """
    found = faces.analyse(pixels[None])[0]
    if bbox is not None and found:
        number = face_at(np.stack([face.bbox for face in found]), np.array(bbox, np.float32))
        found = [] if number is None else [found[number]]
    if len(found) != 1:
        count = "no face" if not found else f"{len(found)} faces"
        raise LikenessError(f"{name} shows {count}: give a photo with exactly one")
    return found[0]


def landmarks_of(portrait: Portrait, detector: FacePack | None) -> NDArray[np.float32]:
    """The five landmarks (5, 2) of the one face, those that are known or those that ``detector`` finds.

    Raises:
        LikenessError: none are known, and the detector finds no face, or several, or there is none.
    """
    if portrait.landmarks is not None:
        return portrait.landmarks
    if detector is None:
        raise LikenessError(
            f"the face in {portrait.name} must be found before it is encoded: set data.features.wplus.detector, or "
            "data.features.face_embedding.detector, to a face pack"
        )
    return only_face(portrait.pixels, portrait.name, detector, portrait.bbox).landmarks
