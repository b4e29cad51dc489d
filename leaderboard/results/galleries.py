"""The file of galleries: written once when the plan is made, read by every process."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from contracts.errors import LikenessError
from contracts.files import write_atomically
from contracts.protocol import Protocol
from contracts.records import Request
from metrics.gallery import Gallery
from networks.keyed_noise import keyed_generator

_GLOBAL = ("background_means", "pose_reader")


def save_galleries(path: Path, galleries: Mapping[str, Gallery], protocol_hash: str) -> None:
    """Write all galleries to one safetensors file."""
    tensors: dict[str, NDArray] = {}
    for subject, gallery in galleries.items():
        tensors |= {f"{subject}/reference/{name}": vector for name, vector in gallery.reference.items()}
        tensors |= {f"{subject}/held_out/{name}": rows for name, rows in gallery.held_out.items()}
        tensors |= {f"{subject}/pose": gallery.pose, f"{subject}/other_backgrounds": gallery.other_backgrounds}
        tensors |= {name: getattr(gallery, name) for name in _GLOBAL}
    backgrounds = {subject: [gallery.background, gallery.background_text] for subject, gallery in galleries.items()}
    about = {"protocol": protocol_hash, "backgrounds": json.dumps(backgrounds, ensure_ascii=False)}
    if faceless := [subject for subject, gallery in galleries.items() if not gallery.has_face]:
        about["faceless"] = json.dumps(faceless)
    write_atomically(path, save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, about))


def load_galleries(path: Path, subjects: Sequence[str]) -> dict[str, Gallery]:
    """The galleries by subject; raises ``LikenessError`` where the file is missing or incomplete."""
    try:
        tensors = load_file(path)
        with safe_open(path, "numpy") as file:
            backgrounds = json.loads(file.metadata()["backgrounds"])
            faceless = json.loads(file.metadata().get("faceless", "[]"))
        return {
            subject: _gallery(tensors, subject, subject not in faceless, *backgrounds[subject]) for subject in subjects
        }
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise LikenessError(f"{path} is missing or damaged ({error}): run `--stage generate` again") from error


def _gallery(
    tensors: Mapping[str, NDArray], subject: str, has_face: bool, background: int, background_text: str
) -> Gallery:
    def part(name: str) -> dict[str, NDArray]:
        start = f"{subject}/{name}/"
        return {key.removeprefix(start): array for key, array in tensors.items() if key.startswith(start)}

    return Gallery(
        reference=part("reference"),
        held_out=part("held_out"),
        other_backgrounds=tensors[f"{subject}/other_backgrounds"],
        background=background,
        background_text=background_text,
        background_means=tensors["background_means"],
        pose=tensors[f"{subject}/pose"],
        pose_reader=tensors["pose_reader"],
        has_face=has_face,
    )


def load_photo_features(path: Path) -> NDArray[np.float32]:
    """CLIP features (M, D) of all held-out photos, in the order of the subjects' names."""
    try:
        tensors = load_file(path)
        return np.concatenate([tensors[name] for name in sorted(tensors) if name.endswith("/held_out/clip")])
    except (OSError, SafetensorError, ValueError) as error:
        raise LikenessError(f"{path} is missing or damaged ({error}): run `--stage generate` again") from error


def left_out_photo(protocol: Protocol, galleries: Mapping[str, Gallery], request: Request) -> int:
    """Which held-out photo stands in for a request in the ceiling: it is judged against the others.

    The photos of a subject are dealt out in an order of their own, so that they repeat as late as possible.
    """
    usable = galleries[request.subject].usable
    order = torch.randperm(len(usable), generator=keyed_generator("ceiling", protocol.seed, request.subject))
    prompt = [p.id for p in protocol.prompts].index(request.prompt_id)
    return int(usable[int(order[(prompt * protocol.samples + request.sample) % len(usable)])])
