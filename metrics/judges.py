"""The judges: all that the networks see in an image, from one decoded image and one run of each network.

What they see in the subjects' real photos makes the galleries. :class:`JudgedImages` are images with all that metrics
score them by: what the networks see in them, prompts, and galleries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts.prompts import plain_prompt
from contracts.records import Request
from contracts.settings import DETECTION_SIDES
from metrics.functional.identity import gallery_similarity
from metrics.functional.leakage import clothes_colour, fit_pose_reader
from metrics.gallery import UNKNOWN, Gallery, SubjectPhotos, acquainted
from metrics.regions import background_only, only, person_only
from networks.clip_judge import ClipJudge
from networks.face_analysis import FacePack, JudgedFaces
from networks.image_backbone import ImageBackbone
from networks.lpips import LpipsNetwork
from networks.segmenter import Segmenter

Vectors = NDArray[np.float32]
View = tuple[Sequence[NDArray[np.uint8]] | NDArray[np.uint8], NDArray[np.intp]]
"""Images in another form, and which of all images they are of."""
NEUTRAL = "a photo of a {noun}"
"""The prompt without an edit, which the edit margin compares with."""


@dataclass(frozen=True)
class Observation:
    """What the networks see in N images.

    ``features`` are unit vectors (N, D) by name, all 0 where an image has none: ``faces`` and ``second`` of the judged
    face, ``clip`` and ``image`` of the whole image, ``clip_foreground``, ``image_foreground`` and ``clip_background``
    where a face says what is person and what is not, ``clip_object`` and ``image_object`` where a segmentation model
    finds an object. ``second``, ``image*`` and ``*_object`` are there if such a network is.
    """

    judged: JudgedFaces
    features: Mapping[str, Vectors]

    def __len__(self) -> int:
        return len(self.judged.found)

    @property
    def shows_object(self) -> NDArray[np.bool_]:
        """In which images (N,) a segmentation model finds an object; all of them without such a model."""
        found = self.features.get("clip_object")
        return np.ones(len(self), bool) if found is None else np.any(found != 0, axis=1)


class Judges:
    """The networks that judge; raises ``LikenessError`` where one is missing.

    Args:
        faces: Face pack that finds and judges faces.
        clip: CLIP for prompts and for likeness of images.
        second_faces: Face pack whose recogniser gives a second opinion on the same faces.
        image_backbone: A further image network, DINO for instance.
        lpips: File with the weights of LPIPS.
        segmenter: File of a segmentation model, which says what of an image is the object.
        det_size: Sides in pixels at which the first pack looks for faces.
    """

    def __init__(
        self,
        faces: str,
        clip: str,
        second_faces: str | None = None,
        image_backbone: str | None = None,
        lpips: str | None = None,
        segmenter: str | None = None,
        det_size: int | Sequence[int] = DETECTION_SIDES,
        device: torch.device | str = "cpu",
    ) -> None:
        self.faces = FacePack(faces, det_size)
        self.clip = ClipJudge(clip).to(device)
        self.second = FacePack(second_faces) if second_faces else None
        self.image = ImageBackbone(image_backbone).to(device) if image_backbone else None
        self.lpips = LpipsNetwork(lpips).to(device) if lpips else None
        self.segmenter = Segmenter(segmenter) if segmenter else None

    def observe(self, images: NDArray[np.uint8], boxes: NDArray[np.float32] | None = None) -> Observation:
        """Look at RGB images (B, H, W, 3), each network once, and of their faces at the largest.

        With ``boxes`` (B, 4), NaN where one is not known, it is the face in the box.
        """
        return self._look_at(images, self.faces.judge(images, boxes))

    def observe_photos(self, subject: SubjectPhotos) -> Observation:
        """Look at a subject's photos, the reference first, and of the faces in them at the subject's own.

        What is found in photos of an object is no face of it.
        """
        photos = subject.photos
        if not subject.has_face:
            return self._look_at(photos, JudgedFaces.none(len(photos), self.faces.recogniser.width))
        return self._look_at(photos, self.faces.judge_subject(photos, subject.boxes))

    def observe_further(self, subject: SubjectPhotos) -> Mapping[str, Vectors]:
        """Features (R - 1, D) of a subject's further references, by the names of ``Observation.features``."""
        photos = np.stack([cut_out[..., :3] for cut_out in subject.further])
        if subject.has_face:
            return self.observe(photos).features
        return self._look_at(photos, JudgedFaces.none(len(photos), self.faces.recogniser.width)).features

    def _look_at(self, images: NDArray[np.uint8], judged: JudgedFaces) -> Observation:
        features = {"faces": judged.embeddings}
        if self.second:
            features["second"] = self.second.embed(images, judged)
        rows = np.flatnonzero(judged.found)
        people = [person_only(images[i], judged.boxes[i]) for i in rows]
        backgrounds = [background_only(images[i], judged.boxes[i]) for i in rows]
        every = np.arange(len(images))
        views: dict[str, View] = {
            "": (images, every),
            "_foreground": (people, rows),
            "_background": (backgrounds, rows),
        }
        if self.segmenter:
            masks = [self.segmenter.mask(image) for image in images]
            shown = np.flatnonzero([mask.any() for mask in masks])
            views["_object"] = [only(images[i], masks[i]) for i in shown], shown
        features |= _look(self.clip, "clip", views, len(images))
        if self.image:
            del views["_background"]
            features |= _look(self.image, "image", views, len(images))
        return Observation(judged, features)


