"""The training bank: renders of many subjects, made once and kept on disk as plain arrays.

A pocket model sees far more people than ``pocket10k`` holds, so the bank's subjects are other ones (keys
``bank/...``) than those of the dataset (``s0000`` ...) and of the quality report (``unseen/...``).
"""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pocket.render.captions import caption
from pocket.render.factors import BACKGROUNDS, STYLES, draw_shot, draw_subject
from pocket.render.renderer import render

_CHUNK = 500


@dataclass(frozen=True)
class Bank:
    """N renders and what is known of them."""

    images: NDArray[np.uint8]
    """(N, 64, 64, 3), RGB."""
    landmarks: NDArray[np.float32]
    """(N, 5, 2): x, y in pixels."""
    boxes: NDArray[np.float32]
    """(N, 4): x0, y0, x1, y1 in pixels."""
    pose: NDArray[np.float32]
    """(N, 3): yaw, pitch, roll in degrees."""
    subject: NDArray[np.int64]
    """(N,): number of the subject."""
    background: NDArray[np.int64]
    """(N,): index into ``BACKGROUNDS``."""
    style: NDArray[np.int64]
    """(N,): index into ``STYLES``."""
    captions: list[str]
    """N captions."""

    def __len__(self) -> int:
        return len(self.images)

    def descriptions(self) -> list[str]:
        """A caption of each image that says what the face looks like (banks of :func:`load_bank` only)."""
        shots = np.arange(len(self)) % np.bincount(self.subject).max()
        names = [(f"bank/{i}/0", f"bank/{i}/0/{j}") for i, j in zip(self.subject, shots, strict=True)]
        return [
            caption(draw_subject(who), draw_shot(shot), f"{shot}/described", appearance=1.0, pose=0.0, face=True)
            for who, shot in names
        ]


def render_bank(
    prefix: str, subjects: int, shots: int, plain: bool = False, appearance: float = 0.5, detail: float = 0.85
) -> Iterator[dict]:
    """Rows of ``subjects x shots`` renders in a fixed order; ``plain`` keeps to photos without accessories."""
    for i in range(subjects):
        subject = draw_subject(f"{prefix}/{i}")
        for j in range(shots):
            key = f"{prefix}/{i}/{j}"
            shot = draw_shot(key, style="photo", accessories=False) if plain else draw_shot(key)
            rendered = render(subject, shot)
            yield {
                "image": rendered.image,
                "landmarks": rendered.landmarks,
                "box": rendered.bbox,
                "pose": (shot.yaw, shot.pitch, shot.roll),
                "subject": i,
                "background": BACKGROUNDS.index(shot.background),
                "style": STYLES.index(shot.style),
                "caption": caption(subject, shot, key, appearance=appearance, detail=detail),
            }


def collect(rows: Iterable[dict]) -> Bank:
    """A bank held in memory."""
    rows = list(rows)
    return Bank(
        images=np.stack([r["image"] for r in rows]),
        landmarks=np.stack([r["landmarks"] for r in rows]),
        boxes=np.stack([r["box"] for r in rows]),
        pose=np.array([r["pose"] for r in rows], np.float32),
        subject=np.array([r["subject"] for r in rows]),
        background=np.array([r["background"] for r in rows]),
        style=np.array([r["style"] for r in rows]),
        captions=[r["caption"] for r in rows],
    )


def _render_chunk(first: int, last: int, shots: int) -> Bank:
    cv2.setNumThreads(1)
    rows = []
    for i in range(first, last):
        rows += [{**row, "subject": i} for row in render_bank(f"bank/{i}", 1, shots)]
    return collect(rows)


def load_bank(folder: Path, subjects: int = 6000, shots: int = 10) -> Bank:
    """The training bank, rendered into ``folder`` on first use (about 4 minutes for the default size on two cores)."""
    done = folder / "bank.json"
    names = ("images", "landmarks", "boxes", "pose", "subject", "background", "style")
    if not done.exists() or json.loads(done.read_text())["size"] != [subjects, shots]:
        folder.mkdir(parents=True, exist_ok=True)
        firsts = range(0, subjects, _CHUNK // shots)
        lasts = [min(subjects, f + _CHUNK // shots) for f in firsts]
        with ProcessPoolExecutor() as pool:
            parts = list(
                tqdm(
                    pool.map(_render_chunk, firsts, lasts, [shots] * len(lasts)),
                    total=len(lasts),
                    desc="rendering the bank",
                )
            )
        for name in names:
            np.save(folder / f"{name}.npy", np.concatenate([getattr(p, name) for p in parts]))
        (folder / "captions.json").write_text(json.dumps([c for p in parts for c in p.captions]))
        done.write_text(json.dumps({"size": [subjects, shots]}))
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "images" else None) for name in names}
    return Bank(**arrays, captions=json.loads((folder / "captions.json").read_text()))
