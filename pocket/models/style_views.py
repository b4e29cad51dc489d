"""Views for training the pocket W+ models: aligned faces, recoloured, warped, and cropped for a recogniser.

Half of the faces stand in front of their background, half in front of white.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from contracts.files import atomic_path
from datamodules.face_crops import Portrait, aligned
from networks.face_alignment import alignment, similarity
from pocket.models.bank import Bank
from pocket.models.face_views import CROP
from pocket.render.factors import draw_shot, draw_subject
from pocket.render.renderer import render

MASKED_SHOTS = 2
"""So many images of each subject of the bank get a mask. They are also seen in front of white, and the last training
phase of the base model takes its images from them."""


def bank_masks(bank: Bank, folder: Path, shots: int = MASKED_SHOTS) -> NDArray[np.uint8]:
    """Masks (subjects, ``shots``, 64, 64) of the first images of the bank's subjects, rendered once into ``folder``."""
    file = folder / "masks.npy"
    subjects = int(bank.subject.max()) + 1
    if not file.exists() or np.load(file, mmap_mode="r").shape[:2] != (subjects, shots):
        masks = [
            [render(draw_subject(f"bank/{i}/0"), draw_shot(f"bank/{i}/0/{j}")).mask for j in range(shots)]
            for i in tqdm(range(subjects), desc="rendering masks", mininterval=10)
        ]
        with atomic_path(file) as temporary, temporary.open("wb") as stream:
            np.save(stream, np.array(masks))
    return np.load(file)


class AlignedFaces:
    """Endless crops (size, size, 3) of the bank's images, aligned as at run time, half of them in front of white.

    Landmarks are off by ``jitter`` pixels, as a detector's are.
    """

    def __init__(self, bank: Bank, masks: NDArray[np.uint8], size: int, jitter: float = 0.35) -> None:
        self.bank = bank
        self.masks = masks
        self.size = size
        self.jitter = jitter
        self.shots = len(bank) // len(masks)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Crops (n, size, size, 3), every second one in front of white, and their landmarks (n, 5, 2) in pixels."""
        crops = []
        places = []
        for i in range(n):
            subject = int(rng.integers(len(self.masks)))
            white = i % 2 == 1
            shot = int(rng.integers(self.masks.shape[1] if white else self.shots))
            row = subject * self.shots + shot
            marks = (self.bank.landmarks[row] + rng.normal(0, self.jitter, (5, 2))).astype(np.float32)
            mask = self.masks[subject, shot] if white else None
            crops.append(aligned(Portrait("", self.bank.images[row], marks, mask), self.size, None, background=False))
            turn = alignment(marks, self.size)
            places.append(marks @ turn[:, :2].T + turn[:, 2])
        return np.stack(crops), np.stack(places)


def recolour(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Each of (B, 3, H, W) in -1..1 turned in hue by any angle, with a gain for each channel and another brightness."""
    n = len(images)
    grey = np.full((n, 3), 1 / np.sqrt(3))
    angles = rng.uniform(-np.pi, np.pi, n)
    turns = np.stack([cv2.Rodrigues(axis * angle)[0] for axis, angle in zip(grey, angles, strict=True)])
    gains = rng.uniform(0.8, 1.2, (n, 3, 1))
    shift = rng.uniform(-0.15, 0.15, (n, 1, 1, 1))
    matrix, lift = (torch.from_numpy(part).float().to(images.device) for part in (turns * gains, shift))
    return (torch.einsum("bij,bjhw->bihw", matrix, images) + lift).clamp(-1, 1)


def warps(n: int, rng: np.random.Generator) -> Tensor:
    """``n`` affine maps (n, 2, 3) for :func:`warp`: mirrored or not, turned by up to 15 degrees, scaled, shifted."""
    angle = rng.uniform(-0.26, 0.26, n)
    scale = np.exp(rng.uniform(-0.12, 0.12, n))
    mirror = np.where(rng.random(n) < 0.5, -1.0, 1.0)
    shift = rng.uniform(-0.12, 0.12, (n, 2, 1))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    turn = turn * scale[:, None, None] * np.stack([mirror, np.ones(n)], axis=1)[:, None]
    return torch.from_numpy(np.concatenate([turn, shift], axis=2)).float()


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """(B, 3, H, W): each image moved by its map. Beyond its edge an image is reflected."""
    grid = F.affine_grid(maps.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def recogniser_crops(images: Tensor, landmarks: NDArray[np.float64]) -> Tensor:
    """Crops (B, 3, 112, 112) for an ArcFace recogniser, of images (B, 3, S, S) with ``landmarks`` (B, 5, 2) in pixels.

    Gradients reach the images.
    """
    side = images.shape[-1]
    maps = []
    for points in landmarks:
        turn = similarity(points)
        back = np.linalg.inv(turn[:, :2])
        shift = back @ ((CROP - 1) / 2 - turn[:, 2])  # the crop's middle in the image's pixels
        maps.append(np.concatenate([back * CROP / side, ((2 * shift + 1) / side - 1)[:, None]], axis=1))
    placed = torch.from_numpy(np.stack(maps)).float().to(images.device)
    grid = F.affine_grid(placed, [len(images), 3, CROP, CROP], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
