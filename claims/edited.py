"""Images of test subjects under edits of the W+ code, and under other strengths and delays of identity."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from claims.measurements import PoseReader, Values, identities, subject_means
from lightning_modules.pidiff import PIDiff
from metrics.functional.edit_change import HEAD, edit_change
from metrics.regions import person_region
from tools.edit_faces.editor import Editor, Person
from tools.edit_faces.edits import generate_codes

PROMPT = "a photo of a <subject>, in a garden"
REWORDED = "a photo of a <subject>, in a red shirt, in a garden"
"""What :data:`PROMPT` says, and a word about the clothes."""
Edit = Callable[[Tensor, Tensor], Tensor]
"""(own code, next subject's code), each (rows, width), to the code that the image is generated from."""


@dataclass(frozen=True)
class EditMeasurements:
    """Means over each subject's samples, (S,), or (K, S) of K trainings; NaN where none of them can be measured.

    A change is measured against the image that a sample is compared with, in 0..1.

    Attributes:
        identity: Cosine to the subject's other photos. An image without a face counts as 0.
        inside: Change of the head.
        outside: Change of the rest of the image.
        colour: Change of the head's mean colour.
        turn: Degrees by which the head turned.
    """

    identity: Values
    inside: Values
    outside: Values
    colour: Values
    turn: Values

    def mean(self, name: str) -> float:
        """The mean over the subjects that have a value; NaN if none has."""
        known = getattr(self, name)[np.isfinite(getattr(self, name))]
        return float(known.mean()) if len(known) else float("nan")


def stacked(trainings: Sequence[Mapping[str, EditMeasurements]]) -> dict[str, EditMeasurements]:
    """The same rows of K trainings, with values (S,) each, as rows of values (K, S)."""
    names = EditMeasurements.__dataclass_fields__
    return {
        row: EditMeasurements(**{name: np.stack([getattr(one[row], name) for one in trainings]) for name in names})
        for row in trainings[0]
    }


class EditSampler:
    """Generates and measures edits of test subjects. The noise is the same for everything that is compared."""

    def __init__(self, editor: Editor, people: Sequence[Person], samples: int, poses: PoseReader) -> None:
        self.editor = editor
        self.people = list(people)
        self.samples = samples
        self.poses = poses
        self.codes = [editor.code(person) for person in people]

    def generate(self, run: PIDiff, edit: Edit, prompt: str = PROMPT) -> NDArray[np.uint8]:
        """Images (S * samples, H, W, 3), subject by subject."""
        images = []
        for i, person in enumerate(self.people):
            code = edit(self.codes[i], self.codes[(i + 1) % len(self.codes)])[None]
            keys = [("claim", person.id, sample) for sample in range(self.samples)]
            images += [generate_codes(run, code, prompt, person.noun, key) for key in keys]
        return np.concatenate(images)

    def measure(self, images: NDArray[np.uint8], base: NDArray[np.uint8], whose: int = 0) -> EditMeasurements:
        """Measure ``images`` against ``base``; identity is that of the person ``whose`` places further on."""
        before = self.editor.faces.judge(base)
        after = self.editor.faces.judge(images)
        people = [self.people[(i + whose) % len(self.people)] for i in range(len(self.people))]
        galleries = [torch.from_numpy(person.gallery) for person in people for _ in range(self.samples)]
        found = {name: np.full(len(images), np.nan) for name in EditMeasurements.__dataclass_fields__}
        found["identity"] = identities(after, galleries)
        for i in np.flatnonzero(before.found):
            found["inside"][i], found["outside"][i] = edit_change(base[i], images[i], before.boxes[i])
            found["colour"][i] = _colour_change(base[i], images[i], before.boxes[i])
        both = before.found & after.found
        if both.any():
            found["turn"][both] = self.poses.turn(before.landmarks[both], after.landmarks[both])
        return EditMeasurements(**{name: subject_means(values, self.samples) for name, values in found.items()})


def _colour_change(before: NDArray[np.uint8], after: NDArray[np.uint8], box: NDArray[np.floating]) -> float:
    head = person_region(box, before.shape[0], before.shape[1], HEAD)
    return float(np.abs(before[head].mean(axis=0) - after[head].mean(axis=0)).mean() / 255)


@contextmanager
def settings(run: PIDiff, scale: float = 1.0, delay: float = 0.0) -> Iterator[None]:
    """Another strength or delay of identity inside the block."""
    scale_before = run.scale
    delay_before = run.delay
    run.scale = scale
    run.delay = delay
    try:
        yield
    finally:
        run.scale = scale_before
        run.delay = delay_before


def unchanged(own: Tensor, other: Tensor) -> Tensor:
    """No edit."""
    return own


def of_rows(first: int, last: int, norm_of: tuple[int, int] | None = None) -> Edit:
    """Take these rows of the other person; with ``norm_of`` the step is as long as taking those rows would be."""

    def edit(own: Tensor, other: Tensor) -> Tensor:
        step = other - own
        reach = 1.0
        if norm_of is not None:
            reach = float(step[norm_of[0] : norm_of[1]].norm() / step[first:last].norm().clamp(min=1e-12))
        changed = own.clone()
        changed[first:last] += reach * step[first:last]
        return changed

    return edit
