"""Photos of pocket people, larger than the pocket world's own, in folders as a user has them."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.settings import CurationSettings
from pocket.models.paths import FACES_A
from pocket.render.factors import BACKGROUNDS, POSES, draw_shot, draw_subject
from pocket.render.renderer import Render, render

SIDE = 128  # pixels of a photo


def rendered(subject: str, number: int, background: str | None = None) -> Render:
    """A render of the pocket world: poses and backgrounds in turn."""
    pose = POSES[number % 6]
    shot = draw_shot(
        f"{subject}/{number}",
        pose,
        background or BACKGROUNDS[(2 * number + len(subject)) % 12],
        style="photo",
        accessories=False,
    )
    return render(draw_subject(subject), shot)


def photo(subject: str, number: int, side: int = SIDE) -> NDArray[np.uint8]:
    """A photo (side, side, 3) RGB of a subject."""
    return cv2.resize(rendered(subject, number).image, (side, side), interpolation=cv2.INTER_CUBIC)


def group(near: str, far: str, side: int = SIDE) -> NDArray[np.uint8]:
    """A wide photo in which a large stranger stands before a smaller face."""
    scene = np.full((side, 2 * side, 3), 200, np.uint8)
    scene[:, :side] = photo(near, 0, side)
    small = 3 * side // 4
    scene[side - small :, side + side // 4 :] = photo(far, 1, small)
    return scene


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def write(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    """Write files below a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def people(folder: Path, subjects: Sequence[str], count: int, side: int = SIDE) -> Path:
    """A folder with ``count`` photos of each subject."""
    return write(folder, {f"{s}/{n:02d}.png": encoded(photo(s, n, side)) for s in subjects for n in range(count)})


def settings(**given: object) -> CurationSettings:
    """Settings with what must be given, and the pocket pack."""
    usual = {"source": "renderer", "licence": "Apache-2.0", "consent": "nobody real", "faces": str(FACES_A)}
    return CurationSettings(**{**usual, "det_size": [128, 256], **given})  # type: ignore[arg-type]
