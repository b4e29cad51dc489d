"""What features read of a photo: the square image, its mask, the face's surroundings, or the caption."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.errors import LikenessError
from datamodules.face_crops import VERSION as FACE_CROPS
from datamodules.face_crops import Portrait, head_mask, portrait_from_file, portrait_of
from datamodules.features.cache import content_key
from datamodules.image_io import image_size, read_square, square_mask
from datamodules.index import Photo, PhotoFiles
from datamodules.masks import square_person_mask
from networks.face_alignment import VERSION as ALIGNER


class Crop(ABC):
    """How what a feature encodes is made of a photo, and the key of it in a cache."""

    version = ""
    """Names the preprocessing, for fingerprints. It changes whenever a crop would."""
    of_face = False
    """Whether a crop shows the face alone. Methods with such features train with head masks and other people."""

    @abstractmethod
    def key(self, photo: Photo) -> str:
        """The hash of all that the crop of a dataset's photo is made of."""

    @abstractmethod
    def of_photo(self, files: PhotoFiles, side: int) -> Any:
        """The crop of a dataset's photo; ``side`` in pixels is that of a square image."""

    def of_file(self, data: bytes, name: str, side: int) -> Any:
        """The crop of a photo by itself, whose key is the hash of its bytes.

        Raises:
            LikenessError: the file cannot be read, or such a crop needs more than the photo.
        """
        raise LikenessError(f"{name}: a {type(self).__name__} cannot be made of a photo alone")


class Square(Crop):
    """The central square of the image, (side, side, 3) RGB uint8."""

    version = "central square, Lanczos"  # it stands in fingerprints

    def key(self, photo: Photo) -> str:
        return photo.sha256

    def of_photo(self, files: PhotoFiles, side: int) -> NDArray[np.uint8]:
        return read_square(files.image, files.photo.called, side)

    def of_file(self, data: bytes, name: str, side: int) -> NDArray[np.uint8]:
        return read_square(data, name, side)


class SquareMask(Crop):
    """The central square of the person's mask, (side, side) uint8, 255 on the person, and everywhere where the mask is
    not known."""

    version = Square.version

    def key(self, photo: Photo) -> str:
        return photo.person_sha256

    def of_photo(self, files: PhotoFiles, side: int) -> NDArray[np.uint8]:
        mask = square_person_mask(files, side)
        return np.full((side, side), 255, np.uint8) if mask is None else mask


class HeadMask(Crop):
    """The central square of the head's soft mask, (side, side) uint8, 255 inside."""

    version = FACE_CROPS

    def key(self, photo: Photo) -> str:
        return photo.face_sha256

    def of_photo(self, files: PhotoFiles, side: int) -> NDArray[np.uint8]:
        return square_mask(head_mask(files), side)


class Face(Crop):
    """The whole photo with what is known of the face in it, to be aligned by the feature."""

    version = f"{ALIGNER}/{FACE_CROPS}"
    of_face = True

    def key(self, photo: Photo) -> str:
        return photo.face_sha256

    def of_photo(self, files: PhotoFiles, side: int) -> Portrait:
        return portrait_of(files)

    def of_file(self, data: bytes, name: str, side: int) -> Portrait:
        return portrait_from_file(data, name)


class Caption(Crop):
    """The words of a photo, or any text."""

    def key(self, photo: Photo) -> str:
        return content_key(photo.caption)

    def of_photo(self, files: PhotoFiles, side: int) -> str:
        return files.photo.caption


class Extent(Crop):
    """Height and width in pixels of the whole upright photo; no pixel is read."""

    version = Square.version

    def key(self, photo: Photo) -> str:
        return photo.sha256

    def of_photo(self, files: PhotoFiles, side: int) -> tuple[int, int]:
        return self.of_file(files.image, files.photo.called, side)

    def of_file(self, data: bytes, name: str, side: int) -> tuple[int, int]:
        (width, height), _ = image_size(data, name)
        return height, width


SQUARE = Square()
EXTENT = Extent()
SQUARE_MASK = SquareMask()
HEAD_MASK = HeadMask()
FACE = Face()
CAPTION = Caption()
