"""The pocket W+ models against their floors, on subjects that no pocket model has seen."""

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.face_crops import Portrait, aligned
from networks.face_analysis import FacePack
from networks.wplus import WPlusEncoder, load_wplus
from pocket.models.paths import DET_SIZE
from pocket.quality.faces import Row, unseen_photos

PSNR_FLOOR = 22.0
SIMILARITY_LEAD = 0.3  # of a reconstruction to its original over that to other people
LEVELS = {"coarse": (0, 4), "middle": (4, 8), "fine": (8, 10)}
"""Half-open ranges of rows: 4 and 8 pixels, 16 and 32, 64."""


def unseen_faces(n: int, size: int, background: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """``n`` aligned faces (n, size, size, 3) of photos with hats and glasses, and the subject of each, (n,)."""
    renders, subject = unseen_photos(n, accessories=True)
    portraits = [Portrait(f"render {i}", d.image, d.landmarks, d.mask) for i, d in enumerate(renders)]
    return np.stack([aligned(p, size, None, background) for p in portraits]), subject


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean over images of the PSNR in dB."""
    mse = ((a.astype(np.float64) - b) ** 2).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / np.maximum(mse, 1e-9))))


def similarities(
    pack: FacePack, originals: NDArray[np.uint8], reconstructions: NDArray[np.uint8], subject: NDArray[np.int64]
) -> tuple[float, float]:
    """Mean cosine of a reconstruction's embedding to its own original's, and to the originals of other people.

    A face that is not found counts as 0.
    """
    cosine = pack.judge(reconstructions).embeddings @ pack.judge(originals).embeddings.T
    return float(cosine.diagonal().mean()), float(cosine[subject[:, None] != subject[None]].mean())


def layout_change(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """1 minus the correlation of the edges of two images (S, S, 3), so 0 where only colours differ."""
    edges = []
    for image in (a, b):
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        strength = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
        edges.append(cv2.GaussianBlur(strength, (0, 0), 1.0).ravel())
    return float(1 - np.corrcoef(*edges)[0, 1])


def colour_change(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean distance in 0..1 of the sorted values of each channel of two images, so 0 where pixels changed places."""
    first, second = (np.sort(image.reshape(-1, 3).astype(np.float64), axis=0) for image in (a, b))
    return float(np.abs(first - second).mean() / 255)


def mixing_changes(wplus: WPlusEncoder, faces: NDArray[np.uint8], subject: NDArray[np.int64]) -> dict[str, list[float]]:
    """Mean change of [layout, colour] by level, where the rows of one level come from another person's code."""
    codes = wplus.encode(faces)
    other = torch.from_numpy((np.arange(len(faces)) + np.searchsorted(subject, 1)) % len(faces))
    before = wplus.decode(codes).numpy()
    changes = {}
    for level, (first, last) in LEVELS.items():
        mixed = codes.clone()
        mixed[:, first:last] = codes[other, first:last]
        after = wplus.decode(mixed).numpy()
        changes[level] = [
            float(np.mean([change(a, b) for a, b in zip(before, after, strict=True)]))
            for change in (layout_change, colour_change)
        ]
    return changes


def style_floors(folder: Path, pack_folder: Path, n: int = 1000) -> list[Row]:
    """Reconstruction with background and in front of white, similarity to the recogniser, and what a level changes."""
    wplus = load_wplus(str(folder))
    pack = FacePack(pack_folder, DET_SIZE)
    rows = []
    for background in (True, False):
        faces, subject = unseen_faces(n, wplus.size, background)
        back = np.concatenate([wplus.decode(wplus.encode(faces[i : i + 50])).numpy() for i in range(0, n, 50)])
        where = "own background" if background else "white background"
        value = psnr(faces, back)
        rows.append((f"W+ reconstruction, PSNR in dB ({where})", value, PSNR_FLOOR, value >= PSNR_FLOOR))
        own, others = similarities(pack, faces, back, subject)
        floor = others + SIMILARITY_LEAD
        rows.append((f"W+ reconstruction, similarity ({where}, to others {others:.3f})", own, floor, own >= floor))
    changes = mixing_changes(wplus, faces[:200], subject[:200])
    orders = (("layout", "coarse", ("fine",)), ("colour", "fine", ("coarse", "middle")))
    for i, (what, most, less) in enumerate(orders):
        shown = ", ".join(f"{level} {change[i]:.3f}" for level, change in changes.items() if level != most)
        value = changes[most][i]
        floor = max(changes[level][i] for level in less)
        rows.append((f"W+ {what} change by {most} rows ({shown})", value, floor, value > floor))
    return rows