def _look(
    network: ClipJudge | ImageBackbone,
    name: str,
    views: Mapping[str, View],
    count: int,
) -> dict[str, Vectors]:
    """Features (``count``, D) of all views in one run, all 0 where a view has no image."""
    found = network.image_features(np.stack([image for view, _ in views.values() for image in view])).cpu().numpy()
    features, first = {}, 0
    for suffix, (view, rows) in views.items():
        features[name + suffix] = np.zeros((count, found.shape[1]), np.float32)
        features[name + suffix][rows] = found[first : first + len(view)]
        first += len(view)
    return features


def make_galleries(
    subjects: Sequence[SubjectPhotos],
    seen: Mapping[str, Observation],
    further: Mapping[str, Mapping[str, Vectors]] = MappingProxyType({}),
) -> dict[str, Gallery]:
    """Galleries by subject, of what :meth:`Judges.observe_photos` gives of each (``seen``, by subject), and
    :meth:`Judges.observe_further` of subjects with several references (``further``)."""
    pose_reader = _pose_reader(subjects, seen)
    classes, means = _background_classes(subjects, seen)
    worn, colours = _clothes_classes(subjects, seen)
    backgrounds = np.stack([seen[subject.id].features["clip_background"][0] for subject in subjects])
    galleries = {}
    for i, subject in enumerate(subjects):
        judged, features = seen[subject.id].judged, seen[subject.id].features
        own = int(subject.backgrounds[0])
        galleries[subject.id] = Gallery(
            reference={name: rows[0] for name, rows in features.items()},
            held_out={name: rows[1:] for name, rows in features.items()},
            other_backgrounds=_mean_known(np.delete(backgrounds, i, axis=0)),
            background=classes.index(own) if own in classes and subject.has_face else UNKNOWN,
            background_text=subject.background_texts[0],
            background_means=means,
            pose=subject.poses[0],
            pose_reader=pose_reader,
            has_face=subject.has_face,
            boxes=np.where(judged.found[:, None], judged.boxes, np.float32(np.nan)),
            counts=judged.counts,
            clothes=_place(worn, subject.clothes, subject.has_face),
            clothes_text=subject.clothes_text,
            clothes_means=colours,
            further=further.get(subject.id, {}),
        )
    return acquainted(galleries)


def _place(classes: Sequence[int], of_photos: NDArray[np.int64] | None, has_face: bool) -> int:
    """Where the class of the reference stands among the known ones; ``UNKNOWN`` where it is none of them."""
    own = UNKNOWN if of_photos is None else int(of_photos[0])
    return classes.index(own) if own in classes and has_face else UNKNOWN


def _clothes_classes(
    subjects: Sequence[SubjectPhotos], seen: Mapping[str, Observation]
) -> tuple[list[int], NDArray[np.float32]]:
    """Ids of the known clothes that photos with a face show, and the mean colour (C, 3) of each."""
    colours: dict[int, list[NDArray[np.float32]]] = {}
    for subject in subjects:
        judged, kinds = seen[subject.id].judged, subject.clothes
        if kinds is None:
            continue
        for i in np.flatnonzero(judged.found & (kinds != UNKNOWN)):
            colour = clothes_colour(subject.photos[i], judged.boxes[i])
            if np.isfinite(colour).all():
                colours.setdefault(int(kinds[i]), []).append(colour)
    classes = sorted(colours)
    return classes, np.array([np.mean(colours[name], axis=0) for name in classes], np.float32).reshape(-1, 3)


