"""Colours of image files brought to sRGB, by the profile that a file carries."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
"""The colour space of a profile by the mode of the image that it may belong to."""
_SAME = 2
"""Levels of 255 by which a profile may differ from sRGB and still be taken as it: what rounding leaves."""


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An image of mode RGB, L or CMYK as sRGB, of mode RGB.

    The intent is perceptual. A profile that is broken, or of another colour space than the image, is ignored; one that
    is sRGB, whatever it is called, leaves the pixels as they are.
    """
    transform = _transform(profile, image.mode) if profile else None
    if transform is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # it is only where the transform works in place
    return converted


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the profile to sRGB; ``None`` where nothing is to be done."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != _SPACES.get(mode):
            return None
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, srgb, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
        probe = _probe(mode)
        shown = ImageCms.applyTransform(probe, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    change = np.asarray(shown, np.int16) - np.asarray(probe.convert("RGB"), np.int16)
    return None if mode != "CMYK" and np.abs(change).max() <= _SAME else transform


def _probe(mode: str) -> Image.Image:
    """Every level of grey, or a grid of 17 levels a channel."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 17 if mode == "RGB" else 3).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(*[levels] * len(Image.new(mode, (1, 1)).getbands())), axis=-1)
    return Image.fromarray(grid.reshape(1, -1, grid.shape[-1]), mode)
