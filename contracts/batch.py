"""What flows from data to methods. Every tensor of a batch lies on one device; B is the batch size."""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Movable:
    """Moves every tensor field; tuples of strings and ``None`` stay as they are.

    Lightning moves any batch that has ``to(device)``.
    """

    def to(self, device: torch.device | str) -> Self:
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                moved[field.name] = value.to(device, non_blocking=True)
            elif isinstance(value, dict):
                moved[field.name] = {k: v.to(device, non_blocking=True) for k, v in value.items()}
        return replace(self, **moved)


@dataclass(frozen=True)
class PairBatch(_Movable):
    """Cross-view training pairs: draw ``target`` of a subject, given a ``reference`` of the same subject.

    Target and reference differ in pose and in background.
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
    text_states: Tensor
    """(B, L, D): the frozen text encoder's states of the target's caption, or of the empty text where dropped."""
    drop_identity: Tensor
    """(B,) bool: train this sample without identity (for guidance)."""
    reference: dict[str, Tensor]
    """Frozen features of the reference by encoder name; ``clip`` is the pooled CLIP image feature (B, D)."""
    second_view: dict[str, Tensor]
    """The same features of another view of the subject (the target itself)."""
    mask: Tensor
    """(B, 1, h, w) in 0..1: the person in the target, at latent resolution."""


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
class RequestBatch(_Movable):
    """Images to draw. Noise was drawn on the CPU from the request's key and from nothing else."""

    request_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    prompts: tuple[str, ...]
    """Prompts with the placeholder still in them."""
    noise: Tensor
    """(B, C, h, w) standard normal: the sampler's start."""
    text_states: Tensor
    """(B, L, D): states of the prompt with the placeholder replaced by the class noun."""
    reference: dict[str, Tensor]
    """Frozen features of the subject's reference photo by encoder name; empty for the floor."""