def _mean_known(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of those of the vectors (N, D) that are not 0; 0 if none is."""
    return features.sum(axis=0) / max(1, int(np.any(features != 0, axis=1).sum()))


def _pose_reader(subjects: Sequence[SubjectPhotos], seen: Mapping[str, Observation]) -> NDArray[np.float64]:
    known = {subject.id: seen[subject.id].judged.found & np.isfinite(subject.poses).all(axis=1) for subject in subjects}
    return fit_pose_reader(
        np.concatenate([seen[subject.id].judged.landmarks[known[subject.id]] for subject in subjects]),
        np.concatenate([subject.poses[known[subject.id]] for subject in subjects]),
    )


def _background_classes(
    subjects: Sequence[SubjectPhotos], seen: Mapping[str, Observation]
) -> tuple[list[int], NDArray[np.float32]]:
    """Ids of the known backgrounds that photos with a face have, and the mean feature of each."""
    known = {subject.id: seen[subject.id].judged.found & (subject.backgrounds != UNKNOWN) for subject in subjects}
    ids = np.concatenate([subject.backgrounds[known[subject.id]] for subject in subjects])
    rows = np.concatenate([seen[subject.id].features["clip_background"][known[subject.id]] for subject in subjects])
    classes = sorted({int(i) for i in ids})
    means = [rows[ids == i].mean(axis=0) for i in classes]
    return classes, np.stack(means) if means else np.zeros((0, rows.shape[1]), np.float32)


@dataclass(frozen=True)
class JudgedImages:
    """B images of requests, and what they are judged against."""

    requests: Sequence[Request]
    images: NDArray[np.uint8]
    """(B, H, W, 3) RGB."""
    prompts: Sequence[str]
    """The prompts as a judge reads them: class nouns in place of the placeholders, single spaces."""
    nouns: Sequence[str]
    """Class noun of each request's own subject; of two subjects both."""
    galleries: Sequence[Gallery]
    """The real photos of each request's own subject."""
    seen: Observation
    judges: Judges
    beside: Sequence[Gallery | None]
    """The real photos of each request's second subject; ``None`` where there is none."""

    @classmethod
    def judge(
        cls,
        judges: Judges,
        images: NDArray[np.uint8],
        requests: Sequence[Request],
        galleries: Sequence[Gallery],
        class_nouns: Mapping[str, str],
        boxes: NDArray[np.float32] | None = None,
        beside: Sequence[Gallery | None] | None = None,
    ) -> "JudgedImages":
        """Look at images (B, H, W, 3) as :meth:`Judges.observe` does. ``class_nouns`` are by subject; without
        ``beside`` no request has a second subject."""
        return cls(
            requests=requests,
            images=images,
            prompts=[plain_prompt(request.prompt, request.subject, class_nouns) for request in requests],
            nouns=[_nouns(request, class_nouns) for request in requests],
            galleries=galleries,
            seen=judges.observe(images, boxes),
            judges=judges,
            beside=[None] * len(requests) if beside is None else beside,
        )

    @cached_property
    def _read_prompts(self) -> tuple[Tensor, list[int]]:
        features, cut = self.judges.clip.text_features(list(self.prompts))
        return features.cpu(), cut

    @property
    def prompt_features(self) -> Tensor:
        """Unit CLIP features (B, D) of the prompts."""
        return self._read_prompts[0]

    @property
    def tokens_cut(self) -> list[int]:
        """How many tokens of each prompt CLIP did not read."""
        return self._read_prompts[1]

    @cached_property
    def neutral_features(self) -> Tensor:
        """Unit CLIP features (B, D) of each subject's neutral prompt."""
        features, _ = self.judges.clip.text_features([NEUTRAL.format(noun=noun) for noun in self.nouns])
        return features.cpu()

    @property
    def has_face(self) -> Tensor:
        """Which images (B,) bool are of a subject with a face; an object has none."""
        return torch.tensor([gallery.has_face for gallery in self.galleries], dtype=torch.bool)

    @property
    def found(self) -> Tensor:
        """Which images (B,) bool show a face of a subject that has one."""
        return torch.from_numpy(self.seen.judged.found) & self.has_face

    def features(self, name: str) -> Tensor:
        """Unit vectors (B, D) by the name of a view (see :class:`Observation`)."""
        return torch.from_numpy(self.seen.features[name])

    def references(self, name: str) -> Tensor:
        """The same view of each subject's reference photo (B, D); of several that which the image is nearest to."""
        return torch.from_numpy(np.stack([self._nearest(i, name) for i in range(len(self.galleries))]))

    def _nearest(self, image: int, name: str) -> Vectors:
        gallery = self.galleries[image]
        if name not in gallery.further:
            return gallery.reference[name]
        every = np.concatenate([gallery.reference[name][None], gallery.further[name]])
        known = every[np.any(every != 0, axis=1)]
        return known[np.argmax(known @ self.seen.features[name][image])] if len(known) else every[0]

    def to_photos(self, name: str) -> Tensor:
        """Mean cosine (B,) of a view to the held-out photos' of the subject."""
        means = torch.from_numpy(np.stack([gallery.mean(name) for gallery in self.galleries]))
        return gallery_similarity(self.features(name), means)

    def to_reference(self, name: str) -> Tensor:
        """Cosine (B,) of a view to the reference photo's; NaN where that has none."""
        references = self.references(name)
        return where(references.any(dim=1), gallery_similarity(self.features(name), references))

    def held_out(self, name: str) -> Tensor:
        """The same view of the held-out photos (B, K, D); rows of zeros fill short galleries up and are no photos."""
        most = max(len(gallery.held_out[name]) for gallery in self.galleries)
        width = self.seen.features[name].shape[1]
        photos = np.zeros((len(self.galleries), most, width), np.float32)
        for row, gallery in zip(photos, self.galleries, strict=True):
            row[: len(gallery.held_out[name])] = gallery.held_out[name]
        return torch.from_numpy(photos)


def _nouns(request: Request, class_nouns: Mapping[str, str]) -> str:
    own = class_nouns[request.subject]
    return own if request.beside is None else f"{own} and a {class_nouns[request.beside]}"


def where(known: Tensor, values: Tensor) -> Tensor:
    """``values`` where ``known``, else NaN."""
    return torch.where(known, values, torch.nan)
