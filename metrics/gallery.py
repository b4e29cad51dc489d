"""A subject's real photos, and what the judges see in them: all that its images are judged against.

The file of all galleries is written once, when the plan is made, and read by every process.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from contracts.errors import LikenessError
from contracts.files import write_atomically
from contracts.protocol import Protocol
from contracts.records import Request
from contracts.strict_json import parse
from networks.keyed_noise import keyed_generator

UNKNOWN = -1
"""The class of a background, or of clothes, that is not known."""
_OWN = ("pose", "other_backgrounds", "boxes", "counts")
_GLOBAL = ("background_means", "pose_reader")


class PhotoHashes(NamedTuple):
    """SHA-256 in hex of the files of a subject's photos, which tell what somebody else trained on."""

    references: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class SubjectPhotos:
    """One subject: ``reference`` (H, W, 3) and ``held_out`` (K, H, W, 3), RGB uint8 squares.

    What is known of them lists the reference first: ``poses`` (1 + K, 3), yaw, pitch and roll in degrees, NaN where
    they are not known, ``backgrounds`` (1 + K,), which are ids, ``UNKNOWN`` where they are not known, and the
    words for each of these, which may be empty.
    """

    id: str
    noun: str
    reference: NDArray[np.uint8]
    held_out: NDArray[np.uint8]
    poses: NDArray[np.float32]
    backgrounds: NDArray[np.int64]
    background_texts: tuple[str, ...]
    mask: NDArray[np.uint8] | None = None
    """(H, W): 255 on the person in the reference; ``None`` where it is not known."""
    has_face: bool = True
    """Whether photos of the subject show a face, as the dataset or the protocol says. An object has none."""
    boxes: NDArray[np.float32] | None = None
    """(1 + K, 4): x0, y0, x1, y1 of the face in each photo, NaN where it is not known; ``None`` where none is."""
    text: str = ""
    """What the subject looks like, in words that follow the class noun in a prompt; empty where nobody says it."""
    clothes: NDArray[np.int64] | None = None
    """(1 + K,): class of the clothes in each photo, ``UNKNOWN`` where it is not known; ``None`` where none is."""
    clothes_text: str = ""
    """Words for the clothes in the reference; may be empty."""
    further: tuple[NDArray[np.uint8], ...] = ()
    """Further references as methods see them, each (H, W, 4) with its mask as alpha where that is known, else
    (H, W, 3)."""
    hashes: PhotoHashes = field(default_factory=PhotoHashes)

    @property
    def cut_out(self) -> NDArray[np.uint8]:
        """The reference as methods see it: (H, W, 4) with the mask as alpha where it is known, else (H, W, 3)."""
        return self.reference if self.mask is None else np.dstack([self.reference, self.mask])

    @property
    def photos(self) -> NDArray[np.uint8]:
        """All photos (1 + K, H, W, 3), the reference first."""
        return np.concatenate([self.reference[None], self.held_out])


Factor = Literal["backgrounds", "poses", "clothes"]


def unknown_factors(subjects: Sequence[SubjectPhotos]) -> frozenset[Factor]:
    """What is not known of every photo of every subject with a face: class and words of its background, its pose, the
    class of its clothes.

    Nothing that is unknown can be said to have leaked.
    """
    people = [subject for subject in subjects if subject.has_face]
    unknown: set[Factor] = set()
    if not all((s.backgrounds != UNKNOWN).all() and all(s.background_texts) for s in people):
        unknown.add("backgrounds")
    if not all(np.isfinite(s.poses).all() for s in people):
        unknown.add("poses")
    if not all(s.clothes is not None and (s.clothes != UNKNOWN).all() for s in people):
        unknown.add("clothes")
    return frozenset(unknown)


@dataclass(frozen=True)
class Gallery:
    """One subject's photos as the judges see them.

    ``reference`` holds vectors (D,) and ``held_out`` (K, D) by the names of ``Observation.features``, all 0 where a
    photo has none. ``other_backgrounds`` (D,) is the mean over the other subjects' references, 0 if there are none.
    ``background`` is the index of the reference's background among ``background_means`` (C, D), -1 where it is not
    known and for an object, whose photos do not say what is background; ``background_text`` is its words. ``pose`` (3,)
    is the reference's yaw, pitch and roll in degrees, NaN where they are not known, ``pose_reader`` (11, 3) reads them
    from landmarks, NaN where no photo's pose is known.
    """

    reference: Mapping[str, NDArray[np.float32]]
    held_out: Mapping[str, NDArray[np.float32]]
    other_backgrounds: NDArray[np.float32]
    background: int
    background_text: str
    background_means: NDArray[np.float32]
    pose: NDArray[np.float32]
    pose_reader: NDArray[np.float64]
    has_face: bool
    """Whether the subject has a face. An object has none, and so no score of identity."""
    boxes: NDArray[np.float32]
    """(1 + K, 4): the subject's face in each photo, the reference first, NaN where there is none."""
    counts: NDArray[np.int64]
    """(1 + K,): how many faces each photo shows."""
    clothes: int = UNKNOWN
    """Index of the reference's clothes among ``clothes_means``, -1 where they are not known."""
    clothes_text: str = ""
    """Words for them; may be empty."""
    clothes_means: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    """(C, 3): mean colour in CIELAB of each known class of clothes."""
    further: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Vectors (R - 1, D) of further references; empty where there is one."""
    company: tuple["Gallery", ...] = field(default=(), repr=False, compare=False)
    """The galleries of all other subjects."""

    @property
    def usable(self) -> NDArray[np.intp]:
        """Indices of the held-out photos that show the face; of an object those in which it is found, where a network
        looks for it, else all."""
        of_object = "clip_object" if "clip_object" in self.held_out else "clip"
        return np.flatnonzero(np.any(self.held_out["faces" if self.has_face else of_object] != 0, axis=1))

    def mean(self, name: str) -> NDArray[np.float64]:
        """Mean held-out vector (D,), not normalised again, over the photos that have one; NaN where none has."""
        photos = self.held_out[name].astype(np.float64)
        known = photos[np.any(photos != 0, axis=1)]
        return known.mean(axis=0) if len(known) else np.full(photos.shape[1], np.nan)

    def strangers(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Vectors (M, D) of all other people's held-out photos, and a number (M,) for whose each is."""
        people = [gallery.held_out[name] for gallery in self.company if gallery.has_face]
        rows = [photos[np.any(photos != 0, axis=1)] for photos in people]
        owners = np.repeat(np.arange(len(rows)), [len(photos) for photos in rows])
        return np.concatenate(rows) if rows else np.zeros((0, 0), np.float32), owners

    def without(self, photo: int) -> "Gallery":
        """The gallery for judging its own held-out photo of index ``photo``."""
        return replace(
            self,
            held_out={name: np.delete(rows, photo, axis=0) for name, rows in self.held_out.items()},
            boxes=np.delete(self.boxes, 1 + photo, axis=0),
            counts=np.delete(self.counts, 1 + photo),
        )


