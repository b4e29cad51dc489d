"""``pocket10k``: 10,000 images of the pocket world, 250 subjects x 8 poses x 5 backgrounds.

They are rendered on first use, into Parquet shards of the dataset schema (``datamodules/schema.py``). Every
image is a function of its name, so the bytes depend on the OpenCV version only. The first 80 % of the subjects
train, the next 10 % validate, the last 10 % test. Training images vary in style, hat and glasses; those of the
other two splits are plain photos, so that they can serve as references and as held-out photos.

    python -m pocket.render.dataset            # render into the cache, print the folder and the content's hash
    python -m pocket.render.dataset --verify   # check every shard of it against the manifest
"""

import argparse
import ast
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from contracts.commands import as_command
from contracts.errors import LikenessError
from contracts.files import cache_folder, file_sha256, open_to_append
from datamodules.index import content_id
from datamodules.schema import features
from pocket.render.captions import CLASS_NOUN, caption, clothes_words, description, place_words
from pocket.render.factors import BACKGROUNDS, CLOTH_COLOURS, PATTERNS, POSES, Draws, Shot, draw_shot, draw_subject
from pocket.render.renderer import render

MANIFEST = "manifest.json"
APPEARANCE = 0.15
"""Share of captions that say what the person looks like."""

_SUBJECTS_PER_SHARD = 25
_DRAWING = ("backgrounds.py", "canvas.py", "face_parts.py", "hair.py", "outfit.py", "renderer.py")
_SOURCES = ("factors.py", "captions.py", *_DRAWING, "dataset.py")
Row = dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """How many subjects, poses (at most 8) and backgrounds per subject (at most 12) a dataset has."""

    subjects: int = 250
    poses: int = len(POSES)
    backgrounds: int = 5

    @property
    def name(self) -> str:
        """``pocket10k``, or the grid's size."""
        return "pocket10k" if self == Grid() else f"pocket-{self.subjects}x{self.poses}x{self.backgrounds}"

    def split(self, subject: int) -> str:
        """The split that a subject is in."""
        held = max(1, self.subjects // 10)
        if subject >= self.subjects - held:
            return "test"
        return "val" if subject >= self.subjects - 2 * held else "train"


def fingerprint(grid: Grid) -> str:
    """What the images depend on: the grid, the OpenCV version and the renderer's code, comments aside."""
    digest = hashlib.sha256(f"{grid}/{cv2.__version__}".encode())
    for name in _SOURCES:
        source = Path(__file__).with_name(name).read_text()
        digest.update(ast.dump(ast.parse(source)).encode())
    return digest.hexdigest()


def pocket10k(cache_dir: str | Path | None = None, grid: Grid | None = None, processes: int | None = None) -> Path:
    """The folder with the shards and their manifest, rendered if it is not there.

    A render appears under its final name only when it is complete; two processes that want it render it once.

    Args:
        cache_dir: Where datasets lie, see :func:`contracts.files.cache_folder`.
        grid: The whole ``pocket10k`` unless a smaller one is given.
        processes: How many render; one per usable core unless given. 1 renders in this process.

    Raises:
        LikenessError: a shard of an earlier render is missing or was cut short. The message names it.
    """
    grid = grid or Grid()
    folder = cache_folder(cache_dir) / f"{grid.name}-{fingerprint(grid)[:12]}"
    if not folder.is_dir():
        with _lock(folder.parent / ".pocket.lock"):
            if not folder.is_dir():
                _render(folder, grid, processes)
    _check_sizes(folder)
    return folder


def verify(folder: Path) -> None:
    """Check the bytes of every shard against the manifest.

    Raises:
        LikenessError: a shard is missing or differs. The message names it.
    """
    _check_sizes(folder)
    for name, expected in _manifest(folder)["shards"].items():
        if file_sha256(folder / name) != expected["sha256"]:
            raise LikenessError(f"{folder / name} is damaged: delete {folder} and run again")


def rows_of(subject: int, grid: Grid) -> list[Row]:
    """All rows of one subject: poses in order, for each pose its backgrounds.

    The first one, the most frontal pose, is the reference. Held out are those of another pose before another
    background.
    """
    cv2.setNumThreads(1)
    name = f"s{subject:04d}"
    split = grid.split(subject)
    who = draw_subject(name)
    draws = Draws("dataset", "backgrounds", name)
    left = list(BACKGROUNDS)
    kinds = [left.pop(left.index(draws.choice(tuple(left)))) for _ in range(grid.backgrounds)]
    rows = []
    for pose_id in range(grid.poses):
        for kind in sorted(kinds, key=BACKGROUNDS.index):
            key = f"{name}/{pose_id}/{kind}"
            shot = shot_of(name, pose_id, kind, split)
            rendered = render(who, shot)
            image = _png(rendered.image[..., ::-1])
            sha256 = hashlib.sha256(image).hexdigest()
            rows.append(
                {
                    "image": {"bytes": image, "path": None},
                    "mask": {"bytes": _png(rendered.mask), "path": None},
                    "photo_id": content_id(name, sha256),
                    "subject_id": name,
                    "subject_class": CLASS_NOUN,
                    "subject_text": description(who),
                    "has_face": True,
                    "pose_id": pose_id,
                    "pose": [shot.yaw, shot.pitch, shot.roll],
                    "background_id": BACKGROUNDS.index(kind),
                    "background_text": place_words(kind),
                    "clothes_id": clothes_class(shot),
                    "clothes_text": clothes_words(shot),
                    "caption": caption(who, shot, key, appearance=APPEARANCE, pose=0.0, detail=1.0),
                    "landmarks": rendered.landmarks.tolist(),
                    "bbox": rendered.bbox.tolist(),
                    "split": split,
                    "role": None,
                    "source": "Likeness pocket renderer",
                    "licence": "Apache-2.0",
                    "sha256": sha256,
                }
            )
    reference = rows[0]
    reference["role"] = "reference"
    for row in rows:
        if row["pose_id"] != reference["pose_id"] and row["background_id"] != reference["background_id"]:
            row["role"] = "held_out"
    return rows


def shot_of(subject: str, pose_id: int, background: str, split: str) -> Shot:
    """What a photo of the dataset shows beside the subject, factor by factor: a function of its place in the grid."""
    plain = split != "train"
    key = f"{subject}/{pose_id}/{background}"
    return draw_shot(key, POSES[pose_id], background, style="photo" if plain else None, accessories=not plain)


def clothes_class(shot: Shot) -> int:
    """Number of the colour and the pattern of the clothes."""
    return list(CLOTH_COLOURS).index(shot.cloth_colour) * len(PATTERNS) + PATTERNS.index(shot.cloth_pattern)


def _render(folder: Path, grid: Grid, processes: int | None) -> None:
    """Render the grid into a temporary folder and give it its final name."""
    for left_over in folder.parent.glob(".pocket*.part"):  # nobody else renders here: the caller holds the lock
        shutil.rmtree(left_over, ignore_errors=True)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    temporary.mkdir()
    try:
        shards: dict[str, dict[str, Any]] = {}
        content = hashlib.sha256()
        with _subject_rows(grid, processes) as subjects:
            for name, rows in _shards(grid, subjects):
                _write_shard(rows, temporary / name)
                shards[name] = {
                    "rows": len(rows),
                    "bytes": (temporary / name).stat().st_size,
                    "sha256": file_sha256(temporary / name),
                }
                for row in rows:
                    content.update(f"{row['sha256']} {row['caption']}\n".encode())
        manifest = {
            "name": grid.name,
            "grid": asdict(grid),
            "opencv": cv2.__version__,
            "images": sum(shard["rows"] for shard in shards.values()),
            "content_sha256": content.hexdigest(),
            "shards": shards,
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _subject_rows(grid: Grid, processes: int | None) -> Iterator[Iterator[list[Row]]]:
    """The rows of each subject in order, with a progress bar."""
    indices = range(grid.subjects)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processes = processes or usable or 1
    with tqdm(total=grid.subjects, desc=f"rendering {grid.name}", unit="subject", mininterval=1) as bar:

        def counted(rows: Iterable[list[Row]]) -> Iterator[list[Row]]:
            for one in rows:
                bar.update()
                yield one

        if processes == 1:
            yield counted(rows_of(i, grid) for i in indices)
        else:
            # Spawned, not forked: the caller may have threads of torch, OpenCV or Arrow running.
            with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
                with _hidden_main():
                    rows = pool.map(rows_of, indices, [grid] * grid.subjects, chunksize=2)
                yield counted(rows)


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Keep processes that start meanwhile from importing the caller's main module: it may be slow, or unguarded."""
    main = sys.modules["__main__"]
    if rows_of.__module__ != "__main__":
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _shards(grid: Grid, subjects: Iterator[list[Row]]) -> Iterator[tuple[str, list[Row]]]:
    """File name and rows of every shard: one split each, at most 25 subjects."""
    splits = [grid.split(i) for i in range(grid.subjects)]
    for split in ("train", "val", "test"):
        count = -(-splits.count(split) // _SUBJECTS_PER_SHARD)
        for i in range(count):
            members = min(_SUBJECTS_PER_SHARD, splits.count(split) - i * _SUBJECTS_PER_SHARD)
            rows = [row for subject in islice(subjects, members) for row in subject]
            yield f"{split}-{i:05d}-of-{count:05d}.parquet", rows


def _write_shard(rows: list[Row], path: Path) -> None:
    from datasets import Dataset, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        Dataset.from_list(rows, features=features()).to_parquet(path)
    finally:
        if shown:
            enable_progress_bars()


def _png(image: NDArray[np.uint8]) -> bytes:
    done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not done:
        raise RuntimeError("OpenCV could not encode a PNG")
    return data.tobytes()


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise LikenessError(f"{folder / MANIFEST} is missing or damaged: delete {folder} and run again") from error


def _check_sizes(folder: Path) -> None:
    for name, expected in _manifest(folder)["shards"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != expected["bytes"]:
            state = "was cut short or changed" if path.is_file() else "is missing"
            raise LikenessError(f"{path} {state}: delete {folder} and run again")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock on the file. The system releases it when the process ends, however it ends."""
    with os.fdopen(open_to_append(path), "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@as_command
def main() -> int:
    """Render, or verify, and print what is there."""
    parser = argparse.ArgumentParser(
        prog="python -m pocket.render.dataset", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--cache-dir", help="default: $LIKENESS_CACHE or ~/.cache/likeness")
    parser.add_argument("--processes", type=int, help="how many render; default: one per usable core")
    parser.add_argument("--verify", action="store_true", help="check every shard against the manifest")
    arguments = parser.parse_args()
    folder = pocket10k(arguments.cache_dir, processes=arguments.processes)
    if arguments.verify:
        verify(folder)
    manifest = _manifest(folder)
    print(f"{folder}\n{manifest['images']} images, content sha256 {manifest['content_sha256']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
