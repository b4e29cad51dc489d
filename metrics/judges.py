"""The judges: every score of an image from one decoded picture and one run of each network.

Used by the leaderboard's scoring and by the validation inside training, so a number has one meaning everywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metrics.functional.clip_score import clip_similarity, edit_margin
from metrics.functional.copy_paste import copy_paste_score
from metrics.functional.identity import gallery_similarity
from metrics.functional.leakage import background_copied, background_leakage, landmark_shape, pose_leakage
from metrics.functional.lpips import mean_distance_to_others
from metrics.gallery import Gallery
from metrics.regions import background_only, person_only
from networks.clip_judge import ClipJudge
from networks.face_analysis import FacePack, JudgedFaces
from networks.image_backbone import ImageBackbone
from networks.lpips import LpipsNetwork

Vectors = NDArray[np.float32]
Pictures = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]


@dataclass(frozen=True)
class Observation:
    """What the networks see in N images.

    ``features`` are unit vectors (N, D) by name, all 0 where an image has none: ``faces`` and ``second`` of the judged
    face, ``clip`` and ``image`` of the whole image, ``clip_foreground``, ``image_foreground`` and ``clip_background``
    where a face says what is person and what is not. ``second`` and ``image*`` are there if such a network is.
    """

    judged: JudgedFaces
    features: Mapping[str, Vectors]

    def __len__(self) -> int:
        return len(self.judged.found)


class Judges:
    """The networks that judge; raises ``LikenessError`` where one is missing.

    Args:
        faces: Face pack that finds and judges faces.
        clip: CLIP for prompts and for likeness of images.
        second_faces: Face pack whose recogniser gives a second opinion on the same faces.
        image_backbone: A further image network, DINO for instance.
        lpips: File with the weights of LPIPS.
    """

    def __init__(
        self,
        faces: str,
        clip: str,
        second_faces: str | None = None,
        image_backbone: str | None = None,
        lpips: str | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.faces = FacePack(faces)
        self.clip = ClipJudge(clip).to(device)
        self.second = FacePack(second_faces) if second_faces else None
        self.image = ImageBackbone(image_backbone).to(device) if image_backbone else None
        self.lpips = LpipsNetwork(lpips).to(device) if lpips else None

    def observe(self, images: NDArray[np.uint8]) -> Observation:
        """Look at RGB images (B, H, W, 3), each network once."""
        judged = self.faces.judge(images)
        features = {"faces": judged.embeddings}
        if self.second:
            features["second"] = self.second.embed(images, judged)
        rows = np.flatnonzero(judged.found)
        people = [person_only(images[i], judged.boxes[i]) for i in rows]
        backgrounds = [background_only(images[i], judged.boxes[i]) for i in rows]
        views: dict[str, Pictures] = {"": images, "_foreground": people, "_background": backgrounds}
        features |= _look(self.clip, "clip", views, rows, len(images))
        if self.image:
            del views["_background"]
            features |= _look(self.image, "image", views, rows, len(images))
        return Observation(judged, features)

    def fit(self, seen: Observation, texts: Sequence[str]) -> tuple[Tensor, list[int]]:
        """CLIP-T of each image with its text (B,), and how many tokens of each text were cut off."""
        words, cut = self.clip.text_features(list(texts))
        return clip_similarity(torch.from_numpy(seen.features["clip"]), words.cpu()), cut

    def margin(self, seen: Observation, texts: Sequence[str], neutral: Sequence[str]) -> Tensor:
        """How much better each image fits its text than its neutral text (B,)."""
        words, _ = self.clip.text_features(list(texts))
        plain, _ = self.clip.text_features(list(neutral))
        return edit_margin(torch.from_numpy(seen.features["clip"]), words.cpu(), plain.cpu())

    def distances(self, images: NDArray[np.uint8], groups: Sequence[object]) -> Tensor:
        """Mean LPIPS distance (B,) of each image to the others of its group, NaN for one that is alone.

        Groups must be whole. One group's features are in memory at a time.
        """
        assert self.lpips is not None
        found = torch.full((len(images),), torch.nan, dtype=torch.float64)
        for group in dict.fromkeys(groups):
            rows = [i for i, other in enumerate(groups) if other == group]
            found[rows] = mean_distance_to_others(self.lpips.image_features(images[rows])).cpu()
        return found


def likeness(seen: Observation, galleries: Sequence[Gallery]) -> dict[str, Tensor]:
    """Scores (B,) by name of images against the galleries of their subjects; NaN where one is not defined, as identity
    is for objects."""
    found = _faces_to_compare(seen, galleries)

    def to_photos(name: str) -> Tensor:
        means = torch.from_numpy(np.stack([g.mean(name) for g in galleries]))
        return gallery_similarity(torch.from_numpy(seen.features[name]), means)

    def to_reference(name: str) -> Tensor:
        photo = torch.from_numpy(np.stack([g.reference[name] for g in galleries]))
        return gallery_similarity(torch.from_numpy(seen.features[name]), photo)

    references, photos = (torch.from_numpy(array) for array in _face_photos(galleries))
    faces = torch.from_numpy(seen.features["faces"])
    scores = {
        "identity": _where(found, to_photos("faces")),
        "identity_to_reference": _where(found, to_reference("faces")),
        "copy_paste": _where(found, copy_paste_score(faces, references, photos)),
    }
    if "second" in seen.features:
        scores["identity_second_opinion"] = _where(found, to_photos("second"))
    for name, view in (("clip_i", "clip"), ("image_similarity", "image")):
        if view in seen.features:
            scores[name] = to_photos(view)
            scores[f"{name}_foreground"] = _where(found, to_photos(f"{view}_foreground"))
            scores[f"{name}_to_reference"] = to_reference(view)
    return scores


def leakage(seen: Observation, galleries: Sequence[Gallery], texts: Sequence[str]) -> dict[str, Tensor]:
    """Leakage scores (B,) by name; NaN without a face, and where a text asks for the reference's own background."""
    found = _faces_to_compare(seen, galleries)
    backgrounds = torch.from_numpy(seen.features["clip_background"])
    own = torch.from_numpy(np.stack([g.reference["clip_background"] for g in galleries]))
    others = torch.from_numpy(np.stack([g.other_backgrounds for g in galleries]))
    asked = torch.tensor(
        [bool(g.background_text) and g.background_text in t for g, t in zip(galleries, texts, strict=True)]
    )
    means = torch.from_numpy(galleries[0].background_means)
    copied = background_copied(backgrounds, torch.tensor([g.background for g in galleries]), means)
    poses = landmark_shape(seen.judged.landmarks) @ galleries[0].pose_reader
    return {
        "background_leakage": _where(found & others.any(dim=1), background_leakage(backgrounds, own, others)),
        "background_copied": _where(found & ~asked, copied),
        "pose_leakage": _where(found, pose_leakage(poses, np.stack([g.pose for g in galleries]))),
    }


