"""The judges: all that the networks see in an image, from one decoded picture and one run of each network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

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
