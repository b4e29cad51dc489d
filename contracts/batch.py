"""What flows from data to methods. Every tensor of a batch lies on one device; B is the batch size."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from contracts.text import Text


@dataclass(frozen=True)
class _Movable:
    """Moves every field of tensors; tuples of strings and ``None`` stay as they are.

    Lightning moves any batch that has ``to(device)``, torch's loader pins any that has ``pin_memory()``.
    """

    def to(self, device: torch.device | str) -> Self:
        return self._each(lambda value: value.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """In memory from which a GPU copies without anybody waiting for it."""
        return self._each(lambda value: value.pin_memory())

    def _each(self, move: Callable[[Any], Any]) -> Self:
        moved: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Tensor | Text):
                moved[entry.name] = move(value)
            elif isinstance(value, dict):
                moved[entry.name] = {k: move(v) for k, v in value.items()}
        return replace(self, **moved)


@dataclass(frozen=True)
class PairBatch(_Movable):
    """Cross-view training pairs: generate ``target`` of a subject, given a ``reference`` of the same subject.

    Target and reference differ in pose and in background, as far as these are known.
    """

    sample_ids: tuple[str, ...]
    """One name per pair, unique within an epoch, the same for every process count."""
    moments: Tensor
    """(B, 2C, h, w): mean and log-variance of the target's VAE posterior, unscaled."""
    latent_noise: Tensor
    """(B, C, h, w) standard normal: draws the latent from the posterior."""
    noise: Tensor
    """(B, C, h, w) standard normal: the diffusion noise."""
    timestep: Tensor
    """(B,) int64 in 0..999."""
    text_states: Text
    """What the frozen text encoders make of the target's caption, or of the empty text where dropped, and the target's
    sizes where the base model reads them."""
    drop_identity: Tensor
    """(B,) bool: train this sample without identity (for guidance)."""
    reference: dict[str, Tensor]
    """Frozen features of the reference by encoder name; ``clip`` is the pooled CLIP image feature (B, D), ``wplus`` the
    W+ code (B, rows, width) of the aligned face without background."""
    second_view: dict[str, Tensor]
    """The same features of another view of the subject (the target itself)."""
    mask: Tensor
    """(B, 1, h, w) in 0..1: the person in the target, at latent resolution."""
    face: Tensor | None = None
    """(B, 1, h, w) in 0..1, soft: the head in the target; ``None`` where no feature of faces was asked for."""
    other: dict[str, Tensor] = field(default_factory=dict)
    """The features of a photo of another person than the reference's; empty where no feature of faces was asked for."""
    chance: Tensor | None = None
    """(B, 2) uniform in 0..1: for what a method decides by chance."""


@dataclass(frozen=True)
class FaceBatch(_Movable):
    """Aligned faces and their own W+ codes: generate the face that the code is of. Fields as in :class:`PairBatch`."""

    sample_ids: tuple[str, ...]
    moments: Tensor
    """(B, 2C, h, w): posterior of the aligned face crop, unscaled."""
    latent_noise: Tensor
    noise: Tensor
    timestep: Tensor
    text_states: Text
    """Of a sentence that says no more than that there is a face, or of the empty text."""
    drop_identity: Tensor
    reference: dict[str, Tensor]
    """``wplus``: codes (B, rows, width) of the same crops, background included."""


@dataclass(frozen=True)
class FactorBatch(_Movable):
    """A grouped batch for the experts: every label occurs at least twice, with different subjects.

    Every process gets the whole global batch, so a contrastive loss over it needs no gathering.
    """

    sample_ids: tuple[str, ...]
    features: dict[str, Tensor]
    """Frozen features by encoder name, ``clip`` is (B, D)."""
    pose: Tensor
    """(B,) int64: index of the pose."""
    background: Tensor
    """(B,) int64: index of the background."""
    subject: Tensor
    """(B,) int64: index of the subject."""


@dataclass(frozen=True)
class SubjectBatch(_Movable):
    """One optimisation step of several subjects, each from a reference photo of its own: a row per subject.

    The subjects of a group are optimised together from step 0 to the last one. Under several processes each has a share
    of the group, which may be empty. Everything random in a row is keyed by its subject, so the other rows do not
    matter.
    """

    group: tuple[str, ...]
    """All subjects of the group, over all processes."""
    step: int
    """Step of the group, from 0."""
    subjects: tuple[str, ...]
    """The subject of each of the B rows of this process."""
    prompts: tuple[str, ...]
    """What each photo shows, with the placeholder for its subject."""
    moments: Tensor
    """(B, 2C, h, w): mean and log-variance of the photo's VAE posterior, unscaled."""
    latent_noise: Tensor
    """(B, C, h, w) standard normal: draws the latent from the posterior."""
    noise: Tensor
    """(B, C, h, w) standard normal: the diffusion noise."""
    timestep: Tensor
    """(B,) int64 in 0..999."""
    sizes: Tensor | None = None
    """(B, 6): the photos' sizes, see :class:`contracts.text.Text`; ``None`` where the base model reads none."""

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """One name per row, unique within a run."""
        return tuple(f"{subject}@{self.step}" for subject in self.subjects)


@dataclass(frozen=True)
class RequestBatch(_Movable):
    """Images to generate. Noise was drawn on the CPU from the request's key and from nothing else."""

    request_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    prompts: tuple[str, ...]
    """Prompts with the placeholder still in them."""
    noise: Tensor
    """(B, C, h, w) standard normal: the sampler's start."""
    text_states: Text
    """Of the prompt with the placeholder replaced by the class noun."""
    reference: dict[str, Tensor]
    """Frozen features of the subject's reference photo by encoder name; empty for the floor."""
    further: dict[str, Tensor] = field(default_factory=dict)
    """(B, R - 1, ...): the same of its further references, where there are R of them; empty where there is one."""
    beside: dict[str, Tensor] = field(default_factory=dict)
    """``reference`` of the second subject of each image; empty where images show one."""
    beside_further: dict[str, Tensor] = field(default_factory=dict)
    """``further`` of the second subject."""

    def by_subject(self) -> "list[RequestBatch]":
        """The same requests with the references of their own subject, and, of images of two, with those of the second
        one."""
        own = replace(self, beside={}, beside_further={})
        return [own, replace(own, reference=self.beside, further=self.beside_further)] if self.beside else [own]

    def by_reference(self) -> "list[RequestBatch]":
        """R batches of the same requests, each with one of the references."""
        count = 1 + max((value.shape[1] for value in self.further.values()), default=0)
        others = [{name: value[:, i] for name, value in self.further.items()} for i in range(count - 1)]
        return [replace(self, reference=one, further={}) for one in (self.reference, *others)]
