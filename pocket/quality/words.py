"""What the base model makes of a person who is described in words, beside what words can say at all.

Words leave much open: many people have the same. The bound is the renderer's own image of another person whom the same
words describe. No base model that is told these words can do better, but by chance.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from networks.backbone import Backbone
from networks.face_analysis import FacePack
from pocket.quality.faces import SHOTS, Row
from pocket.render.captions import CLASS_NOUN, description
from pocket.render.factors import Subject, draw_shot, draw_subject
from pocket.render.renderer import render

DESCRIBED_FLOORS = {"faces_b": 0.82, "faces_a": 0.75}
"""Share of the bound that the base model reaches, by the pack that judges."""
RECONSTRUCTION_FLOOR = 0.93
COMPLETE_FLOOR = 0.97
_TOGETHER = (("skin", "skin_word"), ("hair_colour", "hair_word"), ("eye_colour", "eye_word"))

Images = NDArray[np.uint8]
Generate = Callable[[Sequence[str]], Images]


def twin(subject: Subject, key: str, face: bool = True) -> Subject:
    """Another person whom the same words describe; without ``face`` the words are those of hair, skin, eyes and marks.

    What no word tells is drawn anew, and so is what a word leaves open.
    """
    told = description(subject, face)
    joined = {name for group in _TOGETHER for name in group}
    groups = [*_TOGETHER, *((field.name,) for field in fields(Subject) if field.name not in joined)]
    other = subject
    for group in groups:
        for i in count():
            drawn = draw_subject(f"twin/{key}/{i}")
            changed = replace(other, **{name: getattr(drawn, name) for name in group})
            if description(changed, face) == told:
                other = changed
                break
    return other


class Recovered:
    """Identity recovered by a pack over ``n`` unseen subjects: 0 is a stranger, 1 another photo of the same person."""

    def __init__(self, pack: FacePack, n: int) -> None:
        self.pack = pack
        self.people = [draw_subject(f"unseen/{i}") for i in range(n)]
        photos = np.concatenate([self.photos(self.people, shot) for shot in range(SHOTS)])
        self.known = pack.judge(photos).embeddings.reshape(SHOTS, n, -1)
        same = np.einsum("snd,tnd->nst", self.known, self.known)
        self.ceiling = float(same[:, ~np.eye(SHOTS, dtype=bool)].mean())
        self.floor = float(np.einsum("snd,tnd->", self.known, np.roll(self.known, 1, axis=1)) / (n * SHOTS**2))

    @staticmethod
    def photos(people: Sequence[Subject], shot: int) -> Images:
        """A photo of each person, without hat and glasses."""
        keys = (f"unseen/{i}/{i * SHOTS + shot}" for i in range(len(people)))
        shots = (draw_shot(key, style="photo", accessories=False) for key in keys)
        return np.stack([render(*both).image for both in zip(people, shots, strict=True)])

    def of(self, images: Images) -> float:
        """Of images (k n, H, W, 3), k of each subject one after the other. A face that is not found counts as 0."""
        embeddings = self.pack.judge(images).embeddings.reshape(len(self.people), -1, self.known.shape[-1])
        cosine = float(np.einsum("nkd,snd->", embeddings, self.known) / (embeddings.shape[1] * self.known[..., 0].size))
        return (cosine - self.floor) / (self.ceiling - self.floor)


def word_rows(backbone: Backbone, packs: Sequence[FacePack], generate: Generate, n: int = 25) -> Iterator[Row]:
    """How much of its bound the base model reaches by each pack, what a photo loses in the VAE, and how many faces of
    the base model are complete by the first pack. ``generate`` makes an image of each prompt."""
    people = [draw_subject(f"unseen/{i}") for i in range(n)]
    prompts = [f"a photo of a {CLASS_NOUN} {description(one)}" for one in people for _ in range(4)]
    images = generate(prompts)
    shots = range(4)
    through = [_through_vae(backbone, Recovered.photos(people, shot)) for shot in shots]
    for pack in packs:
        recovered, name = Recovered(pack, n), pack.source.name
        bound, look = (
            recovered.of(
                _by_subject(
                    [Recovered.photos([twin(p, f"{i}/{s}", face) for i, p in enumerate(people)], s) for s in shots]
                )
            )
            for face in (True, False)
        )
        share, floor = recovered.of(images) / bound, DESCRIBED_FLOORS[name]
        about = f"{name}: described, share of what words can say ({bound:.3f}; of hair, skin and eyes {look:.3f})"
        yield about, share, floor, share >= floor
        value = recovered.of(_by_subject(through))
        yield f"{name}: reconstruction, identity recovered", value, RECONSTRUCTION_FLOOR, value >= RECONSTRUCTION_FLOOR
    share = float(packs[0].judge(images).complete.mean())
    about = f"{packs[0].source.name}: eyes, nose and mouth readable in images of the base model"
    yield about, share, COMPLETE_FLOOR, share >= COMPLETE_FLOOR


def _through_vae(backbone: Backbone, images: Images) -> Images:
    return backbone.decode(backbone.posterior_mean(backbone.encode_moments(images))).numpy()


def _by_subject(shots: Sequence[Images]) -> Images:
    """Images of the same n subjects in each of k shots as (n k, H, W, 3), those of a subject one after the other."""
    return np.stack(shots, axis=1).reshape(-1, *shots[0].shape[1:])