def acquainted(galleries: Mapping[str, Gallery]) -> dict[str, Gallery]:
    """The same galleries, each in the company of all others."""
    return {
        subject: replace(gallery, company=tuple(other for name, other in galleries.items() if name != subject))
        for subject, gallery in galleries.items()
    }


def save_galleries(path: Path, galleries: Mapping[str, Gallery], protocol_hash: str) -> None:
    """Write all galleries to one safetensors file."""
    tensors: dict[str, NDArray] = {}
    for subject, gallery in galleries.items():
        tensors |= {f"{subject}/reference/{name}": vector for name, vector in gallery.reference.items()}
        tensors |= {f"{subject}/held_out/{name}": rows for name, rows in gallery.held_out.items()}
        tensors |= {f"{subject}/further/{name}": rows for name, rows in gallery.further.items()}
        tensors |= {f"{subject}/{name}": getattr(gallery, name) for name in _OWN}
        tensors |= {name: getattr(gallery, name) for name in _GLOBAL}
    backgrounds = {subject: [gallery.background, gallery.background_text] for subject, gallery in galleries.items()}
    about = {"protocol": protocol_hash, "backgrounds": json.dumps(backgrounds, ensure_ascii=False)}
    if any(len(gallery.clothes_means) for gallery in galleries.values()):
        tensors["clothes_means"] = next(iter(galleries.values())).clothes_means
        clothes = {subject: [gallery.clothes, gallery.clothes_text] for subject, gallery in galleries.items()}
        about["clothes"] = json.dumps(clothes, ensure_ascii=False)
    if faceless := [subject for subject, gallery in galleries.items() if not gallery.has_face]:
        about["faceless"] = json.dumps(faceless)
    write_atomically(path, save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, about))


def load_galleries(path: Path, subjects: Sequence[str]) -> dict[str, Gallery]:
    """The galleries by subject; raises ``LikenessError`` where the file is missing or incomplete."""
    try:
        tensors = load_file(path)
        with safe_open(path, "numpy") as file:
            backgrounds = parse(file.metadata()["backgrounds"])
            faceless = parse(file.metadata().get("faceless", "[]"))
            clothes = parse(file.metadata().get("clothes", "{}"))
        galleries = {
            subject: _gallery(tensors, subject, subject not in faceless, *backgrounds[subject]) for subject in subjects
        }
        return acquainted(
            {subject: _dressed(gallery, tensors, *clothes.get(subject, ())) for subject, gallery in galleries.items()}
        )
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
        further=part("further"),
        background=background,
        background_text=background_text,
        has_face=has_face,
        pose=tensors[f"{subject}/pose"],
        other_backgrounds=tensors[f"{subject}/other_backgrounds"],
        boxes=tensors[f"{subject}/boxes"],
        counts=tensors[f"{subject}/counts"],
        background_means=tensors["background_means"],
        pose_reader=tensors["pose_reader"],
    )


def _dressed(gallery: Gallery, tensors: Mapping[str, NDArray], clothes: int = UNKNOWN, text: str = "") -> Gallery:
    """The gallery with what is known of clothes, where something is."""
    means = tensors.get("clothes_means")
    return gallery if means is None else replace(gallery, clothes=clothes, clothes_text=text, clothes_means=means)


def load_photo_features(path: Path) -> NDArray[np.float32]:
    """CLIP features (M, D) of all held-out photos, in the order of the subjects' names."""
    try:
        tensors = load_file(path)
        return np.concatenate([tensors[name] for name in sorted(tensors) if name.endswith("/held_out/clip")])
    except (OSError, SafetensorError, ValueError) as error:
        raise LikenessError(f"{path} is missing or damaged ({error}): run `--stage generate` again") from error


def left_out_photo(
    protocol: Protocol, galleries: Mapping[str, Gallery], request: Request, subject: str | None = None
) -> int:
    """Which held-out photo stands in for a request in the ceiling: it is judged against the others.

    It is the photo of the request's own subject, or of the second one where that is given as ``subject``.

    The photos of a subject are dealt out in an order of their own, so that they repeat as late as possible.
    """
    subject = request.subject if subject is None else subject
    usable = galleries[subject].usable
    order = torch.randperm(len(usable), generator=keyed_generator("ceiling", protocol.seed, subject))
    prompt = [p.id for p in protocol.prompts].index(request.prompt_id)
    return int(usable[int(order[(prompt * protocol.samples + request.sample) % len(usable)])])