def _faces_to_compare(seen: Observation, galleries: Sequence[Gallery]) -> Tensor:
    """Which images (B,) show a face of a subject that has one."""
    return torch.from_numpy(seen.judged.found) & torch.tensor([g.has_face for g in galleries], dtype=torch.bool)


def _face_photos(galleries: Sequence[Gallery]) -> tuple[Vectors, Vectors]:
    """References (B, D) and held-out photos (B, K, D), short galleries filled up with zeros, which are no photos."""
    most = max(len(g.held_out["faces"]) for g in galleries)
    references = np.stack([g.reference["faces"] for g in galleries])
    photos = np.zeros((len(galleries), most, references.shape[1]), np.float32)
    for row, gallery in zip(photos, galleries, strict=True):
        row[: len(gallery.held_out["faces"])] = gallery.held_out["faces"]
    return references, photos


def _look(
    network: ClipJudge | ImageBackbone,
    name: str,
    views: Mapping[str, Pictures],
    rows: NDArray[np.intp],
    count: int,
) -> dict[str, Vectors]:
    """Features of all views in one run; the views after the first exist for ``rows`` only."""
    found = network.image_features(np.stack([image for view in views.values() for image in view])).cpu().numpy()
    features, first = {}, 0
    for suffix, view in views.items():
        some = found[first : first + len(view)]
        first += len(view)
        features[name + suffix] = some if suffix == "" else np.zeros((count, found.shape[1]), np.float32)
        if suffix:
            features[name + suffix][rows] = some
    return features


def _where(known: Tensor, values: Tensor) -> Tensor:
    return torch.where(known, values, torch.nan)
