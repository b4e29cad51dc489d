"""The masks of a dataset's photos: checked against their photo, whole or as the square that an image becomes."""

import numpy as np
from numpy.typing import NDArray

from datamodules.image_io import image_size, read_mask, square_mask
from datamodules.index import PhotoFiles


def person_mask(files: PhotoFiles) -> NDArray[np.uint8] | None:
    """The subject in a photo: (H, W) of the upright photo, 255 inside; ``None`` where it is not known.

    Raises:
        LikenessError: the mask cannot be read or does not fit the photo. The message names both.
    """
    if files.mask is None:
        return None
    called = files.photo.called
    size, orientation = image_size(files.image, called)
    return read_mask(files.mask, f"the mask of {called}", size, orientation)


def square_person_mask(files: PhotoFiles, side: int) -> NDArray[np.uint8] | None:
    """The central square of :func:`person_mask`, (side, side), soft at its edge.

    Raises:
        LikenessError: as :func:`person_mask`.
    """
    mask = person_mask(files)
    return None if mask is None else square_mask(mask, side)
