"""Image files in memory."""

import io

import numpy as np
from PIL import Image


def encoded(array: np.ndarray, form: str = "PNG", **options: object) -> bytes:
    """The file of an image (H, W), (H, W, 3) or (H, W, 4); ``options`` are Pillow's."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, form, **options)
    return stream.getvalue()
